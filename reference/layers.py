"""The rules of the layers: each gives its output and its pullback, next to its formula.

A pullback takes delta = dC/dz at the layer's output and returns dC/dx at its input and the parameters' gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch

from gradconform.errors import Unsupported
from gradconform.layers import ELU, GELU, Dense, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.reference.arithmetic import Plain, Value
from gradconform.reference.bounding import Bounding
from gradconform.reference.functions import function

Arithmetic = Plain | Bounding
Pullback = Callable[[Value], tuple[Value, dict[str, Value]]]


@singledispatch
def layer_rule(layer: Record, k: Arithmetic, x: Value, parameters: Mapping[str, Value]) -> tuple[Value, Pullback]:
    """Return the layer's output for the incoming activation x, (N, in), and its pullback."""
    raise Unsupported(f"reference: no rule for {type(layer).__name__}")


@layer_rule.register
def _(layer: Dense, k: Arithmetic, x: Value, parameters: Mapping[str, Value]) -> tuple[Value, Pullback]:
    """z = x W + b.

    dC/dW = x^T delta: the incoming activation times the delta, summed over the samples.
    dC/db = sum of delta.    dC/dx = delta W^T: the sum over the next units of weight times delta.
    """
    weight = parameters["weight"]

    def pullback(delta: Value) -> tuple[Value, dict[str, Value]]:
        gradients = {"weight": x.mT @ delta}
        if layer.bias:
            gradients["bias"] = delta.sum(axis=-2)
        return delta @ weight.mT, gradients

    return k.affine(x, weight, parameters.get("bias")), pullback


@layer_rule.register(Sigmoid)
@layer_rule.register(Tanh)
@layer_rule.register(ReLU)
@layer_rule.register(LeakyReLU)
@layer_rule.register(ELU)
@layer_rule.register(Softplus)
@layer_rule.register(SiLU)
@layer_rule.register(GELU)
def _(layer: Record, k: Arithmetic, x: Value, parameters: Mapping[str, Value]) -> tuple[Value, Pullback]:
    """a = sigma(z).    dC/dz = sigma'(z) dC/da."""
    a, slope = k.evaluate(function(layer), x)
    return a, lambda delta: (slope * delta, {})


@layer_rule.register
def _(layer: Softmax, k: Arithmetic, x: Value, parameters: Mapping[str, Value]) -> tuple[Value, Pullback]:
    """p_i = exp(x_i) / sum of exp(x_j).    dC/dx_i = p_i (dC/dp_i - sum of p_j dC/dp_j)."""
    p, _, _ = k.softmax(x)

    def pullback(delta: Value) -> tuple[Value, dict[str, Value]]:
        weighted = p * delta
        mean = weighted.sum(axis=-1, keepdims=True)

        def centred() -> Value:
            return p * (delta - mean)

        def divided() -> Value:
            # (c / S - sum of c e / S^2) e with e = exp(x - max) = p S: products that underflow are not scaled by p
            return centred() + (p * 0.0).sum(axis=-1, keepdims=True)

        return k.accept(centred, lambda: weighted - p * mean, divided), {}

    return p, pullback
