"""A campaign on a real Dask cluster: a scheduler, four worker processes, one of which is killed on the way."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from gradconform.conformance.campaign import CrewGone, run_job
from gradconform.conformance.campaign_dask import DaskCrew
from gradconform.conformance.cli import main
from gradconform.conformance.engine import run
from gradconform.conformance.job import Job
from gradconform.errors import InvalidInput, NotInstalled

PROMISED = "dask" in os.environ.get("GRADCONFORM_EXPECT_WILD", "").split(",")
try:
    import distributed
except ImportError:
    distributed = None

needs_dask = pytest.mark.skipif(distributed is None and not PROMISED, reason="Dask is not installed")

CANDIDATES = """
import os
from gradconform.reference.backpropagation import gradients as right

def slow(*arguments):
    import time
    time.sleep(0.01)
    return right(*arguments)

def wrong(*arguments):
    return {path: -array for path, array in right(*arguments).parameters.items()}
"""


def job(name, folder, max_examples):
    (folder / "mine.py").write_text(CANDIDATES, "utf-8")
    return Job(
        targets=("reference", f"{folder / 'mine.py'}:{name}"),
        seed=1,
        max_examples=max_examples,
        network="* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError",
        dtypes=("float64",),
        only=("parameters",),
    )


@pytest.fixture(scope="module")
def cluster():
    """Start a scheduler and four workers, each with a nanny that starts it again."""
    with distributed.LocalCluster(
        n_workers=4, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as started:
        yield started


@needs_dask
def test_a_worker_that_is_killed_costs_no_count_and_adds_none(cluster, tmp_path):
    work = job("slow", tmp_path, 512)
    with distributed.Client(cluster, set_as_default=False) as client:
        workers = list(client.run(os.getpid).values())
    assert len(workers) == 4
    killed = []

    def progress(done, rounds):
        if not killed and done >= 2:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    result = run_job(work, DaskCrew(cluster.scheduler_address), progress=progress)
    whole = run(work.plan(work.implementations(), range(16)))
    assert killed
    for name in ("networks", "structures", "implementations", "regimes", "findings", "verdict", "notes"):
        assert getattr(result, name) == getattr(whole, name)
    assert (result.verdict, result.networks) == ("passed", 512)


@needs_dask
def test_a_fault_that_workers_meet_is_one_finding(cluster, tmp_path):
    result = run_job(job("wrong", tmp_path, 64), DaskCrew(cluster.scheduler_address))
    (finding,) = result.findings
    assert (result.verdict, finding.symptom) == ("failed", "minus-lost")


@needs_dask
def test_a_campaign_of_the_command_line_runs_there(cluster, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    address = cluster.scheduler_address
    words = ["fuzz", "reference", "--dask", address, "--seed", "1", "--max-examples", "64", "--network"]
    with pytest.raises(SystemExit) as left:
        main([*words, "* -> Dense(*), MeanSquaredError"])
    out, told = capfd.readouterr()
    assert left.value.code == 0
    assert "PASSED  reference agrees within rounding: 64 networks" in out
    assert "seed 1, logged in .gradconform/fuzz/1" in told


@needs_dask
def test_a_scheduler_that_goes_away_is_told(tmp_path):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as started:
        crew = DaskCrew(started.scheduler_address)
    crew.close()
    with pytest.raises(CrewGone, match=r"^the scheduler at \S+ is gone"):
        crew.submit(len, job("slow", tmp_path, 1), None)


@needs_dask
def test_an_address_without_a_scheduler_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setattr("gradconform.conformance.campaign_dask.CONNECTING", 0.5)
    with pytest.raises(InvalidInput, match=r"^--dask tcp://127.0.0.1:1: no scheduler answers: [^\n]+$"):
        DaskCrew("tcp://127.0.0.1:1")


def test_without_dask_the_command_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NotInstalled, match=r"^--dask needs Dask: pip install 'gradconform\[dask\]'$"):
        DaskCrew("tcp://127.0.0.1:8786")
