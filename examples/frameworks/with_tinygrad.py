"""tinygrad (pip install tinygrad) as a candidate.

gradconform check examples/frameworks/with_tinygrad.py:gradients

`Tensor.gradient` differentiates; every layer and loss is tinygrad's own. Without the environment variable DEV it runs
on tinygrad's own interpreter, DEV=PYTHON, which needs no compiler; DEV=CPU needs clang.
"""

import os

import gradconform as gc

os.environ.setdefault("DEV", "PYTHON")
from tinygrad import Tensor


def gradients(network, parameters, batch):
    tensors = {path: Tensor(array) for path, array in parameters.items()}
    inputs = Tensor(batch.inputs)
    outputs = [inputs]
    for index, layer in enumerate(network.layers):
        outputs.append(forward(layer, tensors.get(f"{index}.weight"), tensors.get(f"{index}.bias"), outputs[-1]))
    loss = cost(network.loss, outputs[-1], Tensor(batch.targets))
    total = loss if batch.cotangent is None else (loss * Tensor(batch.cotangent)).sum()

    asked = [*tensors.values(), *outputs]
    results = [array.numpy() for array in total.gradient(*asked)]
    found = dict(zip(tensors, results, strict=False))
    by_input, *deltas = results[len(found) :]
    return gc.Gradients(
        found, loss.numpy(), by_input, dict(enumerate(deltas)), {i: o.numpy() for i, o in enumerate(outputs[1:])}
    )


def forward(layer, weight, bias, x):
    match layer:
        case gc.Dense():
            return x.linear(weight, bias)
        case gc.Sigmoid():
            return x.sigmoid()
        case gc.Tanh():
            return x.tanh()
        case gc.ReLU():
            return x.relu()
        case gc.LeakyReLU(slope=slope):
            return x.leaky_relu(slope)
        case gc.ELU(alpha=alpha):
            return x.elu(alpha)
        case gc.Softplus():
            return x.softplus()
        case gc.SiLU():
            return x.silu()
        case gc.GELU(approximate=approximate):
            return x.gelu(approximate)
        case gc.Softmax():
            return x.softmax()
    raise NotImplementedError(f"no rule for {layer}")


def cost(loss, z, targets):
    match loss:
        case gc.MeanSquaredError():
            each = (z - targets).square()
            return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[loss.reduction]()
        case gc.SigmoidCrossEntropy():
            return z.binary_crossentropy_logits(targets, loss.reduction)
        case gc.BinaryCrossEntropy(log_floor=None):
            return z.binary_crossentropy(targets, loss.reduction)
        case gc.SoftmaxCrossEntropy(ignore_index=None):
            return z.cross_entropy(targets, loss.reduction, loss.label_smoothing)
    raise NotImplementedError(f"no rule for {loss}")


gradients.dtypes = ("float64", "float32")
gradients.losses = ("MeanSquaredError", "SigmoidCrossEntropy", "BinaryCrossEntropy()", "SoftmaxCrossEntropy")
gradients.labels = ("integer", "one-hot", "soft")
