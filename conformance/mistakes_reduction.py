"""Mistakes in how costs become one: the mean, class weights, ignored rows, and the cotangent of what is not reduced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from gradconform.case import Batch
from gradconform.conformance.endpoint import (
    CLASSES,
    ELEMENTS,
    OtherBatch,
    averaged,
    in_batch,
    in_delta,
    in_loss,
    kept,
    number,
    plain_classes,
    scaled,
    whole_loss,
)
from gradconform.conformance.mistake import End, Mistake
from gradconform.losses import (
    LossRecord,
    SoftmaxCrossEntropy,
)
from gradconform.reference.arithmetic import Value


def _reduced(was: str, becomes: str, kinds: tuple[type[LossRecord], ...] = ()) -> Callable[[LossRecord], LossRecord]:
    def change(loss: LossRecord) -> LossRecord:
        fits = loss.reduction == was and (not kinds or isinstance(loss, kinds))
        return msgspec.structs.replace(loss, reduction=becomes) if fits else loss

    return change


def _rows_with(value: str) -> OtherBatch:
    """Return the batch with another cotangent: all ones, that of the first row, its square or its mean."""

    def change(_loss: LossRecord, _outputs: int, batch: Batch) -> Batch | None:
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


def _no_class_weights(_loss: LossRecord, _outputs: int, batch: Batch) -> Batch | None:
    return None if batch.class_weights is None else replace(batch, class_weights=None)


def _squared_weights(_loss: LossRecord, _outputs: int, batch: Batch) -> Batch | None:
    return None if batch.class_weights is None else replace(batch, class_weights=batch.class_weights**2)


def _ignored_counted(e: End) -> float | None:
    plain = e.batch.labelled and e.batch.class_weights is None
    return averaged(e, float(np.mean(kept(e)))) if plain else None


def _unnormalised(e: End) -> float | None:
    weights = e.batch.class_weights
    if weights is None or not e.batch.labelled:
        return None
    counted = kept(e)
    return averaged(e, float(weights[e.batch.targets[counted]].astype(np.float64).sum() / e.rows))


def _ignored_with_gradient(e: End) -> Value | None:
    """Return the delta with p, or p - y, in the ignored rows."""
    counted = kept(e)
    if not isinstance(e.loss, SoftmaxCrossEntropy) or counted.all() or not plain_classes(e):
        return None
    y = e.batch.targets[:, None] == np.arange(e.z.shape[-1])
    rest = e.k.lift((~counted[:, None]).astype(float))
    weight = 1 / float(counted.sum()) if e.loss.averages else 1.0
    return e.delta + (e.k.softmax(e.z)[0] - e.k.lift(y)) * rest * weight


def _ignored_as_first(e: End) -> Value | None:
    """Return the delta with that of the first class in the ignored rows."""
    counted = kept(e)
    if not isinstance(e.loss, SoftmaxCrossEntropy) or counted.all() or e.batch.class_weights is not None:
        return None
    first = e.k.lift((np.arange(e.z.shape[-1]) == 0).astype(float))
    rest = e.k.lift((~counted[:, None]).astype(float))
    weight = 1 / float(counted.sum()) if e.loss.averages else 1.0
    return e.delta + (e.k.softmax(e.z)[0] - first) * rest * weight


def _smoothing_on_ignored(e: End) -> Value | None:
    """Return the delta with epsilon (p - 1 / C) in the ignored rows."""
    counted = kept(e)
    if not isinstance(e.loss, SoftmaxCrossEntropy) or counted.all() or e.batch.class_weights is not None:
        return None
    rest = e.k.lift((~counted[:, None]).astype(float))
    weight = float(e.loss.label_smoothing) * (1 / float(counted.sum()) if e.loss.averages else 1.0)
    return e.delta + (e.k.softmax(e.z)[0] - 1 / e.z.shape[-1]) * rest * weight


def _weights_of_prediction(e: End) -> Value | None:
    """Return the delta weighted with the weight of the most probable class."""
    weights = e.batch.class_weights
    if weights is None or not e.batch.labelled:
        return None
    labels = np.where(kept(e), e.batch.targets, 0)
    predicted = number(e.z).argmax(axis=1)
    return e.delta * e.k.lift((weights[predicted] / weights[labels])[:, None])


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    yield Mistake(
        "no-mean",
        "the gradient is that of the sum of the costs: the loss is a mean, divide the output delta by the batch size",
        "delta = (p - y) / len(x), not delta = p - y",
        end=scaled(lambda e: averaged(e, float(e.rows))),
        claims=2,
    )
    yield Mistake(
        "no-mean",
        "the gradient is that of the sum of the costs: the loss is a mean, divide by what is averaged over",
        "delta = (p - y) / y.size, not delta = p - y",
        end=in_loss(_reduced("mean", "sum")),
        claims=2,
    )
    yield Mistake(
        "other-reduction",
        "cost and gradients are those of the sum where the mean is asked for: divide both, or declare sum",
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
    yield Mistake(
        "sum-divides",
        "the gradient is divided by the batch size although the costs are added up: leave that out",
        "delta = p - y for reduction sum, without / len(x)",
        end=scaled(lambda e: 1 / e.rows if e.loss.reduction == "sum" else None),
        claims=2,
    )
    yield Mistake(
        "mean-twice",
        "the delta is divided by the batch size twice: the loss is a mean already, divide once",
        "delta = (p - y) / len(x), and no other / len(x) behind it",
        end=scaled(lambda e: averaged(e, 1 / e.rows)),
        claims=2,
    )
    yield Mistake(
        "mean-over-elements",
        "the cross entropy is averaged over samples and classes: it has one cost a sample, divide by the samples alone",
        "delta = (p - y) / len(x), not (p - y) / y.size",
        end=scaled(lambda e: averaged(e, 1 / e.z.shape[-1]) if isinstance(e.loss, CLASSES) else None),
    )
    yield Mistake(
        "mean-over-rows",
        "the cost is averaged over the samples alone: this loss has one cost an element, divide by samples x outputs",
        "delta = 2 * (a - y) / y.size, not 2 * (a - y) / len(x) (or declare the convention batchmean)",
        end=scaled(
            lambda e: float(e.z.shape[-1]) if isinstance(e.loss, ELEMENTS) and e.loss.reduction == "mean" else None
        ),
        claims=2,
    )
    yield Mistake(
        "mean-over-rows",
        "cost and gradient are averaged over the samples alone: divide by samples x outputs",
        "cost = costs.mean(), not costs.sum() / len(x); or declare the convention batchmean",
        given=whole_loss(_reduced("mean", "batchmean", ELEMENTS)),
        claims=3,
    )
    yield Mistake(
        "mean-of-others",
        "the mean is taken over N - 1 samples: divide by N",
        "delta = (p - y) / len(x), not (p - y) / (len(x) - 1)",
        end=scaled(lambda e: averaged(e, e.rows / (e.rows - 1)) if e.rows > 1 else None),
    )
    yield Mistake(
        "ignored-rows-counted",
        "ignored rows count in the mean: divide by the rows whose label is not ignore_index",
        "delta / (labels != ignore_index).sum(), not delta / len(labels)",
        end=scaled(_ignored_counted),
    )
    yield Mistake(
        "ignored-rows-with-gradient",
        "ignored rows get a gradient: set the delta to 0 where the label is ignore_index",
        "delta[labels == ignore_index] = 0",
        end=in_delta(_ignored_with_gradient),
    )
    yield Mistake(
        "ignored-as-first",
        "ignored rows get the gradient of the first class: set the delta to 0 where the label is ignore_index",
        "delta[labels == ignore_index] = 0",
        end=in_delta(_ignored_as_first),
    )
    yield Mistake(
        "smoothing-on-ignored",
        "ignored rows get the gradient of the label smoothing: set the delta to 0 where the label is ignore_index",
        "delta[labels == ignore_index] = 0, after the smoothing",
        end=in_delta(_smoothing_on_ignored),
    )
    yield Mistake(
        "weights-of-prediction",
        "rows are weighted by the predicted class: use the weight of the label",
        "class_weights[labels], not class_weights[p.argmax(axis=1)]",
        end=in_delta(_weights_of_prediction),
    )
    yield Mistake(
        "none-averaged",
        "the gradient is divided by the batch size although the costs are not reduced: only the cotangent weights them",
        "delta = (p - y) * cotangent[:, None], without / len(x)",
        end=scaled(lambda e: 1 / e.rows if e.loss.reduction == "none" else None),
    )
    yield Mistake(
        "weights-not-normalised",
        "the mean of the weighted costs is divided by the batch size: divide by the sum of the weights of the labels",
        "delta / class_weights[labels].sum(), not delta / len(labels)",
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
