"""The text of findings and results: lines of at most 100 columns that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gradconform.conformance.compare import LOOKS, Kind, Look
from gradconform.conformance.coverage import AXES, PAIRS, PLURALS, Cell, Covered
from gradconform.conformance.diagnosis import AND, OR
from gradconform.conformance.findings import ANYWHERE
from gradconform.conformance.implementations import REFERENCE
from gradconform.conformance.judge import UNSTEADY
from gradconform.conformance.results import Finding, Number, Pinned, Result, Tally, Verdict
from gradconform.conformance.sharpness import QUANTILES, Sharpness
from gradconform.conformance.untrusted import named, shown
from gradconform.conformance.wrapping import LABEL, WIDEST, filled, labelled

FEW = 5
"""More names than this are counted and not told."""
COMMANDS = AGAIN, WHY = "again", "why"
"""The labels of the commands that show a finding once more, and that explain it: each is copied as one line."""
SENTENCE = 600
"""Characters of what a finding says in its first line, and of its symptom there."""
VOTED = {"WRONG", "NONFINITE"}
"""Kinds on which others have something to say."""


def finding_text(finding: Finding) -> str:
    """Return the message of a finding: the first line alone tells who, where, how much and, if it is known, why."""
    # whole on any terminal: it is all that a summary shows
    first, *rest = filled(f"FAILED  {headline(finding)}", width=WIDEST)
    lines = [first, *filled(" ".join(map(str.strip, rest)), "  ")]
    for label, text in finding_rows(finding):
        lines.extend(labelled(label, text) if label not in COMMANDS else [f"  {label:<{LABEL - 2}}{shown(text)}"])
    return "\n".join(lines)


def headline(finding: Finding) -> str:
    """Return who is wrong, where, by how much and, if it is known, why: all that a list of findings shows."""
    return f"{named(finding.implementation)}   {what_failed(finding)}"


def what_failed(finding: Finding) -> str:
    """Return the same without who it is."""
    why = f"; likely {shown(finding.symptom, SENTENCE)}" if finding.symptom else ""
    return f"{shown(finding.sentence, SENTENCE)}{why}"


def finding_rows(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield what else the message of a finding says, as labels and texts: what to do comes first."""
    yield from (*_cause(finding), *_numbers(finding), *_surroundings(finding))
    if again := finding.replay or finding.command:
        yield AGAIN, again
    for symptom in symptoms_of(finding.symptom):
        yield WHY, f"gradconform explain {symptom}"


def symptoms_of(symptom: str) -> list[str]:
    """Return the ids of the mistakes that a symptom names: several at once, or several that give the same."""
    return [word for word in re.split(r" \+ | or ", symptom) if word]


def _cause(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield what is probably wrong, the line that belongs there and the one that stands there."""
    if finding.likely:
        yield "likely", finding.likely
    for mend in filter(None, finding.mend.split(OR)):
        several = mend.split(AND)
        for number, one in enumerate(several, 1):
            place = f" ({number})" if len(several) > 1 else ""
            line, separator, wrong = one.partition(", not ")
            yield f"write{place}", line
            if separator:
                yield f"not{place}", wrong
    if finding.place and not (finding.symptom and finding.place.startswith(ANYWHERE)):
        yield "enters in", finding.place


def _numbers(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield the smallest case, its worst element, and by what factor it is off."""
    if finding.factor is not None and finding.factor_name:
        # of what shows in other places too, the factor is known in this one
        cases = "" if finding.also else f", in each of {finding.failing_cases} failing cases"
        yield "yours / expected", f"{finding.factor:.6f} = {finding.factor_name}{cases}"
    yield "smallest network", smallest_text(finding)
    if finding.actual is None:
        return
    place = f"{finding.path}[{', '.join(map(str, finding.index))}]" if finding.index else finding.path
    yours, expected = _told_apart(finding.actual, finding.expected)
    if Kind[finding.kind] in UNSTEADY:
        # one call is held against another, and not against the reference
        yield "worst element", f"{place}     now {yours}     in the first call {expected}"
        return
    yield "worst element", f"{place}     yours {yours}     expected {expected}"
    yield "error / bound", f"{_short(finding.error)} / {_short(finding.bound)}"
    if finding.look == "local":
        yield "expected is", "this step's exact result on the values that you computed before it"


def _surroundings(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield what else is wrong, what is right, where it shows and on what the diagnosis rests."""
    if finding.detail and finding.detail not in finding.sentence:
        yield "detail", finding.detail
    others = [path for path in finding.wrong if path != finding.path]
    if others:
        yield "also wrong", ", ".join(others)
    if finding.right:
        yield "right", ", ".join(finding.right)
    if finding.kind in VOTED and (finding.agreeing or finding.disagreeing):
        yield "votes", _votes(finding)
    if " + " not in finding.symptom:  # of several mistakes, each shows elsewhere
        yield from _circumstances(finding)
    for fact in finding.facts:
        yield "known", fact
    if finding.evidence:
        yield "evidence", finding.evidence
    yield "check", finding.key or finding.check


def result_text(result: Result, *, coverage: bool = False) -> str:
    """Return the message of a result: its findings, what was compared of whom, and the verdict.

    `coverage`: with the whole table of what was met.
    """
    parts = [finding_text(finding) for finding in result.findings]
    parts += [tally_text(tally) for tally in result.implementations]
    if result.pinned is not None:
        parts += filled(f"pinned  {pinned_text(result.pinned)}")
    if result.manifest is not None and not result.manifest.fewer:
        parts += filled(f"manifest  {result.manifest.file}: no less was compared than is pinned")
    if covered := coverage_text(result.coverage):
        parts += filled(f"covered  {covered}")
    if coverage and result.coverage:
        parts.append(coverage_table(result.coverage))
    parts += ["\n".join(filled(f"note: {note}")) for note in result.notes]
    parts.append(verdict_text(result))
    return "\n".join(parts)


def pinned_text(pinned: Pinned) -> str:
    """Return how many pinned cases were replayed, and how many of them fail."""
    said = f"{pinned.cases:,} case{'s' if pinned.cases != 1 else ''} replayed first"
    if pinned.failing:
        said += f", {pinned.failing:,} fail{'s' if pinned.failing == 1 else ''}"
    if pinned.unsupported:
        said += f", {pinned.unsupported:,} not supported any more"
    return said


LOOK_NAMES: dict[Look, str] = {"global": "from the inputs", "local": "step by step"}
"""What the looks are called where people read: the local one is on the implementation's own values."""
OUTCOME_NAMES = {"passed": "pass", "failed": "fail", "kink": "kink", "range": "range", "vacuous": "vacuous"}


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "less than 1%"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def tally_text(tally: Tally) -> str:
    """Return what was compared of one implementation in one dtype, how it ended and how sharp the look was."""
    name = named(tally.name)
    title = f"{name} {named(tally.version)}" if tally.version else name
    counts = (
        f"{_counted(tally.cases, 'network')}, {_counted(tally.comparisons, 'comparison')} of "
        f"{_counted(tally.elements, 'element')}"
    )
    text = [*filled(f"{title}  {tally.dtype}"), *filled(counts, "  ")]
    for look, outcomes in sorted(tally.outcomes.items()):
        said = "   ".join(
            f"{name} {getattr(outcomes, field):,}" for field, name in OUTCOME_NAMES.items() if getattr(outcomes, field)
        )
        text += labelled(LOOK_NAMES[look], said)
    if tally.worst_at:
        text += labelled("worst error/bound", f"{tally.worst_ratio:.2g} at {tally.worst_at} of {tally.worst_network}")
    if tally.sharpness:
        text += labelled("sharpness", _certificate(tally.sharpness))
    if more := tally_details(tally):
        text += filled("; ".join(more), "  ")
    return "\n".join(text)


def tally_details(tally: Tally) -> list[str]:
    """Return what else is told of an implementation in one dtype."""
    details = [
        (tally.lost, "element", "not finite where the exact value is, for an overflow on the way"),
        (tally.at_kinks, "network", "at a kink"),
        (tally.unsupported, "network", "not supported: not compared"),
    ]
    more = [f"{_counted(count, of)} {what}" for count, of, what in details if count]
    return more + [f"{layer}' at 0 is {_derivative(share)}" for layer, share in sorted(tally.kinks.items())]


def _certificate(sharpness: Mapping[Look, Sharpness]) -> str:
    """Return how small an error of a whole parameter's gradient would have been found, in the sharpest look first."""
    first, *rest = [look for look in reversed(LOOKS) if look in sharpness]
    said = "; ".join(f"{LOOK_NAMES[look]} alone {_found(sharpness[look], '')}" for look in rest)
    what = " in any parameter's gradient would have been a finding"
    return _found(sharpness[first], what) + (f"; {said}" if said else "")


def _found(measured: Sharpness, what: str) -> str:
    """Return from which relative error on errors are found in how many networks."""
    # of the same error, only the largest share is told
    found = {measured.quantile(share): share for share in QUANTILES}
    told = [f"{error:.0e} in {share:.0%}" for error, share in reversed(found.items()) if error is not None]
    if not told:
        return f"no relative error{what} in half"
    told[0] = told[0].replace(" in", f"{what} in", 1)
    missed = f", none in {_share(measured.missed / measured.networks)}" if measured.missed else ""
    return f"a relative error of {', of '.join(told)} of the networks{missed}"


def _derivative(share: float) -> str:
    return {0.0: "the left-sided one", 1.0: "the right-sided one", 0.5: "the mean of both sides"}[share]


def coverage_text(coverage: Sequence[Covered]) -> str:
    """Return how much of what is drawn every implementation met, and what was not met; of single values nothing."""
    cells: dict[Cell, list[str]] = {}
    for entry in coverage:
        for cell, cases in entry.cells.items():
            cells.setdefault(cell, []).extend([] if cases else [entry.implementation])
    said, missed = [], []
    for axis in AXES:
        values = [cell for cell in cells if len(cell) == 2 and cell[0] == axis]
        if len(values) > 1:
            said.append(f"{sum(not cells[cell] for cell in values)} of {len(values)} {PLURALS[axis]}")
        for cell in values:
            if cells[cell]:
                whom = f" by {_and(cells[cell])}" if len(cells[cell]) < len(coverage) else ""
                missed.append(f"{axis} {cell[1]}{whom}")
    pairs = [cell for cell in cells if len(cell) == 4]
    text = ", ".join(said)
    if not text:
        return ""
    text += f"; {sum(not cells[cell] for cell in pairs)} of {len(pairs)} pairs"
    if not missed:
        return text
    return f"{text}; not met: {', '.join(missed)}" if len(missed) <= FEW else f"{text}; {len(missed)} not met"


def coverage_table(coverage: Sequence[Covered]) -> str:
    """Return in how many cases each implementation met what, and which pairs it did not."""
    tables: dict[str, list[str]] = {}
    for entry in coverage:
        tables.setdefault("\n".join(_table(entry)), []).append(entry.implementation)
    head = "cases in which a wrong value could have been told from rounding"
    return "\n".join(
        "\n".join([*filled(f"coverage of {_and(names)}: {head}"), table]) for table, names in tables.items()
    )


def _table(entry: Covered) -> Iterator[str]:
    for axis in AXES:
        if values := entry.values.get(axis):
            yield from labelled(PLURALS[axis], ", ".join(f"{value} {cases:,}" for value, cases in values.items()))
    for axis in AXES:
        rows: dict[str, list[str]] = {}
        for one, other in PAIRS:
            if one == axis:
                for value, row in entry.pairs.get(f"{one} x {other}", {}).items():
                    rows.setdefault(value, []).append(_row(row, PLURALS[other]))
        for value, parts in rows.items():
            yield from labelled(value, "; ".join(parts))


def _row(row: Mapping[str, int], what: str) -> str:
    missed = [value for value, cases in row.items() if not cases]
    told = f"{len(row) - len(missed)} of {len(row)} {what}"
    return f"{told}, not {', '.join(missed)}" if missed and 2 * len(missed) <= len(row) else told


def verdict_text(result: Result) -> str:
    """Return the last line: the verdict, how much it rests on, and the seed."""
    amount = (
        f"{_counted(result.networks, 'network')}, {_counted(result.comparisons, 'comparison')}, seed {result.seed}, "
        f"{result.seconds:.1f} s"
    )
    word, sentence = verdict_words(result)
    return "\n".join(filled(f"{word}  {sentence}: {amount}"))


def verdict_words(result: Result) -> tuple[str, str]:
    """Return the word of the verdict, and the sentence behind it."""
    names = list(dict.fromkeys(named(tally.name) for tally in result.implementations))
    verb = "agrees" if len(names) == 1 else "agree"
    words: dict[Verdict, tuple[str, str]] = {
        "passed": (
            "PASSED",
            f"{_and(names)} {verb} {'within rounding' if REFERENCE in names else 'with the reference'}",
        ),
        "failed": ("FAILED", f"{len(result.findings)} finding{'s' if len(result.findings) != 1 else ''}"),
        "interrupted": ("INTERRUPTED", "what was compared so far agrees"),
        "nothing compared": ("NOTHING COMPARED", "no implementation gave anything to compare"),
        "not covered": ("NOT COVERED", f"what was compared agrees, but {_uncovered(result)}"),
        "broken": ("BROKEN", "the checks miss planted faults, so that nothing they say can be trusted"),
    }
    return words[result.verdict]


def _uncovered(result: Result) -> str:
    """Return what is missing of a run in which everything agrees."""
    if result.manifest is not None and result.manifest.fewer:
        return "less was compared than the manifest pins"
    return "not everything was met that has to be"


def smallest_text(finding: Finding) -> str:
    """Return the case of a finding in words."""
    return f"{finding.notation}, batch {finding.rows}, {finding.dtype}, {finding.numbers}"


def _circumstances(finding: Finding) -> list[tuple[str, str]]:
    """Return where else the mistake shows, what it depends on and what does not matter, as far as that is known."""
    known = {"also in": finding.also, "only where": finding.only_where, "regardless of": finding.does_not_matter}
    return [(label, ", ".join(texts)) for label, texts in known.items() if texts]


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
    digits = next((digits for digits in (7, 10, 13) if f"{one:.{digits}g}" != f"{other:.{digits}g}"), 17)
    return f"{one:.{digits}g}", f"{other:.{digits}g}"


def _number(number: Number | None) -> str:
    return f"{number:.7g}" if isinstance(number, float) else str(number)


def _short(number: Number | None) -> str:
    return f"{number:.1e}" if isinstance(number, float) else str(number)
