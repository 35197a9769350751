"""What a first run costs: networks held against each other, from the start of the interpreter to the verdict.

    python benchmarks/cold_start.py                        100 networks, some minutes
    python benchmarks/cold_start.py --networks 40 --seed 3

`gradconform check` compares NumPy, PyTorch and JAX, or JAX alone, with bounds, two looks and every relation: without
anything that was compiled before (cold), and with what an earlier run has left (warm). The loop beside it is what one
would write: draw a network, its parameters and a batch, and call each framework, JAX's gradients under `jax.jit` or as
they are; it only computes, and judges nothing. Both draw by the same strategies, in float64; each network of the loop
is new, where the check has several cases of a structure. Each row is a process of its own. *all* is the time of the
process; *run* is without the imports; *used* is what all its threads used, whatever else the machine does.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is imported

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

DTYPE = "float64"
WAYS = {"a loop, jax.jit": "jit", "a loop, without jit": "eager"}
WHO = {"NumPy, PyTorch and JAX": [], "JAX alone": ["jax"]}


class Times(NamedTuple):
    """Seconds of a process, of it without its imports, and of its threads together."""

    all: float
    run: float
    used: float

    def over(self, other: Times) -> str:
        """Return the three ratios to another process's."""
        return "".join(f"{one / another:>9.1f}" for one, another in zip(self, other, strict=True))

    def __str__(self) -> str:
        return "".join(f"{seconds:>8.1f}" for seconds in self)


def timed(command: list[str], more: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run a process to its end; return it with the seconds that passed and that it used."""
    environment = {name: text for name, text in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=False)
    passed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done, passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def checked(targets: list[str], networks: int, seed: int, cache: Path) -> Times:
    """Return what `gradconform check` takes with a folder of compiled programs."""
    result = cache.parent / "result.json"
    command = [
        *[str(Path(sys.executable).parent / "gradconform"), "check", *targets, "--dtype", DTYPE, "--no-cases"],
        *["--max-examples", str(networks), "--seed", str(seed), "--json", str(result)],
    ]
    _, passed, used = timed(command, {"GRADCONFORM_CACHE": str(cache)})
    return Times(passed, json.loads(result.read_text("utf-8"))["seconds"], used)


def looped(way: str, targets: list[str], networks: int, seed: int) -> Times:
    """Return what the loop takes, in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--networks", str(networks), "--seed", str(seed), *targets]
    done, passed, used = timed(command, {})
    return Times(passed, float(done.stdout), used)


def loop(way: str, targets: list[str], networks: int, seed: int) -> float:
    """Draw so many networks and call each framework; return the seconds that it took."""
    from hypothesis import Phase

    from gradconform.conformance.implementations import adapter, everything
    from gradconform.conformance.plan import Chunk, Plan, draw_examples

    asked = [adapter(name) for name in targets] or everything()
    calls = [naive_jax(way) if entry.name == "jax" else entry.gradients for entry in asked]
    plan = Plan(asked, seed=seed, draws=1)
    started = time.perf_counter()
    drawn: list[Any] = []
    for start in itertools.count():
        if len(drawn) >= networks:
            break
        draw_examples(plan, Chunk(start=start), [Phase.generate], drawn.append)
    for example in drawn[:networks]:
        case = example.case(example.draws[0], DTYPE)
        for call in calls:
            call(case.network, case.parameters, case.batch)
    return time.perf_counter() - started


def naive_jax(way: str) -> Callable[..., object]:
    """Return the gradients of a network in JAX as one writes them down."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gradconform.adapters.jax import layer_rule, loss_rule
    from gradconform.case import Batch, Parameters
    from gradconform.network import Network

    jax.config.update("jax_enable_x64", True)

    def gradients(network: Network, parameters: Parameters, batch: Batch) -> object:
        targets = batch.targets
        if batch.labelled:
            # a row of zeros to one_hot, whatever number ignore_index is
            ignored = getattr(network.loss, "ignore_index", None)
            targets = np.where(targets == ignored, -1, targets)

        def cost(parameters: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
            found = inputs
            for index, (layer, width) in enumerate(zip(network.layers, network.widths, strict=False)):
                own = {name: parameters[f"{index}.{name}"] for name in layer.parameters(width)}
                found = layer_rule(layer, own, found)
            weights = None if batch.class_weights is None else jnp.asarray(batch.class_weights)
            costs = loss_rule(network.loss, found, jnp.asarray(targets), weights)
            return jnp.sum(costs if batch.cotangent is None else costs * batch.cotangent)

        function = jax.value_and_grad(cost, argnums=(0, 1))
        if way == "jit":
            function = jax.jit(function)
        own = {path: jnp.asarray(array) for path, array in parameters.items()}
        return jax.tree.map(np.asarray, function(own, jnp.asarray(batch.inputs)))

    return gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--way", choices=list(WAYS.values()), help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        print(loop(options.way, options.targets, options.networks, options.seed))
        return
    over = "".join(f"{name + ' / it':>27}" for name in WAYS)
    print(f"{f'{options.networks} networks, seconds':<34}{'all':>8}{'run':>8}{'used':>8}  {over}")
    for who, targets in WHO.items():
        print(who)
        loops = []
        for name, way in WAYS.items():
            loops.append(looped(way, targets, options.networks, options.seed))
            print(f"  {name:<32}{loops[-1]}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for state in ("cold", "warm"):
                times = checked(targets, options.networks, options.seed, Path(folder) / "cache")
                ratios = "".join(one.over(times) for one in loops)
                print(f"  gradconform check, {state:<13}{times}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
