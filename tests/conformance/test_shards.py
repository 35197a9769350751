"""Shards at the command line: run apart, put together, and refused where they do not belong together."""

from __future__ import annotations

import json

import pytest

BIAS_MEAN = """
from gradconform.reference.backpropagation import gradients as right

def gradients(network, parameters, batch):
    found = dict(right(network, parameters, batch).parameters)
    found["0.bias"] = found["0.bias"] / batch.rows
    return found
"""
NETWORK = "* -> Dense(*) -> ReLU -> Dense(*), SoftmaxCrossEntropy"


@pytest.fixture
def command(tmp_path, monkeypatch, command_line):
    """Return what runs a command in an empty folder: its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BIAS_MEAN, "utf-8")
    return command_line


def sharded(command, count, *words):
    """Run all shards, and return their files."""
    files = [f"{number}.json" for number in range(1, count + 1)]
    codes = [
        command("check", *words, "--shard", f"{number}/{count}", "--json", file)[0]
        for number, file in enumerate(files, 1)
    ]
    return files, codes


def totals(place):
    """Return all of a result but the seconds and the mark of a part."""
    result = json.loads(place.read_text("utf-8"))
    for name in ("seconds", "part"):
        del result[name]
    result["regimes"] = dict(sorted(result["regimes"].items()))
    return result


def compared(command, folder, *words):
    files, codes = sharded(command, 3, *words)
    code, out, _ = command("report", "merge", *reversed(files), "--json", "merged.json")
    command("check", *words, "--json", "whole.json")
    return codes, code, out, totals(folder / "merged.json"), totals(folder / "whole.json")


def test_shards_of_the_reference_merged_are_the_run_in_one_piece(command, tmp_path):
    words = ["reference", "--seed", 1, "--max-examples", 80, "--network", NETWORK]
    codes, code, out, one, other = compared(command, tmp_path, *words)
    assert (codes, code, one) == ([0, 0, 0], 0, other)
    assert "PASSED  reference agrees within rounding: 80 networks" in out


@pytest.mark.torch
def test_shards_of_torch_merged_are_the_run_in_one_piece(command, tmp_path):
    words = ["torch", "--seed", 1, "--max-examples", 70, "--dtype", "float32", "--only", "parameters"]
    codes, code, _, one, other = compared(command, tmp_path, *words)
    assert (codes, code, one) == ([0, 0, 0], 0, other)


@pytest.mark.torch
def test_shards_of_a_run_with_many_cases_at_once_are_that_run(command, tmp_path):
    words = ["torch", "--seed", 1, "--max-examples", 300, "--dtype", "float64", "--only", "parameters"]
    codes, code, out, one, other = compared(command, tmp_path, *words)
    assert (codes, code, one) == ([0, 0, 0], 0, other)
    assert [tally["name"] for tally in one["implementations"]] == ["torch", "torch.vmap"]
    assert "PASSED  torch and torch.vmap agree with the reference: 300 networks" in out


def test_a_fault_that_every_shard_finds_is_told_once(command, tmp_path):
    words = ["mine.py:gradients", "--seed", 1, "--max-examples", 80, "--network", NETWORK]
    codes, code, out, one, other = compared(command, tmp_path, *words)
    assert (codes, code) == ([1, 1, 1], 1)
    assert out.count("0.bias is wrong") == 1
    assert "likely bias-mean" in out
    assert "again                gradconform replay " in out
    assert (len(one["findings"]), len(other["findings"])) == (1, 1)
    assert one["findings"][0]["failing_cases"] == other["findings"][0]["failing_cases"]
    for name in ("implementations", "regimes", "networks", "structures", "canaries", "verdict"):
        assert one[name] == other[name]


def test_pinned_cases_are_replayed_by_the_first_shard_alone(command, tmp_path):
    quick = ["mine.py:gradients", "--seed", 1, "--max-examples", 40, "--network", NETWORK, "--only", "parameters"]
    command("check", *quick, "--cases", "gradconform-cases")
    files, _ = sharded(command, 2, *quick)
    results = [json.loads((tmp_path / file).read_text("utf-8")) for file in files]
    assert [result["pinned"] and result["pinned"]["cases"] for result in results] == [1, None]


@pytest.fixture
def two(command):
    """Return the files of both shards of a small run."""
    words = ["reference", "--seed", 1, "--max-examples", 40, "--network", NETWORK, "--only", "parameters"]
    return sharded(command, 2, *words)[0]


def error(command, *files):
    code, out, told = command("report", "merge", *files)
    assert (code, out, told.count("\n")) == (4, "", 1)
    return told.removeprefix("gradconform: ").rstrip("\n")


def edited(folder, file, change):
    content = json.loads((folder / file).read_text("utf-8"))
    change(content)
    (folder / "edited.json").write_text(json.dumps(content), "utf-8")
    return "edited.json"


def test_what_is_missing_is_named(command, two):
    assert error(command, two[1]) == "shard 1/2 is missing"


def test_what_is_there_twice_is_named(command, two, tmp_path):
    (tmp_path / "copy.json").write_bytes((tmp_path / two[0]).read_bytes())
    assert error(command, *two, "copy.json") == "1.json and copy.json are both shard 1/2"
    assert error(command, two[0], two[0]) == "1.json is named twice"


def test_what_was_interrupted_is_to_be_run_again(command, two, tmp_path):
    cut = edited(tmp_path, two[1], lambda content: content.update(interrupted=True))
    assert error(command, two[0], cut) == "edited.json: shard 2/2 was interrupted: run it again"


def test_shards_of_other_runs_are_refused(command, two, tmp_path):
    other = edited(tmp_path, two[1], lambda content: content["part"]["run"].update(seed=2))
    said = "1.json and edited.json are not of one run: seed is 1 in one and 2 in the other"
    assert error(command, two[0], other) == said
    more = edited(tmp_path, two[1], lambda content: content["part"].update(shard="2/3"))
    assert error(command, two[0], more) == "1.json is shard 1/2 and edited.json is shard 2/3: not of one split"


@pytest.mark.parametrize(
    ("words", "said"),
    [("draws = 2", "draws is 2 in one and not given in the other"),
     ("required = ['loss']", "required is loss in one and regime layer loss reduction dtype in the other")],
)  # fmt: skip
def test_shards_of_profiles_that_differ_in_anything_are_refused(command, tmp_path, words, said):
    profile = "[tool.gradconform.profiles.{}]\nseed = 1\nmax-examples = 64\n"
    (tmp_path / "pyproject.toml").write_text(f"{profile.format('a')}{words}\n{profile.format('b')}", "utf-8")
    for number, name in ((1, "a"), (2, "b")):
        shard = ["--shard", f"{number}/2", "--json", f"{number}.json"]
        command("check", "reference", "--dtype", "float64", "--profile", name, *shard)
    assert error(command, "1.json", "2.json") == f"1.json and 2.json are not of one run: {said}"


def test_what_is_no_shard_is_refused(command, two, tmp_path):
    whole = edited(tmp_path, two[0], lambda content: content.update(part=None))
    assert error(command, whole) == "edited.json: not a shard: it was written without --shard"
    (tmp_path / "other.json").write_text("{}", "utf-8")
    assert error(command, "other.json").startswith("other.json: not a result of gradconform")
    assert error(command, "absent.json") == "absent.json: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "0/2"], "--shard 0/2: expected its number and how many there are, as in 2/4"),
        (["--shard", "3/2"], "--shard 3/2: expected its number and how many there are, as in 2/4"),
        (["--shard", "one"], "--shard one: expected its number and how many there are, as in 2/4"),
        (["--shard", "1/2"], "--shard needs --seed, the same for all shards, or --profile ci"),
        (
            ["--shard", "1/2", "--seed", "1", "--max-time", "5"],
            "--shard goes without --max-time or a profile that has one: its counts must not depend on the machine",
        ),
        (
            ["--shard", "1/2", "--seed", "1", "--data", "iris.csv"],
            "--shard splits generated networks; with --data each step of the training needs the one before",
        ),
        (
            ["--shard", "1/5", "--seed", "1", "--max-examples", "100"],
            "--shard 1/5: 100 networks are 4 rounds, and no more shards than that: raise --max-examples",
        ),
    ],
)
def test_what_cannot_be_split_is_an_error_of_one_line(command, words, said):
    code, out, told = command("check", "reference", *words)
    assert (code, out, told) == (4, "", f"gradconform: {said}\n")
