"""How far what was compared stays below its bounds, or goes beyond: error / bound, counted on a scale of half decades.

An array counts once, by its worst element, and only where some element of it could have told a wrong value from
rounding. What is counted stays small however long a run is, and adds up over its parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from gradconform.case import Array
from gradconform.conformance.agreement import AGREEMENTS
from gradconform.conformance.compare import Look
from gradconform.conformance.summary import Arrays, Summary, subject_of
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

    `steps`: in each look, how many arrays have their worst error / bound in which half decade, as `steps_of` numbers
    them; `subjects`: by what the arrays are, such as `Dense.weight` or `deltas Tanh`, and for a relation by its check.
    """

    steps: dict[Look, dict[int, int]] = msgspec.field(default_factory=dict)
    subjects: dict[str, Subject] = msgspec.field(default_factory=dict)

    def __add__(self, other: Margins) -> Margins:
        steps = {
            look: added(self.steps.get(look, {}), other.steps.get(look, {})) for look in {**self.steps, **other.steps}
        }
        return Margins(steps, added(self.subjects, other.subjects))

    def count(self, summaries: Iterable[Summary], network: Network) -> None:
        """Add the comparisons of cases of one network."""
        alike: dict[Arrays, list[Summary]] = {}
        for summary in summaries:
            alike.setdefault(summary.arrays, []).append(summary)
        for arrays, own in alike.items():
            if arrays:
                ratios = np.array([summary.ratios for summary in own])
                self._count(_names(network, arrays), ratios, np.array([summary.telling for summary in own], bool))

    def _count(self, names: Sequence[tuple[Look, str]], ratios: Array, telling: Array) -> None:
        """Add arrays, each under its look and its name, by case and array."""
        steps = steps_of(ratios)
        for look in dict.fromkeys(look for look, _ in names):
            columns = [column for column, (own, _) in enumerate(names) if own == look]
            if counted := Counter(steps[:, columns][telling[:, columns]].tolist()):
                self.steps[look] = added(self.steps.get(look, {}), counted)
        for name in dict.fromkeys(name for _, name in names):
            columns = [column for column, (_, own) in enumerate(names) if own == name]
            if told := int(np.count_nonzero(counts := telling[:, columns])):
                worst = float(np.max(ratios[:, columns], where=counts, initial=0))
                self.subjects[name] = self.subjects.get(name, Subject()) + Subject(told, worst)

    def all_steps(self) -> dict[int, int]:
        """Return the arrays by half decade in both looks together, from the lowest to the highest that has any."""
        found: dict[int, int] = {}
        for steps in self.steps.values():
            found = added(found, steps)
        return {step: found.get(step, 0) for step in range(min(found), max(found) + 1)} if found else {}


def steps_of(ratios: Array) -> Array:
    """Return the numbers of the half decades of error / bound: step n ends with 10^(n/2), so that 0 ends with 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.ceil(2 * np.log10(ratios))
    # close to 1 the logarithm is rounded
    steps = np.where(ratios > 1, np.clip(steps, 1, HIGHEST), np.clip(steps, LOWEST, 0))
    return np.where(ratios > 0, steps, LOWEST).astype(int)


@lru_cache(maxsize=1024)
def _names(network: Network, arrays: Arrays) -> tuple[tuple[Look, str], ...]:
    """Return under which name arrays are counted, each with its look."""
    return tuple(
        (look, subject_of(network, check, path) if check in AGREEMENTS else check) for look, check, path in arrays
    )
