"""The tables of a result: what was compared by which check, how close each layer came, what was met, what rang."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradconform.conformance.agreement import AGREEMENTS
from gradconform.conformance.canaries import CALL
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.coverage import AXES, PAIRS, PLURALS, Axis, Covered
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.margins import Subject
from gradconform.conformance.report_words import decades, level, name
from gradconform.conformance.results import Canaries, Result, Tally
from gradconform.notation import LAYERS, LOSSES

MOST_TALLIES = 24
"""Implementations in their dtypes that are shown; the others are counted."""
MOST_PAIRED = 6
"""Tables of pairs that are shown."""
QUANTITIES = ("output", "delta", "weight", "bias")


class Compared(NamedTuple):
    """What one check compared of one implementation in one dtype, and the findings that it made."""

    arrays: int
    findings: int


def matrix(result: Result) -> Iterator[tuple[str, str, list[Compared]]]:
    """Yield checks with what each is, and what it came to by implementation and dtype. The call itself is the last."""
    found = result.found
    tallies = result.implementations[:MOST_TALLIES]
    checks = {check.id: check.sentence for check in CHECKS.values()} | {CALL: "The call itself ends well."}
    for check, sentence in checks.items():
        row = [Compared(tally.checks.get(check, 0), found[tally.name, tally.dtype, check]) for tally in tallies]
        if any(cell.arrays or cell.findings for cell in row):
            yield check, sentence, row


class Heat(NamedTuple):
    """A cell of a heat map: log10 of the worst error / bound, the class of its colour, and how many arrays it is of."""

    text: str
    level: str
    arrays: int


def heat_map(tally: Tally) -> list[tuple[str, list[Heat | None]]]:
    """Return the rows of what was met, layers, losses and the input, each with one cell for each of `QUANTITIES`."""
    subjects = tally.margins.subjects
    names = [
        ("input", ["", "input", "", ""]),
        *((kind, [f"outputs {kind}", f"deltas {kind}", f"{kind}.weight", f"{kind}.bias"]) for kind in LAYERS),
        *((kind, [f"loss {kind}", f"output-delta {kind}", "", ""]) for kind in LOSSES),
    ]
    rows = [(kind, [_heat(subjects.get(subject)) for subject in row]) for kind, row in names]
    return [(kind, cells) for kind, cells in rows if any(cells)]


def relations(tallies: Sequence[Tally]) -> list[tuple[str, list[Heat | None]]]:
    """Return the same of what is held against the implementation itself: a cell for each tally."""
    rows = [
        (check, [_heat(tally.margins.subjects.get(check)) for tally in tallies])
        for check in CHECKS
        if check not in AGREEMENTS
    ]
    return [(check, cells) for check, cells in rows if any(cells)]


def _heat(subject: Subject | None) -> Heat | None:
    return None if subject is None else Heat(decades(subject.worst), level(subject.worst), subject.arrays)


class Grid(NamedTuple):
    """Cases in which values were met: a row for each `what`, and columns in groups. None: not to be met there."""

    what: str
    groups: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[int | None]]]


class Pairs(NamedTuple):
    """The pairs of values that implementations met, all of them the same."""

    names: list[str]
    grids: list[Grid]


def met(coverage: Sequence[Covered]) -> Iterator[Grid]:
    """Yield what each implementation met: the regimes, and all else."""
    for axes in (AXES[:1], AXES[1:]):
        known = {
            axis: list(dict.fromkeys(value for entry in coverage for value in entry.values.get(axis, {})))
            for axis in axes
        }
        rows = [
            (
                name(entry.implementation),
                [entry.values.get(axis, {}).get(value) for axis in axes for value in known[axis]],
            )
            for entry in coverage
        ]
        if any(known.values()):
            yield Grid("implementation", [(PLURALS[axis], values) for axis, values in known.items() if values], rows)


def met_pairs(coverage: Sequence[Covered]) -> list[Pairs]:
    """Return the pairs that were met, of implementations that met the same ones together."""
    groups: list[Pairs] = []
    for entry in coverage:
        grids = [pairs for axis in AXES if (pairs := _pairs(entry, axis)) is not None]
        same = next((group for group in groups if group.grids == grids), None)
        if same is not None:
            same.names.append(entry.implementation)
        elif grids:
            groups.append(Pairs([entry.implementation], grids))
    return groups[:MOST_PAIRED]


def _pairs(entry: Covered, axis: Axis) -> Grid | None:
    tables = {
        other: entry.pairs[f"{one} x {other}"]
        for one, other in PAIRS
        if one == axis and f"{one} x {other}" in entry.pairs
    }
    columns = {
        other: list(dict.fromkeys(value for row in table.values() for value in row)) for other, table in tables.items()
    }
    first = list(dict.fromkeys(value for table in tables.values() for value in table))
    if not first:
        return None
    rows = [
        (value, [tables[other].get(value, {}).get(column) for other, values in columns.items() for column in values])
        for value in first
    ]
    return Grid(axis, [(PLURALS[other], values) for other, values in columns.items()], rows)


def alarms(canaries: Canaries) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
    """Return the checks on which planted faults were tried, and for each fault its sentence and a word for each check.

    The word is found or missed, and empty where the fault is not the check's to find.
    """
    words = {**dict.fromkeys(canaries.found, "found"), **dict.fromkeys(canaries.missed, "missed")}
    told = {tuple(entry.rpartition(": ")[::2]): word for entry, word in words.items()}
    checks = [check for check in (*CHECKS, CALL) if any(asked == check for _, asked in told)]
    return checks, [
        (fault, FAULTS[fault].sentence if fault in FAULTS else "", [told.get((fault, check), "") for check in checks])
        for fault in dict.fromkeys(canaries.planted)
    ]
