"""A run whose failures are kept in files, and before which pinned cases are replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gradconform.conformance.casefolder import Keeper, pinned_of, replay_command
from gradconform.conformance.plan import Plan
from gradconform.conformance.record import Record
from gradconform.conformance.replay import Replayed, replay
from gradconform.conformance.results import Pinned, Result


def run_kept(
    plan: Plan,
    run: Callable[[Plan], Result],
    *,
    cases: Path | str | None = None,
    pins: Path | str | None = None,
    program: Sequence[str] = (),
) -> Result:
    """Return the result of a plan with pinned cases first.

    cases: the folder into which failures are written; pins: the folder of pinned cases, which need not exist; neither
    where it is None. program: the words of the command among what is checked, if there is one.
    """
    keeper = None if cases is None else Keeper(cases, plan, program)
    if keeper is not None:
        plan.keep = keeper.keep
    replayed = [] if pins is None else _pinned(plan, Path(pins))
    if replayed:
        log = plan.log
        plan.log = lambda so_far, at_once: log(lambda: _added(so_far(), replayed), at_once)
    result = run(plan)
    if keeper is not None:
        keeper.complete(result.findings)
        result.notes += [keeper.note] if keeper.note else []
    return _added(result, replayed) if replayed else result


def _pinned(plan: Plan, folder: Path) -> list[Replayed]:
    """Return what came of the pinned cases of the plan's implementations, those by vmap of the same frameworks too.

    Each is logged at once; a failure is told.
    """
    by_vmap = [entry.by_vmap for entry in plan.implementations if entry.by_vmap is not None]
    named = {implementation.name: implementation for implementation in [*by_vmap, *plan.implementations]}
    replayed: list[Replayed] = []
    record = Record(plan)
    for place, file in pinned_of(folder, list(named)):
        implementation = named[file.implementation]
        implementation.guard.timeout, implementation.guard.memory = plan.timeout, plan.max_memory
        known = dict(implementation.kinks)
        command = replay_command(place, file)
        replayed.append(replay(file, lambda: implementation, str(place), command, witnesses=plan.witnesses))  # noqa: B023
        implementation.kinks.clear()
        implementation.kinks.update(known)
        plan.log(lambda: _added(record.so_far(), replayed), True)
        if (finding := replayed[-1].finding) is not None:
            plan.notify(f"pinned case {file.id} fails: {finding.implementation}   {finding.sentence}")
    return replayed


def _added(result: Result, replayed: Sequence[Replayed]) -> Result:
    """Return a result with pinned cases: a failing one is a finding, unless the run found the same."""
    findings = [entry.finding for entry in replayed if entry.finding is not None]
    found = {(finding.implementation, finding.key) for finding in result.findings}
    result.findings[:0] = [finding for finding in findings if (finding.implementation, finding.key) not in found]
    unsupported = sum(entry.outcome == "unsupported" for entry in replayed)
    result.pinned = Pinned(cases=len(replayed), failing=len(findings), unsupported=unsupported)
    if findings:
        result.verdict = "failed"
    return result
