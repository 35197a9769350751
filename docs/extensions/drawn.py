"""Drawings inside the page, where their colours follow the reader's choice of light or dark."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

STYLE = re.compile(r"<style>.*?</style>\s*", re.DOTALL)


class Drawn(SphinxPostTransform):
    """Replaces each image of an SVG file by the file itself, without its own colours: `site.css` has them."""

    default_priority = 5
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace the drawings of one page."""
        for image in list(self.document.findall(nodes.image)):
            if image["uri"].endswith(".svg"):
                text = STYLE.sub("", Path(self.env.srcdir, image["uri"]).read_text("utf-8"))
                label = f'role="img" aria-label="{escape(image.get("alt", ""))}"'
                image.replace_self(nodes.raw("", text.replace("<svg ", f"<svg {label} ", 1), format="html"))


def setup(app: Any) -> dict[str, bool]:
    """Register the transformation."""
    app.add_post_transform(Drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
