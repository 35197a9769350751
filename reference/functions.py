"""The scalar functions of elementwise layers and losses: value, slope, curvature, and what evaluating them may cost.

`evaluate` is the mathematics, written stably, and runs on any floating-point or complex array. The other members
serve the error bound alone: `curvature` and the extrema bound the propagated error rigorously, `rounding` is the
worst local error over the formulas that implementations legitimately use. The origin of each formula is the project's
numerical analysis; names: u unit roundoff, s = sigma(z), q = 1 - s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradconform.errors import Unsupported
from gradconform.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from gradconform.losses import Huber
from gradconform.reference.erf import erfc
from gradconform.reference.precision import Precision

A = NDArray[Any]

NARROW = 2.0**-20
"""Within so little of z, f and its derivatives are as at z, but for a thousandth and what the next one adds."""


@dataclass(frozen=True)
class Kink:
    """The one-sided derivatives of an elementwise layer at 0, and the layer's name."""

    layer: str
    left: float
    right: float


class Function:
    """A scalar function f of z, applied to every element."""

    slope_extrema: tuple[float, ...] = ()
    """Where |f'| may have an interior extremum."""
    curvature_extrema: tuple[float, ...] = ()
    """Where |f''| may have an interior extremum."""
    kink: Kink | None = None
    """What happens at 0, where the one-sided derivatives differ."""
    elementary = True
    """Whether elementary functions, which promise nothing below the smallest normal number, are evaluated."""

    def evaluate(self, z: A) -> tuple[A, A]:
        """Return f(z) and f'(z)."""
        raise NotImplementedError

    def curvature(self, z: A, value: A, slope: A) -> A:
        """Return f''(z) away from a kink, for a real z with f(z) and f'(z)."""
        raise NotImplementedError

    def jerk(self, z: A, value: A, slope: A) -> A:
        """Return a bound on the third derivative that changes little within `NARROW`, for a real z."""
        raise NotImplementedError

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        """Return bounds on the absolute error of computing f(z) and f'(z) from an exact z."""
        raise NotImplementedError

    def gain(self, z: A, m: Precision) -> A | float:
        """Return the largest factor by which a backward kernel may multiply the cotangent on its way to f'."""
        return 2.0


def away(z: A) -> A:
    """Return |z| for real z; the analytic continuation of |z| from the real part's side for complex z."""
    return np.where(z.real < 0, -z, z) if z.dtype.kind == "c" else np.abs(z)


def logistic(z: A) -> tuple[A, A]:
    """Return sigma(z) and 1 - sigma(z), each to full relative accuracy."""
    e = np.exp(-away(z))
    near, far = 1 / (1 + e), e / (1 + e)
    right = z.real >= 0
    return np.where(right, near, far), np.where(right, far, near)


def softplus(z: A) -> A:
    """Return log(1 + exp(z)) to full relative accuracy."""
    return np.where(z.real > 0, z, 0) + np.log1p(np.exp(-away(z)))


def _overflowing(z: A, s: A, m: Precision) -> A:
    """Return sigma(z) where 1 / (1 + exp(-z)) overflows to 0 instead, else 0."""
    return np.where(-z > np.log(m.largest) - 0.7, s, 0.0)


def _exponential(share: A, units: A, m: Precision) -> A:
    """Return the error of a share exp(z - softplus(z)) whose exponent is off by so many units of u.

    No kernel's softplus(z) is below z, which limits it, unless z has digits that softplus(z) was rounded to.
    """
    return share * np.expm1(np.minimum(m.u * units, 700 if m.excess else 2))


class _Sigmoid(Function):
    """f = s, f' = s (1 - s)."""

    slope_extrema = (0.0,)
    curvature_extrema = (-1.3169579, 1.3169579)

    def evaluate(self, z: A) -> tuple[A, A]:
        s, q = logistic(z)
        return s, s * q

    def curvature(self, z: A, value: A, slope: A) -> A:
        return np.asarray(slope * (1 - 2 * value))

    def jerk(self, z: A, value: A, slope: A) -> A:
        return slope  # f''' = f' (1 - 6 f')

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted slopes: s (1 - s) from the rounded output, s sigma(-z)
        o = _overflowing(z, value, m)
        return m.sigmoid * m.u * value + o, m.u * (m.sigmoid * value * (2 - value) + 4 * slope) + o


class _Tanh(Function):
    """f = t, f' = 1 - t^2."""

    slope_extrema = (0.0,)
    curvature_extrema = (-0.6584789, 0.6584789)

    def evaluate(self, z: A) -> tuple[A, A]:
        e = np.exp(-2 * away(z))
        return np.tanh(z), 4 * e / (1 + e) ** 2

    def curvature(self, z: A, value: A, slope: A) -> A:
        return np.asarray(-2 * value * slope)

    def jerk(self, z: A, value: A, slope: A) -> A:
        return 4 * slope  # f''' = -2 f' (1 - 3 t^2)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted slopes: 1 - t^2, (g + g t)(1 - t)
        return m.tanh * m.u * abs(value), m.u * ((2 * m.tanh + 2) * value**2 + 4 * slope)


class _LeakyReLU(Function):
    """f = z where z > 0, `slope` z elsewhere; ReLU is the slope 0."""

    elementary = False

    def __init__(self, slope: float) -> None:
        self.slope = slope
        self.kink = None if slope == 1 else Kink("LeakyReLU" if slope else "ReLU", slope, 1.0)

    def evaluate(self, z: A) -> tuple[A, A]:
        right = z.real > 0
        if self.slope == 0 and z.dtype.kind == "f":
            # a choice element by element, which no processor foresees, takes ten times as long
            return np.fmax(z, 0), right.astype(z.dtype)
        slope = np.where(right, np.ones_like(z.real), z.real.dtype.type(self.slope))
        # not slope * z: an infinite pre-activation has the activation 0 under ReLU
        return np.where(right, z, self.slope * z if self.slope else np.zeros_like(z)), slope

    def curvature(self, z: A, value: A, slope: A) -> A:
        return np.zeros_like(z)

    def jerk(self, z: A, value: A, slope: A) -> A:
        return np.zeros_like(z)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        left = (z <= NARROW) * m.u * abs(self.slope)  # as it is left of 0 for as long as 0 may be near
        return 2 * left * abs(z), left


class _ELU(Function):
    """f = z where z > 0, alpha (exp(z) - 1) elsewhere."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.kink = None if alpha == 1 else Kink("ELU", alpha, 1.0)
        self.slope_extrema = self.curvature_extrema = (0.0,)

    def evaluate(self, z: A) -> tuple[A, A]:
        right = z.real > 0
        left = np.where(right, 0, z)
        return np.where(right, z, self.alpha * np.expm1(left)), np.where(right, 1, self.alpha * np.exp(left))

    def curvature(self, z: A, value: A, slope: A) -> A:
        # as it is left of 0 for as long as 0 may be near
        return np.where(z > NARROW, 0, self.alpha * np.exp(np.minimum(z, 0)))

    def jerk(self, z: A, value: A, slope: A) -> A:
        return self.curvature(z, value, slope)  # f''' = f'' left of 0

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted slopes: alpha exp(z), a + alpha
        left = np.minimum(z, 0)
        grown, alpha = -np.expm1(left), (z <= NARROW) * self.alpha
        local = m.u * np.maximum(m.expm1 * grown + 3, (m.exp + 2) * np.exp(left))
        return alpha * ((m.expm1 + 2) * m.u * grown + m.normal), alpha * local


class _Softplus(Function):
    """f = log(1 + exp(z)), f' = s."""

    slope_extrema = ()
    curvature_extrema = (0.0,)

    def evaluate(self, z: A) -> tuple[A, A]:
        return softplus(z), logistic(z)[0]

    def curvature(self, z: A, value: A, slope: A) -> A:
        return np.asarray(slope * (1 - slope))

    def jerk(self, z: A, value: A, slope: A) -> A:
        s, q = logistic(z)
        return s * q  # f''' = f'' (1 - 2 s)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted slopes: sigma(z), exp(z - softplus(z))
        units = 2 * m.exp + 3 + m.softplus * (1 + m.u) * value + softplus(-z)
        return m.softplus * m.u * value, _exponential(slope, units, m) + _overflowing(z, slope, m)


class _SiLU(Function):
    """f = z s, f' = s + z s (1 - s)."""

    slope_extrema = (-2.3993573, 2.3993573)
    curvature_extrema = (-3.4358, 0.0, 3.4358)

    def evaluate(self, z: A) -> tuple[A, A]:
        s, q = logistic(z)
        return z * s, s * (1 + z * q)

    def curvature(self, z: A, value: A, slope: A) -> A:
        s, q = logistic(z)
        return np.asarray(s * q * (2 + z * (q - s)))

    def jerk(self, z: A, value: A, slope: A) -> A:
        s, q = logistic(z)
        return np.asarray(s * q * (3 + abs(z)))  # f''' = s q (3 (q - s) + z (1 - 6 s q))

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        s, q = logistic(z)
        o = _overflowing(z, s, m)
        size = abs(z)
        local = m.u * (m.sigmoid * abs(slope) + size * s * (m.sigmoid * s + 4 * q) + 6 * (s + size * s * q))
        return (m.sigmoid + 1) * m.u * abs(value) + size * (m.normal + o), local + size * (m.normal + 2 * o) + o

    def gain(self, z: A, m: Precision) -> A | float:
        return 2 + 2 * abs(z)


class _GELU(Function):
    """f = z Phi, f' = Phi + z phi, with the normal distribution Phi(z) = erfc(-z / sqrt 2) / 2 and density phi."""

    slope_extrema = (-(2**0.5), 2**0.5)
    curvature_extrema = (-2.0, 0.0, 2.0)

    def _density(self, z: A) -> A:
        return np.asarray(np.exp(-z * z / 2) / np.sqrt(8 * np.arctan(z.real.dtype.type(1))))

    def evaluate(self, z: A) -> tuple[A, A]:
        phi = erfc(-z / np.sqrt(z.real.dtype.type(2))) / 2
        return z * phi, phi + z * self._density(z)

    def curvature(self, z: A, value: A, slope: A) -> A:
        density = self._density(z)
        return np.where(density == 0, 0, density * (2 - z * z))

    def jerk(self, z: A, value: A, slope: A) -> A:
        density = self._density(z)
        return np.where(density == 0, 0, density * (1e-6 + abs(z) * (4 + z * z)))  # f''' = phi (z^3 - 4 z)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted: 0.5 (1 + erf), 0.5 erfc; neither kernel is relatively accurate in the negative tail
        density = self._density(z)
        # less exact than erfc, by roundings of z phi that are part of the bound
        phi = np.maximum(slope - z * density, 0)
        size = abs(z)
        erf = abs(1 - 2 * phi)
        e = m.u * (2 * size * density + m.erf * np.maximum(erf, 0.6) / 2 + 2 * phi)
        local = e + size * density * np.minimum((2.5 * z * z + m.exp + 6) * m.u, 2)
        # z (1 + erf), twice the value, may overflow before it is halved
        local_value = np.where(2 * size <= m.largest, size * (e + m.normal) + 3 * m.u * abs(value), np.inf)
        return local_value, local + m.u * (abs(slope) + 2 * phi) + size * m.normal

    def gain(self, z: A, m: Precision) -> A | float:
        return 2 + 2 * abs(z)


class _TanhGELU(Function):
    """f = z (1 + t) / 2 with t = tanh(w), w = k0 (z + k1 z^3), k0 = sqrt(2 / pi), k1 = 0.044715."""

    slope_extrema = (-1.418504009, 1.418504009)
    curvature_extrema = (-2.013480725, 0.0, 2.013480725)

    def _parts(self, z: A) -> tuple[A, A, A, A]:
        real = z.real.dtype.type
        k0, k1 = 1 / np.sqrt(2 * np.arctan(real(1))), real("0.044715")
        w = k0 * z * (1 + k1 * z * z)
        e = np.exp(-2 * away(w))
        right = w.real >= 0
        # (1 + t) / 2 = sigma(2 w), which keeps its digits in the negative tail
        return w, k0 * (1 + 3 * k1 * z * z), np.where(right, 1, e) / (1 + e), 4 * e / (1 + e) ** 2

    def evaluate(self, z: A) -> tuple[A, A]:
        _, w1, half, sech2 = self._parts(z)
        return z * half, half + np.where(sech2 == 0, 0, z * sech2 * w1) / 2

    def curvature(self, z: A, value: A, slope: A) -> A:
        w, w1, _, sech2 = self._parts(z)
        w2 = 6 * 0.044715 * 0.7978845608028654 * z
        return np.where(sech2 == 0, 0, sech2 * (w1 + z * w2 / 2 - z * np.tanh(w) * w1 * w1))

    def jerk(self, z: A, value: A, slope: A) -> A:
        # f''' = 3 h'' + z h''' of h = (1 + tanh w) / 2, every term with its size
        _, w1, _, sech2 = self._parts(z)
        w3 = 6 * 0.044715 * 0.7978845608028654
        size, w2 = abs(z), w3 * abs(z)
        terms = 3 * (w2 + 2 * w1**2) + size * (w3 + 6 * w1 * w2 + 4 * w1**3)
        return np.where(sech2 == 0, 0, sech2 / 2 * terms)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        w, w1, half, sech2 = self._parts(z)
        t, size = abs(np.tanh(w)), abs(z)
        bend = np.where(sech2 == 0, 0, size * sech2 * w1 / 2)
        # accepted: 0.5 (1 + tanh w), sigma(2 w), which both amplify the error of w
        e_w = np.minimum(6 * m.u * abs(w) * sech2, 2)
        e_t = e_w + m.tanh * m.u * t
        e_half = np.maximum(e_t / 2 + m.u * half, e_w / 2 + m.sigmoid * m.u * half)
        local = e_half + size * w1 / 2 * (2 * t * e_t + 2 * m.u) + 8 * m.u * (half + bend)
        return size * (e_half + m.normal) + 2 * m.u * abs(value), np.minimum(local, 4) + size * m.normal

    def gain(self, z: A, m: Precision) -> A | float:
        size = abs(z)
        return np.where(size**3 <= m.largest, 2 + 2 * size * (2 + 0.8 * (1 + 0.14 * z * z)), np.inf)


class HuberFunction(Function):
    """f = r^2 / 2 where |r| <= delta, delta (|r| - delta / 2) elsewhere."""

    elementary = False

    def __init__(self, delta: float) -> None:
        self.delta = delta
        self.curvature_extrema = (0.0, delta, -delta)

    def evaluate(self, z: A) -> tuple[A, A]:
        size = away(z)
        inside = size.real <= self.delta
        near = np.where(inside, z, 0)
        slope = np.where(inside, z, np.sign(z.real) * self.delta)
        return np.where(inside, near * near / 2, self.delta * (size - self.delta / 2)), slope

    def curvature(self, z: A, value: A, slope: A) -> A:
        return (abs(z) <= self.delta + NARROW).astype(z.dtype)

    def jerk(self, z: A, value: A, slope: A) -> A:
        return np.zeros_like(z)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted: by cases, and delta (|r| - q) + q^2 / 2 with q = min(|r|, delta), whose slope is delta - delta + q
        outside = abs(z) >= self.delta * (1 - m.u) - NARROW
        linear = 4 * m.u * self.delta * (abs(z) + self.delta)
        return 3 * m.u * value + outside * linear, np.full_like(value, 4 * m.u * self.delta)


class LogitCrossEntropy(Function):
    """f = softplus(z) - y z = -y log sigma(z) - (1 - y) log sigma(-z), f' = sigma(z) - y, for targets y in [0, 1]."""

    curvature_extrema = (0.0,)

    def __init__(self, targets: A) -> None:
        self.y = targets

    def evaluate(self, z: A) -> tuple[A, A]:
        y = np.asarray(self.y, z.real.dtype)  # 1 - y to the precision of z
        s, q = logistic(z)
        return y * softplus(-z) + (1 - y) * softplus(z), (1 - y) * s - y * q

    def curvature(self, z: A, value: A, slope: A) -> A:
        s, q = logistic(z)
        return s * q

    def jerk(self, z: A, value: A, slope: A) -> A:
        return self.curvature(z, value, slope)  # f''' = f'' (1 - 2 s)

    def rounding(self, z: A, value: A, slope: A, m: Precision) -> tuple[A, A]:
        # accepted values: the two softplus terms, (1 - y) z + softplus(-z)
        # accepted slopes: sigma(z) - y, (1 - y) sigma(z) - y sigma(-z), the latter also with exp(z - softplus(z))
        y, size = self.y, abs(z)
        s, q = logistic(z)
        mix = y * q + (1 - y) * s
        local = m.u * (m.softplus + 3) * (y * softplus(-z) + (1 - y) * softplus(z))
        other = m.u * (m.softplus * softplus(-z) + 3 * abs(1 - y) * size + abs(value))
        units = (m.softplus + 1) * size + 2 * m.exp + 4
        slope_local = m.u * (m.sigmoid + 4) + _exponential(mix, units, m) + _overflowing(z, s, m)
        return np.maximum(local, other), slope_local


@singledispatch
def function(layer: object) -> Function:
    """Return the scalar function of an elementwise layer or loss."""
    raise Unsupported(f"reference: no rule for {type(layer).__name__}")


def has_kink(layer: object) -> bool:
    """Return whether a layer is an elementwise one whose one-sided derivatives differ somewhere."""
    return type(layer) in function.registry and function(layer).kink is not None


@function.register
def _(layer: Sigmoid) -> Function:
    return _Sigmoid()


@function.register
def _(layer: Tanh) -> Function:
    return _Tanh()


@function.register
def _(layer: ReLU) -> Function:
    return _LeakyReLU(0.0)


@function.register
def _(layer: LeakyReLU) -> Function:
    return _LeakyReLU(layer.slope)


@function.register
def _(layer: ELU) -> Function:
    return _ELU(layer.alpha)


@function.register
def _(layer: Softplus) -> Function:
    return _Softplus()


@function.register
def _(layer: SiLU) -> Function:
    return _SiLU()


@function.register
def _(layer: GELU) -> Function:
    return _TanhGELU() if layer.approximate == "tanh" else _GELU()


@function.register
def _(layer: Huber) -> Function:
    return HuberFunction(layer.delta)
