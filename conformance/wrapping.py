"""Lines of the output: as wide as the terminal, at most 100 columns, no name broken, and nothing in them an order."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gradconform.conformance.untrusted import shown, unordered

WIDEST = 100
NARROWEST = 40
LABEL = 23
"""Columns of the labels at the left of a finding."""
ROOM = 36
"""So many columns a text needs beside its label; where it has fewer, it stands below it."""
INDEX = re.compile(r"\[[\d, ]+\]")


_in_a_file: ContextVar[bool] = ContextVar("_in_a_file", default=False)


@contextmanager
def for_a_file() -> Iterator[None]:
    """Have the texts of the block be as wide as they get: they are read elsewhere than on this terminal."""
    token = _in_a_file.set(True)
    try:
        yield
    finally:
        _in_a_file.reset(token)


def columns() -> int:
    """Return the width of the output: the terminal's, or COLUMNS, at most 100; in a file 100."""
    if _in_a_file.get():
        return WIDEST
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
    kept = INDEX.sub(lambda found: found[0].replace(" ", "\xa0"), shown(text))
    lines = textwrap.wrap(
        kept,
        width or columns(),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [unordered(line.replace("\xa0", " ")) for line in lines]
