"""The textbook's quantities of a case, by their names, for every layer.

Forward pass: dz/dw is the incoming activation. Backward pass: dC/dz is sigma'(z) times the sum over the next layer of
w dC/dz. Their product is dC/dw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.layers import Dense, Layer, Softmax
from gradconform.network import Network
from gradconform.reference.backpropagation import gradients
from gradconform.reference.functions import function


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer: `incoming` and `output`, (N, in) and (N, out), and `delta`, the gradient at the output.

    For a dense layer `output` is the pre-activation z, `delta` is dC/dz and `parameters` holds dC/dw and dC/db. For an
    elementwise layer `output` is the activation a and `slope` is sigma'(z).
    """

    index: int
    layer: Layer
    incoming: Array
    output: Array
    delta: Array
    slope: Array | None = None
    parameters: dict[str, Array] = field(default_factory=dict)

    def quantities(self) -> Iterator[tuple[str, Array]]:
        """Yield the quantities by the textbook's names, in the order in which they are computed."""
        if isinstance(self.layer, Dense):
            yield "incoming activation dz/dw", self.incoming
            yield "pre-activation z", self.output
            yield "delta dC/dz", self.delta
            yield "dC/dw", self.parameters["weight"]
            if "bias" in self.parameters:
                yield "dC/db", self.parameters["bias"]
        else:
            yield "activation a", self.output
            if self.slope is not None:
                yield "sigma'(z)", self.slope
            yield "dC/da", self.delta


def trace(
    network: Network, parameters: Parameters, batch: Batch, found: Gradients[Array] | None = None
) -> list[LayerTrace]:
    """Return the trace of every layer, from the reference's gradients or from `found`, another implementation's.

    `found` needs the outputs and deltas of every layer. sigma'(z) is computed here, from the pre-activations.
    """
    found = found if found is not None else gradients(network, parameters, batch)
    traces = []
    incoming = np.asarray(batch.inputs)
    for index, layer in enumerate(network.layers):
        slope = None
        if not isinstance(layer, Dense | Softmax):
            with np.errstate(all="ignore"):
                slope = function(layer).evaluate(incoming)[1]
        own = {name: found.parameters[f"{index}.{name}"] for name in layer.parameters(network.widths[index])}
        traces.append(LayerTrace(index, layer, incoming, found.outputs[index], found.deltas[index], slope, own))
        incoming = found.outputs[index]
    return traces
