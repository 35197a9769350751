"""The sharpness certificate: how small an error a run would have found, measured by perturbing what it was given."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from gradconform.case import Array
from gradconform.conformance.compare import LOOKS, Look, ratios
from gradconform.conformance.looks import View
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounds import allowance

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
    found: dict[Look, int | None] = {}
    for look in LOOKS:
        several = [
            rungs(bound[None], np.asarray(view.actual.parameters[path])[None], [bound.value.size])
            for view in views
            if view.look == look
            for path, bound in _parameters(view).items()
        ]
        own = [one[0] for one in several if one]
        if own:
            found[look] = None if None in own else max(rung for rung in own if rung is not None)
    return found


def _parameters(view: View) -> Mapping[str, Bounded]:
    expected = view.against.expected.gradients.parameters
    return {path: bound for path, bound in expected.items() if view.actual.parameters.get(path) is not None}


def rungs(bound: Bounded, array: Array, widths: Sequence[int] | Array) -> dict[int, int | None]:
    """Return the rung of the ladder that is caught in every parameter of each member of a stack; None for no rung.

    bound, array: (members, ...), all parameters of a member side by side, each of them so wide as `widths` say.
    Members whose gradients are exactly 0 are left out. Found by halving from where the bounds let it be expected: a
    larger error is farther from the bound. An error that the type cannot hold is none: what is perturbed is rounded.
    """
    count = len(array)
    wide: Any = array.reshape(count, -1).astype(bound.value.dtype)
    flat = Bounded(
        bound.value.reshape(count, -1), bound.error.reshape(count, -1), bound.m, size=bound.size.reshape(count, -1)
    )
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    ladder = np.array(LADDER)

    def caught(rung: Any, members: Any) -> Any:
        given = wide[members]
        with np.errstate(all="ignore"):
            moved = given + given * np.repeat(ladder[rung], widths, axis=1)
            found = ratios(flat[members], moved.astype(bound.m.dtype)) > 1
        return np.logical_or.reduceat(found, starts, axis=1)

    there: Array = np.logical_or.reduceat(flat.size > 0, starts, axis=1)
    # what is not known yet are the rungs from `low` on and below `high`; the one behind the ladder stands for none
    low, high = np.zeros(there.shape, int), np.where(there, len(LADDER), 0)
    rung = np.searchsorted(ladder, _smallest(flat, wide, starts))
    for step in itertools.count():
        # the worst parameter of each member is looked for
        asked = (low < high) & (high > low.max(axis=1, keepdims=True))
        members = np.flatnonzero(asked.any(axis=1))
        if not len(members):
            break
        if step == 1:
            rung = np.where(low == 0, high - 1, low)
        elif step:
            rung = (low + high) // 2
        rung = np.clip(rung, low, np.maximum(high - 1, 0))
        found = np.zeros_like(there)
        found[members] = caught(rung[members], members)
        low, high = np.where(asked & ~found, rung + 1, low), np.where(asked & found, rung, high)
    worst = low.max(axis=1)
    lacking = worst == len(LADDER)
    return {index: None if lacking[index] else int(worst[index]) for index in range(count) if there[index].any()}


def _smallest(bound: Bounded, wide: Any, starts: Any) -> Any:
    """Return about how large an error is found in each parameter: where its first element leaves its bound."""
    with np.errstate(all="ignore"):
        off = ((wide - bound.value) * np.sign(wide)).astype(np.float64)
        left = (bound.error * allowance(bound) - off) / np.abs(wide).astype(np.float64)
        return np.fmin.reduceat(np.where(left > 0, left, np.inf), starts, axis=1)
