"""What a network costs that JAX has to compile: before and after, from a cold and from a warm cache, and once compiled.

    python benchmarks/jax_compilation.py               the table, each row in a process of its own
    python benchmarks/jax_compilation.py --memory 2000 the memory of a process that compiles so many shapes, too

Structures are drawn as `gradconform check` draws them, in float64. *plain* is the program as users run it, *probed* the
one that shows its outputs and deltas. Before, the latter was compiled without fusion; now it has barriers. A row is the
mean over all structures: milliseconds that pass, and milliseconds of all threads.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is imported

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import Phase

from gradconform.case import Case
from gradconform.conformance import compilation_cache
from gradconform.conformance.examples import Example
from gradconform.conformance.implementations import adapter
from gradconform.conformance.plan import Chunk, Plan, draw_examples

STRUCTURES = 24
SEED = 5
CALLS, REPEATS = 200, 10
REPORTS = 5
"""So often is the memory told."""
ROWS = {
    "plain": ("plain", False),
    "probed, before: without fusion": ("before", False),
    "probed, now: with barriers": ("probed", False),
    "both, before, in turn": ("both before", False),
    "both, now, as a first call": ("gradients", False),
    "both, now, prepared ahead": ("prepare", False),
    "both, now, from a warm cache": ("gradients", True),
    "bare": ("bare", False),
    "bare, from a warm cache": ("bare", True),
}


def cases(count: int) -> list[Case]:
    """Return one case for each of so many structures."""
    plan = Plan([adapter("jax")], seed=SEED)
    drawn: list[Example] = []
    start = 0
    while len({example.structure for example in drawn}) <= count:
        draw_examples(plan, Chunk(start=start), [Phase.generate], drawn.append)
        start += 1
    chosen = {example.structure: example for example in drawn}
    return [example.case(example.draws[0], "float64") for example in chosen.values()][: count + 1]


def measure(what: str) -> dict[str, float]:
    """Return the milliseconds for a new structure, in this process."""
    from gradconform.adapters import jax as module
    from gradconform.adapters import jax_programs

    if what.endswith("before"):
        jax_programs.compiled_as_shown = lambda lowered: lowered.compile(compiler_options=jax_programs.UNFUSED)

    def new(case: Case) -> None:
        arguments = case.network, case.parameters, case.batch
        if what in {"gradients", "prepare"}:
            module.gradients(*arguments)
        elif what == "bare":
            module.bare(*arguments)
        else:
            programs = module.compiled(module.Structure.of(case.network, case.batch))
            if what.startswith(("plain", "both")):
                programs.plain.compiled()
            if what != "plain":
                programs.probed.compiled()

    first, *others = cases(STRUCTURES)
    new(first)  # what is done once in a process
    started, used = time.perf_counter(), time.process_time()
    if what == "prepare":
        for case in others:
            module.prepare(case.network, case.batch)
    for case in others:
        new(case)
    seconds = time.perf_counter() - started, time.process_time() - used
    return dict(zip(("passed", "used"), (1000 * value / len(others) for value in seconds), strict=True))


def per_call() -> dict[str, float]:
    """Return the microseconds of a call once everything is compiled, at best."""
    from gradconform.adapters import jax as module

    case = cases(1)[0]
    found = {}
    for function in (module.gradients, module.bare):
        best = min(_seconds(lambda f=function: f(case.network, case.parameters, case.batch)) for _ in range(REPEATS))
        found[function.__name__] = 1e6 * best / CALLS
    return found


def _seconds(call: Callable[[], object]) -> float:
    call()
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return time.perf_counter() - started


def memory(shapes: int) -> Iterator[str]:
    """Yield how much memory this process has while it compiles so many shapes."""
    import numpy as np

    from gradconform.adapters.jax import bare
    from gradconform.case import Batch
    from gradconform.notation import parse

    for index in range(shapes):
        units, rows = index % 40 + 1, index // 40 + 1
        network = parse(f"3 -> Dense({units}) -> Tanh -> Dense(2), MeanSquaredError")
        parameters = {path: np.zeros(shape) for path, shape in network.parameters().items()}
        bare(network, parameters, Batch(np.zeros((rows, 3)), np.zeros((rows, 2))))
        if (index + 1) % (shapes // REPORTS) == 0:
            lines = Path("/proc/self/status").read_text("ascii").splitlines()
            resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
            yield f"{index + 1:>7,} shapes{resident / 1024:>8.0f} MiB"


def in_a_process(*arguments: str, cache: str) -> str:
    """Return what this script prints for these arguments in a process of its own."""
    environment = {name: text for name, text in os.environ.items() if name != compilation_cache.JAX_FOLDER}
    environment[compilation_cache.VARIABLE] = cache
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, metavar="SHAPES")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        compilation_cache.enable()
        if options.row == "memory":
            for line in memory(options.memory):
                print(line, flush=True)
        else:
            print(json.dumps(per_call() if options.row == "call" else measure(options.row)))
        return
    print(f"{STRUCTURES} new structures, milliseconds each{'passed':>12}{'used':>10}")
    for name, (row, warm) in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            if warm:
                in_a_process("--row", row, cache=folder)
            found = json.loads(in_a_process("--row", row, cache=folder if warm else "off"))
        print(f"{name:<37}{found['passed']:>12.0f}{found['used']:>10.0f}", flush=True)
    calls = json.loads(in_a_process("--row", "call", cache="off"))
    print("a call once compiled, microseconds  " + "   ".join(f"{name} {value:.0f}" for name, value in calls.items()))
    if options.memory:
        print(in_a_process("--row", "memory", "--memory", str(options.memory), cache="off"), end="")


if __name__ == "__main__":
    main()
