"""What somebody did is found from what was computed: one mistake, several at once, and none where none explains it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gradconform.capabilities import EVERYTHING
from gradconform.case import Case
from gradconform.conformance.diagnosis import TRIED, concluded
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.fresh import cases_like, evidence_of, failing_first, filled_like, networks_like
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.mistake import plain
from gradconform.conformance.situation import Situation
from gradconform.conformance.theories import Answer, Search, Theory, asked, explained, table
from gradconform.errors import InvalidInput
from gradconform.reference.backpropagation import gradients
from gradconform.templates import parse_template

SOURCE = (Path(__file__).parents[2] / "examples" / "my_mlp.py").read_text("utf-8")
CLASSES = "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
FREE = "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"


def case_of(text, rows=5, dtype="float64", seed=3, regime="ordinary", **more):
    return Example(parse_template(text).network, rows, (), **more).case(Draw(regime, seed), dtype)


def evidence_for(function, case, bodies=None):
    """Return what a function gives in a case and in fresh ones, of other `bodies` too, most telling first."""
    implementation = Implementation("mine", function)
    others = list(filled_like(parse_template(FREE)) if bodies is None else bodies)
    cases = [case, *cases_like(case, EVERYTHING, None, others)]
    found = [evidence_of(implementation, Situation(one)) for one in cases]
    return failing_first([entry for entry in found if entry is not None])


def told(function, case, *, several=False, bodies=None):
    """Return the symptom of a function's single mistakes, or of several where they are looked for too."""
    evidence = evidence_for(function, case, bodies)
    search = Search(evidence, TRIED)
    found = concluded(search.single(), evidence)
    if several and not found.symptom:
        found = concluded(search.several(), evidence)
    return found.symptom


def written(*changes):
    """Return the function of an example with changes to its text."""
    text = SOURCE
    for was, becomes in changes:
        assert text.count(was) == 1, was
        text = text.replace(was, becomes)
    names = {}
    exec(text, names)
    return names["gradients"]


SMOOTH = "delta2[np.arange(len(x)), labels] -= 1"
BY_HAND = {
    # how costs become one
    "no-mean": [("    delta2 /= len(x)\n", "")],
    "mean-over-elements": [("delta2 /= len(x)", "delta2 /= delta2.size")],
    # the output delta and its labels
    "one-hot-missing": [(SMOOTH, "pass")],
    "label-shift": [("labels] -= 1", "labels - 1] -= 1")],
    "softmax-axis": [("p /= p.sum(axis=1, keepdims=True)", "p /= p.sum(axis=0, keepdims=True)")],
    "softmax-twice": [("delta2 /= len(x)", "delta2 = p * (delta2 - (p * delta2).sum(1, keepdims=True)) / len(x)")],
    # a loss' options
    "log-epsilon": [(SMOOTH, "q = p[np.arange(len(x)), labels]; "
                     "delta2 *= (q / (q + 1e-6))[:, None]; delta2[np.arange(len(x)), labels] -= q / (q + 1e-6)")],
    # products and sums
    "bias-first-row": [("delta0.sum(axis=0)", "delta0[0]")],
    "bias-unused": [("a @ w2 + b2", "a @ w2")],
    "transposed": [("x.T @ delta0", "delta0.T @ x if x.shape[1] == delta0.shape[1] else x.T @ delta0")],
    "updated-weights": [("(delta2 @ w2.T)", "(delta2 @ (w2 - 0.1 * a.T @ delta2).T)")],
    # the activation
    "other-derivative": [("(1 - a**2)", "(a * (1 - a))")],
    "one-minus-output": [("(1 - a**2)", "(1 - a)")],
    "derivative-twice": [("(1 - a**2)", "(1 - a**2) ** 2")],
    "activation-missing": [("np.tanh(x @ w0 + b0)", "x @ w0 + b0"), ("(1 - a**2) * ", "")],
    # what is returned
    "bias-mean": [("delta0.sum(axis=0)", "delta0.mean(axis=0)")],
    "weight-mean": [("x.T @ delta0", "x.T @ delta0 / len(x)"), ("a.T @ delta2", "a.T @ delta2 / len(x)")],
    "l2-added": [("x.T @ delta0", "x.T @ delta0 + 0.01 * w0"), ("a.T @ delta2", "a.T @ delta2 + 0.01 * w2")],
    "minus-lost": [("delta2 /= len(x)", "delta2 /= -len(x)")],
    "constant-factor": [("delta2 /= len(x)", "delta2 *= 0.7 / len(x)")],
    # numbers
    "unstable-softmax": [("np.exp(z - z.max(axis=1, keepdims=True))", "np.exp(z)")],
    "rounded-decimals": [("x.T @ delta0", "np.round(x.T @ delta0, 4)"), ("a.T @ delta2", "np.round(a.T @ delta2, 4)"),
                         ("delta0.sum(axis=0)", "np.round(delta0.sum(axis=0), 4)"),
                         ("delta2.sum(axis=0)", "np.round(delta2.sum(axis=0), 4)")],
    "lower-precision": [("x, labels = batch.inputs,", "x, labels = batch.inputs.astype(np.float32),")],
}  # fmt: skip
"""Changes to the text of the example, by the name of the mistake that they are."""


def test_the_example_is_right_and_nothing_is_wrong_with_it():
    evidence = evidence_for(written(), case_of(CLASSES))
    assert len(evidence) > 8
    assert not any(entry.fails for entry in evidence)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_mistake_in_a_text_is_named(name):
    regime = "extreme-logits" if name == "unstable-softmax" else "ordinary"
    with np.errstate(all="ignore"):
        assert told(written(*BY_HAND[name]), case_of(CLASSES, regime=regime)) == name


@pytest.mark.parametrize("name", ["label-shift", "derivative-twice", "bias-mean"])
def test_it_is_named_in_float32_too(name):
    assert told(written(*BY_HAND[name]), case_of(CLASSES, dtype="float32")) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("half-mse", "4 -> Dense(6) -> Tanh -> Dense(3), MeanSquaredError"),
        ("huber-abs", "4 -> Dense(6) -> Tanh -> Dense(3), Huber(delta=0.5)"),
        ("smoothing-ignored", "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy(label_smoothing=0.1)"),
        ("derivative-missing", "4 -> Dense(6) -> Sigmoid -> Dense(3), MeanSquaredError"),
        ("gelu-mixed", "4 -> Dense(6) -> GELU -> Dense(3), MeanSquaredError"),
        ("softmax-diagonal", "4 -> Dense(6) -> Softmax -> Dense(3), MeanSquaredError"),
        ("sum-divides", "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy(reduction=sum)"),
        ("mask-from-output", "4 -> Dense(6) -> LeakyReLU(slope=0.2) -> Dense(3), MeanSquaredError"),
        ("upstream-ignored", "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy(reduction=none)"),
    ],
)
def test_a_mistake_that_shows_its_deltas_is_named(name, text):
    fault = FAULTS[name]
    case = case_of(text)
    assert fault.is_called(told(fault.make(), case, bodies=networks_like(case.network)))


def test_what_is_shown_tells_a_step_from_the_next():
    # the deltas that are shown are taken as they are: the bias alone is wrong
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        bias = {path: array / batch.rows for path, array in found.parameters.items() if path.endswith("bias")}
        return replace(found, parameters={**found.parameters, **bias})

    case = case_of(CLASSES)
    evidence = evidence_for(compute, case, networks_like(case.network))
    assert all(entry.shown is not None for entry in evidence)
    assert [theory.symptom for theory in Search(evidence, TRIED).single()] == ["bias-mean"]


# Several at once.

SEVERAL = {
    ("bias-first-row", "no-mean"): ["bias-first-row", "no-mean"],
    ("label-shift", "one-minus-output"): ["label-shift", "one-minus-output"],
    ("bias-first-row", "one-hot-missing"): ["bias-first-row", "one-hot-missing"],
    ("bias-first-row", "derivative-twice", "label-shift"): ["bias-first-row", "derivative-twice", "label-shift"],
}


@pytest.mark.parametrize("names", SEVERAL, ids=" + ".join)
def test_several_mistakes_are_told_apart(names):
    function = written(*(change for name in SEVERAL[names] for change in BY_HAND[name]))
    assert told(function, case_of(CLASSES), several=True) == " + ".join(names)


def test_no_more_is_looked_at_than_asked():
    function = written(*BY_HAND["no-mean"], *BY_HAND["bias-first-row"])
    evidence = evidence_for(function, case_of(CLASSES))
    search = Search(evidence, 0)
    assert (search.single(), search.several()) == ([], [])


# Nothing explains what is no mistake that is known.


@pytest.mark.parametrize("name", [fault.id for fault in FAULTS.values() if fault.held_out][:3])
def test_a_mistake_that_nobody_knows_stays_unknown(name):
    fault = FAULTS[name]
    network = parse_template(fault.networks).network if fault.networks else None
    case = case_of(CLASSES)
    if network is not None:
        case = Example(network, 5, ()).case(Draw("ordinary", 3), "float64")
    evidence = evidence_for(fault.make(), case, networks_like(case.network))
    assert any(entry.fails for entry in evidence)
    assert Search(evidence, TRIED).single() == []


def noisy(network, parameters, batch):
    """Return gradients with an error of a percent that follows no rule, the same for the same numbers."""
    found = gradients(network, parameters, batch).parameters
    rng = np.random.default_rng(int.from_bytes(batch.inputs.tobytes()[:8], "little"))
    return {path: array * (1 + 0.01 * rng.normal(size=array.shape)) for path, array in found.items()}


def test_an_error_without_a_rule_is_not_explained_by_several_mistakes_either():
    evidence = evidence_for(noisy, case_of(CLASSES))[:6]
    search = Search(evidence, TRIED)
    assert (search.single(), search.several()) == ([], [])


def test_correct_code_explains_no_theory():
    # nothing is wrong in any case: a theory is at most consistent with that
    (theory,) = [Theory((mistake,)) for mistake in table() if mistake.id == "targets-centred"]
    for entry in evidence_for(written(), case_of(CLASSES)):
        assert asked(theory, entry) is Answer.CONSISTENT


# One case refutes a theory.


def named(identifier):
    return Theory((next(mistake for mistake in table() if mistake.id == identifier),))


def test_one_case_that_it_does_not_explain_refutes_a_theory():
    mean, first = written(*BY_HAND["bias-mean"]), written(*BY_HAND["bias-first-row"])

    def compute(network, parameters, batch):
        return (first if batch.rows == 2 else mean)(network, parameters, batch)

    def theory_for(entry):
        return next(
            theory
            for theory in Search([entry], TRIED).single()
            if theory.symptom == ("bias-first-row" if entry.case.batch.rows == 2 else "bias-mean")
        )

    evidence = evidence_for(compute, case_of(CLASSES))
    failing = [entry for entry in evidence if entry.fails]
    two = [entry for entry in failing if entry.case.batch.rows == 2]
    assert 0 < len(two) < len(failing)
    theory = theory_for(next(entry for entry in failing if entry.case.batch.rows != 2))
    assert {asked(theory, entry) for entry in failing if entry.case.batch.rows != 2} == {Answer.EXPLAINED}
    assert asked(theory, two[0]) is Answer.REFUTED
    assert Search(evidence, TRIED).single() == []


def test_a_case_that_is_right_refutes_a_theory_of_what_would_be_wrong_there():
    # wrong for five samples alone
    mean = written(*BY_HAND["no-mean"])

    def compute(network, parameters, batch):
        return (mean if batch.rows == 5 else written())(network, parameters, batch)

    evidence = evidence_for(compute, case_of(CLASSES))
    right = next(entry for entry in evidence if entry.case.batch.rows == 3)
    assert not right.fails
    assert asked(named("no-mean"), right) is Answer.REFUTED
    assert "no-mean" not in [theory.symptom for theory in Search(evidence, TRIED).single()]


def test_what_is_right_is_consistent_where_the_mistake_does_not_show():
    # one sample: a mean over the samples is a sum
    evidence = evidence_for(written(*BY_HAND["no-mean"]), case_of(CLASSES))
    one = next(entry for entry in evidence if entry.case.batch.rows == 1)
    assert not one.fails
    assert asked(named("no-mean"), one) is Answer.CONSISTENT


# A quick look never refuses what the bounds accept.

TEXTS = (
    "3 -> Dense(3) -> Tanh -> Dense(3), SoftmaxCrossEntropy",
    "3 -> Dense(3) -> Sigmoid -> Dense(3), MeanSquaredError",
    "3 -> Dense(3) -> LeakyReLU(slope=0.2) -> Dense(3), SoftmaxCrossEntropy(ignore_index=0, label_smoothing=0.1)",
    "3 -> Dense(3) -> ELU(alpha=2) -> Dense(3), SoftmaxCrossEntropy(reduction=none)",
    "3 -> Dense(3) -> GELU -> Dense(3) -> Softmax -> Dense(3), MeanSquaredError(reduction=sum)",
    "3 -> Dense(3) -> SiLU -> Dense(3), Huber(delta=0.5)",
    "3 -> Dense(3) -> Softplus -> Dense(3) -> Softmax, CrossEntropy",
    "3 -> Dense(3) -> ReLU -> Dense(3), SigmoidCrossEntropy",
)


@cache
def cases():
    return [case_of(text, seed=seed) for text in TEXTS for seed in (1, 2)]


ONE_EACH = list({mistake.id: mistake for mistake in reversed(table()) if mistake.short is None}.values())


@pytest.mark.parametrize("mistake", ONE_EACH, ids=lambda mistake: mistake.id)
def test_whoever_makes_a_mistake_is_explained_by_it(mistake):
    def compute(network, parameters, batch):
        case = Case(network, parameters, batch)
        return dict(plain([mistake], case, case.dtype, fuse=False).parameters)

    theory = Theory((mistake,))
    for case in cases():
        if mistake.concerns(case.network):
            try:
                entry = evidence_of(Implementation("mine", compute), Situation(case))
            except InvalidInput:
                continue
            if entry is not None and entry.fails:
                assert (explained(theory, entry) == 1).all()
                assert asked(theory, entry) is not Answer.REFUTED


def test_the_same_evidence_gives_the_same_theories():
    function = written(*BY_HAND["no-mean"], *BY_HAND["bias-first-row"])
    answers = []
    for _ in range(2):
        search = Search(evidence_for(function, case_of(CLASSES))[:5], TRIED)
        assert search.single() == []
        answers.append([(theory.symptom, theory.claims) for theory in search.several()])
    assert answers[0] == answers[1] != []
