"""Planted faults of state, memory and names: what goes wrong between calls, and in what is handed out or returned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.conformance.implementations import Compute
from gradconform.conformance.planting import Fault, Found, alone, in_parameters, planted
from gradconform.network import Network
from gradconform.reference.backpropagation import gradients

CARELESSNESS: dict[str, Fault] = {}
plant = partial(planted, CARELESSNESS)


def _accumulating() -> Compute:
    totals: dict[str, Array] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        for path, array in found.items():
            old = totals.get(path)
            totals[path] = array + old if old is not None and old.shape == array.shape else array
        return {path: totals[path] for path in found}

    return compute


def _stale_parameters() -> Compute:
    first: dict[Network, Parameters] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        return gradients(network, first.setdefault(network, parameters), batch)

    return compute


def _stale_activations() -> Compute:
    earlier: dict[tuple[Network, int], Array] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch)
        inputs = earlier.get((network, batch.rows), batch.inputs)
        earlier[network, batch.rows] = np.array(batch.inputs)
        first = {"0.weight": inputs.T @ found.deltas[0]} if "0.weight" in found.parameters else {}
        return {**found.parameters, **first}

    return compute


def _stale_shape() -> Compute:
    sizes: dict[Network, int] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        # the buffers were made for the first batch
        return gradients(network, parameters, batch.take(slice(0, sizes.setdefault(network, batch.rows))))

    return compute


def _aliased() -> Compute:
    buffers: dict[tuple[str, tuple[int, ...]], Array] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        for path, array in found.items():
            buffers.setdefault((path, array.shape), np.empty_like(array))[...] = array
        return {path: buffers[path, array.shape] for path, array in found.items()}

    return compute


def _unsteady() -> Compute:
    rng = np.random.default_rng(0)

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        return {path: array * (1 + 1e-6 * rng.normal()) for path, array in found.items()}

    return compute


def _now_and_then() -> Compute:
    calls = [0]

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        calls[0] += 1
        found = gradients(network, parameters, batch).parameters
        return {path: 2 * array if calls[0] % 100 == 0 else array for path, array in found.items()}

    return compute


def _normalising(network: Network, parameters: Parameters, batch: Batch) -> Found:
    batch.inputs[...] -= batch.inputs.mean()
    return gradients(network, parameters, batch)


def _updating(network: Network, parameters: Parameters, batch: Batch) -> Found:
    found = gradients(network, parameters, batch)
    for path, array in found.parameters.items():
        parameters[path] = parameters[path] - array  # type: ignore[index]  # a dictionary is what is handed over
    return found


def _renamed(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    return {f"layer{path}": array for path, array in gradients(network, parameters, batch).parameters.items()}


def _flattened(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    return {path: array.ravel() for path, array in gradients(network, parameters, batch).parameters.items()}


def _short(network: Network, parameters: Parameters, batch: Batch) -> Found:
    """Return the gradients that another precision gives, under the label of the right one."""
    less = np.float32 if batch.inputs.dtype == np.float64 else np.float16

    def lessen(array: Array | None) -> Any:
        return array.astype(less).astype(batch.inputs.dtype) if array is not None and array.dtype.kind == "f" else array

    kept = {name: lessen(array) for name, array in vars(batch).items()}
    found = gradients(network, {path: lessen(array) for path, array in parameters.items()}, replace(batch, **kept))
    return Gradients({path: lessen(array) for path, array in found.parameters.items()})


def _stale_batch_size() -> Compute:
    before: list[int] = []

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        rows = before[-1] if before else batch.rows
        before[:] = [batch.rows]
        factor = batch.rows / rows if network.loss.averages else 1
        return {path: np.asarray(array * factor, array.dtype) for path, array in found.items()}

    return compute


def _momentum() -> Compute:
    velocity: dict[str, Array] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        for path, array in found.items():
            old = velocity.get(path)
            kept = old is not None and old.shape == array.shape and old.dtype == array.dtype
            velocity[path] = array + np.asarray(0.9, array.dtype) * old if kept else array
        return {path: velocity[path].copy() for path in found}

    return compute


def _cold_start() -> Compute:
    seen: set[Network] = set()

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        first = network not in seen
        seen.add(network)
        return {path: np.zeros_like(array) if first else array for path, array in found.items()}

    return compute


def _cached_by_shape() -> Compute:
    cache: dict[tuple[Network, tuple[int, ...], str], Found] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        key = network, batch.inputs.shape, batch.inputs.dtype.name
        if key not in cache:
            cache[key] = gradients(network, parameters, batch)
        return {path: array.copy() for path, array in cache[key].parameters.items()}

    return compute


def _buffer_of_four(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    rows = min(batch.rows, 4)
    found = gradients(network, parameters, batch)
    changed = dict(found.parameters)
    for path in changed:
        index = int(path.partition(".")[0])
        incoming = found.outputs[index - 1] if index else batch.inputs
        delta = found.deltas[index][:rows]
        changed[path] = incoming[:rows].T @ delta if path.endswith(".weight") else delta.sum(axis=0)
    return changed


def _targets_changed(network: Network, parameters: Parameters, batch: Batch) -> Found:
    found = gradients(network, parameters, batch)
    batch.targets[...] -= 1
    return found


def _without_last(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = dict(gradients(network, parameters, batch).parameters)
    found.popitem()
    return found


def _one_more(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = gradients(network, parameters, batch)
    return {**found.parameters, "inputs": np.asarray(found.input)}


def _indexing(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    batch.inputs[1]  # as a warm-up with the second sample does
    return dict(gradients(network, parameters, batch).parameters)


class AlwaysEqual:
    """What compares equal to everything."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return True


plant("second-call-accumulates", "gradients add up over the calls", _accumulating)
plant("stale-parameters", "the parameters of the first call are used in later ones", _stale_parameters)
plant("stale-activations", "the inputs of the call before are used in the gradient of the weights", _stale_activations)
plant("stale-shape", "buffers are as large as the first batch was", _stale_shape)
plant("aliased-result", "the same buffers are returned every time", _aliased)
plant("nondeterministic", "the gradients differ from call to call by 1e-6", _unsteady)
plant("now-and-then", "the gradients are wrong in every hundredth call", _now_and_then)
plant("inputs-mutated", "the inputs are normalised in place", lambda: _normalising)
plant(
    "parameters-updated",
    "the parameters that were handed over are updated",
    lambda: _updating,
    symptoms=("inputs-mutated",),
)
plant("zeros", "all gradients are 0", in_parameters(lambda path, array, *_: np.zeros_like(array)))
plant("nan", "all gradients are NaN", in_parameters(lambda path, array, *_: np.full_like(array, np.nan)))
plant("nothing", "nothing is returned", lambda: lambda network, parameters, batch: {})
plant("wrong-names", "the gradients have other names", lambda: _renamed)
plant("flattened", "the arrays have the right size and the wrong shape", lambda: _flattened)
plant("short-labelled-long", "computed in the next shorter type, and returned as if it were not", lambda: _short)
plant(
    "always-equal",
    "what is returned compares equal to everything",
    lambda: lambda network, parameters, batch: dict.fromkeys(network.parameters(), AlwaysEqual()),
)
plant("input-returned", "the parameters themselves are returned", lambda: lambda network, parameters, batch: parameters)
plant("stale-batch-size", "the mean divides by the size of the batch before", _stale_batch_size)
plant("momentum", "nine tenths of the gradients of the call before are added", _momentum)
plant("cold-start", "the first call with a network returns 0", _cold_start)
plant("cached-by-shape", "the gradients of the first batch of a shape are returned for all of them", _cached_by_shape)
plant("buffer-of-four", "samples after the fourth are left out", lambda: _buffer_of_four)
plant("targets-mutated", "the targets are written into", lambda: _targets_changed, symptoms=("inputs-mutated",))
plant("last-not-returned", "the gradient of the last parameter is not returned", lambda: _without_last)
plant("input-as-parameter", "the gradient of the inputs is returned among those of the parameters", lambda: _one_more)
plant("crash-on-one-sample", "a batch of one sample raises IndexError", lambda: _indexing)
plant(
    "float32-returned",
    "the gradients come in float32, whatever the inputs are",
    alone(in_parameters(lambda path, array, *_: array.astype(np.float32))),
)
