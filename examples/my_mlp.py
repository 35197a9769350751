"""Backpropagation by hand, for one hidden layer of tanh units with a softmax cross entropy.

gradconform check examples/my_mlp.py:gradients --network "4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
"""

import numpy as np


def gradients(network, parameters, batch):
    w0, b0 = parameters["0.weight"], parameters["0.bias"]  # (in, hidden), (hidden,)
    w2, b2 = parameters["2.weight"], parameters["2.bias"]  # (hidden, classes), (classes,)
    x, labels = batch.inputs, batch.targets  # (N, in), (N,)

    # forward pass
    a = np.tanh(x @ w0 + b0)
    z = a @ w2 + b2
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)

    # backward pass, from the output delta (p - y) / N
    delta2 = p.copy()
    delta2[np.arange(len(x)), labels] -= 1
    delta2 /= len(x)
    delta0 = (1 - a**2) * (delta2 @ w2.T)

    return {
        "0.weight": x.T @ delta0,
        "0.bias": delta0.sum(axis=0),
        "2.weight": a.T @ delta2,
        "2.bias": delta2.sum(axis=0),
    }
