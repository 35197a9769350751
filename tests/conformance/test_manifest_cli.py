"""The manifest at the command line: written by a green run, held against later ones, set aside for others."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

CANDIDATE = """
from gradconform.reference.backpropagation import gradients as right

def gradients(network, parameters, batch):
    return right(network, parameters, batch)

def other(network, parameters, batch):
    if type(network.loss).__name__ in {REFUSED}:
        raise NotImplementedError("later")
    return right(network, parameters, batch)

def restless(network, parameters, batch):
    restless.calls += 1
    return {path: value + restless.calls for path, value in right(network, parameters, batch).parameters.items()}

restless.calls = 0

def wrong(network, parameters, batch):
    return {path: 2 * value for path, value in right(network, parameters, batch).parameters.items()}
"""
RUN = ("--profile", "ci", "--max-examples", "8")
TOML = "[tool.gradconform]\nprofile = 'ci'\nmax-examples = 8\nmanifest = 'pin.json'\n"


@pytest.fixture
def command(tmp_path, monkeypatch, command_line):
    """Return what runs a command in a folder with candidates: its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    refusing("set()")

    def run(*words):
        code, out, errors = command_line(*words)
        return code, " ".join(out.split()), errors

    return run


def refusing(losses):
    Path("mine.py").write_text(CANDIDATE.replace("{REFUSED}", losses), "utf-8")


def test_what_a_green_run_pins_the_same_run_keeps_and_its_result_says_so(command):
    code, _, errors = command("check", "mine.py:gradients", *RUN, "--write-manifest", "pin.json")
    assert (code, errors.startswith("gradconform: pinned in pin.json: ")) == (0, True)
    code, out, _ = command("check", "mine.py:gradients", *RUN, "--manifest", "pin.json", "--json", "out.json")
    assert (code, "manifest pin.json: no less was compared than is pinned" in out) == (0, True)
    found = json.loads(Path("out.json").read_bytes())
    assert (found["verdict"], found["manifest"]) == (
        "passed", {"file": "pin.json", "fewer": [], "more": [], "others": ""},
    )  # fmt: skip


def test_less_is_red_and_told_with_the_numbers(command):
    command("check", "reference", "mine.py:other", *RUN, "--write-manifest", "pin.json")
    held = ("check", *RUN, "--manifest", "pin.json")
    code, out, _ = command(*held, "reference", "--json", "out.json")
    assert code == 5
    assert "note: mine.py:other is not compared any more: " in out
    assert "NOT COVERED what was compared agrees, but less was compared than the manifest pins: 8 networks" in out
    found = json.loads(Path("out.json").read_bytes())
    assert found["verdict"] == "not covered"
    assert found["manifest"]["fewer"][0] in found["notes"]
    code, out, _ = command(*held, "reference", "mine.py:other", "--dtype", "float64")
    assert (code, "note: reference float32 is not compared any more: " in out) == (5, True)
    code, out, _ = command(*held, "reference", "mine.py:other", "--exclude", "input")
    assert (code, "note: mine.py:other float64: input is not checked any more: 16 " in out) == (5, True)


@pytest.mark.parametrize("named", ["on the command line", "by the file"])
def test_what_comes_next_after_less_pins_it_anew_with_the_words_of_the_run(command, monkeypatch, named):
    words = ["check", *RUN, "--dtype", "float64", "reference"]
    command(*words, "mine.py:gradients", "--write-manifest", "pin.json")
    if named == "by the file":
        Path("pyproject.toml").write_text(TOML + "targets = ['reference']\ndtype = ['float64']\n", "utf-8")
        words = ["check"]
    else:
        words += ["--manifest", "pin.json"]
    monkeypatch.setattr(sys, "argv", ["gradconform", *words])
    code, _, errors = command(*words)
    (line,) = [line for line in errors.splitlines() if "next: " in line]
    assert (code, line.endswith(" --write-manifest pin.json   # only where less is meant: pins it anew")) == (5, True)
    (_, *anew) = shlex.split(line.partition("next: ")[2], comments=True)
    assert command(*anew)[0] == 0
    code, out, errors = command(*words)
    assert (code, "manifest pin.json: no less" in out, "next: " in errors) == (0, True, False)


def test_what_comes_next_is_not_to_pin_where_that_would_be_refused(command):
    command("check", "mine.py:gradients", *RUN, "--write-manifest", "pin.json")
    code, _, errors = command("check", "mine.py:gradients", *RUN, "--max-time", "1e-9", "--manifest", "pin.json")
    assert (code, "next: " in errors, "next: gradconform check --write" in errors) == (5, True, False)


def test_what_is_refused_from_now_on_is_red(command):
    command("check", "mine.py:other", *RUN, "--write-manifest", "pin.json")
    refusing('{"MeanSquaredError"}')
    code, out, _ = command("check", "mine.py:other", *RUN, "--manifest", "pin.json")
    assert code == 5
    assert " are pinned; not supported: " in out
    assert "note: mine.py:other: nothing could be told any more of " in out


def test_more_is_green_and_says_how_to_pin_it(command):
    command("check", "reference", "--dtype", "float64", *RUN, "--write-manifest", "pin.json")
    code, out, _ = command("check", "reference", *RUN, "--manifest", "pin.json")
    assert code == 0
    assert "note: more was compared than pin.json pins: reference float32 is new: " in out
    assert "--write-manifest pin.json" in out


def test_only_a_run_that_passed_is_pinned(command):
    short = ("--only", "repeatable", "--network", "1 -> Dense(1), MeanSquaredError", "--no-cases")
    code, _, errors = command("check", "mine.py:restless", *RUN, *short, "--write-manifest", "pin.json")
    assert code == 1
    assert "gradconform: pin.json is not written: what is pinned is a run that passed\n" in errors
    code, _, errors = command("check", "mine.py:gradients", *RUN, "--max-time", "1e-9", "--write-manifest", "pin.json")
    assert (code, "is not written" in errors) == (5, True)
    assert not Path("pin.json").exists()


def test_a_finding_goes_before_the_manifest(command):
    command("check", "mine.py:gradients", *RUN, "--write-manifest", "pin.json")
    code, out, _ = command("check", "mine.py:wrong", *RUN, "--manifest", "pin.json", "--no-cases")
    assert (code, "not compared any more" in out) == (1, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seed", "1", "--manifest", "pin.json"], "pin.json: pinned with profile ci, and this run has default: add "
                                                   "--profile ci, or pin anew"),
        (["--profile", "ci", "--seed", "2", "--max-examples", "8", "--manifest", "pin.json"],
         "pin.json: pinned with seed 1, and this run has 2: add --seed 1, or pin anew"),
        (["--manifest", "pin.json"], "--manifest is for networks that are always the same: add --seed, or --profile "
                                     "ci"),
        (["--profile", "nightly", "--seed", "1", "--write-manifest", "x.json"],
         "--write-manifest is for a number of networks that is fixed: add --max-examples, or --profile ci"),
        (["--seed", "1", "--data", "iris.csv", "--manifest", "pin.json"],
         "--manifest is for generated networks: not with --data"),
        (["--profile", "ci", "--shard", "1/2", "--manifest", "pin.json"],
         "--manifest is for a whole run: not with --shard, but with gradconform report merge"),
        (["--profile", "ci", "--manifest", "none.json"],
         "none.json: no such file; write it with --write-manifest"),
        (["--profile", "ci", "--manifest", "x", "--write-manifest", "y"],
         "--manifest or --write-manifest: one of the two"),
        (["--profile", "ci", "--write-manifest", "no/where.json"], "no/where.json: no such folder"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_the_run(command, words, told):
    command("check", "reference", "--only", "loss", *RUN, "--write-manifest", "pin.json")
    assert command("check", "reference", *words) == (4, "", f"gradconform: {told}\n")


def test_a_manifest_of_the_file_is_set_aside_where_something_else_is_asked_for(command, monkeypatch):
    Path("pyproject.toml").write_text(TOML + "targets = ['reference']\nonly = ['loss']\n", "utf-8")
    assert command("check", "--write-manifest", "pin.json")[0] == 0
    code, out, _ = command("check")
    assert (code, "manifest pin.json: no less" in out) == (0, True)
    for words in (["--dtype", "float64"], ["--max-examples", "2"], ["mine.py:gradients"]):
        code, out, errors = command("check", *words)
        assert (code, "manifest" in out) == (0, False)
        assert "gradconform: not held against pin.json, which pins another run\n" in errors
    monkeypatch.setenv("GRADCONFORM_MANIFEST", "pin.json")
    assert command("check", "--dtype", "float64")[0] == 5
    assert command("check", "--max-examples", "2")[0] == 4


@pytest.mark.parametrize(
    "words",
    [
        ["./mine.py:other"],
        ["mine.py:other", "--profile", "ci", "--max-examples", "8", "--seed", "1"],
        ["--only", "input", "--only", "loss", "--dtype", "float64"],
        ["--only", "loss", "--only", "input", "--only", "stateless", "--dtype", "float64"],
    ],
)
def test_the_run_that_was_pinned_is_held_in_whatever_words_it_is_asked_for(command, words):
    """A target on the command line of a recipe takes nothing away."""
    said = "targets = ['mine.py:other']\nonly = ['loss', 'input']\ndtype = ['float64']\n"
    Path("pyproject.toml").write_text(TOML + said, "utf-8")
    assert command("check", "--write-manifest", "pin.json")[0] == 0
    code, out, errors = command("check", *words)
    assert (code, "manifest pin.json: no less" in out, "not held" in errors) == (0, True, False)
    refusing('{"MeanSquaredError"}')
    code, out, _ = command("check", *words)
    assert (code, " are pinned; not supported: " in out) == (5, True)


def test_what_the_file_leaves_open_is_what_the_manifest_pins(command):
    Path("pyproject.toml").write_text("[tool.gradconform]\nmanifest = 'pin.json'\n", "utf-8")
    pinned = ("mine.py:other", *RUN, "--dtype", "float64", "--exclude", "input")
    assert command("check", *pinned, "--write-manifest", "pin.json")[0] == 0
    assert "manifest pin.json: no less" in command("check", *pinned)[1]
    for words in (["--exclude", "loss"], ["--dtype", "float32"], ["reference"], ["--seed", "2"]):
        code, _, errors = command("check", *pinned, *words)
        assert (code, "not held against pin.json" in errors) == (0, True), words


def test_a_program_in_place_of_the_targets_is_another_run_unless_it_was_pinned(command):
    Path("pyproject.toml").write_text(TOML + "targets = ['reference']\nonly = ['loss']\n", "utf-8")
    command("check", "--write-manifest", "pin.json")
    program = ["--", sys.executable, "-m", "gradconform.conformance.serve", "reference"]
    code, _, errors = command("check", *program)
    assert (code, "not held against pin.json" in errors) == (0, True)
    assert command("check", "--write-manifest", "pin.json", *program)[0] == 0
    assert "manifest pin.json: no less" in command("check", *program)[1]


def test_a_file_that_asks_for_less_than_it_did_is_not_green(command):
    Path("pyproject.toml").write_text(TOML + "targets = ['reference']\n", "utf-8")
    command("check", "--write-manifest", "pin.json")
    Path("pyproject.toml").write_text(TOML + "targets = ['reference']\nexclude = ['input']\n", "utf-8")
    assert command("check")[0] == 5
    Path("pyproject.toml").write_text(TOML.replace("8", "4") + "targets = ['reference']\n", "utf-8")
    code, _, errors = command("check")
    assert code == 4
    assert "pinned with max-examples 8, and this run has 4" in errors


def test_shards_are_held_once_they_are_put_together(command):
    network = ("--network", "* -> Dense(*), MeanSquaredError", "--max-examples", "64", "--seed", "1", "--only", "loss")
    command("check", "reference", *network, "--write-manifest", "pin.json")
    for shard in ("1/2", "2/2"):
        command("check", "reference", *network, "--shard", shard, "--json", f"{shard[0]}.json")
    code, out, _ = command("report", "merge", "1.json", "2.json", "--manifest", "pin.json")
    assert (code, "manifest pin.json: no less was compared than is pinned" in out) == (0, True)
    Path("pyproject.toml").write_text("[tool.gradconform]\nmanifest = 'pin.json'\n", "utf-8")
    code, out, _ = command("report", "merge", "1.json", "2.json")
    assert (code, "manifest pin.json: no less was compared than is pinned" in out) == (0, True)
    pinned = json.loads(Path("pin.json").read_bytes())
    pinned["implementations"]["reference"]["float64"]["checks"]["loss"] += 1
    Path("pin.json").write_text(json.dumps(pinned), "utf-8")
    code, out, _ = command("report", "merge", "1.json", "2.json")
    assert (code, "128 comparisons of loss, 129 are pinned" in out) == (5, True)
    assert command("report", "merge", "1.json", "2.json", "--write-manifest", "merged.json")[0] == 0
    assert json.loads(Path("merged.json").read_bytes())["implementations"]["reference"]["float64"]["networks"] == 64
    code, _, errors = command("check", "reference", *network, "--shard", "1/2", "--json", "1.json")
    assert (code, "not held against pin.json" in errors) == (0, True)


def test_shards_of_another_run_than_the_pinned_one(command):
    """From the file it is set aside, unless the file itself has come to ask for that; from the command line refused."""
    words = ("reference", "--dtype", "float64", "--only", "loss", "--max-examples", "33")
    command("check", *words, "--seed", "1", "--write-manifest", "pin.json")
    for shard in ("1/2", "2/2"):
        command("check", *words, "--seed", "2", "--shard", shard, "--json", f"{shard[0]}.json")
    merge = ("report", "merge", "1.json", "2.json")
    other = "pin.json: pinned with seed 1, and these shards have 2: merge those of the pinned run, or pin anew with "
    refused = (4, "", f"gradconform: {other}--write-manifest\n")
    assert command(*merge, "--manifest", "pin.json") == refused
    Path("pyproject.toml").write_text("[tool.gradconform]\nmanifest = 'pin.json'\n", "utf-8")
    code, out, errors = command(*merge)
    assert (code, "manifest" in out) == (0, False)
    assert "gradconform: not held against pin.json, which pins another run\n" in errors
    Path("pyproject.toml").write_text(
        "[tool.gradconform]\nmanifest = 'pin.json'\nmax-examples = 33\nseed = 2\n", "utf-8"
    )
    code, out, errors = command(*merge)
    assert (code, out, errors.endswith(refused[2])) == (4, "", True)
