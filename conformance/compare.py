"""Comparing arrays by bound. Comparisons are values: nothing here asserts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from gradconform.case import Array
from gradconform.errors import first_line
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounds import allowance


class Kind(Enum):
    """What a comparison found. The words differ because people act differently on them."""

    PASS = "agrees within the bound"  # noqa: S105 - a verdict
    WRONG = "is wrong"
    SHAPE = "has the wrong shape"
    NAME = "is missing or unknown"
    DTYPE = "has the wrong dtype"
    NONFINITE = "is not finite"
    MUTATED = "writes into its inputs"
    CRASHED = "raised an exception"


@dataclass(frozen=True)
class Element:
    """The worst element of an array: `ratio` is |actual - expected| / bound."""

    index: tuple[int, ...]
    actual: float
    expected: float
    error: float
    bound: float
    ratio: float


@dataclass(frozen=True)
class Factor:
    """The constant by which a whole array is off, and how far rounding leaves it uncertain."""

    value: float
    uncertainty: float

    def may_be(self, constant: float) -> bool:
        """Return whether the factor is `constant`, as far as can be told."""
        return abs(self.value - constant) <= self.uncertainty + 1e-6 * abs(constant)


@dataclass(frozen=True)
class Comparison:
    """One array held against its bounds.

    `vacuous` elements have a bound at least as large as the value itself, `unknown` ones an infinite bound (the
    arithmetic may overflow on the way). `factor` is the constant by which a wrong array is off, if there is one.
    """

    check: str
    path: str
    kind: Kind = Kind.PASS
    elements: int = 0
    vacuous: int = 0
    unknown: int = 0
    worst: Element | None = None
    detail: str = ""
    factor: Factor | None = None

    @property
    def passed(self) -> bool:
        """Whether the array agrees."""
        return self.kind is Kind.PASS

    @property
    def tells(self) -> bool:
        """Whether any element could have told a wrong value from rounding."""
        return self.elements > self.vacuous + self.unknown

    @property
    def ratio(self) -> float:
        """The worst error / bound."""
        return self.worst.ratio if self.worst is not None else 0.0


def compare_array(check: str, path: str, expected: Bounded, actual: object) -> Comparison:
    """Compare one array: its shape, its dtype, whether it is finite where it must be, then every element."""
    shape, dtype = expected.value.shape, expected.m.dtype
    try:
        array = np.asarray(actual)
    except ValueError as error:  # a ragged list
        return Comparison(check, path, Kind.SHAPE, detail=f"expected an array of shape {shape}: {first_line(error)}")
    except Exception as error:  # a tensor that cannot be converted says why in its framework's words
        detail = f"expected {dtype} numbers, got {type(actual).__name__}: {first_line(error)}"
        return Comparison(check, path, Kind.DTYPE, detail=detail)
    if array.dtype.kind not in "fiu":
        return Comparison(check, path, Kind.DTYPE, detail=f"expected {dtype} numbers, got {array.dtype}")
    if array.shape != shape:
        return Comparison(check, path, Kind.SHAPE, detail=f"expected shape {shape}, got {array.shape}")
    if isinstance(actual, np.ndarray) and array.ndim and array.dtype != dtype:
        return Comparison(check, path, Kind.DTYPE, detail=f"expected {dtype}, as the inputs, got {array.dtype}")
    return compare_values(check, path, expected, array)


def compare_values(check: str, path: str, expected: Bounded, array: Array) -> Comparison:
    """Compare every element of an array of the right shape, of any floating-point type."""
    with np.errstate(all="ignore"):
        known = np.isfinite(expected.error)
        difference = np.abs(array.astype(expected.value.dtype) - expected.value)
        bound = expected.error * allowance(expected)
        ratio = np.where(known & (difference != 0), difference / bound, 0.0)
        ratio = np.where(known & ~np.isfinite(array), np.inf, ratio).astype(np.float64)
    worst = _worst(array, expected, difference, bound, ratio)
    comparison = Comparison(
        check,
        path,
        elements=array.size,
        vacuous=int(np.count_nonzero(known & (bound >= expected.size))),
        unknown=int(array.size - np.count_nonzero(known)),
        worst=worst,
    )
    if worst is None or worst.ratio <= 1:
        return comparison
    kind = Kind.WRONG if np.isfinite(worst.actual) else Kind.NONFINITE
    return replace(comparison, kind=kind, factor=_factor(array, expected))


def compare_named(
    check: str, expected: Mapping[str, Bounded], actual: Mapping[Any, object] | None, *, required: bool
) -> list[Comparison]:
    """Compare arrays by name. What is missing, or there and unknown, is a comparison of its own where `required`."""
    if not isinstance(actual, Mapping):
        detail = f"expected a dictionary with {', '.join(expected) or 'nothing in it'}, got {type(actual).__name__}"
        return [Comparison(check, path, Kind.NAME, detail=detail) for path in expected]
    comparisons = []
    for path, bounded in expected.items():
        if actual.get(path) is not None:
            comparisons.append(compare_array(check, path, bounded, actual[path]))
        elif required:
            names = ", ".join(map(str, actual)) or "nothing"
            comparisons.append(Comparison(check, path, Kind.NAME, detail=f"missing: what was returned is {names}"))
    unknown = [name for name in actual if name not in expected]
    if required and unknown:
        known = ", ".join(expected) or "none"
        comparisons += [
            Comparison(check, str(name), Kind.NAME, detail=f"unknown: the network's parameters are {known}")
            for name in unknown
        ]
    return comparisons


def _worst(array: Array, expected: Bounded, difference: Array, bound: Array, ratio: Array) -> Element | None:
    if not array.size:
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    return Element(
        index,
        float(array[index]),
        float(expected.value[index]),
        float(difference[index]),
        float(bound[index]),
        float(ratio[index]),
    )


def _factor(array: Array, expected: Bounded) -> Factor | None:
    """Return actual / expected, if it is the same within the bounds in every element that can tell."""
    with np.errstate(all="ignore"):
        telling = np.isfinite(expected.error) & (expected.size > 0)
        if not telling.any():
            return None
        value = expected.value.astype(np.float64)
        largest = np.unravel_index(int(np.argmax(np.where(telling, expected.size, 0))), value.shape)
        factor = float(array[largest] / value[largest])
        relative = 4 * allowance(expected) * float(expected.error[largest] / expected.size[largest])
        slack = 4 * allowance(expected) * expected.error + relative * expected.size
        same = np.abs(array - factor * value) <= slack * max(1.0, abs(factor))
    if not np.isfinite(factor) or not np.all(same | ~np.isfinite(expected.error)):
        return None
    return Factor(factor, relative * max(1.0, abs(factor)))
