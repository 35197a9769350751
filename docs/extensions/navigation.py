"""The navigation of the site, from the lists of links in index.md: a page stands where it is linked."""

from __future__ import annotations

import re
from typing import Any

SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^- \[[^]]*\]\(([^)]+)\.(?:md|rst)\)", re.MULTILINE)


def setup(app: Any) -> dict[str, bool]:
    """Add what Sphinx needs to the page when it is read, after its links were turned."""
    app.connect("source-read", _add, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add(_: Any, name: str, source: list[str]) -> None:
    if name == "index":
        source[0] += "".join(_tree(title, body) for title, body in SECTION.findall(source[0]))


def _tree(title: str, body: str) -> str:
    return "\n".join(["\n```{toctree}", f":caption: {title}", ":hidden:", "", *ENTRY.findall(body), "```", ""])
