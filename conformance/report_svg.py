"""SVG as text that is safe in a page: whatever an element holds is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from gradconform.conformance.untrusted import shown

LONGEST = 200
"""Characters of a text in a picture that are shown."""


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; in the names of attributes `_` stands for `-`, and is left out at the end, as in `class_`."""
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(child if isinstance(child, Markup) else escape(_plain(child)) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), given, inner)  # noqa: S704 - names of elements are ours


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "") -> Markup:
    """Return a text; `anchor`: which part of it stands at x, middle or end, and nothing for its start."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor or None)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    return element("polyline", points=" ".join(f"{_plain(x)},{_plain(y)}" for x, y in points), class_=class_)


def picture(
    identifier: str, title: str, description: str, size: tuple[float, float], parts: Iterable[Markup], class_: str
) -> Markup:
    """Return a picture with what it shows in words; `identifier` is its own in the page."""
    width, height = size
    return element(
        "svg",
        element("title", title, id=f"{identifier}-title"),
        element("desc", description, id=f"{identifier}-description"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        width=width,
        height=height,
        class_=class_,
        role="img",
        aria_labelledby=f"{identifier}-title {identifier}-description",
    )


def _plain(value: object) -> str:
    """Return a value as one line; coordinates with no more digits than can be seen."""
    return f"{value:.4g}" if isinstance(value, float) else shown(str(value), LONGEST)
