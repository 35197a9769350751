"""A page for each word that a finding can have, of what `gradconform explain` tells, linked from diagnosis.md."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from extensions.made import write_pages
from gradconform.conformance import explanations

FOLDER = "generated/symptoms"
ROW = re.compile(r"^\| `([a-z0-9-]+)` \|", re.MULTILINE)
NAVIGATION = f"\n```{{toctree}}\n:hidden:\n\n/{FOLDER}/index\n```\n"
INDEX = """\
# Every symptom, verdict and check

What each word of a finding means, the line that is typically wrong, and the right one, in NumPy, PyTorch and JAX.
`gradconform explain WORD` tells the same on the terminal; [The named bug](/diagnosis.md) says how a mistake gets its
name.
"""


def setup(app: Any) -> dict[str, bool]:
    """Make the pages before anything is read, and link to them from the page that has the tables."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _page(word: str) -> str:
    return f"{word.lower().replace(' ', '-')}.md"


def _write(app: Any) -> None:
    known = explanations.every()
    # they are met by their links, and would be too many for the navigation
    pages = {_page(word): f"---\norphan: true\n---\n\n{explanations.markdown_of(word)}" for word in known}
    index = INDEX
    for family, entries in itertools.groupby(known.values(), lambda entry: entry.family):
        rows = "".join(f"- [{entry.id}]({_page(entry.id)}): {entry.meaning}\n" for entry in entries)
        index += f"\n## {family}\n\n{rows}"
    write_pages(Path(app.srcdir, FOLDER), pages | {"index.md": index})


def _link(_: Any, name: str, source: list[str]) -> None:
    if name == "diagnosis":
        known = explanations.every()
        source[0] = NAVIGATION + ROW.sub(
            lambda row: f"| [`{row[1]}`](/{FOLDER}/{_page(row[1])}) |" if row[1] in known else row[0], source[0]
        )
