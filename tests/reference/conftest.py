"""What the tests of the reference share: an arithmetic that makes every error that the model allows, on purpose."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from gradconform.reference import bounds
from gradconform.reference.erf import erfc
from gradconform.reference.precision import precision

needs_long = pytest.mark.skipif(not bounds.LONG, reason="this machine has no type longer than float64")


@pytest.fixture(params=[np.float32, pytest.param(np.float64, marks=needs_long)])
def dtype(request):
    """A type with a rounding model, and a longer one to measure its errors in."""
    return request.param


@pytest.fixture
def legal():
    return Legal


@pytest.fixture
def rough():
    return Rough


@pytest.fixture
def decimal():
    return to_decimal


def to_decimal(x):
    """Return a NumPy number of any floating-point type as the Decimal that it exactly is."""
    mantissa, exponent = np.frexp(x)
    with localcontext(prec=800):
        high = float(mantissa)
        return (Decimal(high) + Decimal(float(mantissa - x.dtype.type(high)))) * Decimal(2) ** int(exponent)


class Rough:
    """An array whose every operation errs by as much as the arithmetic `k` decides."""

    __array_ufunc__ = None

    def __init__(self, k, value):
        self.k = k
        self.value = value

    def __add__(self, other):
        return self.k.rounded(self.value + self.k.number(other))

    __radd__ = __add__

    def __neg__(self):
        return Rough(self.k, -self.value)

    def __sub__(self, other):
        return self.k.rounded(self.value - self.k.number(other))

    def __rsub__(self, other):
        return self.k.rounded(self.k.number(other) - self.value)

    def __mul__(self, other):
        if isinstance(other, Factors):
            return other * self
        return self.k.rounded(self.value * self.k.number(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self.k.quotient(self.value, self.k.number(other))

    def __rtruediv__(self, other):
        return self.k.quotient(self.k.number(other), self.value)

    def __matmul__(self, other):
        return self.k.affine(self, other, None)

    def __getitem__(self, index):
        return Rough(self.k, self.value[index])

    @property
    def T(self):  # noqa: N802 - NumPy's name
        return Rough(self.k, self.value.T)

    @property
    def shape(self):
        return self.value.shape

    def sum(self, axis=None, keepdims=False):
        terms = self.value.reshape(-1) if axis is None else np.moveaxis(self.value, axis, 0)
        total = self.k.added([Rough(self.k, term) for term in terms])
        if keepdims:
            return Rough(self.k, np.expand_dims(total.value, axis))
        return total


class Factors:
    """A slope that a backward kernel multiplies onto the cotangent factor by factor."""

    __array_ufunc__ = None

    def __init__(self, *factors):
        self.factors = factors

    def __mul__(self, cotangent):
        for factor in self.factors:
            cotangent = cotangent * factor
        return cotangent

    @property
    def value(self):
        return np.prod([factor.value for factor in self.factors], axis=0)


class Legal:
    """A computation that the model of `dtype` permits: every rounding as large as it may be, in any direction.

    It is carried in a longer type, so that what it strays from the exact result by is what it was told to. `signs`:
    "up" and "down" round all results away from 0 or towards it, "random" either way. Sums run in a random order,
    formulas are drawn from those that implementations use, and what underflows may be flushed to 0.
    """

    fuses = False

    def __init__(self, dtype, rng, signs="random"):
        self.m = precision(np.dtype(dtype))
        self.carrier = np.longdouble if self.m.dtype == np.float64 else np.float64
        self.rng = rng
        self.signs = signs
        self.flushes = bool(rng.integers(2))
        self.fused = bool(rng.integers(2))

    def direction(self, shape):
        if self.signs == "random":
            return self.rng.choice([-1.0, 1.0], shape)
        return np.full(shape, 1.0 if self.signs == "up" else -1.0)

    def rounded(self, exact, units=1.0):
        exact = np.asarray(exact)
        value = exact * (1 + self.carrier(units * self.m.u) * self.direction(exact.shape))
        if self.flushes:
            value = np.where(np.abs(value) < self.m.eta, 0, value)
        return Rough(self, np.where(np.abs(value) > self.m.largest, np.copysign(np.inf, value), value))

    def number(self, x):
        return x.value if isinstance(x, Rough) else self.lift(x).value

    def lift(self, numbers):
        given = np.asarray(numbers)
        value = given.astype(self.carrier)
        nearest = value.astype(self.m.dtype).astype(self.carrier)
        value = nearest if given.dtype == self.m.dtype else np.where(nearest == value, value, self.rounded(value).value)
        return Rough(self, np.where(self.flushes & (np.abs(value) < self.m.eta), 0, value))

    def quotient(self, x, y):
        return self.rounded(x / y) if self.rng.integers(2) else Rough(self, x) * self.rounded(1 / y)

    def added(self, terms):
        """Return the sum of a list of terms: one after the other, or in pairs, in a random order."""
        terms = [terms[i] for i in self.rng.permutation(len(terms))]
        pairwise = bool(self.rng.integers(2))
        while len(terms) > 1:
            one, another, *rest = terms
            terms = [*rest, one + another] if pairwise else [one + another, *rest]
        return terms[0]

    def affine(self, x, weight, bias):
        exact = x.value[:, :, None] * weight.value[None, :, :]
        products = Rough(self, exact) if self.fused else self.rounded(exact)
        terms = [products[:, i] for i in range(exact.shape[1])]
        if bias is not None:
            terms.append(Rough(self, np.broadcast_to(bias.value, terms[0].shape)))
        total = self.added(terms)
        return self.rounded(total.value) if self.fused and len(terms) == 1 else total

    def exp(self, x):
        return self.rounded(np.exp(x.value), self.m.exp)

    def log(self, x):
        return self.rounded(np.log(x.value), self.m.log)

    def maximum(self, x, floor):
        limit = self.lift(floor).value
        return Rough(self, np.where(np.isnan(x.value), x.value, np.maximum(x.value, limit)))

    def weigh(self, weight, x):
        return Rough(self, np.where(weight.value == 0, 0, (weight * x).value))

    def accept(self, accurate, *common):
        return common[self.rng.integers(len(common))]()

    def softmax(self, z):
        shifted = z - Rough(self, z.value.max(axis=-1, keepdims=True))
        shifted.value = np.where(z.value == z.value.max(axis=-1, keepdims=True), 0, shifted.value)
        e = self.exp(shifted)
        total = e.sum(axis=-1, keepdims=True)
        log_p = shifted - self.log(total)
        p = e / total if self.rng.integers(2) else self.exp(log_p)
        return p, 1 - p, log_p

    def evaluate(self, function, z):
        return KERNELS[type(function).__name__](self, function, z)

    def either(self, *choices):
        return choices[self.rng.integers(len(choices))]()


def sigmoid(k, z):
    s = 1 / (1 + np.exp(-z.value))
    if -np.min(z.value, initial=0) > math.log(k.m.largest) - 0.7 and k.rng.integers(2):
        s = np.where(-z.value > math.log(k.m.largest) - 0.7, 0, s)  # exp(-z) overflows
    return k.rounded(s, k.m.sigmoid)


def softplus(k, z):
    z = z.value
    return k.rounded(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), k.m.softplus)


def tanh(k, z):
    t = np.clip(k.rounded(np.tanh(z.value), k.m.tanh).value, -1, 1)
    return Rough(k, np.where(np.abs(z.value) > 20, np.sign(z.value), t))  # every kernel saturates, none overshoots


def sigmoid_kernel(k, function, z):
    s = sigmoid(k, z)
    return s, k.either(lambda: s * (1 - s), lambda: s * sigmoid(k, -z), lambda: Factors(s, 1 - s))


def tanh_kernel(k, function, z):
    t = tanh(k, z)

    class Spread:
        """(g + g t) (1 - t)."""

        __array_ufunc__ = None
        value = (1 - t.value) * (1 + t.value)

        def __mul__(self, g):
            return (g + g * t) * (1 - t)

    return t, k.either(lambda: 1 - t * t, Spread)


def leaky_kernel(k, function, z):
    slope = k.lift(function.slope)
    left = z * slope
    at_kink = np.where(z.value == 0, k.rng.choice([slope.value, 1.0]), 1.0)
    value = np.where(z.value > 0, z.value, left.value)
    return Rough(k, value), Rough(k, np.where(z.value < 0, slope.value, at_kink))


def elu_kernel(k, function, z):
    alpha = k.lift(function.alpha)
    below = Rough(k, np.minimum(z.value, 0))
    left = alpha * k.rounded(np.expm1(below.value), k.m.expm1)
    slope = k.either(lambda: alpha * k.exp(below), lambda: left + alpha)
    right = z.value > 0
    return Rough(k, np.where(right, z.value, left.value)), Rough(k, np.where(right, 1, slope.value))


def softplus_kernel(k, function, z):
    a = softplus(k, z)
    return a, k.either(lambda: sigmoid(k, z), lambda: k.exp(z - a))


def silu_kernel(k, function, z):
    s = sigmoid(k, z)
    a = z * s
    return a, k.either(lambda: s * (1 + z * (1 - s)), lambda: s + a * (1 - s), lambda: Factors(s, 1 + z * (1 - s)))


def gelu_kernel(k, function, z):
    x = z * k.lift(math.sqrt(0.5))
    erf = 1 - erfc(x.value)
    erf = Rough(k, erf + k.m.erf * k.m.u * np.maximum(np.abs(erf), 0.6) * k.direction(erf.shape))
    phi = 0.5 * (1 + erf)
    density = k.exp(-0.5 * (z * z)) * k.lift(math.sqrt(0.5 / math.pi))
    return z * phi, phi + z * density


def tanh_gelu_kernel(k, function, z):
    k0, k1 = k.lift(math.sqrt(2 / math.pi)), k.lift(0.044715)
    t = tanh(k, k0 * (z + k1 * (z * z * z)))
    phi = 0.5 * (1 + t)
    square = Rough(k, np.where(np.abs(t.value) == 1, 1, (t * t).value))  # 1 * 1 is exact in any arithmetic
    return z * phi, phi + 0.5 * z * (1 - square) * (k0 * (1 + 3 * k1 * (z * z)))


def huber_kernel(k, function, z):
    delta, size = k.lift(function.delta), np.abs(z.value)
    inside = size <= delta.value
    near, r = 0.5 * z * z, Rough(k, size)
    far = k.either(
        lambda: delta * (r - 0.5 * delta),
        lambda: delta * r - 0.5 * (delta * delta),
        lambda: 0.5 * (delta * delta) + delta * (r - delta),
    )
    slope = np.where(inside, z.value, np.sign(z.value) * delta.value)
    return Rough(k, np.where(inside, near.value, far.value)), Rough(k, slope)


def logit_kernel(k, function, z):
    y = k.lift(function.y)
    value = k.either(lambda: y * softplus(k, -z) + (1 - y) * softplus(k, z), lambda: (1 - y) * z + softplus(k, -z))
    s, q = sigmoid(k, z), sigmoid(k, -z)
    return value, k.either(
        lambda: s - y,
        lambda: (1 - y) * s - y * q,
        lambda: (1 - y) * k.exp(z - softplus(k, z)) - y * k.exp(-z - softplus(k, -z)),
    )


KERNELS = {
    "_Sigmoid": sigmoid_kernel,
    "_Tanh": tanh_kernel,
    "_LeakyReLU": leaky_kernel,
    "_ELU": elu_kernel,
    "_Softplus": softplus_kernel,
    "_SiLU": silu_kernel,
    "_GELU": gelu_kernel,
    "_TanhGELU": tanh_gelu_kernel,
    "HuberFunction": huber_kernel,
    "LogitCrossEntropy": logit_kernel,
}
