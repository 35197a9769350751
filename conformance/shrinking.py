"""Making a failure small: the smallest case that shows the same bug."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import Phase
from hypothesis.errors import Flaky

from gradconform.case import Array, Case
from gradconform.conformance.checks import Check
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.examples import Example
from gradconform.conformance.findings import Failure, Origin, factor_names
from gradconform.conformance.judge import UNSTEADY, Judgement, judge, key_of
from gradconform.conformance.plan import Enough, GivenNetworks, Plan, draw_examples
from gradconform.conformance.reducing import Shown, reduced
from gradconform.conformance.rotation import in_regimes
from gradconform.conformance.simple_numbers import complexity
from gradconform.conformance.situation import Situation
from gradconform.network import Network

CLEAR = 100.0
"""A failure that is so many times beyond the bound stays so while it is made small: a marginal one teaches nothing."""
SHARP = 1e-3
"""A factor of which rounding leaves more open than this may be anything."""
LOOKS = 150
"""So many cases are looked at, at most, to make one smaller."""
SHARE = 0.5
"""The share of the time that Hypothesis may take where it alone knows which networks may be."""

Keep = Callable[[Failure], None]


def shrink(plan: Plan, failure: Failure, until: float, keep: Keep = lambda smaller: None) -> Failure:
    """Return the same failure in a smaller case, and call `keep` with every one on the way.

    `until`: the `time.monotonic()` after which nothing more is tried.
    """
    left = until - time.monotonic()
    if left <= 0 or failure.root.kind is Kind.TIMEOUT:
        return failure
    guard = failure.implementation.guard
    before = guard.timeout
    guard.timeout = left if before is None else min(before, left)
    try:
        return _Shrinking(plan, failure, until, keep).smallest()
    finally:
        guard.timeout = before


def same_bug(failure: Failure, situation: Situation, judgement: Judgement) -> bool:
    """Return whether the judgement of another case shows the same bug, and shows it clearly."""
    root, first, who = judgement.root, failure.root, failure.implementation
    if root is None or root.ratio < min(CLEAR, first.ratio):
        return False
    case = situation.case
    if key_of(who, case.network, root) != key_of(who, failure.case.network, first):
        return False
    if root.kind is Kind.CRASHED:
        return _raised(root) == _raised(first)
    # a constant factor that is known sharply, and has a name in all failing cases, is the bug's own, and stays
    sharp = any(factor is not None and factor.uncertainty <= SHARP for factor, _, _ in failure.evidence)
    names = set(factor_names(failure.evidence)) if sharp else set()
    return not names or not names.isdisjoint(factor_names([(root.factor, case.batch.rows, case.network.widths[-1])]))


def _raised(root: Comparison) -> tuple[str, str]:
    """Return the type and the place of what a call raised: its words may tell of the case."""
    return root.detail.partition(":")[0], root.detail.rpartition(" (")[2]


class _Spent(Exception):
    """Nothing more is to be tried."""


@dataclass
class _Shrinking:
    """One failure that is made smaller; `best` is the smallest so far."""

    plan: Plan
    failure: Failure
    until: float
    keep: Keep
    best: Failure = field(init=False)
    checks: Sequence[Check] = field(init=False)
    rows: range = field(init=False)
    """Which samples of the first failing case are left."""
    looks: int = 0

    def __post_init__(self) -> None:
        self.best = self.failure
        self.checks = self.plan.checks
        self.rows = range(self.failure.case.batch.rows)
        # what is found out about kinks on the way is not to change how the run goes on
        implementation = self.failure.implementation
        self.implementation = replace(implementation, kinks=dict(implementation.kinks))

    def smallest(self) -> Failure:
        """Return the failure in the smallest case that is found, judged by all checks of the plan."""
        if not self._choose_checks():
            return self.failure
        try:
            self._hypothesis()
            reduced(self._shown(self.best.root, self.best.case), self._shows, self._allows)
        except _Spent:
            pass
        if self.best is self.failure:
            return self.failure
        situation = self.best.situation
        judgement = judge(self.implementation, situation, self.plan.checks)
        if not same_bug(self.failure, situation, judgement):
            self.keep(self.failure)
            return self.failure
        return replace(self.best, judgement=judgement)

    def _choose_checks(self) -> bool:
        """Choose the fewest checks that show the failure; return whether any do, in another call."""
        agreement = [check for check in self.plan.checks if not check.relation]
        root = self.failure.root
        choices: list[Sequence[Check]] = [self.plan.checks]
        if root.kind not in UNSTEADY and (root.check == "call" or any(check.id == root.check for check in agreement)):
            choices.insert(0, agreement)
        for checks in choices:
            self.checks = checks
            if same_bug(self.failure, self.failure.situation, self._judge(self.failure.situation)):
                return True
        return False

    def _judge(self, situation: Situation) -> Judgement:
        first = self.failure.root.kind not in UNSTEADY
        return judge(self.implementation, situation, self.checks, until_failed=first)

    def _shows(self, case: Case) -> Shown | None:
        """Look at a case, and keep it if it shows the failure as well as the one before."""
        if self.implementation.capabilities.lacks(case.network, case.batch) is not None:
            return None
        if self.looks >= LOOKS or time.monotonic() > self.until:
            raise _Spent
        self.looks += 1
        situation = Situation(case, affine=self.plan.affine)
        judgement = self._judge(situation)
        root = judgement.root
        if root is None or not same_bug(self.failure, situation, judgement) or _teaches_less(root, self.failure.root):
            return None
        self._keep(situation, judgement, self._numbers(case))
        return self._shown(root, case)

    def _shown(self, root: Comparison, case: Case) -> Shown:
        return Shown(case, layer_of(root, case.network), given=self.failure.origin is None)

    def _numbers(self, case: Case) -> str:
        """Return in words where the numbers of a smaller case come from; of data, which samples are left."""
        first, before = self.failure, self.best.case.batch.inputs
        if first.origin is not None:
            arrays = [*case.parameters.values(), case.batch.inputs]
            return f"made simpler from {first.numbers}" if any(map(complexity, arrays)) else "small integers"
        kept = _rows_of(case.batch.inputs, before)
        self.rows = self.rows if kept is None else self.rows[kept.start : kept.stop]
        told = first.numbers
        start, last = self.rows[0], self.rows[-1]
        if len(self.rows) < first.case.batch.rows:
            several = f"samples {start} {'and' if last == start + 1 else 'to'} {last}"
            told += f", sample {start}" if start == last else f", {several}"
        return told if _is_part(case, first.case, self.rows) else f"{told}, made simpler"

    def _keep(self, situation: Situation, judgement: Judgement, numbers: str) -> None:
        self.best = replace(self.failure, situation=situation, judgement=judgement, numbers=numbers)
        self.keep(self.best)

    def _allows(self, network: Network) -> bool:
        """Return whether the run may meet a network, as far as that is known of a strategy of somebody's own."""
        given = self.plan.networks
        if isinstance(given, GivenNetworks):
            return given.fits(network)
        if given is not None or self.failure.origin is None:
            return network == self.best.case.network
        return self.implementation.capabilities.lacks(network) is None

    def _hypothesis(self) -> None:
        """Let Hypothesis shrink where the networks come from a strategy of somebody's own, which only it can."""
        origin, given = self.failure.origin, self.plan.networks
        if origin is None or given is None or isinstance(given, GivenNetworks):
            return
        now = time.monotonic()
        self._shrink_example(origin, now + SHARE * (self.until - now))

    def _shrink_example(self, origin: Origin, until: float) -> None:
        """Keep the smallest example that Hypothesis finds.

        The failing example's chunk is drawn again, from the same seed. Only the one implementation, dtype and draw that
        failed are computed, and only the same bug counts.
        """
        position = origin.example.draws.index(origin.draw)
        regimes = [draw.regime for draw in origin.example.draws]
        smallest, reached = origin.example, False

        class Again(Enough):
            pass

        def same(example: Example) -> None:
            nonlocal smallest, reached
            example = in_regimes(example, regimes)
            reached = reached or example == origin.example
            if not reached or (time.monotonic() > until and example != smallest):
                return
            draw = example.draws[position]
            situation = Situation(example.case(draw, self.failure.dtype), affine=self.plan.affine)
            judgement = self._judge(situation)
            if same_bug(self.failure, situation, judgement):
                smallest = example
                self._keep(situation, judgement, f"regime {draw.regime}")
                raise Again

        # a failure that does not come back every time is flaky to Hypothesis; what was seen is reported all the same
        with contextlib.suppress(Again, Flaky):
            draw_examples(self.plan, origin.chunk, [Phase.generate, Phase.shrink], same)


def _teaches_less(root: Comparison, first: Comparison) -> bool:
    """Return whether it is harder to see in a case what is wrong, for nothing is expected there."""
    if root.kind is not Kind.WRONG or root.worst is None or first.worst is None:
        return False
    lost = bool(np.isfinite(first.ratio) and not np.isfinite(root.ratio))
    return lost or (first.worst.expected != 0 and root.worst.expected == 0)


def layer_of(root: Comparison, network: Network) -> int | None:
    """Return the index of the layer in which a comparison failed; None for the loss, and for the whole."""
    place = root.path.partition(".")[0]
    if place.isdecimal() and int(place) < len(network.layers):
        return int(place)
    if root.check == "outputs":
        return int(root.path.split()[-1])
    if root.check == "deltas":
        return int(root.path.split()[-1]) + 1
    return 0 if root.check == "input" else None


def _rows_of(inputs: Array, given: Array) -> range | None:
    """Return which of the given samples, one after the other, the inputs are."""
    if inputs.shape[1:] != given.shape[1:]:
        return None
    for first in range(len(given) - len(inputs) + 1):
        if np.array_equal(inputs, given[first : first + len(inputs)]):
            return range(first, first + len(inputs))
    return None


def _is_part(case: Case, first: Case, rows: range) -> bool:
    """Return whether the numbers of a case are those of some samples of the first one."""
    part = first.batch.take(slice(rows.start, rows.stop))
    pairs = [(array, first.parameters[path]) for path, array in case.parameters.items()]
    pairs += [(case.batch.inputs, part.inputs), (case.batch.targets, part.targets)]
    return all(np.array_equal(one, other) for one, other in pairs)
