"""The page of the gallery is what its script prints."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gallery.md").read_text("utf-8")
NEEDED = ("micrograd", "autograd", "mygrad", "sklearn", "tinygrad")
pytestmark = pytest.mark.filterwarnings("default")


def gallery():
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "benchmarks" / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def masked(text):
    """Return the page without its numbers, and without which element was the worst: processors round differently."""
    text = re.sub(r"(?m)^  (worst|sharpness|smallest network).*(\n {23}.*)*", r"  \1 #", text)
    return re.sub(r"-?\d[\d,.]*(e[+-]\d+)?", "#", text)


def test_every_entry_has_its_section():
    assert [f"`{entry.target}`" in PAGE for entry in gallery().ENTRIES] == [True] * len(gallery().ENTRIES)


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.skipif(
    not os.environ.get("GRADCONFORM_EXPECT_WILD") and any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="the frameworks of the gallery are not installed, and GRADCONFORM_EXPECT_WILD is not set",
)
def test_the_page_is_what_the_script_prints(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert masked(gallery().page()) == masked(PAGE)
