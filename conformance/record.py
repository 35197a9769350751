"""The record of a run: how its cases are judged, how failures become bugs, small and named, and its result."""

from __future__ import annotations

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gradconform.case import Case
from gradconform.conformance import implementations as known
from gradconform.conformance.bugs import Bug, Bugs
from gradconform.conformance.casefile import versions
from gradconform.conformance.compare import Kind, Look
from gradconform.conformance.counts import Counts, Seen
from gradconform.conformance.coverage import uncovered
from gradconform.conformance.diagnosis import diagnose
from gradconform.conformance.expected import unexpected_pass
from gradconform.conformance.exploring import Drawn, drawn_in
from gradconform.conformance.findings import Failure, Origin, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import Judgement, judge_together, key_words
from gradconform.conformance.notices import MAX_TIMEOUTS, Noticed, notes_of
from gradconform.conformance.plan import UNLIMITED, Enough, Plan, at_once
from gradconform.conformance.results import Finding, Result, Verdict
from gradconform.conformance.shrinking import shrink
from gradconform.conformance.situation import Situation, situations_of
from gradconform.conformance.stack import side_by_side, together
from gradconform.conformance.state import FOR_A_RUN, kept

MAX_FINDINGS = 8
"""More bugs than this at once are not told apart; the counts still say how much failed."""


Make = Callable[[Sequence[str]], Sequence[Sequence[Case]]]
"""Gives cases of one structure in each of several dtypes."""


@dataclass(frozen=True)
class Given:
    """What is known of a case beside itself: `numbers` says in words where its numbers come from."""

    numbers: str
    origin: Origin | None = None

    @property
    def regime(self) -> str:
        """The regime that its numbers are drawn from; empty where they are not drawn."""
        return self.numbers.removeprefix("regime ") if self.origin is not None else ""


class Record:
    """What one run has counted, and how its failures become findings."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.unit = "networks"
        """What the cases of the run are called where they are counted."""
        self._from = plan.clock() if plan.started is None else plan.started
        self._cut = False
        """Whether the time was up before the run had all that it wants."""
        self.counts = Counts(plan)
        self.bugs = Bugs()
        self.structures = 0
        self.changed: set[str] = set()
        self.timeouts: Counter[str] = Counter()
        self._shrinking = 0.0
        for implementation in plan.everyone:
            implementation.guard.timeout, implementation.guard.memory = plan.timeout, plan.max_memory

    def over(self, explore: Callable[[], None]) -> Result:
        """Return the result of `explore`, which calls `cases`.

        The first failure of an implementation is made small at once, other bugs after the exploring.

        `cases` raises `Enough`, which ends the exploring, once the run has all that it wants.
        """
        # glibc hands freed memory back to the system, and asks for it again: having freed a large block, it keeps it
        np.empty(30 << 20, np.uint8)
        interrupted = False
        findings: dict[str, Finding] = {}
        # what a framework holds is not garbage, and is more than all that a run makes: it is not gone through for it
        ours = gc.get_freeze_count() == 0
        if ours:
            gc.freeze()
        try:
            self.plan.log(self.so_far, True)
            with kept(self.changed.add, FOR_A_RUN):
                with contextlib.suppress(Enough):
                    if self.counts.tallies:
                        explore()
                self._settle_all()
            for bug in self._told():
                findings[bug.failure.id] = self._finding(bug, witnesses=self.plan.witnesses)
        except KeyboardInterrupt:
            interrupted = True
            for bug in self._told():
                findings.setdefault(bug.failure.id, self._finding(bug))
        finally:
            if ours:
                gc.unfreeze()
        return self._result(list(findings.values()), interrupted)

    def explore(self) -> None:
        """Draw the plan's rounds. What one of them counts does not depend on those before it."""
        for number, count in self.plan.networks_by_round:
            for implementation in self.plan.everyone:
                implementation.kinks.clear()
            ahead: Drawn | None = None
            for drawn in drawn_in(self.plan, number, count):
                self._prepare(drawn)
                if ahead is not None:
                    self._example(ahead)
                ahead = drawn
            if ahead is not None:
                self._example(ahead)

    def _prepare(self, drawn: Drawn) -> None:
        """Let implementations that compile do so for what comes next, while something else is judged."""
        example, plan = drawn.example, self.plan
        cases = self._size(drawn)
        for implementation, count in plan.calls(cases):
            if implementation.prepare is None:
                continue
            for dtype in plan.dtypes_of(implementation):
                batch = example.case(drawn.draws[0], dtype).batch
                if implementation.several is not None:
                    implementation.prepare(example.network, side_by_side([({}, batch)] * count)[1], alone=True)
                    continue
                implementation.prepare(example.network, batch, alone=False)
                if batch.rows > 1 and any(check.relation for check in plan.checks):
                    implementation.prepare(example.network, batch.take(slice(1)), alone=True)

    @staticmethod
    def _size(drawn: Drawn) -> int:
        """Return how many cases of an example are judged together."""
        return together(drawn.example.network, drawn.example.rows, len(drawn.draws))

    def _example(self, drawn: Drawn) -> None:
        """Judge all implementations on the cases of an example."""
        example, draws = drawn.example, drawn.draws
        self.structures += drawn.new
        size = self._size(drawn)
        for start in range(0, len(draws), size):
            own = draws[start : start + size]
            several = [Given(f"regime {draw.regime}", Origin(drawn.chunk, example, draw)) for draw in own]
            self.cases(several, partial(example.cases, own), relations=start == 0)

    def cases(self, several: Sequence[Given], make: Make, relations: bool = True) -> None:
        """Judge all implementations on the cases that `make` gives; relations, where asked for, on the first one."""
        self._enough()
        seen: list[list[Seen]] = [[] for _ in several]
        try:
            self._judge(make, relations, seen)
        except KeyboardInterrupt:
            self._count_all(several, seen)
            raise
        self._count_all(several, seen)

    def _judge(self, make: Make, relations: bool, seen: Sequence[list[Seen]]) -> None:
        """Add to `seen`, by case, what comes of it for every implementation."""
        calls = list(self.plan.calls(len(seen)))
        dtypes = list(dict.fromkeys(dtype for entry, _ in calls for dtype in self.plan.dtypes_of(entry)))
        cases = dict(zip(dtypes, make(dtypes), strict=True))
        situations: dict[str, list[Situation]] = {}
        for implementation, count in calls:
            for dtype in self.plan.dtypes_of(implementation):
                patience = MAX_TIMEOUTS - self.timeouts[implementation.name]
                if patience <= 0:
                    continue
                if dtype not in situations:
                    situations[dtype] = situations_of(cases[dtype], affine=self.plan.affine)
                own = situations[dtype][:count]
                judgements = judge_together(
                    implementation,
                    own,
                    self.plan.checks,
                    relations=relations and implementation.name not in self.counts.beside,
                    patience=patience,
                    go_on=lambda: not self._late,
                )
                for index, judgement in enumerate(judgements):
                    seen[index].append(Seen(implementation, dtype, own[index], judgement))

    def _count_all(self, several: Sequence[Given], seen: Sequence[Sequence[Seen]]) -> None:
        try:
            for given, found in zip(several, seen, strict=True):
                if self._sated:
                    raise Enough
                if found:
                    self._count(given, found)
        finally:
            self.counts.add_up()

    def _count(self, given: Given, seen: Sequence[Seen]) -> None:
        """Count a case, with what every implementation gave for it."""
        compared: Counter[Look] = Counter()
        for one in seen:
            implementation, dtype, situation, judgement = one
            summary = self.counts.add(one, given.regime)
            if summary is None:
                continue
            compared.update(summary.looks)
            if isinstance(judgement, Judgement) and judgement.root is not None:
                self._failed(Failure(implementation, dtype, situation, judgement, given.numbers, given.origin))
            else:
                self.counts.passed(one, given.numbers, summary)
            self.counts.tallies[implementation.name, dtype].learn(implementation.kinks)
            self.plan.judged(implementation.name, dtype, situation.case, given.numbers, summary)
        self.counts.met(seen[0].situation.case, given.regime, compared)
        self.plan.progress(self.networks, self.plan.total)
        self.plan.log(self.so_far, False)

    @property
    def networks(self) -> int:
        """How many cases were judged."""
        return self.counts.networks

    def so_far(self) -> Result:
        """Return the result of what was done until now, as where the user ends the run."""
        return self._result([self._finding(bug) for bug in self._told()], interrupted=True)

    @property
    def _late(self) -> bool:
        """Whether the time is up in which something is drawn."""
        plan = self.plan
        self._cut = self._cut or (plan.max_time is not None and plan.clock() - self._from > plan.max_time)
        return self._cut

    @property
    def _sated(self) -> bool:
        """Whether the run has all the findings that it wants."""
        return self.plan.max_findings is not None and len(self.bugs.told()) >= self.plan.max_findings

    def _enough(self) -> None:
        """Raise `Enough` where the run has all that it wants, its time is up, or nobody is left to ask."""
        asked = any(self.timeouts[entry.name] < MAX_TIMEOUTS for entry in self.plan.implementations)
        if self.networks >= self.plan.max_examples or self._late or self._sated or not asked:
            raise Enough

    def _failed(self, failure: Failure) -> None:
        self.timeouts[failure.implementation.name] += failure.root.kind is Kind.TIMEOUT
        case = failure.case
        left = self.plan.expected.sift(case.network, failure.dtype, failure.judgement)
        if left.root is None:
            return
        failure = replace(failure, judgement=left)
        bug, new = self.bugs.add(failure)
        self.counts.sightings[failure.implementation.name].failed(case, failure.numbers, bug.key_of(failure))
        if not new or bug not in self.bugs.told() or self._known(bug):
            return
        self.plan.keep(failure)
        self.plan.log(self.so_far, True)
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
        self.plan.log(self.so_far, True)

    def _settle_all(self) -> None:
        """Make all bugs small that are told; what one of them explains is part of it."""
        for bug in self.bugs.told():
            if (
                bug.settled
                or self._known(bug)
                or self.bugs.merged(bug)
                or (self.plan.diagnose and self.bugs.unnamed(bug))
            ):
                continue
            if bug in self._told():
                self._settle(bug)
        for bug in self.bugs.told():
            if bug.settled and not bug.failure.diagnosis.symptom:
                # what was found out since may explain it
                self.bugs.merged(bug)

    def _known(self, bug: Bug) -> bool:
        """Return whether a bug was told before this run: then it is counted, and neither made small nor named again."""
        known = self.plan.known.get(bug.failure.implementation.name, ())
        return any(key_words(key) in known for key in bug.keys)

    def _told(self) -> list[Bug]:
        most = MAX_FINDINGS if self.plan.max_findings is None else min(MAX_FINDINGS, self.plan.max_findings)
        return self.bugs.told()[:most]

    def _finding(self, bug: Bug, *, witnesses: bool = False) -> Finding:
        failure = bug.failure
        # where a call failed there is nothing to vote on
        asked = known.installed() if witnesses and failure.root.check != "call" else []
        others = [witness for witness in asked if witness.name != failure.implementation.name]
        circumstances = self.counts.sightings[failure.implementation.name].of(bug.keys)
        finding = finding_of(failure, self.plan.command, others, bug.cases, circumstances)
        finding.keys = [key_words(key) for key in bug.keys]
        return finding

    def _result(self, findings: list[Finding], interrupted: bool) -> Result:
        counts = self.counts
        counts.add_up()
        compared = any(tally.telling for tally in counts.tallies.values())
        verdict: Verdict = "passed" if compared else "nothing compared"
        if findings:
            verdict = "failed"
        elif interrupted:
            verdict = "interrupted"
        expected = self.plan.expected
        missed = expected.unmet if compared and not interrupted else []
        if missed:
            verdict = "failed"
        covered = counts.covered()
        if verdict == "passed" and self.plan.rounds is None and any(entry.missing for entry in covered):
            verdict = "not covered"
        notes = [unexpected_pass(self.plan.implementations[0].name, key, self.networks) for key in missed]
        notes += [
            f"expected: {key.text}, {expected.met[key.text]:,} times: {key.reason}"
            for key in expected.keys
            if expected.met[key.text]
        ]
        if verdict == "not covered":
            notes += uncovered(covered)
        noticed = {entry.name: self._noticed(entry) for entry in counts.judged}
        notes += notes_of(noticed, sorted(self.changed))
        notes += [at_once(entry.name) for entry in counts.judged if entry.name in counts.beside]
        notes += [note for tally in counts.tallies.values() if (note := tally.vacuity) is not None]
        if self._cut and self.networks < self.plan.max_examples:
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
            implementations=[
                counts.tallies[entry.name, dtype] for entry in counts.judged for dtype in self.plan.dtypes_of(entry)
            ],
            findings=findings,
            regimes=counts.regimes,
            coverage=covered,
            notes=notes,
            noticed={name: own for name, own in noticed.items() if own != Noticed()},
            changed=sorted(self.changed),
            interrupted=interrupted,
            command=self.plan.command,
            versions=versions(),
        )

    def _noticed(self, implementation: Implementation) -> Noticed:
        """Return what was noticed of an implementation beside its gradients."""
        name, guard = implementation.name, implementation.guard
        return Noticed(
            unsupported=dict(self.counts.unsupported[name]),
            without=[] if self.plan.dtypes_of(implementation) else list(implementation.supported),
            changed=sorted(guard.changed),
            warnings=dict(guard.heard),
            given_up=int(self.timeouts[name] >= MAX_TIMEOUTS),
        )
