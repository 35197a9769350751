"""A fuzzing campaign of some minutes: how much it compares, what it meets, and how much memory it takes over time.

`gradconform fuzz` is run as a user does; its log is read afterwards, and memory is read from the system on the way: of
the process that leads the campaign, and of the largest of its workers.

    python benchmarks/fuzz_campaign.py [MINUTES [WORKERS [SEED [TARGET]...]]]

It needs /proc.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from gradconform.conformance.fuzz_log import FOLDER, ROUNDS, Entry
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Result

MINUTES, WORKERS, SEED = 30.0, 2, 1
SAMPLES = 12
"""Rows of the table of memory."""
NAME = "benchmark"


def resident(process: int) -> tuple[int, int]:
    """Return the bytes of a process, and of the largest of those it started; 0 for those that have ended."""

    def of(one: str) -> int:
        try:
            return int(Path(f"/proc/{one}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0

    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()
    except OSError:
        children = []
    return of(str(process)), max(map(of, children), default=0)


def main(minutes: float, workers: int, seed: int, targets: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="gradconform-benchmark-"))
    command = [Path(sys.executable).parent / "gradconform", "fuzz", *targets, "--max-time", str(60 * minutes)]
    command += ["--workers", str(workers), "--seed", str(seed), "--name", NAME, "--json", "result.json"]
    started, samples = time.monotonic(), []
    with subprocess.Popen([*map(str, command)], cwd=folder, env={**os.environ}) as process:
        while process.poll() is None:
            samples.append((time.monotonic() - started, *resident(process.pid)))
            time.sleep(min(5.0, minutes))
    result = Result.from_json((folder / "result.json").read_bytes())
    lines = (folder / FOLDER / NAME / ROUNDS).read_bytes().splitlines()
    entries = [msgspec.json.decode(line, type=Entry) for line in lines]
    ways = Counter(entry.unit.focus.why for entry in entries)
    pairs = Counter[str]()
    for entry in entries:
        pairs.update(entry.signals.pairs)
    print(f"\n{minutes:g} minutes, {workers} workers, seed {seed}, in {folder}")
    print(f"rounds           {len(entries):,}: {', '.join(f'{count} {way}' for way, count in ways.most_common())}")
    print(f"networks         {result.networks:,} of {result.structures:,} structures")
    print(f"comparisons      {result.comparisons:,}, {result.comparisons / result.seconds:,.0f} a second")
    print(f"regimes          {sum(name in result.regimes for name in REGIMES)} of {len(REGIMES)}")
    print(f"pairs            {len(pairs):,} of a regime with a layer, a loss or a type")
    for tally in result.implementations:
        where = f"{tally.worst_at} of {tally.worst_network}"
        print(f"worst            {tally.name} {tally.dtype} {tally.worst_ratio:.4f} at {where}")
    print(f"findings         {len(result.findings)}, {result.verdict}")
    for finding in result.findings:
        print(f"                 {finding.implementation}: {finding.sentence}: {finding.notation}")
    print(f"\n{'minutes':>8}{'parent MiB':>12}{'largest worker MiB':>20}{'rounds':>8}")
    for index in range(SAMPLES + 1):
        at, parent, worker = samples[min(len(samples) - 1, index * len(samples) // SAMPLES)]
        done = sum(entry.at <= at for entry in entries)
        print(f"{at / 60:>8.1f}{parent / 2**20:>12.0f}{worker / 2**20:>20.0f}{done:>8,}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        float(given[0]) if given else MINUTES,
        int(given[1]) if len(given) > 1 else WORKERS,
        int(given[2]) if len(given) > 2 else SEED,
        given[3:],
    )
