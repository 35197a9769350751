"""What a run counts: of each implementation in each dtype, and of the cases that it met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from gradconform.case import Case
from gradconform.conformance.circumstances import Sightings
from gradconform.conformance.compare import Look
from gradconform.conformance.conditions import conditions
from gradconform.conformance.coverage import Coverage, Covered
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import Judgement
from gradconform.conformance.plan import Plan
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Met, Tally
from gradconform.conformance.screening import Screened
from gradconform.conformance.sharpness import measure
from gradconform.conformance.situation import Situation
from gradconform.conformance.summary import Summary, summary_of
from gradconform.network import Network


class Seen(NamedTuple):
    """What came of a case."""

    implementation: Implementation
    dtype: str
    situation: Situation
    judgement: Judgement | Screened


class Counts:
    """The counts of one run.

    `tallies` and the sightings, coverage and refusals beside them are there from the start for everyone that the plan
    may judge; `beside`: the names of those who were not asked for.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tallies = {
            (entry.name, dtype): Tally(entry.name, entry.version, dtype)
            for entry in plan.everyone
            for dtype in plan.dtypes_of(entry)
        }
        self.beside = {entry.name for entry in plan.beside.values()}
        self.sightings: dict[str, Sightings] = {entry.name: Sightings() for entry in plan.everyone}
        self.coverage: dict[str, Coverage] = {entry.name: Coverage() for entry in plan.everyone}
        self.unsupported: dict[str, Counter[str]] = {entry.name: Counter() for entry in plan.everyone}
        self.regimes: dict[str, Met] = {}
        self.networks = 0
        self._uncounted: dict[tuple[str, str, Network], list[tuple[Summary, int]]] = {}
        """What the tallies do not count yet, by implementation, dtype and network, with the number of kinks."""

    def add(self, seen: Seen, regime: str) -> Summary | None:
        """Count a case of one implementation; return what it came to, None where it does not support it.

        `regime` is empty where the numbers of the case were not drawn from one.
        """
        implementation, dtype, situation, judgement = seen
        name, network = implementation.name, situation.case.network
        coverage = self.coverage[name]
        if isinstance(judgement, Judgement) and judgement.unsupported is not None:
            self.tallies[name, dtype].unsupported += 1
            coverage.refuse(network, regime, dtype)
            self.unsupported[name][judgement.unsupported] += 1
            return None
        summary = judgement.summary if isinstance(judgement, Screened) else summary_of(judgement.comparisons, network)
        self._uncounted.setdefault((name, dtype, network), []).append((summary, situation.kinks(implementation)))
        coverage.count(network, regime, dtype, summary)
        return summary

    def passed(self, seen: Seen, numbers: str, summary: Summary) -> None:
        """Add how small an error would have been found, and what could tell, in a case in which everything agrees."""
        implementation, dtype, situation, judgement = seen
        if situation.certified:
            sharpness = judgement.sharpness if isinstance(judgement, Screened) else measure(judgement.views)
            self.tallies[implementation.name, dtype].certify(sharpness)
        self.sightings[implementation.name].passed(situation.case, numbers, summary.told)

    def met(self, case: Case, regime: str, compared: Mapping[Look, int]) -> None:
        """Count a case itself: its regime, where it is drawn from one, and its conditions, alike in all dtypes."""
        self.networks += 1
        for name in [*([regime] if regime in REGIMES else []), *conditions(case)]:
            met = self.regimes.setdefault(name, Met())
            met.cases += 1
            for look, count in compared.items():
                met.comparisons[look] = met.comparisons.get(look, 0) + count

    def add_up(self) -> None:
        """Count what the tallies do not count yet: what many cases of a network came to at once."""
        for (name, dtype, network), came in self._uncounted.items():
            summaries, kinks = zip(*came, strict=True)
            self.tallies[name, dtype].count(summaries, network, kinks)
        self._uncounted.clear()

    @property
    def judged(self) -> list[Implementation]:
        """All that were asked for, and those beside them that were judged on something."""
        return [
            entry
            for entry in self.plan.everyone
            if entry.name not in self.beside
            or any(self.tallies[entry.name, dtype].cases for dtype in self.plan.dtypes_of(entry))
        ]

    def covered(self) -> list[Covered]:
        """Return what those who were asked for met: who is judged beside them sees some of the structures alone."""
        plan = self.plan
        return [
            self.coverage[entry.name].covered(entry.name, plan.rotation, plan.dtypes_of(entry), plan.required)
            for entry in plan.implementations
            if plan.dtypes_of(entry)
        ]
