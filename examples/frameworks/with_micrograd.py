"""micrograd (pip install micrograd), a framework of scalars, as a candidate.

gradconform check examples/frameworks/with_micrograd.py:gradients

Every number of the network becomes a `Value`; its own `backward` gives the gradients. It has no exp and no log, which
leaves dense layers, ReLU and the squared error.
"""

import numpy as np
from micrograd.engine import Value

import gradconform as gc


def gradients(network, parameters, batch):
    values = {path: np.vectorize(Value, otypes=[object])(array) for path, array in parameters.items()}
    rows = [[Value(number) for number in row] for row in batch.inputs.tolist()]  # one list of Values for each sample

    inputs = rows
    for index, layer in enumerate(network.layers):
        match layer:
            case gc.Dense():
                weight, bias = values[f"{index}.weight"], values.get(f"{index}.bias", np.zeros(layer.units))
                rows = [
                    [sum(map(product, row, weight[:, unit]), bias[unit]) for unit in range(layer.units)] for row in rows
                ]
            case gc.ReLU():
                rows = [[value.relu() for value in row] for row in rows]
            case _:
                raise NotImplementedError(f"micrograd has no {type(layer).__name__}")

    if not isinstance(network.loss, gc.MeanSquaredError):
        raise NotImplementedError(f"micrograd has no {type(network.loss).__name__}")
    costs = [
        [(value - target) ** 2 for value, target in zip(row, targets, strict=True)]
        for row, targets in zip(rows, batch.targets.tolist(), strict=True)
    ]
    if network.loss.reduction == "none":  # the gradient of the costs, each weighted by its cotangent
        weights = batch.cotangent
    else:
        weights = np.full(batch.targets.shape, 1 / batch.targets.size if network.loss.reduction == "mean" else 1.0)
    total = sum(
        cost * weight
        for row, line in zip(costs, weights.tolist(), strict=True)
        for cost, weight in zip(row, line, strict=True)
    )
    total.backward()
    return gc.Gradients({path: grads(array) for path, array in values.items()}, input=grads(np.array(inputs)))


def product(value, weight):
    return value * weight


def grads(values):
    return np.vectorize(lambda value: float(value.grad), otypes=[float])(values)


gradients.layers = (gc.Dense, gc.ReLU)
gradients.losses = (gc.MeanSquaredError,)
