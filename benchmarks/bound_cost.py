"""Time of a bound / time of a plain reference gradient, side by side in one run, on one thread.

    python benchmarks/bound_cost.py

For each network: the global bound, the local one, the affine one, and the global one of many cases of the same shape
that are evaluated together, per case. The functions take turns. The ratios are those of the lower quartiles of their
processor times, which other programs on the machine disturb little. The carrier is the type in which the exact value is
computed.
"""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # read when NumPy is imported

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients
from gradconform.reference.bounds import carrier_for, expected
from gradconform.reference.descent import initial_parameters

NETWORKS = [
    ("8 -> Dense(8) -> Tanh -> Dense(4), SoftmaxCrossEntropy", 8),
    ("16 -> Dense(16) -> GELU -> Dense(16) -> ReLU -> Dense(10), SoftmaxCrossEntropy", 7),
    ("64 -> Dense(64) -> Tanh -> Dense(64) -> Tanh -> Dense(10), SoftmaxCrossEntropy", 32),
    ("64 -> Dense(64) -> ReLU -> Dense(64) -> ReLU -> Dense(10), SoftmaxCrossEntropy", 32),
]
TOGETHER = 16
SECONDS = 4.0


def side_by_side(functions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the lower quartile of the times of each of several functions that take turns for a few seconds."""
    spent: dict[str, list[float]] = {name: [] for name in functions}
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        for name, function in functions.items():
            start = time.process_time()
            function()
            spent[name].append(time.process_time() - start)
    return {name: statistics.quantiles(times)[0] for name, times in spent.items()}


def stacked(parameters: Parameters, batch: Batch, rng: np.random.Generator) -> tuple[dict[str, Array], Batch]:
    """Return many cases of the same shape as arrays with one more axis."""
    several = {
        path: np.stack([array * rng.uniform(0.5, 2) for _ in range(TOGETHER)]) for path, array in parameters.items()
    }
    inputs = rng.normal(size=(TOGETHER, *batch.inputs.shape))
    return several, Batch(inputs, np.stack([rng.permutation(batch.targets) for _ in range(TOGETHER)]))


def main() -> None:
    # as a run of the suite does: glibc keeps freed memory after a large block was freed
    np.empty(30 << 20, np.uint8)
    print(f"numpy {np.__version__}, one thread, float64; {TOGETHER} cases together")
    print(f"{'plain':>10}{'global':>9}{'local':>9}{'affine':>9}{'together':>10}  carrier  network")
    rng = np.random.default_rng(0)
    for notation, rows in NETWORKS:
        network: Network = parse(notation)
        parameters = initial_parameters(network, 0)
        batch = Batch(rng.normal(size=(rows, network.inputs)), rng.integers(0, network.widths[-1], rows))
        many = stacked(parameters, batch, rng)
        shown = gradients(network, parameters, batch)
        times = side_by_side(
            {
                "plain": partial(gradients, network, parameters, batch),
                "global": partial(expected, network, parameters, batch),
                "local": partial(expected, network, parameters, batch, shown=shown),
                "affine": partial(expected, network, parameters, batch, affine=True),
                "together": partial(expected, network, *many),
            }
        )
        times["together"] /= TOGETHER
        ratios = "".join(f"{times[name] / times['plain']:>8.1f}x" for name in ("global", "local", "affine", "together"))
        carrier = np.dtype(carrier_for(network, batch)).name
        print(f"{1e3 * times['plain']:>7.3f} ms{ratios}  {carrier}  {notation} x {rows}")


if __name__ == "__main__":
    main()
