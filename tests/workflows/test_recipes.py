"""The recipes of docs/ci.md: they are the files that are played, and the others run too."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from gradconform.conformance.results import EXIT_CODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
YAML = [text for language, text in BLOCKS if language == "yaml"]
TEXTBOOK = (ROOT / "examples" / "textbook.py").read_text("utf-8")
WRONG = "def gradients(network, parameters, batch):\n    raise RuntimeError('not yet')\n"
MAIN = ROOT / "examples" / "ci" / "gitlab.yml"


def jobs_of_gitlab():
    (shards,) = [text for text in YAML if text.startswith("gradients-shards:")]
    jobs = yaml.safe_load(MAIN.read_text("utf-8")) | yaml.safe_load(shards)
    return {name: {**jobs.get(job.get("extends"), {}), **job} for name, job in jobs.items()}


@pytest.fixture
def run(player):
    """Return a function that runs command lines as one script in a workspace with textbook.py; it gives the code."""
    (player.workspace / "textbook.py").write_text(TEXTBOOK, "utf-8")

    def run(lines, **environment):
        variables = {**player.environment, "CI_PROJECT_DIR": str(player.workspace)}
        for name, value in environment.items():
            variables[name] = re.sub(r"\$(\w+)", lambda found: variables[found[1]], value)
        script = "set -e\n" + "\n".join(lines)
        done = subprocess.run(["bash", "-c", script], cwd=player.workspace, env=variables, check=False, timeout=240)
        return done.returncode

    return run


def test_what_is_shown_is_what_init_writes():
    for name in ("github.yml", "gitlab.yml"):
        assert (ROOT / "examples" / "ci" / name).read_text("utf-8") in YAML


def test_the_action_is_used_as_it_is():
    (used,) = [text for text in YAML if "OWNER/gradconform@COMMIT" in text]
    (step,) = yaml.safe_load(used)
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    assert step["with"].keys() <= action["inputs"].keys()
    table = PAGE[PAGE.index("| input | is |") : PAGE.index("Outputs:")]
    rows = (line.split("|")[1] for line in table.splitlines()[2:] if line)
    told = re.findall(r"`([a-z-]+)`", "".join(rows))
    assert sorted(told) == sorted(action["inputs"])
    assert all(f"`{name}`" in PAGE for name in action["outputs"])


@pytest.mark.parametrize(("source", "code"), [(TEXTBOOK, 0), (WRONG, 1)], ids=["green", "red"])
def test_gitlab_on_a_change(run, player, source, code):
    (player.workspace / "textbook.py").write_text(source, "utf-8")
    job = jobs_of_gitlab()["gradients"]
    assert run([*job["before_script"], *job["script"]], **job["variables"]) == code
    failed = ElementTree.parse(player.workspace / job["artifacts"]["reports"]["junit"]).findall(".//failure")
    assert bool(failed) == bool(code)
    assert (player.workspace / "report" / "report.html").exists()


@pytest.fixture
def pinned(run, player):
    """Return a workspace where the commands of the page have pinned a manifest."""
    section = PAGE[PAGE.index("## Nothing may shrink") : PAGE.index("## GitHub")]
    (lines, table) = (text for _, text in re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    assert run(lines.splitlines()) == 0
    (player.workspace / "pyproject.toml").write_text(table, "utf-8")
    return player.workspace


def test_what_shrinks_is_red(run, pinned):
    job = jobs_of_gitlab()["gradients"]
    held = [*job["before_script"], *job["script"]]
    assert run(held, **job["variables"]) == 0
    assert json.loads((pinned / "report" / "result.json").read_bytes())["manifest"]["fewer"] == []
    (pinned / "textbook.py").write_text(f"{TEXTBOOK}\ngradients.dtypes = ['float32']\n", "utf-8")
    assert run(held, **job["variables"]) == 5
    (line,) = json.loads((pinned / "report" / "result.json").read_bytes())["manifest"]["fewer"]
    assert line.startswith("textbook.py float64 is not compared any more: ")


def test_what_shrinks_is_red_once_the_shards_are_merged(run, pinned):
    jobs = jobs_of_gitlab()
    shard, whole = jobs["gradients-shards"], jobs["gradients-merged"]
    (pinned / "textbook.py").write_text(f"{TEXTBOOK}\ngradients.dtypes = ['float32']\n", "utf-8")
    for number in range(1, shard["parallel"] + 1):
        nodes = {"CI_NODE_INDEX": str(number), "CI_NODE_TOTAL": str(shard["parallel"])}
        assert run([*shard["before_script"], *shard["script"]], **nodes) in {0, 5}
    assert run([*whole["before_script"], *whole["script"]]) == 5


def test_gitlab_at_night(run, player):
    job = jobs_of_gitlab()["gradients-nightly"]
    assert job["variables"] == {"SECONDS_TO_LOOK": "3600"}
    assert run([*job["before_script"], *job["script"]], SECONDS_TO_LOOK="1") == 0
    assert (player.workspace / "report" / "junit.xml").exists()


def test_gitlab_in_shards(run, player):
    jobs = jobs_of_gitlab()
    shard, whole = jobs["gradients-shards"], jobs["gradients-merged"]
    nodes = {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": str(shard["parallel"])}
    assert run([*shard["before_script"], *shard["script"]], **nodes) in {0, *shard["allow_failure"]["exit_codes"]}
    assert json.loads((player.workspace / "report" / "1.json").read_bytes())["part"]["shard"] == "1/4"
    assert run([*whole["before_script"], *whole["script"]]) == 4  # the others are missing


def test_tox(run, player):
    tox = configparser.ConfigParser()
    tox.read_string(next(text for language, text in BLOCKS if language == "ini"))
    assert run([tox["testenv:gradients"]["commands"].replace("{env_dir}{/}", "")]) == 0
    assert (player.workspace / "junit.xml").exists()


def test_pre_commit(run):
    (used,) = [text for text in YAML if text.startswith("repos:")]
    (hook,) = yaml.safe_load(used)["repos"][0]["hooks"]
    (offered,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert hook["id"] == offered["id"]
    assert re.search(hook["files"], "textbook.py")
    assert run([shlex.join([*shlex.split(offered["entry"]), *hook["args"]])]) == 0


def test_the_badge_is_shown_as_it_is(run, player):
    (lines,) = [text for language, text in BLOCKS if language == "sh" and "report badge" in text]
    (shown,) = [text for language, text in BLOCKS if language == "json"]
    assert run(lines.splitlines()) == 0
    written = (player.workspace / "badge.json").read_text("utf-8")
    counts = re.compile(r"[\d,]+(?= comparisons)")
    assert counts.sub("#", written) == counts.sub("#", shown)


def test_the_codes_are_all_told():
    codes = re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5"]
    assert set(map(int, codes)) == {*EXIT_CODES.values(), 4}


def test_all_workflows_are_linted():
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    named = {line.replace("{/}", "/") for line in tox["files"]["workflows"].split()}
    files = [*(ROOT / ".github" / "workflows").glob("*"), *(ROOT / "examples" / "ci").glob("github*")]
    assert named == {file.relative_to(ROOT).as_posix() for file in files}
