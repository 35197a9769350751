"""Judging a kept case again: with the same checks and limits, and after the same calls where they matter."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import msgspec

from gradconform.case import Case
from gradconform.conformance import implementations as known
from gradconform.conformance.casefile import AGAIN, CaseFile
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.diagnosis import diagnose
from gradconform.conformance.findings import Failure, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import UNSTEADY, Judgement, judge
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.results import Finding, spelled
from gradconform.conformance.situation import Situation
from gradconform.conformance.state import FOR_A_RUN, kept
from gradconform.conformance.wrapping import filled
from gradconform.errors import CandidateFailed, one_line

MOST_CALLS = 2000
"""So many calls are made at most to meet a failure again that calls before it may have brought about."""
MOST_SECONDS = 20.0
"""So long are calls made that only bring a state about."""

Outcome = Literal["same", "different", "healed", "unsupported"]
Make = Callable[[], Implementation]


@dataclass(frozen=True)
class Replayed:
    """What came of a case: the recorded failure, another one, none, or nothing that could be compared.

    `why`: the implementation's own sentence, where it does not support the case.
    """

    file: CaseFile
    place: str
    name: str
    outcome: Outcome
    finding: Finding | None = None
    why: str = ""

    @property
    def summary(self) -> str:
        """What came of it, in one line."""
        found = self.file.found
        if self.outcome == "healed":
            ratio = found.ratio
            was = f" was {ratio:.1e} x what rounding can explain" if isinstance(ratio, float) else f": {found.sentence}"
            return f"HEALED  {self.file.id}  {self.name} agrees now: {found.key}{was}"
        if self.outcome == "unsupported":
            return f"NOT COMPARED  {self.file.id}  {self.name} does not support this case any more: {self.why}"
        if self.outcome == "different":
            return f"DIFFERENT  {self.file.id}  {self.name} fails otherwise than recorded: {found.sentence}"
        return f"SAME  {self.file.id}  {self.name} fails as recorded: {found.sentence}"

    def __str__(self) -> str:
        lines = [] if self.outcome == "same" else filled(self.summary)
        if self.finding is not None:
            lines.append(finding_text(self.finding))
        return "\n".join(lines)


def replay(file: CaseFile, make: Make, place: str = "", command: str = "", *, witnesses: bool = True) -> Replayed:
    """Judge a case again. `make` returns the implementation, a fresh one each time where it can.

    `witnesses`: whether others are asked about a failure that is not the recorded one.

    A failure may depend on earlier calls. So the case is judged after those that are recorded, then after as many as
    had been made, and what differed from call to call is asked for a while longer.
    """
    seen: list[tuple[Implementation, Judgement]] = []
    with kept(lambda name: None, FOR_A_RUN):
        situation = Situation(file.case, affine=file.conditions.affine)
        for implementation, judgement in _attempts(file, make, situation):
            seen.append((implementation, judgement))
            if judgement.root is not None and _is(file, judgement.root):
                return _failed(file, implementation, situation, judgement, "same", place, command, witnesses)
        for implementation, judgement in seen:
            if (left := _without_others(file, judgement)) is not None:
                return _failed(file, implementation, situation, left, "same", place, command, witnesses)
        for implementation, judgement in seen:
            if judgement.root is not None:
                return _failed(file, implementation, situation, judgement, "different", place, command, witnesses)
    implementation, judgement = seen[0]
    if judgement.unsupported is not None:
        return Replayed(file, place, implementation.name, "unsupported", why=one_line(judgement.unsupported))
    return Replayed(file, place, implementation.name, "healed")


def least(file: CaseFile, make: Make) -> CaseFile:
    """Return the same case file without the earlier calls, where it fails as recorded without them."""
    alone = replace(file, before=(), conditions=msgspec.structs.replace(file.conditions, calls=0))
    few = replace(file, conditions=msgspec.structs.replace(file.conditions, calls=len(file.before)))
    fewer = (other for other in (alone, few) if replay(other, make, witnesses=False).outcome == "same")
    return next(fewer, file)


def _failed(
    file: CaseFile,
    implementation: Implementation,
    situation: Situation,
    judgement: Judgement,
    outcome: Outcome,
    place: str,
    command: str,
    witnesses: bool,
) -> Replayed:
    """Return a failure as its finding, with what is known of the recorded one from its run."""
    found, dtype = file.found, file.case.dtype.name
    failure = Failure(
        implementation, dtype, situation, judgement, found.numbers, id=file.id, replay=command, file=place
    )
    root, case = failure.root, file.case
    as_recorded = outcome == "same" and _same_numbers(file, root)
    if not as_recorded:
        # what stands here now may be another mistake in the same place
        plan = Plan([implementation], networks=network_strategy(case.network))
        failure = replace(failure, diagnosis=diagnose(failure, plan))
    failure.evidence.append((root.factor, case.batch.rows, case.network.widths[-1]))
    # the votes on the recorded failure are known, and where a call failed there is nothing to vote on
    asked = known.installed() if witnesses and outcome == "different" and root.check != "call" else []
    finding = finding_of(failure, "", [witness for witness in asked if witness.name != implementation.name])
    if outcome == "same":
        names = AGAIN if as_recorded else STANDING
        finding = msgspec.structs.replace(finding, **{name: getattr(found, name) for name in names})
    return Replayed(file, place, implementation.name, outcome, finding)


STANDING = ("numbers", "agreeing", "disagreeing")
"""What the run that found a case knows of it, whatever the implementation does now."""
CLOSE = 1e-6
"""In proportion to its size, so much may a wrong number differ on another machine."""


def _same_numbers(file: CaseFile, root: Comparison) -> bool:
    """Return whether the wrong element has the value that was recorded."""
    recorded, now = file.found.actual, None if root.worst is None else spelled(root.worst.actual)
    if isinstance(recorded, float) and isinstance(now, float):
        return math.isclose(recorded, now, rel_tol=CLOSE)
    return recorded == now


def _attempts(file: CaseFile, make: Make, situation: Situation) -> Iterator[tuple[Implementation, Judgement]]:
    """Yield judgements of the case, each after more calls than the one before."""
    conditions = file.conditions
    checks = [CHECKS[name] for name in conditions.checks]
    until = time.monotonic() + MOST_SECONDS
    most = min(2 * conditions.calls, MOST_CALLS)

    def prepared() -> Implementation:
        implementation = make()
        implementation.kinks.clear()
        implementation.kinks.update(conditions.kinks)
        return implementation

    judged = partial(judge, situation=situation, checks=checks, relations=conditions.relations)
    implementation = prepared()
    _call(implementation, file.before)
    judgement = judged(implementation)
    yield implementation, judgement
    failing = judgement.root is not None and judgement.root.kind in {Kind.CRASHED, Kind.TIMEOUT}
    if conditions.calls == len(file.before) or judgement.unsupported is not None or failing:
        return  # more calls would change nothing, and cost more
    implementation = prepared()
    filler = file.before[0] if file.before else file.case
    while implementation.guard.calls < min(conditions.calls, MOST_CALLS) - len(file.before):
        if time.monotonic() > until:
            return
        _call(implementation, [filler])
    _call(implementation, file.before)
    yield implementation, judged(implementation)
    while file.found.kind in _UNSTEADY and implementation.guard.calls < most and time.monotonic() < until:
        yield implementation, judged(implementation)


_UNSTEADY = {kind.name for kind in UNSTEADY}


def _call(implementation: Implementation, cases: Sequence[Case]) -> None:
    """Make calls whose results are not looked at."""
    for case in cases:
        with contextlib.suppress(CandidateFailed, NotImplementedError):
            implementation.guard.call(implementation.gradients, case.network, case.parameters, case.batch)


def _without_others(file: CaseFile, judgement: Judgement) -> Judgement | None:
    """Return the judgement with the recorded failure as its first one; None where it is not among its failures.

    Others may have stood before it in the run too, where they were expected.
    """
    failures = judgement.failures
    for position, failure in enumerate(failures):
        if _is(file, failure):
            before = [id(entry) for entry in failures[:position]]
            return replace(judgement, comparisons=[e for e in judgement.comparisons if id(e) not in before])
    return None


def _is(file: CaseFile, failure: Comparison) -> bool:
    found = file.found
    return (failure.check, failure.kind.name, failure.path) == (found.check, found.kind, found.path)


def verdict_text(replayed: Sequence[Replayed]) -> str:
    """Return how many of several cases ended how, in one line."""
    counts: Counter[str] = Counter(entry.outcome for entry in replayed)
    words = {"same": "as recorded", "different": "otherwise", "healed": "healed", "unsupported": "not compared"}
    said = ", ".join(f"{counts[outcome]:,} {word}" for outcome, word in words.items() if counts[outcome])
    verdict = "NOT COMPARED" if counts["unsupported"] else "PASSED"
    if counts["same"] or counts["different"]:
        verdict = "FAILED"
    return f"{verdict}  {len(replayed):,} cases: {said}"


class Record(msgspec.Struct):
    """One case in the machine-readable result."""

    id: str
    file: str
    implementation: str
    outcome: Outcome
    sentence: str
    finding: Finding | None


class Report(msgspec.Struct):
    """The machine-readable result."""

    cases: list[Record]
    schema: int = 1


def to_json(replayed: Sequence[Replayed]) -> bytes:
    """Return what came of cases as JSON."""
    records = [
        Record(entry.file.id, entry.place, entry.name, entry.outcome, entry.summary, entry.finding)
        for entry in replayed
    ]
    return msgspec.json.format(msgspec.json.encode(Report(records)), indent=1)
