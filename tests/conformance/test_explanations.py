"""Every word that gradconform says is explained, no other is, and the command finds it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from msgspec import structs

from gradconform.conformance import explanations_checks
from gradconform.conformance.casefile import encode
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.cli import cli, main
from gradconform.conformance.compare import Kind
from gradconform.conformance.completing import DTYPES
from gradconform.conformance.engine import run
from gradconform.conformance.explained_programs import PROGRAMS
from gradconform.conformance.explanations import (
    every,
    explained,
    frameworks_of,
    markdown_of,
    program_of,
    tell_next,
    text_of,
)
from gradconform.conformance.implementations import resolve
from gradconform.conformance.keeping import run_kept
from gradconform.conformance.operation_checks import CHECKS as OPERATION_CHECKS
from gradconform.conformance.plan import Plan
from gradconform.conformance.results import Verdict
from gradconform.errors import InvalidInput

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"
OUTCOMES = {"PASS", "KINK", "RANGE", "VACUOUS", "UNSUPPORTED", "UNEXPECTED PASS", "HEALED"}
"""The words of elements, of networks that are not compared, and of replays."""
HOSTILE = "<b>\x1b[31m::error::\n" + "x" * 1_000_000


def words(kind):
    return {name for name, entry in every().items() if entry.kind == kind}


def test_every_symptom_is_explained_and_no_other():
    # tests/conformance/test_mistakes.py holds that the page has them all
    page = PAGE.read_text("utf-8").partition("## All symptoms")[2]
    assert words("symptom") == set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.M))


def test_every_verdict_is_explained_and_no_other():
    of_arrays = {kind.name for kind in Kind} | OUTCOMES
    assert words("verdict") == of_arrays | {verdict.upper() for verdict in get_args(Verdict)}


def test_every_check_is_explained_and_no_other():
    assert words("check") == {*CHECKS, *OPERATION_CHECKS, "call"}
    layers = {name for name, entry in every().items() if entry.family == explanations_checks.LAYERS}
    assert layers == set(OPERATION_CHECKS)


@pytest.mark.parametrize("name", every())
def test_an_explanation_is_whole(name):
    entry = every()[name]
    for text in (entry.meaning, entry.why, entry.see, entry.alike):
        assert re.fullmatch(r"[^\n]+[^ ,]", text), text
        assert "  " not in text
    assert entry.next.split()[0] in {"gradconform", "pytest"}
    assert (entry.kind == "symptom") == bool(entry.lines) == (entry.program in PROGRAMS)
    assert not entry.lines or "numpy" in entry.lines


def test_most_lines_are_there_in_all_frameworks():
    counted = [len(entry.lines) for entry in every().values() if entry.lines]
    assert counted.count(3) > 0.9 * len(counted)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_a_text_is_as_wide_as_the_output_and_its_commands_are_whole(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    for name, entry in every().items():
        text = text_of(name)
        code = {line for _, right, wrong in frameworks_of(entry) for line in (right + "\n" + wrong).splitlines()}
        for line in text.splitlines():
            whole = line.strip().removeprefix("right ").removeprefix("not ").strip()
            assert (
                len(line) <= width or whole in {c.strip() for c in code} or whole.startswith(("gradconform", "pytest"))
            )
        assert entry.next in text


def test_markdown_has_the_lines_and_the_command():
    page = markdown_of("bias-mean")
    assert page.startswith("# bias-mean\n")
    assert "```python\ndb = delta.mean(axis=0)\n```" in page
    assert "```python\ndb = delta.mean(dim=0)\n```" in page
    assert "gradconform explain bias-mean --as numpy" in page


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("bias-mean", "bias-mean"),
        ("BIAS-MEAN", "bias-mean"),
        ("nonfinite", "NONFINITE"),
        ("not-covered", "NOT COVERED"),
    ],
)
def test_a_word_is_found_in_any_spelling(word, entry):
    assert explained(word).id == entry


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("bias-maen", "nothing is known of 'bias-maen'; did you mean bias-mean or "),
        ("cotangent", "did you mean cotangent-squared or cotangent-absolute or cotangent-mean?"),
        ("zzzz", "nothing is known of 'zzzz'; its words are listed by gradconform explain"),
        ("", "nothing is known of ''; its words are listed by gradconform explain"),
    ],
)
def test_an_unknown_word_gets_the_nearest(word, said):
    with pytest.raises(InvalidInput, match=re.escape(said)):
        explained(word)


def test_a_hostile_word_is_one_short_line(capsys):
    with pytest.raises(SystemExit) as left:
        main(["explain", HOSTILE])
    said = capsys.readouterr()
    assert (left.value.code, said.out) == (4, "")
    (line,) = said.err.splitlines()
    assert len(line) < 200
    assert "\\x1b[31m" in line
    assert "\x1b" not in line


def test_the_table_has_every_word():
    done = CliRunner().invoke(cli, ["explain"])
    assert done.exit_code == 0
    assert all(re.search(rf"^  {re.escape(name)}( |$)", done.output, re.M) for name in every())


@pytest.mark.parametrize(
    "arguments",
    [["--as", "numpy"], ["bias-mean", "--right"], ["WRONG", "--as", "numpy"], ["not-summed", "--as", "torch"]],
)
def test_a_program_that_there_is_not(arguments):
    with pytest.raises(SystemExit) as left:
        main(["explain", *arguments])
    assert left.value.code == 4


def test_a_program_begins_with_what_is_wrong_in_it():
    assert program_of("bias-mean", "numpy", wrong=True).startswith("# bias-mean. The gradients of the biases")
    assert "delta.sum(axis=0)" in program_of("bias-mean", "numpy", wrong=False)


@pytest.fixture(scope="module")
def kept_case(tmp_path_factory):
    """The folder of a run with one finding, and the place of its case in it."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        return folder, _found_in_here()


def _found_in_here():
    """Run a program with one mistake in the current folder, and return the case that is kept."""
    Path("wrong.py").write_text(program_of("bias-mean", "numpy", wrong=True), "utf-8")
    plan = Plan([resolve("wrong.py")], max_examples=4, seed=1, witnesses=False, max_findings=1, shrink_seconds=0)
    run_kept(plan, run, cases=".gradconform/cases", pins=None, program=())
    (case,) = Path(".gradconform/cases").glob("*.json")
    return case


def test_a_finding_is_explained_by_its_id_and_by_its_file(kept_case, monkeypatch):
    folder, case = kept_case
    monkeypatch.chdir(folder)
    by_id, by_file = (CliRunner().invoke(cli, ["explain", word]).output for word in (case.stem, str(case)))
    assert by_file == by_id.replace(f" {case.stem}", f" {case}")
    first, _, rest = by_id.partition("\n")
    assert first.startswith("FAILED  wrong.py   ")
    assert first.endswith("likely bias-mean")
    assert rest.startswith("\nbias-mean   Whole gradients\n")
    assert f"gradconform show {case.stem} --as numpy" in rest


@pytest.mark.parametrize("options", [["--as", "torch"], ["--as", "numpy", "--right"]])
def test_the_program_of_a_finding_is_that_of_its_symptom(kept_case, monkeypatch, options):
    folder, case = kept_case
    monkeypatch.chdir(folder)
    expected = program_of("bias-mean", options[1], wrong="--right" not in options)
    for word in (case.stem, str(case)):
        assert CliRunner().invoke(cli, ["explain", word, *options]).output == expected


@pytest.mark.parametrize(
    ("symptom", "said"),
    [
        ("", "WRONG in PyTorch: there is no program: it is no mistake with a line of its own"),
        (
            "bias-mean + not-summed",
            "the finding names bias-mean and not-summed: gradconform explain bias-mean --as torch",
        ),
    ],
)
def test_the_program_of_a_finding_without_one_symptom(kept_case, monkeypatch, tmp_path, symptom, said):
    folder, case = kept_case
    monkeypatch.chdir(tmp_path)
    file = read_case(folder / case)
    Path("other.json").write_bytes(encode(replace(file, found=structs.replace(file.found, symptom=symptom))))
    with pytest.raises(InvalidInput) as error:
        cli.main(["explain", "other.json", "--as", "torch"], standalone_mode=False)
    assert str(error.value) == said


def test_a_folder_is_no_finding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.json").mkdir()
    with pytest.raises(InvalidInput, match=r"folder\.json: one finding is explained, by its id or its file"):
        cli.main(["explain", "folder.json"], standalone_mode=False)


def test_an_id_of_which_there_is_no_case(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["explain", "5412b217"])
    assert "no case 5412b217" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "terminal", "said"),
    [
        ("passed", True, "gradconform: next: gradconform check --profile ci   # the look of CI\n"),
        ("passed", False, ""),
        ("failed", True, ""),
        (
            "nothing compared",
            False,
            "gradconform: next: gradconform doctor   # what is installed, and what is missing\n",
        ),
    ],
)
def test_what_comes_next_is_told_to_whom_it_concerns(verdict, terminal, said, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    tell_next(verdict)
    assert capsys.readouterr() == ("", said)


def test_explaining_imports_no_numpy():
    program = "import sys; from gradconform.conformance import explanations as e; e.every(); e.text_of('bias-mean'); "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}print('numpy' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n", done.stderr


def test_the_types_that_are_completed_are_those_of_the_language():
    from gradconform.dtypes import dtype_of

    assert [dtype_of(name).name for name in DTYPES] == list(DTYPES)
