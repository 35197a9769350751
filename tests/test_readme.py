"""The README's tables are those of the code. That its blocks run is held by test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

from gradconform.adapters.deviations import DEVIATIONS
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.implementations import of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CONVENTIONS = (ROOT / "docs" / "conventions.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCK.findall(README) if language == "python"]


def test_the_network_by_hand_is_the_example():
    example = (ROOT / "examples" / "my_mlp.py").read_text("utf-8")
    assert example.endswith(PYTHON[0])


def test_what_the_readme_declares_is_understood():
    by_hand, declared, _ = PYTHON
    names = {}
    exec(by_hand + declared, names)
    assert of(names["gradients"]).labels == ("integer", "one-hot", "soft")


def test_the_table_of_checks_is_complete():
    rows = re.findall(r"^\| ([a-z-]+) \| (.+) \|$", README, re.MULTILINE)
    assert rows[1:] == [(check.id, check.sentence) for check in CHECKS.values()]


def test_the_table_of_deviations_is_complete():
    rows = [f"| {row.implementation} | {row.subject.__name__} | {row.reason} |" for row in DEVIATIONS]
    assert CONVENTIONS.rstrip().splitlines()[-len(rows) :] == rows
