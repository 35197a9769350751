"""A campaign on a real Dask cluster, one of whose workers is killed on the way, beside the same run in one process.

A scheduler and four worker processes, started as a user does, each with a nanny that starts it again; after the first
rounds one worker is killed with SIGKILL. Printed are the totals of both: they are equal, however the rounds went.

    python benchmarks/dask_campaign.py [NETWORKS [SEED]]

It needs PyTorch and gradconform[dask].
"""

from __future__ import annotations

import os
import signal
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import distributed

from gradconform.conformance.campaign import run_job
from gradconform.conformance.campaign_dask import DaskCrew
from gradconform.conformance.engine import run
from gradconform.conformance.job import Job
from gradconform.conformance.results import Result

NETWORKS, SEED, WORKERS = 640, 1, 4
ROWS = ("networks", "structures", "comparisons", "elements", "telling", "worst error/bound", "regimes", "findings")


def totals(result: Result) -> dict[str, object]:
    tallies = result.implementations
    return {
        "networks": result.networks,
        "structures": result.structures,
        "comparisons": result.comparisons,
        "elements": sum(tally.elements for tally in tallies),
        "telling": sum(tally.telling for tally in tallies),
        "worst error/bound": max(tally.worst_ratio for tally in tallies),
        "regimes": sum(coverage.cases for coverage in result.regimes.values()),
        "findings": len(result.findings),
    }


def main(networks: int, seed: int) -> None:
    job = Job(targets=("reference", "torch"), seed=seed, max_examples=networks)
    cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        workers = client.run(os.getpid)
        killed: list[int] = []

        def progress(done: int, rounds: int) -> None:
            if not killed and done >= 3:
                killed.append(next(iter(workers.values())))
                os.kill(killed[0], signal.SIGKILL)
                print(f"round {done} of {rounds} is done: worker {killed[0]} is killed", flush=True)

        campaign = run_job(job, DaskCrew(cluster.scheduler_address), progress=progress)
    serial = run(job.plan(job.implementations(), range(job.rounds or 0)))
    print(f"{'':<20}{'on the cluster':>24}{'in one process':>24}")
    one, other = totals(campaign), totals(serial)
    for row in ROWS:
        print(f"{row:<20}{one[row]!s:>24}{other[row]!s:>24}{'' if one[row] == other[row] else '   DIFFERENT'}")
    print(f"{'seconds':<20}{campaign.seconds:>24.1f}{serial.seconds:>24.1f}")
    print(f"{'verdict':<20}{campaign.verdict:>24}{serial.verdict:>24}")
    alike = [tally.checks for tally in campaign.implementations] == [tally.checks for tally in serial.implementations]
    sys.exit(0 if one == other and alike else 1)


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    main(*(words + [NETWORKS, SEED][len(words) :]))
