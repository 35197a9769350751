"""The workflow files: the project's own, and those that `gradconform init` writes, played as far as they are shell."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OWN = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GIVEN = sorted((ROOT / "examples" / "ci").glob("github*.yml"))
PINNED = re.compile(r"^ *(?:- )?uses: (?:\./|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)(?: #.*)?$")
TEXTBOOK = (ROOT / "examples" / "textbook.py").read_text("utf-8")
GH = """#!/usr/bin/env bash
if [[ $* == *--jq* ]]; then exit 1; fi
printf '%s\\n' "$@" > {files}/gh
"""


def jobs(file):
    return yaml.safe_load(file.read_text("utf-8"))["jobs"].values()


@pytest.fixture
def textbook(player):
    """Return the player, with the textbook's example in its workspace."""
    (player.workspace / "textbook.py").write_text(TEXTBOOK, "utf-8")
    return player


def test_there_are_workflows():
    assert {file.stem for file in OWN} == {"ci", "nightly", "release"}
    assert {file.stem for file in GIVEN} == {"github", "github-nightly", "github-shards", "github-badge"}


@pytest.mark.parametrize("file", [*OWN, *GIVEN], ids=lambda file: file.stem)
def test_a_workflow_is_pinned_small_in_rights_and_ends(file):
    workflow = yaml.safe_load(file.read_text("utf-8"))
    lines = file.read_text("utf-8").splitlines()
    assert not [line for line in lines if "uses:" in line and not PINNED.match(line)]
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for job in jobs(file):
        assert job["timeout-minutes"] <= 120
        assert all("${{" not in step.get("run", "") for step in job["steps"])
        for step in job["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_the_same_action_has_the_same_pin_everywhere():
    pins = {}
    for file in (*OWN, *GIVEN, ROOT / "action.yml"):
        for name, pin in re.findall(r"uses: ([\w./-]+)@(.*)", file.read_text("utf-8")):
            pins.setdefault("/".join(name.split("/")[:2]), set()).add(pin)
    assert len(pins) == 7
    assert not {name: several for name, several in pins.items() if len(several) > 1}


def test_on_a_change_green_and_red(textbook):
    file = ROOT / "examples" / "ci" / "github.yml"
    played = textbook.job(file, "gradients", github={"event_name": "push"})
    assert played.code == 0, played.log.text
    assert "seed 1" in played.log.text  # that of the profile ci
    assert "textbook.py" in played.summary
    assert (textbook.workspace / "report" / "report.html").exists()
    assert not played.log.annotations

    wrong = "import sys\nprint('::error::hostile')\n\n\ndef gradients(network, parameters, batch):\n    sys.exit(0)\n"
    (textbook.workspace / "textbook.py").write_text(wrong, "utf-8")
    played = textbook.job(file, "gradients", github={"event_name": "push"})
    assert played.code == 1
    assert "hostile" in played.log.text
    ((level, properties, _),) = played.log.annotations
    assert level == "error"
    assert (properties["file"], properties["line"]) == ("textbook.py", "6")
    assert [uses.partition("@")[0] for uses, _ in played.uses] == [
        "actions/checkout",
        "actions/setup-python",
        "actions/cache",
        "actions/upload-artifact",
    ]


def test_a_campaign_is_gone_on_with_the_next_night(textbook):
    file = ROOT / "examples" / "ci" / "github-nightly.yml"
    seeds = []
    for _ in range(2):
        played = textbook.job(file, "fuzz", inputs={"seconds": 1})
        assert played.code == 0, played.log.text
        assert "textbook.py" in played.summary
        seeds += re.findall(r"seed (\d+), logged in", played.log.text)
    assert len(seeds) == 2
    assert len(set(seeds)) == 1


def test_shards_are_merged_into_the_run(textbook):
    file = ROOT / "examples" / "ci" / "github-shards.yml"
    (shard, _) = jobs(file)
    numbers = shard["strategy"]["matrix"]["shard"]
    for number in numbers:
        known = {"matrix": {"shard": number}, "strategy": {"job-total": len(numbers)}}
        assert textbook.job(file, "shard", **known).code == 0
    played = textbook.job(file, "merge")
    assert played.code == 0, played.log.text
    assert "300 networks" in played.log.text
    (textbook.workspace / "shard-1.json").unlink()
    assert textbook.job(file, "merge").code == 4


def test_a_finding_in_a_shard_is_told_by_the_merged_run_and_an_error_at_once(textbook):
    file = ROOT / "examples" / "ci" / "github-shards.yml"
    known = {"matrix": {"shard": 1}, "strategy": {"job-total": 4}}
    (textbook.workspace / "textbook.py").write_text("def gradients(*_): return 1\n", "utf-8")
    assert textbook.job(file, "shard", **known).code == 0
    (textbook.workspace / "textbook.py").unlink()
    assert textbook.job(file, "shard", **known).code


def test_the_badge_is_written_into_its_branch(textbook):
    file = ROOT / "examples" / "ci" / "github-badge.yml"
    assert textbook.job(file, "check").code == 0
    textbook.program("gh", GH)
    assert textbook.job(file, "publish", github={"repository": "me/mine", "token": "t"}).code == 0
    *words, content = textbook.told("gh")
    place = "repos/me/mine/contents/badge.json"
    assert words == ["api", "--silent", "--method", "PUT", place, "-f", "branch=badges", "-f", "message=Badge", "-f"]
    badge = json.loads(base64.b64decode(content.removeprefix("content=")))
    assert badge["message"].endswith(" comparisons agree")


def test_what_the_project_asks_of_its_own_action(player):
    (*_, step) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["action"]["steps"]
    green = {"outcome": "success", "outputs": {"verdict": "passed", "findings": "0", "exit-code": "0"}}
    red = {"outcome": "failure", "outputs": {"verdict": "failed", "findings": "1", "exit-code": "1"}}
    assert player.steps([step], {"steps": {"green": green, "red": red}}).code == 0
    assert player.steps([step], {"steps": {"green": green, "red": green}}).code == 1


def test_the_wrong_implementation_of_the_project_is_wrong(player):
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["action"]["steps"]
    (write,) = [step for step in steps if step.get("name") == "Write a wrong implementation"]
    (player.workspace / "examples").symlink_to(ROOT / "examples")
    assert player.steps([write], {}).code == 0
    assert "delta0.mean(axis=0)" in (player.workspace / "wrong.py").read_text("utf-8")
