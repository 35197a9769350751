"""Planted faults of precision, saturation and kinks: formulas that are right on paper, and what loses digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.implementations import Compute
from gradconform.conformance.planting import (
    Fault,
    Found,
    alone,
    around,
    in_delta,
    in_network,
    in_parameters,
    in_rules,
    planted,
)
from gradconform.layers import GELU, Dense, LeakyReLU, Record, ReLU, Softplus, Tanh
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.layers import Pullback, layer_rule
from gradconform.reference.losses import cost

INACCURACIES: dict[str, Fault] = {}
plant = partial(planted, INACCURACIES)


# Saturation.


def _normalised(shifted: Array) -> tuple[Array, Array, Array]:
    e = np.exp(shifted)
    p = e / e.sum(axis=-1, keepdims=True)
    return p, 1 - p, np.log(p)


class _Unshifted(Plain):
    """Softmax as it stands in the textbook."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        return _normalised(z)


class _ShiftedByBatch(Plain):
    """Softmax with one maximum for all samples."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        return _normalised(z - z.max())


def _activation(kind: type[Record], formula: Callable[[Any, Array], tuple[Array, Array]]) -> Callable[[], Compute]:
    """Return a fault in one activation: `formula(layer, z)` gives sigma(z) and sigma'(z)."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        if not isinstance(layer, kind):
            return layer_rule(layer, k, x, parameters)
        a, slope = formula(layer, x)
        return a, lambda delta: (slope * delta, {})

    return in_rules(rule)


def _tanh_by_division(layer: Record, z: Array) -> tuple[Array, Array]:
    up, down = np.exp(z), np.exp(-z)
    a = (up - down) / (up + down)
    return a, 1 - a * a


def _softplus_by_log(layer: Record, z: Array) -> tuple[Array, Array]:
    return np.log(1 + np.exp(z)), 1 / (1 + np.exp(-z))


def _softplus_with_threshold(layer: Record, z: Array) -> tuple[Array, Array]:
    return np.where(z > 20, z, np.logaddexp(z, 0)), np.where(z > 20, 1, 1 / (1 + np.exp(-z)))


plant(
    "unstable-softmax",
    "the largest logit is not subtracted before exp",
    in_rules(arithmetic=_Unshifted),
    SoftmaxCrossEntropy,
)
plant(
    "batch-maximum",
    "the largest logit of the batch, and not of the row, is subtracted before exp",
    in_rules(arithmetic=_ShiftedByBatch),
    SoftmaxCrossEntropy,
)
plant(
    "tanh-by-division",
    "tanh is a quotient of exponentials, which overflow",
    _activation(Tanh, _tanh_by_division),
    networks=around("Tanh"),
)
plant(
    "softplus-by-log",
    "softplus is log(1 + exp(z)), which cancels",
    _activation(Softplus, _softplus_by_log),
    networks=around("Softplus"),
)
plant(
    "softplus-threshold",
    "softplus is z above 20",
    _activation(Softplus, _softplus_with_threshold),
    networks=around("Softplus"),
)


class _OneByOne(Plain):
    """A last Softmax or Sigmoid and its cross entropy, differentiated one after the other."""

    fuses = False


def _on_probabilities(change: Callable[[Array, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the delta of a cross entropy on probabilities: `change(delta, p)`."""

    def end(loss: LossRecord, k: Plain, z: Array, batch: Batch) -> tuple[Array, Array]:
        value, delta = cost(loss, k, z, batch)
        return value, change(delta, z) if isinstance(loss, CrossEntropy | BinaryCrossEntropy) else delta

    return in_rules(end=end, arithmetic=_OneByOne)


plant(
    "log-epsilon",
    "log(p + 1e-8) instead of log p",
    _on_probabilities(lambda delta, p: delta * p / (p + 1e-8)),
    CrossEntropy,
)
plant(
    "probability-clip",
    "probabilities are clipped to [1e-7, 1 - 1e-7] before the logarithm",
    _on_probabilities(lambda delta, p: np.where((p > 1e-7) & (p < 1 - 1e-7), delta, 0)),
    BinaryCrossEntropy,
    CrossEntropy,
)
plant(
    "zero-logit-zero",
    "the gradient is 0 where the logit is exactly 0",
    in_delta(lambda delta, loss, batch, z: np.where(z == 0, 0, delta)),
    SigmoidCrossEntropy,
)


# Kinks.


def _slope_at_kink(share: float) -> Callable[[], Compute]:
    return _activation(ReLU, lambda layer, z: (np.maximum(z, 0), np.where(z == 0, share, z > 0).astype(z.dtype)))


plant("relu-slope-negative", "the derivative of ReLU at exactly 0 is -1", _slope_at_kink(-1), networks=around("ReLU"))
plant("relu-slope-double", "the derivative of ReLU at exactly 0 is 2", _slope_at_kink(2), networks=around("ReLU"))


# Constants.


def _rounded_slopes(network: Network) -> Network:
    layers = tuple(
        LeakyReLU(float(np.float32(layer.slope))) if isinstance(layer, LeakyReLU) else layer for layer in network.layers
    )
    return msgspec.structs.replace(network, layers=layers)


def _short_gelu(layer: GELU, z: Array) -> tuple[Array, Array]:
    real = z.dtype.type
    if layer.approximate != "tanh":
        a, pullback = layer_rule(layer, Plain(z.dtype), z, {})
        return a, pullback(np.ones_like(z))[0]
    k0, k1 = real(0.79788456), real(0.044715)
    t = np.tanh(k0 * (z + k1 * z**3))
    half = (1 + t) / 2
    return z * half, half + z * (1 - t * t) / 2 * k0 * (1 + 3 * k1 * z * z)


plant(
    "rounded-slope",
    "the slope of a leaky ReLU is a float32 constant",
    in_network(_rounded_slopes),
    networks=around("LeakyReLU"),
)
plant(
    "short-constant",
    "sqrt(2 / pi) in GELU has 8 digits",
    _activation(GELU, _short_gelu),
    networks=around("GELU(approximate=tanh)"),
)


# Types.


def _through_float32(array: Array) -> Array:
    return np.asarray(array.astype(np.float32).astype(array.dtype))


def _in_float32(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = backpropagate(Plain(np.float32), network, parameters, batch)
    return {path: array.astype(batch.inputs.dtype) for path, array in found.parameters.items()}


def _biases_in_float32(network: Network, parameters: Parameters, batch: Batch) -> Found:
    found = gradients(network, parameters, batch)
    sums = {
        path: found.deltas[int(path.removesuffix(".bias"))].astype(np.float32).sum(axis=0).astype(array.dtype)
        for path, array in found.parameters.items()
        if path.endswith(".bias")
    }
    return replace(found, parameters={**found.parameters, **sums})


def _one_element(**relative: float) -> Callable[[], Compute]:
    """Return a fault in the largest element of the largest gradient, by a relative error for each dtype."""

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = {path: array.copy() for path, array in gradients(network, parameters, batch).parameters.items()}
        largest = max(found.values(), key=np.size)
        index = np.unravel_index(int(np.argmax(np.abs(largest))), largest.shape)
        largest[index] *= 1 + relative[batch.inputs.dtype.name]
        return found

    return lambda: compute


def _short(array: Array) -> Array:
    """Return an array rounded to 11 binary digits."""
    mantissa, exponent = np.frexp(array)
    return np.asarray(np.ldexp(np.round(mantissa * 2048) / 2048, exponent), array.dtype)


def _short_operands(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
    output, pullback = layer_rule(layer, k, x, parameters)
    if not isinstance(layer, Dense):
        return output, pullback
    weight = _short(parameters["weight"])
    return k.affine(_short(x), weight, parameters.get("bias")), lambda delta: (
        _short(delta) @ weight.T,
        {**pullback(delta)[1], "weight": _short(x).T @ _short(delta)},
    )


plant("single-precision", "all is computed in float32", lambda: _in_float32)
plant(
    "half-precision",
    "gradients pass through float32 on the way",
    in_parameters(lambda path, array, *_: _through_float32(array)),
)
plant("short-delta", "p - y is rounded to float32", in_delta(lambda delta, loss, batch, z: _through_float32(delta)))
plant("short-sums", "the gradients of biases are summed in float32", lambda: _biases_in_float32)
plant(
    "one-element",
    "one element of the largest gradient is off by 1e-9 in float64, by 1e-3 in float32",
    _one_element(float64=1e-9, float32=1e-3),
    MeanSquaredError,
)
plant(
    "nearly-right",
    "one element of the largest gradient is off by 1e-11 in float64, by 1e-5 in float32",
    _one_element(float64=1e-11, float32=1e-5),
    MeanSquaredError,
)
plant(
    "through-float16",
    "gradients pass through float16 on the way",
    alone(in_parameters(lambda path, array, *_: array.astype(np.float16).astype(array.dtype))),
)
plant(
    "short-operands",
    "the operands of products are rounded to the 11 digits of TF32",
    in_rules(_short_operands),
)
