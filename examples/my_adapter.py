"""An adapter: any network of the vocabulary, built in a framework. Replace what is PyTorch's by your own.

gradconform check my_adapter.py

What it does not know raises NotImplementedError, which is counted and no failure; what it declares is all it gets.
"""

import torch

import gradconform as gc

layers = ("Tanh", "ReLU", "Sigmoid")
losses = ("SoftmaxCrossEntropy()", "MeanSquaredError")
dtypes = ("float64", "float32")

ACTIVATIONS = {"Tanh": torch.tanh, "ReLU": torch.relu, "Sigmoid": torch.sigmoid}


def gradients(network, parameters, batch):
    leaves = {path: torch.tensor(array, requires_grad=True) for path, array in parameters.items()}
    x = torch.tensor(batch.inputs)
    for index, layer in enumerate(network.layers):
        x = apply(layer, x, leaves.get(f"{index}.weight"), leaves.get(f"{index}.bias"))
    cost = cost_of(network.loss, x, torch.tensor(batch.targets))
    if batch.cotangent is not None:  # an unreduced loss is given the weights of its sum
        cost = (cost * torch.tensor(batch.cotangent)).sum()
    cost.backward()
    # numpy() would hand out the framework's own memory: an array of one's own is returned
    return {path: leaf.grad.numpy().copy() for path, leaf in leaves.items()}


def apply(layer, x, weight, bias):
    if isinstance(layer, gc.Dense):
        return x @ weight if bias is None else x @ weight + bias
    return ACTIVATIONS[type(layer).__name__](x)


def cost_of(loss, outputs, targets):
    if isinstance(loss, gc.MeanSquaredError):
        return torch.nn.functional.mse_loss(outputs, targets, reduction=loss.reduction)
    return torch.nn.functional.cross_entropy(outputs, targets, reduction=loss.reduction)
