"""The site of the documentation, which `make docs` builds. Nothing is fetched, neither by the build nor by a reader."""

from __future__ import annotations

import sys
from pathlib import Path

import gradconform

sys.path.insert(0, str(Path(__file__).parent))

project = "gradconform"
author = "The gradconform authors"
project_copyright = author
version = release = gradconform.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "extensions.commands",
    "extensions.docstrings",
    "extensions.mathml",
    "extensions.drawn",
    "extensions.elsewhere",
    "extensions.navigation",
    "extensions.symptoms",
]
exclude_patterns = ["drawings"]
nitpicky = True
# what is not ours is not on this site, and other sites are not asked
nitpick_ignore_regex = [("py:.*", r"(?!gradconform\.).*")]
# a type of the checker's own, and the machinery of the bounds, which bounds.md explains
nitpick_ignore = [
    ("py:class", name)
    for name in (
        "gradconform.capabilities.Candidate",
        "gradconform.reference.arithmetic.Plain",
        "gradconform.reference.bounding.Bounding",
        "gradconform.reference.bounding.Site",
    )
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

smartquotes = False  # --option stays what is typed
default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = f"gradconform {version}"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
