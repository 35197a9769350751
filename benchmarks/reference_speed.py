"""Reference time / PyTorch autograd time for the same gradients, side by side in one run, on one thread.

    python benchmarks/reference_speed.py

Both compute the cost, all parameters' gradients and the input's from NumPy arrays that are there. PyTorch runs the
plain `torch.nn` module, without the conversions of the adapter. The two take turns, and the ratio is that of the
medians; the spread is the ratio of the fastest and of the slowest quartile.
"""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # read when NumPy is imported

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from gradconform.case import Batch
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients
from gradconform.reference.descent import initial_parameters

NETWORKS = [
    ("4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy", 16),
    ("16 -> Dense(32) -> ReLU -> Dense(32) -> ReLU -> Dense(10), SoftmaxCrossEntropy", 32),
    ("64 -> Dense(64) -> Sigmoid -> Dense(64) -> Sigmoid -> Dense(10), MeanSquaredError", 32),
    ("256 -> Dense(512) -> ReLU -> Dense(512) -> ReLU -> Dense(10), SoftmaxCrossEntropy", 256),
    ("256 -> Dense(512) -> Tanh -> Dense(512) -> Tanh -> Dense(10), SoftmaxCrossEntropy", 256),
]
MODULES = {"Tanh": torch.nn.Tanh, "ReLU": torch.nn.ReLU, "Sigmoid": torch.nn.Sigmoid}
SECONDS = 3.0


def torch_step(network: Network, batch: Batch) -> Callable[[], object]:
    """Return a function that runs forward and backward of the same network, in PyTorch's own way."""
    layers: list[torch.nn.Module] = []
    for layer, width in zip(network.layers, network.widths, strict=False):
        name = type(layer).__name__
        layers.append(torch.nn.Linear(width, layer.outputs(width)) if name == "Dense" else MODULES[name]())
    module = torch.nn.Sequential(*layers).double()
    inputs = torch.tensor(batch.inputs, requires_grad=True)
    targets = torch.tensor(batch.targets)
    cost = torch.nn.CrossEntropyLoss() if targets.ndim == 1 else torch.nn.MSELoss()
    wanted = [*module.parameters(), inputs]
    return lambda: torch.autograd.grad(cost(module(inputs), targets), wanted)


def side_by_side(one: Callable[[], object], other: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Return the times of two functions that take turns for a few seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until or len(times[0]) < 20:
        for function, spent in zip((one, other), times, strict=True):
            start = time.perf_counter()
            function()
            spent.append(time.perf_counter() - start)
    return times


def main() -> None:
    torch.set_num_threads(1)
    print(f"numpy {np.__version__}, torch {torch.__version__}, one thread, float64")
    print(f"{'reference':>12}{'torch':>12}{'ratio':>8}{'quartiles':>14}  network")
    rng = np.random.default_rng(0)
    for notation, rows in NETWORKS:
        network = parse(notation)
        parameters = initial_parameters(network, 0)
        outputs = network.widths[-1]
        labels = network.loss.labels == "classes"
        targets = rng.integers(0, outputs, rows) if labels else rng.normal(size=(rows, outputs))
        batch = Batch(rng.normal(size=(rows, network.inputs)), targets)
        step = torch_step(network, batch)
        ours, theirs = side_by_side(lambda n=network, p=parameters, b=batch: gradients(n, p, b), step)
        ratio = statistics.median(ours) / statistics.median(theirs)
        low, high = (statistics.quantiles(ours)[i] / statistics.quantiles(theirs)[i] for i in (0, 2))
        milliseconds = [1e3 * statistics.median(times) for times in (ours, theirs)]
        print(
            f"{milliseconds[0]:>9.3f} ms{milliseconds[1]:>9.3f} ms{ratio:>8.2f}{low:>8.2f}-{high:.2f}"
            f"  {notation} x {rows}"
        )


if __name__ == "__main__":
    main()
