"""Mistakes in the output delta and its labels: p - y without y, the softmax once more, another class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradconform.case import Batch
from gradconform.conformance.endpoint import (
    CLASSES,
    PROBABILITIES,
    Delta,
    OtherBatch,
    delta_of,
    in_batch,
    in_delta,
    labels_of,
    number,
    plain_classes,
    probabilities,
    scaled,
    weights_of,
)
from gradconform.conformance.mistake import End, Mistake
from gradconform.layers import Sigmoid
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    LossRecord,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import layer_rule


def _shifted(by: int) -> OtherBatch:
    def change(loss: LossRecord, outputs: int, batch: Batch) -> Batch | None:
        if loss.labels != "classes" or outputs == 1:
            return None
        if not batch.labelled:
            return replace(batch, targets=np.roll(batch.targets, by, axis=1))
        if getattr(loss, "ignore_index", None) is not None:
            return None
        return replace(batch, targets=(batch.targets + by) % outputs)

    return change


def _hard(loss: LossRecord, _outputs: int, batch: Batch) -> Batch | None:
    if loss.labels != "classes" or batch.labelled:
        return None
    return replace(batch, targets=batch.targets.argmax(axis=1))


def _reversed_classes(loss: LossRecord, outputs: int, batch: Batch) -> Batch | None:
    if loss.labels != "classes" or not batch.labelled or getattr(loss, "ignore_index", None) is not None:
        return None
    return replace(batch, targets=outputs - 1 - batch.targets)


def _softmax_twice(e: End) -> Value | None:
    if not isinstance(e.loss, SoftmaxCrossEntropy):
        return None
    p = e.k.softmax(e.z)[0]
    return p * (e.delta - (p * e.delta).sum(axis=-1, keepdims=True))


def _times_slope(e: End) -> Value | None:
    """Return p - y times p (1 - p): the derivative of the activation once more."""
    if not isinstance(e.loss, SigmoidCrossEntropy | SoftmaxCrossEntropy):
        return None
    p = probabilities(e)
    return e.delta * (p * (1 - p))


def _diagonal(e: End) -> Value | None:
    """Return -y / p times p (1 - p): of the softmax's Jacobian the diagonal alone."""
    if not plain_classes(e):
        return None
    return -(labels_of(e) * (1 - e.k.softmax(e.z)[0]) * weights_of(e))


def _label_missing(e: End) -> Value | None:
    if not isinstance(e.loss, SoftmaxCrossEntropy | SigmoidCrossEntropy):
        return None
    if plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy):
        return probabilities(e) * weights_of(e) * float(e.loss.scale)
    return None


def _logits_for_probabilities(e: End) -> Value | None:
    if plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy):
        return (e.z - labels_of(e)) * weights_of(e)
    return None


def _softmax_over_the_batch(e: End) -> Value | None:
    return (e.k.softmax(e.z.mT)[0].mT - labels_of(e)) * weights_of(e) if plain_classes(e) else None


def _softmax_over_the_batch_of_shifted(e: End) -> Value | None:
    """Return the same where each row's largest logit was subtracted, which then does not cancel."""
    if not plain_classes(e):
        return None
    top = number(e.z).argmax(axis=1)
    shifted = e.z - e.z[np.arange(e.rows), top][:, None]
    return (e.k.softmax(shifted.mT)[0].mT - labels_of(e)) * weights_of(e)


def _sigmoid_for_softmax(e: End) -> Value | None:
    return (layer_rule(Sigmoid(), e.k, e.z, {})[0] - labels_of(e)) * weights_of(e) if plain_classes(e) else None


def _fused_given_on(e: End) -> Value | None:
    """Return p - y where -y / p, or (p - y) / (p (1 - p)), belongs: it is right on the logits alone."""
    if not isinstance(e.loss, PROBABILITIES) or e.loss.scale != 1:
        return None
    return (e.z - labels_of(e)) * weights_of(e)


def _squared_error(e: End) -> Value | None:
    """Return the squared error's delta, 2 (p - y), for a cross entropy."""
    if isinstance(e.loss, CrossEntropy | BinaryCrossEntropy):
        return 2.0 * (e.z - labels_of(e)) * weights_of(e)
    return None


def _huber_one_sided(e: End) -> Value | None:
    if not isinstance(e.loss, Huber):
        return None
    inside = e.batch.targets.astype(float) - number(e.z) <= e.loss.delta
    return e.k.weigh(e.k.lift(inside), e.delta)


def _huber_unlimited(e: End) -> Value | None:
    if not isinstance(e.loss, Huber):
        return None
    return (e.z - e.k.lift(e.batch.targets)) * weights_of(e) * float(e.loss.scale)


def _zero_where_zero(e: End) -> Value | None:
    return e.k.weigh(e.k.lift(number(e.z) != 0), e.delta)


def _mistakes_only(e: End) -> Value | None:
    """Return the delta with 0 in the rows whose most probable class is the label."""
    if not e.batch.labelled or not isinstance(e.loss, SoftmaxCrossEntropy):
        return None
    wrong = number(e.z).argmax(axis=1) != e.batch.targets
    return e.k.weigh(e.k.lift(wrong[:, None].astype(float)), e.delta)


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    for by, how in ((1, "+ 1"), (-1, "- 1")):
        yield Mistake(
            "label-shift",
            f"the labels are off by one: label {how} is used where label belongs; classes are numbered from 0",
            f"p[rows, labels] -= 1, not p[rows, labels {how}] -= 1",
            given=in_batch(_shifted(by)),
            claims=2,
        )
        yield Mistake(
            "label-shift",
            f"the labels are off by one in the delta: label {how} is used where label belongs",
            f"p[rows, labels] -= 1, not p[rows, labels {how}] -= 1",
            end=delta_of(_shifted(by)),
        )
    yield Mistake(
        "classes-reversed",
        "the labels count the classes from the last one: label l stands for class C - 1 - l",
        "one_hot[rows, labels] = 1, not one_hot[rows, -labels - 1]",
        given=in_batch(_reversed_classes),
    )
    yield Mistake(
        "soft-as-hard",
        "soft labels are replaced by the most probable class: use the probabilities themselves",
        "delta = p - y with y as given, not with y.argmax(axis=1)",
        given=in_batch(_hard),
        claims=2,
    )
    yield Mistake(
        "soft-as-hard",
        "the delta takes soft labels for the most probable class: use the probabilities themselves",
        "delta = p - y with y as given, not with y.argmax(axis=1)",
        end=delta_of(_hard),
    )
    rows: list[tuple[str, str, str, Delta, tuple[type[LossRecord], ...]]] = [
        (
            "one-hot-missing",
            "the label is not subtracted: the delta of a cross entropy is p - y, not p",
            "delta = p - y (delta = p.copy(); delta[rows, labels] -= 1), not delta = p",
            _label_missing,
            (SoftmaxCrossEntropy, CrossEntropy, SigmoidCrossEntropy, BinaryCrossEntropy),
        ),
        (
            "softmax-twice",
            "the Jacobian of the softmax is applied on top of p - y, which has it already: leave it out",
            "delta = p - y, not p * (d - (p * d).sum(axis=1, keepdims=True)) of it",
            _softmax_twice,
            CLASSES,
        ),
        (
            "sigmoid-extra",
            "p - y is multiplied by p (1 - p) once more: p - y has the derivative of the activation already",
            "delta = p - y, not (p - y) * p * (1 - p)",
            _times_slope,
            (SoftmaxCrossEntropy, SigmoidCrossEntropy, CrossEntropy, BinaryCrossEntropy),
        ),
        (
            "softmax-diagonal",
            "of the softmax's Jacobian the diagonal p (1 - p) alone is used: the terms -p_i p_j are missing",
            "delta = p - y, or p * (d - (p * d).sum(axis=1, keepdims=True)), not p * (1 - p) * d",
            _diagonal,
            CLASSES,
        ),
        (
            "mistakes-only",
            "samples that are classified correctly give no gradient: p - y is not 0 there",
            "delta = p - y for every sample, not where p.argmax(axis=1) != labels",
            _mistakes_only,
            (SoftmaxCrossEntropy,),
        ),
        (
            "logits-for-probabilities",
            "the delta is z - y: the probabilities, not the logits, belong there",
            "delta = softmax(z) - y, not z - y",
            _logits_for_probabilities,
            (SoftmaxCrossEntropy, SigmoidCrossEntropy),
        ),
        (
            "softmax-axis",
            "the softmax is taken over the samples: normalise each sample over its classes",
            "p = e / e.sum(axis=1, keepdims=True), not e / e.sum(axis=0)",
            _softmax_over_the_batch,
            (SoftmaxCrossEntropy,),
        ),
        (
            "softmax-axis",
            "the exponentials are divided by their sum over the samples: normalise each sample over its classes",
            "p = e / e.sum(axis=1, keepdims=True), not e / e.sum(axis=0)",
            _softmax_over_the_batch_of_shifted,
            (SoftmaxCrossEntropy,),
        ),
        (
            "sigmoid-for-softmax",
            "the probabilities are sigmoids of the logits: this loss takes their softmax",
            "p = softmax(z), not sigmoid(z)",
            _sigmoid_for_softmax,
            (SoftmaxCrossEntropy,),
        ),
        (
            "fused-delta-on-probabilities",
            "p - y is the delta of the logits, and is handed through the last activation's derivative once more",
            "hand p - y to the layer before the last activation, or start from -y / p",
            _fused_given_on,
            PROBABILITIES,
        ),
        (
            "squared-error-delta",
            "the delta is that of the squared error, 2 (p - y): that of a cross entropy is -y / p",
            "delta = -y / p, not 2 * (p - y)",
            _squared_error,
            PROBABILITIES,
        ),
        (
            "zero-logit-zero",
            "the gradient is 0 where the logit is exactly 0: neither branch (z > 0, z < 0) includes 0",
            "np.where(z >= 0, ..., ...), so that 0 is in one of the branches",
            _zero_where_zero,
            (SigmoidCrossEntropy, SoftmaxCrossEntropy),
        ),
        (
            "huber-abs",
            "outliers are recognised by r > delta without abs: below -delta the gradient is 0 instead of -delta",
            "np.clip(r, -delta, delta), or np.abs(r) <= delta, not r <= delta",
            _huber_one_sided,
            (Huber,),
        ),
        (
            "huber-unlimited",
            "the gradient is the residual itself, also beyond delta: limit it to [-delta, delta]",
            "np.clip(r, -delta, delta), not r",
            _huber_unlimited,
            (Huber,),
        ),
    ]
    for identifier, likely, mend, delta, kinds in rows:
        # seen from the logits both are one
        implies = ("sigmoid-extra",) if identifier == "fused-delta-on-probabilities" else ()
        yield Mistake(identifier, likely, mend, end=in_delta(delta), kinds=kinds, implies=implies)
    yield Mistake(
        "minus-lost",
        "the sign of the output delta is wrong: it is p - y, not y - p",
        "delta = p - y, not y - p",
        end=scaled(lambda e: -1.0),
        claims=2,
    )
