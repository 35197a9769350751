"""Every mistake that is known: what is said of it, and that it changes something where it is made."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gradconform.conformance import advice, patterns
from gradconform.conformance.diagnosis import said
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.fresh import evidence_of, networks_like
from gradconform.conformance.implementations import reference
from gradconform.conformance.looks import quantities
from gradconform.conformance.memory import MEMORIES
from gradconform.conformance.mistake import plain, scoped
from gradconform.conformance.mistakes_fitted import fitted
from gradconform.conformance.mistakes_scale import CONSTANTS, PER_ROW
from gradconform.conformance.situation import Situation
from gradconform.conformance.theories import Theory, table
from gradconform.layers import ELU, GELU, Dense, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network
from gradconform.reference.backpropagation import gradients
from gradconform.templates import parse_template

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"
TABLE = table()
IDENTIFIER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST = 170

ACTIVATIONS = (
    Sigmoid(),
    Tanh(),
    ReLU(),
    LeakyReLU(0.2),
    ELU(2.0),
    Softplus(),
    SiLU(),
    GELU(),
    GELU("tanh"),
    ELU(),
    LeakyReLU(0.1),
)
LOSSES = (
    SoftmaxCrossEntropy(),
    MeanSquaredError(),
    SoftmaxCrossEntropy("sum"),
    SoftmaxCrossEntropy("none"),
    SoftmaxCrossEntropy(ignore_index=0),
    SoftmaxCrossEntropy(label_smoothing=0.2),
    SoftmaxCrossEntropy(label_smoothing=0.2, ignore_index=0),
    SoftmaxCrossEntropy(scale=2.0),
    MeanSquaredError("sum"),
    MeanSquaredError(scale=0.5),
    Huber(delta=0.5),
    SigmoidCrossEntropy(),
)
PROBABILITIES = ((CrossEntropy(), Softmax()), (BinaryCrossEntropy(), Sigmoid()))
REGIMES = ("ordinary", "large", "logit-gap-100", "zero-rows", "tiny", "extreme-logits", "rows-far-apart", "saturated")


def dense(count, *between, loss, last=()):
    """Return a network of square layers, in which everything fits."""
    layers = [layer for activation in between for layer in (Dense(3), activation)]
    return Network(inputs=3, layers=(*layers, *[Dense(3)] * (count - len(between)), *last), loss=loss)


@cache
def structures():
    """Return networks, with class weights and kinds of labels, in which each mistake may be made."""
    found = [Example(dense(2, Tanh(), loss=loss), 5, ()) for loss in LOSSES]
    found += [Example(dense(2, activation, loss=MeanSquaredError()), 7, ()) for activation in ACTIVATIONS]
    found += [Example(dense(2, Tanh(), loss=loss, last=(last,)), 5, ()) for loss, last in PROBABILITIES]
    found += [
        Example(dense(2, Softmax(), loss=MeanSquaredError()), 5, ()),
        Example(dense(1, SiLU(), loss=MeanSquaredError()), 5, ()),
        Example(dense(2, Tanh(), loss=SoftmaxCrossEntropy()), 1, ()),
        Example(dense(2, Tanh(), loss=SoftmaxCrossEntropy()), 7, (), "soft"),
        Example(dense(2, Tanh(), loss=SoftmaxCrossEntropy()), 3, ()),
        Example(dense(2, Tanh(), loss=SoftmaxCrossEntropy()), 5, (), class_weights=True),
    ]
    return found


@cache
def computed(number, regime):
    """Return a case of one structure, and what is right there."""
    case = structures()[number].case(Draw(regime, 5), "float64")
    return case, quantities(plain([], case, fuse=False))


def changes(mistake):
    """Return whether there is a case in which a mistake gives another result than what is right."""
    for regime in REGIMES:
        for number, example in enumerate(structures()):
            if mistake.concerns(example.network):
                case, right = computed(number, regime)
                if differs(quantities(plain([mistake], case, fuse=False)), right):
                    return True
    return False


def differs(found, right):
    """Return whether results are further from what is right than sums in another order would carry them.

    What a layer gives is told in every element, all else beside the largest element of its array.
    """
    with np.errstate(all="ignore"):
        return any(
            not np.allclose(
                found[name],
                array,
                rtol=1e-12 if name[0] == "outputs" else 0,
                atol=0 if name[0] == "outputs" else 1e-10 * np.abs(array).max(initial=0),
                equal_nan=True,
            )
            for name, array in right.items()
            if np.isfinite(array).all()
        )


def unlike(mistakes):
    """Return the mistakes, of those whose sentences are the same the first alone."""
    return list({mistake.likely: mistake for mistake in reversed(mistakes)}.values())[::-1]


def test_there_are_more_than_a_hundred_with_names():
    assert len({mistake.id for mistake in TABLE}) > 100


@pytest.mark.parametrize("what", ["likely", "mend"])
def test_what_is_said_of_a_mistake_is_one_short_line(what):
    for mistake in TABLE:
        text = getattr(mistake, what)
        assert text or what == "mend", mistake.id
        assert "\n" not in text, text
        assert text == " ".join(text.split()), text
        assert not text.endswith(".") or text.endswith("..."), text
        assert len(text) <= LONGEST, text


def test_names_are_words_of_lower_case_letters():
    assert all(IDENTIFIER.fullmatch(mistake.id) for mistake in TABLE)
    assert all(IDENTIFIER.fullmatch(less) for mistake in TABLE for less in mistake.implies)
    assert {less for mistake in TABLE for less in mistake.implies} <= {mistake.id for mistake in TABLE}


def test_mistakes_are_about_layers_or_losses():
    for mistake in TABLE:
        assert all(issubclass(kind, Record | LossRecord) for kind in mistake.kinds)
        assert len({issubclass(kind, LossRecord) for kind in mistake.kinds}) <= 1 or mistake.arithmetic is not None
        assert mistake.claims >= 1


def test_no_two_claim_the_same_in_the_same_words():
    claimed = [(mistake.id, mistake.likely, mistake.mend, mistake.kinds, mistake.claims) for mistake in TABLE]
    assert len(set(claimed)) == len(claimed)


@pytest.mark.parametrize("text", ["3 -> Dense(3) -> Tanh -> Dense(3) -> ReLU -> Dense(3), SoftmaxCrossEntropy"])
def test_no_sentence_has_a_gap_where_the_place_belongs(text):
    case = Example(parse_template(text).network, 3, ()).case(Draw("ordinary", 1), "float64")
    evidence = evidence_of(reference(), Situation(case))
    for mistake in TABLE:
        for narrow in (mistake, *scoped(mistake, case.network)):
            sentence = said(Theory((narrow,)), evidence)
            assert "{" not in sentence, sentence


def test_a_sentence_says_where():
    case = Example(structures()[0].network, 3, ()).case(Draw("ordinary", 1), "float64")
    evidence = evidence_of(reference(), Situation(case))
    missing = next(mistake for mistake in TABLE if mistake.id == "derivative-missing")
    assert said(Theory((missing,)), evidence).startswith("sigma'(z) is left out in the backward pass of Tanh: ")
    (deep,) = networks_like(case.network, ((4, 6, 3),))
    last = next(narrow for narrow in scoped(missing, deep) if "last" in narrow.scope)
    text = said(Theory((last,)), evidence)
    assert text.startswith("sigma'(z) is left out in the backward pass of the last activation: ")
    two = said(Theory((missing, next(mistake for mistake in TABLE if mistake.id == "transposed"))), evidence)
    assert two.startswith("two mistakes at once: (1) sigma'(z) is left out")
    assert "; and (2) the gradient of a weight is transposed" in two


@pytest.mark.parametrize("mistake", unlike(TABLE), ids=lambda mistake: mistake.id)
def test_a_mistake_changes_something_somewhere(mistake):
    # the shorter type in which all is computed changes nothing in the reference: what it gives are such numbers
    assert mistake.short is not None or changes(mistake)


def test_correct_numbers_are_no_mistake():
    case, _ = computed(0, "ordinary")
    right = dict(gradients(case.network, case.parameters, case.batch).parameters)
    assert list(fitted(case, {}, {})) == []
    assert list(fitted(case, right, {})) == []
    assert list(fitted(case, right, {path: array[..., :1] for path, array in right.items()})) == []
    assert {mistake.id for mistake in fitted(case, right, right)} <= {"clipped"}


@pytest.mark.parametrize(
    ("change", "identifier", "number"),
    [
        (lambda w, g: g + 0.003 * w, "l2-added", "0.003"),
        (lambda w, g: g - 0.02 * np.sign(w), "l1-added", "-0.02"),
        (lambda w, g: np.clip(g, -0.05, 0.05), "clipped", "[-0.05, 0.05]"),
        (lambda w, g: 1.7 * g, "constant-factor", "1.7 times"),
    ],
)
def test_numbers_are_read_off_what_was_computed(change, identifier, number):
    case, _ = computed(0, "ordinary")
    right = dict(gradients(case.network, case.parameters, case.batch).parameters)
    given = {path: change(case.parameters[path], array) for path, array in right.items()}
    told = [mistake for mistake in fitted(case, right, given) if mistake.id == identifier]
    assert told[0].likely.count(number) == 1
    predicted = plain([told[0]], case, fuse=False).parameters
    assert all(np.allclose(predicted[path], array, rtol=1e-9, atol=1e-15) for path, array in given.items())


def test_constants_have_values_that_are_told_apart():
    case, _ = computed(0, "ordinary")
    wide = Example(parse_template("3 -> Dense(4), SoftmaxCrossEntropy").network, 5, ()).case(
        Draw("ordinary", 1), "float64"
    )
    values = {constant.text: constant.value(wide) for constant in CONSTANTS}
    assert len(set(values.values())) == len(values)
    assert (values["batch"], values["1/outputs"], values["batch x outputs"]) == (5, 1 / 4, 20)
    assert PER_ROW.value(case) == 1


def test_the_page_has_a_row_for_every_name():
    text = PAGE.read_text("utf-8").partition("## All symptoms")[2]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.M)) == names()


def names():
    """Return all names of a diagnosis."""
    case, _ = computed(0, "ordinary")
    right = dict(gradients(case.network, case.parameters, case.batch).parameters)
    found = {mistake.id for mistake in (*TABLE, *MEMORIES)}
    for given in (right, {path: 1.5 * array + 0.25 * np.ones_like(array) for path, array in right.items()}):
        found |= {mistake.id for mistake in fitted(case, right, given)}
    return found | _written(advice) | _written(patterns)


def _written(module):
    """Return the names that stand in the text of a module, each before its sentence and its line."""
    return {
        node.elts[0].value
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Tuple) and len(node.elts) > 2 and isinstance(node.elts[0], ast.Constant)
        if isinstance(node.elts[0].value, str) and IDENTIFIER.fullmatch(node.elts[0].value)
    }
