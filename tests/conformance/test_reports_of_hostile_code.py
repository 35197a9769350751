"""Names, exception texts and paths that want out: in every report they are text, and short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

import gradconform as gc
from gradconform.conformance import implementations
from gradconform.conformance.cli import main
from gradconform.conformance.report_junit import junit_report
from gradconform.conformance.report_markdown import markdown_report
from gradconform.conformance.results import Result

NASTY = (
    "<img src=x onerror=alert(1)>]]>&lt; <!--|`*_[a](//b) @octocat #1 ::warning::x\n::error file=a.py::pwned\r##[error]"
    "no \x1b[31mred\x1b]0;title\x07\x9b1m \u202edcba\u2028 </code><details><script>alert(2)</script>"
)
# no system has these in the name of a file; where the names of files are bytes, 0xff stands for one that is no text
PLACE = NASTY.replace("/", "\N{DIVISION SLASH}") + (os.fsdecode(b"\xff") if sys.platform == "linux" else "") + ".py"

CANDIDATES = f"""
import warnings
from gradconform.reference.backpropagation import gradients as right

NASTY = {NASTY!r} + chr(0) + chr(0xdc80) + chr(0xfffe)
LONG = NASTY + "x" * 2**20

def crash(*case):
    raise RuntimeError(LONG)

crash.__code__ = crash.__code__.replace(co_name=LONG.replace(chr(0), ""))

def path(*case):
    found = right(*case).parameters
    return {{(LONG if number else NASTY): array for number, array in enumerate(found.values())}}

def refuse(*case):
    raise NotImplementedError(LONG)

def warn(*case):
    warnings.warn(LONG)
    return {{path: 3 * array for path, array in right(*case).parameters.items()}}
"""
# no framework is asked: their import takes longer than all the rest
PROGRAM = [
    sys.executable,
    "-c",
    "import sys; sys.modules.update(torch=None, jax=None); from gradconform.conformance.cli import program; program()",
]
NAMES = ["crash", "path", "refuse", "warn"]
ORDER = re.compile(r"^\s*::|##\[")
"""What GitHub's runner looks for in a line of the log."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return what a check of all of them prints, with its reports."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / PLACE).write_text(CANDIDATES, "utf-8")
    options = ["--network", "2 -> Dense(2), MeanSquaredError", "--max-examples", "3", "--seed", "1"]
    files = ["--json", "r.json", "--junit", "r.xml", "--markdown", "r.md", "--html", "r.html", "--record", "r.jsonl"]
    done = subprocess.run(
        [*PROGRAM, "check", *[f"{PLACE}:{name}" for name in NAMES], *options, *files],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    again = subprocess.run(
        [*PROGRAM, "report", "render", "r.jsonl", *[word.replace("r.", "s.") for word in files[:-2]]],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    contents = {place.name: place.read_bytes() for place in folder.iterdir() if place.name[:2] in {"r.", "s."}}
    return SimpleNamespace(done=done, again=again, files=contents, folder=folder)


def printable(text):
    return all(line.isprintable() for line in text.split("\n"))


def test_the_run_comes_to_its_end(run):
    assert run.done.returncode == 1, run.done.stderr[-2000:]
    result = Result.from_json(run.files["r.json"])
    assert [finding.kind for finding in result.findings] == ["CRASHED", "NAME", "WRONG"]
    assert result.noticed.keys() == {tally.name for tally in result.implementations[2:]}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_terminal_gets_lines_that_are_printable_short_and_no_orders(run, stream):
    text = getattr(run.done, stream).decode()
    assert "onerror" in text
    assert printable(text)
    assert [line for line in text.splitlines() if ORDER.search(line)] == []
    assert len(text) < 20_000


def test_what_is_rendered_later_is_the_same(run):
    assert (run.again.returncode, run.again.stderr) == (1, b"")
    assert run.again.stdout == run.done.stdout
    for kind in ("json", "xml", "md", "html"):
        assert run.files[f"s.{kind}"] == run.files[f"r.{kind}"]


@pytest.mark.parametrize("file", ["r.json", "r.jsonl", "r.xml", "r.md", "r.html"])
def test_every_file_is_short_text_without_control_characters(run, file):
    text = run.files[file].decode()
    assert "onerror" in text
    assert printable(text)
    assert "##[" not in text
    assert len(text) < (300_000 if file == "r.jsonl" else 150_000)
    assert max(map(len, re.findall("x+", text))) <= 4000


def test_in_junit_it_is_text_alone(run):
    root = ET.fromstring(run.files["r.xml"])
    known = {"testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped", "system-out"}
    assert {element.tag for element in root.iter()} == known
    suites = root.findall("testsuite")[1:]
    assert all(suite.get("name").endswith(f".py:{name} float64") for suite, name in zip(suites, NAMES, strict=True))
    assert all("<img src=x onerror=alert(1)>]]>&lt; <!--|" in suite.get("name") for suite in suites)
    assert b"]]>" not in run.files["r.xml"]


def test_in_markdown_it_is_text_alone(run):
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(run.files["r.md"].decode())
    allowed = "h2|h3|p|table|thead|tbody|tr|th|td|ul|li|code|pre|details|summary"
    assert re.sub(rf"</?({allowed})>", "", html).count("<") == 0
    for tag in ("code", "pre", "details", "summary", "table", "li"):
        assert html.count(f"<{tag}>") == html.count(f"</{tag}>")
    outside = re.sub(r"<(code|pre)>.*?</\1>", "", html, flags=re.DOTALL)
    assert "@octocat" not in outside
    assert "#1 " not in outside


def test_a_case_that_is_kept_and_its_replay_are_no_worse(run):
    (case, *_) = sorted((run.folder / ".gradconform" / "cases").iterdir())
    done = subprocess.run(
        [*PROGRAM, "show", case.stem],
        cwd=run.folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert printable(done.stdout.decode())
    assert [line for line in done.stdout.decode().splitlines() if ORDER.search(line)] == []


def test_a_wrong_word_on_the_command_line_is_told_without_what_it_does(capfd):
    with pytest.raises(SystemExit) as left:
        main(["check", f"{NASTY}.py:f"])
    told = capfd.readouterr()
    assert (left.value.code, told.out) == (4, "")
    assert "onerror" in told.err
    assert printable(told.err)
    assert told.err.count("\n") == 1


def test_a_function_whose_name_is_a_mebibyte_long(monkeypatch):
    monkeypatch.setattr(implementations, "installed", list)

    def wrong(network, parameters, batch):
        return {path: array * 0 for path, array in parameters.items()}

    wrong.__name__ = NASTY + "y" * (1 << 20)
    result = gc.check(wrong, networks="2 -> Dense(1), MeanSquaredError", max_examples=2, only=["parameters"])
    assert not result.passed
    for text in (str(result), result.to_json().decode(), junit_report(result).decode(), markdown_report(result)):
        assert "onerror" in text
        assert printable(text)
        assert len(text) < 60_000
        assert [line for line in text.splitlines() if ORDER.search(line)] == []
    assert Result.from_json(result.to_json()).to_json() == result.to_json()
