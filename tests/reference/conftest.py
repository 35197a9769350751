"""What the tests of the reference share: an arithmetic that makes every error that the model allows, on purpose."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from gradconform.dtypes import dtype_of, finfo
from gradconform.reference import bounds
from gradconform.reference.erf import erfc
from gradconform.reference.precision import precision

needs_long = pytest.mark.skipif(not bounds.LONG, reason="this machine has no type longer than float64")


MODELS = [
    pytest.param(precision(dtype_of(name), arithmetic), id=f"{name}-{arithmetic}", marks=marks)
    for name, arithmetics, marks in [
        ("float64", ("torch", "any"), needs_long),
        ("float32", ("torch", "any"), ()),
        ("bfloat16", ("numpy", "torch", "any"), ()),
        ("float16", ("numpy", "torch", "any"), ()),
    ]
    for arithmetic in arithmetics
]
"""All models that differ: in the longer types NumPy's is PyTorch's, and in all of them XLA's is that of any."""


@pytest.fixture(params=[np.float32, pytest.param(np.float64, marks=needs_long)])
def dtype(request):
    """A type with a rounding model, and a longer one to measure its errors in."""
    return request.param


@pytest.fixture(params=MODELS)
def model(request):
    """What one rounding may do, in a type and an arithmetic."""
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
    """An array whose every operation errs by as much as the arithmetic `k` decides.

    `value` is what it is stored as and shows, `used` what the computation goes on with: the same, unless the
    arithmetic keeps more digits than it stores.
    """

    __array_ufunc__ = None

    def __init__(self, k, value, used=None):
        self.k = k
        self.value = value
        self.used = value if used is None else used
        self.stored = used is None

    def map(self, view):
        return Rough(self.k, view(self.value), None if self.stored else view(self.used))

    def __add__(self, other):
        return self.k.sum_of_two(self.used, self.k.number(other))

    __radd__ = __add__

    def __neg__(self):
        return self.map(np.negative)

    def __sub__(self, other):
        return self.k.sum_of_two(self.used, -self.k.number(other))

    def __rsub__(self, other):
        return self.k.sum_of_two(self.k.number(other), -self.used)

    def __mul__(self, other):
        if isinstance(other, Factors):
            return other * self
        return self.k.rounded(self.used * self.k.number(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self.k.quotient(self.used, self.k.number(other))

    def __rtruediv__(self, other):
        return self.k.quotient(self.k.number(other), self.used)

    def __matmul__(self, other):
        return self.k.affine(self, other, None)

    def __getitem__(self, index):
        return self.map(lambda array: array[index])

    @property
    def mT(self):  # noqa: N802 - NumPy's name
        return self.map(lambda array: array.mT)

    @property
    def shape(self):
        return self.value.shape

    def sum(self, axis=None, keepdims=False):
        value = self.used
        total = self.k.sum(value.reshape(-1) if axis in (None, (-2, -1)) else np.moveaxis(value, axis, 0))
        return total.map(lambda array: np.expand_dims(array, axis)) if keepdims else total


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
    formulas are drawn from those that implementations use, what underflows may be flushed to 0, and what is stored may
    be used before it is rounded, all where the arithmetic allows it. `stores`: every value is a number of `dtype`, the
    farthest that the error allows, so that it can be shown.
    """

    fuses = False

    def __init__(self, dtype, rng, signs="random", arithmetic="any", stores=False):
        self.m = precision(np.dtype(dtype), arithmetic)
        self.carrier = np.longdouble if self.m.dtype == np.float64 else np.float64
        self.limits = finfo(self.m.dtype)
        self.rng = rng
        self.signs = signs
        self.stores = stores
        self.flushes = self.m.flushes and bool(rng.integers(2))
        self.excess = self.m.excess and bool(rng.integers(2))
        self.fused = bool(rng.integers(2))

    def direction(self, shape):
        if self.signs == "random":
            return self.rng.choice([-1.0, 1.0], shape)
        return np.full(shape, 1.0 if self.signs == "up" else -1.0)

    def strayed(self, exact, u):
        return exact * (1 + self.carrier(u) * self.direction(exact.shape))

    def rounded(self, exact, units=1.0):
        exact = np.asarray(exact)
        underflows = (np.abs(exact) < self.limits.smallest_normal) & (exact != 0)
        half = self.carrier(self.limits.smallest_subnormal) / 2
        error = np.where(underflows, half, units * self.m.u * np.abs(exact))
        return self.result(exact, error, before=max(0, units - 1) / units)

    def sum_of_two(self, x, y):
        """Return x + y, which is exact where it underflows, and off by no more than x or y are large."""
        exact = x + y
        least = np.inf if self.excess else np.minimum(np.abs(x), np.abs(y))
        return self.result(exact, np.minimum(self.m.u * np.abs(exact), least))

    def result(self, exact, error, before=0.0):
        """Return a value as it is stored and, where that may be left out, with its error `before` it is rounded."""
        moved = np.where(np.isfinite(exact), error, 0) * self.direction(exact.shape)
        value = self.stored(exact, moved) if self.stores else exact + moved
        value = np.where(np.abs(value) > self.m.largest, np.copysign(np.inf, value), self.flushed(value))
        if self.excess and self.rng.integers(2):
            return Rough(self, value, self.flushed(exact + before * moved))
        return Rough(self, value)

    def flushed(self, value):
        return np.where(np.abs(value) < self.m.eta, 0, value) if self.flushes else value

    def stored(self, exact, moved):
        """Return the number of the type next to `exact + moved` on this side of it, or the nearest to `exact`."""
        end = exact + moved
        step = self.step(end)
        inward = np.where(moved > 0, np.floor(end / step), np.ceil(end / step)) * step
        nearest = np.rint(exact / self.step(exact)) * self.step(exact)
        return np.where((inward - exact) * moved > 0, inward, nearest)

    def step(self, value):
        """Return the distance between two numbers of the type."""
        least = np.frexp(float(self.limits.smallest_normal))[1]
        return np.ldexp(self.carrier(1), np.maximum(np.frexp(value)[1], least) - self.limits.nmant - 1)

    def number(self, x):
        return x.used if isinstance(x, Rough) else self.lift(x).used

    def lift(self, numbers):
        given = np.asarray(numbers)
        value = given.astype(self.carrier)
        if given.dtype == self.m.dtype:
            return Rough(self, self.flushed(value))
        nearest = value.astype(self.m.dtype).astype(self.carrier)
        return choose(self, nearest == value, value, self.rounded(value))

    def quotient(self, x, y):
        return self.rounded(x / y) if self.rng.integers(2) else Rough(self, x) * self.rounded(1 / y)

    def accumulated(self, terms, add):
        """Return the sum of a list of arrays: one after the other, or in pairs, in a random order."""
        terms = [terms[i] for i in self.rng.permutation(len(terms))]
        pairwise = bool(self.rng.integers(2))
        while len(terms) > 1:
            one, another, *rest = terms
            total = add(one, another)
            terms = [*rest, total] if pairwise else [total, *rest]
        return terms[0]

    def in_accumulator(self, exact):
        """Round as inside a product of matrices."""
        return self.strayed(exact, self.m.u_acc) if self.m.longer else self.rounded(exact).value

    def add(self, x, y):
        return self.in_accumulator(x + y) if self.m.longer else self.sum_of_two(x, y).value

    def sum(self, terms):
        if self.m.u_sum < self.m.u or (self.excess and self.rng.integers(2)):
            total = self.accumulated(terms, self.add)
            return self.rounded(total) if len(terms) > 1 else Rough(self, total)
        total = self.accumulated(terms, lambda x, y: self.sum_of_two(x, y).used)
        return Rough(self, total)

    def affine(self, x, weight, bias):
        exact = x.used[:, :, None] * weight.used[None, :, :]
        products = exact if self.fused else self.in_accumulator(exact)
        terms = [products[:, i] for i in range(exact.shape[1])]
        late = self.m.longer and bool(self.rng.integers(2))
        if bias is not None and not late:
            terms.append(np.broadcast_to(bias.used, terms[0].shape))
        total = self.accumulated(terms, self.add)
        if self.m.longer or (self.fused and len(terms) == 1):
            total = self.rounded(total)
            return total + bias if bias is not None and late else total
        return Rough(self, total)

    def exp(self, x):
        return self.rounded(np.exp(x.used), self.m.exp)

    def log(self, x):
        return self.rounded(np.log(x.used), self.m.log)

    def maximum(self, x, floor):
        limit = self.lift(floor).value
        return x.map(lambda array: np.where(np.isnan(array), array, np.maximum(array, limit)))

    def clip(self, p, margin, layer):
        low = self.lift(margin).value
        high = self.rounded(1 - low, 0.5).value  # numbers between 1/2 and 1 are rounded by half of u at most
        below, above = p.used < low, p.used > high
        limited = p.map(lambda array: np.where(below, low, np.where(above, high, array)))
        return limited, Rough(self, (~(below | above)).astype(self.carrier))

    def summable(self, x, weights):
        return x

    def weigh(self, weight, x):
        return (weight * x).map(lambda product: np.where(weight.value == 0, 0, product))

    def accept(self, accurate, *common):
        return common[self.rng.integers(len(common))]()

    def softmax(self, z):
        top = z.used.max(axis=-1, keepdims=True)
        # of numbers as they are stored it is exact, of others it may be rounded
        shifted = z - (Rough(self, top) if z.stored else self.rounded(top))
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
    z = z.used
    s = 1 / (1 + np.exp(-z))
    if -np.min(z, initial=0) > math.log(k.m.largest) - 0.7 and k.rng.integers(2):
        s = np.where(-z > math.log(k.m.largest) - 0.7, 0, s)  # exp(-z) overflows
    return k.rounded(s, k.m.sigmoid)


def softplus(k, z):
    a = k.rounded(np.maximum(z.used, 0) + np.log1p(np.exp(-np.abs(z.used))), k.m.softplus)
    # no rounding brings a below a z that is stored
    return a.map(lambda a: np.maximum(a, z.value)) if z.stored else a


def tanh(k, z):
    z = z.used

    def saturated(t):  # every kernel saturates, none overshoots
        return np.where(np.abs(z) > 20, np.sign(z), np.clip(t, -1, 1))

    return k.rounded(np.tanh(z), k.m.tanh).map(saturated)


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


def choose(k, condition, x, y):
    """Return `x` where the condition holds, else `y`, both of which may be constants."""
    x, y = (side if isinstance(side, Rough) else Rough(k, np.asarray(side, k.carrier)) for side in (x, y))
    used = None if x.stored and y.stored else np.where(condition, x.used, y.used)
    return Rough(k, np.where(condition, x.value, y.value), used)


def leaky_kernel(k, function, z):
    slope, seen = k.lift(function.slope), z.used
    right = (seen > 0) | ((seen == 0) & bool(k.rng.integers(2)))
    return choose(k, seen > 0, z, z * slope), choose(k, right, 1, slope)


def elu_kernel(k, function, z):
    alpha, seen = k.lift(function.alpha), z.used
    below = z.map(lambda array: np.minimum(array, 0))
    left = alpha * k.rounded(np.expm1(below.used), k.m.expm1)
    slope = k.either(lambda: alpha * k.exp(below), lambda: left + alpha)
    return choose(k, seen > 0, z, left), choose(k, seen > 0, 1, slope)


def softplus_kernel(k, function, z):
    a = softplus(k, z)
    return a, k.either(lambda: sigmoid(k, z), lambda: k.exp(z - a))


def silu_kernel(k, function, z):
    s = sigmoid(k, z)
    a = z * s
    return a, k.either(lambda: s * (1 + z * (1 - s)), lambda: s + a * (1 - s), lambda: Factors(s, 1 + z * (1 - s)))


def gelu_kernel(k, function, z):
    x = z * k.lift(math.sqrt(0.5))
    exact = 1 - erfc(x.used)
    erf = Rough(k, exact + k.m.erf * k.m.u * np.maximum(np.abs(exact), 0.6) * k.direction(exact.shape))
    phi = 0.5 * (1 + erf)
    density = k.exp(-0.5 * (z * z)) * k.lift(math.sqrt(0.5 / math.pi))
    return z * phi, phi + z * density


def tanh_gelu_kernel(k, function, z):
    k0, k1 = k.lift(math.sqrt(2 / math.pi)), k.lift(0.044715)
    w = k0 * (z + k1 * (z * z * z))
    t = tanh(k, w)
    phi = k.either(lambda: 0.5 * (1 + t), lambda: sigmoid(k, 2 * w))
    square = choose(k, np.abs(t.value) == 1, 1, t * t)  # 1 * 1 is exact in any arithmetic
    return z * phi, phi + 0.5 * z * (1 - square) * (k0 * (1 + 3 * k1 * (z * z)))


def huber_kernel(k, function, z):
    delta, r = k.lift(function.delta), z.map(np.abs)
    near, inside = 0.5 * z * z, r.used <= delta.value
    q = r.map(lambda array: np.minimum(array, delta.value))
    value = k.either(
        lambda: choose(k, inside, near, delta * (r - 0.5 * delta)),
        lambda: choose(k, inside, near, delta * r - 0.5 * (delta * delta)),
        lambda: choose(k, inside, near, 0.5 * (delta * delta) + delta * (r - delta)),
        lambda: delta * (r - q) + 0.5 * q * q,
    )
    sign = np.sign(z.value)
    slope = choose(k, inside, z, delta.map(lambda array: sign * array))
    return value, k.either(lambda: slope, lambda: choose(k, inside, sign * delta - sign * delta + slope, slope))


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
