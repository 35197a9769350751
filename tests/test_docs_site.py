"""The links between the pages, as the repository's own site shows them, and the scripts of the documentation."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
MARKDOWN = MarkdownIt("commonmark").enable("table")
PAGES = [path for place in ("*.md", "docs/*.md", "examples/**/*.md") for path in sorted(ROOT.glob(place))]


def script(name):
    """Return a script of docs/, which is not installed, as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "docs" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and the site name them."""
    tokens = MARKDOWN.parse(page.read_text("utf-8"))
    titles = [token.content for before, token in itertools.pairwise(tokens) if before.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page):
    for token in MARKDOWN.parse(page.read_text("utf-8")):
        for child in token.children or ():
            if child.type in {"link_open", "image"}:
                yield child.attrs.get("href") or child.attrs["src"]


def nowhere(page):
    """Return the links of a page to files or headings that are not there."""
    lost = []
    for link in links(page):
        place, _, anchor = link.partition("#")
        if not re.match(r"\w+:", link):
            target = (page.parent / place) if place else page
            found = target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))
            lost += [] if found else [link]
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_or_a_heading_leads_there(page):
    assert nowhere(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n\n[a](#one-two) [b](#three) [c](no.md) ![d](no.svg) [e](page.md#one) [f](https://x.y)\n"
    )
    assert nowhere(page) == ["#three", "no.md", "no.svg", "page.md#one"]


def test_the_site_is_looked_through_for_links_and_for_what_is_loaded_from_elsewhere(tmp_path):
    misled = script("check_site.py").misled
    assert misled(tmp_path) == [f"no page in {tmp_path}"]
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1><img src="c.png">')
    (tmp_path / "a.html").write_text(
        '<a href="b.html">1</a><a href="b.html#there">2</a><a href="#">3</a><a href="https://x.y">4</a>'
        '<a href="b.html#gone">5</a><script src="https://x.y/z.js"></script>'
    )
    assert misled(tmp_path) == [
        "a.html: loads https://x.y/z.js",
        "a.html: b.html#gone leads nowhere",
        "b.html: c.png leads nowhere",
    ]


def test_the_drawings_are_those_that_the_script_makes():
    made = script("drawings/draw.py").drawings()
    assert {path.name: path.read_text("utf-8") for path in (ROOT / "docs" / "drawings").glob("*.svg")} == made
