"""Derivatives of a black box along a direction, each with a bound on its own error; nobody chooses a step.

Central differences at a ladder of steps, each a quarter of the one before, are extrapolated to step 0 (Richardson), and
of all windows of three or four rungs each output takes the one whose error is smallest (C. J. F. Ridders, "Accurate
computation of F'(x) and F'(x)F''(x)", Advances in Engineering Software 4 (1982), 75-76). The error has three parts:

- how far the extrapolations of one order less are away, four times;
- the rounding noise of the values over the smallest step. The noise is measured by fourth differences (J. J. More and
  S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33 (2011), 1292-1314);
- the gap between the derivatives from the right and from the left, extrapolated alike: it is 0 where the function is
  smooth, and at a kink it leaves every value between the two open.

Windows that contradict each other leave open all that lies between them. Where the function can be evaluated at complex
arguments (W. Squire and G. Trapp, SIAM Review 40 (1998), 110-112), that is used, but only where it agrees with the
differences: `abs` drops the imaginary part without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Along = Callable[[float], Vector]
"""The outputs at x + t v, all in one vector, as a function of t."""

RATIO = 4.0
RUNGS = {"float64": (-2, 10), "float32": (-1, 5)}
"""The largest step as a power of two, and how many steps, each a quarter of the one before."""
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}
"""The unit roundoff."""
COMPLEX_STEP = 1e-30
SAFETY = 4.0
GAUSS = 8.0
"""A sum of independent terms of random sign exceeds so many times its norm once in 4e13 (W. Hoeffding, 1963)."""
NOISE_ORDER = 4
RESOLVED = {"float64": 1e-4, "float32": 5e-2}
"""An output takes part where its derivative is known to so much of the scale of all: else it is at a kink."""


@dataclass(frozen=True)
class Slope:
    """The derivative of every output along a direction, and how far it may be from the exact one."""

    value: Vector
    error: Vector
    noise: Vector
    """The noise of the outputs themselves, as measured."""
    height: float = 0.0
    """The largest output."""
    scale: float = 1.0
    """What steps were multiples of."""

    def resolved(self, dtype: str) -> NDArray[np.bool_]:
        """Return which outputs have a derivative that is known well enough to tell anything."""
        finite = np.isfinite(self.value) & np.isfinite(self.error)
        if not finite.any():
            return finite
        size = np.abs(np.where(finite, self.value, 0))
        scale = np.maximum(size, np.sqrt(np.mean(size[finite] ** 2)))
        # a derivative that is 0 everywhere is known as well as one rounding over a step lets it
        floor = 2.0**10 * UNIT[dtype] * self.height / self.scale
        return np.asarray(finite & (self.error <= RESOLVED[dtype] * scale + floor))


def slope(along: Along, dtype: str, scale: float, imaginary: Along | None = None) -> Slope:
    """Return the derivative of `along` at 0, in units of 1 / t.

    `dtype`: what the function computes in, float64 or float32. `scale`: a power of two of the size of x / v, which the
    steps are multiples of. `imaginary(h)` returns the imaginary part of the outputs at x + i h v, where it can.
    """
    first, rungs = RUNGS[dtype]
    steps = scale * 2.0**first * RATIO ** -np.arange(rungs, dtype=np.float64)
    centre = along(0.0)
    plus = np.stack([along(step) for step in steps])
    minus = np.stack([along(-step) for step in steps])
    with np.errstate(all="ignore"):
        noise = _noise(along, steps[-1], centre, plus[-1], minus[-1], UNIT[dtype])
        values, errors = _windows(steps, centre, plus, minus, noise)
        best = np.argmin(errors, axis=0)
        pick = (best, np.arange(len(centre)))
        value, error = values[pick], errors[pick]
        apart = np.abs(values - value)
        contradiction = np.where(np.isfinite(errors) & (apart > errors + error), apart, 0).max(axis=0)
        error = np.maximum(error, contradiction)
        height = float(np.max(np.abs(centre), initial=0, where=np.isfinite(centre)))
        if imaginary is not None:
            value, error = _sharpened(imaginary, dtype, Slope(value, error, noise, height, scale), centre)
    return Slope(value, np.where(np.isfinite(value), error, np.inf), noise, height, scale)


def _windows(
    steps: Vector, centre: Vector, plus: Vector, minus: Vector, noise: Vector
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return for every window of three and four rungs the extrapolated derivative and its error."""
    column = steps[:, None]
    central = [(plus - minus) / (2 * column)]
    gaps = [(plus - 2 * centre + minus) / column]
    for order in range(1, 4):
        even, odd = RATIO ** (2 * order), RATIO ** (2 * order - 1)
        central.append((even * central[-1][1:] - central[-1][:-1]) / (even - 1))
        gaps.append((odd * gaps[-1][1:] - gaps[-1][:-1]) / (odd - 1))
    values, errors = [], []
    for order in (2, 3):
        extrapolated, lower = central[order], central[order - 1]
        truncation = np.maximum(np.abs(extrapolated - lower[1:]), np.abs(extrapolated - lower[:-1]))
        rounding = noise / column[order:]
        error = SAFETY * (truncation + rounding) + np.abs(gaps[order])
        values.append(extrapolated)
        errors.append(np.where(np.isfinite(error), error, np.inf))
    return np.concatenate(values), np.concatenate(errors)


def _noise(along: Along, step: float, centre: Vector, plus: Vector, minus: Vector, unit: float) -> Vector:
    """Return the standard deviation of the outputs' rounding noise, at least one rounding of each."""
    points = [along(-3 * step), along(-2 * step), minus, centre, plus, along(2 * step), along(3 * step)]
    differences = np.stack(points)
    for _ in range(NOISE_ORDER):
        differences = np.diff(differences, axis=0)
    # the k-th difference of independent noise has the variance (2k)! / k!^2: 70 for k = 4
    measured = np.sqrt(np.mean(differences**2, axis=0) / 70)
    measured = np.where(np.isfinite(measured), measured, 0)
    # a rounded number may stay the same by chance: none is taken to be much quieter than most are
    shared = np.median(measured) / 2
    floor = np.where(np.isfinite(centre), 2 * unit * np.abs(centre), 0)
    return np.asarray(np.maximum(np.maximum(measured, shared), floor), np.float64)


def _sharpened(imaginary: Along, dtype: str, rough: Slope, centre: Vector) -> tuple[Vector, Vector]:
    """Return the complex step's derivative where it can be trusted, with its error; else what there is."""
    unit, scale = UNIT[dtype], rough.scale
    exact = imaginary(COMPLEX_STEP * scale) / (COMPLEX_STEP * scale)
    error = 32 * unit * (np.abs(centre) / scale + np.abs(exact)) + SAFETY * rough.noise / scale
    trusted = rough.resolved(dtype) & (np.abs(exact - rough.value) <= rough.error) & (error < rough.error)
    return np.where(trusted, exact, rough.value), np.where(trusted, error, rough.error)


def random_sum(terms: NDArray[Any]) -> float:
    """Return how large a sum of terms of these sizes and of independent random signs may be."""
    sizes = np.abs(terms)
    # not through a square of the terms, which may overflow
    largest = float(sizes.max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    norm = largest * float(np.sqrt(np.sum((sizes / largest) ** 2)))
    return min(float(sizes.sum()), GAUSS * norm)


def power_of_two(array: NDArray[Any]) -> float:
    """Return the power of two next to the root mean square of an array's finite numbers: 1 where all are 0."""
    finite = np.asarray(array, np.float64)[np.isfinite(array)]
    largest = float(np.abs(finite).max(initial=0.0))
    if largest == 0:
        return 1.0
    size = largest * float(np.sqrt(np.mean((finite / largest) ** 2)))
    return float(2.0 ** np.round(np.log2(size)))
