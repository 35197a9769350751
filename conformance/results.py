"""What a run found, as records: the machine-readable result, and what every report is made from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from gradconform.conformance.compare import Kind, Look, Outcomes
from gradconform.conformance.coverage import Covered
from gradconform.conformance.margins import Margins
from gradconform.conformance.notices import Noticed
from gradconform.conformance.parts import Part
from gradconform.conformance.sharpness import Sharpness
from gradconform.conformance.summary import Summary
from gradconform.conformance.sums import added
from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput, one_line
from gradconform.network import Network

Verdict = Literal["passed", "failed", "interrupted", "nothing compared", "not covered", "broken"]
Number = float | str
"""A number as JSON can hold it: what is not finite is spelled out."""

EXIT_CODES: dict[Verdict, int] = {
    "passed": 0,
    "failed": 1,
    "interrupted": 2,
    "broken": 3,
    "nothing compared": 5,
    "not covered": 5,
}


class Tally(msgspec.Struct):
    """What was compared of one implementation in one dtype."""

    name: str
    version: str | None
    dtype: str
    cases: int = 0
    comparisons: int = 0
    outcomes: dict[Look, Outcomes] = msgspec.field(default_factory=dict)
    """How the compared elements ended, in the global look, from the inputs on, and in the local one, step by step."""
    lost: int = 0
    """Elements that are not finite where the exact value is: the arithmetic may overflow on the way."""
    at_kinks: int = 0
    """Cases with a pre-activation at a kink, where either one-sided derivative is right."""
    kinks: dict[str, float] = msgspec.field(default_factory=dict)
    """The share of the right-sided derivative that is taken at exactly 0, by layer, where it was found out."""
    sharpness: dict[Look, Sharpness] = msgspec.field(default_factory=dict)
    unsupported: int = 0
    worst_ratio: float = 0.0
    """The largest error / bound that was found away from kinks."""
    worst_at: str = ""
    worst_network: str = ""
    checks: dict[str, int] = msgspec.field(default_factory=dict)
    margins: Margins = msgspec.field(default_factory=Margins)
    """How error / bound is spread, over all arrays and by what they are."""

    def count(self, summaries: Sequence[Summary], network: Network, kinks: Sequence[int]) -> None:
        """Add the comparisons of cases of one network; `kinks`: how many pre-activations of each lie at one."""
        self.cases += len(summaries)
        self.at_kinks += sum(count > 0 for count in kinks)
        for arrays, cases in Counter(summary.arrays for summary in summaries).items():
            self.comparisons += cases * len(arrays)
            self.checks = added(self.checks, {check: cases * count for check, count in arrays.checks.items()})
        self.lost += sum(summary.lost for summary in summaries)
        for look in dict.fromkeys(look for summary in summaries for look in summary.outcomes):
            own = [summary.outcomes[look] for summary in summaries if look in summary.outcomes]
            self.outcomes = added(self.outcomes, {look: Outcomes.total(own)})
        self.margins.count(summaries, network)
        away = [summary.worst for summary, count in zip(summaries, kinks, strict=True) if not count]
        largest = max((ratio for ratio, _ in away), default=0.0)
        if largest and largest >= self.worst_ratio:
            self.meet(largest, min(at for ratio, at in away if ratio == largest), str(network))

    def meet(self, ratio: float, at: str, network: str) -> None:
        """Keep the larger ratio, and of equal ones the first in the alphabet: whatever order they come in."""
        worst = (-self.worst_ratio, self.worst_network, self.worst_at)
        if at and (not self.worst_at or (-ratio, network, at) < worst):
            self.worst_ratio, self.worst_network, self.worst_at = ratio, network, at

    def learn(self, kinks: Mapping[str, float]) -> None:
        """Add what was found out of kinks; where that differs from what is known, the smaller share is kept."""
        self.kinks = {
            layer: min(share for known in (self.kinks, kinks) if (share := known.get(layer)) is not None)
            for layer in sorted({*self.kinks, *kinks})
        }

    @property
    def vacuity(self) -> str | None:
        """What to know where most of the comparisons could not have told anything."""
        if 2 * self.telling >= self.elements:
            return None
        share = 1 - self.telling / self.elements
        advice = (
            "" if "local" in self.outcomes else "; outputs and deltas, where they are returned, are looked at closer"
        )
        return (
            f"{self.name} {self.dtype}: {share:.0%} of the elements could not tell a wrong value from rounding{advice}"
        )

    def certify(self, rungs: Mapping[Look, int | None]) -> None:
        """Add how small an error would have been found in a case in which everything agrees."""
        for look, rung in rungs.items():
            self.sharpness.setdefault(look, Sharpness()).count(rung)

    @property
    def elements(self) -> int:
        """All elements that were compared, in either look."""
        return sum(outcomes.elements for outcomes in self.outcomes.values())

    @property
    def telling(self) -> int:
        """The elements that could have told a wrong value from rounding."""
        return sum(outcomes.telling for outcomes in self.outcomes.values())


class Met(msgspec.Struct):
    """How many cases met a condition, and how many arrays were compared in them, in each look."""

    cases: int = 0
    comparisons: dict[Look, int] = msgspec.field(default_factory=dict)


class Step(msgspec.Struct, omit_defaults=True):
    """One array of a failing case, and how it compares. `expected`, `actual`: the largest magnitude in it."""

    path: str
    check: str
    expected: Number | None
    actual: Number | None = None
    """None: it was not returned."""
    ratio: Number | None = None
    """The largest error / bound in it, in that look; None: it was not compared."""
    passed: bool = True
    look: Look = "global"


class Finding(msgspec.Struct, kw_only=True):
    """A failed check with the smallest case on which it fails."""

    id: str
    implementation: str
    check: str
    kind: str
    path: str
    key: str = ""
    """What names this failure, and failures like it, among those that are expected."""
    keys: list[str] = []
    """What its failures are recognised by: by these, the findings of the parts of a run are joined."""
    failing: list[str] = []
    """The same of everything that fails in its case."""
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
    symptom: str = ""
    """The mistake that explains all of it, by its id; of several at once the ids with ` + ` between; empty: unknown."""
    likely: str = ""
    """The same as a sentence that says what to do."""
    mend: str = ""
    """The line that is probably wrong, and what belongs there."""
    evidence: str = ""
    """On what the diagnosis rests."""
    facts: list[str] = []
    """What is known of the pattern of the error, whatever its cause."""
    only_where: list[str] = []
    """In which cases alone it fails, as far as that is sure."""
    does_not_matter: list[str] = []
    """What makes no difference to it."""
    also: list[str] = []
    """Where else the same mistake shows: other layers, losses or parameters."""
    detail: str = ""
    look: Look = "global"
    command: str = ""
    """What runs all of it once more."""
    replay: str = ""
    """What judges this case alone again, where it is kept in `file`."""
    file: str = ""
    steps: list[Step] = []
    """What was computed on the way through the case, from the first output to the last gradient."""
    case: dict[str, Any] = {}


class Canaries(msgspec.Struct):
    """The planted faults on which the checks of a run were proved: which were run, and what should have found them."""

    planted: list[str]
    missed: list[str] = []
    """Those that were not found, each with the check that did not find it, as in `nan: parameters`."""
    found: list[str] = []
    """Those that were found, each with the check that found it."""


class Pinned(msgspec.Struct, kw_only=True):
    """How many pinned cases were replayed before a run, and what came of them."""

    cases: int
    failing: int = 0
    unsupported: int = 0


class Held(msgspec.Struct, kw_only=True):
    """What a run compared beside what a manifest pins, a sentence each. `others`: why it is not held to all of it."""

    file: str
    fewer: list[str] = []
    more: list[str] = []
    others: str = ""


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
    regimes: dict[str, Met] = {}
    """How often each regime, and each condition of a case, was met."""
    coverage: list[Covered] = []
    """In what something could be told of each implementation."""
    canaries: Canaries | None = None
    """On which planted faults the checks themselves were proved; None where the run says nothing that needs a proof."""
    notes: list[str] = []
    pinned: Pinned | None = None
    manifest: Held | None = None
    """The manifest that the run was held against."""
    noticed: dict[str, Noticed] = {}
    """What was noticed of implementations beside their gradients, which `notes` tell."""
    changed: list[str] = []
    """What belongs to the whole process and was changed during the run."""
    interrupted: bool = False
    """Whether the user ended the run before it had all that it was to draw."""
    part: Part | None = None
    """Where it is a part of a run: which one."""
    command: str = ""
    """What runs it once more."""
    versions: dict[str, str] = {}
    """The versions of what was there."""

    @property
    def passed(self) -> bool:
        """Whether something was compared and everything agreed."""
        return self.verdict == "passed"

    @property
    def comparisons(self) -> int:
        """The number of arrays that were compared."""
        return sum(tally.comparisons for tally in self.implementations)

    @property
    def found(self) -> Counter[tuple[str, str, str]]:
        """How many findings there are, by implementation, dtype and check."""
        return Counter((finding.implementation, finding.dtype, finding.check) for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """The exit code of the command line: pytest's."""
        return EXIT_CODES[self.verdict]

    def to_json(self, indent: int = 1) -> bytes:
        """Return the result as JSON, which `from_json` reads back; an `indent` of -1 gives one line."""
        return msgspec.json.format(msgspec.json.encode(self.to_builtins()), indent=indent)

    def to_builtins(self) -> dict[str, Any]:
        """Return what stands in the JSON: numbers as it can hold them, texts as one printable line that has an end."""
        built: dict[str, Any] = _spelled_out(msgspec.to_builtins(self))
        return built

    @classmethod
    def from_json(cls, content: bytes) -> Result:
        """Return the result that `to_json` wrote; raises `InvalidInput`, one line, for what is none."""
        try:
            result = msgspec.convert(_read_out(msgspec.json.decode(content)), cls, str_keys=True)
            for finding in result.findings:
                if finding.kind not in Kind.__members__:
                    raise ValueError(f"kind {finding.kind!r} is unknown")
        except (msgspec.DecodeError, LookupError, ValueError, TypeError, RecursionError) as error:
            raise InvalidInput(f"not a result of gradconform: {one_line(str(error))}") from None
        return result

    def __str__(self) -> str:
        from gradconform.conformance.message import result_text

        return result_text(self)


def spelled(number: float) -> Number:
    """Return a number that JSON can hold."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _read_out(value: Any) -> Any:
    """Return the same with the ratios as the numbers that they were."""
    tallies = value.get("implementations") if isinstance(value, dict) else None
    if not isinstance(tallies, list):
        raise ValueError("it has no implementations")
    for tally in tallies:
        tally["worst_ratio"] = float(tally["worst_ratio"])
        for subject in tally.get("margins", {}).get("subjects", {}).values():
            subject["worst"] = float(subject.get("worst", 0))
    return value


def _spelled_out(value: Any) -> Any:
    """Return nested lists and dictionaries with every number and every text such that JSON can hold it."""
    if isinstance(value, dict):
        return {shown(key) if isinstance(key, str) else key: _spelled_out(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_spelled_out(entry) for entry in value]
    if isinstance(value, str):
        return shown(value)
    return spelled(value) if isinstance(value, float) else value
