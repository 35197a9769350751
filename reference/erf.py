"""The error function for any floating-point or complex NumPy type; NumPy itself has none.

Abramowitz & Stegun, Handbook of Mathematical Functions, 7.1.6 and 7.1.14.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SWITCH = 2.0
"""The series needs ever more terms above this argument, the continued fraction ever more below it."""
_SERIES_TERMS, _LONG_SERIES_TERMS = 32, 38
_FRACTION_TERMS, _LONG_FRACTION_TERMS = 65, 88
"""Enough for 2^-53 and, in a longer type, for 2^-64, the unit roundoff of 80 bits, on their side of the switch."""


def erfc(x: NDArray[Any]) -> NDArray[Any]:
    """Return 1 - erf(x) in the type of `x`, accurate in the far positive tail.

    Between 0 and 2 it is 1 - erf(x), with the absolute accuracy of erf. Complex arguments close to the real axis
    are continued analytically, as the complex step needs it.
    """
    x = np.asarray(x)
    right = np.where(x.real < 0, -x, x)
    large = right.real >= _SWITCH
    tail = np.empty_like(right)
    tail[~large] = 1 - _series(right[~large])
    tail[large] = _fraction(right[large])
    return np.where(x.real < 0, 2 - tail, tail)


def _series(x: NDArray[Any]) -> NDArray[Any]:
    """erf(x) = 2 / sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 3 5 ... (2n+1)): no term is negative.

    The sum is nested, x (1 + 2 x^2 / 3 (1 + 2 x^2 / 5 (1 + ...))), so that the smallest terms are added first.
    """
    square = x * x
    doubled, factor = 2 * square, np.empty_like(x)
    total = np.ones_like(x)
    for n in range((_LONG_SERIES_TERMS if _is_long(x) else _SERIES_TERMS) - 1, 0, -1):
        np.divide(doubled, 2 * n + 1, out=factor)
        total *= factor
        total += 1
    series: NDArray[Any] = x * total * np.exp(-square) * (2 / _sqrt_pi(x))
    return series


def _fraction(x: NDArray[Any]) -> NDArray[Any]:
    """erfc(x) = exp(-x^2) / sqrt(pi) / (x + (1/2) / (x + (2/2) / (x + (3/2) / (x + ...))))."""
    denominator = x.copy()
    for n in range(_LONG_FRACTION_TERMS if _is_long(x) else _FRACTION_TERMS, 0, -1):
        np.divide(n / 2, denominator, out=denominator)
        denominator += x
    fraction: NDArray[Any] = np.exp(-x * x) / (denominator * _sqrt_pi(x))
    return fraction


def _is_long(x: NDArray[Any]) -> bool:
    return bool(np.finfo(x.dtype).eps < 2.0**-52)


def _sqrt_pi(x: NDArray[Any]) -> Any:
    """Return sqrt(pi) to the precision of `x`."""
    real = x.real.dtype.type
    return np.sqrt(4 * np.arctan(real(1)))
