"""The engine behind every door: what is asked becomes a plan, and a run draws examples and records what it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gradconform.conformance import implementations as known
from gradconform.conformance.canaries import proved
from gradconform.conformance.expected import Expectations, read_expected, require_known
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.keeping import run_kept
from gradconform.conformance.plan import (
    MAX_EXAMPLES,
    TIMEOUT,
    Networks,
    Plan,
    choose_checks,
    choose_dtypes,
    network_strategy,
)
from gradconform.conformance.record import Record
from gradconform.conformance.results import Result
from gradconform.errors import InvalidInput


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
    return proved(run_kept(plan, run, cases=cases, pins=pins), checks)


def _told_apart(implementations: Sequence[Implementation]) -> list[Implementation]:
    """Return the implementations with a number behind each name that was there before."""
    told: list[Implementation] = []
    for entry in implementations:
        same = sum(other.name == entry.name for other in implementations[: len(told)])
        told.append(replace(entry, name=f"{entry.name} ({same + 1})", by_vmap=None) if same else entry)
    return told


def run(plan: Plan) -> Result:
    """Run a plan over generated examples. Ctrl-C ends it early with what was found so far."""
    record = Record(plan)
    return record.over(record.explore)
