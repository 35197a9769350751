"""scikit-learn's MLPClassifier and MLPRegressor (pip install scikit-learn) as candidates, by their own backpropagation.

gradconform check examples/frameworks/with_scikit_learn.py:classifier
gradconform check examples/frameworks/with_scikit_learn.py:regressor
gradconform check examples/frameworks/with_scikit_learn.py:one_output

`_backprop` is private, and takes sample weights since 1.7. It computes the cost and its gradients for the weights in
`coefs_` and `intercepts_`, which are set here instead of fitted.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

import gradconform as gc

ACTIVATIONS = {gc.Sigmoid: "logistic", gc.Tanh: "tanh", gc.ReLU: "relu"}


def classifier(network, parameters, batch):
    model = MLPClassifier(alpha=0)
    if isinstance(
        network.loss, gc.SigmoidCrossEntropy
    ):  # one output for two classes, or one for each of several labels
        model.out_activation_, targets = "logistic", batch.targets
    else:
        model.out_activation_ = "softmax"
        targets = np.eye(network.widths[-1], dtype=batch.inputs.dtype)[batch.targets]
    return backpropagate(model, network, parameters, batch.inputs, targets)


def regressor(network, parameters, batch):
    model = MLPRegressor(alpha=0)
    model.out_activation_ = "identity"
    return backpropagate(model, network, parameters, batch.inputs, batch.targets)


def one_output(network, parameters, batch):
    return regressor(network, parameters, batch)


def backpropagate(model, network, parameters, inputs, targets):
    dense = range(0, len(network.layers), 2)  # with the same activation after each but the last
    model.activation = ACTIVATIONS[type(network.layers[1])] if len(dense) > 1 else "identity"
    model.n_layers_ = len(dense) + 1
    model.coefs_ = [parameters[f"{index}.weight"] for index in dense]
    model.intercepts_ = [parameters[f"{index}.bias"] for index in dense]

    # lists that _backprop fills
    activations, deltas = [inputs] + [None] * len(dense), [None] * len(dense)
    weights, biases = [None] * len(dense), [None] * len(dense)
    loss, weights, biases = model._backprop(inputs, targets, None, activations, deltas, weights, biases)

    # its deltas are not shown: they are those of the sum over the samples, by which it divides what comes of them
    found = {f"{index}.weight": array for index, array in zip(dense, weights, strict=True)}
    found |= {f"{index}.bias": array for index, array in zip(dense, biases, strict=True)}
    return gc.Gradients(found, np.asarray(loss, inputs.dtype))


def architectures(loss, outputs="*"):
    """Return all that an MLP may look like with up to two hidden layers, its widths free."""
    names = [kind.__name__ for kind in ACTIVATIONS]
    hidden = ["", *(f"Dense(*) -> {name} -> " for name in names), *(f"Dense(*) -> {name} -> " * 2 for name in names)]
    return tuple(f"* -> {layers}Dense({outputs}), {loss}" for layers in hidden)


classifier.networks = architectures("SoftmaxCrossEntropy") + architectures("SigmoidCrossEntropy")
classifier.conventions = ("batchmean",)  # the costs of several labels are added up, not averaged
regressor.networks = architectures("MeanSquaredError")
regressor.conventions = ("half",)  # its cost is half the mean squared error
one_output.networks = architectures("MeanSquaredError", outputs=1)
one_output.conventions = ("half",)
for candidate in (classifier, regressor, one_output):
    candidate.dtypes = ("float64", "float32")
