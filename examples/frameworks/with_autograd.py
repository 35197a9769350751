"""HIPS autograd (pip install autograd), which differentiates NumPy programs, as a candidate.

gradconform check examples/frameworks/with_autograd.py:gradients

The forward pass is NumPy as one writes it; `value_and_grad` of it gives the cost and every gradient.
"""

import autograd.numpy as np
from autograd import value_and_grad
from autograd.scipy.special import erf, expit
from autograd.tracer import getval

import gradconform as gc


def gradients(network, parameters, batch):
    probes = {
        index: np.zeros((batch.rows, width), batch.inputs.dtype) for index, width in enumerate(network.widths[1:])
    }

    def cost(arrays, inputs, deltas):
        outputs = inputs
        for index, layer in enumerate(network.layers):
            # the gradient of a zero that is added to a layer's output is its delta
            outputs = forward(layer, index, arrays, outputs) + deltas[index]
        costs = cost_of_each(network.loss, outputs, batch)
        if network.loss.reduction == "none":
            return np.sum(costs * batch.cotangent)
        if network.loss.reduction == "sum":
            return np.sum(costs)
        if batch.class_weights is not None and batch.targets.ndim == 1:
            return np.sum(costs) / np.sum(batch.class_weights[batch.targets])
        return np.mean(costs)

    loss, (by_path, by_input, deltas) = value_and_grad(cost, argnum=(0, 1, 2))(dict(parameters), batch.inputs, probes)
    return gc.Gradients(by_path, None if network.loss.reduction == "none" else loss, by_input, deltas)


def forward(layer, index, arrays, x):
    match layer:
        case gc.Dense(bias=True):
            return x @ arrays[f"{index}.weight"] + arrays[f"{index}.bias"]
        case gc.Dense():
            return x @ arrays[f"{index}.weight"]
        case gc.Sigmoid():
            return expit(x)
        case gc.Tanh():
            return np.tanh(x)
        case gc.ReLU():
            return np.maximum(x, 0)
        case gc.LeakyReLU(slope=slope):
            return np.where(x > 0, x, slope * x)
        case gc.ELU(alpha=alpha):
            return np.where(
                x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x))
            )  # else exp overflows where it is not used
        case gc.Softplus():
            return softplus(x)
        case gc.SiLU():
            return x * expit(x)
        case gc.GELU(approximate="none"):
            return x * (0.5 * (1 + erf(x / np.sqrt(2))))
        case gc.Softmax():
            powers = np.exp(below_maximum(x))
            return powers / np.sum(powers, axis=1, keepdims=True)
    raise NotImplementedError(f"no rule for {layer}")


def cost_of_each(loss, z, batch):
    targets = batch.targets
    match loss:
        case gc.MeanSquaredError():
            return (z - targets) ** 2
        case gc.Huber(delta=delta):
            difference = z - targets
            far = delta * (np.sign(difference) * difference - delta / 2)
            return np.where(np.abs(difference) <= delta, difference**2 / 2, far)
        case gc.SigmoidCrossEntropy():
            return softplus(z) - targets * z
        case gc.SoftmaxCrossEntropy(label_smoothing=0, ignore_index=None):
            if targets.ndim == 1:
                targets = np.eye(z.shape[1], dtype=z.dtype)[targets]
            if batch.class_weights is not None:
                targets = targets * batch.class_weights
            z = below_maximum(z)
            return np.sum(targets * (np.log(np.sum(np.exp(z), axis=1, keepdims=True)) - z), axis=1)
    raise NotImplementedError(f"no rule for {loss}")


# autograd has logaddexp, logsumexp and abs, but its rules for them lose digits, as gradconform finds: exp(x - result)
# is off by as many units in the last place as x is large, and g * x / |x| underflows where x is tiny


def softplus(x):
    positive = x > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


def below_maximum(x):
    return x - np.max(getval(x), axis=1, keepdims=True)  # a constant shift, which changes nothing


gradients.dtypes = ("float64",)  # some of its rules, as those of where, maximum and mean, compute in nothing else
gradients.layers = ("Dense", "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "Softplus", "SiLU", "GELU()", "Softmax")
gradients.losses = ("MeanSquaredError", "Huber", "SigmoidCrossEntropy", "SoftmaxCrossEntropy()")
gradients.labels = ("integer", "one-hot", "soft")
gradients.class_weights = True
