"""An adapter of somebody else's, installed with an entry point, is found by its name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ADAPTER = """
from gradconform.reference.backpropagation import gradients as right

layers = ("Tanh",)
losses = ("MeanSquaredError",)
dtypes = ("float64",)

def version():
    return "1.2"

def gradients(network, parameters, batch):
    found = right(network, parameters, batch).parameters
    return {path: FACTOR * array for path, array in found.items()}
"""


@pytest.fixture
def installed(tmp_path):
    """Install two distributions as pip does into a folder that is on the path, and run gradconform."""
    site = tmp_path / "site"
    for name, factor in (("myframework", 1), ("wrongframework", 2)):
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("", "utf-8")
        (site / name / "adapter.py").write_text(ADAPTER.replace("FACTOR", str(factor)), "utf-8")
        info = site / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[gradconform.adapters]\n{name} = {name}.adapter\n", "utf-8")
    (tmp_path / "empty").mkdir()

    def run(*arguments):
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, "-c", "from gradconform.conformance.cli import main; main()", *arguments],
            cwd=tmp_path / "empty",
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


def test_an_installed_adapter_is_found_by_name(installed):
    done = installed("check", "myframework", "--max-examples", "8", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "myframework 1.2  float64" in done.stdout
    assert "PASSED  myframework agrees with the reference" in done.stdout
    assert "not supported" not in done.stdout
    assert "float32" not in done.stdout


def test_its_findings_carry_its_name(installed):
    done = installed("check", "wrongframework", "--max-examples", "8", "--seed", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED  wrongframework   " in done.stdout
    assert "yours / expected     2.000000" in done.stdout


def test_a_name_that_is_not_installed_is_told(installed):
    done = installed("check", "otherframework")
    assert done.returncode == 4
    assert "myframework" in done.stderr
    assert len(done.stderr.splitlines()) == 1
