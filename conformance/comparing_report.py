"""The text of a comparison: the verdict alone in the first line, then a table with whole names, then what is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradconform.conformance.results import Number
from gradconform.conformance.wrapping import WIDEST, columns, filled, labelled

if TYPE_CHECKING:
    from gradconform.conformance.comparing import Compared, Row

NUMBERS = ("first", "second", "|difference|", "float64", "float32", "")
SHORT = 12
"""More rows of intermediate values than this are told by their number, up to the one where the models part."""
UNIT = (
    "the columns float64 and float32 count them: one unit is how far rounding was measured to carry this element in "
    "either model, see docs/compare.md"
)


def compared_text(result: Compared) -> str:
    """Return the message of a comparison: what matters in the first line."""
    lines = _headline(result)
    if result.rows:
        lines += _table(_shown(result.rows), result.decided_in)
    if result.parted:
        lines += labelled("first place", result.parted)
    if result.verdict == "differ":
        worst = result.first_difference
        if worst.first is not None:
            where = f"[{', '.join(map(str, worst.index))}]" if worst.index else ""
            numbers = f"first {_exact(worst.first)}   second {_exact(worst.second)}"
            lines += labelled("worst element", f"{worst.name or worst.stage}{where}   {numbers}")
    for cause in result.causes:
        lines += labelled("explained by", cause)
    if result.verdict == "differ" and not result.causes:
        lines += labelled(
            "explained by", "nothing that was tried: constant factors, transpositions, options of modules"
        )
    if result.sharpness is not None and result.passed:
        said = f"a relative difference of {result.sharpness:.0e} in any gradient would have been found"
        lines += labelled("sharpness", said)
    if result.rows:
        lines += labelled("units", UNIT)
    for note in result.notes:
        lines += filled(f"note: {note}")
    return "\n".join(lines)


def _headline(result: Compared) -> list[str]:
    names = f"{result.first} and {result.second}"
    gradients = result.gradients
    if result.verdict == "nondeterministic":
        text = f"NONDETERMINISTIC  {result.detail}"
    elif result.verdict == "nothing compared":
        text = f"NOTHING COMPARED  {names}: {result.detail}"
    elif result.verdict == "agree":
        text = f"AGREE  {names}: {_count(gradients)}, {result.elements:,} elements; {_rounding(result)}"
    else:
        wrong = sum(row.differs for row in gradients)
        verb = "differs" if wrong == 1 else "differ"
        count = f"{wrong} of {_count(gradients)} {verb}" if wrong else "no gradient differs"
        first = result.first_difference
        where = "" if first.stage in {"gradient", "input"} else " in the forward pass"
        much = first.detail or f"{_short(first.units)} units of {result.decided_in} rounding"
        text = f"DIFFER  {names}: {count}, first at {first.name or first.stage}{where}: {much}"
    # whole on any terminal: it is all that a summary shows
    return filled(text, width=WIDEST)


def _count(gradients: Sequence[Row]) -> str:
    return f"{len(gradients)} gradient{'' if len(gradients) == 1 else 's'}"


def _rounding(result: Compared) -> str:
    """Return how much of a difference was found, in either precision."""
    worst = {
        "float64": max((_float(row.units) for row in result.gradients), default=0.0),
        "float32": max((_float(row.float32_units) for row in result.gradients), default=0.0),
    }
    told = [f"{worst[dtype]:.2g} units of {dtype}" for dtype in dict.fromkeys([result.decided_in, "float32"])]
    return f"rounding: at most {' and '.join(told)}"


def _shown(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the table: of many intermediate values only those around the first that differs."""
    places = [row for row in rows if row.stage == "place"]
    if len(places) <= SHORT:
        return list(rows)
    first = next((index for index, row in enumerate(places) if row.differs), len(places) - 1)
    kept = places[max(0, first - 2) : first + 3]
    return [row for row in rows if row.stage != "place" or row in kept]


def _table(rows: Sequence[Row], decided_in: str) -> list[str]:
    titles = {"place": "value of", "outputs": "", "loss": "", "gradient": "gradient of", "input": "gradient of"}
    cells = [
        (
            f"{titles[row.stage]} {row.name}".strip() or row.stage,
            _value(row.first),
            _value(row.second),
            _short(row.error),
            _short(row.units) if decided_in == "float64" else "",
            _short(row.float32_units),
            f"{row.verdict} {row.detail}".strip(),
        )
        for row in rows
    ]
    widths = [max(len(text) for text in column) for column in zip(("", *NUMBERS), *cells, strict=True)]
    fits = sum(widths) + 2 * len(widths) <= columns()
    lines = []
    for name, *numbers in [("", *NUMBERS), *cells]:
        right = "  ".join(f"{number:>{width}}" for number, width in zip(numbers[:-1], widths[1:-1], strict=True))
        if fits:
            lines.append(f"  {name:<{widths[0]}}  {right}  {numbers[-1]}".rstrip())
        else:
            # a name is never cut: it gets a line of its own
            lines += [f"  {name}"] if name else []
            lines.append(f"    {right}  {numbers[-1]}".rstrip())
    return lines


def _float(number: Number | None) -> float:
    return float("inf") if isinstance(number, str) else number or 0.0


def _value(number: Number | None) -> str:
    return f"{number:.5e}" if isinstance(number, float) else "" if number is None else number


def _exact(number: Number | None) -> str:
    return f"{number:.10e}" if isinstance(number, float) else str(number)


def _short(number: Number | None) -> str:
    if not isinstance(number, float | int):
        return "" if number is None else number
    return f"{number:.2g}" if number < 100 or number == 0 else f"{number:.1e}"
