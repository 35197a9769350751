"""The kill matrix as a text of at most 100 columns, and as Markdown."""

from __future__ import annotations

import string
from collections.abc import Iterable

from gradconform.conformance.killing import COLUMNS, Kill, Killing
from gradconform.conformance.wrapping import columns, filled, labelled

LETTERS = dict(zip(COLUMNS, string.ascii_lowercase, strict=False))
"""One column a check."""
SLOWEST = 3
HEADINGS = ("fault", "fired", "found first as", "detected", "found", "named")


def killing_text(killing: Killing) -> str:
    """Return the matrix, one line a fault, and what it adds up to."""
    width = max([len(kill.fault) for kill in killing.kills], default=0)
    legend = ", ".join(f"{letter} {check}" for check, letter in LETTERS.items())
    lines = [*filled(f"checks  {legend}"), ""]
    fired, first, detected, found, named = HEADINGS[1:]
    rows = [(HEADINGS[0], f"{fired:<{len(COLUMNS)}} {first:<27} {detected:>8} {found:>6} {named}")]
    for kill in killing.kills:
        times = f"{seconds_text(kill.detected):>8} {seconds_text(kill.found):>6}"
        rows.append((kill.fault, f"{_marks(kill)} {first_as(kill):<27} {times} {kill.named}"))
    fits = width + 1 + max(len(text) for _, text in rows) <= columns()
    for name, text in rows:
        # a name is never cut: where the output is narrow it has a line of its own
        lines += [f"{name:<{width}} {text}".rstrip()] if fits else [name, f"  {text}".rstrip()]
    return "\n".join([*lines, "", totals_text(killing)])


def totals_text(killing: Killing) -> str:
    """Return how many faults were caught, named and misnamed, what was said of correct code, and how long it took."""
    lines: list[str] = []
    for label, text in totals(killing):
        lines += labelled(label, text)
    word, sentence = verdict_words(killing)
    return "\n".join([*lines, *filled(f"{word}  {sentence}, {killing.seconds:.1f} s")])


def verdict_words(killing: Killing) -> tuple[str, str]:
    """Return the word of the verdict, and the sentence behind it."""
    plural = "" if len(killing.kills) == 1 else "s"
    what = f"{len(killing.kills)} fault{plural}, {killing.max_examples} networks each, seed {killing.seed}"
    return "FAILED" if killing.exit_code else "PASSED", what


def killing_markdown(killing: Killing) -> str:
    """Return the same as a table of Markdown, with what each fault is."""
    legend = ", ".join(f"`{letter}` {check}" for check, letter in LETTERS.items())
    rows = [("fault", "what is wrong", "fired", "found first as", "named")]
    rows += [
        (kill.fault, kill.sentence.replace("|", "\\|"), f"`{_marks(kill)}`", first_as(kill), kill.named)
        for kill in killing.kills
    ]
    table = [_row(rows[0]), _row("---" for _ in rows[0]), *map(_row, rows[1:])]
    sums = [f"- {label}: {text}" for label, text in totals(killing)]
    return "\n".join([f"Checks: {legend}.", "", *table, "", *sums])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def totals(killing: Killing) -> list[tuple[str, str]]:
    """Return the same as labels and texts."""
    kills = killing.kills
    caught = [kill for kill in kills if kill.caught]
    nameable = [kill for kill in kills if not kill.held_out]
    held_out = [kill for kill in kills if kill.held_out]
    right = sum(kill.named == "right" for kill in nameable)
    survivors = f"; not caught: {', '.join(kill.fault for kill in killing.survivors)}" if killing.survivors else ""
    told = [("caught", f"{len(caught)} of {len(kills)}{survivors}")]
    if nameable:
        told.append(("named rightly", f"{right} of {len(nameable)} ({right / len(nameable):.0%})"))
    if held_out:
        unknown = sum(kill.named == "unknown" for kill in held_out)
        told.append(("held out", f"{unknown} of {len(held_out)} are called unknown, which they are"))
    wrong = ", ".join(f"{kill.fault} called {kill.finding.symptom}" for kill in killing.misnamed if kill.finding)
    told.append(("wrong names", f"{len(killing.misnamed)}{f': {wrong}' if wrong else ''}"))
    if killing.correct:
        whom = ", ".join(f"{entry.name} ({entry.networks} networks)" for entry in killing.correct)
        alarms = f": {'; '.join(killing.alarms)}" if killing.alarms else ""
        told.append(("false alarms", f"{len(killing.alarms)} in {whom}{alarms}"))
    if caught:
        slowest = sorted(caught, key=lambda kill: -(kill.found or 0))[:SLOWEST]
        said = ", ".join(f"{kill.fault} {seconds_text(kill.found)} s" for kill in slowest)
        detected = killing.median(lambda kill: kill.detected)
        found = killing.median(lambda kill: kill.found)
        told.append(("median time", f"{detected:.2f} s to detect, {found:.2f} s to the finding; slowest {said}"))
    return told


def _marks(kill: Kill) -> str:
    return "".join(letter if check in kill.checks else "." for check, letter in LETTERS.items())


def first_as(kill: Kill) -> str:
    """Return as what a fault was found first."""
    return "" if kill.finding is None else f"{kill.finding.check} {kill.finding.kind}"


def seconds_text(seconds: float | None) -> str:
    """Return a time in seconds; nothing where there is none."""
    return "" if seconds is None else f"{seconds:.2f}"
