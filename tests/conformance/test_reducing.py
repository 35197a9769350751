"""Reducing: every step gives a valid case that is smaller, and the order of steps does not depend on chance."""

import numpy as np
import pytest

from gradconform.case import Batch, Case
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.reducing import Shown, reduced, size_of
from gradconform.conformance.remaking import PATTERNS, made_anew, remade
from gradconform.conformance.simple_numbers import complexity, simpler_numbers
from gradconform.notation import parse

DEEP = "5 -> Dense(4) -> Tanh -> Dense(3, bias=False) -> ReLU -> Dense(3), "


def case_of(loss, rows=5, regime="ordinary", **more):
    return Example(parse(DEEP + loss), rows, (draw := Draw(regime, 3),), **more).case(draw, "float64")


CASES = [
    case_of("MeanSquaredError"),
    case_of("Huber(reduction=none, delta=0.5)", layout="F"),
    case_of("SigmoidCrossEntropy(reduction=sum)", layout="strided"),
    case_of("SoftmaxCrossEntropy(ignore_index=0, label_smoothing=0.1, reduction=none)", class_weights=True),
    case_of("SoftmaxCrossEntropy(ignore_index=-100)", layout="reversed", class_weights=True),
    case_of("SoftmaxCrossEntropy", labels="soft", regime="logit-gap-100"),
    case_of("SoftmaxCrossEntropy", labels="one-hot", rows=12, class_weights=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.network.loss))
@pytest.mark.parametrize("layer", [None, 0, 1, 4])
def test_where_everything_fails_the_smallest_of_all_cases_is_found(case, layer):
    looked = []

    def shows(smaller):
        looked.append(smaller)
        return Shown(smaller, None if layer is None else 0)

    found = reduced(Shown(case, layer), shows, lambda network: True).case
    assert (len(found.network.layers), found.batch.rows, found.network.inputs) == (1, 1, 1)
    assert str(found.network.loss) == str(parse("1 -> Dense(1), MeanSquaredError").loss)
    assert len(looked) < 12
    sizes = [size_of(case), *map(size_of, looked)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.network.loss))
def test_where_nothing_else_fails_the_case_stays(case):
    looked = []
    assert reduced(Shown(case, 1), looked.append, lambda network: True).case is case
    # each is smaller, of the same type, and asked for once
    assert all(size_of(smaller) < size_of(case) for smaller in looked)
    assert {smaller.dtype for smaller in looked} == {case.dtype}
    assert len(looked) > 50


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.network.loss))
def test_only_networks_that_may_be_are_looked_at(case):
    looked = []
    own = case.network
    reduced(Shown(case), looked.append, lambda network: network == own)
    assert {smaller.network for smaller in looked} == {own}


def test_the_order_is_always_the_same():
    def looks():
        looked = []
        reduced(Shown(CASES[3], 2), looked.append, lambda network: True)
        return [(str(case.network), case.batch.inputs.tolist()) for case in looked]

    assert looks() == looks()


def test_given_numbers_are_not_made_up():
    looked = []
    case = case_of("MeanSquaredError", rows=4)
    own = case.network
    reduced(Shown(case, 0, given=True), looked.append, lambda network: network == own)
    assert {smaller.batch.rows for smaller in looked} == {1, 2, 3, 4}
    for smaller in looked:
        if smaller.batch.rows < 4:
            assert {row.tobytes() for row in smaller.batch.inputs} <= {row.tobytes() for row in case.batch.inputs}


# Remaking


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.network.loss))
@pytest.mark.parametrize("pattern", range(PATTERNS))
def test_little_numbers_of_every_kind_make_a_case(case, pattern):
    for text in ("1 -> Dense(1), MeanSquaredError", "2 -> Dense(2), SoftmaxCrossEntropy", "2 -> Softmax, CrossEntropy"):
        (made,) = made_anew(case, parse(text), 2, pattern)
        assert (made.network, made.batch.rows, made.dtype) == (parse(text), 2, case.dtype)
        if made.network.loss.labels == "classes" and case.network.loss.labels == "classes":
            assert made.batch.labelled == case.batch.labelled
    assert list(made_anew(case, case.network, 2, pattern))


def test_the_numbers_of_layers_that_stay_stay():
    case = CASES[0]
    first, last = remade(case, parse("5 -> Dense(4) -> Dense(2), MeanSquaredError"), [0, 4])
    for made, units in ((first, slice(2)), (last, slice(1, 3))):
        assert np.array_equal(made.parameters["0.weight"], case.parameters["0.weight"])
        assert np.array_equal(made.parameters["1.weight"][:3], case.parameters["4.weight"][:, units])
        assert np.array_equal(made.batch.targets, case.batch.targets[:, units])
        assert np.array_equal(made.batch.inputs, case.batch.inputs)


def test_soft_labels_of_fewer_classes_still_add_up_to_1():
    for made in remade(CASES[5], parse(DEEP.replace("Dense(3), ", "Dense(2), ") + "SoftmaxCrossEntropy"), range(5)):
        assert made.batch.targets.sum(axis=1) == pytest.approx(np.ones(5))
        assert made.batch.targets.min() >= 0


def test_what_is_no_case_is_none():
    case = Case(
        parse("1 -> Dense(2), SoftmaxCrossEntropy(ignore_index=0)"),
        {"0.weight": np.ones((1, 2)), "0.bias": np.ones(2)},
        Batch(np.ones((2, 1)), np.array([0, 1])),
    )
    assert list(remade(case, parse("1 -> Dense(1), SoftmaxCrossEntropy(ignore_index=0)"), [0])) == []


# Numbers


@pytest.mark.parametrize(
    ("number", "cost"),
    [
        (0, 0),
        (3, 0),
        (-2, 0),
        (4, 1),
        (0.5, 1),
        (-1.5, 1),
        (20, 2),
        (1e-9, 2),
        (0.3, 2),
        (120, 3),
        (0.12, 3),
        (0.123, 4),
    ],
)
def test_the_complexity_of_a_number(number, cost):
    assert complexity(np.array(number, float)) == cost
    assert complexity(np.full(3, float(number))) == 3 * cost


def test_numbers_become_simpler_all_at_once_then_one_by_one():
    arrays = {"a": np.array([0.123, 2.0]), "b": np.array([7.3])}
    found = [(each["a"].tolist(), each["b"].tolist()) for each in simpler_numbers(arrays)]
    assert found[0] == ([1.0, 2.0], [3.0])
    assert ([0.123, 2.0], [7.0]) in found
    assert ([0.12, 2.0], [7.3]) in found
    assert all(a[1] in {2.0, 0.0} for a, _ in found)


def test_numbers_of_large_arrays_are_not_tried_one_by_one():
    assert len(list(simpler_numbers({"a": np.full((50, 50), 0.123)}))) == 12
