"""The engine behind every door: draws examples, judges implementations, shrinks what fails, counts all of it."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import Phase

from gradconform.case import Case
from gradconform.conformance import implementations as known
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Kind, Look
from gradconform.conformance.conditions import conditions
from gradconform.conformance.examples import Example
from gradconform.conformance.expected import Expectations, read_expected, require_known, unexpected_pass
from gradconform.conformance.findings import Failure, Origin, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import UNSTEADY, judge, key_of
from gradconform.conformance.keeping import run_kept
from gradconform.conformance.plan import (
    MAX_EXAMPLES,
    TIMEOUT,
    Enough,
    Networks,
    Plan,
    choose_checks,
    choose_dtypes,
    draw_examples,
    network_strategy,
)
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Coverage, Finding, Result, Tally, Verdict
from gradconform.conformance.shrinking import shrink
from gradconform.conformance.situation import Situation
from gradconform.conformance.state import FOR_A_RUN, kept
from gradconform.errors import InvalidInput

MAX_FINDINGS = 8
"""More bugs than this at once are not told apart; the counts still say how much failed."""
MAX_TIMEOUTS = 2
"""So often may a candidate take too long; then it is not asked any more."""
MAX_WARNINGS = 5
"""So many different warnings of a candidate are told."""
PATIENCE = 20
"""How many examples of structures that were met already are passed over, one after the other."""


def check(
    *candidates: object,
    networks: Networks | None = None,
    max_examples: int = MAX_EXAMPLES,
    seed: int = 0,
    dtypes: Sequence[str] | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    affine: bool = False,
    timeout: float | None = TIMEOUT,
    max_time: float | None = None,
    expected_failures: Mapping[str, str] | None = None,
    cases: Path | str | None = None,
    pins: Path | str | None = None,
) -> Result:
    """Check candidates against the reference and return the result; `print(result)` tells what was found.

    candidates: functions `gradients(network, parameters, batch)`, objects with such a method, or targets as on the
        command line; without any, NumPy and every installed framework.
    networks: one network or several, as records or in notation, or a Hypothesis strategy; default: all there are.
    max_examples: how many networks, each with its parameters and batch.
    seed: the same seed gives the same networks.
    dtypes: default what each candidate declares, which for a plain function is float64.
    only, exclude: ids of checks.
    affine: tighter bounds from the inputs on, many times as costly, for large networks that show gradients alone.
    timeout: seconds that one call of a candidate may take; None: no limit.
    max_time: seconds after which nothing more is drawn.
    expected_failures: reasons by check, or by the key that a finding's message tells. Such failures do not fail the
        run; one that is not met does.
    cases: a folder into which failures are written as case files; default: none are.
    pins: a folder of pinned cases, those of the candidates being replayed first; default: none are.

    Raises `InvalidInput` or `NotInstalled` for arguments that cannot be used.
    """
    if type(max_examples) is not int or max_examples < 1:
        raise InvalidInput(f"max_examples: expected an integer of at least 1, got {max_examples!r}")
    for name, seconds in (("timeout", timeout), ("max_time", max_time)):
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
            raise InvalidInput(f"{name}: expected a number of seconds above 0, or None, got {seconds!r}")
    for name, folder in (("cases", cases), ("pins", pins)):
        if folder is not None and not isinstance(folder, str | Path):
            raise InvalidInput(f"{name}: expected a folder, or None, got {folder!r}")
    chosen = [known.of(candidate) for candidate in candidates] if candidates else known.everything()
    keys = read_expected(expected_failures)
    checks = choose_checks(only, exclude)
    if keys:
        if len(chosen) != 1:
            raise InvalidInput(f"expected_failures: for one candidate at a time, got {len(chosen)}")
        require_known(keys, [entry.id for entry in checks], list(chosen[0].asked(dtypes)))
    plan = Plan(
        _told_apart(chosen),
        max_examples=max_examples,
        seed=seed,
        networks=network_strategy(networks),
        dtypes=None if dtypes is None else choose_dtypes(dtypes),
        checks=checks,
        affine=affine,
        expected=Expectations(keys),
        timeout=timeout,
        max_time=max_time,
    )
    return run_kept(plan, run, cases=cases, pins=pins)


def _told_apart(implementations: Sequence[Implementation]) -> list[Implementation]:
    """Return the implementations with a number behind each name that was there before."""
    told: list[Implementation] = []
    for entry in implementations:
        same = sum(other.name == entry.name for other in implementations[: len(told)])
        told.append(replace(entry, name=f"{entry.name} ({same + 1})") if same else entry)
    return told


def run(plan: Plan) -> Result:
    """Run a plan over generated examples. Ctrl-C ends it early with what was found so far."""
    record = Record(plan)

    def explore() -> None:
        for chunk in itertools.count():
            draw_examples(plan, chunk, [Phase.generate], partial(record.example, chunk))

    return record.over(explore)


class Record:
    """What one run has counted, and how its failures become findings."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.tallies = {
            (implementation.name, dtype): Tally(implementation.name, implementation.version, dtype)
            for implementation in plan.implementations
            for dtype in plan.dtypes_of(implementation)
        }
        self.failures: dict[tuple[str, ...], Failure] = {}
        self.regimes: dict[str, Coverage] = {}
        self.unsupported: dict[str, str] = {}
        self.networks = 0
        self.structures = 0
        self.changed: set[str] = set()
        self.timeouts: Counter[str] = Counter()
        self._passed_over = 0
        self._met: set[Hashable] = set()
        for implementation in plan.implementations:
            implementation.guard.timeout, implementation.guard.memory = plan.timeout, plan.max_memory

    def over(self, explore: Callable[[], None]) -> Result:
        """Return the result of `explore`, which calls `example` or `case`; failures are shrunk after it.

        `case` and `example` raise `Enough`, which ends the exploring, once the run has all that it wants.
        """
        # glibc hands freed memory back to the system, and asks for it again: having freed a large block, it keeps it
        np.empty(30 << 20, np.uint8)
        interrupted = False
        findings: dict[tuple[str, ...], Finding] = {}
        try:
            with kept(self.changed.add, FOR_A_RUN), contextlib.suppress(Enough):
                if self.tallies:
                    explore()
            until = time.monotonic() + self.plan.shrink_seconds
            for key, failure in self._told():
                findings[key] = self._finding(failure, until)
        except KeyboardInterrupt:
            interrupted = True
            for key, failure in self._told():
                findings.setdefault(key, finding_of(failure, self.plan.command, []))
        return self._result(list(findings.values()), interrupted)

    def example(self, chunk: int, example: Example) -> None:
        """Judge all implementations on the cases of an example.

        Structures that were met are passed over, unless there seem to be no others.
        """
        self._enough()
        if example.structure in self._met and self._passed_over < PATIENCE:
            self._passed_over += 1
            return
        self._passed_over = 0
        self._met.add(example.structure)
        self.structures = len(self._met)
        for index, draw in enumerate(example.draws):
            origin = Origin(chunk, example, draw)
            self.case(partial(example.case, draw), f"regime {draw.regime}", index == 0, origin)

    def case(
        self, make: Callable[[str], Case], numbers: str, relations: bool = True, origin: Origin | None = None
    ) -> None:
        """Judge all implementations on one case, which `make` gives in a dtype."""
        self._enough()
        situations: dict[str, Situation] = {}
        compared: Counter[Look] = Counter()
        for implementation in self.plan.implementations:
            for dtype in self.plan.dtypes_of(implementation):
                if self.timeouts[implementation.name] >= MAX_TIMEOUTS:
                    continue
                if dtype not in situations:
                    situations[dtype] = Situation(make(dtype), affine=self.plan.affine)
                situation = situations[dtype]
                judgement = judge(implementation, situation, self.plan.checks, relations=relations)
                tally = self.tallies[implementation.name, dtype]
                if judgement.unsupported is not None:
                    tally.unsupported += 1
                    self.unsupported.setdefault(implementation.name, judgement.unsupported)
                    continue
                tally.count(judgement.comparisons, situation.case.network, situation.expected(implementation).kinks)
                compared.update(comparison.look for comparison in judgement.comparisons)
                if judgement.root is not None:
                    self._failed(Failure(implementation, dtype, situation, judgement, numbers, origin))
                else:
                    tally.certify(judgement.views)
                tally.kinks = implementation.kinks
        self._cover(situations, numbers, compared)
        self.networks += 1
        self.plan.progress(self.networks, self.plan.max_examples)

    def _enough(self) -> None:
        """Raise `Enough` where the run has all the networks it wants, its time is up, or nobody is left to ask."""
        plan = self.plan
        late = plan.max_time is not None and time.monotonic() - self.started > plan.max_time
        asked = any(self.timeouts[entry.name] < MAX_TIMEOUTS for entry in plan.implementations)
        if self.networks >= plan.max_examples or late or not asked:
            raise Enough

    def _cover(self, situations: Mapping[str, Situation], numbers: str, compared: Mapping[Look, int]) -> None:
        """Count what a case met: its regime, where it is drawn from one, and its conditions."""
        met = {numbers.removeprefix("regime ")} & set(REGIMES)
        for situation in situations.values():
            met.update(conditions(situation.case))
        for name in met:
            coverage = self.regimes.setdefault(name, Coverage())
            coverage.cases += 1
            for look, count in compared.items():
                coverage.comparisons[look] = coverage.comparisons.get(look, 0) + count

    def _failed(self, failure: Failure) -> None:
        self.timeouts[failure.implementation.name] += failure.root.kind is Kind.TIMEOUT
        case = failure.case
        left = self.plan.expected.sift(case.network, failure.dtype, failure.judgement)
        if left.root is None:
            return
        failure = replace(failure, judgement=left)
        first = self.failures.setdefault(key_of(failure.implementation, case.network, failure.root), failure)
        first.evidence.append((failure.root.factor, case.batch.rows, case.network.widths[-1]))
        if first is failure:
            self.plan.keep(failure)
            self.plan.notify(f"first failing case, being made smaller: {failure.headline}")

    def _told(self) -> list[tuple[tuple[str, ...], Failure]]:
        """Return the failures that become findings, by what tells them apart: of each implementation the telling ones.

        Where its calls differ, nothing else is known of it; where it disagrees with the reference, relations that it
        breaks elsewhere say nothing new.
        """
        told: dict[str, list[tuple[tuple[str, ...], Failure]]] = {}
        for key, failure in sorted(self.failures.items(), key=lambda item: _rank(item[1])):
            of_one = told.setdefault(failure.implementation.name, [])
            if not of_one or _rank(of_one[0][1]) == _rank(failure):
                of_one.append((key, failure))
        keys = {key for of_one in told.values() for key, _ in of_one}
        return [(key, failure) for key, failure in self.failures.items() if key in keys][:MAX_FINDINGS]

    def _finding(self, failure: Failure, until: float) -> Finding:
        smallest = shrink(self.plan, failure, until)
        if smallest is not failure:
            self.plan.keep(smallest)
        # where a call failed there is nothing to vote on
        witnesses = known.installed() if self.plan.witnesses and smallest.root.check != "call" else []
        others = [witness for witness in witnesses if witness.name != failure.implementation.name]
        return finding_of(smallest, self.plan.command, others)

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
        notes += [note for tally in self.tallies.values() if (note := tally.vacuity) is not None]
        notes += [note for implementation in self.plan.implementations for note in self._noticed(implementation)]
        notes += [f"{name} was changed during the run, and put back" for name in sorted(self.changed)]
        if self.networks < self.plan.max_examples and self.plan.max_time is not None and not interrupted:
            notes.append(
                f"{self.networks:,} of {self.plan.max_examples:,} networks were drawn within {self.plan.max_time:g} s"
            )
        if len(self.failures) > MAX_FINDINGS:
            notes.append(f"{len(self.failures)} different failures were seen; the first {MAX_FINDINGS} are told")
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


def _rank(failure: Failure) -> int:
    """Return how far a failure is from its cause."""
    if failure.root.kind in UNSTEADY:
        return 0
    check = CHECKS.get(failure.root.check)
    return 2 if check is not None and check.relation else 1
