"""Gradient descent on the reference's gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.network import Network
from gradconform.reference.backpropagation import gradients


def initial_parameters(network: Network, seed: int) -> dict[str, Array]:
    """Return float64 parameters to start from: weights uniform within sqrt(6 / (in + out)), biases 0.

    X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for path, shape in network.parameters().items():
        limit = np.sqrt(6 / sum(shape)) if len(shape) == 2 else 0.0
        parameters[path] = rng.uniform(-limit, limit, shape)
    return parameters


def descend(
    network: Network, parameters: Parameters, batch: Batch, learning_rate: float, steps: int
) -> Iterator[tuple[Parameters, Gradients[Array]]]:
    """Yield the parameters before each of `steps` steps w <- w - learning_rate dC/dw, with their gradients."""
    for _ in range(steps):
        found = gradients(network, parameters, batch)
        yield parameters, found
        parameters = {path: array - learning_rate * found.parameters[path] for path, array in parameters.items()}
