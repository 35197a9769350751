"""Canaries: a few planted faults on which the checks of a run are proved, so that silence means something.

They are run after the candidates, in the same process: what a candidate does to NumPy, or a release of NumPy to the
checks, shows here as well. A fault that its check does not find means that the harness is broken, and its verdict
worth nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from gradconform.case import Case
from gradconform.conformance.checks import Check
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.judge import judge
from gradconform.conformance.results import Canaries, Result
from gradconform.conformance.situation import CallFailed, Situation, Subject
from gradconform.notation import parse

CALL = "call"
"""What no check finds: the call itself fails, in every run."""


@dataclass(frozen=True)
class Canary:
    """A planted fault on one fixed case, and the checks each of which finds it there."""

    fault: str
    network: str
    rows: int
    by: tuple[str, ...]

    def missed(self, checks: Sequence[Check]) -> list[str]:
        """Return which of these checks, of those that are to find it, do not."""
        if CALL in self.by:
            return [] if self._call_fails() else [CALL]
        asked = self.among(checks)
        judgement = judge(FAULTS[self.fault].implementation(), Situation(_case(self.network, self.rows)), asked)
        found = {comparison.check for comparison in judgement.failures}
        return [check.id for check in asked if check.id not in found]

    def among(self, checks: Sequence[Check]) -> list[Check]:
        """Return the checks that are to find it."""
        return [check for check in checks if check.id in self.by]

    def asks(self, checks: Sequence[Check]) -> list[str]:
        """Return what is to find it, of these checks and the call itself."""
        return [CALL] if CALL in self.by else [check.id for check in self.among(checks)]

    def _call_fails(self) -> bool:
        """Return whether calls with one case and then with another fail."""
        implementation = FAULTS[self.fault].implementation()
        try:
            for seed in (1, 2):
                Subject(implementation, Situation(_case(self.network, self.rows, seed))).actual()
        except CallFailed:
            return True
        return False


SQUARE = "2 -> Dense(2) -> Tanh -> Dense(2), SoftmaxCrossEntropy"
NARROW = "3 -> Dense(2) -> Tanh -> Dense(3), MeanSquaredError"

CANARIES = (
    Canary("bias-mean", NARROW, 3, ("parameters", "sum-of-samples")),
    Canary("forward-transposed", SQUARE, 2, ("outputs", "loss")),
    Canary("weight-not-transposed", SQUARE, 2, ("deltas", "input")),
    Canary("one-hot-missing", SQUARE, 2, ("output-delta", "delta-rows")),
    Canary("last-unit-dropped", SQUARE, 2, ("class-permutation",)),
    Canary("last-sample-dropped", NARROW, 3, ("batch-permutation",)),
    Canary("last-sample-dropped", NARROW, 1, ("sample-twice",)),
    Canary("upstream-ignored", "2 -> Dense(2), MeanSquaredError(reduction=none)", 2, ("cotangent-linearity",)),
    Canary("second-call-accumulates", NARROW, 2, ("repeatable",)),
    Canary("stale-activations", NARROW, 2, ("stateless",)),
    Canary("aliased-result", NARROW, 2, (CALL,)),
    Canary("nan", NARROW, 2, ("parameters",)),
    Canary("one-element", NARROW, 3, ("parameters",)),
)
"""Of every kind: a factor, a transposition, a sign, state, memory, what is not finite, one element off by 1e-9."""


@cache
def _case(network: str, rows: int, seed: int = 1) -> Case:
    draw = Draw("ordinary", seed)
    return Example(parse(network), rows, (draw,)).case(draw, "float64")


def proved(result: Result, checks: Sequence[Check]) -> Result:
    """Return a result with the proof of the checks that it comes from: it is void where they miss a planted fault.

    One that says nothing, because there was nothing to compare or the user ended it, is left as it is.
    """
    if not result.comparisons or result.verdict == "interrupted":
        return result
    flown = [canary for canary in CANARIES if canary.asks(checks)]
    missed = [(canary, check) for canary in flown for check in canary.missed(checks)]
    asked = [(canary, check) for canary in flown for check in canary.asks(checks)]
    result.canaries = Canaries(
        [canary.fault for canary in flown],
        [f"{canary.fault}: {check}" for canary, check in missed],
        [f"{canary.fault}: {check}" for canary, check in asked if (canary, check) not in missed],
    )
    if missed:
        result.verdict = "broken"
        result.notes += _told(missed)
    return result


def _told(missed: Sequence[tuple[Canary, str]]) -> Iterator[str]:
    """Yield which fault was not found by what, and what to do."""
    for canary, check in missed:
        what = "the call itself does not show it" if check == CALL else f"the check {check} does not find it"
        yield f"planted fault {canary.fault} ({FAULTS[canary.fault].sentence}): {what}"
    yield (
        "the harness is broken, or what was checked broke it: run gradconform check reference; where that ends the "
        "same, report it, with what gradconform doctor says"
    )
