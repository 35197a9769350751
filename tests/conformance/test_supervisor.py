"""What ends the process does not end the run: real command lines, real crashes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gradconform.conformance.supervisor import supervised, watched

MAIN = "from gradconform.conformance.cli import program; program()"
CANDIDATES = """
import ctypes, os, subprocess, sys
from gradconform.reference.backpropagation import gradients

def right(*arguments):
    return dict(gradients(*arguments).parameters)

def segfault(*_):
    ctypes.string_at(0)

def leave(*_):
    os._exit(0)

def abort(*_):
    os.abort()

def loop_in_c(*_):
    sum(range(10**14))

def orphan(*arguments):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["ORPHANS"], "a") as file:
        print(child.pid, file=file)
    return right(*arguments)

def late(*arguments):
    late.calls = getattr(late, "calls", 0) + 1
    if late.calls > 20:
        os._exit(3)
    return right(*arguments)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("candidates")
    (path / "mine.py").write_text(CANDIDATES, "utf-8")
    return path


def check(folder, name, *more, **environment):
    command = [sys.executable, "-c", MAIN, "check", *([f"mine.py:{name}"] if name else [])]
    options = ["--network", "2 -> Dense(2), MeanSquaredError", "--max-examples", "6", "--timeout", "0.5", *more]
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "ended", "kind"),
    [
        ("segfault", "SIGSEGV", "crashed: killed by SIGSEGV"),
        ("abort", "SIGABRT", "crashed: killed by SIGABRT"),
        ("leave", "exit code 0", "crashed: exited with code 0"),
        ("loop_in_c", "exit code 1", "took too long: no answer within 0.5 s"),
    ],
)
def test_the_run_is_made_again_with_each_candidate_in_a_process(folder, name, ended, kind):
    done = check(folder, name)
    assert done.returncode == 1
    assert f"the process was ended by a candidate ({ended}): once more, with --isolate" in done.stderr
    assert f"FAILED  mine.py:{name}   {kind}" in done.stdout
    assert re.search(r"^FAILED  1 finding: \d networks", done.stdout, re.MULTILINE)


def test_so_it_is_where_a_file_names_the_candidate(tmp_path):
    (tmp_path / "mine.py").write_text(CANDIDATES, "utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.gradconform]\ntargets = ['mine.py:segfault']\n", "utf-8")
    done = check(tmp_path, None)
    assert done.returncode == 1
    assert "the process was ended by a candidate (SIGSEGV): once more, with --isolate" in done.stderr
    assert "FAILED  mine.py:segfault   crashed: killed by SIGSEGV" in done.stdout


def test_the_second_run_draws_the_same(folder):
    done = check(folder, "late", "--seed", "5")
    assert done.returncode == 1
    assert ", seed 5, " in done.stdout
    assert "crashed: exited with code 3" in done.stdout


def test_what_a_candidate_leaves_behind_is_ended(folder, tmp_path):
    places = tmp_path / "orphans"
    done = check(folder, "orphan", "--max-examples", "1", ORPHANS=str(places))
    assert (done.returncode, "PASSED" in done.stdout) == (0, True)
    children = places.read_text("utf-8").split()
    assert children
    if sys.platform.startswith("linux"):
        assert [child for child in children if Path(f"/proc/{child}").exists()] == []


def test_isolated_from_the_start_says_nothing_of_it(folder):
    done = check(folder, "segfault", "--isolate")
    assert done.returncode == 1
    assert "once more" not in done.stderr
    assert "FAILED  mine.py:segfault   crashed: killed by SIGSEGV" in done.stdout


def test_what_is_right_is_right_in_its_own_process(folder):
    for more in ((), ("--isolate",)):
        done = check(folder, "right", *more)
        assert (done.returncode, "PASSED  mine.py:right agrees" in done.stdout) == (0, True)


@pytest.mark.parametrize("arguments", [["trace"], ["check"], ["check", "torch"], ["check", "a.py:f", "--isolate"]])
def test_nothing_is_forked_where_there_is_nothing_to_survive(arguments):
    ran = []
    supervised(arguments, lambda given: ran.append((os.getpid(), list(given))))
    assert ran == [(os.getpid(), arguments)]
    assert not watched()


def test_what_is_sent_to_end_the_run_ends_it(folder):
    command = [sys.executable, "-c", MAIN, "check", "mine.py:right", "--max-examples", "1000000"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        running.stderr.readline()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "once more" not in err


@pytest.mark.parametrize("closed", ["| true", "| head -c 1 >&2", ">&-", "2>&-"])
def test_who_reads_no_more_changes_nothing_of_the_exit_code(folder, closed):
    words = shlex.join([sys.executable, "-c", MAIN, "check", "--network", "2 -> Dense(2), MeanSquaredError"])
    for name, code in (("right", 0), ("leave", 1)):
        line = f"{words} mine.py:{name} --max-examples 200 --seed 1 {closed}"
        script = f"{line}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert ("once more, with --isolate" in done.stderr) == (name == "leave" and closed != "2>&-")
