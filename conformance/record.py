"""The record of a run: what it counts, how its failures become bugs, small and named, and its result."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import Phase

from gradconform.case import Case
from gradconform.conformance import implementations as known
from gradconform.conformance.bugs import Bug, Bugs
from gradconform.conformance.circumstances import Sightings
from gradconform.conformance.compare import Kind, Look
from gradconform.conformance.conditions import conditions
from gradconform.conformance.coverage import Coverage, missing_texts
from gradconform.conformance.diagnosis import diagnose
from gradconform.conformance.examples import Example
from gradconform.conformance.expected import unexpected_pass
from gradconform.conformance.findings import Failure, Origin, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.plan import UNLIMITED, Chunk, Enough, Plan, RoundDone, draw_examples
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Finding, Met, Result, Tally, Verdict
from gradconform.conformance.shrinking import shrink
from gradconform.conformance.situation import Situation
from gradconform.conformance.state import FOR_A_RUN, kept

MAX_FINDINGS = 8
"""More bugs than this at once are not told apart; the counts still say how much failed."""
MAX_TIMEOUTS = 2
"""So often may a candidate take too long; then it is not asked any more."""
MAX_WARNINGS = 5
"""So many different warnings of a candidate are told."""
PATIENCE = 20
"""How many examples of structures that were met already are passed over, one after the other."""


class Record:
    """What one run has counted, and how its failures become findings."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.unit = "networks"
        """What the cases of the run are called where they are counted."""
        self._from = plan.clock() if plan.started is None else plan.started
        self._late = False
        self.tallies = {
            (implementation.name, dtype): Tally(implementation.name, implementation.version, dtype)
            for implementation in plan.implementations
            for dtype in plan.dtypes_of(implementation)
        }
        self.bugs = Bugs()
        self.sightings: dict[str, Sightings] = {entry.name: Sightings() for entry in plan.implementations}
        self.regimes: dict[str, Met] = {}
        self.coverage: dict[str, Coverage] = {entry.name: Coverage() for entry in plan.implementations}
        self.unsupported: dict[str, str] = {}
        self.networks = 0
        self.structures = 0
        self.changed: set[str] = set()
        self.timeouts: Counter[str] = Counter()
        self._shrinking = 0.0
        self._passed_over = 0
        self._met: set[Hashable] = set()
        self._judged, self._left = 0, 0
        """How many networks the current round has, and how many it still wants."""
        for implementation in plan.implementations:
            implementation.guard.timeout, implementation.guard.memory = plan.timeout, plan.max_memory

    def over(self, explore: Callable[[], None]) -> Result:
        """Return the result of `explore`, which calls `example` or `case`.

        The first failure of an implementation is made small at once, other bugs after the exploring.

        `case` and `example` raise `Enough`, which ends the exploring, once the run has all that it wants.
        """
        # glibc hands freed memory back to the system, and asks for it again: having freed a large block, it keeps it
        np.empty(30 << 20, np.uint8)
        interrupted = False
        findings: dict[str, Finding] = {}
        try:
            with kept(self.changed.add, FOR_A_RUN):
                with contextlib.suppress(Enough):
                    if self.tallies:
                        explore()
                self._settle_all()
            for bug in self._told():
                findings[bug.failure.id] = self._finding(bug, witnesses=self.plan.witnesses)
        except KeyboardInterrupt:
            interrupted = True
            for bug in self._told():
                findings.setdefault(bug.failure.id, self._finding(bug))
        return self._result(list(findings.values()), interrupted)

    def explore(self) -> None:
        """Draw the plan's rounds. What one of them counts does not depend on those before it."""
        for number, count in self.plan.networks_by_round:
            self._met, self._passed_over, self._judged, self._left = set(), 0, 0, count
            for implementation in self.plan.implementations:
                implementation.kinks.clear()
            with contextlib.suppress(RoundDone):
                for start in itertools.count():
                    chunk = Chunk(number, start)
                    draw_examples(self.plan, chunk, [Phase.generate], partial(self.example, chunk))

    def example(self, chunk: Chunk, example: Example) -> None:
        """Judge all implementations on the cases of an example.

        Structures that the round has met are passed over, unless there seem to be no others.
        """
        self._enough()
        if not self._left:
            raise RoundDone
        example = self.plan.turned(example, chunk.round, self._judged)
        if example.structure in self._met and self._passed_over < PATIENCE:
            self._passed_over += 1
            return
        self._passed_over = 0
        self.structures += example.structure not in self._met
        self._met.add(example.structure)
        for index, draw in enumerate(example.draws[: self._left]):
            self._judged, self._left = self._judged + 1, self._left - 1
            origin = Origin(chunk, example, draw)
            self.case(partial(example.case, draw), f"regime {draw.regime}", index == 0, origin)

    def case(
        self, make: Callable[[str], Case], numbers: str, relations: bool = True, origin: Origin | None = None
    ) -> None:
        """Judge all implementations on one case, which `make` gives in a dtype."""
        self._enough()
        situations: dict[str, Situation] = {}
        compared: Counter[Look] = Counter()
        regime = numbers.removeprefix("regime ") if origin is not None else ""
        for implementation in self.plan.implementations:
            for dtype in self.plan.dtypes_of(implementation):
                if self.timeouts[implementation.name] >= MAX_TIMEOUTS:
                    continue
                if dtype not in situations:
                    situations[dtype] = Situation(make(dtype), affine=self.plan.affine)
                situation = situations[dtype]
                judgement = judge(implementation, situation, self.plan.checks, relations=relations)
                tally, coverage = self.tallies[implementation.name, dtype], self.coverage[implementation.name]
                if judgement.unsupported is not None:
                    tally.unsupported += 1
                    coverage.refuse(situation.case.network, regime, dtype)
                    self.unsupported.setdefault(implementation.name, judgement.unsupported)
                    continue
                tally.count(judgement.comparisons, situation.case.network, situation.expected(implementation).kinks)
                coverage.count(situation.case.network, regime, dtype, judgement.comparisons)
                compared.update(comparison.look for comparison in judgement.comparisons)
                if judgement.root is not None:
                    self._failed(Failure(implementation, dtype, situation, judgement, numbers, origin))
                else:
                    tally.certify(judgement.views)
                    self.sightings[implementation.name].passed(situation.case, numbers, judgement.comparisons)
                tally.kinks = tally.kinks | implementation.kinks
        self._cover(situations, numbers, compared)
        self.networks += 1
        self.plan.progress(self.networks, None if self.plan.max_examples == UNLIMITED else self.plan.max_examples)

    def _enough(self) -> None:
        """Raise `Enough` where the run has all the networks it wants, its time is up, or nobody is left to ask."""
        plan = self.plan
        self._late = plan.max_time is not None and plan.clock() - self._from > plan.max_time
        found = plan.max_findings is not None and len(self.bugs.told()) >= plan.max_findings
        asked = any(self.timeouts[entry.name] < MAX_TIMEOUTS for entry in plan.implementations)
        if self.networks >= plan.max_examples or self._late or found or not asked:
            raise Enough

    def _cover(self, situations: Mapping[str, Situation], numbers: str, compared: Mapping[Look, int]) -> None:
        """Count what a case met: its regime, where it is drawn from one, and its conditions."""
        met = {numbers.removeprefix("regime ")} & set(REGIMES)
        for situation in situations.values():
            met.update(conditions(situation.case))
        for name in met:
            seen = self.regimes.setdefault(name, Met())
            seen.cases += 1
            for look, count in compared.items():
                seen.comparisons[look] = seen.comparisons.get(look, 0) + count

    def _failed(self, failure: Failure) -> None:
        self.timeouts[failure.implementation.name] += failure.root.kind is Kind.TIMEOUT
        case = failure.case
        left = self.plan.expected.sift(case.network, failure.dtype, failure.judgement)
        if left.root is None:
            return
        failure = replace(failure, judgement=left)
        bug, new = self.bugs.add(failure)
        self.sightings[failure.implementation.name].failed(case, failure.numbers, bug.key_of(failure))
        if not new or bug not in self.bugs.told():
            return
        self.plan.keep(failure)
        first = len(self.bugs.of(failure.implementation)) == 1
        when = "first failing case, being made smaller" if first else "another failure, to be made smaller in the end"
        self.plan.notify(f"{when}: {failure.headline}")
        if first:
            self._settle(bug)

    def _settle(self, bug: Bug) -> None:
        """Make a bug small, as far as the time for it goes, say what it is where the plan asks for it, and tell it."""
        started = time.monotonic()
        try:
            until = started + self.plan.shrink_seconds - self._shrinking
            bug.failure = shrink(self.plan, bug.first, until, bug.keep)
            if self.plan.diagnose:
                bug.failure = replace(bug.failure, diagnosis=diagnose(bug.failure, self.plan))
        finally:
            self._shrinking += time.monotonic() - started
            self.plan.keep(bug.failure)
        bug.settled = True
        self.plan.found(self._finding(bug))

    def _settle_all(self) -> None:
        """Make all bugs small that are told; what one of them explains is part of it."""
        for bug in self.bugs.told():
            if bug.settled or self.bugs.merged(bug) or (self.plan.diagnose and self.bugs.unnamed(bug)):
                continue
            if bug in self._told():
                self._settle(bug)
        for bug in self.bugs.told():
            if bug.settled and not bug.failure.diagnosis.symptom:
                # what was found out since may explain it
                self.bugs.merged(bug)

    def _told(self) -> list[Bug]:
        most = MAX_FINDINGS if self.plan.max_findings is None else min(MAX_FINDINGS, self.plan.max_findings)
        return self.bugs.told()[:most]

    def _finding(self, bug: Bug, *, witnesses: bool = False) -> Finding:
        failure = bug.failure
        # where a call failed there is nothing to vote on
        asked = known.installed() if witnesses and failure.root.check != "call" else []
        others = [witness for witness in asked if witness.name != failure.implementation.name]
        circumstances = self.sightings[failure.implementation.name].of(bug.keys)
        return finding_of(failure, self.plan.command, others, bug.cases, circumstances)

    def _result(self, findings: list[Finding], interrupted: bool) -> Result:
        compared = any(tally.telling for tally in self.tallies.values())
        verdict: Verdict = "passed" if compared else "nothing compared"
        if findings:
            verdict = "failed"
        elif interrupted:
            verdict = "interrupted"
        expected = self.plan.expected
        missed = expected.unmet if compared and not interrupted else []
        if missed:
            verdict = "failed"
        covered = [
            self.coverage[entry.name].covered(
                entry.name, self.plan.rotation, self.plan.dtypes_of(entry), self.plan.required
            )
            for entry in self.plan.implementations
            if self.plan.dtypes_of(entry)
        ]
        if verdict == "passed" and any(entry.missing for entry in covered):
            verdict = "not covered"
        notes = [unexpected_pass(self.plan.implementations[0].name, key, self.networks) for key in missed]
        notes += [
            f"expected: {key.text}, {expected.met[key.text]:,} times: {key.reason}"
            for key in expected.keys
            if expected.met[key.text]
        ]
        notes += [f"{name} does not support everything that was drawn: {why}" for name, why in self.unsupported.items()]
        notes += [
            f"{entry.name} is not checked: it supports {' and '.join(entry.supported)} alone"
            for entry in self.plan.implementations
            if not self.plan.dtypes_of(entry)
        ]
        if verdict == "not covered":
            notes += [f"{text}; raise --max-examples or --max-time" for text in missing_texts(covered)]
        notes += [note for tally in self.tallies.values() if (note := tally.vacuity) is not None]
        notes += [note for implementation in self.plan.implementations for note in self._noticed(implementation)]
        notes += [f"{name} was changed during the run, and put back" for name in sorted(self.changed)]
        if self._late and self.networks < self.plan.max_examples:
            of = "" if self.plan.max_examples == UNLIMITED else f" of {self.plan.max_examples:,}"
            notes.append(f"{self.networks:,}{of} {self.unit} were drawn within {self.plan.max_time:g} s")
        if len(self.bugs) > MAX_FINDINGS:
            notes.append(f"{len(self.bugs)} different failures were seen; the first {MAX_FINDINGS} are told")
        if findings and interrupted:
            notes.append("interrupted: not everything was drawn or made as small as it could be")
        return Result(
            verdict=verdict,
            seed=self.plan.seed,
            seconds=round(time.monotonic() - self.started, 3),
            networks=self.networks,
            structures=self.structures,
            implementations=list(self.tallies.values()),
            findings=findings,
            regimes=self.regimes,
            coverage=covered,
            notes=notes,
        )

    def _noticed(self, implementation: Implementation) -> Iterator[str]:
        """Yield what was noticed of an implementation beside its gradients."""
        name, guard = implementation.name, implementation.guard
        if guard.changed:
            yield f"{name} leaves changed what others use, which was put back: {', '.join(sorted(guard.changed))}"
        for line, times in guard.heard.most_common(MAX_WARNINGS):
            yield f"{name} warns{f' {times:,} times' if times > 1 else ''}: {line}"
        if len(guard.heard) > MAX_WARNINGS:
            yield f"{name} gives {len(guard.heard) - MAX_WARNINGS:,} other warnings"
        if self.timeouts[name] >= MAX_TIMEOUTS:
            yield f"{name} took too long {MAX_TIMEOUTS} times, and was not asked any more"
