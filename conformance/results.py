"""What a run found, as records: the machine-readable result, and what every report is made from."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from gradconform.conformance.compare import Comparison
from gradconform.network import Network

Verdict = Literal["passed", "failed", "interrupted", "nothing compared"]
Number = float | str
"""A number as JSON can hold it: what is not finite is spelled out."""

EXIT_CODES: dict[Verdict, int] = {"passed": 0, "failed": 1, "interrupted": 2, "nothing compared": 5}


class Tally(msgspec.Struct):
    """What was compared of one implementation in one dtype."""

    name: str
    version: str | None
    dtype: str
    cases: int = 0
    comparisons: int = 0
    elements: int = 0
    vacuous: int = 0
    """Elements whose bound is at least as large as the value itself."""
    unknown: int = 0
    """Elements without a finite bound: the arithmetic may overflow on the way."""
    at_kinks: int = 0
    """Cases with a pre-activation at a kink, where either one-sided derivative is right."""
    unsupported: int = 0
    worst_ratio: float = 0.0
    """The largest error / bound that was found away from kinks."""
    worst_at: str = ""
    worst_network: str = ""
    checks: dict[str, int] = msgspec.field(default_factory=dict)

    def count(self, comparisons: list[Comparison], network: Network, kinks: int) -> None:
        """Add the comparisons of one case."""
        self.cases += 1
        self.at_kinks += kinks > 0
        for comparison in comparisons:
            self.comparisons += 1
            self.checks[comparison.check] = self.checks.get(comparison.check, 0) + 1
            self.elements += comparison.elements
            self.vacuous += comparison.vacuous
            self.unknown += comparison.unknown
            if not kinks and comparison.ratio > self.worst_ratio:
                self.worst_ratio = comparison.ratio
                self.worst_at = comparison.path
                self.worst_network = str(network)


class Finding(msgspec.Struct, kw_only=True):
    """A failed check with the smallest case on which it fails."""

    id: str
    implementation: str
    check: str
    kind: str
    path: str
    sentence: str
    dtype: str
    network: Network
    notation: str
    rows: int
    numbers: str
    """Where the numbers of the case came from: a regime, or a step of training."""
    index: list[int] = []
    actual: Number | None = None
    expected: Number | None = None
    error: Number | None = None
    bound: Number | None = None
    ratio: Number | None = None
    factor: float | None = None
    """actual / expected, where it is the same in every element."""
    factor_name: str = ""
    failing_cases: int = 1
    wrong: list[str] = []
    right: list[str] = []
    agreeing: list[str] = []
    disagreeing: list[str] = []
    place: str = ""
    """Which pass of which layer the error enters in, where that can be told."""
    detail: str = ""
    command: str = ""
    case: dict[str, Any] = {}


class Result(msgspec.Struct, kw_only=True):
    """The result of a run. `print(result)` is its message."""

    schema: int = 1
    verdict: Verdict
    seed: int
    seconds: float
    networks: int
    structures: int
    implementations: list[Tally]
    findings: list[Finding]
    regimes: dict[str, int] = {}
    notes: list[str] = []

    @property
    def passed(self) -> bool:
        """Whether something was compared and everything agreed."""
        return self.verdict == "passed"

    @property
    def comparisons(self) -> int:
        """The number of arrays that were compared."""
        return sum(tally.comparisons for tally in self.implementations)

    @property
    def exit_code(self) -> int:
        """The exit code of the command line: pytest's."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> bytes:
        """Return the result as JSON."""
        return msgspec.json.format(msgspec.json.encode(_spelled_out(msgspec.to_builtins(self))), indent=1)

    def __str__(self) -> str:
        from gradconform.conformance.message import result_text

        return result_text(self)


def spelled(number: float) -> Number:
    """Return a number that JSON can hold."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _spelled_out(value: Any) -> Any:
    """Return nested lists and dictionaries with every number such that JSON can hold it."""
    if isinstance(value, dict):
        return {key: _spelled_out(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_spelled_out(entry) for entry in value]
    return spelled(value) if isinstance(value, float) else value
