"""Planted faults that are held out: wrong in ways that have no name. Caught they must be, and named they cannot be.

They hold the diagnosis to its word: what it does not know, it calls unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.implementations import Compute
from gradconform.conformance.planting import Fault, alone, in_delta, in_parameters, in_rules, planted
from gradconform.layers import Dense, Record
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import gradients
from gradconform.reference.layers import Pullback, layer_rule

UNNAMED: dict[str, Fault] = {}
plant = partial(planted, UNNAMED, held_out=True)


def _places(array: Array) -> Array:
    """Return the number of each element, in C order."""
    return np.arange(array.size).reshape(array.shape)


def _seeded_noise(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    found = gradients(network, parameters, batch).parameters
    return {path: np.asarray(g * (1 + 1e-3 * rng.normal(size=g.shape)), g.dtype) for path, g in found.items()}


def _neighbours_averaged(array: Array) -> Array:
    return np.asarray((array + np.roll(array, 1, axis=0)) / 2)


def _dense(change: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[], Compute]:
    """Return a fault in dense layers: `change(x, weight)` gives what the backward pass takes for them."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        a, right = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, Dense):
            return a, right
        wrong_x, weight = change(x, parameters["weight"])

        def pullback(delta: Array) -> tuple[Array, dict[str, Array]]:
            return delta @ weight.T, {**right(delta)[1], "weight": wrong_x.T @ delta}

        return a, pullback

    return in_rules(rule)


plant("seeded-noise", "noise of a thousandth, the same in every call", lambda: _seeded_noise)
plant(
    "growing-bias",
    "the bias gradient of each unit is a hundredth larger than that of the unit before",
    in_parameters(
        lambda path, g, *_: np.asarray(g * (1 + _places(g) / 100), g.dtype) if g.ndim == 1 and g.size > 1 else g
    ),
)
plant(
    "neighbours-averaged",
    "neighbouring rows of the gradients of weights are averaged",
    alone(in_parameters(lambda path, g, *_: _neighbours_averaged(g) if g.ndim == 2 else g)),
)
plant(
    "power",
    "gradients are raised to the power of 1.01",
    in_parameters(lambda path, g, *_: np.asarray(np.sign(g) * np.abs(g) ** 1.01, g.dtype)),
)
plant(
    "checkerboard",
    "every other element of the gradients of weights has the wrong sign",
    alone(in_parameters(lambda path, g, *_: np.where(_places(g) % 2 == 1, -g, g) if g.ndim == 2 else g)),
)
plant(
    "third-elements",
    "every third element is three times as large",
    alone(in_parameters(lambda path, g, *_: np.where(_places(g) % 3 == 2, 3 * g, g))),
)
plant("delta-offset", "a thousandth is added to the output delta", in_delta(lambda delta, *_: delta + 1e-3))
plant(
    "delta-waves",
    "the output delta is multiplied by 1 + sin(z) / 10",
    alone(in_delta(lambda delta, loss, batch, z: delta * (1 + np.sin(np.clip(z, -100, 100)) / 10))),
)
plant(
    "inputs-blended",
    "a tenth of the batch's mean is blended into the incoming activations of the gradients of weights",
    _dense(lambda x, weight: (np.asarray(0.9 * x + 0.1 * x.mean(axis=0), x.dtype), weight)),
)
plant(
    "cosine-weights",
    "the delta is propagated through W cos(W)",
    alone(_dense(lambda x, weight: (x, weight * np.cos(weight)))),
)
plant(
    "odd-batches",
    "the gradients are a tenth larger in batches of an odd size",
    in_parameters(
        lambda path, g, _, batch, network: np.asarray(1.1 * g, g.dtype) if batch.rows % 2 and batch.rows > 1 else g
    ),
)
