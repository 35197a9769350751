"""The rules of the losses: the cost and its pullback, which starts the backward pass, next to its formula.

Each rule gives the terms of the cost, (N, C), and a pullback that takes the cotangent c of the terms to the output
delta dC/dz. The reduction adds the terms and makes the cotangent; it is the same for all. Every array may have further
axes before these, of cases that are computed together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, singledispatch

import numpy as np

from gradconform.case import Array, Batch
from gradconform.errors import Unsupported
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
from gradconform.reference.functions import LogitCrossEntropy, function
from gradconform.reference.layers import Arithmetic

Terms = tuple[Value, Callable[[Value], Value]]


def cost(loss: LossRecord, k: Arithmetic, z: Value, batch: Batch) -> tuple[Value, Value]:
    """Return the cost C and the output delta dC/dz, (N, C)."""
    terms, pullback = loss_rule(loss, k, z, batch)
    per_row = loss.labels == "classes"
    if batch.cotangent is not None:
        cotangent = k.lift(batch.cotangent)
        costs = _scaled(loss, k, terms, per_row)
        return costs, _delta(loss, k, pullback, cotangent[..., None] if per_row else cotangent)
    total = _scaled(loss, k, terms, None)
    if loss.reduction == "sum":
        return total, pullback(k.lift(loss.scale))
    if per_row:
        divisor = _rows_that_count(loss, k, batch)
    else:
        outputs = 1 if loss.reduction == "batchmean" else batch.targets.shape[-1]
        divisor = k.lift(float(batch.rows * outputs))
    return total / divisor, _delta(loss, k, pullback, None, divisor[..., None, None])


def _delta(
    loss: LossRecord, k: Arithmetic, pullback: Callable[[Value], Value], cotangent: Value, divisor: Value = None
) -> Value:
    """Return the output delta for the cotangent of the reduced or unreduced cost, and the divisor of a mean.

    The scale may be multiplied with either of them, or with what comes of it.
    """
    plain = cotangent if divisor is None else 1 / divisor
    if loss.scale == 1:
        return pullback(plain)
    scale = k.lift(loss.scale)
    scaled = cotangent * scale if divisor is None else scale / divisor
    return k.accept(lambda: pullback(scaled), lambda: pullback(plain) * scale)


def _scaled(loss: LossRecord, k: Arithmetic, terms: Value, rows: bool | None) -> Value:
    """Return the costs times their scale: of each element, of each row, or, where `rows` is None, of the batch.

    The scale may be multiplied with each term or with their sum.
    """

    def added(values: Value) -> Value:
        return values if rows is False else values.sum(axis=-1 if rows else (-2, -1))

    if loss.scale == 1:
        return added(terms)
    scale = k.lift(loss.scale)

    return k.accept(lambda: added(terms) * scale, lambda: added(terms * scale))


def fused(network: Network) -> LossRecord | None:
    """Return the loss on logits that equals the last layer and the loss on its probabilities, if there is one."""
    loss = network.loss
    if isinstance(loss, CrossEntropy) and loss == CrossEntropy(loss.reduction, scale=loss.scale):
        return SoftmaxCrossEntropy(loss.reduction, scale=loss.scale)
    if isinstance(loss, BinaryCrossEntropy) and loss == BinaryCrossEntropy(loss.reduction, scale=loss.scale):
        return SigmoidCrossEntropy(loss.reduction, scale=loss.scale)
    return None


def _counted(loss: LossRecord, batch: Batch) -> Array | None:
    """Return which rows count: (N,), all but those with the ignored label; None where all do."""
    ignored = getattr(loss, "ignore_index", None)
    return None if ignored is None or not batch.labelled else batch.targets != ignored


def _rows_that_count(loss: LossRecord, k: Arithmetic, batch: Batch) -> Value:
    """Return the mean's divisor: rows with a label that is not ignored, or the sum of their classes' weights."""
    counted = _counted(loss, batch)
    if batch.class_weights is None or not batch.labelled:
        return k.lift(float(batch.rows) if counted is None else np.count_nonzero(counted, axis=-1).astype(float))
    labels = batch.targets if counted is None else np.where(counted, batch.targets, 0)
    weights = np.take_along_axis(batch.class_weights, labels, axis=-1)
    return k.lift(weights if counted is None else np.where(counted, weights, 0)).sum(axis=-1)


def _distribution(loss: LossRecord, k: Arithmetic, z: Value, batch: Batch) -> Value:
    """Return q, (N, C): what each -log p is weighted with. Labels, then smoothing, then class weights."""
    classes, counted = z.shape[-1], _counted(loss, batch)
    given = batch.targets
    if batch.labelled:
        given = (given[..., None] == np.arange(classes)).astype(float)
        if counted is not None:
            given *= counted[..., None]
    q = k.lift(given)
    if isinstance(loss, SoftmaxCrossEntropy) and loss.label_smoothing:
        epsilon = k.lift(loss.label_smoothing)
        rows = np.ones((*batch.inputs.shape[:-1], 1)) if counted is None else counted[..., None].astype(float)
        q = q * (1 - epsilon) + k.lift(rows) * (epsilon / float(classes))
    return q if batch.class_weights is None else q * k.lift(batch.class_weights)[..., None, :]


@singledispatch
def loss_rule(loss: LossRecord, k: Arithmetic, z: Value, batch: Batch) -> Terms:
    """Return the terms of the cost, (N, C), and the pullback from their cotangent to the output delta."""
    raise Unsupported(f"reference: no rule for {type(loss).__name__}")


@loss_rule.register
def _(loss: SoftmaxCrossEntropy, k: Arithmetic, z: Value, batch: Batch) -> Terms:
    """C = -sum of q log softmax(z).

    dC/dz = p sum(q) - q, the textbook's p - y; as p (sum(q) - q) - q (1 - p) it keeps its digits where p is near 1.
    """
    q = _distribution(loss, k, z, batch)
    p, complement, log_p = k.softmax(z)
    if loss.label_smoothing:
        log_p = k.summable(log_p, batch.class_weights)  # smoothing may be done with the plain sum of all

    def pullback(c: Value) -> Value:
        def accurate() -> Value:
            return (p * (q.sum(axis=-1, keepdims=True) - q) - q * complement) * c

        def common() -> Value:
            g = -(q * c)
            return g - p * g.sum(axis=-1, keepdims=True)

        return k.accept(accurate, common)

    return -k.weigh(q, log_p), pullback


@loss_rule.register
def _(loss: CrossEntropy, k: Arithmetic, p: Value, batch: Batch) -> Terms:
    """C = -sum of q log p.    dC/dp = -q / p, and 0 where p is clipped."""
    q = _distribution(loss, k, p, batch)
    if not loss.clip:

        def pullback(c: Value) -> Value:
            # (q c) / p is as common as q (c / p): what underflows in q c is divided by p
            return -k.accept(lambda: k.weigh(q, c / p), lambda: k.weigh(q, c) / p)

        return -k.weigh(q, k.log(p)), pullback
    p, inside = k.clip(p, loss.clip, type(loss).__name__)
    return -k.weigh(q, k.log(p)), lambda c: -k.weigh(inside, k.weigh(q, c / p))


@loss_rule.register
def _(loss: SigmoidCrossEntropy, k: Arithmetic, z: Value, batch: Batch) -> Terms:
    """C = -y log sigma(z) - (1 - y) log(1 - sigma(z)).    dC/dz = sigma(z) - y."""
    terms, slope = k.evaluate(LogitCrossEntropy(batch.targets), z)
    return terms, lambda c: slope * c


@loss_rule.register
def _(loss: BinaryCrossEntropy, k: Arithmetic, p: Value, batch: Batch) -> Terms:
    """C = -y log p - (1 - y) log(1 - p).    dC/dp = (1 - y) / (1 - p) - y / p = (p - y) / (p (1 - p)).

    Where p is clipped, dC/dp = 0.
    """
    y = k.lift(batch.targets)
    inside = None
    if loss.clip:
        p, inside = k.clip(p, loss.clip, type(loss).__name__)
    log_p, log_rest = k.log(p), k.log(1 - p)
    if loss.log_floor is not None:
        log_p, log_rest = k.maximum(log_p, loss.log_floor), k.maximum(log_rest, loss.log_floor)

    def split(c: Value) -> Value:
        return k.weigh(1 - y, c / (1 - p)) - k.weigh(y, c / p)

    def denominator() -> Value:
        product = p * (1 - p)
        return product if loss.denominator_floor is None else k.maximum(product, loss.denominator_floor)

    def fraction(c: Value) -> Value:
        return (p - y) / denominator() * c

    def weighted_fraction(c: Value) -> Value:
        return (p - y) * c / denominator()

    def pullback(c: Value) -> Value:
        common = (fraction, weighted_fraction)
        formulas = (split, *common) if loss.denominator_floor is None else common
        slope = k.accept(*(partial(formula, c) for formula in formulas))
        return slope if inside is None else k.weigh(inside, slope)

    return -(k.weigh(y, log_p) + k.weigh(1 - y, log_rest)), pullback


@loss_rule.register
def _(loss: MeanSquaredError, k: Arithmetic, a: Value, batch: Batch) -> Terms:
    """C = (a - y)^2.    dC/da = 2 (a - y)."""
    residual = a - k.lift(batch.targets)
    return residual * residual, lambda c: 2.0 * residual * c


@loss_rule.register
def _(loss: Huber, k: Arithmetic, a: Value, batch: Batch) -> Terms:
    """C = r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2), r = a - y.    dC/da = r, limited to +-delta."""
    terms, slope = k.evaluate(function(loss), a - k.lift(batch.targets))
    return terms, lambda c: slope * c
