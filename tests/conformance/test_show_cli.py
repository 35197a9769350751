"""`gradconform show`: what is kept, to read and as a script; nothing that a case names is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gradconform.conformance.casefile import Found, finding_from, found_of
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.casefolder import CASES, Keeper
from gradconform.conformance.cli import main
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import Plan, choose_checks, network_strategy
from gradconform.conformance.results import Finding


@pytest.fixture
def command(capsys):
    """Return a function that runs a command in this process: its exit code, its results and its progress."""

    def run(*arguments):
        code = 0
        try:
            main(arguments)
        except SystemExit as left:
            code = left.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def finding(tmp_path, monkeypatch):
    """Return the finding of a run whose cases are kept in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    plan = Plan(
        [Implementation("evil.py:gradients", FAULTS["bias-mean"].make())],
        max_examples=4,
        seed=1,
        networks=network_strategy("2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"),
        dtypes=("float64",),
        checks=choose_checks(["parameters"], []),
        witnesses=False,
        shrink_seconds=0,
    )
    keeper = Keeper(CASES, plan)
    plan.keep = keeper.keep
    (found,) = run(plan).findings
    keeper.complete([found])
    Path("evil.py").write_text("open('ran', 'w')\n", "utf-8")
    return found


def test_a_case_is_shown_with_the_message_of_its_run(command, finding):
    code, out, err = command("show", finding.id)
    assert (code, err) == (0, "")
    assert out.startswith(finding_text(finding) + "\n")
    assert f"case {finding.id}  .gradconform/cases/{finding.id}.json\n" in out
    assert "  0.weight  (2, 2)\n    [[" in out
    assert all(repr(float(number)).removesuffix(".0") in out for number in finding.case["batch"]["inputs"][0])
    assert "  found with seed 1 by gradconform " in out
    assert not Path("ran").exists()


@pytest.mark.parametrize("language", ["numpy", "torch", "jax", "c"])
def test_a_script_is_all_that_is_printed(command, finding, language):
    code, out, err = command("show", f".gradconform/cases/{finding.id}.json", "--as", language)
    assert (code, err) == (0, "")
    assert out.startswith('"""Case ' if language != "c" else "/*\nCase ")
    assert f"{finding.id}: evil.py:gradients   {finding.path} is wrong: " in out
    assert "put your gradients here" in out
    assert not Path("ran").exists()
    if language == "numpy":
        Path("case.py").write_text(out, "utf-8")
        done = subprocess.run([sys.executable, "case.py"], capture_output=True, text=True, check=True, timeout=60)
        assert f"{finding.path}   <- was found wrong\n" in done.stdout
        computed = [float(line.split()[-1]) for line in done.stdout.splitlines() if "expected" in line]
        assert min(abs(number - finding.expected) for number in computed) <= finding.bound


def test_what_is_kept_is_listed(command, finding):
    line = f"{finding.id}  .gradconform/cases/{finding.id}.json  evil.py:gradients   {finding.sentence}\n"
    assert command("show")[1] == line
    Path("gradconform-cases").mkdir()
    pinned = Path("gradconform-cases") / f"{finding.id}.json"
    pinned.write_bytes(Path(finding.file).read_bytes())
    assert command("show")[1].splitlines()[0].startswith(f"{finding.id}  gradconform-cases/{finding.id}.json")
    assert command("show", ".gradconform")[1] == "no cases are kept here\n"


def test_words_that_are_none(command, finding):
    another = Path(finding.file).with_name("another.json")
    another.write_bytes(Path(finding.file).read_bytes())
    assert command("show", "--as", "c") == (4, "", "gradconform: --as c: for one case, by its id or its file\n")
    assert command("show", finding.id, "--as", "fortran")[0] == 4
    assert command("show", "12345678")[0] == 4
    Path("bad.json").write_text("[]", "utf-8")
    assert command("show", "bad.json")[2].startswith("gradconform: bad.json: not a case file")


def test_a_file_says_all_that_a_finding_says(finding):
    own = {"id", "implementation", "dtype", "network", "notation", "rows", "command", "replay", "file", "case"}
    own |= {"keys", "failing"}  # by which the findings of a run's parts are put together
    own |= {"steps"}  # of which a page draws a picture
    assert set(Finding.__struct_fields__) - own == set(Found.__struct_fields__)
    file = read_case(finding.file)
    again = finding_from(file, finding.file, finding.replay)
    assert found_of(again) == found_of(finding)
    assert finding_text(again) == finding_text(finding)
