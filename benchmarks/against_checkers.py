"""Time, smallest error caught and memory, beside gradcheck and check_grads, from a hundred to a million parameters.

    python benchmarks/against_checkers.py                  some ten minutes; every cell is a process of its own
    python benchmarks/against_checkers.py --limit 20       so many seconds for each cell

One case for all: dense layers with tanh between, softmax cross entropy of 8 samples, float64, one thread. The time is
that of one check of all parameters' gradients, where they are right, without imports and without what the first call
compiles: the median processor time of up to ten, which other programs on the machine disturb little. The error is a
relative one of a single element of one parameter's gradient, drawn among those that are not 0: of a ladder of two a
decade the smallest on which the check complains, the median over up to five elements. The memory is the most that the
first check takes beyond what the process has before it; JAX's compiler is in it.

The checkers have their defaults. gradcheck is given a `torch.autograd.Function` of all parameters whose forward and
backward pass are PyTorch's own; its fast mode starts the slow one where it finds something, only to print both
matrices, which is left out here. check_grads is given a `jax.custom_vjp` function, both passes compiled, in reverse
mode, order 1 and float64. gradconform judges all that agreement asks for: of a plain function that returns PyTorch's
gradients alone, and of the adapters, which show every step.
"""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # read when NumPy is imported
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import argparse
import bisect
import dataclasses
import importlib
import importlib.metadata
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradconform.case import Array, Batch, Case, Gradients, Parameters
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.implementations import Implementation, adapter, of
from gradconform.conformance.judge import judge
from gradconform.conformance.sharpness import LADDER
from gradconform.conformance.situation import Situation
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients
from gradconform.reference.descent import initial_parameters

WIDTHS = ((4, 8, 5, 3), (16, 24, 16, 10), (64, 80, 56, 10), (256, 256, 128, 10), (784, 800, 440, 10))
ROWS = 8
ELEMENTS = 5
LARGE = 10_000
"""From so many parameters on, time and memory are those of the arrays: the exponent is fitted there."""
AGREEMENT = [check for check in CHECKS.values() if check.run.__module__.endswith(".agreement")]


@dataclass
class Fault:
    """An element of a parameter's gradient and its relative error."""

    path: str = ""
    index: tuple[int, ...] = ()
    error: float = 0.0

    def put(self, found: Mapping[str, Any]) -> None:
        """Make the element wrong, in place."""
        if self.path:
            found[self.path][self.index] *= 1 + self.error


Complains = Callable[[], bool]
"""Runs one check of the case with the fault, and returns whether it finds something."""


def case_of(widths: tuple[int, ...]) -> Case:
    """Return the case of one size."""
    layers = " -> Tanh -> ".join(f"Dense({width})" for width in widths[1:])
    network, rng = parse(f"{widths[0]} -> {layers}, SoftmaxCrossEntropy"), np.random.default_rng(0)
    batch = Batch(rng.normal(size=(ROWS, widths[0])), rng.integers(0, widths[-1], ROWS))
    return Case(network, initial_parameters(network, 0), batch)


def torch_cost(batch: Batch) -> Callable[[list[Any]], Any]:
    """Return the cost as a function of the parameters' tensors, in PyTorch."""
    import torch

    torch.set_num_threads(1)
    inputs, targets = torch.tensor(batch.inputs), torch.tensor(batch.targets)

    def cost(tensors: list[Any]) -> Any:
        x = inputs
        for place in range(0, len(tensors), 2):
            x = (torch.tanh(x) if place else x) @ tensors[place] + tensors[place + 1]
        return torch.nn.functional.cross_entropy(x, targets)

    return cost


def torch_gradients(cost: Callable[[list[Any]], Any], tensors: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    """Return PyTorch's gradients of all parameters, with the fault."""
    import torch

    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in tensors.values()]
        found = dict(zip(tensors, torch.autograd.grad(cost(leaves), leaves), strict=True))
    fault.put(found)
    return found


def gradcheck(case: Case, fault: Fault, *, fast: bool) -> Complains:
    """Return torch.autograd.gradcheck of a function of all parameters."""
    import torch

    # private, and only there to print matrices: without it a failure of the fast mode takes the slow mode's memory
    private: Any = importlib.import_module("torch.autograd.gradcheck")
    private._run_slow_mode_and_get_error = lambda *arguments, **options: "not asked for"
    cost = torch_cost(case.batch)

    class Cost(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: torch.Tensor) -> Any:
            ctx.save_for_backward(*tensors)
            return cost(list(tensors))

        @staticmethod
        def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
            found = torch_gradients(cost, dict(zip(case.parameters, ctx.saved_tensors, strict=True)), fault)
            return tuple(upstream[0] * gradient for gradient in found.values())

    tensors = tuple(torch.tensor(array, requires_grad=True) for array in case.parameters.values())
    return lambda: not torch.autograd.gradcheck(Cost.apply, tensors, fast_mode=fast, raise_exception=False)


def check_grads(case: Case, fault: Fault) -> Complains:
    """Return jax.test_util.check_grads of a function of all parameters."""
    import jax
    import jax.numpy as jnp
    import jax.test_util

    jax.config.update("jax_enable_x64", True)
    inputs, targets = jnp.asarray(case.batch.inputs), jnp.asarray(case.batch.targets)

    def plain(arrays: Any) -> Any:
        x, values = inputs, [arrays[path] for path in case.parameters]  # JAX sorts what stands in a dictionary
        for place in range(0, len(values), 2):
            x = (jnp.tanh(x) if place else x) @ values[place] + values[place + 1]
        return -jnp.take_along_axis(jax.nn.log_softmax(x), targets[:, None], axis=1).mean()

    compiled, compiled_gradients = jax.jit(plain), jax.jit(jax.grad(plain))
    cost = jax.custom_vjp(compiled)

    def backward(arrays: Any, upstream: Any) -> Any:
        found = {path: upstream * gradient for path, gradient in compiled_gradients(arrays).items()}
        if fault.path:
            found[fault.path] = found[fault.path].at[fault.index].multiply(1 + fault.error)
        return (found,)

    cost.defvjp(lambda arrays: (compiled(arrays), arrays), backward)
    given = {path: jnp.asarray(array) for path, array in case.parameters.items()}

    def complains() -> bool:
        try:
            jax.test_util.check_grads(cost, (given,), order=1, modes=["rev"])
        except AssertionError:
            return True
        return False

    return complains


def gradients_alone(case: Case, fault: Fault) -> Complains:
    """Return the judgement of a plain function that returns PyTorch's gradients."""
    import torch

    def candidate(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        tensors = {path: torch.tensor(parameters[path]) for path in network.parameters()}
        found = torch_gradients(torch_cost(batch), tensors, fault)
        return {path: gradient.numpy() for path, gradient in found.items()}

    candidate.arithmetic = "torch"  # type: ignore[attr-defined]
    return _judgement(of(candidate), case)


def adapted(name: str, case: Case, fault: Fault) -> Complains:
    """Return the judgement of an adapter, which shows outputs and deltas."""
    implementation = adapter(name)

    def candidate(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
        found: Gradients[Array] = implementation.gradients(network, parameters, batch)
        for run in (found, found.captured):
            if run is not None:
                fault.put(run.parameters)
        return found

    return _judgement(dataclasses.replace(implementation, gradients=candidate), case)


def _judgement(implementation: Implementation, case: Case) -> Complains:
    return lambda: bool(judge(implementation, Situation(case), AGREEMENT).failures)


CHECKERS: dict[str, Callable[[Case, Fault], Complains]] = {
    "gradcheck, slow": lambda case, fault: gradcheck(case, fault, fast=False),
    "gradcheck, fast": lambda case, fault: gradcheck(case, fault, fast=True),
    "gradconform, torch, gradients alone": gradients_alone,
    "gradconform, torch, steps shown": lambda case, fault: adapted("torch", case, fault),
    "check_grads": check_grads,
    "gradconform, jax, steps shown": lambda case, fault: adapted("jax", case, fault),
}


def memory(field: str) -> int:
    """Return VmRSS, the bytes that the process has, or VmHWM, the most that it had."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def measure(name: str, size: int, limit: float) -> None:
    """Print one cell as far as it is known, a line of JSON each: time and memory, then the error of each element."""
    CHECKERS[name](case_of(WIDTHS[0]), Fault())()  # what is loaded at the first call is no check's own memory
    case, fault = case_of(WIDTHS[size]), Fault()
    complains = CHECKERS[name](case, fault)
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # VmHWM starts again
    before = memory("VmRSS")
    started = time.process_time()
    wolf = complains()
    first, peak, times = time.process_time() - started, memory("VmHWM") - before, list[float]()
    while first < limit / 4 and (not times or (len(times) < 10 and sum(times) < limit / 20)):
        started = time.process_time()
        complains()
        times.append(time.process_time() - started)
    print(json.dumps({"seconds": statistics.median(times or [first]), "bytes": peak, "wolf": wolf}), flush=True)
    rng, right = np.random.default_rng(1), gradients(case.network, case.parameters, case.batch).parameters
    places = [(path, index) for path, array in right.items() for index in np.flatnonzero(array)]
    for place in rng.choice(len(places), ELEMENTS, replace=False):
        path, index = places[place]
        fault.path, fault.index = path, tuple(int(i) for i in np.unravel_index(index, right[path].shape))
        print(json.dumps({"caught": _smallest(complains, fault)}), flush=True)


def _smallest(complains: Complains, fault: Fault) -> float:
    def found(error: float) -> bool:
        fault.error = error
        return complains()

    rung = bisect.bisect_left(LADDER, True, key=found)
    return LADDER[rung] if rung < len(LADDER) else math.inf


def cell(name: str, size: int, limit: float) -> dict[str, Any]:
    """Return what a process of its own measured within the limit: seconds, bytes, wolf and the median error caught."""
    command = [sys.executable, __file__, "--cell", name, str(size), "--limit", str(limit)]
    try:
        output = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit, check=True).stdout
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
    known: dict[str, Any] = {}
    caught: list[float] = []
    for line in output.decode().splitlines():
        entry = json.loads(line)
        if "caught" in entry:
            caught.append(entry["caught"])
        else:
            known = entry
    return known | ({"caught": statistics.median_high(caught)} if caught else {})


def exponent(sizes: list[int], values: list[float | None]) -> str:
    """Return the exponent p of size ** p that fits best, of the large sizes that were measured."""
    pairs = [(size, value) for size, value in zip(sizes, values, strict=True) if value and size >= LARGE]
    logs = [[math.log(number) for number in numbers] for numbers in zip(*pairs, strict=True)]
    return f"{statistics.linear_regression(*logs).slope:.2f}" if len(pairs) > 1 else ""


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each cell, by the clock")
    parser.add_argument("--largest", type=int, default=2_000_000, help="leave out networks of more parameters")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        measure(arguments.cell[0], int(arguments.cell[1]), arguments.limit)
        return
    counts = [sum(array.size for array in case_of(widths).parameters.values()) for widths in WIDTHS]
    counts = [count for count in counts if count <= arguments.largest]
    late = f"> {arguments.limit:g} s"
    rows = {}
    for name in CHECKERS:
        rows[name] = [cell(name, size, arguments.limit) for size in range(len(counts))]
        print(f"measured {name}", file=sys.stderr, flush=True)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "torch", "jax"))
    print(f"{versions}; up to {arguments.limit:g} s for each cell; the columns are numbers of parameters")
    head = "".join(f"{count:>12,}" for count in counts)
    tables: dict[str, tuple[str, Callable[[float], str], str]] = {
        "seconds of one check, processor time": ("seconds", "{:.3g}".format, late),
        "smallest relative error caught, median of elements": (
            "caught",
            lambda error: "none" if error == math.inf else f"{error:.0e}",
            "?",
        ),
        "MB that it takes": ("bytes", lambda count: f"{count / 1e6:.3g}", "?"),
    }
    for title, (key, written, missing) in tables.items():
        print(f"\n{title:<52}{head}{'' if key == 'caught' else '    exponent'}")
        for name, cells in rows.items():
            values = [entry.get(key) for entry in cells]
            shown = "".join(f"{missing if value is None else written(value):>12}" for value in values)
            fitted = "" if key == "caught" else f"{exponent(counts, values):>12}"
            wolf = "   complains of the right gradient" if any(entry.get("wolf") for entry in cells) else ""
            print(f"{name:<52}{shown}{fitted}{wolf}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
