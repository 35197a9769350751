"""Bounds of whole networks by affine forms: nothing right goes beyond them, and they are far tighter in large ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from gradconform.case import Batch
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.regimes import Numbers
from gradconform.conformance.strategies import LOSSES, examples, networks
from gradconform.layers import Dense, ReLU, Tanh
from gradconform.losses import MeanSquaredError
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.backpropagation import backpropagate
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounds import allowance, expected

SLACK = 1.002
"""The carriers' own errors, and second-order terms in float32."""


def leaves(found):
    yield "loss", found.loss
    yield "input", found.input
    for kind in ("parameters", "deltas", "outputs"):
        for key, array in getattr(found, kind).items():
            yield f"{kind}[{key}]", array


def ratio(bound, actual):
    """Return the worst |actual - exact| / bound of the elements that are known."""
    with np.errstate(all="ignore"):
        known, difference = np.isfinite(bound.error), np.abs(actual - bound.value)
        relative = np.where(known & (difference > 0), difference / (bound.error * allowance(bound)), 0)
        return float(np.where(known & ~np.isfinite(actual), np.inf, relative).max(initial=0))


def check_within(case, dtype, rng, legal):
    """Assert that no `legal` computation leaves the bound, nor this one that without terms."""
    tight = dict(leaves(expected(case.network, case.parameters, case.batch, affine=True).gradients))
    loose = dict(leaves(expected(case.network, case.parameters, case.batch).gradients))
    for name, bound in tight.items():
        assert type(bound) is Bounded
        assert np.array_equal(bound.value, loose[name].value, equal_nan=True)
        assert (bound.error <= loose[name].error * 1.001).all(), (str(case.network), name)
    for signs in ("up", "down", "random", "random"):
        with np.errstate(all="ignore"):
            rough = backpropagate(legal(dtype, rng, signs), case.network, case.parameters, case.batch)
        for name, array in leaves(rough):
            assert ratio(tight[name], array.value) <= SLACK, (str(case.network), signs, name)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda kind: kind.__name__)
def test_the_worst_legal_computation_stays_within_in_every_regime(loss, dtype, legal):
    rng = np.random.default_rng(0)

    @settings(deadline=None, derandomize=True, database=None, max_examples=9)
    @given(examples(networks(losses=LOSSES[loss])))
    def check(example):
        for draw in example.draws:
            check_within(example.case(draw, dtype), dtype, rng, legal)

    check()


LARGE = {
    "wide": "32 -> Dense(32) -> {0} -> Dense(32) -> {0} -> Dense(10), SoftmaxCrossEntropy",
    "deep": "5 -> " + "Dense(5) -> {0} -> " * 8 + "Dense(3), SoftmaxCrossEntropy",
    "wide and deep": "32 -> " + "Dense(32) -> {0} -> " * 5 + "Dense(32), MeanSquaredError",
}


@pytest.mark.parametrize("regime", ["ordinary", "large", "saturated"])
@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid", "ReLU", "ELU", "Softplus", "SiLU", "GELU", "Softmax"])
def test_the_worst_legal_computation_stays_within_in_large_networks(activation, shape, regime, dtype, legal):
    network = parse(LARGE[shape].format(activation))
    check_within(Example(network, 2, ()).case(Draw(regime, 3), dtype), dtype, np.random.default_rng(0), legal)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_far_tighter_in_a_wide_and_deep_network(dtype):
    network = parse(LARGE["wide and deep"].format("Tanh"))
    given = Numbers.ordinary(network, 4, np.random.default_rng(0))
    parameters = {path: array.astype(dtype) for path, array in given.parameters.items()}
    batch = Batch(given.inputs.astype(dtype), np.zeros((4, 32), dtype))
    tight = expected(network, parameters, batch, affine=True).gradients.parameters
    loose = expected(network, parameters, batch).gradients.parameters
    gains = [(loose[path].error / tight[path].error).ravel() for path in parameters]
    assert np.median(np.concatenate(gains)) > 100
    assert np.median(gains[0]) > 500
    if dtype == np.float32:
        # without the terms most of the first layer's gradient is larger than itself uncertain
        bound, bare = tight["0.weight"], loose["0.weight"]
        assert np.mean(bound.error < 0.01 * np.abs(bound.value)) > 0.9
        assert np.mean(bare.error < 0.01 * np.abs(bare.value)) < 0.1


def test_fewer_units_lie_at_a_kink():
    """z = x (w - w) + 1e-13: what cancels in both units' inputs cannot bring z to 0."""
    network = Network(1, (Dense(8), Tanh(), Dense(1), Tanh(), Dense(2), ReLU()), MeanSquaredError())
    rng = np.random.default_rng(0)
    parameters = {
        "0.weight": rng.normal(size=(1, 8)),
        "0.bias": rng.normal(size=8),
        "2.weight": rng.normal(size=(8, 1)),
        "2.bias": np.zeros(1),
        "4.weight": np.array([[1.0, -1.0]]),
        "4.bias": np.zeros(2),
    }
    batch = Batch(np.ones((3, 1)), np.ones((3, 2)))
    assert expected(network, parameters, batch, affine=True).kinks == 0


def test_kinks_may_be_closed_for_several_cases_at_once():
    network = Network(1, (Dense(2), ReLU(), Dense(1)), MeanSquaredError(reduction="sum"))
    parameters = {
        "0.weight": np.zeros((1, 2)),
        "0.bias": np.array([0.0, 1.0]),
        "2.weight": np.ones((2, 1)),
        "2.bias": np.zeros(1),
    }
    batch = Batch(np.ones((1, 1)), np.zeros((1, 1)))
    shares = [np.array([0.0, 1.0])[:, None, None] * np.ones((2, 1, 2))]
    closed = expected(network, parameters, batch, shares=shares, affine=True).gradients.parameters["0.bias"]
    assert closed.value.tolist() == [[0, 2], [2, 2]]
    assert (closed.error < 1e-14).all()
    hull = expected(network, parameters, batch, affine=True).gradients.parameters["0.bias"]
    assert hull.error == pytest.approx([1, 0], abs=1e-14)


@pytest.mark.parametrize("text", ["3 -> Tanh -> Dense(2), MeanSquaredError", "2 -> Sigmoid, BinaryCrossEntropy"])
def test_networks_without_a_dense_layer_at_the_start(text, dtype, legal):
    case = Example(parse(text), 3, ()).case(Draw("ordinary", 0), dtype)
    check_within(case, dtype, np.random.default_rng(0), legal)


def test_with_a_cotangent_the_unreduced_loss_has_a_bound_too():
    network = Network(2, (Dense(2),), MeanSquaredError(reduction="none"))
    parameters = {"0.weight": np.ones((2, 2)), "0.bias": np.ones(2)}
    batch = Batch(np.ones((3, 2)), np.ones((3, 2)), cotangent=np.ones((3, 2)))
    found = expected(network, parameters, batch, affine=True).gradients
    assert type(found.loss) is Bounded
    assert found.loss.shape == (3, 2)


def test_cases_that_are_computed_together_have_the_bounds_that_they_have_alone():
    example = Example(parse("4 -> Dense(5) -> Tanh -> Dense(6) -> SiLU -> Dense(3), SoftmaxCrossEntropy"), 2, ())
    cases = [example.case(Draw("ordinary", seed), np.dtype(np.float64)) for seed in range(3)]
    parameters = {path: np.stack([case.parameters[path] for case in cases]) for path in cases[0].parameters}
    batch = Batch(np.stack([case.batch.inputs for case in cases]), np.stack([case.batch.targets for case in cases]))
    together = dict(leaves(expected(cases[0].network, parameters, batch, affine=True).gradients))
    for index, case in enumerate(cases):
        for name, bound in leaves(expected(case.network, case.parameters, case.batch, affine=True).gradients):
            assert np.array_equal(together[name].value[index], bound.value)
            assert together[name].error[index] == pytest.approx(bound.error, rel=1e-9)
