"""`report annotate` and `report badge` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import gradconform as gc
from gradconform.conformance.cli import cli
from gradconform.errors import InvalidInput

MINE = """
def mine(network, parameters, batch):
    raise RuntimeError("not yet")
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Return a folder with a candidate that raises, below the top of a repository, and the result of its check."""
    folder = tmp_path_factory.mktemp("repository") / "below"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        network = gc.Network(inputs=1, layers=(gc.Dense(1),), loss=gc.MeanSquaredError())
        result = gc.check("mine.py:mine", networks=[network], max_examples=1, seed=1)
    (folder / "result.json").write_bytes(result.to_json())
    return folder


@pytest.fixture
def run(failed, monkeypatch):
    monkeypatch.chdir(failed)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(failed.parent))

    def run(*arguments):
        done = CliRunner().invoke(cli, ["report", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0
        return done.stdout

    return run


def test_annotations_name_files_from_the_top_of_the_repository(run):
    (line,) = run("annotate", "result.json").splitlines()
    assert line.startswith("::error file=below/mine.py,line=3,title=mine.py%3Amine%3A crashed%3A ")


def test_without_a_workspace_they_are_named_from_here(run, monkeypatch):
    monkeypatch.delenv("GITHUB_WORKSPACE")
    assert run("annotate", "result.json").startswith("::error file=mine.py,line=3,")


def test_outputs_are_appended(run, tmp_path):
    outputs = tmp_path / "outputs"
    outputs.write_text("of=another step\n", "utf-8")
    run("annotate", "result.json", "--outputs", str(outputs))
    result = json.loads(Path("result.json").read_bytes())
    comparisons = sum(tally["comparisons"] for tally in result["implementations"])
    assert outputs.read_text("utf-8").splitlines() == [
        "of=another step", "verdict=failed", f"comparisons={comparisons}", "findings=1"
    ]  # fmt: skip


def test_a_badge_in_a_file_and_on_the_terminal(run, tmp_path):
    file = tmp_path / "badge.json"
    assert run("badge", "result.json", "--output", str(file)) == ""
    assert json.loads(file.read_text("utf-8"))["message"] == "1 finding"
    assert json.loads(run("badge", "result.json", "--label", "backprop"))["label"] == "backprop"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["annotate", "none.json"], r"^none\.json: cannot be read: No such file or directory$"),
        (["annotate", "mine.py"], r"^mine\.py: not a result of gradconform: "),
        (["annotate", "result.json", "--outputs", "none/o"], r"^none/o: cannot be written: No such file or directory$"),
        (["badge", "result.json", "--output", "none/badge.json"], r"^none/badge\.json: no such folder$"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, arguments, message):
    with pytest.raises(InvalidInput, match=message):
        run(*arguments)
