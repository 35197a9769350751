"""The suite as pytest items, in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from gradconform.conformance.items import GROUPS

CANDIDATE = """
from gradconform.reference.backpropagation import gradients as right

def reference(network, parameters, batch):
    return right(network, parameters, batch)

def bias_mean(network, parameters, batch):
    found = dict(right(network, parameters, batch).parameters)
    return {path: value / batch.rows if path.endswith("bias") else value for path, value in found.items()}

def unsupported(network, parameters, batch):
    raise NotImplementedError("not yet")
"""


@pytest.fixture
def suite(tmp_path):
    """Run pytest in an empty folder with a candidate file in it."""
    (tmp_path / "candidate.py").write_text(CANDIDATE, "utf-8")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


def pyargs(*arguments):
    return ["--pyargs", "gradconform.conformance", "--gradconform-max-examples", "4", *arguments]


def test_every_group_is_an_item_and_the_comparisons_are_counted(suite):
    done = suite(*pyargs("--gradconform-implementations", "candidate.py:reference,reference", "-rA"))
    assert done.returncode == 0, done.stdout
    assert "test_conformance[agreement-candidate.py:reference-float64]" in done.stdout
    assert "test_conformance[sum-of-samples-reference-float32]" in done.stdout
    assert "candidate.py:reference float64: " in done.stdout
    assert f"{3 * len(GROUPS)} passed" in done.stdout


def test_it_runs_under_xdist_with_the_same_counts(suite):
    arguments = pyargs("--gradconform-implementations", "reference", "-k", "agreement or batch-permutation")
    alone, spread = suite(*arguments), suite(*arguments, "-n", "2")
    assert spread.returncode == alone.returncode == 0, spread.stdout
    counted = [line for line in alone.stdout.splitlines() if line.startswith("reference numpy")]
    assert len(counted) == 2
    assert all(line in spread.stdout for line in counted)


def test_a_failure_is_the_finding_without_frames(suite):
    done = suite(*pyargs("--gradconform-implementations", "candidate.py:bias_mean", "-k", "agreement"))
    assert done.returncode == 1
    assert "FAILED  candidate.py:bias_mean   0.bias is wrong: " in done.stdout
    assert "  smallest network     1 -> Dense(1), MeanSquaredError, batch 2, float64, small integers\n" in done.stdout
    assert re.search(r"; likely\s+bias-mean\n", done.stdout)
    assert "  write                db = delta.sum(axis=0)\n  not                  delta.mean(axis=0)\n" in done.stdout
    assert "Traceback" not in done.stdout
    assert "gradconform/conformance" not in done.stdout


def test_comparing_nothing_fails(suite):
    done = suite(*pyargs("--gradconform-implementations", "candidate.py:unsupported"))
    assert done.returncode == 1
    assert "nothing was compared: the implementation supports none of the networks that were drawn" in done.stdout


def test_a_property_that_nothing_drawn_has_is_told(suite):
    arguments = ["--pyargs", "gradconform.conformance", "--gradconform-max-examples", "1", "-k", "class-permutation"]
    done = suite(*arguments, "--gradconform-implementations", "reference")
    assert done.returncode == 1
    assert "what was drawn does not have this property: raise --gradconform-max-examples" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--gradconform-implementations", "nowhere.py:f"], "nowhere.py: no such file"),
        (
            ["--gradconform-implementations", "reference", "--gradconform-dtypes", "int8"],
            "dtype 'int8' is not supported",
        ),
    ],
)
def test_wrong_options_are_told(suite, arguments, sentence):
    done = suite(*pyargs(*arguments))
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr


RARE = """
from gradconform.reference.backpropagation import gradients as right

def rare(network, parameters, batch):
    found = dict(right(network, parameters, batch).parameters)
    if network.inputs % 2:
        return {path: 2 * value for path, value in found.items()}
    return found
"""


def test_a_nightly_run_tells_its_seed_and_keeps_what_failed(suite, tmp_path):
    (tmp_path / "rare.py").write_text(RARE, "utf-8")
    nightly = [
        "--pyargs",
        "gradconform.conformance",
        "--gradconform-implementations",
        "rare.py:rare",
        "-k",
        "agreement",
    ]
    done = suite(*nightly, "--gradconform-profile", "nightly", "--gradconform-max-examples", "30")
    assert done.returncode == 1, done.stdout
    seed = re.search(r"the same again: --gradconform-seed (\d+)", done.stdout)[1]
    assert list((tmp_path / ".hypothesis" / "examples").rglob("*"))
    # the first example that is tried is the one that failed
    more = ("--gradconform-max-examples", "1", "--gradconform-seed", seed)
    assert suite(*nightly, *more).returncode == 1


def test_the_workers_of_a_nightly_run_draw_from_one_seed(suite):
    arguments = ["--gradconform-implementations", "reference", "-k", "delta-rows", "--gradconform-profile", "nightly"]
    spread = suite(*pyargs(*arguments), "-n", "2")
    seed = re.search(r"the same again: --gradconform-seed (\d+)", spread.stdout)[1]
    alone = suite(*pyargs(*arguments, "--gradconform-seed", seed))
    counted = [line for line in alone.stdout.splitlines() if line.startswith("reference numpy")]
    assert len(counted) == 2
    assert all(line in spread.stdout for line in counted)


def test_a_smoke_run_compares_something_in_every_item(suite):
    arguments = ["--gradconform-implementations", "reference", "--gradconform-profile", "smoke"]
    done = suite("--pyargs", "gradconform.conformance", *arguments)
    assert done.returncode == 0, done.stdout
    assert "--gradconform-seed" not in done.stdout


def test_the_plugin_leaves_other_tests_alone(suite, tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own():\n    assert True\n", "utf-8")
    done = suite("test_own.py")
    assert done.returncode == 0
    assert "gradconform" not in done.stdout


def test_what_the_options_leave_open_is_taken_from_the_file_and_told(suite, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        "[tool.gradconform]\ntargets = ['candidate.py:reference']\ndtype = ['float64']\nprofile = 'mine'\n"
        "max-examples = 1000\nnetwork = '2 -> Dense(2), MeanSquaredError'\n"
        "[tool.gradconform.pytest]\nmax-examples = 1\n[tool.gradconform.profiles.mine]\nextends = 'nightly'\n",
        "utf-8",
    )
    done = suite("--pyargs", "gradconform.conformance", "-k", "agreement", "-rA", "-v", "--gradconform-seed", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gradconform: profile mine, seed 0" in done.stdout
    assert "gradconform: configuration: pyproject.toml: " in done.stdout
    assert "test_conformance[agreement-candidate.py:reference-float64]" in done.stdout
    assert "1 passed" in done.stdout


def test_a_wrong_word_or_profile_is_one_line(suite, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.gradconform.pytest]\nmax-example = 1\n", "utf-8")
    done = suite(*pyargs())
    assert done.returncode == 4
    told = "pyproject.toml: [tool.gradconform.pytest] max-example is unknown; did you mean max-examples?"
    assert done.stderr.strip() == f"ERROR: {told}"
    (tmp_path / "pyproject.toml").unlink()
    done = suite(*pyargs("--gradconform-profile", "nighty"))
    assert (done.returncode, done.stderr.strip()) == (4, "ERROR: no profile 'nighty'; did you mean nightly?")
