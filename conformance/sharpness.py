"""The sharpness certificate: how small an error a run would have found, measured by perturbing what it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from gradconform.case import Array
from gradconform.conformance.compare import LOOKS, Look, ratios
from gradconform.conformance.looks import View
from gradconform.reference.bounded import Bounded

LADDER = (*(step * 10.0**power for power in range(-16, 0) for step in (1, 3)), 1.0)
"""The relative errors that are tried, from the smallest up."""
QUANTILES = (0.5, 0.9, 0.99)


class Sharpness(msgspec.Struct):
    """In how many networks which relative error in any parameter's gradient would have been a finding.

    `caught["1e-15"]` networks were such that 1e-15 was the smallest error of the ladder to be found in each of their
    parameters; `missed` ones were such that not even an error of 100 % would have been.
    """

    caught: dict[str, int] = msgspec.field(default_factory=dict)
    missed: int = 0

    @property
    def networks(self) -> int:
        """All networks in which an error was tried."""
        return sum(self.caught.values()) + self.missed

    def count(self, rung: int | None) -> None:
        """Add a network: the rung of the ladder at which errors are found, None for no rung."""
        if rung is None:
            self.missed += 1
        else:
            name = f"{LADDER[rung]:.0e}"
            self.caught[name] = self.caught.get(name, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Return the relative error that is found in at least that share of the networks, if any is."""
        needed, found = share * self.networks, 0
        for error in LADDER:
            found += self.caught.get(f"{error:.0e}", 0)
            if found and found >= needed:
                return error
        return None


def measure(views: Sequence[View]) -> dict[Look, int | None]:
    """Return for each look the rung at which a relative error of any parameter's gradient is found in a passed run.

    Every parameter's whole gradient is perturbed by itself, and held against its bounds as before. Gradients that are
    exactly 0 have no relative error, and are left out; without others, a look is left out.
    """
    rungs: dict[Look, int | None] = {}
    for look in LOOKS:
        found = [
            _rung(bound, np.asarray(view.actual.parameters[path]))
            for view in views
            if view.look == look
            for path, bound in _parameters(view).items()
            if np.any(bound.size > 0)
        ]
        if found:
            rungs[look] = None if None in found else max(rung for rung in found if rung is not None)
    return rungs


def _parameters(view: View) -> Mapping[str, Bounded]:
    expected = view.against.expected.gradients.parameters
    return {path: bound for path, bound in expected.items() if view.actual.parameters.get(path) is not None}


def _rung(bound: Bounded, array: Array) -> int | None:
    """Return the first rung of the ladder that is caught, by halving: a larger error is farther from the bound.

    An error that the type cannot hold is none: what is perturbed is rounded to it.
    """

    def caught(rung: int) -> bool:
        with np.errstate(all="ignore"):
            wide: Any = array.astype(bound.value.dtype)
            return bool(np.any(ratios(bound, (wide + wide * LADDER[rung]).astype(bound.m.dtype)) > 1))

    low, high = 0, len(LADDER) - 1
    if not caught(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if caught(middle) else (middle + 1, high)
    return low
