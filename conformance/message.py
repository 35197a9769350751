"""The text of findings and results: lines of at most 100 columns that say what to do."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from gradconform.conformance.implementations import REFERENCE
from gradconform.conformance.results import Finding, Number, Result, Tally

WIDEST = 100
LABEL = 21
"""Columns of the labels at the left of a finding."""


def columns() -> int:
    """Return the width of the output: the terminal's, or COLUMNS, at most 100."""
    return max(40, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def finding_text(finding: Finding) -> str:
    """Return the message of a finding: the first line alone tells who, where and how much."""
    # whole on any terminal: it is all that a summary shows
    first, *rest = _filled(f"FAILED  {finding.implementation}   {finding.sentence}", width=WIDEST)
    lines = [first, *_filled(" ".join(map(str.strip, rest)), "  ")]

    def say(label: str, text: str) -> None:
        lines.extend(_labelled(label, text))

    say("smallest network", f"{finding.notation}, batch {finding.rows}, {finding.dtype}, {finding.numbers}")
    if finding.actual is not None:
        place = f"[{', '.join(map(str, finding.index))}]" if finding.index else ""
        yours, expected = _told_apart(finding.actual, finding.expected)
        numbers = f"yours {yours}     expected {expected}"
        say("worst element", f"{finding.path}{place}     {numbers}")
        say("error / bound", f"{_short(finding.error)} / {_short(finding.bound)}")
    if finding.factor is not None:
        name = (
            f" = {finding.factor_name}, in each of {finding.failing_cases} failing cases" if finding.factor_name else ""
        )
        say("yours / expected", f"{finding.factor:.6f}{name}")
    if finding.place:
        say("enters in", finding.place)
    if finding.detail and finding.detail not in finding.sentence:
        say("detail", finding.detail)
    others = [path for path in finding.wrong if path != finding.path]
    if others:
        say("also wrong", ", ".join(others))
    if finding.right:
        say("right", ", ".join(finding.right))
    if finding.agreeing or finding.disagreeing:
        say("votes", _votes(finding))
    say("check", finding.check)
    if finding.command:
        # not wrapped: a command is copied as one line
        lines.append(f"  {'again':<{LABEL - 2}}{finding.command}")
    return "\n".join(lines)


def result_text(result: Result) -> str:
    """Return the message of a result: its findings, what was compared of whom, and the verdict."""
    parts = [finding_text(finding) for finding in result.findings]
    parts += [tally_text(tally) for tally in result.implementations]
    parts += [textwrap.fill(f"note: {note}", columns(), subsequent_indent="  ") for note in result.notes]
    parts.append(verdict_text(result))
    return "\n".join(parts)


def tally_text(tally: Tally) -> str:
    """Return what was compared of one implementation in one dtype, and where it came closest to its bound."""
    title = f"{tally.name} {tally.version}" if tally.version else tally.name
    counts = f"{tally.cases:,} networks, {tally.comparisons:,} comparisons of {tally.elements:,} elements"
    text = [*_filled(f"{title}  {tally.dtype}"), *_filled(counts, "  ")]
    if tally.worst_at:
        worst = f"worst error/bound {tally.worst_ratio:.2g} at {tally.worst_at} of {tally.worst_network}"
        text += textwrap.wrap(worst, columns(), initial_indent="  ", subsequent_indent="    ")
    details = [
        (tally.vacuous, "elements are too small to tell from rounding"),
        (tally.unknown, "elements may overflow or divide by 0 on the way: not compared"),
        (tally.at_kinks, "networks at a kink: either one-sided derivative is right"),
        (tally.unsupported, "networks are not supported: not compared"),
    ]
    said = "; ".join(f"{count:,} {what}" for count, what in details if count)
    if said:
        text += textwrap.wrap(said, columns(), initial_indent="  ", subsequent_indent="    ")
    return "\n".join(text)


def verdict_text(result: Result) -> str:
    """Return the last line: the verdict, how much it rests on, and the seed."""
    names = list(dict.fromkeys(tally.name for tally in result.implementations))
    amount = (
        f"{result.networks:,} networks, {result.comparisons:,} comparisons, seed {result.seed}, {result.seconds:.1f} s"
    )
    verb = "agrees" if len(names) == 1 else "agree"
    sentence = {
        "passed": f"PASSED  {_and(names)} {verb} {'within rounding' if REFERENCE in names else 'with the reference'}",
        "failed": f"FAILED  {len(result.findings)} finding{'s' if len(result.findings) != 1 else ''}",
        "interrupted": "INTERRUPTED  what was compared so far agrees",
        "nothing compared": "NOTHING COMPARED  no implementation gave anything to compare",
    }[result.verdict]
    return textwrap.fill(f"{sentence}: {amount}", columns(), subsequent_indent="  ")


def _filled(text: str, indent: str = "", width: int | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        width or columns(),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _labelled(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        columns(),
        initial_indent=f"  {label:<{LABEL - 2}}",
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _votes(finding: Finding) -> str:
    said = []
    if finding.agreeing:
        verb = "sides" if len(finding.agreeing) == 1 else "side"
        said.append(f"{_and(finding.agreeing)} {verb} with the reference")
    if finding.disagreeing:
        verb = "disagrees" if len(finding.disagreeing) == 1 else "disagree"
        said.append(f"{_and(finding.disagreeing)} {verb} with it too")
    return "; ".join(said)


def _and(names: Iterable[str]) -> str:
    *rest, last = list(names) or ["nothing"]
    return f"{', '.join(rest)} and {last}" if rest else last


def _told_apart(one: Number | None, other: Number | None) -> tuple[str, str]:
    """Return two numbers with as many digits as it takes to see that they differ."""
    if not isinstance(one, float) or not isinstance(other, float):
        return _number(one), _number(other)
    digits = next((digits for digits in (6, 9, 12) if f"{one:.{digits}e}" != f"{other:.{digits}e}"), 16)
    return f"{one:.{digits}e}", f"{other:.{digits}e}"


def _number(number: Number | None) -> str:
    return f"{number:.6e}" if isinstance(number, float) else str(number)


def _short(number: Number | None) -> str:
    return f"{number:.1e}" if isinstance(number, float) else str(number)
