"""Planted faults in the loss, its reduction and the output delta; those of cross entropies alone stand beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.planting import (
    Fault,
    Found,
    alone,
    in_batch,
    in_delta,
    in_network,
    in_parameters,
    planted,
)
from gradconform.losses import (
    CrossEntropy,
    Huber,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import gradients

FAULTY_LOSSES: dict[str, Fault] = {}
plant = partial(planted, FAULTY_LOSSES)


def softmax(z: Array) -> Array:
    """Return the probabilities of each row."""
    return np.asarray(Plain(z.dtype).softmax(z)[0])


def counted(loss: LossRecord, batch: Batch) -> Array:
    """Return which rows have a label that is not ignored."""
    return np.asarray(batch.targets != getattr(loss, "ignore_index", None))


def _upstream_of_elements(loss: LossRecord, batch: Batch) -> Array:
    """Return what each element's cost is weighted with, (N, C)."""
    if batch.cotangent is not None:
        return batch.cotangent
    return np.full(batch.targets.shape, 1 / batch.targets.size if loss.averages else 1.0)


def _weights_of(loss: LossRecord, batch: Batch) -> Array:
    """Return the class weight of every sample that counts."""
    assert batch.class_weights is not None  # noqa: S101 - asked for where there are some
    return np.asarray(batch.class_weights[batch.targets[counted(loss, batch)]])


# The reduction.

plant(
    "no-mean",
    "the delta is not divided by the batch size under the mean",
    in_delta(lambda delta, loss, batch, z: delta * batch.rows if loss.reduction == "mean" else delta),
)
plant(
    "mean-twice",
    "the delta is divided by the batch size, and the gradients of the parameters again",
    in_parameters(
        lambda path, array, _, batch, network: array / batch.rows if network.loss.reduction == "mean" else array
    ),
)
plant(
    "sum-divides",
    "the sum is divided by the batch size all the same",
    in_delta(lambda delta, loss, batch, z: delta / batch.rows if loss.reduction == "sum" else delta),
)
plant(
    "mean-over-elements",
    "a cross entropy is averaged over samples and classes",
    in_delta(lambda delta, loss, batch, z: delta / delta.shape[1] if loss.reduction == "mean" else delta),
    SoftmaxCrossEntropy,
    CrossEntropy,
)
plant(
    "one-hot-missing",
    "the delta is p, the label is not subtracted",
    in_delta(lambda delta, loss, batch, z: softmax(z) / (batch.rows if loss.reduction == "mean" else 1)),
    SoftmaxCrossEntropy,
)
plant(
    "softmax-twice",
    "the Jacobian of the softmax is applied on top of p - y",
    in_delta(lambda delta, loss, batch, z: softmax(z) * (delta - (softmax(z) * delta).sum(1, keepdims=True))),
    SoftmaxCrossEntropy,
)
plant(
    "label-shift",
    "the labels are off by one",
    in_batch(
        lambda batch, network: (
            replace(batch, targets=(batch.targets + 1) % network.widths[-1])
            if batch.targets.ndim == 1 and getattr(network.loss, "ignore_index", None) is None
            else batch
        )
    ),
    SoftmaxCrossEntropy,
    CrossEntropy,
)
plant(
    "soft-as-hard",
    "soft labels are replaced by the most probable class",
    in_batch(
        lambda batch, network: (
            replace(batch, targets=batch.targets.argmax(axis=1)) if batch.targets.ndim == 2 else batch
        )
    ),
    SoftmaxCrossEntropy,
    CrossEntropy,
)
plant(
    "upstream-ignored",
    "the backward pass of the loss ignores the upstream gradient",
    in_batch(
        lambda batch, network: (
            batch if batch.cotangent is None else replace(batch, cotangent=np.ones_like(batch.cotangent))
        )
    ),
)
plant(
    "first-cotangent-only",
    "only the first row of the upstream gradient is read",
    in_batch(
        lambda batch, network: (
            batch
            if batch.cotangent is None
            else replace(batch, cotangent=np.broadcast_to(batch.cotangent[:1], batch.cotangent.shape))
        )
    ),
)
plant(
    "ignored-rows-counted",
    "ignored rows count in the mean",
    in_delta(
        lambda delta, loss, batch, z: (
            delta * float(np.mean(counted(loss, batch)))
            if loss.reduction == "mean" and batch.targets.ndim == 1 and batch.class_weights is None
            else delta
        )
    ),
    networks="4 -> Dense(3), SoftmaxCrossEntropy(ignore_index=-100)",
)
plant(
    "weights-not-normalised",
    "class weights: the mean divides by the batch size",
    in_delta(
        lambda delta, loss, batch, z: (
            delta * float(_weights_of(loss, batch).sum() / batch.rows)
            if loss.reduction == "mean" and batch.targets.ndim == 1 and batch.class_weights is not None
            else delta
        )
    ),
    networks="* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy",
)
plant(
    "sigmoid-extra",
    "the fused sigmoid cross entropy is multiplied by a (1 - a)",
    in_delta(lambda delta, loss, batch, z: delta / (2 + np.exp(-np.abs(z)) + np.exp(np.abs(z)))),
    SigmoidCrossEntropy,
)
plant(
    "half-mse",
    "half of the squared error",
    in_delta(lambda delta, loss, batch, z: delta / 2),
    MeanSquaredError,
)
plant(
    "huber-abs",
    "outliers are told without the absolute value: no gradient below -delta",
    in_delta(lambda delta, loss, batch, z: np.where(z - batch.targets < -loss.delta, 0, delta)),  # type: ignore[attr-defined]
    Huber,
)
plant(
    "smoothing-ignored",
    "label smoothing is in the cost and not in the gradient",
    lambda: _smoothing_ignored,
    SoftmaxCrossEntropy,
)


def _smoothing_ignored(network: Network, parameters: Parameters, batch: Batch) -> Found:
    if not isinstance(network.loss, SoftmaxCrossEntropy):
        return gradients(network, parameters, batch)
    hard = msgspec.structs.replace(network.loss, label_smoothing=0.0)
    found = gradients(msgspec.structs.replace(network, loss=hard), parameters, batch)
    return replace(found, loss=gradients(network, parameters, batch).loss)


# Factors and signs.

plant(
    "twice-mse",
    "the factor 2 of the squared error stands twice in the gradient",
    alone(in_delta(lambda delta, loss, batch, z: 2 * delta)),
    MeanSquaredError,
)
plant(
    "delta-sign",
    "the output delta is y - a instead of a - y",
    in_delta(lambda delta, loss, batch, z: -delta),
    symptoms=("minus-lost",),
)
plant(
    "log-base-two",
    "the logarithm of the cross entropy has base 2, in cost and gradients",
    in_network(
        lambda network: msgspec.structs.replace(
            network, loss=msgspec.structs.replace(network.loss, scale=1 / float(np.log(2)))
        )
    ),
    SoftmaxCrossEntropy,
    SigmoidCrossEntropy,
    symptoms=("log-base",),
)
plant(
    "mean-over-rows",
    "the squared error is summed over the outputs and averaged over the samples alone",
    in_network(
        lambda network: (
            msgspec.structs.replace(network, loss=msgspec.structs.replace(network.loss, reduction="batchmean"))
            if network.loss.reduction == "mean"
            else network
        )
    ),
    MeanSquaredError,
    Huber,
)
plant(
    "mean-over-one-less",
    "the mean divides by N - 1",
    alone(
        in_delta(
            lambda delta, loss, batch, z: (
                delta * batch.rows / (batch.rows - 1) if loss.averages and batch.rows > 1 else delta
            )
        )
    ),
    symptoms=("mean-of-others",),
)
plant(
    "none-averaged",
    "without a reduction the gradient is divided by the batch size all the same",
    in_delta(lambda delta, loss, batch, z: delta / batch.rows if loss.reduction == "none" else delta),
)
plant(
    "cotangent-squared",
    "the cotangent of an unreduced loss is applied twice",
    alone(
        in_batch(
            lambda batch, network: (
                batch if batch.cotangent is None else replace(batch, cotangent=batch.cotangent * batch.cotangent)
            )
        )
    ),
    symptoms=("upstream-squared",),
)


# Squared and Huber errors.

plant(
    "mean-before-square",
    "the residuals are averaged over the batch before they are squared",
    alone(
        in_delta(
            lambda delta, loss, batch, z: (
                delta if loss.reduction == "none" else np.broadcast_to(delta.mean(axis=0), delta.shape)
            )
        )
    ),
    MeanSquaredError,
)
plant(
    "absolute-error",
    "the gradient is that of the absolute error, sign(a - y)",
    in_delta(lambda delta, loss, batch, z: np.sign(z - batch.targets) * _upstream_of_elements(loss, batch)),
    MeanSquaredError,
)
plant(
    "targets-centred",
    "the mean of the targets over the batch is subtracted from them",
    alone(in_batch(lambda batch, network: replace(batch, targets=batch.targets - batch.targets.mean(axis=0)))),
    MeanSquaredError,
    Huber,
)
plant(
    "huber-slope",
    "the gradient of an outlier is 1 instead of delta",
    in_delta(
        lambda delta, loss, batch, z: np.where(
            np.abs(z - batch.targets) > loss.delta,  # type: ignore[attr-defined]
            delta / loss.delta,  # type: ignore[attr-defined]
            delta,
        )
    ),
    Huber,
)
plant(
    "huber-quadratic",
    "outliers have the gradient of the squared error too",
    alone(in_delta(lambda delta, loss, batch, z: (z - batch.targets) * _upstream_of_elements(loss, batch))),
    Huber,
    symptoms=("huber-unlimited",),
)
