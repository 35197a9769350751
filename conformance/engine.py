"""The engine behind every door: draws examples, judges implementations, shrinks what fails, counts all of it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import Phase

from gradconform.case import Case
from gradconform.conformance import implementations as known
from gradconform.conformance.compare import Look
from gradconform.conformance.conditions import conditions
from gradconform.conformance.examples import Example
from gradconform.conformance.findings import Failure, Origin, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge, key_of
from gradconform.conformance.plan import (
    MAX_EXAMPLES,
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
from gradconform.errors import InvalidInput

MAX_FINDINGS = 8
"""More bugs than this at once are not told apart; the counts still say how much failed."""
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

    Raises `InvalidInput` or `NotInstalled` for arguments that cannot be used.
    """
    if type(max_examples) is not int or max_examples < 1:
        raise InvalidInput(f"max_examples: expected an integer of at least 1, got {max_examples!r}")
    chosen = [known.of(candidate) for candidate in candidates] if candidates else known.everything()
    return run(
        Plan(
            _told_apart(chosen),
            max_examples=max_examples,
            seed=seed,
            networks=network_strategy(networks),
            dtypes=None if dtypes is None else choose_dtypes(dtypes),
            checks=choose_checks(only, exclude),
            affine=affine,
        )
    )


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
        with contextlib.suppress(Enough):
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
        self._passed_over = 0
        self._met: set[Hashable] = set()

    def over(self, explore: Callable[[], None]) -> Result:
        """Return the result of `explore`, which calls `example` or `case`; failures are shrunk after it."""
        # glibc hands freed memory back to the system, and asks for it again: having freed a large block, it keeps it
        np.empty(30 << 20, np.uint8)
        interrupted = False
        findings: dict[tuple[str, ...], Finding] = {}
        try:
            if self.tallies:
                explore()
            until = time.monotonic() + self.plan.shrink_seconds
            for key, failure in list(self.failures.items())[:MAX_FINDINGS]:
                findings[key] = self._finding(failure, until)
        except KeyboardInterrupt:
            interrupted = True
            for key, failure in list(self.failures.items())[:MAX_FINDINGS]:
                findings.setdefault(key, finding_of(failure, self.plan.command, []))
        return self._result(list(findings.values()), interrupted)

    def example(self, chunk: int, example: Example) -> None:
        """Judge all implementations on the cases of an example; raises `Enough` once the run has all it wants.

        Structures that were met are passed over, unless there seem to be no others.
        """
        if self.networks >= self.plan.max_examples:
            raise Enough
        if example.structure in self._met and self._passed_over < PATIENCE:
            self._passed_over += 1
            return
        self._passed_over = 0
        self._met.add(example.structure)
        self.structures = len(self._met)
        for index, draw in enumerate(example.draws):
            if self.networks >= self.plan.max_examples:
                raise Enough
            origin = Origin(chunk, example, draw)
            self.case(partial(example.case, draw), f"regime {draw.regime}", index == 0, origin)

    def case(
        self, make: Callable[[str], Case], numbers: str, relations: bool = True, origin: Origin | None = None
    ) -> None:
        """Judge all implementations on one case, which `make` gives in a dtype."""
        situations: dict[str, Situation] = {}
        compared: Counter[Look] = Counter()
        for implementation in self.plan.implementations:
            for dtype in self.plan.dtypes_of(implementation):
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
        case = failure.case
        first = self.failures.setdefault(key_of(failure.implementation, case.network, failure.root), failure)
        first.evidence.append((failure.root.factor, case.batch.rows, case.network.widths[-1]))
        if first is failure:
            self.plan.notify(f"first failing case, being made smaller: {failure.headline}")

    def _finding(self, failure: Failure, until: float) -> Finding:
        smallest = shrink(self.plan, failure, until)
        witnesses = known.installed() if self.plan.witnesses else []
        others = [witness for witness in witnesses if witness.name != failure.implementation.name]
        return finding_of(smallest, self.plan.command, others)

    def _result(self, findings: list[Finding], interrupted: bool) -> Result:
        compared = any(tally.telling for tally in self.tallies.values())
        verdict: Verdict = "passed" if compared else "nothing compared"
        if findings:
            verdict = "failed"
        elif interrupted:
            verdict = "interrupted"
        notes = [f"{name} does not support everything that was drawn: {why}" for name, why in self.unsupported.items()]
        notes += [
            f"{entry.name} is not checked: it supports {' and '.join(entry.supported)} alone"
            for entry in self.plan.implementations
            if not self.plan.dtypes_of(entry)
        ]
        notes += [note for tally in self.tallies.values() if (note := tally.vacuity) is not None]
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
