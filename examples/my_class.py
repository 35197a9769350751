"""A network as a class that keeps its activations between forward and backward.

gradconform check my_class.py:Network
"""

import numpy as np


class Network:
    """One hidden layer with ReLU. The class is built once for each network, and called many times."""

    networks = ("* -> Dense(*) -> ReLU -> Dense(*), MeanSquaredError(reduction=mean)",)

    def __init__(self, network):
        self.widths = network.widths

    def forward(self, network, parameters, batch):
        """Return the network's output, (N, out)."""
        self.x = batch.inputs
        self.a = np.maximum(self.x @ parameters["0.weight"] + parameters["0.bias"], 0)
        self.y = self.a @ parameters["2.weight"] + parameters["2.bias"]
        return self.y

    def backward(self, network, parameters, batch):
        """Return the gradient of every parameter, from what forward kept."""
        delta2 = 2 * (self.y - batch.targets) / self.y.size
        delta0 = (self.a > 0) * (delta2 @ parameters["2.weight"].T)
        return {
            "0.weight": self.x.T @ delta0,
            "0.bias": delta0.sum(axis=0),
            "2.weight": self.a.T @ delta2,
            "2.bias": delta2.sum(axis=0),
        }
