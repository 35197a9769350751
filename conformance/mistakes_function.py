"""Mistakes in which function an activation is: another derivative, another one forward, another form or option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gradconform.conformance.mistake import Mistake, elementwise
from gradconform.conformance.mistakes_activation import ALL, replaced, slope_at, with_options
from gradconform.layers import ELU, GELU, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softplus, Tanh
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import Arithmetic, Pullback, layer_rule


def _instead(
    change: Callable[[Record], Record | None],
) -> Callable[[Record, Arithmetic, Value, Mapping[str, Value]], tuple[Value, Pullback] | None]:
    """Return another layer altogether, forward and backward."""

    def forward(
        layer: Record, k: Arithmetic, x: Value, parameters: Mapping[str, Value]
    ) -> tuple[Value, Pullback] | None:
        other = change(layer) if elementwise(layer) else None
        return None if other is None or other == layer else layer_rule(other, k, x, parameters)

    return forward


def _slope_of_output(layer: Record, _k: Arithmetic, a: Value) -> Value:
    """Return sigma' as the formula of the output that people write."""
    return a * (1 - a) if isinstance(layer, Sigmoid) else 1 - a * a


def _forward_alone(
    change: Callable[[Record], Record | None], slope: Callable[[Record, Arithmetic, Value], Value]
) -> Callable[[Record, Arithmetic, Value, Mapping[str, Value]], tuple[Value, Pullback] | None]:
    """Return another layer's forward pass, with the layer's own derivative, at z or as a formula of the output."""

    def forward(
        layer: Record, k: Arithmetic, x: Value, parameters: Mapping[str, Value]
    ) -> tuple[Value, Pullback] | None:
        other = change(layer)
        if other is None or (slope is _slope_of_output and not isinstance(layer, Sigmoid | Tanh)):
            return None
        a = layer_rule(other, k, x, parameters)[0]
        own = slope(layer, k, a if slope is _slope_of_output else x)
        return a, lambda delta: (own * delta, {})

    return forward


def _left_out(
    layer: Record, _k: Arithmetic, x: Value, _parameters: Mapping[str, Value]
) -> tuple[Value, Pullback] | None:
    """Return the identity for an elementwise layer."""
    return (x, lambda delta: (delta, {})) if elementwise(layer) else None


def _quick_gelu(layer: Record, k: Arithmetic, x: Value, _parameters: Mapping[str, Value]) -> Any:
    """Return z sigma(1.702 z) for GELU."""
    if not isinstance(layer, GELU):
        return None
    s = layer_rule(Sigmoid(), k, x * 1.702, {})[0]
    return x * s, lambda delta: ((s + x * 1.702 * (s * (1 - s))) * delta, {})


def _other_gelu(layer: Record) -> Record | None:
    return GELU("none" if layer.approximate == "tanh" else "tanh") if isinstance(layer, GELU) else None


def _call(name: str) -> str:
    return f"{'leaky_relu' if name == LeakyReLU.__name__ else name.lower()}(z)"


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    yield from _others()
    yield from _forward()


def _others() -> Iterator[Mistake]:
    """Yield the derivative of one activation at the place of another's, and whole activations likewise."""
    for own in ALL:
        for other in ALL:
            if type(own) is type(other) or {type(own), type(other)} <= {ReLU, LeakyReLU, ELU}:
                continue
            # sigmoid, Softplus' derivative, has names of its own as a derivative of these
            named = isinstance(other, Softplus) and isinstance(own, Sigmoid | SiLU)

            def change(layer: Record, own: Record = own, other: Record = other) -> Record | None:
                return other if isinstance(layer, type(own)) else None

            this, that = type(own).__name__, type(other).__name__
            if not named:
                yield Mistake(
                    "other-derivative",
                    f"the backward pass of {this} has the derivative of {that}",
                    f"delta times the derivative of {this}, not delta times that of {that}",
                    step=replaced(change),
                    kinds=(type(own),),
                    claims=2,
                )
            for slope, more in ((slope_at, 0), (_slope_of_output, 1)):
                yield Mistake(
                    "other-forward",
                    f"the forward pass computes {that} where the network says {this}; the backward pass is {this}'s",
                    f"a = {_call(this)}, not a = {_call(that)}",
                    forward=_forward_alone(change, slope),
                    kinds=(type(own),),
                    claims=3 + more,
                )
            yield Mistake(
                "other-activation",
                f"{that} is computed where the network says {this}, forward and backward",
                f"a = {_call(this)}, not a = {_call(that)}",
                forward=_instead(change),
                kinds=(type(own),),
                claims=2,
            )


def _forward() -> Iterator[Mistake]:
    """Yield what is wrong forward and backward."""
    rows: list[tuple[str, str, str, Any, tuple[type[Record], ...]]] = [
        (
            "other-gelu",
            "GELU is computed in the other form (erf or tanh) than the network says",
            "approximate='tanh' or erf, as the layer says",
            _instead(_other_gelu),
            (GELU,),
        ),
        (
            "quick-gelu",
            "GELU is computed as z sigma(1.702 z), which is off by up to 0.02: use the form that is asked for",
            "0.5 * z * (1 + erf(z / sqrt(2))), not z * sigmoid(1.702 * z)",
            _quick_gelu,
            (GELU,),
        ),
        (
            "elu-alpha",
            "ELU's alpha is taken to be 1, forward and backward: use the layer's own",
            "alpha * (np.exp(z) - 1) with alpha = layer.alpha",
            _instead(with_options(ELU, alpha=1.0)),
            (ELU,),
        ),
        (
            "leaky-slope",
            "LeakyReLU's slope is taken to be 0.01, forward and backward: use the layer's own",
            "np.where(z > 0, z, layer.slope * z)",
            _instead(with_options(LeakyReLU, slope=0.01)),
            (LeakyReLU,),
        ),
        (
            "negative-side-lost",
            "the layer is computed as ReLU{where}, forward and backward: below 0 it has a slope",
            "np.where(z > 0, z, slope * z), not np.maximum(z, 0)",
            _instead(lambda layer: ReLU() if isinstance(layer, LeakyReLU | ELU) else None),
            (LeakyReLU, ELU),
        ),
        (
            "activation-missing",
            "the activation is left out{where}, forward and backward",
            "a = sigma(z), not a = z",
            _left_out,
            (),
        ),
    ]
    for identifier, likely, mend, forward, kinds in rows:
        yield Mistake(identifier, likely, mend, forward=forward, kinds=kinds or tuple(map(type, ALL)), claims=2)
