"""Reference time / PyTorch autograd time for the same gradients, side by side in one run, on one thread.

    python benchmarks/reference_speed.py
    python benchmarks/reference_speed.py --seconds 10    longer, for a machine that is busy with other things

Both compute the cost, all parameters' gradients and the input's from arrays that are there; the reference returns all
outputs and deltas besides. PyTorch runs the plain `torch.nn` module and `torch.autograd.grad`, without the conversions
of the adapter. The two take turns, without garbage collection. Times are processor times, which other programs on the
machine disturb less than the clock's, and their lower quartiles; `upper` is the ratio of the upper quartiles.

NumPy and PyTorch bring matrix products of their own, often from different libraries. The second table is their ratio in
the three products of a layer alone, x W, x^T delta and delta W^T: what remains above it is the reference's.
"""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # read when NumPy is imported

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from gradconform.case import Array, Batch, Parameters
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients
from gradconform.reference.descent import initial_parameters

SIZES = (
    ((4, 8, 3), 1),
    ((4, 8, 3), 16),
    ((16, 32, 32, 10), 32),
    ((64, 64, 64, 10), 32),
    ((256, 512, 512, 10), 256),
    ((1024, 1024, 1024, 10), 512),
)
"""Widths and batch sizes."""
PRODUCTS = ((16, 4, 8), (32, 64, 64), (256, 512, 512), (512, 1024, 1024))
"""Rows, inputs and outputs of layers whose products are compared alone."""
MODULES = {"Tanh": torch.nn.Tanh, "ReLU": torch.nn.ReLU}
DTYPES = ("float64", "float32")
LEAST = 7
"""How often the slowest are repeated."""

Step = Callable[[], object]


def case_of(notation: str, rows: int, dtype: str) -> tuple[Network, Parameters, Batch]:
    """Return a network with initial parameters and a random batch."""
    network, rng = parse(notation), np.random.default_rng(0)
    parameters = {path: array.astype(dtype) for path, array in initial_parameters(network, 0).items()}
    inputs = rng.normal(size=(rows, network.inputs)).astype(dtype)
    return network, parameters, Batch(inputs, rng.integers(0, network.widths[-1], rows))


def torch_step(network: Network, parameters: Parameters, batch: Batch) -> Step:
    """Return a function that runs forward and backward of the same network, in PyTorch's own way."""
    layers: list[torch.nn.Module] = []
    for layer, width in zip(network.layers, network.widths, strict=False):
        name = type(layer).__name__
        layers.append(torch.nn.Linear(width, layer.outputs(width)) if name == "Dense" else MODULES[name]())
    inputs = torch.tensor(batch.inputs, requires_grad=True)
    module = torch.nn.Sequential(*layers).to(inputs.dtype)
    module.load_state_dict({path: torch.tensor(array.T.copy()) for path, array in parameters.items()})
    targets, cost = torch.tensor(batch.targets), torch.nn.CrossEntropyLoss()
    wanted = [*module.parameters(), inputs]
    return lambda: torch.autograd.grad(cost(module(inputs), targets), wanted)


def side_by_side(one: Step, other: Step, seconds: float) -> tuple[list[float], list[float]]:
    """Return the times of two functions that take turns for so long, the first calls left out."""
    times: tuple[list[float], list[float]] = ([], [])
    one(), other()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[0]) < LEAST:
        for function, spent in zip((one, other), times, strict=True):
            start = time.process_time()
            function()
            spent.append(time.process_time() - start)
    return times


def line(ours: list[float], theirs: list[float]) -> str:
    """Return the lower quartiles of the times, their ratio, and that of the upper ones."""
    (mine, _, my_upper), (its, _, its_upper) = statistics.quantiles(ours), statistics.quantiles(theirs)
    milliseconds = "".join(f"{1e3 * seconds:>9.3f} ms" for seconds in (mine, its))
    return f"{milliseconds}{mine / its:>8.2f}{my_upper / its_upper:>8.2f}"


def products(rows: int, inputs: int, outputs: int, dtype: str) -> dict[str, tuple[Step, Step]]:
    """Return the three products of a layer, in NumPy and in PyTorch."""
    rng = np.random.default_rng(0)
    shapes = ((rows, inputs), (inputs, outputs), (rows, outputs))
    x, weight, delta = (rng.normal(size=shape).astype(dtype) for shape in shapes)

    def both(left: Array, right: Array) -> tuple[Step, Step]:
        # from_numpy keeps what is transposed
        return partial(np.matmul, left, right), partial(torch.matmul, torch.from_numpy(left), torch.from_numpy(right))

    return {"x W": both(x, weight), "x^T delta": both(x.T, delta), "delta W^T": both(delta, weight.T)}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each row is measured")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    gc.disable()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    own = "MKL" if torch.backends.mkl.is_available() else "another BLAS"
    print(f"numpy {np.__version__} with {blas['name']} {blas['version']}, torch {torch.__version__} with {own}")
    print("one thread; time of the gradients of a softmax cross entropy, and their ratio")
    print(f"{'reference':>12}{'torch':>12}{'ratio':>8}{'upper':>8}  network, batch")
    for (widths, rows), activation, dtype in itertools.product(SIZES, MODULES, DTYPES):
        layers = f" -> {activation} -> ".join(f"Dense({width})" for width in widths[1:])
        network, parameters, batch = case_of(f"{widths[0]} -> {layers}, SoftmaxCrossEntropy", rows, dtype)
        step = torch_step(network, parameters, batch)
        ours, theirs = side_by_side(partial(gradients, network, parameters, batch), step, seconds)
        print(f"{line(ours, theirs)}  {widths} {activation}, {rows}, {dtype}", flush=True)
    print("\nmatrix products alone")
    print(f"{'numpy':>12}{'torch':>12}{'ratio':>8}{'upper':>8}  product, (rows, inputs, outputs)")
    for shape, dtype in itertools.product(PRODUCTS, DTYPES):
        for name, (mine, its) in products(*shape, dtype).items():
            ours, theirs = side_by_side(mine, its, seconds / 4)
            print(f"{line(ours, theirs)}  {name}, {shape}, {dtype}", flush=True)


if __name__ == "__main__":
    main()
