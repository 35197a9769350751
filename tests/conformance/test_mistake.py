"""A mistake is made in the reference as somebody would make it: its predictions against gradients written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradconform.conformance.compare import ratios
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.fresh import networks_like
from gradconform.conformance.looks import quantities
from gradconform.conformance.mistake import Mistake, bounded, plain, predict, scoped
from gradconform.conformance.theories import table
from gradconform.layers import Dense, Sigmoid, Tanh
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import gradients
from gradconform.reference.bounds import expected
from gradconform.reference.precision import precision
from gradconform.templates import parse_template

CLASSES = "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
VALUES = "4 -> Dense(6) -> Tanh -> Dense(3), MeanSquaredError"
SQUARE = "3 -> Dense(3) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
DEEP = "4 -> Dense(6) -> Tanh -> Dense(5) -> Sigmoid -> Dense(3), SoftmaxCrossEntropy"


def case_of(text, rows=5, seed=3, dtype="float64"):
    return Example(parse_template(text).network, rows, ()).case(Draw("ordinary", seed), dtype)


def named(identifier, number=0):
    return [mistake for mistake in table() if mistake.id == identifier][number]


def arrays_of(found):
    return {name: np.asarray(array) for name, array in quantities(found).items()}


def the_same(one, other):
    one, other = arrays_of(one), arrays_of(other)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# What is not changed.


@pytest.mark.parametrize("text", [CLASSES, VALUES, "2 -> Dense(2) -> Softmax, CrossEntropy"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whoever_makes_no_mistake_computes_the_reference(text, dtype):
    case = case_of(text, dtype=dtype)
    right = gradients(case.network, case.parameters, case.batch)
    assert the_same(predict([], case, Plain(case.dtype)), right)
    assert the_same(plain([], case, dtype, fuse=True), right)


def test_bounds_without_a_mistake_are_those_of_the_reference():
    case = case_of(CLASSES)
    found, kinks = bounded([], case, precision(case.dtype, "any"), fuse=False)
    right = expected(case.network, case.parameters, case.batch).gradients
    for name, bound in quantities(right).items():
        assert np.array_equal(quantities(found)[name].value, bound.value)
        assert np.array_equal(quantities(found)[name].error, bound.error)
    assert not kinks


def test_a_pre_activation_at_a_kink_is_told():
    case = case_of("2 -> Dense(2, bias=False) -> ReLU, MeanSquaredError")
    zeros = replace(case, batch=replace(case.batch, inputs=np.zeros_like(case.batch.inputs)))
    m = precision(case.dtype, "any")
    assert [bounded([], one, m, fuse=False)[1] for one in (case, zeros)] == [False, True]


NOTHING = Mistake(
    "nothing",
    "",
    given=lambda network, parameters, batch: None,
    forward=lambda layer, k, x, parameters: None,
    step=lambda s: None,
    end=lambda e: None,
    finish=lambda case, found, k: None,
)


def test_a_mistake_that_changes_nothing_is_none():
    case = case_of(DEEP)
    right = gradients(case.network, case.parameters, case.batch)
    assert the_same(plain([NOTHING], case, fuse=False), right)
    assert the_same(plain([NOTHING, NOTHING], case, fuse=False), right)


def test_what_is_handed_over_stays_as_it_is():
    case = case_of(SQUARE)
    before = {path: array.copy() for path, array in case.parameters.items()}, case.batch.inputs.copy()
    for mistake in table():
        if mistake.concerns(case.network):
            plain([mistake], case, fuse=False)
    assert all(np.array_equal(before[0][path], array) for path, array in case.parameters.items())
    assert np.array_equal(before[1], case.batch.inputs)


# Gradients written by hand, with one thing wrong.


def by_hand(case, *, label=1.0, shift=0, divisor=None, twice=False, slope=True, mean_bias=False, turned=False):
    """Return the gradients of CLASSES or SQUARE as somebody would write them, with mistakes."""
    w0, b0, w2, b2 = (case.parameters[path] for path in ("0.weight", "0.bias", "2.weight", "2.bias"))
    x, rows = case.batch.inputs, len(case.batch.inputs)
    a = np.tanh(x @ w0 + b0)
    e = np.exp(a @ w2 + b2)
    p = e / e.sum(axis=1, keepdims=True)
    y = np.zeros_like(p)
    y[np.arange(rows), (case.batch.targets + shift) % p.shape[1]] = 1
    delta2 = (p - label * y) / (divisor or rows)
    if twice:
        delta2 = p * (delta2 - (p * delta2).sum(axis=1, keepdims=True))
    delta0 = delta2 @ w2.T * ((1 - a**2) if slope else 1)
    add = np.mean if mean_bias else np.sum
    dw0, dw2 = x.T @ delta0, a.T @ delta2
    return {
        "0.weight": dw0.T if turned else dw0,
        "0.bias": add(delta0, axis=0),
        "2.weight": dw2.T if turned else dw2,
        "2.bias": add(delta2, axis=0),
    }


BY_HAND = {
    "no-mean": {"divisor": 1},
    "mean-twice": {"divisor": 25},
    "mean-over-elements": {"divisor": 15},
    "one-hot-missing": {"label": 0},
    "label-shift": {"shift": 1},
    "softmax-twice": {"twice": True},
    "derivative-missing": {"slope": False},
    "transposed": {"turned": True},
    "bias-mean": {"mean_bias": True},
    "minus-lost": {"divisor": -5},
}


def test_gradients_by_hand_are_right_without_a_mistake():
    case = case_of(SQUARE)
    right = gradients(case.network, case.parameters, case.batch).parameters
    assert all(np.allclose(array, right[path], rtol=1e-12, atol=0) for path, array in by_hand(case).items())


@pytest.mark.parametrize("name", BY_HAND)
def test_a_mistake_gives_what_somebody_writes_who_makes_it(name):
    case = case_of(SQUARE)
    written = by_hand(case, **BY_HAND[name])
    predicted = plain([named(name)], case, fuse=False).parameters
    assert predicted.keys() == written.keys()
    for path, array in written.items():
        assert np.allclose(predicted[path], array, rtol=1e-12, atol=0), path


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_its_bound_covers_a_computation_by_hand(name, dtype):
    case = case_of(SQUARE, dtype=dtype)
    written = by_hand(case, **BY_HAND[name])
    assert {array.dtype for array in written.values()} == {np.dtype(dtype)}
    found, _ = bounded([named(name)], case, precision(case.dtype, "any"), fuse=False)
    assert max(ratios(found.parameters[path], array).max() for path, array in written.items()) <= 1
    # and no other one: the same mistake in another number is far away
    off = max(ratios(found.parameters[path], array).max() for path, array in by_hand(case).items())
    assert off > 1e3


def test_two_mistakes_are_both_made():
    case = case_of(SQUARE)
    written = by_hand(case, slope=False, mean_bias=True)
    predicted = plain([named("derivative-missing"), named("bias-mean")], case, fuse=False).parameters
    assert all(np.allclose(predicted[path], array, rtol=1e-12, atol=0) for path, array in written.items())


# Which order mistakes are made in.


def finishing(change):
    return Mistake(
        "",
        "",
        finish=lambda case, found, k: replace(
            found, parameters={path: change(array) for path, array in found.parameters.items()}
        ),
    )


def test_later_mistakes_are_made_on_what_earlier_ones_give():
    case = case_of(VALUES)
    right = gradients(case.network, case.parameters, case.batch).parameters["0.weight"]
    add, double = finishing(lambda array: array + 1), finishing(lambda array: array * 2)
    first = plain([add, double], case, fuse=False).parameters["0.weight"]
    second = plain([double, add], case, fuse=False).parameters["0.weight"]
    assert np.array_equal(first, (right + 1) * 2)
    assert np.array_equal(second, right * 2 + 1)


def test_the_same_holds_for_steps_and_for_the_end():
    case = case_of(VALUES)
    double = Mistake("", "", end=lambda e: (e.cost, e.delta * 2))
    add = Mistake("", "", end=lambda e: (e.cost, e.delta + 1.0))
    right = gradients(case.network, case.parameters, case.batch).deltas[2]
    assert np.array_equal(plain([double, add], case, fuse=False).deltas[2], right * 2 + 1)
    assert np.array_equal(plain([add, double], case, fuse=False).deltas[2], (right + 1) * 2)
    more = Mistake("", "", step=lambda s: s.below(s.right[0] + 1.0), kinds=(Tanh,))
    twice = Mistake("", "", step=lambda s: s.below(s.right[0] * 2), kinds=(Tanh,))
    below = gradients(case.network, case.parameters, case.batch).deltas[0]
    assert np.array_equal(plain([more, twice], case, fuse=False).deltas[0], (below + 1) * 2)
    assert np.array_equal(plain([twice, more], case, fuse=False).deltas[0], below * 2 + 1)


def test_what_a_step_sees():
    seen = {}

    def step(s):
        seen[s.index] = s
        return

    case = case_of(DEEP)
    found = plain([Mistake("", "", step=step)], case, fuse=False)
    assert sorted(seen, reverse=True) == list(seen) == [4, 3, 2, 1, 0]
    assert seen[4].above is None
    assert seen[3].above is seen[4].delta
    assert all(np.array_equal(s.delta, found.deltas[index]) for index, s in seen.items())
    assert all(np.array_equal(s.output, found.outputs[index]) for index, s in seen.items())
    assert [len(seen[index].earlier) for index in range(5)] == [1, 2, 3, 4, 5]
    assert np.array_equal(seen[2].x, found.outputs[1])
    assert set(seen[2].parameters) == {"weight", "bias"}
    assert not seen[2].square
    assert seen[1].square


# Where a mistake is made.


def test_a_mistake_concerns_networks_that_have_what_it_is_about():
    network = case_of(DEEP).network
    assert Mistake("", "").concerns(network)
    assert Mistake("", "", kinds=(Tanh,)).concerns(network)
    assert Mistake("", "", kinds=(type(network.loss),)).concerns(network)
    assert not Mistake("", "", kinds=(type(case_of(VALUES).network.loss),)).concerns(network)
    assert Mistake("", "", kinds=(Dense,)).layers(network) == {0, 2, 4}
    assert Mistake("", "", kinds=(Tanh, Sigmoid)).layers(network) == {1, 3}


def scopes(mistake, network):
    return {narrow.scope: narrow.layers(network) for narrow in scoped(mistake, network)}


def test_a_mistake_is_made_in_some_layers_alone():
    network = case_of(DEEP).network

    def nothing(s):
        return None

    assert scopes(Mistake("", "", step=nothing, kinds=(Dense,)), network) == {
        " of the last layer": {4},
        " of the first layer": {0},
        " of all layers but the last": {0, 2},
        " of all layers but the first": {2, 4},
    }
    assert scopes(Mistake("", "", step=nothing, kinds=(Tanh, Sigmoid)), network) == {
        " of Tanh": {1},
        " of Sigmoid": {3},
        " of the last activation": {3},
        " of the first activation": {1},
        " of all activations but the last": {1},
        " of all activations but the first": {3},
    }
    assert scopes(Mistake("", "", step=nothing, kinds=(Tanh,)), network) == {}
    assert scopes(Mistake("", "", end=lambda e: None), network) == {}


def test_what_is_narrower_claims_more():
    network = case_of(DEEP).network
    for mistake in table():
        assert all(narrow.claims > mistake.claims for narrow in scoped(mistake, network))


def test_a_mistake_in_one_layer_leaves_the_others_right():
    (network,) = networks_like(case_of(DEEP).network, ((4, 6, 3),))
    case = Example(network, 5, ()).case(Draw("ordinary", 1), "float64")
    right = gradients(case.network, case.parameters, case.batch).parameters
    last = next(narrow for narrow in scoped(named("bias-scalar"), network) if narrow.scope == " of the last layer")
    found = plain([last], case, fuse=False).parameters
    wrong = {path for path in right if not np.array_equal(found[path], right[path])}
    assert wrong == {f"{len(network.layers) - 1}.bias"}
