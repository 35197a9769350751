"""What a check costs beside the bare gradient calls that it makes, in the steady state: everything compiled and loaded.

    python benchmarks/check_overhead.py [--rounds 8] [NAME ...]

A run of later rounds is made first to compile and load, and to note every call that it makes, and one for each case
that is computed only together with others, by vmap. Then the run and these calls, without anything around them, are
timed in turns, and the shortest time of each counts: other programs make both longer. The breakdown is of one more run:
what it spent in each part, without the parts inside it.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from gradconform.case import Batch, Parameters
from gradconform.conformance import exploring, judge, record, situation, stack
from gradconform.conformance import implementations as known
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Example
from gradconform.conformance.guard import Guard
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.plan import ALONE, LATE, Plan, networks_before
from gradconform.conformance.results import Result
from gradconform.network import Network

SEED = 5
TURNS = 5
REST = "the rest"


class Clock:
    """Time by part: each part has the time that is spent in it and in no part inside it."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._inside: list[str] = [REST]
        self._since = time.perf_counter()

    def of(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time under a part."""

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._switch()
            self._inside.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._switch()
                self._inside.pop()

        return timed

    def _switch(self) -> None:
        now = time.perf_counter()
        self.spent[self._inside[-1]] += now - self._since
        self._since = now


PARTS: tuple[tuple[str, Any, str], ...] = (
    ("drawing", exploring, "draw_examples"),
    ("stacking", record, "situations_of"),
    ("cases", Example, "cases"),
    ("watching the calls", Guard, "call"),
    ("bounds", stack, "expected"),
    ("bounds", situation, "expected"),
    ("comparing", judge, "screen"),
    ("one by one", judge, "judge"),
    ("relations", judge, "_relations"),
    ("counting", record.Record, "_count_all"),
)


def breakdown(clock: Clock, work: Callable[[], Result]) -> Result:
    """Run with the parts under the clock."""
    before = [(place, name, getattr(place, name)) for _, place, name in PARTS]
    for (part, place, name), (_, _, function) in zip(PARTS, before, strict=True):
        setattr(place, name, clock.of(part, function))
    try:
        return work()
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def measure(name: str, rounds: int) -> None:
    """Print the line of one implementation, and where its time goes."""
    implementation = known.resolve(name)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def noted(compute: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append((compute, arguments))
            return compute(*arguments)

        return call

    def each(compute: Callable[..., Any], like: Callable[..., Any]) -> Callable[..., Any]:
        def call(network: Network, parameters: Parameters, batch: Batch) -> Any:
            # the first ones are called one by one too
            for index in range(ALONE, len(batch.inputs)):
                own = {path: array[index] for path, array in parameters.items()}
                alone = Batch(*(None if array is None else array[index] for array in vars(batch).values()))
                calls.append((like, (network, own, alone)))
            return compute(network, parameters, batch)

        return call

    def work(entry: Implementation) -> Result:
        last = LATE + rounds
        return run(Plan([entry], max_examples=networks_before(last), seed=SEED, rounds=range(LATE, last)))

    bare, by_vmap = implementation.bare, implementation.by_vmap
    noting = replace(
        implementation, gradients=noted(implementation.gradients), bare=None if bare is None else noted(bare)
    )
    if by_vmap is not None and by_vmap.several is not None:
        noting = replace(noting, by_vmap=replace(by_vmap, several=each(by_vmap.several, implementation.gradients)))
    result = work(noting)
    if not result.passed:
        raise SystemExit(str(result))
    turns = [(_seconds(lambda: work(implementation)), _seconds(lambda: _make(calls))) for _ in range(TURNS)]
    whole, alone = (min(times) for times in zip(*turns, strict=True))
    clock = Clock()
    timed = replace(implementation, gradients=clock.of("gradients", implementation.gradients))
    timed = replace(timed, bare=None if bare is None else clock.of("gradients", bare))
    if by_vmap is not None and by_vmap.several is not None:
        timed = replace(timed, by_vmap=replace(by_vmap, several=clock.of("gradients by vmap", by_vmap.several)))
    breakdown(clock, lambda: work(timed))
    total = sum(clock.spent.values())
    print(
        f"{name:<10} {result.networks:,} networks, {result.comparisons:,} comparisons, {len(calls):,} calls: "
        f"{whole:.2f} s / {alone:.2f} s = {whole / alone:.1f}, {result.comparisons / whole:,.0f} comparisons a second"
    )
    for part, seconds in clock.spent.most_common():
        print(f"  {part:<20} {seconds / total:4.0%}")


def _make(calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    for compute, arguments in calls:
        compute(*arguments)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure the implementations that are named, or all that are installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="reference, torch, jax; default: all installed")
    parser.add_argument("--rounds", type=int, default=8, help="of 512 networks each; default: 8")
    options = parser.parse_args()
    names = options.names or [entry.name for entry in known.everything()]
    print("implementation: time of a check / time of its bare gradient calls")
    for name in names:
        measure(name, options.rounds)


if __name__ == "__main__":
    main()
