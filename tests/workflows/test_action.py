"""The action, its steps run as GitHub's runner runs them: green, red, with hostile inputs and a hostile candidate."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
TEXTBOOK = (ROOT / "examples" / "textbook.py").read_text("utf-8")
HOSTILE = ["$(touch x).py", "`touch x`", "a b.py:f", "'; touch x; '", '"; touch x; "', "*", "$HOME", "\\", "é.py:f"]

WRONG = """
import sys


def gradients(network, parameters, batch):
    print("::error::printed", flush=True)
    print("::set-output name=verdict::passed\\n  ::warning::printed ##[error]too", file=sys.stderr, flush=True)
    print("no end of a line", end="", file=sys.stderr, flush=True)
    if len(network.layers) > 1:
        raise RuntimeError("##[error]::error::\\n::error::raised\\x1b[31m" + "<b>" * 400_000)
    return {"::error::<b>": 0}
"""
RAISES = "def gradients(network, parameters, batch):\n    raise RuntimeError('not yet')\n"

STUB = """#!/usr/bin/env bash
printf '%s\\n' "$@" > {files}/words
exit 3
"""
KILLED = """#!/usr/bin/env bash
if [[ $1 == check ]]; then
  head -n 2 {files}/run.jsonl > gradconform-report/run.jsonl
  kill -KILL $PPID
else
  exec {real} "$@"
fi
"""


@pytest.fixture
def play(player):
    """Return a function that plays the action, with another program in place of gradconform if one is given."""

    def play(program="", **inputs):
        if program:
            player.program("gradconform", program)
        return player.action(ACTION, **inputs)

    return play


def test_nothing_but_the_environment_takes_inputs_to_the_shell():
    steps = yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step]
    assert len(scripts) == 4
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize(
    ("version", "extras", "package"),
    [
        ("", "", str(ROOT)),
        ("", "torch,jax", f"{ROOT}[torch,jax]"),
        ("0.1.0", "", "gradconform==0.1.0"),
        ("0.1.0", "torch", "gradconform[torch]==0.1.0"),
    ],
)
def test_what_is_installed(play, player, version, extras, package):
    play(STUB, version=version, extras=extras)
    assert player.told("pip") == ["install", "--disable-pip-version-check", package]


@pytest.mark.parametrize("inputs", [{"version": "1 --pre"}, {"version": "$(touch x)"}, {"extras": "x] @ file:/x #"}])
def test_what_is_no_version_or_extra_is_not_installed(play, player, inputs):
    played = play(STUB, **inputs)
    assert played.code == 4
    assert [data for _, _, data in played.log.annotations] == [
        "expected a version such as 0.1.0, and extras such as torch,jax"
    ]
    assert not (player.files / "pip").exists()
    assert not (player.files / "words").exists()


def test_inputs_arrive_as_they_are(play, player):
    played = play(STUB, targets="\n".join([*HOSTILE, ""]), args="\r\n".join(["--network", "4 -> Dense(*)", *HOSTILE]))
    assert played.code == 3
    assert played.outputs["exit-code"] == "3"
    assert player.told("words") == [
        "check",
        "--record=gradconform-report/run.jsonl",
        "--profile=ci",
        *HOSTILE,
        "--network",
        "4 -> Dense(*)",
        *HOSTILE,
    ]
    assert [file.name for file in player.workspace.iterdir()] == ["gradconform-report"]


def test_no_profile_is_that_of_the_configuration(play, player):
    play(STUB, profile="")
    assert player.told("words") == ["check", "--record=gradconform-report/run.jsonl"]


def test_a_target_is_no_option(play, player):
    played = play(STUB, targets="my.py:f\n  --json=/etc/passwd")
    assert played.code == 4
    assert not (player.files / "words").exists()


def test_green(play, player):
    (player.workspace / "textbook.py").write_text(TEXTBOOK, "utf-8")
    played = play(targets="textbook.py", profile="smoke", args="--seed\n1", artifact="gradients")
    assert played.code == 0, played.log.text
    result = json.loads((player.workspace / "gradconform-report" / "result.json").read_bytes())
    assert played.outputs == {
        "verdict": "passed",
        "comparisons": str(sum(tally["comparisons"] for tally in result["implementations"])),
        "findings": "0",
        "exit-code": "0",
    }
    assert "PASSED" in played.log.text
    assert "textbook.py" in played.summary
    assert not played.log.annotations
    ((uses, given),) = played.uses
    assert uses.startswith("actions/upload-artifact@")
    assert given["name"] == "gradients"
    assert given["path"] == "./gradconform-report"


def test_red_on_the_lines_of_the_source(play, player):
    (player.workspace / "src").mkdir()
    (player.workspace / "src" / "mine.py").write_text(WRONG, "utf-8")
    played = play(targets="mine.py:gradients", profile="smoke", args="--seed\n1", working_directory="src")
    assert played.code == 1
    assert played.outputs["verdict"] == "failed"
    assert played.outputs["findings"] == "2"
    assert not played.uses
    # of what it prints and raises, on either stream and in a line without end, nothing is a command
    assert "printed" in played.log.text
    assert {kind for kind, _, _ in played.log.annotations} == {"error"}
    by_line = {properties["line"]: properties for _, properties, _ in played.log.annotations}
    assert by_line.keys() == {"5", "10"}  # where it is defined, and where it raised
    assert {properties["file"] for properties in by_line.values()} == {"src/mine.py"}
    assert "RuntimeError" in by_line["10"]["title"]
    assert all(len(data) < 2000 for _, _, data in played.log.annotations)
    report = player.workspace / "src" / "gradconform-report"
    assert len(list((report / "cases").glob("*.json"))) == 2
    assert ElementTree.parse(report / "junit.xml").getroot() is not None
    assert "<b>" not in played.summary
    assert "<b><b>" not in (report / "report.html").read_text("utf-8")


def test_annotations_and_summary_may_be_left_out(play, player):
    (player.workspace / "mine.py").write_text(RAISES, "utf-8")
    played = play(targets="mine.py", profile="smoke", annotations="false", summary="false")
    assert played.code == 1
    assert not played.log.annotations
    assert not played.summary
    assert played.outputs["findings"] == "1"


def test_a_target_that_is_not_there(play, player):
    report = player.workspace / "gradconform-report"
    report.mkdir()
    (report / "run.jsonl").write_text("of an earlier run", "utf-8")
    played = play(targets="none.py:gradients")
    assert played.code == 4
    assert "none.py" in played.log.text
    assert played.outputs == {"verdict": "", "comparisons": "", "findings": "", "exit-code": "4"}
    assert not played.summary


def test_a_run_that_is_killed_is_reported_as_far_as_it_came(play, player):
    command = [player.real, "check", "reference", "--profile", "smoke", "--record", player.files / "run.jsonl"]
    subprocess.run(command, cwd=player.files, capture_output=True, check=True)
    played = play(KILLED)
    assert played.code
    assert played.outputs["verdict"] == "interrupted"
    assert played.outputs["exit-code"] == ""
    assert (player.workspace / "gradconform-report" / "report.html").exists()
    assert [kind for kind, _, _ in played.log.annotations] == ["warning"]
