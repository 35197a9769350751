"""What the repository has outside docs/, as pages: contributing, the changelog, and every example.

So that the pages read on the repository's own site as well, they link to these files where they are; here such links
are turned to the pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from extensions.made import write_pages

ROOT = Path(__file__).parents[2]
PAGES = "generated/project"
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
LANGUAGES = {".py": "python", ".c": "c", ".rs": "rust", ".mjs": "javascript", ".toml": "toml", ".csv": "text"}
LISTED = """\
# {name}

```{{toctree}}
:maxdepth: 1

{entries}
```
"""
SHOWN = """\
# {name}

```{{literalinclude}} {up}/{name}
:language: {language}
```
"""


def setup(app: Any) -> dict[str, bool]:
    """Make the pages before anything is read, and turn the links of every page that is."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _turn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def turned(text: str, folder: str) -> str:
    """Return the text of a page in a folder of the repository with its links to files as those to pages."""

    def turn(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        if target.startswith("docs/"):
            return match[1] if folder == "docs" else target.removeprefix("docs")
        place = ROOT / target
        return f"/{_page(target, place)}" if place.exists() else match[1]

    return LINK.sub(turn, text)


def _page(target: str, place: Path) -> str:
    if target == "README.md":
        return "index.md"
    if place.is_dir():
        return f"{PAGES}/{target}/index.md"
    return f"{PAGES}/{target.replace('README.md', 'index.md') if target.endswith('.md') else f'{target}.md'}"


def _turn(_: Any, name: str, source: list[str]) -> None:
    if not name.startswith("generated/"):
        source[0] = turned(source[0], posixpath.join("docs", posixpath.dirname(name)).rstrip("/"))


def _write(app: Any) -> None:
    pages = {name: turned((ROOT / name).read_text("utf-8"), "") for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
    pages |= _folder(ROOT / "examples")
    write_pages(Path(app.srcdir, PAGES), pages)


def _folder(folder: Path) -> dict[str, str]:
    """Return the pages of a folder of examples: one for each file, and one that lists them below its README."""
    pages: dict[str, str] = {}
    entries = []
    name = folder.relative_to(ROOT).as_posix()
    for place in sorted(folder.iterdir()):
        path = f"{name}/{place.name}"
        if place.is_dir() and not place.name.startswith(("_", ".")):
            pages |= _folder(place)
            entries.append(f"{place.name}/index")
        elif place.suffix in LANGUAGES and not place.name.startswith("_"):
            up = "/".join([".."] * (path.count("/") + len(PAGES.split("/")) + 1))
            pages[f"{path}.md"] = SHOWN.format(name=path, up=up, language=LANGUAGES[place.suffix])
            entries.append(place.name)
    text = LISTED.format(name=name, entries="\n".join(entries))
    if (folder / "README.md").is_file():
        text = turned((folder / "README.md").read_text("utf-8"), name) + text.partition("\n")[2]
    return pages | {f"{name}/index.md": text}
