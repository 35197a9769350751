"""What a run on an operation found, as records, and its message."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from gradconform.conformance.message import _short, _told_apart
from gradconform.conformance.operation_trial import Failure
from gradconform.conformance.results import EXIT_CODES, Number, Verdict, _spelled_out, spelled
from gradconform.conformance.wrapping import columns, filled, labelled

STATES = ("passed", "failed", "kink", "unsupported")


class CheckTally(msgspec.Struct):
    """How the comparisons of one check ended."""

    passed: int = 0
    failed: int = 0
    kink: int = 0
    """At a kink, or where rounding hides the derivative: every value is left open."""
    unsupported: int = 0

    def count(self, state: str) -> None:
        """Add one."""
        setattr(self, state, getattr(self, state) + 1)


class OperationFinding(msgspec.Struct, kw_only=True):
    """A failed check of an operation."""

    id: str
    operation: str
    check: str
    kind: str
    path: str
    """The input whose gradient it is about, or nothing."""
    sentence: str
    dtype: str
    shapes: str
    numbers: str
    index: list[int] = []
    actual: Number | None = None
    expected: Number | None = None
    error: Number | None = None
    bound: Number | None = None
    ratio: Number | None = None
    basis: str = ""
    rest: str = ""
    likely: str = ""
    detail: str = ""
    also: list[str] = []
    """Other checks that fail, probably for the same reason."""
    wrong: list[str] = []
    right: list[str] = []
    command: str = ""

    def __str__(self) -> str:
        return finding_text(self)


class OperationResult(msgspec.Struct, kw_only=True):
    """The result of checking an operation alone. `print(result)` is its message."""

    schema: int = 1
    verdict: Verdict
    operation: str
    kind: str
    framework: str
    dtypes: list[str]
    seed: int
    seconds: float
    examples: int
    shapes: list[str]
    checks: dict[str, CheckTally]
    findings: list[OperationFinding]
    unsupported: dict[str, str] = {}
    """Why, by check."""
    notes: list[str] = []

    @property
    def passed(self) -> bool:
        """Whether something was compared and everything agreed."""
        return self.verdict == "passed"

    @property
    def comparisons(self) -> int:
        """The number of comparisons that could tell right from wrong."""
        return sum(tally.passed + tally.failed for tally in self.checks.values())

    @property
    def exit_code(self) -> int:
        """The exit code of the command line: pytest's."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> bytes:
        """Return the result as JSON."""
        return msgspec.json.format(msgspec.json.encode(_spelled_out(msgspec.to_builtins(self))), indent=1)

    def __str__(self) -> str:
        return result_text(self)


def finding_of(
    failure: Failure, *, operation: str, path: str, dtype: str, shapes: str, numbers: str, cause: str
) -> OperationFinding:
    """Return a failure as a finding."""
    digest = hashlib.sha256("\n".join([operation, failure.check, failure.kind.name, path, dtype]).encode())
    finding = OperationFinding(
        id=digest.hexdigest()[:8],
        operation=operation,
        check=failure.check,
        kind=failure.kind.name,
        path=path,
        sentence=failure.sentence,
        dtype=dtype,
        shapes=shapes,
        numbers=numbers,
        basis=failure.basis,
        rest=failure.rest,
        likely=cause,
        detail=failure.detail,
    )
    if (element := failure.element) is not None:
        finding.index = list(element.index)
        finding.actual, finding.expected = spelled(element.actual), spelled(element.expected)
        finding.error, finding.bound = spelled(element.error), spelled(element.bound)
        finding.ratio = spelled(element.ratio)
    return finding


def finding_text(finding: OperationFinding) -> str:
    """Return the message of a finding: the first line alone tells who, where and how much."""
    first, *rest = filled(f"FAILED  {finding.operation}   {finding.sentence}", width=100)
    lines = [first, *filled(" ".join(map(str.strip, rest)), "  ")]

    def say(label: str, text: str) -> None:
        if text:
            lines.extend(labelled(label, text))

    say("case", f"inputs {finding.shapes}, {finding.dtype}, numbers {finding.numbers}")
    if finding.actual is not None:
        yours, expected = _told_apart(finding.actual, finding.expected)
        place = f"[{', '.join(map(str, finding.index))}]" if finding.index else ""
        say("worst element", f"{finding.path or 'output'}{place}     yours {yours}     expected {expected}")
        say("error / bound", f"{_short(finding.error)} / {_short(finding.bound)}")
    say("expected is", finding.basis)
    say("elsewhere", finding.rest)
    say("detail", finding.detail)
    say("likely", finding.likely)
    say("also wrong", ", ".join(finding.wrong))
    say("right", ", ".join(finding.right))
    say("check", finding.check)
    say("also fails", ", ".join(finding.also))
    if finding.command:
        # not wrapped: a command is copied as one line
        lines.append(f"  {'again':<21}{finding.command}")
    return "\n".join(lines)


def result_text(result: OperationResult) -> str:
    """Return the message of a result: its findings, what was compared, and the verdict."""
    lines = [finding_text(finding) for finding in result.findings]
    lines += filled(f"{result.operation}  {result.kind}, {' and '.join(result.dtypes)}")
    lines += labelled("inputs", "; ".join(result.shapes))
    lines += labelled("compared", _counts(result.checks, "passed", "failed"))
    if kinks := _counts(result.checks, "kink"):
        lines += labelled("at kinks", kinks)
    for check, why in result.unsupported.items():
        lines += labelled("unsupported", f"{check}: {why}")
    lines += [line for note in result.notes for line in labelled("note", note)]
    lines.append(_verdict_text(result))
    return "\n".join(lines)


def _counts(checks: dict[str, CheckTally], *states: str) -> str:
    counted = {name: sum(getattr(tally, state) for state in states) for name, tally in checks.items()}
    return ", ".join(f"{name} {count}" for name, count in counted.items() if count)


def _verdict_text(result: OperationResult) -> str:
    amount = (
        f"{result.examples} examples, {result.comparisons:,} comparisons, seed {result.seed}, {result.seconds:.1f} s"
    )
    count = len(result.findings)
    sentence = {
        "passed": f"PASSED  {result.operation} has the right backward pass",
        "failed": f"FAILED  {count} finding{'s' if count != 1 else ''}",
        "interrupted": "INTERRUPTED  what was compared so far agrees",
        "nothing compared": f"NOTHING COMPARED  no gradient of {result.operation} could be told from rounding",
    }[result.verdict]
    return "\n".join(filled(f"{sentence}: {amount}", width=columns()))


def merged(findings: Sequence[OperationFinding]) -> list[OperationFinding]:
    """Return the findings, those that differ by the input alone as one."""
    kept: list[OperationFinding] = []
    for finding in findings:
        alike = [
            one
            for one in kept
            if (one.check, one.kind, one.likely, one.dtype)
            == (finding.check, finding.kind, finding.likely, finding.dtype)
        ]
        if not finding.path and any(one.check == finding.check for one in kept):
            continue
        if alike and finding.path:
            alike[0].wrong.append(finding.path)
            alike[0].also = list(dict.fromkeys([*alike[0].also, *finding.also]))
        else:
            kept.append(finding)
    return kept
