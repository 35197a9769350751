"""The engine behind every door: draws examples, judges implementations, shrinks what fails, counts all of it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from gradconform.case import Case
from gradconform.conformance import implementations as known
from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.examples import Example
from gradconform.conformance.findings import Failure, Origin, finding_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge, key_of
from gradconform.conformance.results import Finding, Result, Tally, Verdict
from gradconform.conformance.situation import Situation
from gradconform.conformance.strategies import examples
from gradconform.errors import InvalidInput
from gradconform.network import Network
from gradconform.notation import parse

MAX_EXAMPLES = 100
MAX_FINDINGS = 8
"""More bugs than this at once are not told apart; the counts still say how much failed."""
SHRINK_SECONDS = 20.0
"""How long a failure is made smaller."""

CHUNK = 10
"""Examples that are drawn from one start of Hypothesis: so few that it draws each afresh."""
PATIENCE = 20
"""How many examples of structures that were met already are passed over, one after the other."""

Networks = Network | str | Iterable[Network | str] | st.SearchStrategy[Network]
Progress = Callable[[int, int], None]


@dataclass
class Plan:
    """What a run is to do. `notify` is called with each finding's first failing case, before it is shrunk."""

    implementations: Sequence[Implementation]
    max_examples: int = MAX_EXAMPLES
    seed: int = 0
    networks: st.SearchStrategy[Network] | None = None
    dtypes: Sequence[str] | None = None
    checks: Sequence[Check] = field(default_factory=lambda: list(CHECKS.values()))
    witnesses: bool = True
    shrink_seconds: float = SHRINK_SECONDS
    command: str = ""
    progress: Progress = lambda done, total: None
    notify: Callable[[str], None] = lambda line: None

    def examples(self) -> st.SearchStrategy[Example]:
        """Return the strategy of what every implementation says that it takes."""
        labels = [kind for kind in known.LABELS if all(kind in entry.labels for entry in self.implementations)]
        weights = all(entry.class_weights for entry in self.implementations)
        return examples(self.networks, labels=labels or known.LABELS[:1], class_weights=weights)

    def dtypes_of(self, implementation: Implementation) -> Sequence[str]:
        """Return the dtypes in which an implementation is checked: those asked for, else those it declares."""
        return implementation.dtypes if self.dtypes is None else self.dtypes


def check(
    *candidates: object,
    networks: Networks | None = None,
    max_examples: int = MAX_EXAMPLES,
    seed: int = 0,
    dtypes: Sequence[str] | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Result:
    """Check candidates against the reference and return the result; `print(result)` tells what was found.

    A candidate is a function `gradients(network, parameters, batch)`, an object with such a method, or a target as on
    the command line; without any, every installed adapter. `networks`: one network or several, as records or in
    notation, or a Hypothesis strategy; default: all that the vocabulary has. `max_examples`: the number of networks
    with their parameters and batches. `dtypes`: default float64 for candidates, float64 and float32 for adapters.
    `only`, `exclude`: ids of checks.

    Raises `InvalidInput` or `NotInstalled` for arguments that cannot be used.
    """
    if type(max_examples) is not int or max_examples < 1:
        raise InvalidInput(f"max_examples: expected an integer of at least 1, got {max_examples!r}")
    chosen = [known.of(candidate) for candidate in candidates] if candidates else known.installed()
    return run(
        Plan(
            chosen,
            max_examples=max_examples,
            seed=seed,
            networks=network_strategy(networks),
            dtypes=None if dtypes is None else choose_dtypes(dtypes),
            checks=choose_checks(only, exclude),
        )
    )


def network_strategy(networks: Networks | None) -> st.SearchStrategy[Network] | None:
    """Return a strategy of the given networks; None for all that the vocabulary has."""
    if networks is None or isinstance(networks, st.SearchStrategy):
        return networks
    if not isinstance(networks, Network | str | Iterable):
        raise InvalidInput(f"networks: expected networks, notation or a strategy, got {networks!r}")
    several = [networks] if isinstance(networks, Network | str) else list(networks)
    if not several:
        raise InvalidInput("networks: expected at least one")
    for network in several:
        if not isinstance(network, Network | str):
            raise InvalidInput(f"networks: expected networks or notation, got {network!r}")
    return st.sampled_from([parse(network) if isinstance(network, str) else network for network in several])


def choose_checks(only: Sequence[str], exclude: Sequence[str]) -> list[Check]:
    """Return the checks with the ids `only`, or all, without those of `exclude`."""
    for name in [*only, *exclude]:
        if name not in CHECKS:
            raise InvalidInput(f"check {name!r} is unknown; the checks are {', '.join(CHECKS)}")
    chosen = [entry for name, entry in CHECKS.items() if (not only or name in only) and name not in exclude]
    if not chosen:
        raise InvalidInput("no check is left: every one that was asked for is excluded")
    return chosen


def choose_dtypes(dtypes: Sequence[str]) -> Sequence[str]:
    """Return the dtypes by name; raises `InvalidInput` for one without a rounding model."""
    for dtype in dtypes:
        if dtype not in known.DTYPES:
            raise InvalidInput(f"dtype {dtype!r} is not supported; use {' or '.join(known.DTYPES)}")
    return dtypes


class Enough(Exception):
    """As many networks were judged as the plan wants."""


def run(plan: Plan) -> Result:
    """Run a plan over generated examples. Ctrl-C ends it early with what was found so far."""
    record = Record(plan)

    def explore() -> None:
        with contextlib.suppress(Enough):
            for chunk in itertools.count():
                draw(plan, chunk, [Phase.generate], partial(record.example, chunk))

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
        self.regimes: dict[str, int] = {}
        self.unsupported: dict[str, str] = {}
        self.networks = 0
        self.structures = 0
        self._passed_over = 0
        self._met: set[Hashable] = set()

    def over(self, explore: Callable[[], None]) -> Result:
        """Return the result of `explore`, which calls `example` or `case`; failures are shrunk after it."""
        interrupted = False
        findings: dict[tuple[str, ...], Finding] = {}
        try:
            if self.tallies:
                explore()
            for key, failure in list(self.failures.items())[:MAX_FINDINGS]:
                findings[key] = self._finding(failure)
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
            self.regimes[draw.regime] = self.regimes.get(draw.regime, 0) + 1

    def case(
        self, make: Callable[[str], Case], numbers: str, relations: bool = True, origin: Origin | None = None
    ) -> None:
        """Judge all implementations on one case, which `make` gives in a dtype."""
        situations: dict[str, Situation] = {}
        for implementation in self.plan.implementations:
            for dtype in self.plan.dtypes_of(implementation):
                if dtype not in situations:
                    situations[dtype] = Situation(make(dtype))
                situation = situations[dtype]
                judgement = judge(implementation, situation, self.plan.checks, relations=relations)
                tally = self.tallies[implementation.name, dtype]
                if judgement.unsupported is not None:
                    tally.unsupported += 1
                    self.unsupported.setdefault(implementation.name, judgement.unsupported)
                    continue
                tally.count(judgement.comparisons, situation.case.network, situation.expected(implementation).kinks)
                if judgement.root is not None:
                    self._failed(Failure(implementation, dtype, situation, judgement, numbers, origin))
        self.networks += 1
        self.plan.progress(self.networks, self.plan.max_examples)

    def _failed(self, failure: Failure) -> None:
        case = failure.case
        first = self.failures.setdefault(key_of(failure.implementation, case.network, failure.root), failure)
        first.evidence.append((failure.root.factor, case.batch.rows, case.network.widths[-1]))
        if first is failure:
            self.plan.notify(f"first failing case, being made smaller: {failure.headline}")

    def _finding(self, failure: Failure) -> Finding:
        smallest = shrink(self.plan, failure)
        witnesses = known.installed() if self.plan.witnesses else []
        others = [witness for witness in witnesses if witness.name != failure.implementation.name]
        return finding_of(smallest, self.plan.command, others)

    def _result(self, findings: list[Finding], interrupted: bool) -> Result:
        compared = sum(tally.comparisons for tally in self.tallies.values())
        verdict: Verdict = "passed" if compared else "nothing compared"
        if findings:
            verdict = "failed"
        elif interrupted:
            verdict = "interrupted"
        notes = [f"{name} does not support everything that was drawn: {why}" for name, why in self.unsupported.items()]
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


def shrink(plan: Plan, failure: Failure) -> Failure:
    """Return the same failure in a smaller case: a single sample of given data, or what Hypothesis shrinks to."""
    if failure.origin is None:
        return _shrink_rows(plan, failure)
    if plan.shrink_seconds == 0:
        return failure
    return _shrink_example(plan, failure, failure.origin)


def _shrink_rows(plan: Plan, failure: Failure) -> Failure:
    """Return the failure for the first single sample, or pair, of its batch that shows it too."""
    batch = failure.case.batch
    key = key_of(failure.implementation, failure.case.network, failure.root)
    until = time.monotonic() + plan.shrink_seconds
    for size in (1, 2):
        for row in range(batch.rows - size + 1 if size < batch.rows else 0):
            if time.monotonic() > until:
                return failure
            situation = Situation(replace(failure.case, batch=batch.take(slice(row, row + size))))
            judgement = judge(failure.implementation, situation, plan.checks)
            if judgement.root and key_of(failure.implementation, failure.case.network, judgement.root) == key:
                rows = f"sample {row}" if size == 1 else f"samples {row} and {row + 1}"
                return replace(failure, situation=situation, judgement=judgement, numbers=f"{failure.numbers}, {rows}")
    return failure


def _shrink_example(plan: Plan, failure: Failure, origin: Origin) -> Failure:
    """Return the failure in the smallest example that Hypothesis finds within the time limit.

    The failing example's chunk is drawn again, from the same seed. Only the one implementation, dtype and draw that
    failed are computed, and only the same bug counts.
    """
    position = origin.example.draws.index(origin.draw)
    key = key_of(failure.implementation, failure.case.network, failure.root)
    best, smallest = failure, origin.example
    reached = False
    until = time.monotonic() + plan.shrink_seconds

    class Again(Enough):
        pass

    def same(example: Example) -> None:
        nonlocal best, smallest, reached
        reached = reached or example == origin.example
        if not reached or (time.monotonic() > until and example != smallest):
            return
        draw = example.draws[position]
        situation = Situation(example.case(draw, failure.dtype))
        judgement = judge(failure.implementation, situation, plan.checks)
        if judgement.root is None or key_of(failure.implementation, example.network, judgement.root) != key:
            return
        smallest = example
        best = replace(failure, situation=situation, judgement=judgement, numbers=f"regime {draw.regime}")
        raise Again

    # a failure that does not come back every time is flaky to Hypothesis; what was seen is reported all the same
    with contextlib.suppress(Again, Flaky):
        draw(plan, origin.chunk, [Phase.generate, Phase.shrink], same)
    return best


def draw(plan: Plan, chunk: int, phases: list[Phase], function: Callable[[Example], None]) -> None:
    """Call `function` with the examples of one chunk of a plan: always the same ones for the same seed.

    Hypothesis soon begins to vary examples a little instead of drawing others, which suits the search for a rare bug
    in one function; a survey of networks wants them independent. So it is started anew for every few of them.
    """
    configured = settings(
        settings.get_profile("default"),
        max_examples=CHUNK,
        phases=phases,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
    )

    broken: list[Exception] = []

    def test(example: Any) -> None:
        if broken:
            return
        try:
            function(example)
        except Enough:
            raise
        except Exception as error:
            # Hypothesis would try again, which a run with its counts is not made for
            broken.append(error)

    seed(f"{plan.seed}/{chunk}")(configured(given(plan.examples())(test)))()
    if broken:
        raise broken[0]
