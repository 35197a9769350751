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


class Bounded:
    """An array `value` and, element by element, a bound `error` on how far a permitted computation may be from it."""

    __slots__ = ("error", "gain", "m", "size", "value")
    __array_ufunc__ = None  # array * Bounded is Bounded.__rmul__

    def __init__(self, value: NDArray[Any], error: Errors, m: Precision, gain: Any = 1.0) -> None:
        self.value = value
        self.size: Errors = np.abs(value).astype(np.float64)
        # beyond the largest number, or undefined: nothing is known
        self.error: Errors = np.where(self.size + error <= m.largest, error, np.inf)
        self.m = m
        self.gain = gain
        """By how much a later factor of the same kernel may amplify an underflow in a product with this value."""

    @classmethod
    def lift(cls, numbers: Any, carrier: Any, m: Precision) -> Bounded:
        """Return given numbers, which an implementation rounds to its type and, if subnormal, may read as 0."""
        given = np.asarray(numbers)
        value = given.astype(carrier)
        size = np.abs(value).astype(np.float64)
        error = np.where((size > 0) & (size < m.eta), m.eta, 0.0)
        if given.dtype != m.dtype:
            error = error + np.where(value.astype(m.dtype) == value, 0.0, m.u * size)
        return cls(value, error, m)

    def _other(self, other: Any) -> Bounded:
        return other if isinstance(other, Bounded) else Bounded.lift(other, self.value.dtype, self.m)

    def _rounded(self, value: NDArray[Any], error: Errors, roundings: int = 1, underflows: Any = 1.0) -> Bounded:
        m = self.m
        return Bounded(value, error + roundings * m.u * np.abs(value).astype(np.float64) + underflows * m.eta, m)

    def __add__(self, other: Any) -> Bounded:
        y = self._other(other)
        return self._rounded(self.value + y.value, self.error + y.error)

    __radd__ = __add__

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error, self.m)

    def __sub__(self, other: Any) -> Bounded:
        return self + -self._other(other)

    def __rsub__(self, other: Any) -> Bounded:
        return self._other(other) + -self

    def __mul__(self, other: Any) -> Bounded:
        y = self._other(other)
        error = self.size * y.error + self.error * y.size + self.error * y.error
        return self._rounded(self.value * y.value, error, underflows=self.gain * y.gain)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        y = self._other(other)
        value = self.value / y.value
        room = np.where(y.error < y.size, y.size - y.error, 0.0)
        error = (self.error + np.abs(value).astype(np.float64) * y.error) / room
        # two roundings: a division, or a product with the rounded reciprocal
        return self._rounded(value, error, roundings=2)

    def __rtruediv__(self, other: Any) -> Bounded:
        return self._other(other) / self

    def __matmul__(self, other: Bounded) -> Bounded:
        return self.affine(other, None)

    def affine(self, weight: Bounded, bias: Bounded | None) -> Bounded:
        """Return x W + b: n u times the sum of the n terms' sizes, in any order, and what comes in propagated."""
        m, terms = self.m, self.value.shape[-1]
        value = self.value @ weight.value
        reach = self.size + self.error
        error = self.error @ weight.size + reach @ weight.error
        partial = reach @ (weight.size + weight.error)
        if bias is not None:
            value, error, terms = value + bias.value, error + bias.error, terms + 1
            partial = partial + bias.size + bias.error
        error = error + terms * m.u * partial + 2 * (terms + 1) * m.eta
        return Bounded(value, np.where(partial <= m.largest, error, np.inf), m)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Bounded:
        """Return the sum over `axis`, in any order."""
        m = self.m
        value = self.value.sum(axis=axis, keepdims=keepdims)
        terms = self.value.size // max(1, value.size)
        reach = (self.size + self.error).sum(axis=axis, keepdims=keepdims)
        error = self.error.sum(axis=axis, keepdims=keepdims) + (terms - 1) * m.u * reach + terms * m.eta
        return Bounded(value, np.where(reach <= m.largest, error, np.inf), m)

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index], self.m)

    @property
    def T(self) -> Bounded:  # noqa: N802 - NumPy's name
        """The transpose."""
        return Bounded(self.value.T, self.error.T, self.m)
