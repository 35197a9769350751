"""Commands that are told to be run again: they write no file once more, and are of the whole run."""

from __future__ import annotations

import json
import shlex

import click
import pytest

from gradconform.conformance.check_cli import check
from gradconform.conformance.cli import main
from gradconform.conformance.command_words import WRITES, of_all_shards, without_files

ALL = "--json a.json --junit=a.xml --markdown 'a b.md' --html a.html --record a.jsonl --write-manifest a.toml"


def test_what_is_left_out_is_what_check_writes():
    files = [option for option in check.params if isinstance(option.type, click.Path) and option.type.file_okay]
    assert {*WRITES, "--manifest"} == {word for option in files for word in option.opts}


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (f"gradconform check mine.py {ALL} --seed 3", "gradconform check mine.py --seed 3"),
        ("gradconform check --json", "gradconform check"),
        (
            "gradconform check --only json --coverage --manifest m.toml --cases --jsonx",
            "gradconform check --only json --coverage --manifest m.toml --cases --jsonx",
        ),
        (f"gradconform check {ALL} -- ./p '--json' 'a b'", "gradconform check -- ./p --json 'a b'"),
        ("gradconform check 'it", "gradconform check 'it"),
        ("", ""),
    ],
)
def test_a_command_writes_no_file_again(command, left):
    assert without_files(command) == left


def test_the_command_of_a_shard_becomes_that_of_the_run():
    words = "gradconform check mine.py --shard {} --json s.json --shard={} --seed 3"
    assert of_all_shards(words.format("1/2", "2/2")) == "gradconform check mine.py --seed 3"
    assert without_files("gradconform check --shard 1/2") == "gradconform check --shard 1/2"


def test_a_merged_result_tells_the_command_of_the_whole_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def told(*words, place):
        monkeypatch.setattr("sys.argv", ["gradconform", *words])
        with pytest.raises(SystemExit):
            main(list(words))
        return json.loads((tmp_path / place).read_bytes())["command"]

    run = ["check", "reference", "--network", "2 -> Dense(2), MeanSquaredError", "--only", "loss"]
    run += ["--max-examples", "40"]
    shards = [
        told(*run, "--seed", "3", "--shard", f"{number}/2", "--json", f"{number}.json", place=f"{number}.json")
        for number in (1, 2)
    ]
    assert shards == [shlex.join(["gradconform", *run, "--shard", f"{number}/2", "--seed", "3"]) for number in (1, 2)]
    merged = told("report", "merge", "1.json", "2.json", "--json", "m.json", place="m.json")
    assert merged == shlex.join(["gradconform", *run, "--seed", "3"])
