"""The kill matrix: every planted fault is run as a user's code would be, until it is found, and named if it can be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from gradconform.capabilities import EVERYTHING
from gradconform.conformance import implementations as known
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.findings import Failure
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.plan import MAX_EXAMPLES, Plan, network_strategy
from gradconform.conformance.planting import Fault
from gradconform.conformance.record import Record
from gradconform.conformance.results import Finding, Result
from gradconform.conformance.situation import Situation

Naming = Literal["right", "unknown", "WRONG NAME", "not caught"]

SEED = 1
DTYPE = "float64"
COLUMNS = (*CHECKS, "call")
"""What may fire: the checks, and the call itself."""
CORRECT_EXAMPLES = 20
"""Networks on which the frameworks are to raise no alarm: JAX compiles every one of them."""


class Kill(msgspec.Struct, kw_only=True):
    """How one planted fault was found. `checks` are all that fired on the structure on which it was met first.

    `detected`: seconds from the start to the first failing case; `found`: to the finding, named and as small as it
    becomes.
    """

    fault: str
    sentence: str
    held_out: bool
    named: Naming
    checks: list[str] = []
    detected: float | None = None
    found: float | None = None
    networks: int = 0
    """How many were compared before it was met."""
    finding: Finding | None = None

    @property
    def caught(self) -> bool:
        """Whether the fault was found at all."""
        return self.finding is not None


class Correct(msgspec.Struct, kw_only=True):
    """What a correct implementation was told: no finding, if all is well."""

    name: str
    version: str | None
    networks: int
    comparisons: int
    seconds: float
    alarms: list[str] = []


class Killing(msgspec.Struct, kw_only=True):
    """The kill matrix, and what correct code was told."""

    schema: int = 1
    seed: int
    max_examples: int
    seconds: float
    kills: list[Kill]
    correct: list[Correct]

    @property
    def survivors(self) -> list[Kill]:
        """The faults that were not found."""
        return [kill for kill in self.kills if not kill.caught]

    @property
    def misnamed(self) -> list[Kill]:
        """The faults that were called what they are not."""
        return [kill for kill in self.kills if kill.named == "WRONG NAME"]

    @property
    def alarms(self) -> list[str]:
        """What was found in correct code."""
        return [f"{correct.name}: {alarm}" for correct in self.correct for alarm in correct.alarms]

    @property
    def exit_code(self) -> int:
        """0 where every fault was found, none under a wrong name, and nothing in correct code; else 1."""
        return int(bool(self.survivors or self.misnamed or self.alarms))

    def median(self, seconds: Callable[[Kill], float | None]) -> float:
        """Return the median of a time over the faults that were found; 0 without any."""
        times = [time for kill in self.kills if (time := seconds(kill)) is not None]
        return statistics.median(times) if times else 0.0

    def to_json(self) -> bytes:
        """Return the matrix as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def plan_for(fault: Fault, max_examples: int = MAX_EXAMPLES, seed: int = SEED) -> Plan:
    """Return the plan of a run that ends with the first finding of a fault, on the networks that expose it.

    Nobody votes: a vote tells nothing of the fault, and takes a framework's import.
    """
    implementation = fault.implementation()
    if fault.losses:
        # as somebody whose code has these losses alone would declare them
        declared = msgspec.structs.replace(EVERYTHING, losses=tuple(loss.__name__ for loss in fault.losses))
        implementation = replace(implementation, capabilities=declared)
    return Plan(
        [implementation],
        max_examples=max_examples,
        seed=seed,
        networks=network_strategy(fault.networks) if fault.networks else None,
        dtypes=[DTYPE],
        witnesses=False,
        max_findings=1,
    )


def kill(fault: Fault, max_examples: int = MAX_EXAMPLES, seed: int = SEED) -> Kill:
    """Run one fault until it is found."""
    plan = plan_for(fault, max_examples, seed)
    met: list[float] = []
    plan.notify = lambda line: met.append(time.monotonic() - record.started)
    record = Record(plan)

    result = _whole(record.over(record.explore))
    seconds = time.monotonic() - record.started
    finding = next(iter(result.findings), None)
    first = record.bugs.told()[0].first if result.findings else None
    caught = finding is not None and first is not None
    return Kill(
        fault=fault.id,
        sentence=fault.sentence,
        held_out=fault.held_out,
        named=naming(fault, finding),
        checks=fired(fault, first, finding) if finding is not None and first is not None else [],
        detected=round(met[0], 3) if caught and met else None,
        found=round(seconds, 3) if caught else None,
        networks=result.networks,
        finding=finding,
    )


def _whole(result: Result) -> Result:
    """Return a result; raises `KeyboardInterrupt` where the user ended its run, which tells nothing of a fault then."""
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def naming(fault: Fault, finding: Finding | None) -> Naming:
    """Return whether the symptom that a finding names, if it names one, is the fault's."""
    if finding is None:
        return "not caught"
    if not finding.symptom:
        return "unknown"
    return "right" if fault.is_called(finding.symptom) else "WRONG NAME"


def fired(fault: Fault, failure: Failure, finding: Finding) -> list[str]:
    """Return all checks that fail on the structure of a failure, in each of its draws, relations included."""
    implementation, cases = fault.implementation(), [failure.case]
    if failure.origin is not None:
        cases = [failure.origin.example.case(draw, failure.dtype) for draw in failure.origin.example.draws]
    judgements = [judge(implementation, Situation(case), list(CHECKS.values())) for case in cases]
    failed = {entry.check for judgement in judgements for entry in judgement.failures}
    return [check for check in COLUMNS if check in failed | {finding.check}]


def correct_code(seed: int = SEED, max_examples: int = MAX_EXAMPLES) -> list[Correct]:
    """Run what is right, where nothing is to be found: the reference itself, and the frameworks that are installed."""
    frameworks = [(entry, min(max_examples, CORRECT_EXAMPLES)) for entry in known.installed()]
    return [_correct(entry, count, seed) for entry, count in [(known.reference(), max_examples), *frameworks]]


def _correct(implementation: Implementation, max_examples: int, seed: int) -> Correct:
    plan = Plan(
        [implementation], max_examples=max_examples, seed=seed, dtypes=[DTYPE], witnesses=False, shrink_seconds=0
    )
    result = _whole(run(plan))
    return Correct(
        name=implementation.name,
        version=implementation.version,
        networks=result.networks,
        comparisons=result.comparisons,
        seconds=result.seconds,
        alarms=[finding.sentence for finding in result.findings],
    )


def kill_all(
    faults: Sequence[Fault],
    *,
    max_examples: int = MAX_EXAMPLES,
    seed: int = SEED,
    correct: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Killing:
    """Run faults, one after the other, and then, where asked for, what is right."""
    started = time.monotonic()
    kills = []
    for fault in faults:
        kills.append(kill(fault, max_examples, seed))
        progress(len(kills), len(faults))
    told = correct_code(seed, max_examples) if correct else []
    return Killing(
        seed=seed,
        max_examples=max_examples,
        seconds=round(time.monotonic() - started, 3),
        kills=kills,
        correct=told,
    )
