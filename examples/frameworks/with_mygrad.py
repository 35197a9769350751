"""MyGrad (pip install mygrad), automatic differentiation on top of NumPy for teaching, as a candidate.

gradconform check examples/frameworks/with_mygrad.py:gradients

Every activation and the softmax cross entropy are MyGrad's own; `backward` leaves the gradients in the tensors.
"""

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import elu, leaky_relu, relu, sigmoid, softmax, tanh
from mygrad.nnet.losses import softmax_crossentropy

import gradconform as gc


def gradients(network, parameters, batch):
    tensors = {path: mg.tensor(array) for path, array in parameters.items()}
    inputs = mg.tensor(batch.inputs)
    outputs = [inputs]
    for index, layer in enumerate(network.layers):
        outputs.append(forward(layer, tensors.get(f"{index}.weight"), tensors.get(f"{index}.bias"), outputs[-1]))
    loss = cost(network.loss, outputs[-1], batch.targets)
    loss.backward(batch.cotangent)
    return gc.Gradients(
        {path: grad(tensor) for path, tensor in tensors.items()},
        np.array(loss.data),
        grad(inputs),
        {index: grad(output) for index, output in enumerate(outputs[1:])},
        {index: np.array(output.data) for index, output in enumerate(outputs[1:])},
    )


def forward(layer, weight, bias, x):
    match layer:
        case gc.Dense():
            return mg.matmul(x, weight) if bias is None else mg.matmul(x, weight) + bias
        case gc.Sigmoid():
            return sigmoid(x)
        case gc.Tanh():
            return tanh(x)
        case gc.ReLU():
            return relu(x)
        case gc.LeakyReLU(slope=slope):
            return leaky_relu(x, slope)
        case gc.ELU(alpha=alpha):
            return elu(x, alpha)
        case gc.Softmax():
            return softmax(x)
    raise NotImplementedError(f"no rule for {layer}")


def cost(loss, z, targets):
    match loss:
        case gc.MeanSquaredError():
            each = (z - targets) ** 2
            return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[loss.reduction]()
        case gc.SoftmaxCrossEntropy(label_smoothing=0, ignore_index=None, reduction="mean"):
            return softmax_crossentropy(z, targets)
    raise NotImplementedError(f"no rule for {loss}")


def grad(tensor):
    return np.array(tensor.grad)


gradients.layers = ("Dense", "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "Softmax")
gradients.losses = ("MeanSquaredError", "SoftmaxCrossEntropy(reduction=mean)")
gradients.dtypes = ("float64", "float32")
