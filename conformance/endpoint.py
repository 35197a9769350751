"""What a mistake in the end point is made of: the cost, its reduction and labels, and the output delta."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.mistake import End, Given
from gradconform.layers import Sigmoid
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
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import layer_rule

CLASSES = (SoftmaxCrossEntropy, CrossEntropy)
"""The losses with one cost a row."""
ELEMENTS = (MeanSquaredError, Huber, SigmoidCrossEntropy, BinaryCrossEntropy)
"""The losses with one cost an element."""
PROBABILITIES = (CrossEntropy, BinaryCrossEntropy)
"""The losses on probabilities."""

Delta = Callable[[End], Value | None]
Ending = Callable[[End], tuple[Value, Value] | None]
OtherLoss = Callable[[LossRecord], LossRecord | None]
OtherBatch = Callable[[LossRecord, int, Batch], Batch | None]
"""Another batch for a loss and a number of outputs."""
Giving = Callable[[Network, Parameters, Batch], Given | None]


def in_delta(change: Delta) -> Ending:
    """Return a mistake in the output delta alone: the cost stays right."""

    def end(e: End) -> tuple[Value, Value] | None:
        delta = change(e)
        return None if delta is None else (e.cost, delta)

    return end


def scaled(factor: Callable[[End], float | None]) -> Ending:
    """Return a mistake that multiplies the output delta; a factor of None or 1 changes nothing."""

    def change(e: End) -> Value | None:
        value = factor(e)
        return None if value is None or value == 1 else e.delta * value

    return in_delta(change)


def in_loss(change: OtherLoss) -> Ending:
    """Return a mistake that takes the delta of another loss, with the cost of the right one."""

    def delta(e: End) -> Value | None:
        other = change(e.loss)
        return None if other is None or other == e.loss else e.again(other)

    return in_delta(delta)


def whole_loss(change: OtherLoss) -> Giving:
    """Return a mistake that takes another loss, for the cost and its delta."""

    def given(network: Network, parameters: Parameters, batch: Batch) -> Given | None:
        other = change(network.loss)
        if other is None or other == network.loss:
            return None
        return msgspec.structs.replace(network, loss=other), parameters, batch

    return given


def in_batch(change: OtherBatch) -> Giving:
    """Return a mistake that computes with another batch."""

    def given(network: Network, parameters: Parameters, batch: Batch) -> Given | None:
        other = change(network.loss, network.widths[-1], batch)
        return None if other is None else (network, parameters, other)

    return given


def averaged(e: End, factor: float) -> float | None:
    """Return a factor where the costs are averaged, and no other where they are not."""
    return factor if e.loss.averages else None


def kept(e: End) -> Array:
    """Return which rows count: (N,)."""
    ignored = getattr(e.loss, "ignore_index", None)
    return np.ones(e.rows, bool) if not e.batch.labelled else e.batch.targets != ignored


def with_options(**options: object) -> OtherLoss:
    """Return the loss with other options, of those that it has."""

    def change(loss: LossRecord) -> LossRecord | None:
        known = {name: value for name, value in options.items() if hasattr(loss, name)}
        return msgspec.structs.replace(loss, **known) if known else None

    return change


def probabilities(e: End) -> Value:
    """Return what the loss takes for probabilities: softmax or sigma of the logits, or z where it is already one."""
    if isinstance(e.loss, SoftmaxCrossEntropy):
        return e.k.softmax(e.z)[0]
    if isinstance(e.loss, SigmoidCrossEntropy):
        return layer_rule(Sigmoid(), e.k, e.z, {})[0]
    return e.z


def labels_of(e: End) -> Value:
    """Return the targets as a (N, C) array: one-hot where they are integers, 0 in ignored rows."""
    if not e.batch.labelled:
        return e.k.lift(e.batch.targets)
    return e.k.lift((e.batch.targets[:, None] == np.arange(e.z.shape[-1])) & kept(e)[:, None])


def weights_of(e: End) -> Value:
    """Return the cotangent of each row or element: the reduction's, times the batch's own, and 0 in ignored rows."""
    counted = kept(e)[:, None].astype(float)
    if e.batch.cotangent is not None:
        c = e.batch.cotangent.astype(float)
        return e.k.lift((c[:, None] if c.ndim == 1 else c) * counted)
    if not e.loss.averages:
        return e.k.lift(counted)
    width = e.z.shape[-1] if isinstance(e.loss, ELEMENTS) and e.loss.reduction == "mean" else 1
    return e.k.lift(counted) / float(counted.sum() * width)


def plain_classes(e: End) -> bool:
    """Return whether the delta is (p - y) times a weight: no smoothing, no class weights."""
    return (
        isinstance(e.loss, SoftmaxCrossEntropy)
        and not e.loss.label_smoothing
        and e.batch.class_weights is None
        and e.loss.scale == 1
    )


def number(value: Value) -> Array:
    """Return a value, with bounds or without, as plain numbers."""
    return np.asarray(getattr(value, "value", value), np.float64)


def delta_of(change: OtherBatch) -> Ending:
    """Return a mistake that takes the delta of another batch for the same output, with the cost of the right one."""

    def delta(e: End) -> Value | None:
        other = change(e.loss, int(e.z.shape[-1]), e.batch)
        return None if other is None else e.again(batch=other)

    return in_delta(delta)
