"""The README and the pages in docs/ tell the truth."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gradconform.adapters.deviations import DEVIATIONS
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.implementations import of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CONVENTIONS = (ROOT / "docs" / "conventions.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCK.findall(README) if language == "python"]
CONSOLE = [text for language, text in BLOCK.findall(README) if language == "console"]


def run(command, folder):
    words = shlex.split(command)
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "FORCE_COLOR"}}
    return subprocess.run(
        [Path(sys.executable).parent / words[0], *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def masked(text):
    """Return an output without its numbers, without which element was the worst, and without the case's id.

    Processors round differently, and Hypothesis draws constants of the modules that it takes for one's own.
    """
    text = re.sub(r"gradconform replay [0-9a-f]{8}\b", "gradconform replay #", text)
    text = re.sub(r"(worst error/bound) +\S+ at \S+", r"\1 #", text.strip())
    text = re.sub(r"(?m)^  sharpness .*(\n {23}.*)*", "  sharpness #", text)
    return re.sub(r"-?\d[\d,.]*(e[+-]\d+)?", "#", text)


def test_the_network_by_hand_is_the_example():
    example = (ROOT / "examples" / "my_mlp.py").read_text("utf-8")
    assert example.endswith(PYTHON[0])


def test_python_blocks_run():
    by_hand, declared, from_python = PYTHON
    names = {}
    exec(by_hand + declared, names)
    assert of(names["gradients"]).labels == ("integer", "one-hot", "soft")
    exec(from_python, names)
    assert names["result"].passed
    assert names["result"].networks == 20


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize(("wrong", "code"), [(False, 0), (True, 1)])
def test_the_success_and_the_failure_shown_are_real(wrong, code, tmp_path):
    text = PYTHON[0].replace("delta0.sum(axis=0)", "delta0.mean(axis=0)") if wrong else PYTHON[0]
    (tmp_path / "my_mlp.py").write_text(text, "utf-8")
    command, _, shown = CONSOLE[2 if wrong else 1].removeprefix("$ ").partition("\n")
    done = run(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert masked(done.stdout) == masked(shown)


def test_the_table_of_checks_is_complete():
    rows = re.findall(r"^\| ([a-z-]+) \| (.+) \|$", README, re.MULTILINE)
    assert rows[1:] == [(check.id, check.sentence) for check in CHECKS.values()]


def test_the_table_of_deviations_is_complete():
    rows = [f"| {row.implementation} | {row.subject.__name__} | {row.reason} |" for row in DEVIATIONS]
    assert CONVENTIONS.rstrip().splitlines()[-len(rows) :] == rows
