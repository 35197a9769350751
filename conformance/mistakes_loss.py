"""Mistakes in the end point: in the cost, its reduction, its labels, and the output delta that starts the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.mistake import End, Given, Mistake
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
EPSILONS = (1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""What people add to a probability, or clip it to."""

Delta = Callable[[End], Value | None]


def in_delta(change: Delta) -> Callable[[End], tuple[Value, Value] | None]:
    """Return a mistake in the output delta alone: the cost stays right."""

    def end(e: End) -> tuple[Value, Value] | None:
        delta = change(e)
        return None if delta is None else (e.cost, delta)

    return end


def scaled(factor: Callable[[End], float | None]) -> Callable[[End], tuple[Value, Value] | None]:
    """Return a mistake that multiplies the output delta; a factor of None or 1 changes nothing."""

    def change(e: End) -> Value | None:
        value = factor(e)
        return None if value is None or value == 1 else e.delta * value

    return in_delta(change)


def in_loss(change: Callable[[LossRecord], LossRecord | None]) -> Callable[[End], tuple[Value, Value] | None]:
    """Return a mistake that takes the delta of another loss, with the cost of the right one."""

    def delta(e: End) -> Value | None:
        other = change(e.loss)
        return None if other is None or other == e.loss else e.again(other)

    return in_delta(delta)


def whole_loss(
    change: Callable[[LossRecord], LossRecord | None],
) -> Callable[[Network, Parameters, Batch], Given | None]:
    """Return a mistake that takes another loss, for the cost and its delta."""

    def given(network: Network, parameters: Parameters, batch: Batch) -> Given | None:
        other = change(network.loss)
        if other is None or other == network.loss:
            return None
        return msgspec.structs.replace(network, loss=other), parameters, batch

    return given


def in_batch(change: Callable[[Network, Batch], Batch | None]) -> Callable[[Network, Parameters, Batch], Given | None]:
    """Return a mistake that computes with another batch."""

    def given(network: Network, parameters: Parameters, batch: Batch) -> Given | None:
        other = change(network, batch)
        return None if other is None else (network, parameters, other)

    return given


def _averaged(e: End, factor: float) -> float | None:
    return factor if e.loss.averages else None


def _kept(e: End) -> Array:
    ignored = getattr(e.loss, "ignore_index", None)
    return np.ones(e.rows, bool) if not e.batch.labelled else e.batch.targets != ignored


def _with(**options: object) -> Callable[[LossRecord], LossRecord | None]:
    """Return the loss with other options, of those that it has."""

    def change(loss: LossRecord) -> LossRecord | None:
        known = {name: value for name, value in options.items() if hasattr(loss, name)}
        return msgspec.structs.replace(loss, **known) if known else None

    return change


def _reduced(was: str, becomes: str, kinds: tuple[type[LossRecord], ...] = ()) -> Callable[[LossRecord], LossRecord]:
    def change(loss: LossRecord) -> LossRecord:
        fits = loss.reduction == was and (not kinds or isinstance(loss, kinds))
        return msgspec.structs.replace(loss, reduction=becomes) if fits else loss

    return change


def _probabilities(e: End) -> Value:
    """Return what the loss takes for probabilities: softmax or sigma of the logits, or z where it is already one."""
    if isinstance(e.loss, SoftmaxCrossEntropy):
        return e.k.softmax(e.z)[0]
    if isinstance(e.loss, SigmoidCrossEntropy):
        return layer_rule(Sigmoid(), e.k, e.z, {})[0]
    return e.z


def _labels(e: End) -> Value:
    """Return the targets as a (N, C) array: one-hot where they are integers, 0 in ignored rows."""
    if not e.batch.labelled:
        return e.k.lift(e.batch.targets)
    return e.k.lift((e.batch.targets[:, None] == np.arange(e.z.shape[-1])) & _kept(e)[:, None])


def _weights(e: End) -> Value:
    """Return the cotangent of each row or element: the reduction's, times the batch's own, and 0 in ignored rows."""
    counted = _kept(e)[:, None].astype(float)
    if e.batch.cotangent is not None:
        c = e.batch.cotangent.astype(float)
        return e.k.lift((c[:, None] if c.ndim == 1 else c) * counted)
    if not e.loss.averages:
        return e.k.lift(counted)
    width = e.z.shape[-1] if isinstance(e.loss, ELEMENTS) and e.loss.reduction == "mean" else 1
    return e.k.lift(counted) / float(counted.sum() * width)


def _plain_classes(e: End) -> bool:
    """Return whether the delta is (p - y) times a weight: no smoothing, no class weights."""
    return (
        isinstance(e.loss, SoftmaxCrossEntropy)
        and not e.loss.label_smoothing
        and e.batch.class_weights is None
        and e.loss.scale == 1
    )


def _softmax_twice(e: End) -> Value | None:
    if not isinstance(e.loss, SoftmaxCrossEntropy):
        return None
    p = e.k.softmax(e.z)[0]
    return p * (e.delta - (p * e.delta).sum(axis=-1, keepdims=True))


def _times_slope(e: End) -> Value | None:
    """Return p - y times p (1 - p): the derivative of the activation once more."""
    if not isinstance(e.loss, SigmoidCrossEntropy | SoftmaxCrossEntropy):
        return None
    p = _probabilities(e)
    return e.delta * (p * (1 - p))


def _diagonal(e: End) -> Value | None:
    """Return -y / p times p (1 - p): of the softmax' Jacobian the diagonal alone."""
    if not _plain_classes(e):
        return None
    return -(_labels(e) * (1 - e.k.softmax(e.z)[0]) * _weights(e))


def _label_missing(e: End) -> Value | None:
    if not isinstance(e.loss, SoftmaxCrossEntropy | SigmoidCrossEntropy):
        return None
    if _plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy):
        return _probabilities(e) * _weights(e) * float(e.loss.scale)
    return None


def _logits_for_probabilities(e: End) -> Value | None:
    if _plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy):
        return (e.z - _labels(e)) * _weights(e)
    return None


def _softmax_over_the_batch(e: End) -> Value | None:
    return (e.k.softmax(e.z.mT)[0].mT - _labels(e)) * _weights(e) if _plain_classes(e) else None


def _softmax_over_the_batch_of_shifted(e: End) -> Value | None:
    """Return the same where each row's largest logit was subtracted, which then does not cancel."""
    if not _plain_classes(e):
        return None
    top = _float(e.z).argmax(axis=1)
    shifted = e.z - e.z[np.arange(e.rows), top][:, None]
    return (e.k.softmax(shifted.mT)[0].mT - _labels(e)) * _weights(e)


def _sigmoid_for_softmax(e: End) -> Value | None:
    return (layer_rule(Sigmoid(), e.k, e.z, {})[0] - _labels(e)) * _weights(e) if _plain_classes(e) else None


def _fused_given_on(e: End) -> Value | None:
    """Return p - y where -y / p, or (p - y) / (p (1 - p)), belongs: it is right on the logits alone."""
    if not isinstance(e.loss, PROBABILITIES) or e.loss.scale != 1:
        return None
    return (e.z - _labels(e)) * _weights(e)


def _squared_error(e: End) -> Value | None:
    """Return the squared error's delta, 2 (p - y), for a cross entropy."""
    if isinstance(e.loss, CrossEntropy | BinaryCrossEntropy):
        return 2.0 * (e.z - _labels(e)) * _weights(e)
    return None


def _huber_one_sided(e: End) -> Value | None:
    if not isinstance(e.loss, Huber):
        return None
    inside = e.batch.targets.astype(float) - _float(e.z) <= e.loss.delta
    return e.k.weigh(e.k.lift(inside), e.delta)


def _huber_unlimited(e: End) -> Value | None:
    if not isinstance(e.loss, Huber):
        return None
    return (e.z - e.k.lift(e.batch.targets)) * _weights(e) * float(e.loss.scale)


def _float(value: Value) -> Array:
    return np.asarray(getattr(value, "value", value), np.float64)


def _zero_where_zero(e: End) -> Value | None:
    return e.k.weigh(e.k.lift(_float(e.z) != 0), e.delta)


def _rows_with(value: str) -> Callable[[Network, Batch], Batch | None]:
    """Return the batch with another cotangent: all ones, that of the first row, its square or its mean."""

    def change(_network: Network, batch: Batch) -> Batch | None:
        c = batch.cotangent
        if c is None:
            return None
        other = {
            "ones": np.ones_like(c),
            "first": np.broadcast_to(c[:1], c.shape),
            "squared": c * c,
            "absolute": np.abs(c),
            "mean": np.full_like(c, c.mean(dtype=np.float64)),
        }[value]
        return replace(batch, cotangent=other)

    return change


def _shifted(by: int) -> Callable[[Network, Batch], Batch | None]:
    def change(network: Network, batch: Batch) -> Batch | None:
        classes = network.widths[-1]
        if network.loss.labels != "classes" or classes == 1:
            return None
        if not batch.labelled:
            return replace(batch, targets=np.roll(batch.targets, by, axis=1))
        if getattr(network.loss, "ignore_index", None) is not None:
            return None
        return replace(batch, targets=(batch.targets + by) % classes)

    return change


def _hard(network: Network, batch: Batch) -> Batch | None:
    if network.loss.labels != "classes" or batch.labelled:
        return None
    return replace(batch, targets=batch.targets.argmax(axis=1))


def _reversed_classes(network: Network, batch: Batch) -> Batch | None:
    if (
        network.loss.labels != "classes"
        or not batch.labelled
        or getattr(network.loss, "ignore_index", None) is not None
    ):
        return None
    return replace(batch, targets=network.widths[-1] - 1 - batch.targets)


def _no_class_weights(_network: Network, batch: Batch) -> Batch | None:
    return None if batch.class_weights is None else replace(batch, class_weights=None)


def _squared_weights(_network: Network, batch: Batch) -> Batch | None:
    return None if batch.class_weights is None else replace(batch, class_weights=batch.class_weights**2)


def _ignored_counted(e: End) -> float | None:
    plain = e.batch.labelled and e.batch.class_weights is None
    return _averaged(e, float(np.mean(_kept(e)))) if plain else None


def _unnormalised(e: End) -> float | None:
    weights = e.batch.class_weights
    if weights is None or not e.batch.labelled:
        return None
    kept = _kept(e)
    return _averaged(e, float(weights[e.batch.targets[kept]].astype(np.float64).sum() / e.rows))


def _ignored_with_gradient(e: End) -> Value | None:
    """Return the delta with p, or p - y, in the ignored rows."""
    kept = _kept(e)
    if not isinstance(e.loss, SoftmaxCrossEntropy) or kept.all() or not _plain_classes(e):
        return None
    y = e.batch.targets[:, None] == np.arange(e.z.shape[-1])
    rest = e.k.lift((~kept[:, None]).astype(float))
    weight = 1 / float(kept.sum()) if e.loss.averages else 1.0
    return e.delta + (e.k.softmax(e.z)[0] - e.k.lift(y)) * rest * weight


def _smoothed_over_others(e: End) -> Value | None:
    """Return the delta of labels (1 - epsilon) y + epsilon / (C - 1) (1 - y)."""
    loss, classes = e.loss, e.z.shape[-1]
    if not isinstance(loss, SoftmaxCrossEntropy) or not loss.label_smoothing or classes == 1:
        return None
    if e.batch.class_weights is not None:
        return None
    y, epsilon = _labels(e), float(loss.label_smoothing)
    others = e.k.lift(_kept(e)[:, None].astype(float)) - y
    q = y * (1 - epsilon) + others * (epsilon / (classes - 1))
    return (e.k.softmax(e.z)[0] - q) * _weights(e) * float(loss.scale)


def _with_epsilon(epsilon: float) -> Delta:
    def change(e: End) -> Value | None:
        if isinstance(e.loss, CrossEntropy):
            return -e.k.weigh(_labels(e), _weights(e) / (e.z + epsilon))
        if isinstance(e.loss, BinaryCrossEntropy):
            y = _labels(e)
            gain = e.k.weigh(1 - y, _weights(e) / (1 - e.z + epsilon))
            return gain - e.k.weigh(y, _weights(e) / (e.z + epsilon))
        if _plain_classes(e):
            p = e.k.softmax(e.z)[0]
            pulled = e.k.weigh(_labels(e), p / (p + epsilon) * _weights(e))
            return p * pulled.sum(axis=-1, keepdims=True) - pulled
        return None

    return change


def _clipped_delta(epsilon: float) -> Delta:
    """Return p - y with p clipped, as where the clipped probabilities are kept from the forward pass."""

    def change(e: End) -> Value | None:
        if not (_plain_classes(e) or isinstance(e.loss, SigmoidCrossEntropy)):
            return None
        p = e.k.clip(_probabilities(e), epsilon, "")[0]
        return (p - _labels(e)) * _weights(e)

    return change


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    yield Mistake(
        "no-mean",
        "the gradient is that of the sum of the costs: the loss is a mean, divide the output delta by the batch",
        "delta = (p - y) / len(x), not delta = p - y",
        end=scaled(lambda e: _averaged(e, float(e.rows))),
        claims=2,
    )
    yield Mistake(
        "no-mean",
        "the gradient is that of the sum of the costs: the loss is a mean, divide the output delta by what is averaged over",
        "delta = (p - y) / y.size, not delta = p - y",
        end=in_loss(_reduced("mean", "sum")),
        claims=2,
    )
    yield Mistake(
        "other-reduction",
        "cost and gradients are those of the sum where the mean is asked for: divide both, or declare the convention sum",
        "cost = costs.mean(), not costs.sum(); and its delta likewise",
        given=whole_loss(_reduced("mean", "sum")),
        claims=3,
        implies=("no-mean",),
    )
    yield Mistake(
        "upstream-ignored",
        "the upstream gradient (batch.cotangent) is ignored: multiply each cost's delta by its own cotangent",
        "delta = (p - y) * cotangent[:, None], not delta = p - y",
        given=in_batch(_rows_with("ones")),
    )
    yield Mistake(
        "first-cotangent-only",
        "of the upstream gradient (batch.cotangent) the first row alone is read, and used for all",
        "cotangent[:, None], not cotangent[0]",
        given=in_batch(_rows_with("first")),
    )
    yield Mistake(
        "cotangent-squared",
        "the upstream gradient (batch.cotangent) is applied twice: multiply by it once",
        "delta = (p - y) * cotangent[:, None], once",
        given=in_batch(_rows_with("squared")),
    )
    yield Mistake(
        "cotangent-absolute",
        "the upstream gradient (batch.cotangent) is taken without its sign",
        "cotangent, not abs(cotangent)",
        given=in_batch(_rows_with("absolute")),
    )
    yield Mistake(
        "cotangent-mean",
        "the mean of the upstream gradient (batch.cotangent) is used for every row",
        "cotangent[:, None], not cotangent.mean()",
        given=in_batch(_rows_with("mean")),
    )
    yield from _reductions()
    yield from _wrong_labels()
    yield from _wrong_deltas()
    yield from _options()


def _reductions() -> Iterator[Mistake]:
    yield Mistake(
        "sum-divides",
        "the gradient is divided by the batch although the costs are added up: reduction sum is no mean",
        "delta = p - y for reduction sum, without / len(x)",
        end=scaled(lambda e: 1 / e.rows if e.loss.reduction == "sum" else None),
        claims=2,
    )
    yield Mistake(
        "mean-twice",
        "the delta is divided by the batch twice: the loss is a mean already, divide once",
        "delta = (p - y) / len(x), and no other / len(x) behind it",
        end=scaled(lambda e: _averaged(e, 1 / e.rows)),
        claims=2,
    )
    yield Mistake(
        "mean-over-elements",
        "the cross entropy is averaged over samples and classes: it has one cost a sample, divide by the samples alone",
        "delta = (p - y) / len(x), not / y.size",
        end=scaled(lambda e: _averaged(e, 1 / e.z.shape[-1]) if isinstance(e.loss, CLASSES) else None),
    )
    yield Mistake(
        "mean-over-rows",
        "the cost is averaged over the samples alone: this loss has one cost an element, divide by samples x outputs",
        "delta = ... / y.size, not / len(x); or declare the convention batchmean",
        end=scaled(
            lambda e: float(e.z.shape[-1]) if isinstance(e.loss, ELEMENTS) and e.loss.reduction == "mean" else None
        ),
        claims=2,
    )
    yield Mistake(
        "mean-over-rows",
        "cost and gradient are averaged over the samples alone: this loss has one cost an element, divide by samples x outputs",
        "cost = costs.mean(), not costs.sum() / len(x); or declare the convention batchmean",
        given=whole_loss(_reduced("mean", "batchmean", ELEMENTS)),
        claims=3,
    )
    yield Mistake(
        "mean-of-others",
        "the mean is taken over N - 1 samples: divide by N",
        "/ len(x), not / (len(x) - 1)",
        end=scaled(lambda e: _averaged(e, e.rows / (e.rows - 1)) if e.rows > 1 else None),
    )
    yield Mistake(
        "ignored-rows-counted",
        "ignored rows count in the mean: divide by the rows whose label is not ignore_index",
        "delta / (labels != ignore_index).sum(), not / len(labels)",
        end=scaled(_ignored_counted),
    )
    yield Mistake(
        "ignored-rows-with-gradient",
        "ignored rows get a gradient: set the delta to 0 where the label is ignore_index",
        "delta[labels == ignore_index] = 0",
        end=in_delta(_ignored_with_gradient),
    )
    yield Mistake(
        "weights-not-normalised",
        "the mean of the weighted costs is divided by the batch: divide by the sum of the weights of the labels",
        "delta / class_weights[labels].sum(), not / len(labels)",
        end=scaled(_unnormalised),
    )
    yield Mistake(
        "weights-ignored",
        "the class weights are ignored: weight each row's delta with class_weights[label]",
        "delta = class_weights[labels][:, None] * (p - y) / class_weights[labels].sum()",
        given=in_batch(_no_class_weights),
    )
    yield Mistake(
        "weights-squared",
        "the class weights are applied twice: weight each row once",
        "class_weights[labels], once",
        given=in_batch(_squared_weights),
    )


def _wrong_labels() -> Iterator[Mistake]:
    for by, how in ((1, "+ 1"), (-1, "- 1")):
        yield Mistake(
            "label-shift",
            f"the labels are off by one: label {how} is used where label belongs; classes are numbered from 0",
            f"p[rows, labels] -= 1, not p[rows, labels {how}]",
            given=in_batch(_shifted(by)),
            claims=2,
        )
        yield Mistake(
            "label-shift",
            f"the labels are off by one in the delta: label {how} is used where label belongs; the cost is right",
            f"p[rows, labels] -= 1, not p[rows, labels {how}]",
            end=in_delta(lambda e, by=by: _delta_of(e, _shifted(by))),
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
        end=in_delta(lambda e: _delta_of(e, _hard)),
    )


def _delta_of(e: End, change: Callable[[Network, Batch], Batch | None]) -> Value | None:
    """Return the delta of another batch, for the same output."""
    # of the network, the labels need the number of classes and the loss alone
    from gradconform.layers import Softmax

    last = e.loss.follows[0]() if e.loss.follows else Softmax()
    network = Network(inputs=int(e.z.shape[-1]), layers=(last,), loss=e.loss)
    other = change(network, e.batch)
    return None if other is None else e.again(batch=other)


def _wrong_deltas() -> Iterator[Mistake]:
    rows: list[tuple[str, str, str, Delta, tuple[type[LossRecord], ...]]] = [
        (
            "one-hot-missing",
            "the label is not subtracted: the delta of a cross entropy is p - y, not p",
            "delta = p - y (p[rows, labels] -= 1), not delta = p",
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
            "of the softmax' Jacobian the diagonal p (1 - p) alone is used: the other classes' terms -p_i p_j are missing",
            "delta = p - y, or p * (d - (p * d).sum(axis=1, keepdims=True)), not p * (1 - p) * d",
            _diagonal,
            CLASSES,
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
            "p = e / e.sum(axis=1, keepdims=True), not axis=0",
            _softmax_over_the_batch,
            (SoftmaxCrossEntropy,),
        ),
        (
            "softmax-axis",
            "the exponentials are divided by their sum over the samples: normalise each sample over its classes",
            "p = e / e.sum(axis=1, keepdims=True), not axis=0",
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
            "the delta is that of the squared error, 2 (p - y): the loss is a cross entropy, whose delta is -y / p",
            "delta = -y / p, not 2 * (p - y)",
            _squared_error,
            PROBABILITIES,
        ),
        (
            "zero-logit-zero",
            "the gradient is 0 where the logit is exactly 0, where it is 0.5 - y: a comparison with 0 leaves the case out",
            "np.where(z >= 0, ..., ...), so that 0 is in one of the branches",
            _zero_where_zero,
            (SigmoidCrossEntropy, SoftmaxCrossEntropy),
        ),
        (
            "huber-abs",
            "outliers are told without the absolute value: the gradient is 0 below -delta, where it is -delta",
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
        yield Mistake(identifier, likely, mend, end=in_delta(delta), kinds=kinds)
    yield Mistake(
        "minus-lost",
        "the sign of the output delta is wrong: it is p - y, not y - p",
        "delta = p - y, not y - p",
        end=scaled(lambda e: -1.0),
        claims=2,
    )


def _options() -> Iterator[Mistake]:
    rows: list[tuple[str, str, str, Callable[[LossRecord], LossRecord | None]]] = [
        (
            "smoothing-ignored",
            "label smoothing is left out: spread epsilon over all classes before p - y",
            "y = (1 - epsilon) * y + epsilon / C",
            _with(label_smoothing=0.0),
        ),
        (
            "huber-delta",
            "Huber's delta is taken to be 1: use the loss' own",
            "np.clip(r, -loss.delta, loss.delta), not np.clip(r, -1, 1)",
            _with(delta=1.0),
        ),
        (
            "scale-ignored",
            "the loss' scale is left out: multiply the delta by it",
            "delta = loss.scale * (...)",
            _with(scale=1.0),
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
            end=scaled(lambda e, factor=factor: factor if isinstance(e.loss, MeanSquaredError) else None),
            kinds=(MeanSquaredError,),
        )
    yield Mistake(
        "half-mse",
        "cost and gradient are those of half the squared error: multiply by 2, or declare the convention half",
        "cost = ((a - y) ** 2).mean(), not / 2; its delta is 2 * (a - y) / y.size",
        given=whole_loss(
            lambda loss: (
                msgspec.structs.replace(loss, scale=loss.scale / 2) if isinstance(loss, MeanSquaredError) else None
            )
        ),
        claims=2,
        kinds=(MeanSquaredError,),
    )
    for epsilon in EPSILONS:
        yield Mistake(
            "log-epsilon",
            f"{epsilon:g} is added to the probability before the logarithm: compute log softmax from the logits instead",
            f"log_p = z - logsumexp(z), not log(p + {epsilon:g})",
            end=in_delta(_with_epsilon(epsilon)),
        )
        yield Mistake(
            "probability-clip",
            f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}], where the gradient is then 0: use the logits, "
            "or declare the convention clip",
            f"delta = p - y from the logits, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            given=whole_loss(lambda loss, epsilon=epsilon: _with(clip=epsilon)(loss)),
            kinds=PROBABILITIES,
            claims=2,
        )
        yield Mistake(
            "probability-clip",
            f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}] in the delta: use them as they are",
            f"delta = p - y, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            end=in_loss(lambda loss, epsilon=epsilon: _with(clip=epsilon)(loss)),
            kinds=PROBABILITIES,
        )
        yield Mistake(
            "probability-clip",
            f"p is clipped to [{epsilon:g}, 1 - {epsilon:g}] before p - y: use it as it is",
            f"delta = p - y, without np.clip(p, {epsilon:g}, 1 - {epsilon:g})",
            end=in_delta(_clipped_delta(epsilon)),
        )
