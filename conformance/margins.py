"""How far what was compared stays below its bounds, or goes beyond: error / bound, counted on a scale of half decades.

An array counts once, by its worst element, and only where some element of it could have told a wrong value from
rounding. What is counted stays small however long a run is, and adds up over its parts.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import msgspec

from gradconform.conformance.agreement import AGREEMENTS
from gradconform.conformance.compare import Look
from gradconform.conformance.summary import Summary, subject_of
from gradconform.conformance.sums import added
from gradconform.network import Network

LOWEST, HIGHEST = -7, 40
"""The first step holds all up to 10^-3.5, exact values too, the last one all above 10^19.5, what is not finite too."""


class Subject(msgspec.Struct):
    """What was compared under one name: how many arrays, and the largest error / bound of them."""

    arrays: int = 0
    worst: float = 0.0

    def __add__(self, other: Subject) -> Subject:
        return Subject(self.arrays + other.arrays, max(self.worst, other.worst))


class Margins(msgspec.Struct):
    """How error / bound is spread, in one implementation and dtype.

    `steps`: in each look, how many arrays have their worst error / bound in which half decade, as `step_of` numbers
    them; `subjects`: by what the arrays are, such as `Dense.weight` or `deltas Tanh`, and for a relation by its check.
    """

    steps: dict[Look, dict[int, int]] = msgspec.field(default_factory=dict)
    subjects: dict[str, Subject] = msgspec.field(default_factory=dict)

    def __add__(self, other: Margins) -> Margins:
        steps = {
            look: added(self.steps.get(look, {}), other.steps.get(look, {})) for look in {**self.steps, **other.steps}
        }
        return Margins(steps, added(self.subjects, other.subjects))

    def count(self, summary: Summary, network: Network) -> None:
        """Add the comparisons of one case."""
        names = _names(network, tuple(summary.arrays))
        for (look, name), ratio in itertools.compress(zip(names, summary.ratios, strict=True), summary.telling):
            steps, step = self.steps.setdefault(look, {}), step_of(ratio)
            steps[step] = steps.get(step, 0) + 1
            if (subject := self.subjects.get(name)) is None:
                subject = self.subjects[name] = Subject()
            subject.arrays += 1
            subject.worst = max(subject.worst, ratio)

    def all_steps(self) -> dict[int, int]:
        """Return the arrays by half decade in both looks together, from the lowest to the highest that has any."""
        found: dict[int, int] = {}
        for steps in self.steps.values():
            found = added(found, steps)
        return {step: found.get(step, 0) for step in range(min(found), max(found) + 1)} if found else {}


def step_of(ratio: float) -> int:
    """Return the number of the half decade of an error / bound: step n ends with 10^(n/2), so that 0 ends with 1."""
    if not ratio > 0:
        return LOWEST
    if ratio == math.inf:
        return HIGHEST
    step = math.ceil(2 * math.log10(ratio))
    # close to 1 the logarithm is rounded
    return min(max(step, 1), HIGHEST) if ratio > 1 else max(min(step, 0), LOWEST)


@lru_cache(maxsize=4096)
def _names(network: Network, arrays: tuple[tuple[Look, str, str], ...]) -> tuple[tuple[Look, str], ...]:
    """Return under which name arrays are counted, each with its look."""
    return tuple(
        (look, subject_of(network, check, path) if check in AGREEMENTS else check) for look, check, path in arrays
    )
