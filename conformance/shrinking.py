"""Making a failure small: the smallest case that shows the same bug."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from hypothesis import Phase
from hypothesis.errors import Flaky

from gradconform.conformance.compare import Kind
from gradconform.conformance.examples import Example
from gradconform.conformance.findings import Failure, Origin
from gradconform.conformance.judge import Judgement, judge, key_of
from gradconform.conformance.plan import Enough, Plan, draw_examples
from gradconform.conformance.situation import Situation

CLEAR = 100.0
"""A failure that is so many times beyond the bound stays so while it is made small: a marginal one teaches nothing."""


def shrink(plan: Plan, failure: Failure, until: float) -> Failure:
    """Return the same failure in a smaller case: a sample of given data, or what Hypothesis shrinks to.

    `until`: the `time.monotonic()` after which nothing more is tried.
    """
    left = until - time.monotonic()
    if left <= 0 or failure.root.kind is Kind.TIMEOUT:
        return failure
    guard = failure.implementation.guard
    guard.timeout = left if guard.timeout is None else min(guard.timeout, left)
    if failure.origin is None:
        return _shrink_rows(plan, failure, until)
    return _shrink_example(plan, failure, failure.origin, until)


def _same(failure: Failure, situation: Situation, judgement: Judgement) -> bool:
    """Return whether the judgement of another case shows the same bug, and shows it clearly."""
    root, who = judgement.root, failure.implementation
    if root is None or root.ratio < min(CLEAR, failure.root.ratio):
        return False
    return key_of(who, situation.case.network, root) == key_of(who, failure.case.network, failure.root)


def _shrink_rows(plan: Plan, failure: Failure, until: float) -> Failure:
    """Return the failure for the first single sample, or pair, of its batch that shows it too."""
    batch = failure.case.batch
    for size in (1, 2):
        for row in range(batch.rows - size + 1 if size < batch.rows else 0):
            if time.monotonic() > until:
                return failure
            situation = Situation(replace(failure.case, batch=batch.take(slice(row, row + size))), affine=plan.affine)
            judgement = judge(failure.implementation, situation, plan.checks)
            if _same(failure, situation, judgement):
                rows = f"sample {row}" if size == 1 else f"samples {row} and {row + 1}"
                return replace(failure, situation=situation, judgement=judgement, numbers=f"{failure.numbers}, {rows}")
    return failure


def _shrink_example(plan: Plan, failure: Failure, origin: Origin, until: float) -> Failure:
    """Return the failure in the smallest example that Hypothesis finds within the time limit.

    The failing example's chunk is drawn again, from the same seed. Only the one implementation, dtype and draw that
    failed are computed, and only the same bug counts.
    """
    position = origin.example.draws.index(origin.draw)
    best, smallest = failure, origin.example
    reached = False

    class Again(Enough):
        pass

    def same(example: Example) -> None:
        nonlocal best, smallest, reached
        reached = reached or example == origin.example
        if not reached or (time.monotonic() > until and example != smallest):
            return
        draw = example.draws[position]
        situation = Situation(example.case(draw, failure.dtype), affine=plan.affine)
        judgement = judge(failure.implementation, situation, plan.checks)
        if not _same(failure, situation, judgement):
            return
        smallest = example
        best = replace(failure, situation=situation, judgement=judgement, numbers=f"regime {draw.regime}")
        raise Again

    # a failure that does not come back every time is flaky to Hypothesis; what was seen is reported all the same
    with contextlib.suppress(Again, Flaky):
        draw_examples(plan, origin.chunk, [Phase.generate, Phase.shrink], same)
    return best
