"""Scale, mean over the rows alone, and clipped probabilities: costs by hand, the complex step, and the bounds."""

from __future__ import annotations

import math
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradconform.case import Batch, Case
from gradconform.conformance.strategies import LOSSES, examples, networks
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.notation import parse
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.bounds import allowance, expected
from gradconform.reference.losses import cost

LN2 = math.log(2)
KINDS = get_args(Loss)
CLIPPED = (CrossEntropy, BinaryCrossEntropy)
settled = settings(deadline=None, derandomize=True, database=None, max_examples=4)


def varied(kind):
    """Return a strategy of a loss with options that are drawn for a convention alone."""
    options = {"scale": st.sampled_from([0.5, 0.1, 3.0]), "reduction": st.sampled_from(["mean", "batchmean", "none"])}
    if kind in CLIPPED:
        options["clip"] = st.sampled_from([0.0, 1e-7, 0.1, 0.3])
    return st.builds(msgspec.structs.replace, LOSSES[kind], **options)


def leaves(found):
    yield "loss", found.loss
    yield "input", found.input
    for kind in ("parameters", "deltas", "outputs"):
        for key, array in getattr(found, kind).items():
            yield f"{kind}[{key}]", array


def ratio(bound, actual):
    with np.errstate(all="ignore"):
        known, difference = np.isfinite(bound.error), np.abs(actual - bound.value)
        relative = np.where(known & (difference > 0), difference / (bound.error * allowance(bound)), 0)
        return float(np.where(known & ~np.isfinite(actual), np.inf, relative).max(initial=0))


def found(loss, outputs, targets, **options):
    batch = Batch(np.zeros((len(outputs), 1)), np.asarray(targets), **options)
    with np.errstate(all="ignore"):
        return cost(loss, Plain(np.float64), np.asarray(outputs, float), batch)


def check(loss, outputs, targets, value, delta, **options):
    actual = found(loss, outputs, targets, **options)
    assert np.allclose(actual[0], value, rtol=2e-15, atol=0)
    assert np.allclose(actual[1], delta, rtol=2e-15, atol=0)


# residuals 1, -2, 3, 0: squares 1, 4, 9, 0
A, Y = np.array([[1.0, 2], [3, 4]]), np.array([[0.0, 4], [0, 4]])


@pytest.mark.parametrize(
    ("loss", "value", "delta"),
    [
        (MeanSquaredError(reduction="batchmean"), 7, [[1, -2], [3, 0]]),
        (MeanSquaredError(reduction="batchmean", scale=0.5), 3.5, [[0.5, -1], [1.5, 0]]),
        (MeanSquaredError(scale=0.5), 1.75, [[0.25, -0.5], [0.75, 0]]),
        (MeanSquaredError(reduction="sum", scale=3.0), 42, [[6, -12], [18, 0]]),
        (Huber(reduction="batchmean", delta=2.0), (0.5 + 2 + 4) / 2, [[0.5, -1], [1, 0]]),
    ],
)
def test_costs_of_elements(loss, value, delta):
    check(loss, A, Y, value, delta)


def test_a_scaled_loss_of_each_element_is_weighted_by_the_cotangent():
    c = np.array([[1.0, 2], [-1, 5]])
    delta = 2 * 0.5 * (A - Y) * c
    check(MeanSquaredError(reduction="none", scale=0.5), A, Y, (A - Y) ** 2 / 2, delta, cotangent=c)


def test_the_mean_of_a_cross_entropy_is_one_over_the_rows_anyway():
    logits, labels = [[0.0, 0, 0], [0, 0, 0]], [1, 0]
    p = np.full((2, 3), 1 / 3)
    delta = (p - np.eye(3)[labels]) / 2
    check(SoftmaxCrossEntropy(reduction="batchmean"), logits, labels, math.log(3), delta)
    check(SoftmaxCrossEntropy(scale=2.0), logits, labels, 2 * math.log(3), 2 * delta)


def test_a_binary_cross_entropy_over_the_rows():
    # every -log is ln 2, every delta -2 or 2
    p, y = np.full((2, 2), 0.5), np.array([[1.0, 0], [1, 1]])
    check(BinaryCrossEntropy(reduction="batchmean"), p, y, 2 * LN2, [[-1, 1], [-1, -1]])
    z = np.zeros((2, 2))
    check(SigmoidCrossEntropy(reduction="batchmean"), z, y, 2 * LN2, [[-0.25, 0.25], [-0.25, -0.25]])


def test_a_clipped_probability_has_the_limits_logarithm_and_no_gradient():
    # limits 1/4 and 3/4: p = 1/8 is 1/4, p = 1/2 is itself
    p = [[1 / 8, 7 / 8], [1 / 2, 1 / 2]]
    check(CrossEntropy(reduction="sum", clip=0.25), p, [0, 0], 3 * LN2, [[0, 0], [-2, 0]])
    y = [[1.0, 1.0], [1, 0]]
    value = 2 * LN2 - math.log(3 / 4) + 2 * LN2
    check(BinaryCrossEntropy(reduction="sum", clip=0.25), p, y, value, [[0, 0], [-2, 2]])


def test_a_clip_of_0_is_none():
    p = [[1 / 8, 7 / 8]]
    assert found(CrossEntropy(clip=0.0), p, [0])[0] == found(CrossEntropy(), p, [0])[0]


@pytest.mark.parametrize(
    "text",
    [
        "3 -> Dense(4) -> Softmax, CrossEntropy(clip=0.2, scale=0.7)",
        "3 -> Dense(2) -> Sigmoid, BinaryCrossEntropy(reduction=batchmean, clip=0.3)",
        "3 -> Dense(2), MeanSquaredError(reduction=batchmean, scale=0.5)",
        "3 -> Dense(4), SoftmaxCrossEntropy(scale=0.3, label_smoothing=0.1)",
        "3 -> Dense(2), Huber(scale=3.0, reduction=batchmean)",
    ],
)
def test_the_gradient_is_that_of_the_cost_by_the_complex_step(text):
    network, rng, step = parse(text), np.random.default_rng(3), 1e-30
    rows, outputs = 4, network.widths[-1]
    targets = rng.integers(0, outputs, rows) if network.loss.labels == "classes" else rng.random((rows, outputs))
    batch = Batch(2 * rng.normal(size=(rows, 3)), targets)
    parameters = {path: rng.normal(size=shape) for path, shape in network.parameters().items()}
    actual = gradients(network, parameters, batch).parameters["0.weight"]
    for index in np.ndindex(actual.shape):
        moved = parameters["0.weight"].astype(complex)
        moved[index] += 1j * step
        value = backpropagate(Plain(complex), network, {**parameters, "0.weight": moved}, batch).loss
        assert math.isclose(actual[index], value.imag / step, rel_tol=1e-12, abs_tol=1e-15)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_worst_legal_computation_stays_within(kind, model, legal):
    rng = np.random.default_rng(0)

    @settled
    @given(examples(networks(losses=varied(kind))))
    def check(example):
        for draw, signs in zip(example.draws, ("up", "down", "random", "random"), strict=True):
            case = example.case(draw, model.dtype)
            parts = case.network, case.parameters, case.batch
            rough = backpropagate(legal(model.dtype, rng, signs, model.arithmetic), *parts)
            bounded = dict(leaves(expected(*parts, arithmetic=model.arithmetic).gradients))
            for name, array in leaves(rough):
                assert ratio(bounded[name], array.value) <= 1.002, (str(case.network), draw, name)

    check()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_plain_reference_stays_within_either_bound(kind, affine):
    @settled
    @given(examples(networks(losses=varied(kind))))
    def check(example):
        for draw in example.draws:
            for dtype in (np.float32, np.float64):
                case = example.case(draw, dtype)
                parts = case.network, case.parameters, case.batch
                bounded = dict(leaves(expected(*parts, affine=affine).gradients))
                for name, array in leaves(gradients(*parts)):
                    assert ratio(bounded[name], np.asarray(array)) <= 1, (str(case.network), draw, name)

    check()


def test_at_the_clip_either_side_is_right_and_no_third():
    # sigma(0) = 1/2 exactly; the limit as well
    network = parse("1 -> Sigmoid, BinaryCrossEntropy(reduction=sum, clip=0.4999999999999999)")
    batch = Batch(np.array([[0.0], [3.0]]), np.array([[1.0], [1.0]]))
    where = expected(network, {}, batch)
    (site,) = where.sites[-1:]
    assert (site.layer, site.near.tolist()) == ("BinaryCrossEntropy", [[True], [False]])
    bound = where.gradients.deltas[0]
    low, high = bound.value - bound.error, bound.value + bound.error
    assert low[0] <= -2
    assert high[0] >= 0
    assert high[0] < 0.01
    assert (low[1], high[1]) == (0, 0)
    clipped, free = (expected(network, {}, batch, shares=[np.full((2, 1), share)]) for share in (0.0, 1.0))
    assert clipped.gradients.deltas[0].value.tolist() == [[0], [0]]
    assert free.gradients.deltas[0].value.tolist()[0][0] == pytest.approx(-2)
    assert free.gradients.deltas[0].error[0, 0] < 1e-14


def test_a_case_with_such_a_loss_needs_a_row_that_counts():
    network = parse("1 -> Dense(2), SoftmaxCrossEntropy(reduction=batchmean, ignore_index=0)")
    parameters = {"0.weight": np.ones((1, 2)), "0.bias": np.ones(2)}
    with pytest.raises(ValueError, match="every row is ignored"):
        Case(network, parameters, Batch(np.ones((1, 1)), np.array([0])))
