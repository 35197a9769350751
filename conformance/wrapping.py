"""Lines of the output: as wide as the terminal, at most 100 columns, and no name is ever broken."""

from __future__ import annotations

import re
import shutil
import textwrap

WIDEST = 100
NARROWEST = 40
LABEL = 23
"""Columns of the labels at the left of a finding."""
ROOM = 36
"""So many columns a text needs beside its label; where it has fewer, it stands below it."""
INDEX = re.compile(r"\[[\d, ]+\]")


def columns() -> int:
    """Return the width of the output: the terminal's, or COLUMNS, at most 100."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def filled(text: str, indent: str = "", width: int | None = None) -> list[str]:
    """Return the lines of a text; all but the first are indented further."""
    return _wrapped(text, indent, f"{indent}  ", width)


def labelled(label: str, text: str, column: int = LABEL) -> list[str]:
    """Return the lines of a text with a label in a column before it, or above it where the output is narrow."""
    if columns() - column < ROOM:
        return [f"  {label}", *_wrapped(text, " " * 4, " " * 4)]
    return _wrapped(text, f"  {label:<{column - 2}}", " " * column)


def _wrapped(text: str, first: str, rest: str, width: int | None = None) -> list[str]:
    # an element, as in 2.weight[3, 2], is one word
    kept = INDEX.sub(lambda found: found[0].replace(" ", "\xa0"), text)
    lines = textwrap.wrap(
        kept,
        width or columns(),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines]
