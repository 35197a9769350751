"""The layers as descriptions: frozen records without arithmetic.

A layer knows its parameters' names and shapes and the width of its output, and nothing of how either is
computed. The classes are siblings: rules are registered by class with `functools.singledispatch`, and a
subclass would silently take its parent's rule.
"""

from __future__ import annotations

import math
import sys
from typing import Literal

import msgspec


class Record(msgspec.Struct, frozen=True, tag_field="kind", tag=True, forbid_unknown_fields=True):
    """Base of all layers and losses: hashable, and `{"kind": ...}` in JSON."""

    def parameters(self, width: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters, by name, for an incoming activation of `width` units."""
        return {}

    def outputs(self, width: int) -> int:
        """Return the width of the output for an incoming activation of `width` units."""
        return width


MOST = sys.float_info.max
MOST_UNITS = 2**31 - 1
"""More units than any machine holds: a mistake, or an attack."""


def at_least_one(name: str, value: int) -> None:
    """Raise `ValueError` unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if value > MOST_UNITS:
        raise ValueError(f"{name} must be at most {MOST_UNITS}")


def finite(name: str, value: float, minimum: float = -math.inf) -> None:
    """Raise `ValueError` unless `value` is a finite number of at least `minimum`."""
    if type(value) not in {int, float} or not -MOST <= value <= MOST:
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {value:g}")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


class Dense(Record, frozen=True):
    """z = x W + b, with `weight` of shape (in, out) and `bias` of shape (out,)."""

    units: int
    bias: bool = True

    def __post_init__(self) -> None:
        at_least_one("units", self.units)
        if type(self.bias) is not bool:
            raise ValueError(f"bias must be True or False, got {self.bias!r}")

    def parameters(self, width: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"weight": (width, self.units)}
        return {**shapes, "bias": (self.units,)} if self.bias else shapes

    def outputs(self, width: int) -> int:
        return self.units


class Sigmoid(Record, frozen=True):
    """sigma(z) = 1 / (1 + exp(-z))."""


class Tanh(Record, frozen=True):
    """tanh(z)."""


class ReLU(Record, frozen=True):
    """max(z, 0)."""


class LeakyReLU(Record, frozen=True):
    """z where z > 0, `slope` z elsewhere."""

    slope: float = 0.01

    def __post_init__(self) -> None:
        finite("slope", self.slope)


class ELU(Record, frozen=True):
    """z where z > 0, `alpha` (exp(z) - 1) elsewhere."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        finite("alpha", self.alpha, 0.0)


class Softplus(Record, frozen=True):
    """log(1 + exp(z))."""


class SiLU(Record, frozen=True):
    """z sigma(z)."""


class GELU(Record, frozen=True):
    """z Phi(z) with the normal distribution function Phi; `approximate="tanh"` for its tanh form."""

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        one_of("approximate", self.approximate, ("none", "tanh"))


class Softmax(Record, frozen=True):
    """exp(z) / sum of exp(z), over the units of one sample."""


Layer = Dense | Sigmoid | Tanh | ReLU | LeakyReLU | ELU | Softplus | SiLU | GELU | Softmax
