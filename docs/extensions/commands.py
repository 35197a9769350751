"""Examples in the help of a command keep their columns: sphinx-click reads them as lines of a paragraph."""

from __future__ import annotations

import itertools
from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Convert every description before it is read."""
    app.connect("sphinx-click-process-description", lambda app, ctx, lines: _convert(lines))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _convert(lines: list[str]) -> None:
    found: list[str] = []
    for shown, group in itertools.groupby(lines, lambda line: line.startswith("| ")):
        block = list(group)
        found += ["", "::", "", *(f"   {line[2:]}" for line in block), ""] if shown else block
    lines[:] = found
