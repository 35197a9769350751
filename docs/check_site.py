"""Look through the built site: `python docs/check_site.py build/docs`. Every link inside has to lead somewhere.

Nothing may be loaded from elsewhere either: pages are read without a network.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element is the target of, what it links to and what it loads."""
        given = {name: value for name, value in attrs if value}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if LOADED.get(tag) in given:
            self.loaded.append(given[LOADED[tag]])


def misled(folder: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and for each thing that is loaded from elsewhere."""
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    lines = [] if pages else [f"no page in {folder}"]
    for path, page in pages.items():
        name = path.relative_to(folder).as_posix()
        lines += [f"{name}: loads {place}" for place in page.loaded if urlsplit(place).netloc]
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = pages.get(target)
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and found is not None and anchor not in found.anchors):
                lines.append(f"{name}: {link} leads nowhere")
    return lines


if __name__ == "__main__":
    problems = misled(Path(sys.argv[1]).resolve())
    print("\n".join(problems) or "every link leads somewhere")
    sys.exit(bool(problems))
