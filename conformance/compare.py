"""Comparing arrays by bound. Comparisons are values: nothing here asserts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, get_args

import numpy as np

from gradconform.case import Array
from gradconform.dtypes import is_floating
from gradconform.errors import first_line
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounds import allowance

Look = Literal["global", "local"]
LOOKS: tuple[Look, ...] = get_args(Look)


class Kind(Enum):
    """What a comparison found. The words differ because people act differently on them."""

    PASS = "agrees within the bound"  # noqa: S105 - a verdict
    WRONG = "is wrong"
    SHAPE = "has the wrong shape"
    NAME = "is missing or unknown"
    DTYPE = "has the wrong dtype"
    NONFINITE = "is not finite"
    MUTATED = "writes into its inputs"
    ALIASED = "shares memory with its inputs or with an earlier result"
    STATEFUL = "depends on earlier calls"
    NONDETERMINISTIC = "differs from call to call beyond rounding"
    CRASHED = "crashed"
    TIMEOUT = "took too long"


@dataclass(frozen=True)
class Outcomes:
    """How many elements ended as what. Every element that is compared ends as one of these."""

    passed: int = 0
    """Within the bound, which is smaller than the value: a wrong value would have shown."""
    failed: int = 0
    kink: int = 0
    """Within a bound that leaves the derivative at a kink open."""
    range: int = 0
    """Without a finite bound: the arithmetic may overflow, or divide by 0, on the way."""
    vacuous: int = 0
    """Within a bound that is at least as large as the value itself."""

    @property
    def elements(self) -> int:
        """All of them."""
        return self.passed + self.failed + self.kink + self.range + self.vacuous

    @property
    def telling(self) -> int:
        """Those that could have told a wrong value from rounding."""
        return self.passed + self.failed + self.kink

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes.total([self, other])

    @classmethod
    def total(cls, several: Sequence[Outcomes]) -> Outcomes:
        """Return the sum of them."""
        counts = [(own.passed, own.failed, own.kink, own.range, own.vacuous) for own in several]
        return cls(*map(sum, zip(*counts, strict=True)))


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

    `look`: global, from the inputs on, or local, each step on the implementation's own values. `lost`: elements that
    are not finite where the exact value is, and where no finite bound forbids it. `factor` is the constant by which a
    wrong array is off, if there is one.
    """

    check: str
    path: str
    kind: Kind = Kind.PASS
    outcomes: Outcomes = Outcomes()
    lost: int = 0
    worst: Element | None = None
    detail: str = ""
    factor: Factor | None = None
    look: Look = "global"

    @property
    def passed(self) -> bool:
        """Whether the array agrees."""
        return self.kind is Kind.PASS

    @property
    def tells(self) -> bool:
        """Whether any element could have told a wrong value from rounding."""
        return self.outcomes.telling > 0

    @property
    def ratio(self) -> float:
        """The worst error / bound."""
        return self.worst.ratio if self.worst is not None else 0.0


def compare_array(
    check: str, path: str, expected: Bounded, actual: object, closed: Bounded | None = None
) -> Comparison:
    """Compare one array: its shape, its dtype, whether it is finite where it must be, then every element."""
    shape, dtype = expected.value.shape, expected.m.dtype
    try:
        array = np.asarray(actual)
    except ValueError as error:  # a ragged list
        return Comparison(check, path, Kind.SHAPE, detail=f"expected an array of shape {shape}: {first_line(error)}")
    except Exception as error:  # a tensor that cannot be converted says why in its framework's words
        detail = f"expected {dtype} numbers, got {type(actual).__name__}: {first_line(error)}"
        return Comparison(check, path, Kind.DTYPE, detail=detail)
    if not is_floating(array.dtype) and array.dtype.kind not in "iu":
        return Comparison(check, path, Kind.DTYPE, detail=f"expected {dtype} numbers, got {array.dtype}")
    if array.shape != shape:
        return Comparison(check, path, Kind.SHAPE, detail=f"expected shape {shape}, got {array.shape}")
    if isinstance(actual, np.ndarray) and array.ndim and array.dtype != dtype:
        return Comparison(check, path, Kind.DTYPE, detail=f"expected {dtype}, as the inputs, got {array.dtype}")
    return compare_values(check, path, expected, array, closed)


def ratios(expected: Bounded, array: Array) -> Array:
    """Return |actual - expected| / bound for every element, 0 where there is no finite bound."""
    with np.errstate(all="ignore"):
        difference = np.asarray(np.abs(array.astype(expected.value.dtype) - expected.value))
        ratio: Array = np.divide(difference, expected.error * allowance(expected), out=difference).astype(np.float64)
        # where there is no number: 0 / 0 is exact as it must be, an infinite bound knows nothing; but a value that is
        # not finite where the exact one is differs by nan, in what is known
        if np.isnan(np.max(ratio, initial=0)):
            undefined = np.isnan(ratio)
            strange = ~np.isfinite(array.astype(expected.value.dtype) - expected.value)
            ratio[undefined] = np.where(np.isfinite(expected.error) & strange, np.inf, 0.0)[undefined]
        return ratio


def compare_values(check: str, path: str, expected: Bounded, array: Array, closed: Bounded | None = None) -> Comparison:
    """Compare every element of an array of the right shape, of any floating-point type.

    `closed`: the same with one choice of the derivatives at kinks, where `expected` leaves them open.
    """
    ratio = ratios(expected, array)
    with np.errstate(all="ignore"):
        known = np.isfinite(expected.error)
        failed = ratio > 1
        kink = known & ~failed & (expected.error > 1.001 * closed.error if closed is not None else False)
        vacuous = known & ~failed & ~kink & (expected.error * allowance(expected) >= expected.size)
        counts = [int(np.count_nonzero(which)) for which in (failed, kink, ~known, vacuous)]
        representable = np.isfinite(expected.value) & (expected.size <= expected.m.largest)
        lost = ~known & representable & ~np.isfinite(array.astype(np.float64))
    comparison = Comparison(
        check,
        path,
        outcomes=Outcomes(array.size - sum(counts), *counts),
        lost=int(np.count_nonzero(lost)),
        worst=_worst(array, expected, ratio),
    )
    if not failed.any() or comparison.worst is None:
        return comparison
    kind = Kind.WRONG if np.isfinite(comparison.worst.actual) else Kind.NONFINITE
    return replace(comparison, kind=kind, factor=_factor(array.astype(np.float64), expected))


def compare_named(
    check: str,
    expected: Mapping[str, Bounded],
    actual: Mapping[Any, object] | None,
    *,
    required: bool,
    closed: Mapping[str, Bounded] | None = None,
) -> list[Comparison]:
    """Compare arrays by name. What is missing, or there and unknown, is a comparison of its own where `required`."""
    if not isinstance(actual, Mapping):
        detail = f"expected a dictionary with {', '.join(expected) or 'nothing in it'}, got {type(actual).__name__}"
        return [Comparison(check, path, Kind.NAME, detail=detail) for path in expected]
    comparisons = []
    for path, bounded in expected.items():
        if actual.get(path) is not None:
            alone = None if closed is None else closed[path]
            comparisons.append(compare_array(check, path, bounded, actual[path], alone))
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


def _worst(array: Array, expected: Bounded, ratio: Array) -> Element | None:
    if not array.size:
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    value = expected.value[index]
    bound = float(expected.error[index]) * allowance(expected)
    with np.errstate(all="ignore"):
        difference = float(np.abs(array[index].astype(value.dtype) - value))
    return Element(index, float(array[index]), float(value), difference, bound, float(ratio[index]))


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
