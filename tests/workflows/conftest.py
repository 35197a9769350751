"""A player of the runner: it runs the shell steps of an action or of a job as GitHub's runner does, and reads its log.

Steps that use another action are noted with what they are given, and not run; nor is pip, whose words are noted. Of
expressions it knows what is used here: values by their path, the conditions on what was before, comparisons, `&&`, `||`
and `!`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
HASH = re.compile(r"hashFiles\([^)]*\)")
WORD = re.compile(r"'(?:[^']|'')*'|[A-Za-z_][\w.-]*(?:\(\))?|&&|\|\||[=!]=|[!()]|\d+|\S")
COMMANDS = {"error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands", "echo"}


@dataclass
class Log:
    """What the runner understands of what steps print: by the rules of its own source, ActionCommand.cs."""

    annotations: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    obeyed: list[str] = field(default_factory=list)
    text: str = ""

    def read(self, text):
        """Read what one step has printed: what was stopped in it is stopped in it alone."""
        self.text += text
        stopped = None
        for line in text.splitlines():
            name, properties, data = self._parsed(line, {*COMMANDS, stopped})
            if name is None or (stopped is not None and name != stopped):
                continue
            self.obeyed.append(name)
            if name == stopped:
                stopped = None
            elif name == "stop-commands":
                assert len(data) > 30
                stopped = data
            elif name in {"error", "warning", "notice"}:
                self.annotations.append((name, properties, data))

    @staticmethod
    def _parsed(line, names):
        """Return a command: `::name key=value,...::text` at the beginning, or `##[name key=value;...]text` anywhere."""
        start, end = line.lstrip(), line.lstrip().find("::", 2)
        if start.startswith("::") and end >= 0:
            name, _, told = start[2:end].partition(" ")
            if name in names:
                pairs = [pair.split("=", 1) for pair in told.split(",") if "=" in pair]
                return name, {key: unescaped(value) for key, value in pairs}, unescaped(start[end + 2 :])
        _, order, rest = line.partition("##[")
        name, _, text = rest.partition("]")
        name = name.partition(" ")[0]
        return (name, {}, text) if order and name in names else (None, {}, "")


def unescaped(text):
    for written, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(written, meant)
    return text


class Played:
    """What came of the steps: their results by their ids, the outputs, the log, the summary, and what was used."""

    def __init__(self):
        self.code = 0
        self.steps = {}
        self.uses = []
        self.log = Log()
        self.summary = ""


PYTHON = """#!/usr/bin/env bash
if [[ $1 == -m && $2 == pip ]]; then
  printf '%s\\n' "${{@:3}}" > {files}/pip
elif [[ $* == *sysconfig* ]]; then
  printf '%s' {files}/bin
else
  exec {python} "$@"
fi
"""
GRADCONFORM = """#!/usr/bin/env bash
exec {real} "$@"
"""


class Player:
    """Runs steps in a workspace. `real`: the program gradconform, which steps find under that name."""

    real = Path(sys.executable).parent / "gradconform"

    def __init__(self, workspace, files):
        self.workspace, self.files = workspace, files
        (files / "bin").mkdir()
        self.program("python", PYTHON)
        self.program("gradconform", GRADCONFORM)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "INPUT_"))},
            "PATH": f"{files / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_ACTION_PATH": str(ROOT),
            "RUNNER_TEMP": str(files),
        }

    def program(self, name, text):
        """Put a program there that steps find by its name; in its text, some places have names."""
        place = self.files / "bin" / name
        place.write_text(text.format(files=self.files, python=sys.executable, real=self.real), "utf-8")
        place.chmod(0o755)

    def told(self, name):
        """Return the lines that a program has left in a file of its name."""
        return (self.files / name).read_text("utf-8").splitlines()

    def job(self, file, name, **known):
        """Play a job of a workflow; return what came of it."""
        workflow = yaml.safe_load(file.read_text("utf-8"))
        known = {"github": {"workspace": str(self.workspace), **known.pop("github", {})}, **known}
        return self.steps(workflow["jobs"][name]["steps"], known, workflow.get("env", {}))

    def action(self, file, **inputs):
        """Play a composite action with inputs, whose names have `_` for `-`; return what came of it."""
        action = yaml.safe_load(file.read_text("utf-8"))
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert not given.keys() - action["inputs"].keys()
        known = {name: given.get(name, entry.get("default", "")) for name, entry in action["inputs"].items()}
        played = self.steps(action["runs"]["steps"], {"inputs": known})
        outputs = {"steps": played.steps, "inputs": known}
        played.outputs = {name: filled(entry["value"], outputs) for name, entry in action["outputs"].items()}
        return played

    def steps(self, steps, known, environment=()):
        """Play steps, in which the contexts of `known` are known; return what came of them."""
        played = Played()
        played.steps |= known.get("steps", {})
        known = {**known, "steps": played.steps, "failed": False}
        for number, step in enumerate(steps):
            entry = played.steps.setdefault(step.get("id", f"step {number}"), {"outputs": {}, "outcome": "skipped"})
            if not truth(step.get("if", "success()"), known):
                continue
            if "uses" in step:
                played.uses.append((step["uses"], {k: filled(v, known) for k, v in step.get("with", {}).items()}))
                entry["outcome"] = "success"
                continue
            code = self._run(step, known, dict(environment), entry, played)
            entry["outcome"] = "failure" if code else "success"
            if code and not step.get("continue-on-error"):
                known["failed"] = True
                played.code = code
        return played

    def _run(self, step, known, environment, entry, played):
        """Run one step in bash, and take over what it has written into the runner's files."""
        files = {name: self.files / uuid.uuid4().hex for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV")}
        for file in files.values():
            file.touch()
        script = self.files / f"{uuid.uuid4().hex}.sh"
        script.write_text(step["run"], "utf-8")
        own = {name: filled(value, known) for name, value in {**environment, **step.get("env", {})}.items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.workspace / filled(step.get("working-directory", "."), known),
            env={**self.environment, **{name: str(file) for name, file in files.items()}, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=240,
        )
        played.log.read(done.stdout)
        lines = files["GITHUB_OUTPUT"].read_text("utf-8").splitlines()
        entry["outputs"] |= dict(line.split("=", 1) for line in lines)
        assert not files["GITHUB_ENV"].read_text("utf-8")
        played.summary += files["GITHUB_STEP_SUMMARY"].read_text("utf-8")
        return done.returncode


def filled(text, known):
    """Return a text of a step with its expressions evaluated."""
    return EXPRESSION.sub(lambda found: str(value(found[1], known)), str(text))


def truth(condition, known):
    return bool(value(EXPRESSION.sub(r"\1", str(condition)), known))


def value(expression, known):
    """Return the value of an expression; a path that leads nowhere is empty."""
    words = [as_python(word, known) for word in WORD.findall(HASH.sub("'hash'", expression))]
    return eval(" ".join(words), {"__builtins__": {}})


def as_python(word, known):
    operators = {"&&": "and", "||": "or", "!": "not"}
    conditions = {
        "always()": True,
        "success()": not known.get("failed"),
        "failure()": known.get("failed"),
        "cancelled()": False,
    }
    if word in operators or word in {"==", "!=", "(", ")"} or word.isdecimal():
        return operators.get(word, word)
    if word.startswith("'"):
        return repr(word[1:-1].replace("''", "'"))
    if word in conditions:
        return repr(conditions[word])
    assert re.fullmatch(r"[A-Za-z_][\w.-]*", word), f"an expression that the player does not know: {word}"
    found = known
    for name in word.split("."):
        found = found.get(name, "")
        if found == "":
            break
    return repr(found)


@pytest.fixture
def player(tmp_path):
    """Return a player with an empty workspace."""
    workspace, files = tmp_path / "workspace", tmp_path / "runner"
    workspace.mkdir()
    files.mkdir()
    return Player(workspace, files)
