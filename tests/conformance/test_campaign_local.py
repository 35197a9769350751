"""A crew of real processes: they are started afresh, may die, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradconform.conformance.campaign import run_job
from gradconform.conformance.campaign_local import THREADS, LocalCrew
from gradconform.conformance.engine import run
from gradconform.conformance.job import Job

NETWORK = "* -> Dense(*), MeanSquaredError"
CANDIDATES = """
import os, signal, sys
from pathlib import Path
from gradconform.reference.backpropagation import gradients as right

def threads(*arguments):
    print("heard of")
    with Path("threads.txt").open("a") as file:
        print(*(os.environ.get(name) for name in {threads!r}), "numpy" in sys.modules, file=file)
    return right(*arguments)

def once(*arguments):
    marker = Path("died.txt")
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return right(*arguments)

def never(*arguments):
    os._exit(3)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system tells nothing of processes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CANDIDATES.replace("{threads!r}", repr(THREADS)), "utf-8")
    return tmp_path


def job(name, max_examples=64):
    return Job(targets=(f"mine.py:{name}",), seed=1, max_examples=max_examples, network=NETWORK, only=("parameters",))


def workers_of(process):
    """Return the worker processes that a process has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text("utf-8")]


def gone(processes):
    """Return whether processes end within some seconds."""
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_worker_that_is_killed_costs_no_count(folder):
    """What the candidate does, it does to a worker: the round is run again, and all others that were lost with it."""
    result = run_job(job("once"), LocalCrew(2))
    assert (folder / "died.txt").exists()
    whole = run(job("once").plan(job("once").implementations(), range(2)))
    assert (result.verdict, result.implementations, result.regimes) == (
        "passed",
        whole.implementations,
        whole.regimes,
    )
    assert workers_of(os.getpid()) == []


def test_a_candidate_that_ends_every_process_is_a_finding_and_leaves_nobody_behind(folder):
    result = run_job(job("never", 32), LocalCrew(1))
    (finding,) = result.findings
    assert (result.verdict, finding.kind) == ("failed", "CRASHED")
    assert finding.sentence == "crashed: exited with code 3"
    assert workers_of(os.getpid()) == []


def test_a_worker_has_a_core_to_itself_and_what_candidates_print_goes_aside(folder, monkeypatch, capfd):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    run_job(job("threads", 32), LocalCrew(1, str(folder / "errors.txt")))
    assert set((folder / "threads.txt").read_text("utf-8").split("\n")) == {"1 1 1 1 True", ""}
    assert "heard of" in (folder / "errors.txt").read_text("utf-8")
    assert capfd.readouterr() == ("", "")


FUZZ = [sys.executable, "-c", "from gradconform.conformance.cli import program; program()", "fuzz", "reference"]


def started(folder, *words):
    """Start a campaign, wait for its first rounds, and return its process and its workers."""
    process = subprocess.Popen(
        [*FUZZ, "--network", NETWORK, "--seed", "1", "--workers", "2", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = Path(folder, ".gradconform", "fuzz", "1", "rounds.jsonl")
    deadline = time.monotonic() + 100
    while not (log.exists() and log.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    return process, workers


def test_ctrl_c_ends_a_campaign_with_what_was_done_and_no_process_is_left(folder):
    process, workers = started(folder, "--max-time", "300")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "INTERRUPTED  what was compared so far agrees" in out
    assert gone(workers)


def test_when_the_campaign_is_killed_its_workers_end(folder):
    process, workers = started(folder, "--max-time", "300")
    process.kill()
    process.communicate(timeout=60)
    assert gone(workers)
