"""The losses as data: what they hold, refuse, and turn into JSON and back."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconform.layers import Sigmoid, Softmax
from gradconform.losses import (
    REDUCTIONS,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)

KINDS = get_args(Loss)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
REDUCTION = st.sampled_from(REDUCTIONS)
SCALE = st.floats(0, exclude_min=True, allow_infinity=False)
LOSSES = st.one_of(
    st.builds(
        SoftmaxCrossEntropy,
        REDUCTION,
        label_smoothing=st.floats(0, 1),
        ignore_index=st.none() | st.integers(-(2**62), 2**62),
        scale=SCALE,
    ),
    st.builds(
        BinaryCrossEntropy,
        REDUCTION,
        log_floor=st.none() | FINITE,
        denominator_floor=st.none() | st.floats(0, allow_infinity=False),
        clip=st.floats(0, 0.5, exclude_max=True),
    ),
    st.builds(Huber, REDUCTION, delta=st.floats(0, exclude_min=True, allow_infinity=False)),
    st.builds(CrossEntropy, REDUCTION, clip=st.floats(0, 0.5, exclude_max=True)),
    *(st.builds(kind, REDUCTION, scale=SCALE) for kind in (SigmoidCrossEntropy, MeanSquaredError)),
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_classes_are_siblings(kind):
    assert not [other for other in KINDS if other is not kind and issubclass(kind, other)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_frozen(kind):
    with pytest.raises(AttributeError, match="immutable"):
        kind().reduction = "sum"


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_the_default(kind):
    assert kind().reduction == "mean"


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_another_kind_is_not_equal(kind):
    assert [other for other in KINDS if other() == kind()] == [kind]


@given(LOSSES)
def test_json_brings_the_same_loss_back(loss):
    text = msgspec.json.encode(loss)
    again = msgspec.json.decode(text, type=Loss)
    assert (again, type(again), hash(again)) == (loss, type(loss), hash(loss))
    assert msgspec.json.decode(text)["kind"] == type(loss).__name__


@given(LOSSES, st.integers(1, 9), st.integers(1, 9))
def test_the_shape_of_the_loss(loss, rows, width):
    unreduced = (rows,) if isinstance(loss, SoftmaxCrossEntropy | CrossEntropy) else (rows, width)
    assert loss.shape(rows, width) == (unreduced if loss.reduction == "none" else ())


def test_what_averages():
    assert [Huber(reduction).averages for reduction in REDUCTIONS] == [True, False, False, True]


def test_the_second_value_is_the_losses_own():
    assert Huber("sum", 2.0) == Huber(reduction="sum", delta=2.0, scale=1.0)


def test_the_losses_on_probabilities_say_what_they_follow():
    follows = {kind: kind.follows for kind in KINDS if kind.follows}
    assert follows == {CrossEntropy: (Softmax,), BinaryCrossEntropy: (Sigmoid,)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanSquaredError("average"), "reduction must be one of mean, sum, none, batchmean; got 'average'"),
        (lambda: CrossEntropy(None), "reduction must be one of mean, sum, none, batchmean; got None"),
        (lambda: SoftmaxCrossEntropy(label_smoothing=1.5), "label_smoothing must be at most 1, got 1.5"),
        (lambda: SoftmaxCrossEntropy(label_smoothing=-0.5), "label_smoothing must be at least 0, got -0.5"),
        (lambda: SoftmaxCrossEntropy(label_smoothing=float("nan")), "label_smoothing must be a finite number, got nan"),
        (lambda: BinaryCrossEntropy(log_floor=-float("inf")), "log_floor must be a finite number, got -inf"),
        (lambda: BinaryCrossEntropy(denominator_floor=-1e-12), "denominator_floor must be at least 0, got -1e-12"),
        (lambda: MeanSquaredError(scale=0.0), "scale must be above 0, got 0"),
        (lambda: MeanSquaredError(scale=float("inf")), "scale must be a finite number, got inf"),
        (lambda: CrossEntropy(clip=-1e-7), "clip must be at least 0, got -1e-07"),
        (lambda: BinaryCrossEntropy(clip=0.5), "clip must be below 0.5, got 0.5"),
        (lambda: Huber(delta=0.0), "delta must be above 0, got 0"),
        (lambda: Huber(delta=-1.0), "delta must be above 0, got -1"),
        (lambda: Huber("sum", delta=float("inf")), "delta must be a finite number, got inf"),
    ],
)
def test_a_wrong_value_is_refused_by_name(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
