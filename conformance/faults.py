"""Planted faults, by what they get wrong: the loss, a linear layer, an activation. Each is caught in a test.

Those of precision, saturation and kinks stand in `gradconform.conformance.inaccuracies`, those of state and memory in
`gradconform.conformance.carelessness`; all are in `FAULTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.carelessness import CARELESSNESS
from gradconform.conformance.inaccuracies import INACCURACIES
from gradconform.conformance.planting import (
    Fault,
    Found,
    in_activations,
    in_batch,
    in_delta,
    in_network,
    in_parameters,
    in_rules,
    planted,
    pulled,
)
from gradconform.layers import GELU, Dense, LeakyReLU, Record, Softmax
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
from gradconform.reference.layers import Pullback, layer_rule

FAULTS: dict[str, Fault] = {**INACCURACIES, **CARELESSNESS}
plant = partial(planted, FAULTS)


def _softmax(z: Array) -> Array:
    return np.asarray(Plain(z.dtype).softmax(z)[0])


def _weights_of(loss: LossRecord, batch: Batch) -> Array:
    """Return the class weight of every sample that counts."""
    assert batch.class_weights is not None  # noqa: S101 - asked for where there are some
    return np.asarray(batch.class_weights[batch.targets[batch.targets != getattr(loss, "ignore_index", None)]])


# The loss and the output delta.

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
    in_delta(lambda delta, loss, batch, z: _softmax(z) / (batch.rows if loss.reduction == "mean" else 1)),
    SoftmaxCrossEntropy,
)
plant(
    "softmax-twice",
    "the Jacobian of the softmax is applied on top of p - y",
    in_delta(lambda delta, loss, batch, z: _softmax(z) * (delta - (_softmax(z) * delta).sum(1, keepdims=True))),
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
            delta * float(np.mean(batch.targets != getattr(loss, "ignore_index", None)))
            if loss.reduction == "mean" and batch.targets.ndim == 1 and batch.class_weights is None
            else delta
        )
    ),
    SoftmaxCrossEntropy,
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
    SoftmaxCrossEntropy,
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


# Linear layers.


def _dense(change: Callable[[Dense, Array, Mapping[str, Array], Array], tuple[Array, dict[str, Array]]]) -> Any:
    """Return a layer rule with another pullback for dense layers: `change(layer, x, parameters, delta)`."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        output, pullback = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, Dense):
            return output, pullback
        return output, lambda delta: change(layer, x, parameters, delta)

    return rule


def _right(
    layer: Dense, x: Array, parameters: Mapping[str, Array], delta: Array, **wrong: Array
) -> tuple[Array, dict[str, Array]]:
    """Return the right pullback of a dense layer, with what is given instead."""
    found = {"weight": x.T @ delta, **({"bias": delta.sum(axis=0)} if layer.bias else {})}
    below = wrong.pop("below", None)
    found |= {name: array for name, array in wrong.items() if name in found}
    return delta @ parameters["weight"].T if below is None else below, found


def _square(array: Array) -> bool:
    return bool(array.shape[0] == array.shape[1])


plant(
    "transposed",
    "dC/dw is transposed where the weight is square",
    in_parameters(lambda path, array, *_: array.T if array.ndim == 2 and _square(array) else array),
)
plant(
    "weight-not-transposed",
    "the delta is propagated through W instead of its transpose where the weight is square",
    in_rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, below=delta @ (p["weight"] if _square(p["weight"]) else p["weight"].T)
            )
        )
    ),
)
plant(
    "wrong-activation",
    "dC/dw uses the layer's own output instead of the incoming activation where both are as wide",
    in_rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, weight=((x @ p["weight"]) if _square(p["weight"]) else x).T @ delta
            )
        )
    ),
)
plant(
    "updated-weights",
    "the delta is propagated through weights that were updated already",
    in_rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, below=delta @ (p["weight"] - np.asarray(0.01, x.dtype) * (x.T @ delta)).T
            )
        )
    ),
)
plant(
    "bias-scalar",
    "one sum over samples and units is the gradient of every bias",
    in_rules(
        _dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=np.full(layer.units, delta.sum(), x.dtype)))
    ),
)
plant(
    "bias-mean",
    "the bias gradient is averaged over the batch where the loss already is",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=delta.mean(axis=0)))),
)
plant(
    "bias-first-row",
    "the bias gradient is that of the first sample",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=delta[0]))),
)
plant(
    "bias-missing",
    "the bias gradient is 0",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=np.zeros(layer.units, x.dtype)))),
)
plant(
    "last-sample-dropped",
    "the last sample of a batch is left out of the gradients of the weights",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, weight=x[:-1].T @ delta[:-1]))),
)
plant(
    "l2-added",
    "weight decay in the gradient of a loss without it",
    in_parameters(lambda path, array, parameters, *_: array + np.asarray(1e-4, array.dtype) * parameters[path]),
)
plant(
    "clipped",
    "gradients are clipped to 1",
    in_parameters(lambda path, array, *_: np.clip(array, -1, 1)),
)


# Activations.


def _softmax_diagonal(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
    p, pullback = layer_rule(layer, k, x, parameters)
    return p, (lambda delta: (p * (1 - p) * delta, {})) if isinstance(layer, Softmax) else pullback


plant("derivative-missing", "sigma'(z) is left out", in_activations(lambda layer, k, z, a, delta: delta))
plant(
    "derivative-at-output",
    "sigma'(a) instead of sigma'(z)",
    in_activations(lambda layer, k, z, a, delta: pulled(layer, k, a, delta)),
)
plant(
    "mask-from-output",
    "the mask of a leaky ReLU is taken on the wrong side",
    in_activations(lambda layer, k, z, a, delta: pulled(layer, k, -z if isinstance(layer, LeakyReLU) else z, delta)),
)
plant(
    "gelu-mixed",
    "GELU goes forward in one form and backward in the other",
    in_activations(
        lambda layer, k, z, a, delta: pulled(
            GELU("none" if layer.approximate == "tanh" else "tanh") if isinstance(layer, GELU) else layer, k, z, delta
        )
    ),
)
plant(
    "upstream-squared",
    "the upstream gradient is applied twice",
    in_activations(lambda layer, k, z, a, delta: pulled(layer, k, z, delta * delta)),
)
plant(
    "softmax-diagonal",
    "the Jacobian of a Softmax layer is only its diagonal",
    in_rules(_softmax_diagonal),
    MeanSquaredError,
    Huber,
    SigmoidCrossEntropy,
)


# Everything at once.


plant("loss-scale", "a loss scale of 1024 is not divided out", in_parameters(lambda path, array, *_: array * 1024))
plant(
    "minus-lost",
    "the gradients point uphill and down: the sign is wrong",
    in_parameters(lambda path, array, *_: -array),
)
plant(
    "other-reduction",
    "the sum where the mean is asked for, in cost and gradients",
    in_network(
        lambda network: (
            msgspec.structs.replace(network, loss=msgspec.structs.replace(network.loss, reduction="sum"))
            if network.loss.reduction == "mean"
            else network
        )
    ),
)
