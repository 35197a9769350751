"""How often correct implementations are called wrong: generated networks against PyTorch and JAX, in both looks.

    python benchmarks/false_alarms.py                                     the whole table, some hours of one core
    python benchmarks/false_alarms.py --only torch:float64:2000           one row of it, with so many networks

Structures are drawn as `gradconform check` draws them. Each is compared with numbers from every regime in turn, so that
a program that JAX has compiled serves many networks. A finding is a false alarm, unless a framework is really wrong:
each is printed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the frameworks are imported

import argparse
import itertools
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from hypothesis import Phase

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import adapter
from gradconform.conformance.message import finding_text, tally_text
from gradconform.conformance.plan import Chunk, Plan, draw_examples
from gradconform.conformance.record import Record
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Result

ROWS = [
    ("torch", "float64", 100_000),
    ("torch", "float32", 20_000),
    ("torch", "bfloat16", 5_000),
    ("torch", "float16", 5_000),
    ("jax", "float64", 10_000),
    ("jax", "float32", 20_000),
    ("jax", "bfloat16", 5_000),
    ("jax", "float16", 5_000),
]
AGREEMENT = [check for check in CHECKS.values() if not check.relation]
ROUNDS = {"torch": 1, "jax": 4}
"""How many networks there are of a structure in every regime."""


def examples(plan: Plan) -> Iterator[Example]:
    """Yield the examples of a plan, without end."""
    for start in itertools.count():
        drawn: list[Example] = []
        draw_examples(plan, Chunk(start=start), [Phase.generate], drawn.append)
        yield from drawn


def compare(name: str, dtype: str, networks: int, seed: int) -> Result:
    """Compare so many networks of one implementation in one dtype."""
    plan = Plan([adapter(name)], max_examples=networks, seed=seed, dtypes=[dtype], checks=AGREEMENT, witnesses=False)
    record = Record(plan)

    def explore() -> None:
        for number, example in enumerate(examples(plan)):
            for index, regime in enumerate(list(REGIMES) * ROUNDS[name]):
                if record.networks == networks:
                    return
                draw = Draw(regime, number * 1000 + index)
                record.case(partial(example.case, draw), f"regime {regime}", relations=False)

    return record.over(explore)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME:DTYPE:NETWORKS", help="a row; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    rows = ROWS
    if options.only:
        rows = [(name, dtype, int(count)) for name, dtype, count in (row.split(":") for row in options.only)]
    spawn = multiprocessing.get_context("spawn")
    for name, dtype, networks in rows:
        start = time.perf_counter()
        shares = [networks // options.processes + (i < networks % options.processes) for i in range(options.processes)]
        with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
            jobs = [pool.submit(compare, name, dtype, s, options.seed * 1000 + i) for i, s in enumerate(shares) if s]
            results = [job.result() for job in jobs]
        print(f"{name} {dtype}: {networks:,} networks, {time.perf_counter() - start:.0f} s")
        for result in results:
            print("\n".join([*map(finding_text, result.findings), *map(tally_text, result.implementations)]))
        findings = sum(len(result.findings) for result in results)
        print(f"{name} {dtype}: {findings} findings\n", flush=True)


if __name__ == "__main__":
    main()
