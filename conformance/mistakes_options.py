"""Mistakes in what a loss has beside its formula: factors, smoothing, limits, and small numbers added to logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from gradconform.case import Batch
from gradconform.conformance.endpoint import (
    PROBABILITIES,
    Delta,
    OtherLoss,
    in_batch,
    in_delta,
    in_loss,
    kept,
    labels_of,
    number,
    plain_classes,
    probabilities,
    scaled,
    weights_of,
    whole_loss,
    with_options,
)
from gradconform.conformance.mistake import End, Mistake
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.reference.arithmetic import Value

EPSILONS = (1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""What people add to a probability, or clip it to."""


def _smoothed_over_others(e: End) -> Value | None:
    """Return the delta of labels (1 - epsilon) y + epsilon / (C - 1) (1 - y)."""
    loss, classes = e.loss, e.z.shape[-1]
    if not isinstance(loss, SoftmaxCrossEntropy) or not loss.label_smoothing or classes == 1:
        return None
    y, epsilon, c = labels_of(e), float(loss.label_smoothing), weights_of(e)
    others = e.k.lift(kept(e)[:, None].astype(float)) - y
    q = y * (1 - epsilon) + others * (epsilon / (classes - 1))
    weights = e.batch.class_weights
    if weights is not None:
        q = q * e.k.lift(weights)
        if loss.averages and e.batch.labelled:
            # the mean divides by the sum of the weights instead of the number of rows that count
            counted = kept(e)
            c = c * (counted.sum() / float(weights[e.batch.targets[counted]].sum(dtype=np.float64)))
    return (e.k.softmax(e.z)[0] * q.sum(axis=-1, keepdims=True) - q) * c * float(loss.scale)


def _with_epsilon(epsilon: float) -> Delta:
    def change(e: End) -> Value | None:
        if isinstance(e.loss, CrossEntropy):
            return -e.k.weigh(labels_of(e), weights_of(e) / (e.z + epsilon))
        if isinstance(e.loss, BinaryCrossEntropy):
            y = labels_of(e)
            gain = e.k.weigh(1 - y, weights_of(e) / (1 - e.z + epsilon))
            return gain - e.k.weigh(y, weights_of(e) / (e.z + epsilon))
        if plain_classes(e):
            p = e.k.softmax(e.z)[0]
            pulled = e.k.weigh(labels_of(e), p / (p + epsilon) * weights_of(e))
            return p * pulled.sum(axis=-1, keepdims=True) - pulled
        return None

    return change


def _clipped_delta(epsilon: float) -> Delta:
    """Return p - y with p clipped, as where the clipped probabilities are kept from the forward pass."""

    def change(e: End) -> Value | None:
        if not (plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy)):
            return None
        p = e.k.clip(probabilities(e), epsilon, "")[0]
        return (p - labels_of(e)) * weights_of(e)

    return change


def _huber_slope(e: End) -> Value | None:
    """Return r, limited to +-1 where outliers begin, instead of +-delta."""
    if not isinstance(e.loss, Huber):
        return None
    residual = number(e.z) - e.batch.targets.astype(float)
    outside = (np.abs(residual) > e.loss.delta).astype(float)
    return e.k.weigh(e.k.lift(1 - outside), e.delta) + e.k.weigh(e.k.lift(outside), e.delta / float(e.loss.delta))


def _absolute(e: End) -> Value | None:
    if not isinstance(e.loss, MeanSquaredError | Huber):
        return None
    return e.k.lift(np.sign(number(e.z) - e.batch.targets.astype(float))) * weights_of(e)


def _mean_before_square(e: End) -> tuple[Value, Value] | None:
    """Return the cost and the delta of the squares of the residuals' means over the batch."""
    if not isinstance(e.loss, MeanSquaredError) or e.loss.reduction != "mean" or e.loss.scale != 1:
        return None
    residual = e.z - e.k.lift(e.batch.targets)
    mean = residual.sum(axis=-2, keepdims=True) / float(e.rows)
    outputs = float(e.z.shape[-1])
    return (mean * mean).sum(axis=(-2, -1)) / outputs, mean * e.k.lift(np.full(e.z.shape, 2 / (outputs * e.rows)))


def _centred(_loss: LossRecord, _outputs: int, batch: Batch) -> Batch | None:
    if batch.targets.ndim != 2:
        return None
    mean = batch.targets.mean(axis=0, dtype=np.float64)
    return replace(batch, targets=(batch.targets - mean).astype(batch.targets.dtype))


def _in_base(base: float) -> OtherLoss:
    def change(loss: LossRecord) -> LossRecord | None:
        logarithmic = loss.labels in {"classes", "fractions"}
        return msgspec.structs.replace(loss, scale=loss.scale / math.log(base)) if logarithmic else None

    return change


def _of_squares(factor: float) -> Callable[[End], float | None]:
    return lambda e: factor if isinstance(e.loss, MeanSquaredError) else None


def _halved(loss: LossRecord) -> LossRecord | None:
    return msgspec.structs.replace(loss, scale=loss.scale / 2) if isinstance(loss, MeanSquaredError) else None


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    rows: list[tuple[str, str, str, Callable[[LossRecord], LossRecord | None]]] = [
        (
            "smoothing-ignored",
            "label smoothing is left out: spread epsilon over all classes before p - y",
            "y = (1 - epsilon) * y + epsilon / C",
            with_options(label_smoothing=0.0),
        ),
        (
            "huber-delta",
            "Huber's delta is taken to be 1: use the loss's own",
            "np.clip(r, -loss.delta, loss.delta), not np.clip(r, -1, 1)",
            with_options(delta=1.0),
        ),
        (
            "scale-ignored",
            "the loss's scale is left out: multiply the delta by it",
            "delta = loss.scale * (...)",
            with_options(scale=1.0),
        ),
    ]
    for identifier, likely, mend, change in rows:
        yield Mistake(identifier, likely, mend, end=in_loss(change))
        yield Mistake(identifier, f"{likely} (in the cost as well)", mend, given=whole_loss(change), claims=2)
    yield Mistake(
        "smoothing-over-others",
        "label smoothing spreads epsilon over the other C - 1 classes: it is spread over all C",
        "y = (1 - epsilon) * y + epsilon / C, not epsilon / (C - 1)",
        end=in_delta(_smoothed_over_others),
        kinds=(SoftmaxCrossEntropy,),
    )
    for identifier, likely, factor in (
        ("half-mse", "the gradient is that of half the squared error: the derivative of (a - y)^2 is 2 (a - y)", 0.5),
        ("twice-mse", "the factor 2 of the squared error's derivative is applied twice", 2.0),
    ):
        yield Mistake(
            identifier,
            likely,
            "delta = 2 * (a - y) / y.size, the factor 2 once",
            end=scaled(_of_squares(factor)),
            kinds=(MeanSquaredError,),
        )
    yield Mistake(
        "half-mse",
        "cost and gradient are those of half the squared error: multiply by 2, or declare the convention half",
        "cost = ((a - y) ** 2).mean() and delta = 2 * (a - y) / y.size, not half of each",
        given=whole_loss(_halved),
        claims=2,
        kinds=(MeanSquaredError,),
    )
    yield Mistake(
        "huber-slope",
        "the gradient of an outlier is 1 instead of delta: limit the residual to [-delta, delta]",
        "np.clip(r, -delta, delta), not np.where(abs(r) <= delta, r, np.sign(r))",
        end=in_delta(_huber_slope),
        kinds=(Huber,),
    )
    yield Mistake(
        "absolute-error",
        "the gradient is the sign of a - y, that of the absolute error",
        "delta = 2 * (a - y) / y.size, not np.sign(a - y) / y.size",
        end=in_delta(_absolute),
        kinds=(MeanSquaredError, Huber),
    )
    yield Mistake(
        "mean-before-square",
        "the residuals are averaged over the batch before they are squared: square first",
        "((a - y) ** 2).mean(), not ((a - y).mean(axis=0) ** 2).mean()",
        end=_mean_before_square,
        kinds=(MeanSquaredError,),
    )
    yield Mistake(
        "targets-centred",
        "the mean of the targets over the batch is subtracted from them: use them as they are given",
        "a - y, not a - (y - y.mean(axis=0))",
        given=in_batch(_centred),
    )
    for base in (2.0, 10.0):
        yield Mistake(
            "log-base",
            f"the logarithm of the cross entropy has base {base:g}, in cost and gradient: it is the natural one",
            f"np.log(p), not np.log{base:g}(p)",
            given=whole_loss(_in_base(base)),
            claims=2,
        )
    for epsilon in EPSILONS:
        yield Mistake(
            "log-epsilon",
            f"{epsilon:g} is added to the probability before the logarithm: start from the logits instead",
            f"log_p = z - logsumexp(z), not log(p + {epsilon:g})",
            end=in_delta(_with_epsilon(epsilon)),
        )
        yield Mistake(
            "probability-clip",
            f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}], where the gradient is then 0: use the "
            "logits, or declare the convention clip",
            f"delta = p - y from the logits, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            given=whole_loss(with_options(clip=epsilon)),
            kinds=PROBABILITIES,
            claims=2,
        )
        yield Mistake(
            "probability-clip",
            f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}] in the delta: use them as they are",
            f"delta = p - y, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            end=in_loss(with_options(clip=epsilon)),
            kinds=PROBABILITIES,
        )
        yield Mistake(
            "probability-clip",
            f"p is clipped to [{epsilon:g}, 1 - {epsilon:g}] before p - y: use it as it is",
            f"delta = p - y, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            end=in_delta(_clipped_delta(epsilon)),
        )
