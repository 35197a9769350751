"""Fuzzing at the command line, and its picture."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from gradconform.conformance import fuzz_screen
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.fuzz_screen import Picture, Screen
from gradconform.conformance.fuzz_targeting import NETWORKS
from gradconform.conformance.plan import LATE, Plan, network_strategy
from gradconform.conformance.results import Result

NETWORK = "* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError"
BIAS_MEAN = """
from gradconform.reference.backpropagation import gradients as right

def gradients(network, parameters, batch):
    found = right(network, parameters, batch).parameters
    return {path: array / batch.rows if path == "0.bias" else array for path, array in found.items()}
"""


@pytest.fixture
def fuzz(tmp_path, monkeypatch, command_line):
    """Return what runs a campaign in an empty folder: its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BIAS_MEAN, "utf-8")
    return partial(command_line, "fuzz")


def units(name):
    lines = Path(".gradconform", "fuzz", name, "rounds.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["unit"]["number"] for line in lines]


def test_a_campaign_is_logged_and_gone_on_with(fuzz):
    words = ["reference", "--network", NETWORK, "--only", "parameters", "--seed", 3, "--workers", 1]
    code, out, told = fuzz(*words, "--max-examples", 2 * NETWORKS, "--json", "one.json", "--junit", "one.xml")
    assert '<testsuite name="reference' in Path("one.xml").read_text("utf-8")
    assert code == 0
    assert f"PASSED  reference agrees within rounding: {2 * NETWORKS} networks" in out
    assert out.splitlines()[-1].endswith(" comparisons a second")
    assert told == "gradconform: seed 3, logged in .gradconform/fuzz/3\n"
    with Path(".gradconform/fuzz/3/rounds.jsonl").open("a") as log:
        log.write('{"unit": {')
    code, out, told = fuzz("--resume", "--max-examples", 4 * NETWORKS - 3, "--workers", 1, "--json", "two.json")
    assert code == 0
    assert "the last line of the log was cut off, and is left out" in told
    assert "2 rounds are in .gradconform/fuzz/3: going on after them" in told
    first, both = (Result.from_json(Path(name).read_bytes()) for name in ("one.json", "two.json"))
    assert (first.networks, both.networks) == (2 * NETWORKS, 4 * NETWORKS - 3)
    assert both.implementations[0].comparisons > first.implementations[0].comparisons
    assert units("3") == [LATE, LATE + 1, LATE + 2, LATE + 3]
    assert both.part.rounds == [LATE, LATE + 1, LATE + 2, LATE + 3]


def test_a_fault_is_found_once_kept_and_known_from_then_on(fuzz, tmp_path):
    words = ["mine.py:gradients", "--network", NETWORK, "--only", "parameters", "--seed", 1, "--workers", 1]
    code, out, told = fuzz(*words, "--max-examples", 3 * NETWORKS, "--json", "one.json")
    assert code == 1
    assert out.count("FAILED  mine.py:gradients   0.bias is wrong") == 1
    assert "likely bias-mean" in out
    assert told.count("0.bias is wrong") == 1
    (finding,) = Result.from_json(Path("one.json").read_bytes()).findings
    assert (finding.file, finding.replay) == (
        f".gradconform/cases/{finding.id}.json",
        f"gradconform replay {finding.id}",
    )
    assert Path(finding.file).exists()
    lines = Path(".gradconform/fuzz/1/rounds.jsonl").read_text("utf-8").splitlines()
    assert ["known" in json.loads(line)["unit"] for line in lines] == [False, True, True]
    assert finding.failing_cases > 32
    code, out, _ = fuzz("--resume", "--max-examples", 1, "--workers", 1)
    assert code == 1
    assert f"again                gradconform replay {finding.id}" in out


def test_no_case_is_written_where_none_is_wanted(fuzz):
    words = ["mine.py:gradients", "--network", NETWORK, "--only", "parameters", "--seed", 1, "--workers", 1]
    code, out, _ = fuzz(*words, "--max-examples", 32, "--no-cases")
    assert code == 1
    assert "again                gradconform check mine.py:gradients" in out
    assert not Path(".gradconform/cases").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope", "--workers", "1"], "target 'nope': expected "),
        (["reference", "--dtype", "float8"], "dtype 'float8' is not supported"),
        (["reference", "--only", "nope"], "check 'nope' is unknown"),
        (["reference", "--network", "nope"], "'nope'"),
        (["--resume"], ".gradconform/fuzz: no campaign to resume"),
        (["--resume", "--seed", "3"], "--resume goes on with what the campaign began with: leave out --seed"),
        (["--resume", "torch"], "--resume goes on with what the campaign began with: leave out a TARGET"),
        (["--name", "../x"], "--name ../x: expected the name of a folder"),
        (["--workers", "2", "--dask", "x"], "--workers or --dask: the cluster has its own"),
        (["reference", "--json", "nowhere/x.json"], "nowhere/x.json: no such folder"),
    ],
)
def test_a_wrong_word_is_an_error_of_one_line(fuzz, words, said):
    code, out, told = fuzz(*words)
    assert (code, out) == (4, "")
    assert said in told.splitlines()[-1]


@pytest.fixture(scope="module")
def result():
    plan = Plan(
        [FAULTS["bias-mean"].implementation()],
        8,
        seed=2,
        witnesses=False,
        networks=network_strategy(NETWORK),
        dtypes=["float64"],
        shrink_seconds=0,
    )
    return run(plan)


def picture(result):
    return Picture(result, left=3725.0, rate=1234.5, pairs=(61, 300), workers=2, running="2 close, rare")


def test_the_line_says_how_far_it_is(result):
    line = picture(result).line
    assert line.startswith("1:02:05 left  8 networks  ")
    assert "  1,234/s  8/20 regimes  61/300 pairs  worst " in line
    assert line.endswith("  (bias-mean float64)  1 finding") or line.endswith("(bias-mean float64)  1 finding")
    assert (
        Picture(None, 5, 0, (0, 0), 1, "").line == "0:05 left  0 networks  0 comparisons  0/s  0/20 regimes  0 findings"
    )


@pytest.mark.parametrize("width", [40, 100])
def test_on_a_terminal_the_picture_is_as_wide_as_that(result, width, monkeypatch):
    shown = io.StringIO()

    def console(**options):
        return Console(file=shown, force_terminal=True, force_interactive=True, width=width, height=40, **options)

    monkeypatch.setattr(fuzz_screen, "Console", lambda **options: console(highlight=False, no_color=True))
    with Screen() as screen:
        screen.show(picture(result))
        screen.tell("a line that stays")
    text = shown.getvalue()
    assert "1:02:05 left" in text
    assert "bias-mean" in text
    assert "float64" in text
    assert "a line that stays" in text
    plain = Console(file=io.StringIO(), width=width, force_terminal=False, no_color=True)
    plain.print(picture(result).table())
    assert max(map(len, plain.file.getvalue().splitlines())) <= width


def test_without_a_terminal_it_is_a_line_now_and_then(result, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(fuzz_screen.time, "monotonic", lambda: clock[0])
    with Screen() as screen:
        assert not screen.due
        clock[0] = 11.0
        assert screen.due
        screen.show(picture(result))
        assert not screen.due
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"gradconform: {picture(result).line}\n"
