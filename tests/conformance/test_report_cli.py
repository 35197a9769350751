"""Reports at the command line: of a run that was killed, of the last one, and all at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gradconform.conformance.explanations import explained
from gradconform.conformance.results import Result
from gradconform.conformance.run_record import Header, Line
from gradconform.conformance.run_record_reading import CUT_OFF

PROGRAM = [sys.executable, "-c", "from gradconform.conformance.cli import program; program()"]
IRIS = Path(__file__).parents[2] / "examples" / "iris.csv"
LAST = ".gradconform/last-run.jsonl"
NO_RECORD = (
    f"{LAST}: there is no record of a last run in this folder, as after --no-cases: name a file of --record or --json"
)
NETWORK = "4 -> Dense(3) -> Tanh -> Dense(3), SoftmaxCrossEntropy"

# killed from inside, so that the test neither sleeps nor guesses when something has been counted
KILLED = """
import os, pathlib, signal
from gradconform.reference.backpropagation import gradients as right

def counted():
    lines = pathlib.Path(os.environ["RECORD"]).read_bytes().splitlines()
    return sum(b'"networks":' in line and b'"networks":0' not in line for line in lines)

def end():
    if counted() >= int(os.environ["LINES"]):
        # the process that watches, if there is one, and this one: nobody is left to tidy up
        os.killpg(0, getattr(signal, os.environ["SIGNAL"]))

def fine(network, parameters, batch):
    end()
    return right(network, parameters, batch)

def wrong(network, parameters, batch):
    end()
    found = dict(right(network, parameters, batch).parameters)
    return {path: array / batch.rows if path.endswith("bias") else array for path, array in found.items()}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(KILLED, "utf-8")
    return tmp_path


@pytest.fixture
def command(folder, command_line):
    """Return what runs a command in a folder with candidates: its exit code, output and errors."""
    return command_line


def killed(folder, *words, sent="SIGKILL", record=LAST, lines=1):
    """Run a check that is ended by a signal as soon as so many lines of its record have counts."""
    more = {"RECORD": record, "SIGNAL": sent, "LINES": str(lines)}
    return subprocess.run(
        [*PROGRAM, "check", *map(str, words), "--max-examples", "1000000", "--seed", "1"],
        cwd=folder,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,
    )


def reports(command, *words):
    """Render all reports; return the exit code, what was printed, and the reports as they are read."""
    files = ["--json", "r.json", "--junit", "r.xml", "--markdown", "r.md"]
    code, out, err = command("report", "render", *words, *files)
    assert err == ""
    result = Result.from_json(Path("r.json").read_bytes())
    return code, out, result, ET.parse("r.xml").getroot(), Path("r.md").read_text("utf-8")


@pytest.mark.parametrize(
    "words",
    [
        ["mine.py:fine", "--network", NETWORK],
        ["mine.py:fine", "--data", IRIS, "--steps", "1000000"],
    ],
    ids=["generated", "data"],
)
def test_a_run_that_is_killed_leaves_a_record_of_which_every_report_is_made(command, folder, words):
    done = killed(folder, *words)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    code, out, result, junit, markdown = reports(command)
    assert code == 2
    assert f"note: {CUT_OFF}\nINTERRUPTED  what was compared so far agrees: {result.networks:,} networks" in out
    assert (result.verdict, result.notes[-1]) == ("interrupted", CUT_OFF)
    assert result.networks > 1
    assert result.implementations[0].comparisons > 1
    (error,) = junit.iter("error")
    assert error.get("type") == "interrupted"
    assert len(junit.findall("testsuite[@name='mine.py:fine float64']/testcase")) > 10
    assert markdown.startswith("## ⚠️ gradconform: INTERRUPTED\n")
    assert "- the run ended before its time" in markdown


def test_a_finding_of_a_run_that_is_killed_is_in_every_report(command, folder):
    words = ["mine.py:wrong", "--network", NETWORK, "--shard", "1/2", "--record", "run.jsonl"]
    done = killed(folder, *words, record="run.jsonl")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    code, out, result, junit, markdown = reports(command, "run.jsonl")
    assert code == 1
    assert re.match(r"FAILED  mine\.py:wrong   \d\.bias is wrong: ", out)
    assert f"note: {CUT_OFF}\n" in out
    (finding,) = result.findings
    assert finding.symptom == "bias-mean"
    assert Path(finding.file).exists()
    assert f"again                gradconform replay {finding.id}\n" in out
    assert junit.find("testsuite/testcase[@name='parameters']/failure").text in out
    assert "❌ 1" in markdown
    code, _, err = command("report", "merge", "run.jsonl")
    assert (code, err) == (4, "gradconform: run.jsonl: shard 1/2 was interrupted: run it again\n")


def test_a_run_that_is_ended_by_ctrl_c_has_an_end(command, folder):
    done = killed(folder, "mine.py:fine", "--network", NETWORK, sent="SIGINT")
    assert done.returncode == 2, done.stderr
    code, out, result, _, _ = reports(command)
    assert (code, out) == (2, done.stdout)
    assert CUT_OFF not in result.notes


@pytest.mark.parametrize("sent", ["SIGTERM", "SIGHUP"])
def test_what_is_explained_of_a_run_that_is_ended_by_another_signal_is_so(command, folder, sent):
    entry = explained("INTERRUPTED")
    assert sent in entry.why
    assert "gradconform report render" in entry.why
    assert " TARGET " in entry.next
    done = killed(folder, "mine.py:fine", "--network", NETWORK, sent=sent)
    assert (done.returncode, done.stdout) == (128 + signal.Signals[sent], "")
    code, out, _ = command("report", "render")
    assert (code, out.splitlines()[-1].startswith("INTERRUPTED  ")) == (2, True)


def test_reports_of_a_run_are_those_that_are_made_later(command):
    words = ["reference", "--network", NETWORK, "--max-examples", "4", "--seed", "1", "--dtype", "float64"]
    code, out, _ = command("check", *words, "--json", "a.json", "--junit", "a.xml", "--markdown", "a.md")
    assert code == 0
    for source in ([], ["a.json"]):
        assert command("report", "render", *source, "--json", "b.json", "--junit", "b.xml", "--markdown", "b.md") == (
            0,
            out,
            "",
        )
        for kind in ("json", "xml", "md"):
            assert Path(f"a.{kind}").read_bytes() == Path(f"b.{kind}").read_bytes()
    assert "coverage of reference" in command("report", "render", "--coverage")[1]


def test_the_last_run_is_rendered_and_never_an_older_one(command):
    words = ["check", "reference", "--network", NETWORK, "--max-examples", "1", "--seed"]
    nothing = (4, "", f"gradconform: {NO_RECORD}\n")
    command(*words, 1)
    assert "seed 1, " in command("report", "render")[1]
    command(*words, 2, "--no-cases")
    assert command("report", "render") == nothing
    command(*words, 3)
    assert json.loads(Path(LAST).read_bytes().splitlines()[0])["seed"] == 3
    command(*words, 4, "--record", "x.jsonl")
    assert "seed 4, " in command("report", "render")[1]
    command(*words, 5, "--record", LAST)
    assert "seed 5, " in command("report", "render")[1]
    command(*words, 6, "--record", "x.jsonl", "--no-cases")
    assert command("report", "render") == nothing


def test_a_check_that_does_not_begin_leaves_no_older_record(command):
    command("check", "reference", "--network", NETWORK, "--max-examples", "1")
    assert command("check", "absent.py")[0] == 4
    assert command("report", "render") == (4, "", f"gradconform: {NO_RECORD}\n")


def test_the_record_of_the_last_run_that_is_elsewhere_may_be_gone_or_unreadable(command):
    command("check", "reference", "--network", NETWORK, "--max-examples", "1", "--record", "x.jsonl")
    Path("x.jsonl").unlink()
    assert command("report", "render")[2] == "gradconform: x.jsonl: cannot be read: No such file or directory\n"
    for text in ("{}", "[" * 100_000, '{"last_run": 3}', '{"last_run": "\\u0000"}'):
        Path(LAST).write_text(text, "utf-8")
        code, out, err = command("report", "render")
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert err.startswith("gradconform: ")


def test_a_record_of_the_last_run_that_cannot_be_removed_is_told(command):
    Path(LAST).mkdir(parents=True)
    code, _, err = command("check", "reference", "--network", NETWORK, "--max-examples", "1", "--no-cases")
    assert code == 0
    assert err.startswith(f"gradconform: {LAST}: cannot be removed: ")
    assert err.endswith(": gradconform report render shows an older run\n")


def test_a_folder_that_cannot_be_written_is_told_and_the_run_goes_on(command):
    Path(".gradconform").write_text("", "utf-8")
    code, out, err = command("check", "reference", "--network", NETWORK, "--max-examples", "1")
    assert (code, out.splitlines()[-1].startswith("PASSED  ")) == (0, True)
    said = "no record of this run is kept: .gradconform/last-run.jsonl: cannot be written: File exists"
    assert err == f"gradconform: {said}\n"


def test_shards_may_be_merged_from_their_records(command):
    words = ["check", "reference", "--network", NETWORK, "--max-examples", "40", "--seed", "1", "--only", "loss"]
    for number in (1, 2):
        command(*words, "--shard", f"{number}/2", "--record", f"{number}.jsonl")
    code, out, _ = command("report", "merge", "1.jsonl", "2.jsonl", "--junit", "r.xml")
    assert (code, "40 networks" in out.splitlines()[-1]) == (0, True)
    assert ET.parse("r.xml").getroot().get("failures") == "0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], NO_RECORD),
        (["absent.jsonl"], "absent.jsonl: cannot be read: No such file or directory"),
        (["mine.py"], "mine.py: not a result of gradconform: "),
        (["broken.jsonl"], "broken.jsonl:1: cannot be read: "),
        (["mine.py", "--junit", "no/where.xml"], "no/where.xml: no such folder"),
        (
            ["mine.py", "--junit", "one", "--markdown", "one"],
            "one: --junit and --markdown cannot be written into one file",
        ),
    ],
)
def test_what_cannot_be_rendered_is_an_error_of_one_line(command, words, said):
    Path("broken.jsonl").write_text('{"record":1}\n', "utf-8")
    code, out, err = command("report", "render", *words)
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith(f"gradconform: {said}")


@pytest.mark.parametrize("option", ["--record", "--junit", "--markdown", "--html"])
def test_a_file_without_a_folder_is_told_before_the_run(command, option):
    code, out, err = command("check", "reference", option, "no/where")
    assert (code, out, err) == (4, "", "gradconform: no/where: no such folder\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--record", "one", "--json", "one"], "one: --json and --record"),
        (["--record", "one", "--json", "./one"], "./one: --json and --record"),
        (["--markdown", "sub/../one", "--html", "one", "--junit", "other"], "sub/../one: --markdown and --html"),
        (["--markdown", "link", "--html", "one"], "link: --markdown and --html"),
        (["--json", "one", "--write-manifest", "./one"], "one: --json and --write-manifest"),
    ],
)
def test_what_is_written_goes_into_files_of_their_own(command, folder, words, said):
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("one")
    code, out, err = command("check", "reference", "--profile", "ci", *words)
    assert (code, out, err) == (4, "", f"gradconform: {said} cannot be written into one file\n")
    assert not Path("one").exists()


def test_merged_shards_are_not_pinned_in_the_file_of_a_report(command):
    code, out, err = command("report", "merge", "1.json", "--json", "one", "--write-manifest", "./one")
    said = "one: --json and --write-manifest cannot be written into one file"
    assert (code, out, err) == (4, "", f"gradconform: {said}\n")


def test_the_page_names_every_field_of_the_result_and_of_the_first_line_of_a_record():
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text("utf-8")
    fields = [*Result.__struct_fields__, *Header.__struct_fields__, *Line.__struct_fields__]
    assert [name for name in fields if f"`{name}`" not in page] == []


def test_the_other_reports_are_written_where_one_cannot_be(command, folder):
    command("check", "reference", "--network", NETWORK, "--max-examples", "1")
    (folder / "taken").mkdir()
    code, _, err = command("report", "render", "--junit", "r.xml", "--json", Path("/dev/full"), "--markdown", "r.md")
    if Path("/dev/full").exists():
        assert (code, err) == (4, "gradconform: /dev/full: cannot be written: No space left on device\n")
    assert Path("r.xml").exists()
    assert Path("r.md").exists()
