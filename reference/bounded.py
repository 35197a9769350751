"""Arrays with error bounds: what no computation inside the arithmetic model can stray from.

A `Bounded` holds the exact result, computed in a longer or at least the same type, and for every element a bound on
|computed - exact| over every computation that `Precision` permits. Running error analysis: N. J. Higham, Accuracy and
Stability of Numerical Algorithms, section 3.3; the constant n u for inner products of any order: C.-P. Jeannerod and
S. M. Rump, 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradconform.reference.precision import Precision

Errors = NDArray[Any]
"""Bounds are float64 arrays; infinite where nothing is known."""

LOST = 2.0**-1074
"""What the product of an error may lose where it underflows itself, which a large weight would make visible."""


class Bounded:
    """An array `value` and, element by element, a bound `error` on how far a permitted computation may be from it."""

    __slots__ = ("error", "exact", "gain", "m", "peak", "reach", "size", "value")
    __array_ufunc__ = None  # array * Bounded is Bounded.__rmul__

    def __init__(
        self,
        value: NDArray[Any],
        error: Errors,
        m: Precision,
        *,
        size: Errors | None = None,
        gain: Any = 1.0,
        exact: bool = False,
    ) -> None:
        self.value = value
        self.size: Errors = _size(value) if size is None else size
        self.error: Errors = error
        self.reach: Errors = self.size if exact else self.size + error
        """How large a computed value may be."""
        self.peak = peak_of(self.reach)
        if not self.peak <= m.largest:
            # beyond the largest number, or undefined: nothing is known
            self.error, exact = np.where(self.reach <= m.largest, error, np.inf), False
        self.m = m
        self.gain = gain
        """How large a factor of a product with this value may be, where its kernel multiplies one after the other.

        By so much an underflow may be amplified, and an intermediate product may exceed the final one.
        """
        self.exact = exact
        """Whether all errors are known to be 0, as those of given numbers mostly are."""

    @classmethod
    def lift(cls, numbers: Any, carrier: Any, m: Precision, uncertainty: float = 0.0) -> Bounded:
        """Return given numbers, which an implementation rounds to its type and, if subnormal, may read as 0.

        `uncertainty`: by how much, in proportion to its size, it may have used another number than the given one.
        """
        given = np.asarray(numbers)
        value = given.astype(carrier, copy=False)
        size = _size(value)
        error: Errors = np.zeros(size.shape)
        exact = not uncertainty
        if given.dtype != m.dtype and np.count_nonzero(inexact := value.astype(m.dtype) != value):
            error, exact = np.where(inexact, m.u * size, 0.0), False
        if uncertainty:
            error = error + uncertainty * size + m.eta
        if m.flushes and np.count_nonzero(subnormal := (size < m.eta) & (size > 0)):
            error, exact = np.where(subnormal, m.eta, error), False
        return cls(value, error, m, size=size, exact=exact)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.value.shape

    def _other(self, other: Any) -> Bounded:
        return other if isinstance(other, Bounded) else Bounded.lift(other, self.value.dtype, self.m)

    def _rounded(self, value: NDArray[Any], error: Errors | None, roundings: int = 1, underflows: Any = 1.0) -> Bounded:
        """Return a result after its own roundings. `error` comes from its operands, None if they are exact."""
        m, size = self.m, _size(value)
        u = roundings * m.u * (1 + m.u)  # at least (1 + u)^2 - 1 for two
        if error is None:
            error = u * size
        else:
            error = error * (1 + u)
            error += u * size
        error += underflows * m.eta
        return Bounded(value, error, m, size=size)

    def __add__(self, other: Any) -> Bounded:
        y = self._other(other)
        return self._rounded(self.value + y.value, None if self.exact and y.exact else self.error + y.error)

    __radd__ = __add__

    def __neg__(self) -> Bounded:
        return self._with(-self.value, self.size, self.error, self.reach)

    def __sub__(self, other: Any) -> Bounded:
        return self + -self._other(other)

    def __rsub__(self, other: Any) -> Bounded:
        return self._other(other) + -self

    def __mul__(self, other: Any) -> Bounded:
        y = self._other(other)
        error = None if y.exact else self.size * y.error
        if not self.exact:
            own = self.error * y.reach
            error = own if error is None else error + own
        gain = self.gain * y.gain
        # of max(a, b), NaN stays if it is a: a NaN somewhere must not hide an overflow elsewhere
        most = max(peak_of(gain), 1.0)
        if not (most * self.peak <= self.m.largest and most * y.peak <= self.m.largest):
            # a kernel that multiplies the cotangent first may overflow before a smaller factor brings it back
            fits = np.maximum(self.gain * y.size, y.gain * self.size) <= self.m.largest
            error = np.where(fits, 0.0 if error is None else error, np.inf)
        return self._rounded(self.value * y.value, error, underflows=gain)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        y = self._other(other)
        value = self.value / y.value
        if y.exact:
            room, error = y.size, self.error / y.size
        else:
            room = np.where(y.error < y.size, y.size - y.error, 0.0)
            error = (self.error + _size(value) * y.error) / room
        # two roundings: a division, or a product with the rounded reciprocal, which may overflow or underflow
        error = np.where(1 / room <= self.m.largest, error, np.inf)
        return self._rounded(value, error, roundings=2, underflows=1 + self.reach)

    def __rtruediv__(self, other: Any) -> Bounded:
        return self._other(other) / self

    def __matmul__(self, other: Bounded) -> Bounded:
        return self.affine(other, None)

    def affine(self, weight: Bounded, bias: Bounded | None) -> Bounded:
        """Return x W + b: n u times the sum of the n terms' sizes, in any order, and what comes in propagated.

        Where the sum is accumulated in a longer type, it is rounded to the type itself before and after the bias.
        """
        m, terms = self.m, self.value.shape[-1] + (bias is not None)
        u = terms * m.u_acc
        value = self.value @ weight.value
        spread = u * self.reach
        spread += LOST
        if not self.exact:
            spread += self.error
        error = spread @ weight.size
        if not weight.exact:
            error += self.reach @ ((1 + u) * weight.error)
        overflows = self._overflows(weight, bias)
        own = 2 * (terms + 1) * m.eta_acc
        if bias is not None:
            if m.longer:
                error += m.u * (_size(value) + error)
            value = value + bias.value[..., None, :]
            error += (u * bias.reach + bias.error + own)[..., None, :]
        else:
            error += own
        size = _size(value)
        if m.longer:
            error += m.u * (size + error) + 2 * m.eta
        return Bounded(value, error if overflows is None else np.where(overflows, np.inf, error), m, size=size)

    def _overflows(self, weight: Bounded, bias: Bounded | None) -> NDArray[np.bool_] | None:
        """Return where a partial sum may overflow; None where none is anywhere near."""
        if self.value.shape[-1] * self.peak * weight.peak + (0.0 if bias is None else bias.peak) <= self.m.largest:
            return None
        partial = self.reach @ weight.reach
        if bias is not None:
            partial = partial + bias.reach[..., None, :]
        overflows: NDArray[np.bool_] = ~(partial <= self.m.largest)
        return overflows

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Bounded:
        """Return the sum over `axis`, in any order."""
        m = self.m
        value = self.value.sum(axis=axis, keepdims=keepdims)
        terms = self.value.size // max(1, value.size)
        reach = self.reach.sum(axis=axis, keepdims=keepdims)
        error = (terms - 1) * m.u_sum * reach + terms * m.eta
        if not self.exact:
            error = error + self.error.sum(axis=axis, keepdims=keepdims)
        if terms > 1 and m.u_sum < m.u:
            error = error + m.u * (_size(value) + error)
        return Bounded(
            value, error if terms * self.peak <= m.largest else np.where(reach <= m.largest, error, np.inf), m
        )

    def __getitem__(self, index: Any) -> Bounded:
        return self._with(self.value[index], self.size[index], self.error[index], self.reach[index])

    @property
    def mT(self) -> Bounded:  # noqa: N802 - NumPy's name
        """The matrix transpose: the last two axes are exchanged."""
        return self._with(self.value.mT, self.size.mT, self.error.mT, self.reach.mT)

    def _with(self, value: NDArray[Any], size: Errors, error: Errors, reach: Errors) -> Bounded:
        """Return some or all of the elements in another order, or with another sign."""
        seen = Bounded.__new__(Bounded)
        seen.value, seen.size, seen.error, seen.reach = value, size, error, reach
        seen.m, seen.gain, seen.exact, seen.peak = self.m, 1.0, self.exact, self.peak
        return seen


def peak_of(numbers: Any) -> float:
    """Return the largest of numbers of at least 0, NaN if there is one: of a few, several times as fast as `max`."""
    if isinstance(numbers, float):
        return numbers
    return float(numbers.item(numbers.argmax())) if numbers.size else 0.0


def _size(value: NDArray[Any]) -> Errors:
    """Return |value| in float64, in which bounds are."""
    size: Errors = np.abs(value.astype(np.float64, copy=False))
    return size
