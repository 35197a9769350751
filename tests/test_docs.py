"""The README and the pages in docs/ tell the truth: every block runs, and every link leads somewhere.

A page is read from its beginning to its end in a folder that is empty at first: `python` blocks are run in one
namespace, `console` and `sh` blocks by a shell, and what is shown below a command has to be what it prints; `...`
stands for anything, and numbers are compared only where a note says so. `json` and `toml` are parsed. What a block
needs beside that stands in notes before it, which readers do not see:

<!-- file: NAME -->              the block is the file NAME
<!-- goes on: NAME -->           the block is added to the file NAME
<!-- copy: PATH to NAME -->      first, a file of the page or a file or folder of the repository is copied
<!-- edit: NAME: OLD => NEW -->  first, the file NAME is changed
<!-- run as: OLD => NEW -->      what is run in place of what is shown, where that would take too long
<!-- exit: CODE, CODE -->        where the commands end in another way than their output tells
<!-- numbers -->                 numbers are compared too
<!-- needs: NAME -->             run only where this module or program is installed
<!-- not run: REASON -->         cannot be run by a test
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PLACES = ("*.md", "docs/*.md", "examples/**/*.md")
PAGES = {path.relative_to(ROOT).as_posix(): path for place in PLACES for path in sorted(ROOT.glob(place))}
MARKDOWN = MarkdownIt("commonmark").enable("table")
NOTE = re.compile(r"<!--\s+(.*?)\s+-->", re.DOTALL)
NOTES = ("file: ", "goes on: ", "copy: ", "edit: ", "run as: ", "exit: ", "numbers", "needs: ", "not run: ")
COMMANDS = ("console", "sh")
RUN = ("python", "json", "toml", *COMMANDS)
NOT_CODE = ("text", "yaml", "markdown", "html", "diff", "c", "rust", "javascript", "ini")
MOST_NOT_RUN = 12
NUMBER = re.compile(r"-?\d[\d,.]*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, with the notes before it."""

    line: int
    language: str
    text: str
    notes: tuple[str, ...]

    def noted(self, kind):
        return [note.removeprefix(kind).strip() for note in self.notes if note.startswith(kind)]

    @property
    def needs_are_met(self):
        return all(works(name) or importlib.util.find_spec(name) for name in self.noted("needs:"))


@lru_cache
def works(program):
    """Return whether a program is there, and is more than the name of one: rustup's rustc may have no compiler."""
    if shutil.which(program) is None:
        return False
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


class Command(NamedTuple):
    """One command line, and what is shown below it: None in a block of commands alone."""

    line: str
    shown: str | None


def blocks(page):
    """Yield the fenced blocks of a page."""
    notes = []
    for token in MARKDOWN.parse(page.read_text("utf-8")):
        if token.type == "html_block":
            notes += NOTE.findall(token.content)
        elif token.type == "fence":
            yield Block(token.map[0] + 1, token.info, token.content, tuple(notes))
            notes = []
        elif token.nesting >= 0:
            notes = []


def commands(block):
    """Yield the commands of a block; a comment is none, and a line that ends in a backslash goes on in the next."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            yield Command(line, shown)
    else:
        yield from (Command(line, None) for line in text.splitlines() if line.strip() and not line.startswith("#"))


def expected_code(block, number, shown):
    """Return the exit code of a command of a block, which is noted or goes with what is shown."""
    if noted := block.noted("exit:"):
        return int(noted[0].split(",")[number])
    words = {"FAILED": 1, "DIFFER": 1, "NONDETERMINISTIC": 1, "BROKEN": 3, "gradconform:": 4, "NOT COVERED": 5}
    found = (code for line in (shown or "").splitlines() for word, code in words.items() if line.startswith(word))
    return next(found, 0)


def masked(text):
    """Return an output without which element was the worst, how sharp the look was, and the case's id.

    Processors round differently, and Hypothesis draws constants of the modules that it takes for one's own.
    """
    text = re.sub(r"gradconform (replay|show) [0-9a-f]{8}\b", r"gradconform \1 #", text)
    text = re.sub(r"(worst error/bound) .*(\n {23}.*)*", r"\1 #", text)
    text = re.sub(r"(?m)^(  sharpness) .*(\n {23}.*)*", r"\1 #", text)
    text = re.sub(r"={3,}", "===", text)
    return re.sub(r"\[\s*\d+%\]", "", text)


def same(shown, printed, numbers):
    """Return whether two words are the same, with their numbers compared or left out."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", printed):
        return False
    if not numbers:
        return True
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    values = [tuple(float(text.replace(",", "").rstrip(".")) for text in pair) for pair in pairs]
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in values)


def fits(shown, printed, *, numbers=False):
    """Return whether what is shown is what was printed, however lines are broken, `...` being anything."""
    parts = [part.split() for part in re.split(r"(?m)^ *\.\.\.$", masked(shown))]
    words = masked(printed).split()
    at = 0
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        starts = range(at, len(words) - len(part) + 1)
        if number == 0:
            starts = starts[:1]
        if last and part:
            starts = starts[-1:]
        found = (at for at in starts if all(same(*pair, numbers) for pair in zip(part, words[at:], strict=False)))
        place = next(found, None)
        if place is None:
            return False
        at = place + len(part)
    return at == len(words) or (len(parts) > 1 and not parts[-1])


class Shell:
    """Runs command lines: of gradconform and pytest in copies of a process that has imported everything."""

    def __init__(self):
        # Python is to find a script's neighbours, as it does where nothing forbids it
        ours = ("PYTEST", "PYTHONSAFEPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        self.environment = kept | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("forking.py")],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def run(self, line, folder, scratch):
        """Run one line in a folder, and return its exit code and what it printed to either stream."""
        if re.match(r"(gradconform|pytest)\b[^$|<>;*]*$", re.sub(r"\s#.*|\"[^\"]*\"", "", line)):
            program, *arguments = shlex.split(line, comments=True)
            files = {stream: str(scratch / stream) for stream in ("stdout", "stderr")}
            told = {"program": program, "arguments": arguments, "folder": str(folder), "environment": self.environment}
            print(json.dumps(told | files), file=self.process.stdin, flush=True)
            code = int(self.process.stdout.readline())
            return code, *(Path(file).read_text("utf-8") for file in files.values())
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return done.returncode, done.stdout, done.stderr


class Reader:
    """Somebody who does what a page says, in a folder that is empty at first."""

    def __init__(self, folder, scratch, shell):
        self.folder = self.at = folder
        self.scratch = scratch
        self.shell = shell
        self.names = {"__name__": "page"}

    def read(self, page):
        for block in blocks(page):
            if not block.noted("not run:") and block.needs_are_met:
                self.follow(block, f"{page.name}:{block.line}")

    def follow(self, block, place):
        for note in block.noted("copy:"):
            self.copy(*note.split(" to "))
        for note in block.noted("edit:"):
            name, _, change = note.partition(": ")
            old, _, new = change.partition(" =>")
            self.edit(name, old, new.strip())
        if block.noted("file:") or block.noted("goes on:"):
            target = self.folder / [*block.noted("file:"), *block.noted("goes on:")][0]
            target.parent.mkdir(parents=True, exist_ok=True)
            before = target.read_text("utf-8") + "\n\n" if block.noted("goes on:") else ""
            target.write_text(before + block.text, "utf-8")
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, place, "exec"), self.names)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language in COMMANDS:
            self.obey(block, place)

    def copy(self, source, name):
        source = self.folder / source if (self.folder / source).exists() else ROOT / source
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)

    def edit(self, name, old, new):
        text = (self.folder / name).read_text("utf-8")
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
        (self.folder / name).write_text(text.replace(old, new), "utf-8")

    def obey(self, block, place):
        """Run the commands of a block, and compare what they print."""
        for number, command in enumerate(commands(block)):
            line = command.line
            for note in block.noted("run as:"):
                old, _, new = note.partition(" =>")
                line = line.replace(old, new.strip())
            if line.startswith("cd "):
                self.at /= line.split("#")[0].removeprefix("cd ").strip()
                continue
            code, printed, errors = self.shell.run(line, self.at, self.scratch)
            told = f"{place}: {line}\n{printed}{errors}"
            assert code == expected_code(block, number, command.shown), f"{code}: {told}"
            if command.shown is not None:
                printed = printed or errors
                assert fits(command.shown, printed, numbers="numbers" in block.notes), told


@pytest.fixture(scope="module")
def shell():
    shell = Shell()
    yield shell
    shell.close()


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if any(True for _ in blocks(page))])
def test_every_block_of_a_page_runs(name, tmp_path, shell, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Reader(folder, tmp_path, shell).read(PAGES[name])


def test_every_block_says_what_it_is():
    for name, page in PAGES.items():
        assert all(token.type != "code_block" for token in MARKDOWN.parse(page.read_text("utf-8"))), f"{name}: indented"
        for block in blocks(page):
            place = f"{name}:{block.line}"
            assert block.language in {*RUN, *NOT_CODE}, f"{place}: the language {block.language!r}"
            assert all(note.startswith(NOTES) for note in block.notes), f"{place}: {block.notes}"


def test_few_blocks_are_not_run_and_each_has_a_reason():
    reasons = [
        (name, reason) for name, page in PAGES.items() for block in blocks(page) for reason in block.noted("not run:")
    ]
    assert all(len(reason.split()) > 1 for _, reason in reasons)
    assert len(reasons) <= MOST_NOT_RUN, reasons


@pytest.mark.parametrize("name", PAGES)
def test_the_case_of_a_command_is_one_that_the_page_has_found(name):
    # `run as` and the mask hide which case it is
    text = PAGES[name].read_text("utf-8")
    found = set(re.findall(r"^  again +gradconform replay ([0-9a-f]{8})$", text, re.MULTILINE))
    assert set(re.findall(r"\bgradconform (?:replay|show|explain) ([0-9a-f]{8})\b", text)) <= found


def test_what_is_shown_is_compared_with_what_is_printed():
    printed = "a  12 rows\nb\nPASSED  x: 3\n  networks, 1.5 s\n"
    assert fits("a  7 rows\nb\nPASSED  x: 3 networks, 9 s\n", printed)
    assert fits("a  7 rows\n...\nPASSED  x: 3 networks, 9 s\n", printed)
    assert fits("...\nb\n...\n", printed)
    for wrong in ("a  7 rows\nb\n", "b\n...\n", "...\na\n", "a  7 rows\n...\nFAILED  x: 3 networks, 9 s\n", ""):
        assert not fits(wrong, printed)


def test_numbers_are_compared_where_a_note_says_so():
    assert fits("w  0.1000000001 2\n", "w 0.1000000001 2\n", numbers=True)
    assert not fits("w  0.10001 2\n", "w 0.1 2\n", numbers=True)


def test_a_page_that_shows_what_is_not_printed_fails(tmp_path, monkeypatch):
    class Told:
        def run(self, line, folder, scratch):
            return 0, "right\n", ""

    page = tmp_path / "page.md"
    reader = Reader(tmp_path, tmp_path, Told())
    page.write_text("```console\n$ say\nright\n```\n\n<!-- not run: is another machine's -->\n```sh\nsay\n```\n")
    reader.read(page)
    for wrong in (
        "```console\n$ say\nwrong\n```",
        "<!-- exit: 1 -->\n```sh\nsay\n```",
        "```python\nraise AssertionError\n```",
    ):
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            reader.read(page)
