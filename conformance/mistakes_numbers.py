"""Mistakes of arithmetic: formulas that overflow or cancel, constants with too few digits, types that are too short.

What they give depends on how it is rounded, so that it is predicted in the case's own type, without a bound: a
prediction explains what lies as near to it as rounding may carry the right result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import DTypeLike

from gradconform.case import Array, Batch, Case, Gradients, Parameters
from gradconform.conformance.mistake import End, Given, Mistake, Step
from gradconform.layers import ELU, GELU, Dense, Layer, LeakyReLU, Record, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import CrossEntropy, SoftmaxCrossEntropy
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain, Value
from gradconform.reference.layers import Arithmetic, Pullback, layer_rule

SHORT: dict[str, type[np.generic]] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}

Formula = Callable[[Array], tuple[Array, Array]]


class Unshifted(Plain):
    """Softmax as it stands in the textbook."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        """Return p, 1 - p and log p."""
        return _normalised(z)


class ShiftedByBatch(Plain):
    """Softmax with one maximum for all samples."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        """Return p, 1 - p and log p."""
        return _normalised(z - z.max())


class OverBatch(Plain):
    """Softmax over the samples of each class."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        """Return p, 1 - p and log p."""
        p, rest, log_p = super().softmax(z.mT)
        return p.mT, rest.mT, log_p.mT


class LogOfSoftmax(Plain):
    """Softmax, and the logarithm of it taken afterwards."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        """Return p, 1 - p and log p."""
        p, rest, _ = super().softmax(z)
        return p, rest, np.log(p)


def _normalised(shifted: Array) -> tuple[Array, Array, Array]:
    e = np.exp(shifted)
    p = e / e.sum(axis=-1, keepdims=True)
    return p, 1 - p, np.log(p)


def _function(kind: type[Record], formula: Formula) -> Callable[..., tuple[Value, Pullback] | None]:
    """Return an activation by another formula: sigma(z) and sigma'(z)."""

    def forward(
        layer: Record, _k: Arithmetic, x: Value, _parameters: Mapping[str, Value]
    ) -> tuple[Value, Pullback] | None:
        if not isinstance(layer, kind):
            return None
        a, slope = formula(x)
        return a, lambda delta: (slope * delta, {})

    return forward


def _tanh_by_division(z: Array) -> tuple[Array, Array]:
    up, down = np.exp(z), np.exp(-z)
    a = (up - down) / (up + down)
    return a, 1 - a * a


def _tanh_by_double(z: Array) -> tuple[Array, Array]:
    up = np.exp(2 * z)
    a = (up - 1) / (up + 1)
    return a, 1 - a * a


def _sigmoid_by_division(z: Array) -> tuple[Array, Array]:
    up = np.exp(z)
    a = up / (1 + up)
    return a, a * (1 - a)


def _silu_by_division(z: Array) -> tuple[Array, Array]:
    s, slope = _sigmoid_by_division(z)
    return z * s, s + z * slope


def _softplus_by_log(z: Array) -> tuple[Array, Array]:
    return np.log(1 + np.exp(z)), 1 / (1 + np.exp(-z))


def _softplus_by_log_and_division(z: Array) -> tuple[Array, Array]:
    return np.log(1 + np.exp(z)), np.exp(z) / (1 + np.exp(z))


def _softplus_with_threshold(z: Array) -> tuple[Array, Array]:
    return np.where(z > 20, z, np.logaddexp(z, 0)), np.where(z > 20, 1, 1 / (1 + np.exp(-z)))


def _elu_everywhere(z: Array) -> tuple[Array, Array]:
    """Return ELU with alpha = 1 whose branches are multiplied with 0 and 1."""
    right = z > 0
    return right * z + ~right * np.expm1(z), right + ~right * np.exp(z)


def _short_gelu(
    layer: Record, _k: Arithmetic, x: Value, _parameters: Mapping[str, Value]
) -> tuple[Value, Pullback] | None:
    if not isinstance(layer, GELU) or layer.approximate != "tanh":
        return None
    k0, k1 = x.dtype.type(0.79788456), x.dtype.type(0.044715)
    t = np.tanh(k0 * (x + k1 * x**3))
    half = (1 + t) / 2
    slope = half + x * (1 - t * t) / 2 * k0 * (1 + 3 * k1 * x * x)
    return x * half, lambda delta: (slope * delta, {})


def through(array: Value, dtype: DTypeLike) -> Value:
    """Return an array as it is after another type."""
    return np.asarray(np.asarray(array).astype(dtype).astype(np.asarray(array).dtype))


def _shortened(network: Network, parameters: Parameters, batch: Batch, dtype: DTypeLike) -> Given:
    """Return what is given as it is in another type."""
    kept = {
        name: through(array, dtype) if array is not None and array.dtype.kind == "f" else array
        for name, array in vars(batch).items()
    }
    return network, {path: through(array, dtype) for path, array in parameters.items()}, replace(batch, **kept)


def _products(
    dtype: DTypeLike,
) -> Callable[[Record, Arithmetic, Value, Mapping[str, Value]], tuple[Value, Pullback] | None]:
    """Return dense layers that round the operands of every product."""

    def forward(
        layer: Record, k: Arithmetic, x: Value, parameters: Mapping[str, Value]
    ) -> tuple[Value, Pullback] | None:
        if not isinstance(layer, Dense):
            return None
        short, weight = through(x, dtype), through(parameters["weight"], dtype)
        output, _ = layer_rule(layer, k, short, {**parameters, "weight": weight})

        def pullback(delta: Value) -> tuple[Value, dict[str, Value]]:
            rounded = through(delta, dtype)
            own = {"weight": short.mT @ rounded, **({"bias": delta.sum(axis=-2)} if layer.bias else {})}
            return rounded @ weight.mT, own

        return output, pullback

    return forward


def _unfused(e: End) -> tuple[Value, Value] | None:
    """Return the delta of -y / p pulled back through the softmax, which is 0/0 where p is 0."""
    if not isinstance(e.loss, SoftmaxCrossEntropy) or e.loss.label_smoothing or e.batch.class_weights is not None:
        return None
    from gradconform.reference.losses import cost

    p = e.k.softmax(e.z)[0]
    if not e.batch.labelled or e.loss.ignore_index is None:
        delta = cost(CrossEntropy(e.loss.reduction, scale=e.loss.scale), e.k, p, e.batch)[1]
        return e.cost, p * (delta - (p * delta).sum(axis=-1, keepdims=True))
    return None


def _single_constants(network: Network, parameters: Parameters, batch: Batch) -> Given:
    """Return the network with the constants of its layers as float32 has them."""

    def short(value: float) -> float:
        return float(np.float32(value))

    layers: list[Layer] = []
    for layer in network.layers:
        match layer:
            case LeakyReLU(slope=slope):
                layers.append(LeakyReLU(short(slope)))
            case ELU(alpha=alpha):
                layers.append(ELU(short(alpha)))
            case _:
                layers.append(layer)
    return msgspec.structs.replace(network, layers=tuple(layers)), parameters, batch


def _finished(dtype: DTypeLike) -> Callable[[Case, Gradients[Value], Arithmetic], Gradients[Value]]:
    def finish(_case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value]:
        return replace(found, parameters={path: through(array, dtype) for path, array in found.parameters.items()})

    return finish


def _summed(dtype: DTypeLike) -> Callable[[Step], tuple[Value, dict[str, Value]] | None]:
    def step(s: Step) -> tuple[Value, dict[str, Value]] | None:
        if not isinstance(s.layer, Dense) or not s.layer.bias:
            return None
        delta = np.asarray(s.delta)
        return s.own(bias=delta.astype(dtype).sum(axis=0).astype(delta.dtype))

    return step


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    for identifier, likely, mend, arithmetic in (
        (
            "unstable-softmax",
            "softmax is computed without subtracting the largest logit, so that exp overflows: subtract it",
            "e = np.exp(z - z.max(axis=1, keepdims=True)), not np.exp(z)",
            Unshifted,
        ),
        (
            "batch-maximum",
            "the largest logit of the whole batch is subtracted before exp: rows far below it underflow to 0/0",
            "z - z.max(axis=1, keepdims=True), not z - z.max()",
            ShiftedByBatch,
        ),
        (
            "softmax-axis",
            "the softmax is taken over the samples, in cost and gradients: normalise each sample over its classes",
            "e / e.sum(axis=1, keepdims=True), not e / e.sum(axis=0)",
            OverBatch,
        ),
        (
            "log-of-softmax",
            "the cost takes the logarithm of the softmax, which is log 0 where a probability underflows",
            "log_p = z - max - log(sum(exp(z - max))), not np.log(softmax(z))",
            LogOfSoftmax,
        ),
    ):
        yield Mistake(
            identifier, likely, mend, arithmetic=arithmetic, kinds=(Softmax, SoftmaxCrossEntropy, CrossEntropy)
        )
    yield Mistake(
        "unfused-cross-entropy",
        "the delta is -y / p pulled back through the softmax, which is 0/0 where p underflows: take p - y",
        "delta = p - y, not softmax_backward(-y / p)",
        end=_unfused,
        kinds=(SoftmaxCrossEntropy,),
        inexact=True,
    )
    formulas: list[tuple[str, str, str, type[Record], Formula]] = [
        (
            "tanh-by-division",
            "tanh is a quotient of exponentials, which overflow",
            "np.tanh(z), not (exp(z) - exp(-z)) / (exp(z) + exp(-z))",
            Tanh,
            _tanh_by_division,
        ),
        (
            "tanh-by-division",
            "tanh is (exp(2 z) - 1) / (exp(2 z) + 1), which overflows",
            "np.tanh(z)",
            Tanh,
            _tanh_by_double,
        ),
        (
            "sigmoid-by-division",
            "sigmoid is exp(z) / (1 + exp(z)), which is inf / inf for large z",
            "1 / (1 + np.exp(-z)), or by the sign of z",
            Sigmoid,
            _sigmoid_by_division,
        ),
        (
            "sigmoid-by-division",
            "the sigmoid inside SiLU is exp(z) / (1 + exp(z)), which is inf / inf for large z",
            "z / (1 + np.exp(-z))",
            SiLU,
            _silu_by_division,
        ),
        (
            "softplus-by-log",
            "softplus is log(1 + exp(z)), which overflows above 709 and loses all digits far below 0",
            "np.logaddexp(0, z), not np.log(1 + np.exp(z))",
            Softplus,
            _softplus_by_log,
        ),
        (
            "softplus-by-log",
            "softplus is log(1 + exp(z)) and its derivative exp(z) / (1 + exp(z)), which overflow above 709",
            "np.logaddexp(0, z) and 1 / (1 + np.exp(-z))",
            Softplus,
            _softplus_by_log_and_division,
        ),
        (
            "softplus-threshold",
            "softplus is z itself above a threshold of 20, where log(1 + exp(-z)) is still 2e-9",
            "np.logaddexp(0, z), or a threshold of 40 in float64",
            Softplus,
            _softplus_with_threshold,
        ),
        (
            "branch-overflow",
            "the branch of ELU that is not taken overflows, and inf times 0 is NaN: choose with where",
            "np.where(z > 0, z, np.expm1(np.minimum(z, 0)))",
            ELU,
            _elu_everywhere,
        ),
    ]
    for identifier, likely, mend, kind, formula in formulas:
        yield Mistake(identifier, likely, mend, forward=_function(kind, formula), kinds=(kind,), inexact=True)
    yield Mistake(
        "short-constant",
        "the constant sqrt(2 / pi) of GELU is written with 8 digits: write it as an expression",
        "math.sqrt(2 / math.pi), not 0.79788456",
        forward=_short_gelu,
        kinds=(GELU,),
        inexact=True,
    )
    yield Mistake(
        "rounded-constant",
        "a layer's constant (slope, alpha) is a float32 number in a float64 computation",
        "the constant as a Python float or in the type of the inputs",
        given=_single_constants,
        kinds=(LeakyReLU, ELU),
        inexact=True,
    )
    for count in (2, 3, 4, 5, 6, 7, 8, 10, 12):
        yield Mistake(
            "rounded-decimals",
            f"the gradients are rounded to {count} decimals: return them as they are",
            f"return dw, not np.round(dw, {count})",
            finish=_decimals(count),
            inexact=True,
        )
    for least in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
        yield Mistake(
            "small-zeroed",
            f"gradients below {least:g} are set to 0: return them as they are",
            f"return dw, not np.where(np.abs(dw) < {least:g}, 0, dw)",
            finish=_zeroed(least),
            inexact=True,
        )
    yield from _shorter()


def _decimals(count: int) -> Callable[[Case, Gradients[Value], Arithmetic], Gradients[Value]]:
    def finish(_case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value]:
        return replace(found, parameters={path: np.round(array, count) for path, array in found.parameters.items()})

    return finish


def _zeroed(least: float) -> Callable[[Case, Gradients[Value], Arithmetic], Gradients[Value]]:
    def finish(_case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value]:
        small = {path: np.where(np.abs(array) < least, 0, array) for path, array in found.parameters.items()}
        return replace(found, parameters=small)

    return finish


def _shorter() -> Iterator[Mistake]:
    """Yield what passes through a shorter type on its way."""
    for name, dtype in SHORT.items():
        for what, more in (
            ("the finished gradients are", {"finish": _finished(dtype)}),
            ("inputs and parameters are", {"given": lambda n, p, b, dtype=dtype: _shortened(n, p, b, dtype)}),
            (
                "the inputs are",
                {"given": lambda n, p, b, dtype=dtype: (n, p, replace(b, inputs=through(b.inputs, dtype)))},
            ),
            ("the parameters are", {"given": lambda n, p, b, dtype=dtype: (n, _shortened(n, p, b, dtype)[1], b)}),
            ("the output delta is", {"end": lambda e, dtype=dtype: (e.cost, through(e.delta, dtype))}),
            ("the operands of products are", {"forward": _products(dtype)}),
        ):
            yield Mistake(
                "lower-precision",
                f"{what} rounded to {name} on the way: keep the type of the inputs",
                f"no cast to {name} in between (astype, .float(), a default dtype)",
                inexact=True,
                **more,
            )
        yield Mistake(
            "lower-precision",
            f"all is computed in {name}: keep the type of the inputs",
            f"no cast to {name} (astype, .float(), a default dtype)",
            short=dtype,
            claims=2,
        )
        yield Mistake(
            "lower-precision",
            f"the gradients of biases are summed in {name}: keep the type of the inputs",
            f"delta.sum(axis=0), not delta.astype({name}).sum(axis=0)",
            step=_summed(dtype),
            kinds=(Dense,),
            inexact=True,
        )
