"""Planted faults in activations: their derivatives, where these are taken, and the Jacobian of the softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.implementations import Compute
from gradconform.conformance.planting import (
    Fault,
    Found,
    alone,
    around,
    in_activations,
    in_layers,
    in_rules,
    planted,
    pulled,
    sigmoid,
    slope_of,
)
from gradconform.layers import (
    ELU,
    GELU,
    Dense,
    LeakyReLU,
    Record,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from gradconform.losses import Huber, MeanSquaredError
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate
from gradconform.reference.layers import Pullback, layer_rule

FAULTY_ACTIVATIONS: dict[str, Fault] = {}
plant = partial(planted, FAULTY_ACTIVATIONS)


def _softmax(change: Callable[[Array, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the pullback of a Softmax layer: `change(p, delta)`."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        p, right = layer_rule(layer, k, x, parameters)
        return p, (lambda delta: (change(p, delta), {})) if isinstance(layer, Softmax) else right

    return in_rules(rule)


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
    networks=around("LeakyReLU(slope=0.25)"),
    symptoms=("mask-inverted",),
)
plant(
    "gelu-mixed",
    "GELU goes forward in one form and backward in the other",
    in_activations(
        lambda layer, k, z, a, delta: pulled(
            GELU("none" if layer.approximate == "tanh" else "tanh") if isinstance(layer, GELU) else layer, k, z, delta
        )
    ),
    networks=around("GELU"),
)
plant(
    "upstream-squared",
    "the upstream gradient is applied twice",
    in_activations(lambda layer, k, z, a, delta: pulled(layer, k, z, delta * delta)),
)
plant(
    "softmax-diagonal",
    "the Jacobian of a Softmax layer is only its diagonal",
    _softmax(lambda p, delta: p * (1 - p) * delta),
    networks=around("Softmax"),
)


# Derivatives of one activation.


def _gelu_by_sigmoid(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
    if not isinstance(layer, GELU):
        return layer_rule(layer, k, x, parameters)
    return np.asarray(x * sigmoid(1.702 * x), x.dtype), lambda delta: (_gelu_slope(x) * delta, {})


def _gelu_slope(z: Array) -> Array:
    """Return the derivative of z sigma(1.702 z)."""
    s = sigmoid(1.702 * z)
    return np.asarray(s + 1.702 * z * s * (1 - s), z.dtype)


plant(
    "sigmoid-as-tanh",
    "the derivative of the sigmoid is that of tanh, 1 - a**2",
    slope_of(Sigmoid, lambda _, z, a: 1 - a * a),
    networks=around("Sigmoid"),
    symptoms=("other-derivative",),
)
plant(
    "sigmoid-halved",
    "the derivative of the sigmoid is a, without its factor 1 - a",
    alone(slope_of(Sigmoid, lambda _, z, a: a)),
    networks=around("Sigmoid"),
    symptoms=("output-as-derivative",),
)
plant(
    "tanh-as-sigmoid",
    "the derivative of tanh is that of the sigmoid, a (1 - a)",
    alone(slope_of(Tanh, lambda _, z, a: a * (1 - a))),
    networks=around("Tanh"),
    symptoms=("other-derivative",),
)
plant(
    "tanh-unsquared",
    "the derivative of tanh is 1 - a instead of 1 - a**2",
    slope_of(Tanh, lambda _, z, a: 1 - a),
    networks=around("Tanh"),
    symptoms=("one-minus-output",),
)
plant(
    "tanh-fed-z",
    "the derivative of tanh is 1 - z**2, the formula of the output fed the pre-activation",
    alone(slope_of(Tanh, lambda _, z, a: 1 - z * z)),
    networks=around("Tanh"),
    symptoms=("output-formula-at-z",),
)
plant(
    "sigmoid-fed-z",
    "the derivative of the sigmoid is z (1 - z), the formula of the output fed the pre-activation",
    slope_of(Sigmoid, lambda _, z, a: z * (1 - z)),
    networks=around("Sigmoid"),
    symptoms=("output-formula-at-z",),
)
plant(
    "relu-as-identity",
    "the derivative of ReLU is 1 everywhere",
    alone(slope_of(ReLU, lambda _, z, a: np.ones_like(z))),
    networks=around("ReLU"),
    symptoms=("derivative-missing",),
)
plant(
    "relu-mask-inverted",
    "the mask of ReLU lets through what it is to stop",
    slope_of(ReLU, lambda _, z, a: z < 0),
    networks=around("ReLU"),
    symptoms=("mask-inverted",),
)
plant(
    "leaky-slope-squared",
    "the slope of a leaky ReLU is applied twice in the backward pass",
    slope_of(LeakyReLU, lambda layer, z, a: np.where(z > 0, 1, layer.slope**2)),
    networks=around("LeakyReLU(slope=0.25)"),
    symptoms=("derivative-twice",),
)
plant(
    "leaky-slope-forgotten",
    "a leaky ReLU goes backward as a ReLU",
    alone(slope_of(LeakyReLU, lambda layer, z, a: z > 0)),
    networks=around("LeakyReLU(slope=0.25)"),
    symptoms=("negative-side-lost",),
)
plant(
    "elu-alpha-forgotten",
    "the derivative of ELU is exp(z) below 0, without alpha",
    alone(slope_of(ELU, lambda layer, z, a: np.exp(np.minimum(z, 0)))),
    networks=around("ELU(alpha=0.5)"),
    symptoms=("elu-alpha",),
)
plant(
    "elu-output-plus-one",
    "the derivative of ELU is a + 1 below 0 instead of a + alpha",
    slope_of(ELU, lambda layer, z, a: np.where(z > 0, 1, a + 1)),
    networks=around("ELU(alpha=0.5)"),
)
plant(
    "softplus-as-tanh",
    "the derivative of softplus is tanh(z) instead of the sigmoid",
    alone(slope_of(Softplus, lambda _, z, a: np.tanh(z))),
    networks=around("Softplus"),
    symptoms=("function-for-derivative",),
)
plant(
    "softplus-at-output",
    "the derivative of softplus is the sigmoid of its output",
    slope_of(Softplus, lambda _, z, a: sigmoid(a)),
    networks=around("Softplus"),
    symptoms=("derivative-at-output",),
)
plant(
    "silu-product-term",
    "the derivative of SiLU is sigma(z): the term z sigma'(z) of the product is missing",
    alone(slope_of(SiLU, lambda _, z, a: sigmoid(z))),
    networks=around("SiLU"),
    symptoms=("product-term-missing",),
)
plant(
    "silu-first-term",
    "the derivative of SiLU is z sigma'(z): the term sigma(z) of the product is missing",
    slope_of(SiLU, lambda _, z, a: z * sigmoid(z) * sigmoid(-z)),
    networks=around("SiLU"),
    symptoms=("product-term-missing",),
)
plant(
    "gelu-by-sigmoid",
    "GELU is z sigma(1.702 z), forward and backward",
    in_rules(_gelu_by_sigmoid),
    networks=around("GELU"),
    symptoms=("quick-gelu",),
)
plant(
    "gelu-backward-by-sigmoid",
    "the derivative of GELU is that of z sigma(1.702 z)",
    alone(slope_of(GELU, lambda _, z, a: _gelu_slope(z))),
    networks=around("GELU"),
    symptoms=("quick-gelu",),
)


# Which layer, which sample, and the Jacobian of the softmax.


def _mask_of_the_layer_below() -> Compute:
    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        masks: list[Array] = []

        def rule(layer: Record, k: Plain, x: Array, own: Mapping[str, Array]) -> tuple[Array, Pullback]:
            a, right = layer_rule(layer, k, x, own)
            if not isinstance(layer, ReLU):
                return a, right
            masks.append(x > 0)
            below = masks[-2] if len(masks) > 1 and masks[-2].shape == x.shape else masks[-1]
            return a, lambda delta: (below * delta, {})

        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule)

    return compute


def _last_derivative_missing(
    index: int, network: Network, x: Array, a: Array, own: Mapping[str, Array], right: Pullback, delta: Array
) -> tuple[Array, dict[str, Array]]:
    last = index == len(network.layers) - 1 and not isinstance(network.layers[index], Dense | Softmax)
    return (delta, {}) if last else right(delta)


def _delta_over_output(
    index: int, network: Network, x: Array, a: Array, own: Mapping[str, Array], right: Pullback, delta: Array
) -> tuple[Array, dict[str, Array]]:
    if index < len(network.layers) - 1 or not isinstance(network.layers[index], Tanh | Sigmoid):
        return right(delta)
    # the buffer that held a holds delta now
    slope = 1 - delta * delta if isinstance(network.layers[index], Tanh) else delta * (1 - delta)
    return slope * delta, {}


plant(
    "mask-of-layer-below",
    "the mask of a ReLU is that of the ReLU below it, where it fits",
    alone(_mask_of_the_layer_below),
    networks="3 -> Dense(4) -> ReLU -> Dense(4) -> ReLU -> Dense(2), MeanSquaredError",
)
plant(
    "last-derivative-missing",
    "the derivative of the last layer's activation is left out",
    alone(in_layers(_last_derivative_missing)),
    MeanSquaredError,
    Huber,
    symptoms=("derivative-missing",),
)
plant(
    "in-place-delta",
    "the output delta is written over the output from which the last activation's derivative is computed",
    in_layers(_delta_over_output),
    networks="3 -> Dense(4) -> Tanh -> Dense(2) -> Sigmoid, MeanSquaredError",
)
plant(
    "softmax-of-other-sample",
    "the Jacobian of a Softmax layer is that of the next sample",
    alone(_softmax(lambda p, delta: _jacobian(np.roll(p, 1, axis=0), delta))),
    networks=around("Softmax"),
    symptoms=("softmax-misaligned",),
)
plant(
    "softmax-plus",
    "the two terms of the Jacobian of a Softmax layer are added",
    _softmax(lambda p, delta: p * (delta + (p * delta).sum(axis=1, keepdims=True))),
    networks=around("Softmax"),
    symptoms=("softmax-sign",),
)


def _jacobian(p: Array, delta: Array) -> Array:
    return np.asarray(p * (delta - (p * delta).sum(axis=1, keepdims=True)))
