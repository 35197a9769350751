"""Screening: the agreement of many cases of one structure at once, for those in which all agrees.

The bounds of a stack are evaluated together and everything that a case gave is compared as one long row of numbers, so
that NumPy's overhead is paid once a stack and not once an array. It judges by the same bounds, looks and checks as
`gradconform.conformance.judge`, which alone says what is wrong: whoever does not pass here is judged there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradconform.case import Array, Gradients
from gradconform.conformance.agreement import AGREEMENTS
from gradconform.conformance.checks import Check
from gradconform.conformance.compare import LOOKS, Look, Outcomes, ratios
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.kinks import CONVENTIONS, Resolution, as_shown, at_zero, shares_of
from gradconform.conformance.looks import Evaluate, View, quantities, views
from gradconform.conformance.sharpness import rungs
from gradconform.conformance.stack import Stack, member, members, stacked
from gradconform.conformance.summary import Arrays, Summary, subject_of
from gradconform.network import Network
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import Shares, Site
from gradconform.reference.bounds import Expected, allowance


@dataclass(frozen=True)
class Screened:
    """A case in which everything agrees: what its comparisons come to, and how small an error each look finds."""

    summary: Summary
    sharpness: Mapping[Look, int | None]

    def with_more(self, summary: Summary) -> Screened:
        """Return the same with further comparisons, which agree too."""
        return Screened(self.summary + summary, self.sharpness)


@dataclass(frozen=True, eq=False)
class Part:
    """What one comparison compares, of all members at once: arrays with one more axis before."""

    check: str
    path: str
    look: Look
    expected: Bounded
    actual: Array


def screen(
    implementation: Implementation,
    stack: Stack,
    asked: range,
    actual: Gradients[Array],
    checks: Sequence[Check],
) -> list[Screened | None]:
    """Return for the members of a stack that are asked for that all agrees; None where one is to be judged by itself.

    `actual`: what the implementation gave for them, side by side. Raises `Unsupported` where the reference has no rule.
    """
    found: list[Screened | None] = [None] * len(asked)
    if not _regular(actual, len(asked), stack.expected(implementation).gradients, stack.cases[0].dtype):
        return found
    chosen, network = {check.id for check in checks}, stack.cases[0].network
    left = list(range(len(asked)))
    # few members have a pre-activation at a kink: for all others what is compared with both sides open is final
    for closed in (False, True):
        given = members(actual, left) if closed else actual
        which = [asked[index] for index in left] if closed else asked
        row, at_kink = _seen(implementation, stack, which, given, closed)
        final = np.flatnonzero(row.agree(chosen, at_kink) & (closed | ~at_kink)).tolist()
        certified = [place for place in final if stack.certified(which[place])]
        for place, screened in zip(final, row.screened(final, certified, chosen, network), strict=True):
            found[left[place]] = screened
        left = [index for index, kinked in zip(left, at_kink, strict=True) if kinked]
        if not left:
            break
    return found


def _seen(
    implementation: Implementation, stack: Stack, asked: Sequence[int], actual: Gradients[Array], closed: bool
) -> tuple[_Row, NDArray[np.bool_]]:
    """Return all that members of a stack gave beside its bounds, and which of them have a pre-activation at a kink.

    `closed`: with one choice at all kinks, in place of both sides.
    """
    at_kink = np.zeros(len(asked), bool)
    # a slice copies nothing
    which = slice(asked.start, asked.stop) if isinstance(asked, range) else asked

    def evaluate(**options: Any) -> Expected:
        if all(value is None for value in options.values()):
            return member(stack.expected(implementation), which)
        return stack.evaluate(implementation, which, **options)

    def against(run: Gradients[Array], evaluate: Evaluate) -> Resolution:
        expected = evaluate()
        for site in expected.sites:
            at_kink[site.near.any(axis=(1, 2))] = True
        if not closed or not expected.kinks:
            return Resolution(expected)
        # first on the side of the exact value, then, where that does not explain a member, on that which was shown
        found = _closed(expected.sites, evaluate, run, implementation.kinks)
        amiss = ~_explained(found, run)[0]
        if amiss.any() and actual.outputs:
            described = implementation.described(stack.cases[0].network)
            shown = as_shown(described, stack.batch.inputs[which], actual.outputs, expected.sites)
            sides = [
                replace(site, side=np.where(amiss[:, None, None], other.side, site.side))
                for site, other in zip(expected.sites, shown, strict=True)
            ]
            found = _closed(sides, evaluate, run, implementation.kinks)
        return Resolution(found)

    network = stack.cases[0].network
    looks = views(stack.cases[0], actual, evaluate, against, together=(len(asked),))
    return _Row([part for view in looks for part in _parts(view, network)]), at_kink


def _closed(sites: Sequence[Site], evaluate: Evaluate, run: Gradients[Array], measured: dict[str, float]) -> Expected:
    """Return what is expected with one convention for each layer at its kink: as it is known, or as it is found out.

    That of a layer is found out where it explains a member that no other one explains, and goes into `measured`.
    """
    chosen = dict(measured)

    def shares(conventions: Mapping[str, float]) -> list[Shares]:
        return [shares_of(site, conventions.get(site.layer, 0.0)) for site in sites]

    for layer in sorted({site.layer for site in sites if at_zero(site)} - measured.keys()):
        each = [shares(chosen | {layer: share}) for share in CONVENTIONS]
        explained = _explained(evaluate(shares=[np.stack(site) for site in zip(*each, strict=True)]), run)
        best = int(np.argmax(explained.sum(axis=1)))
        chosen[layer] = CONVENTIONS[best]
        if np.any(explained[best] & ~np.delete(explained, best, axis=0).any(axis=0)):
            measured[layer] = CONVENTIONS[best]
    return evaluate(shares=shares(chosen))


def _explained(expected: Expected, run: Gradients[Array]) -> NDArray[np.bool_]:
    """Return by choice, where there is an axis of choices, and by member whether all that was given is within bounds.

    What does not depend on the derivatives at kinks has no such axis.
    """
    bounds = quantities(expected.gradients)
    explained = np.ones((1, 1), bool)
    for name, array in quantities(run).items():
        if array is not None:
            within = ratios(bounds[name], array) <= 1
            explained = explained & within.reshape(-1, len(array), math.prod(array.shape[1:])).all(axis=2)
    return explained


def alike(given: Sequence[Gradients[Array]]) -> Gradients[Array] | None:
    """Return what members of a stack gave side by side; None where that is not the same quantities, or not exact."""
    first = _signature(given[0])
    if given[0].slack or any(_signature(other) != first for other in given):
        return None
    return stacked(given)


def _signature(found: Gradients[Array]) -> Hashable:
    own = tuple((name, array.shape, array.dtype) for name, array in quantities(found).items() if array is not None)
    return own, found.captured is not None and _signature(found.captured), bool(found.slack)


def _regular(given: Gradients[Array], count: int, expected: Gradients[Bounded], dtype: np.dtype[Any]) -> bool:
    """Return whether all that so many members gave, side by side, is as it is to be."""
    bounds = quantities(expected)

    def fits(found: Gradients[Array]) -> bool:
        return all(
            array is None
            or (name in bounds and array.shape == (count, *bounds[name].shape[1:]) and array.dtype == dtype)
            for name, array in quantities(found).items()
        )

    runs = [given] if given.captured is None else [given, given.captured]
    return all(map(fits, runs)) and given.parameters.keys() == expected.parameters.keys()


def _parts(view: View, network: Network) -> Iterator[Part]:
    for agreement in AGREEMENTS.values():
        given = agreement.select(view.actual, network)
        for path, bound in agreement.select(view.against.expected.gradients, network).items():
            if given.get(path) is not None:
                yield Part(agreement.id, path, view.look, bound, given[path])


class _Row:
    """All parts side by side: for each member one row of numbers. `worst` is error / bound by member and part."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.widths = np.array([part.actual[0].size for part in parts])
        self.starts = np.concatenate([[0], np.cumsum(self.widths)[:-1]])

        def beside(arrays: Iterable[Array]) -> Array:
            return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)

        bounds = [part.expected for part in parts]
        value, size = beside(bound.value for bound in bounds), beside(bound.size for bound in bounds)
        self.expected = Bounded(value, beside(bound.error for bound in bounds), bounds[0].m, size=size)
        self.actual = beside(part.actual for part in parts)
        self.worst = np.maximum.reduceat(ratios(self.expected, self.actual), self.starts, axis=1)

    def agree(self, checks: Collection[str], at_kink: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which members agree: at a kink one choice there must explain everything that was given."""
        asked = [part.check in checks for part in self.parts]
        found: NDArray[np.bool_] = np.all(self.worst[:, asked] <= 1, axis=1)
        found &= ~at_kink | np.all(self.worst <= 1, axis=1)
        return found

    def screened(
        self, members: Sequence[int], certified: Sequence[int], checks: Collection[str], network: Network
    ) -> list[Screened]:
        """Return what members come to in which all agrees, of the checks alone; `certified`: which of them tell."""
        if not members:
            return []
        sharpness = self._sharpness(certified)
        return [
            Screened(summary, {look: rungs[member] for look, rungs in sharpness.items() if member in rungs})
            for member, summary in zip(members, self._summaries(members, checks, network), strict=True)
        ]

    def _summaries(self, members: Sequence[int], checks: Collection[str], network: Network) -> list[Summary]:
        asked = [part.check in checks for part in self.parts]
        parts = list(itertools.compress(self.parts, asked))
        if not parts:
            return [Summary()] * len(members)
        whole = len(members) == len(self.worst)
        bound, actual = (self.expected, self.actual) if whole else (self.expected[members], self.actual[members])
        known = np.isfinite(bound.error)
        vacuous = self._counted(known & (bound.error * allowance(bound) >= bound.size))[:, asked]
        unknown = self._counted(~known)[:, asked]
        lost = [0] * len(members)
        if unknown.any():
            representable = np.isfinite(bound.value) & (bound.size <= bound.m.largest)
            with np.errstate(invalid="ignore"):
                gone = ~known & representable & ~np.isfinite(actual.astype(np.float64))
            lost = self._counted(gone)[:, asked].sum(axis=1).tolist()
        widths = self.widths[asked]
        tells = (vacuous + unknown < widths).tolist()
        names = [(part.check, subject_of(network, part.check, part.path)) for part in parts]

        @lru_cache
        def told(which: tuple[bool, ...]) -> frozenset[tuple[str, str]]:
            return frozenset(itertools.compress(names, which))

        looks: dict[Look, NDArray[np.bool_]] = {
            look: np.array([part.look == look for part in parts]) for look in dict.fromkeys(p.look for p in parts)
        }
        counts = {
            look: (int(widths[own].sum()), unknown[:, own].sum(axis=1).tolist(), vacuous[:, own].sum(axis=1).tolist())
            for look, own in looks.items()
        }
        arrays = Arrays((part.look, part.check, part.path) for part in parts)
        ratios = self.worst[np.ix_(members, asked)].tolist()
        return [
            Summary(
                arrays,
                ratios[index],
                tells[index],
                told(tuple(tells[index])),
                {
                    look: Outcomes(
                        elements - unknowns[index] - vacuities[index], 0, 0, unknowns[index], vacuities[index]
                    )
                    for look, (elements, unknowns, vacuities) in counts.items()
                },
                lost[index],
            )
            for index in range(len(members))
        ]

    def _sharpness(self, members: Sequence[int]) -> dict[Look, dict[int, int | None]]:
        """Return for each look, by member, the rung at which an error of any parameter is found, if it has any."""
        found: dict[Look, dict[int, int | None]] = {}
        for look in LOOKS:
            own = [i for i, part in enumerate(self.parts) if part.look == look and part.check == "parameters"]
            if own and members:
                columns = np.concatenate([np.arange(self.starts[i], self.starts[i] + self.widths[i]) for i in own])
                place = np.ix_(np.asarray(members), columns)
                caught = rungs(self.expected[place], self.actual[place], self.widths[own])
                found[look] = {members[index]: rung for index, rung in caught.items()}
        return found

    def _counted(self, which: NDArray[np.bool_]) -> NDArray[np.int_]:
        return np.add.reduceat(which.astype(np.int_), self.starts, axis=1)
