"""Numbers that are simpler than those of a case: small integers, halves, few digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gradconform.case import Array

SMALL = 3
"""Up to this an integer is as simple as can be."""
ELEMENTS = 40
"""So many elements are made simpler one by one; of more there is nothing to read."""

Rounding = Callable[[Array], Array]


def complexity(array: Array) -> int:
    """Return how much there is to read in the numbers of an array, 0 where all are small integers."""
    x = np.abs(array.astype(np.float64))
    with np.errstate(all="ignore"):
        levels = [(x <= SMALL) & (x == np.rint(x)), (x <= 2 * SMALL) & (2 * x == np.rint(2 * x))]
        levels += [x == np.abs(rounding(array)).astype(np.float64) for rounding in (_one_digit, _two_digits)]
    return int(np.select(levels, [0, 1, 2, 3], 4).sum())


def simpler_numbers(arrays: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Yield the arrays with simpler numbers: all of them, then one array, then one element."""
    kept = dict(arrays)
    for rounding in ROUNDINGS:
        yield {name: rounding(array) for name, array in kept.items()}
    complex_ = {name: array for name, array in kept.items() if complexity(array)}
    for rounding in ROUNDINGS:
        for name, array in complex_.items():
            yield {**kept, name: rounding(array)}
    if sum(array.size for array in complex_.values()) > ELEMENTS:
        return
    for name, array in complex_.items():
        for index in np.ndindex(array.shape):
            if complexity(array[index]):
                for rounding in ROUNDINGS:
                    changed = array.copy()
                    changed[index] = rounding(array)[index]
                    yield {**kept, name: changed}


def _integers(array: Array) -> Array:
    """Round to the nearest integer that is not 0, which would hide what depends on the number."""
    x = array.astype(np.float64)
    return np.where(x == 0, 0, np.sign(x) * np.clip(np.rint(np.abs(x)), 1, None)).astype(array.dtype)


def _small_integers(array: Array) -> Array:
    return np.clip(_integers(array), -SMALL, SMALL).astype(array.dtype)


def _halves(array: Array) -> Array:
    return (np.rint(2 * array.astype(np.float64)) / 2).astype(array.dtype)


def _digits(digits: int) -> Rounding:
    def rounded(array: Array) -> Array:
        texts = [float(f"{float(x):.{digits - 1}e}") for x in np.ravel(array)]
        return np.array(texts).reshape(array.shape).astype(array.dtype)

    return rounded


_one_digit, _two_digits = _digits(1), _digits(2)
ROUNDINGS: tuple[Rounding, ...] = (_small_integers, _integers, _halves, np.zeros_like, _one_digit, _two_digits)
