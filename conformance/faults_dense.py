"""Planted faults in dense layers: products, sums, and which activation and which delta they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.planting import Fault, Found, alone, in_layers, in_parameters, in_rules, planted
from gradconform.layers import Dense, Record, Softmax
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import gradients
from gradconform.reference.layers import Pullback, layer_rule

FAULTY_DENSE: dict[str, Fault] = {}
plant = partial(planted, FAULTY_DENSE)


def _dense(change: Callable[[Dense, Array, Mapping[str, Array], Array], tuple[Array, dict[str, Array]]]) -> Any:
    """Return a layer rule with another pullback for dense layers: `change(layer, x, parameters, delta)`."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        output, pullback = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, Dense):
            return output, pullback
        return output, lambda delta: change(layer, x, parameters, delta)

    return rule


def _right(
    layer: Dense, x: Array, parameters: Mapping[str, Array], delta: Array, **wrong: Array
) -> tuple[Array, dict[str, Array]]:
    """Return the right pullback of a dense layer, with what is given instead."""
    found = {"weight": x.T @ delta, **({"bias": delta.sum(axis=0)} if layer.bias else {})}
    below = wrong.pop("below", None)
    found |= {name: array for name, array in wrong.items() if name in found}
    return delta @ parameters["weight"].T if below is None else below, found


def _square(array: Array) -> bool:
    return bool(array.shape[0] == array.shape[1])


plant(
    "transposed",
    "dC/dw is transposed where the weight is square",
    in_parameters(lambda path, array, *_: array.T if array.ndim == 2 and _square(array) else array),
)
plant(
    "weight-not-transposed",
    "the delta is propagated through W instead of its transpose where the weight is square",
    in_rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, below=delta @ (p["weight"] if _square(p["weight"]) else p["weight"].T)
            )
        )
    ),
)
plant(
    "wrong-activation",
    "dC/dw uses the layer's own output instead of the incoming activation where both are as wide",
    in_rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer,
                x,
                p,
                delta,
                weight=((x @ p["weight"] + p.get("bias", 0)) if _square(p["weight"]) else x).T @ delta,
            )
        )
    ),
)
plant(
    "updated-weights",
    "the delta is propagated through weights that were updated already",
    in_rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, below=delta @ (p["weight"] - np.asarray(0.01, x.dtype) * (x.T @ delta)).T
            )
        )
    ),
)
plant(
    "bias-scalar",
    "one sum over samples and units is the gradient of every bias",
    in_rules(
        _dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=np.full(layer.units, delta.sum(), x.dtype)))
    ),
)
plant(
    "bias-mean",
    "the bias gradient is averaged over the batch where the loss already is",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=delta.mean(axis=0)))),
)
plant(
    "bias-first-row",
    "the bias gradient is that of the first sample",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=delta[0]))),
)
plant(
    "bias-missing",
    "the bias gradient is 0",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=np.zeros(layer.units, x.dtype)))),
)
plant(
    "last-sample-dropped",
    "the last sample of a batch is left out of the gradients of the weights",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, weight=x[:-1].T @ delta[:-1]))),
)


# Which activation, which delta.


def _delta_from_above(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = gradients(network, parameters, batch)
    changed = dict(found.parameters)
    for index in range(len(network.layers) - 1):
        if f"{index}.weight" in changed and not isinstance(network.layers[index + 1], Dense | Softmax):
            incoming = found.outputs[index - 1] if index else batch.inputs
            changed[f"{index}.weight"] = incoming.T @ found.deltas[index + 1]
    return changed


def _swapped_layers(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = gradients(network, parameters, batch).parameters
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for path, array in found.items():
        alike.setdefault((path.partition(".")[2], array.shape), []).append(path)
    turned = {path: other for paths in alike.values() for path, other in zip(paths, reversed(paths), strict=True)}
    return {path: found[turned[path]].copy() for path in found}


def _first_bias_missing(network: Network, parameters: Parameters, batch: Batch) -> Found:
    found = gradients(network, parameters, batch)
    first = next((path for path in found.parameters if path.endswith(".bias")), None)
    if first is None:
        return found
    return replace(found, parameters={**found.parameters, first: np.zeros_like(found.parameters[first])})


def _without_last_input(gradient: Array) -> Array:
    changed = gradient.copy()
    changed[-1:] = 0
    return changed


plant(
    "delta-from-above",
    "the gradients of weights take the delta from above the activation, without its derivative",
    lambda: _delta_from_above,
)
plant("swapped-layers", "layers of the same shape have each other's gradients", lambda: _swapped_layers)
plant(
    "first-bias-missing", "the gradient of the first bias is 0", lambda: _first_bias_missing, symptoms=("bias-missing",)
)
plant(
    "detached",
    "nothing is propagated below the last dense layer: the gradients of the others are 0",
    in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, below=np.zeros_like(x)))),
)
plant(
    "samples-misaligned",
    "the incoming activation of one sample is multiplied by the delta of the next",
    alone(
        in_rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, weight=x.T @ np.roll(delta, 1, axis=0))))
    ),
)
plant(
    "last-input-dropped",
    "the weights of the last incoming activation get no gradient",
    alone(in_parameters(lambda path, array, *_: _without_last_input(array) if array.ndim == 2 else array)),
)
plant(
    "last-unit-dropped",
    "the weights and the bias of the last unit get no gradient",
    in_parameters(lambda path, array, *_: _without_last_input(array.T).T),
)


# Shapes and axes.

_AS_MANY = "4 -> Dense(3) -> Tanh -> Dense(5), MeanSquaredError"
"""Batches of 3 and of 5 samples are among those that are drawn."""


class _BiasDownRows(Plain):
    """The bias is added along the samples where there are as many of them as units."""

    def affine(self, x: Array, weight: Array, bias: Array | None) -> Array:
        z = np.asarray(x @ weight)
        if bias is None:
            return z
        return z + (bias[:, None] if _square(z) else bias)


class _ForwardTransposed(Plain):
    """Weights are used as (out, in), where they fit."""

    def affine(self, x: Array, weight: Array, bias: Array | None) -> Array:
        return np.asarray(super().affine(x, weight.T if _square(weight) else weight, bias))


plant(
    "bias-axis",
    "the bias gradient is summed over the units instead of the samples where both are as many",
    alone(
        in_rules(
            _dense(
                lambda layer, x, p, delta: _right(
                    layer, x, p, delta, bias=delta.sum(axis=1) if _square(delta) else delta.sum(axis=0)
                )
            )
        )
    ),
    networks=_AS_MANY,
)
plant(
    "bias-down-rows",
    "the bias is broadcast over the wrong axis where there are as many samples as units",
    in_rules(arithmetic=_BiasDownRows),
    networks=_AS_MANY,
)
plant(
    "forward-transposed",
    "the forward pass uses the transpose of a square weight",
    in_rules(arithmetic=_ForwardTransposed),
)
plant(
    "bias-sum",
    "the bias gradient is not divided by the batch size, those of the weights are",
    alone(
        in_parameters(
            lambda path, array, _, batch, network: (
                array * batch.rows if array.ndim == 1 and network.loss.averages else array
            )
        )
    ),
)
plant(
    "squeezed-sample",
    "a batch of one sample is squeezed: its bias gradient becomes one sum over the units",
    alone(
        in_rules(
            _dense(
                lambda layer, x, p, delta: _right(
                    layer, x, p, delta, bias=np.full(layer.units, delta.sum(axis=None if len(x) == 1 else 0), x.dtype)
                )
            )
        )
    ),
    symptoms=("bias-scalar",),
)
plant(
    "squeezed-unit",
    "the gradient of a weight with one unit has lost its axis",
    alone(in_parameters(lambda path, array, *_: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array)),
)
plant(
    "all-transposed",
    "all gradients of weights come as (out, in)",
    alone(in_parameters(lambda path, array, *_: array.T.copy())),
)
plant(
    "bias-keepdims",
    "the bias gradient is a row of shape (1, units)",
    alone(in_parameters(lambda path, array, *_: array[None] if array.ndim == 1 else array)),
)
plant(
    "bias-not-reduced",
    "the bias gradient is not summed over the samples",
    alone(in_layers(lambda index, network, x, a, own, right, delta: _unreduced(right, delta))),
)


def _unreduced(right: Pullback, delta: Array) -> tuple[Array, dict[str, Array]]:
    below, found = right(delta)
    return below, {name: delta if name == "bias" else array for name, array in found.items()}
