"""The textbook's own case: one hidden layer, sigmoid, cross entropy, one training example, x and y vectors.

gradconform check textbook.py
"""

import numpy as np

# all that is declared is all that is asked: this network, its widths free, one example at a time
networks = ["* -> Dense(*) -> Sigmoid -> Dense(*) -> Sigmoid, BinaryCrossEntropy(reduction=sum)"]
samples = "single"


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def gradients(network, parameters, batch):
    w1, b1 = parameters["0.weight"], parameters["0.bias"]  # (in, hidden), (hidden,)
    w2, b2 = parameters["2.weight"], parameters["2.bias"]  # (hidden, out), (out,)
    x, y = batch.inputs, batch.targets  # (in,), (out,)

    # forward pass
    a1 = sigmoid(x @ w1 + b1)
    a2 = sigmoid(a1 @ w2 + b2)

    # backward pass: the output delta is dy/dz dC/dy = a - y, the one below is sigma'(z) times the sum of w delta
    delta2 = a2 - y
    delta1 = a1 * (1 - a1) * (w2 @ delta2)

    # dC/dw is the incoming activation times the delta
    return {"0.weight": np.outer(x, delta1), "0.bias": delta1, "2.weight": np.outer(a1, delta2), "2.bias": delta2}
