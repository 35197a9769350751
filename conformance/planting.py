"""How a fault is planted: the reference with one thing wrong, as an implementation like any other.

Planted faults prove that the alarm rings: every one is caught by the suite in a test. Each tells what is wrong, which
networks expose it, so that a run of ordinary length meets it, and which names of its mistake are right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.conformance.implementations import Compute, Implementation
from gradconform.layers import Dense, Record, Softmax
from gradconform.losses import Loss, LossRecord
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain, Value
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.layers import Pullback, layer_rule
from gradconform.reference.losses import cost

Found = Gradients[Array]


@dataclass(frozen=True)
class Fault:
    """A planted fault: `make` returns a fresh faulty implementation, with state of its own where it keeps some.

    `losses`, or `networks` in notation, are where it is met, as its author would meet it; without either, all networks
    are drawn. `symptoms` are the ids of the symptoms that name it rightly: its own id, and those of other mistakes that
    compute the same. One that is `held_out` is no mistake that anybody has a name for: it has none, and the right
    answer is that its cause is unknown.
    """

    id: str
    sentence: str
    make: Callable[[], Compute]
    losses: tuple[type[Loss], ...] = ()
    networks: str = ""
    symptoms: tuple[str, ...] = ()
    held_out: bool = False

    def is_called(self, symptom: str) -> bool:
        """Return whether a symptom is right: one of the alternatives that it leaves open names nothing else."""
        return any(set(alternative.split(" + ")) <= set(self.symptoms) for alternative in symptom.split(" or "))

    def implementation(self) -> Implementation:
        """Return a fresh instance of the fault as an implementation."""
        return Implementation(self.id, self.make())


def planted(
    faults: dict[str, Fault],
    identifier: str,
    sentence: str,
    make: Callable[[], Compute],
    *losses: type[Loss],
    networks: str = "",
    symptoms: tuple[str, ...] = (),
    held_out: bool = False,
) -> None:
    """Add a fault to others. `symptoms`: what names it rightly beside its own id."""
    names = () if held_out else (identifier, *symptoms)
    faults[identifier] = Fault(identifier, sentence, make, losses, networks, names, held_out)


def alone(make: Callable[[], Compute]) -> Callable[[], Compute]:
    """Return the fault as code written by hand has it: the gradients of the parameters are all that it gives."""

    def fresh() -> Compute:
        compute = make()
        return lambda network, parameters, batch: dict(compute(network, parameters, batch).parameters)

    return fresh


def in_parameters(change: Callable[[str, Array, Parameters, Batch, Network], Array]) -> Callable[[], Compute]:
    """Return a fault that changes the finished gradients of the parameters."""

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        found = gradients(network, parameters, batch)
        changed = {p: change(p, array, parameters, batch, network) for p, array in found.parameters.items()}
        return replace(found, parameters=changed)

    return lambda: compute


def in_rules(
    rule: Callable[..., tuple[Value, Pullback]] = layer_rule,
    end: Callable[..., tuple[Value, Value]] = cost,
    arithmetic: type[Plain] = Plain,
) -> Callable[[], Compute]:
    """Return a fault in a rule of the backward pass, or in its arithmetic, which everything below it inherits."""

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        return backpropagate(arithmetic(batch.inputs.dtype), network, parameters, batch, rule=rule, end=end)

    return lambda: compute


def in_delta(change: Callable[[Array, LossRecord, Batch, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the output delta: `change(delta, loss, batch, outputs)`."""

    def end(loss: LossRecord, k: Plain, z: Array, batch: Batch) -> tuple[Array, Array]:
        value, delta = cost(loss, k, z, batch)
        return value, np.asarray(change(delta, loss, batch, z), z.dtype)

    return in_rules(end=end)


def in_batch(change: Callable[[Batch, Network], Batch]) -> Callable[[], Compute]:
    """Return a fault that computes the right gradients of a wrong batch."""
    return lambda: lambda network, parameters, batch: gradients(network, parameters, change(batch, network))


def in_network(change: Callable[[Network], Network]) -> Callable[[], Compute]:
    """Return a fault that computes the right gradients of another network."""
    return lambda: lambda network, parameters, batch: gradients(change(network), parameters, batch)


def in_activations(change: Callable[[Record, Plain, Array, Array, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the pullback of elementwise layers: `change(layer, k, z, a, delta)`."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        a, pullback = layer_rule(layer, k, x, parameters)
        if isinstance(layer, Dense | Softmax):
            return a, pullback
        return a, lambda delta: (change(layer, k, x, a, delta), {})

    return in_rules(rule)


def in_layers(
    change: Callable[
        [int, Network, Array, Array, Mapping[str, Array], Pullback, Array], tuple[Array, dict[str, Array]]
    ],
) -> Callable[[], Compute]:
    """Return a fault in the pullback of layers: `change(index, network, x, a, parameters, right, delta)`.

    `index` is the layer's place, `right` the right pullback.
    """

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        places = iter(range(len(network.layers)))

        def rule(layer: Record, k: Plain, x: Array, own: Mapping[str, Array]) -> tuple[Array, Pullback]:
            a, right = layer_rule(layer, k, x, own)
            index = next(places)
            return a, lambda delta: change(index, network, x, a, own, right, delta)

        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule)

    return lambda: compute


def slope_of(kind: type[Record], formula: Callable[[Any, Array, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the derivative of one activation alone: `formula(layer, z, a)` stands for sigma'(z)."""

    def change(layer: Record, k: Plain, z: Array, a: Array, delta: Array) -> Array:
        if not isinstance(layer, kind):
            return pulled(layer, k, z, delta)
        return np.asarray(formula(layer, z, a) * delta, z.dtype)

    return in_activations(change)


def around(activation: str) -> str:
    """Return the notation of networks of any width with one activation between two dense layers."""
    return f"* -> Dense(*) -> {activation} -> Dense(*), MeanSquaredError"


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z))."""
    return np.asarray((1 + np.tanh(z / 2)) / 2)


def pulled(layer: Record, k: Plain, z: Array, delta: Array) -> Array:
    """Return the right delta below an elementwise layer."""
    return np.asarray(layer_rule(layer, k, z, {})[1](delta)[0])
