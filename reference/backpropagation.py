"""Backpropagation: the whole chain rule of a network, forward and backward.

The forward pass computes each layer's output and keeps its pullback. The backward pass starts with the output delta
from the loss and hands it from layer to layer down to the input; on its way each layer leaves the gradients of its
parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain, Value
from gradconform.reference.layers import Arithmetic, Pullback, layer_rule
from gradconform.reference.losses import cost, fused


def gradients(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return the cost, all gradients, all deltas and all outputs, in the dtype of `batch.inputs`.

    Raises `Unsupported` for a layer or loss without a rule.
    """
    return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch)


def backpropagate(
    k: Arithmetic,
    network: Network,
    parameters: Parameters,
    batch: Batch,
    *,
    shown: Gradients[Array] | None = None,
    rule: Callable[..., tuple[Value, Pullback]] = layer_rule,
    end: Callable[..., tuple[Value, Value]] = cost,
) -> Gradients[Value]:
    """Return the same in the arithmetic `k`, with other rules of layers and of the loss if they are given.

    `shown`: outputs and deltas, all or some, that an implementation computed. Each step is then done on them instead
    of on what the step before it gave, so that every result is that of one step.
    """
    with np.errstate(all="ignore"):
        x = k.lift(batch.inputs)
        lifted = {path: k.lift(array) for path, array in parameters.items()}
        incoming: list[Value] = []
        outputs: dict[int, Value] = {}
        pullbacks: list[Pullback] = []
        paths: list[str] = []
        for index, (layer, width) in enumerate(zip(network.layers, network.widths, strict=False)):
            own = {name: lifted[f"{index}.{name}"] for name in layer.parameters(width)}
            paths += [f"{index}.{name}" for name in own]
            incoming.append(x)
            x, pullback = rule(layer, k, x, own)
            outputs[index] = x
            pullbacks.append(pullback)
            if shown is not None and index in shown.outputs:
                x = k.observe(shown.outputs[index])

        loss, delta = end(network.loss, k, x, batch)

        deltas: dict[int, Value] = {}
        found: dict[str, Value] = {}
        on_logits = fused(network) if k.fuses else None
        for index in reversed(range(len(network.layers))):
            deltas[index] = delta
            if shown is not None and index in shown.deltas:
                delta = k.observe(shown.deltas[index])
            if on_logits is not None and index == len(network.layers) - 1:
                loss, delta = end(on_logits, k, incoming[index], batch)
                continue
            delta, own = pullbacks[index](delta)
            found |= {f"{index}.{name}": gradient for name, gradient in own.items()}
    return Gradients({path: found[path] for path in paths}, loss, input=delta, deltas=deltas, outputs=outputs)
