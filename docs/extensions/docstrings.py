"""Docstrings as they are written here, in plain text with `names`, as the markup that autodoc expects."""

from __future__ import annotations

import itertools
import re
from typing import Any

ARGUMENT = re.compile(r"(\w+(?:, \w+)*): (.*)")


def setup(app: Any) -> dict[str, bool]:
    """Convert every docstring before it is read."""
    app.connect("autodoc-process-docstring", lambda app, kind, name, value, options, lines: _convert(lines))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _convert(lines: list[str]) -> None:
    paragraphs = [list(group) for filled, group in itertools.groupby(lines, bool) if filled]
    lines[:] = itertools.chain.from_iterable([*_paragraph(paragraph), ""] for paragraph in paragraphs)


def _paragraph(lines: list[str]) -> list[str]:
    """Return a paragraph, as a list if each of its lines begins with the name of an argument or goes on with one."""
    # |x| is a size, and not the name of a replacement
    lines = [line.replace("|", r"\|") for line in lines]
    starts = [line for line in lines if not line.startswith(" ")]
    if not all(ARGUMENT.fullmatch(line) for line in starts):
        return lines
    return [ARGUMENT.sub(r"* ``\1``: \2", line) if line in starts else f"  {line.strip()}" for line in lines]
