"""Mistakes in an activation: its derivative missing, in the wrong place, of another function or of another form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from gradconform.conformance.mistake import Mistake, Step, elementwise
from gradconform.layers import ELU, GELU, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import Arithmetic, layer_rule

KINKS = (-1.0, 2.0, -0.5, 1.5)
"""What people take for a derivative at a kink, beside what is right."""
Slope = Callable[[Step], Value | None]

ALL = (Sigmoid(), Tanh(), ReLU(), Softplus(), SiLU(), GELU(), LeakyReLU(), ELU())
"""Every activation, with its default options."""


def slope_at(layer: Record, k: Arithmetic, z: Value) -> Value:
    """Return sigma'(z) of an elementwise layer."""
    return layer_rule(layer, k, z, {})[1](k.lift(np.ones(z.shape)))[0]


def sloped(slope: Slope) -> Callable[[Step], tuple[Value, dict[str, Value]] | None]:
    """Return a mistake that multiplies the delta with another slope."""

    def step(s: Step) -> tuple[Value, dict[str, Value]] | None:
        value = slope(s) if elementwise(s.layer) else None
        return None if value is None else s.below(value * s.delta)

    return step


def pulled(delta: Callable[[Step], Value | None]) -> Callable[[Step], tuple[Value, dict[str, Value]] | None]:
    """Return a mistake that hands down another delta."""

    def step(s: Step) -> tuple[Value, dict[str, Value]] | None:
        value = delta(s) if elementwise(s.layer) else None
        return None if value is None else s.below(value)

    return step


def _number(value: Value) -> np.ndarray[Any, Any]:
    return np.asarray(getattr(value, "value", value), np.float64)


def _masked(s: Step, by: Value, delta: Value) -> Value:
    return s.k.weigh(s.k.lift((_number(by) > 0).astype(float)), delta)


def _product_term(s: Step) -> Value | None:
    """Return sigma(z), of z sigma(z) the derivative without its product term."""
    if isinstance(s.layer, SiLU):
        return layer_rule(Sigmoid(), s.k, s.x, {})[0]
    if isinstance(s.layer, GELU):
        return s.output / s.x
    return None


def _first_term(s: Step) -> Value | None:
    """Return z sigma'(z), of z sigma(z) the derivative with the product term alone."""
    other = _product_term(s)
    return None if other is None else slope_at(s.layer, s.k, s.x) - other


def _quick_slope(s: Step) -> Value | None:
    """Return the derivative of z sigma(1.702 z)."""
    if not isinstance(s.layer, GELU):
        return None
    sigma = layer_rule(Sigmoid(), s.k, s.x * 1.702, {})[0]
    return sigma + s.x * 1.702 * (sigma * (1 - sigma))


def _output_plus_one(s: Step) -> Value | None:
    """Return a + 1 below 0, and 1 above."""
    if not isinstance(s.layer, ELU):
        return None
    below = (_number(s.x) <= 0).astype(float)
    return s.k.lift(1 - below) + s.k.weigh(s.k.lift(below), s.output + 1.0)


def _of_another_sample(s: Step) -> Value:
    p = s.output[np.roll(np.arange(s.output.shape[0]), 1)]
    return p * (s.delta - (p * s.delta).sum(axis=-1, keepdims=True))


def replaced(change: Callable[[Record], Record | None]) -> Callable[[Step], tuple[Value, dict[str, Value]] | None]:
    """Return the backward pass of another layer, at the same pre-activation."""

    def slope(s: Step) -> Value | None:
        other = change(s.layer)
        return None if other is None or other == s.layer else slope_at(other, s.k, s.x)

    return sloped(slope)


def with_options(kind: type[Record], **options: float) -> Callable[[Record], Record | None]:
    """Return the change of the options of a kind of layer."""
    return lambda layer: msgspec.structs.replace(layer, **options) if isinstance(layer, kind) else None


def _squared_slope(layer: Record) -> Record | None:
    return LeakyReLU(layer.slope**2) if isinstance(layer, LeakyReLU) else None


def _at_kink(value: float) -> Callable[[Step], tuple[Value, dict[str, Value]] | None]:
    """Return another derivative where z is exactly 0."""

    def step(s: Step) -> tuple[Value, dict[str, Value]]:
        zero = (_number(s.x) == 0).astype(float)
        return s.below(s.k.weigh(s.k.lift(1 - zero), s.right[0]) + s.k.weigh(s.k.lift(zero), s.delta * value))

    return step


def _softmax_pulled(change: Callable[[Step], Value]) -> Callable[[Step], tuple[Value, dict[str, Value]] | None]:
    return lambda s: s.below(change(s)) if isinstance(s.layer, Softmax) else None


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    rows: list[tuple[str, str, str, Any, tuple[type[Record], ...]]] = [
        (
            "derivative-missing",
            "sigma'(z) is left out in the backward pass{where}: multiply the delta by it",
            "delta_z = delta_a * slope(z), not delta_z = delta_a",
            pulled(lambda s: s.delta),
            (),
        ),
        (
            "derivative-at-output",
            "the derivative{where} is taken at the output a instead of the pre-activation z",
            "delta * slope(z), not delta * slope(a)",
            sloped(lambda s: slope_at(s.layer, s.k, s.output)),
            (),
        ),
        (
            "output-formula-at-z",
            "the derivative of Tanh is written for its output a, and is given the pre-activation z",
            "1 - a**2 with a = tanh(z), not 1 - z**2",
            sloped(lambda s: 1 - s.x * s.x if isinstance(s.layer, Tanh) else None),
            (Tanh,),
        ),
        (
            "output-formula-at-z",
            "the derivative of Sigmoid is written for its output a, and is given the pre-activation z",
            "a * (1 - a) with a = sigmoid(z), not z * (1 - z)",
            sloped(lambda s: s.x * (1 - s.x) if isinstance(s.layer, Sigmoid) else None),
            (Sigmoid,),
        ),
        (
            "one-minus-output",
            "the derivative of Tanh is written 1 - a, where it is 1 - a**2",
            "1 - a**2, not 1 - a",
            sloped(lambda s: 1 - s.output if isinstance(s.layer, Tanh) else None),
            (Tanh,),
        ),
        (
            "one-minus-output",
            "the derivative of Sigmoid is written 1 - a: its factor a is missing",
            "a * (1 - a), not 1 - a",
            sloped(lambda s: 1 - s.output if isinstance(s.layer, Sigmoid) else None),
            (Sigmoid,),
        ),
        (
            "other-derivative",
            "the derivative of Tanh is written a (1 - a), which is Sigmoid's: it is 1 - a**2",
            "1 - a**2, not a * (1 - a)",
            sloped(lambda s: s.output * (1 - s.output) if isinstance(s.layer, Tanh) else None),
            (Tanh,),
        ),
        (
            "other-derivative",
            "the derivative of Sigmoid is written 1 - a**2, which is Tanh's: it is a (1 - a)",
            "a * (1 - a), not 1 - a**2",
            sloped(lambda s: 1 - s.output * s.output if isinstance(s.layer, Sigmoid) else None),
            (Sigmoid,),
        ),
        (
            "derivative-twice",
            "sigma'(z) is applied twice{where}: multiply by it once",
            "delta * slope, not delta * slope**2",
            sloped(lambda s: (slope := slope_at(s.layer, s.k, s.x)) * slope),
            (),
        ),
        (
            "upstream-squared",
            "the upstream delta is applied twice{where}: the backward pass is linear in it",
            "slope * delta, not slope * delta * delta",
            sloped(lambda s: slope_at(s.layer, s.k, s.x) * s.delta),
            (),
        ),
        (
            "activation-upstream-ignored",
            "the delta from above is ignored{where}: multiply sigma'(z) by it",
            "slope * delta, not slope",
            pulled(lambda s: slope_at(s.layer, s.k, s.x)),
            (),
        ),
        (
            "mask-inverted",
            "the derivative{where} is that of the other side of 0: the mask is the wrong way round",
            "np.where(z > 0, 1, slope), not np.where(z < 0, 1, slope)",
            sloped(lambda s: slope_at(s.layer, s.k, -s.x) if isinstance(s.layer, ReLU | LeakyReLU | ELU) else None),
            (ReLU, LeakyReLU, ELU),
        ),
        (
            "mask-from-delta",
            "the delta is masked by its own sign too{where} (as in guided backpropagation): mask by z > 0 alone",
            "delta * (z > 0), not delta * (z > 0) * (delta > 0)",
            pulled(lambda s: _masked(s, s.delta, s.right[0]) if isinstance(s.layer, ReLU | LeakyReLU) else None),
            (ReLU, LeakyReLU),
        ),
        (
            "mask-from-delta",
            "the delta is masked by its own sign{where} instead of that of z: mask by z > 0",
            "delta * (z > 0), not delta * (delta > 0)",
            pulled(lambda s: _masked(s, s.delta, s.delta) if isinstance(s.layer, ReLU) else None),
            (ReLU,),
        ),
        (
            "negative-side-lost",
            "the derivative is 0 where z < 0{where}: there it is the slope, or alpha exp(z)",
            "delta * np.where(z > 0, 1, slope), not delta * (z > 0)",
            sloped(lambda s: slope_at(ReLU(), s.k, s.x) if isinstance(s.layer, LeakyReLU | ELU) else None),
            (LeakyReLU, ELU),
        ),
        (
            "elu-alpha",
            "alpha is left out of ELU's derivative: below 0 it is alpha exp(z), or a + alpha",
            "np.where(z > 0, 1, alpha * np.exp(z))",
            replaced(with_options(ELU, alpha=1.0)),
            (ELU,),
        ),
        (
            "leaky-slope",
            "the derivative of LeakyReLU has the default slope 0.01 below 0: use the layer's own",
            "np.where(z > 0, 1, layer.slope)",
            replaced(with_options(LeakyReLU, slope=0.01)),
            (LeakyReLU,),
        ),
        (
            "derivative-twice",
            "the slope of LeakyReLU is applied twice below 0",
            "np.where(z > 0, 1, slope), not np.where(z > 0, 1, slope**2)",
            replaced(_squared_slope),
            (LeakyReLU,),
        ),
        (
            "gelu-mixed",
            "GELU goes forward in its erf form and backward in its tanh form: use one of them in both",
            "the derivative of 0.5 z (1 + erf(z / sqrt(2))), not that of the tanh form",
            replaced(lambda layer: GELU("tanh") if layer == GELU("none") else None),
            (GELU,),
        ),
        (
            "gelu-mixed",
            "GELU goes forward in its tanh form and backward in its erf form: use one of them in both",
            "the derivative of the tanh form (approximate='tanh'), not that of the erf form",
            replaced(lambda layer: GELU("none") if layer == GELU("tanh") else None),
            (GELU,),
        ),
        (
            "product-term-missing",
            "the derivative{where} lacks the term z sigma'(z): it is a product, and both factors depend on z",
            "s + z * s * (1 - s), not s",
            sloped(_product_term),
            (SiLU, GELU),
        ),
        (
            "product-term-missing",
            "the derivative{where} is z sigma'(z) alone: it is a product, and lacks the term of the other factor",
            "s + z * s * (1 - s), not z * s * (1 - s)",
            sloped(_first_term),
            (SiLU, GELU),
        ),
        (
            "quick-gelu",
            "the derivative of GELU is that of z sigma(1.702 z): take that of the form of the forward pass",
            "Phi(z) + z * phi(z) for the erf form",
            sloped(_quick_slope),
            (GELU,),
        ),
        (
            "output-as-derivative",
            "the derivative of Sigmoid is written a: its factor 1 - a is missing",
            "a * (1 - a), not a",
            sloped(lambda s: s.output if isinstance(s.layer, Sigmoid) else None),
            (Sigmoid,),
        ),
        (
            "elu-output-plus-one",
            "below 0 the derivative of ELU is a + 1: it is a + alpha",
            "np.where(z > 0, 1, a + alpha)",
            sloped(_output_plus_one),
            (ELU,),
        ),
        (
            "function-for-derivative",
            "the backward pass{where} multiplies with sigma(z): multiply with its derivative sigma'(z)",
            "delta * slope, not delta * a",
            sloped(lambda s: s.output if not isinstance(s.layer, Sigmoid) else None),
            (),
        ),
        (
            "function-for-derivative",
            "the backward pass of Softplus multiplies with tanh(z): its derivative is sigmoid(z)",
            "delta * sigmoid(z), not delta * tanh(z)",
            sloped(lambda s: layer_rule(Tanh(), s.k, s.x, {})[0] if isinstance(s.layer, Softplus) else None),
            (Softplus,),
        ),
        (
            "softmax-sign",
            "the two terms of the softmax's Jacobian are added: the second one is subtracted",
            "p * (d - (p * d).sum(axis=1, keepdims=True)), not p * (d + ...)",
            _softmax_pulled(lambda s: s.output * (s.delta + (s.output * s.delta).sum(axis=-1, keepdims=True))),
            (Softmax,),
        ),
        (
            "softmax-misaligned",
            "the softmax's Jacobian is that of another sample: take the probabilities of the same row",
            "p[i] with d[i]",
            _softmax_pulled(_of_another_sample),
            (Softmax,),
        ),
        (
            "softmax-diagonal",
            "of the softmax's Jacobian the diagonal p (1 - p) alone is used: the terms -p_i p_j are missing",
            "p * (d - (p * d).sum(axis=1, keepdims=True)), not p * (1 - p) * d",
            _softmax_pulled(lambda s: s.output * (1 - s.output) * s.delta),
            (Softmax,),
        ),
        (
            "softmax-missing",
            "the softmax's Jacobian is left out in the backward pass: the delta is handed on as it is",
            "p * (d - (p * d).sum(axis=1, keepdims=True)), not d",
            _softmax_pulled(lambda s: s.delta),
            (Softmax,),
        ),
        (
            "softmax-twice",
            "the softmax's Jacobian is applied twice: once is enough",
            "p * (d - (p * d).sum(axis=1, keepdims=True)), once",
            _softmax_pulled(lambda s: s.pullback(s.right[0])[0]),
            (Softmax,),
        ),
        (
            "softmax-mean",
            "in the softmax's backward pass sum of d stands where sum of p d belongs",
            "p * (d - (p * d).sum(axis=1, keepdims=True)), not p * (d - d.sum(...))",
            _softmax_pulled(lambda s: s.output * (s.delta - s.delta.sum(axis=-1, keepdims=True))),
            (Softmax,),
        ),
    ]
    for identifier, likely, mend, step, kinds in rows:
        yield Mistake(identifier, likely, mend, step=step, kinds=kinds or tuple(map(type, ALL)))
    for value in KINKS:
        yield Mistake(
            "kink-derivative",
            f"the derivative{{where}} at exactly 0 is {value:g}: any value between the one-sided derivatives is right, "
            "and this one lies outside",
            "np.where(z > 0, 1, slope), with one of the two at 0",
            step=_at_kink(value),
            kinds=(ReLU, LeakyReLU),
        )
