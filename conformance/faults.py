"""Planted faults: the reference with one thing wrong, each an implementation like any other.

They prove that the alarm rings: every fault is caught by the suite in a test. Each tells what is wrong, and which
losses expose it, so that a short run meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.conformance.implementations import Compute, Implementation
from gradconform.layers import GELU, Dense, LeakyReLU, Record, Softmax
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    LossRecord,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain, Value
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.layers import Pullback, layer_rule
from gradconform.reference.losses import cost

Found = Gradients[Array]


@dataclass(frozen=True)
class Fault:
    """A planted fault: `make` returns a fresh faulty implementation, with state of its own where it keeps some."""

    id: str
    sentence: str
    make: Callable[[], Compute]
    losses: tuple[type[Loss], ...] = ()

    def implementation(self) -> Implementation:
        """Return a fresh instance of the fault as an implementation."""
        return Implementation(self.id, self.make())


FAULTS: dict[str, Fault] = {}


def _plant(identifier: str, sentence: str, make: Callable[[], Compute], *losses: type[Loss]) -> None:
    FAULTS[identifier] = Fault(identifier, sentence, make, losses)


def _parameters(change: Callable[[str, Array, Parameters, Batch, Network], Array]) -> Callable[[], Compute]:
    """Return a fault that changes the finished gradients of the parameters."""

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        found = gradients(network, parameters, batch)
        changed = {p: change(p, array, parameters, batch, network) for p, array in found.parameters.items()}
        return replace(found, parameters=changed)

    return lambda: compute


def _rules(
    rule: Callable[..., tuple[Value, Pullback]] = layer_rule, end: Callable[..., tuple[Value, Value]] = cost
) -> Callable[[], Compute]:
    """Return a fault in a rule of the backward pass, which everything below it inherits."""

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule, end=end)

    return lambda: compute


def _delta(change: Callable[[Array, LossRecord, Batch, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the output delta: `change(delta, loss, batch, outputs)`."""

    def end(loss: LossRecord, k: Plain, z: Array, batch: Batch) -> tuple[Array, Array]:
        value, delta = cost(loss, k, z, batch)
        return value, change(delta, loss, batch, z)

    return _rules(end=end)


def _batch(change: Callable[[Batch, Network], Batch]) -> Callable[[], Compute]:
    """Return a fault that computes the right gradients of a wrong batch."""
    return lambda: lambda network, parameters, batch: gradients(network, parameters, change(batch, network))


def _network(change: Callable[[Network], Network]) -> Callable[[], Compute]:
    """Return a fault that computes the right gradients of another network."""
    return lambda: lambda network, parameters, batch: gradients(change(network), parameters, batch)


def _softmax(z: Array) -> Array:
    return np.asarray(Plain(z.dtype).softmax(z)[0])


def _weights_of(loss: LossRecord, batch: Batch) -> Array:
    """Return the class weight of every sample that counts."""
    assert batch.class_weights is not None  # noqa: S101 - asked for where there are some
    return np.asarray(batch.class_weights[batch.targets[batch.targets != getattr(loss, "ignore_index", None)]])


# The loss and the output delta.

_plant(
    "no-mean",
    "the delta is not divided by the batch size under the mean",
    _delta(lambda delta, loss, batch, z: delta * batch.rows if loss.reduction == "mean" else delta),
)
_plant(
    "mean-twice",
    "the delta is divided by the batch size, and the gradients of the parameters again",
    _parameters(
        lambda path, array, _, batch, network: array / batch.rows if network.loss.reduction == "mean" else array
    ),
)
_plant(
    "sum-divides",
    "the sum is divided by the batch size all the same",
    _delta(lambda delta, loss, batch, z: delta / batch.rows if loss.reduction == "sum" else delta),
)
_plant(
    "mean-over-elements",
    "a cross entropy is averaged over samples and classes",
    _delta(lambda delta, loss, batch, z: delta / delta.shape[1] if loss.reduction == "mean" else delta),
    SoftmaxCrossEntropy,
    CrossEntropy,
)
_plant(
    "one-hot-missing",
    "the delta is p, the label is not subtracted",
    _delta(lambda delta, loss, batch, z: _softmax(z) / (batch.rows if loss.reduction == "mean" else 1)),
    SoftmaxCrossEntropy,
)
_plant(
    "softmax-twice",
    "the Jacobian of the softmax is applied on top of p - y",
    _delta(lambda delta, loss, batch, z: _softmax(z) * (delta - (_softmax(z) * delta).sum(1, keepdims=True))),
    SoftmaxCrossEntropy,
)
_plant(
    "label-shift",
    "the labels are off by one",
    _batch(
        lambda batch, network: (
            replace(batch, targets=(batch.targets + 1) % network.widths[-1])
            if batch.targets.ndim == 1 and getattr(network.loss, "ignore_index", None) is None
            else batch
        )
    ),
    SoftmaxCrossEntropy,
    CrossEntropy,
)
_plant(
    "soft-as-hard",
    "soft labels are replaced by the most probable class",
    _batch(
        lambda batch, network: (
            replace(batch, targets=batch.targets.argmax(axis=1)) if batch.targets.ndim == 2 else batch
        )
    ),
    SoftmaxCrossEntropy,
    CrossEntropy,
)
_plant(
    "upstream-ignored",
    "the backward pass of the loss ignores the upstream gradient",
    _batch(
        lambda batch, network: (
            batch if batch.cotangent is None else replace(batch, cotangent=np.ones_like(batch.cotangent))
        )
    ),
)
_plant(
    "first-cotangent-only",
    "only the first row of the upstream gradient is read",
    _batch(
        lambda batch, network: (
            batch
            if batch.cotangent is None
            else replace(batch, cotangent=np.broadcast_to(batch.cotangent[:1], batch.cotangent.shape))
        )
    ),
)
_plant(
    "ignored-rows-counted",
    "ignored rows count in the mean",
    _delta(
        lambda delta, loss, batch, z: (
            delta * float(np.mean(batch.targets != getattr(loss, "ignore_index", None)))
            if loss.reduction == "mean" and batch.targets.ndim == 1 and batch.class_weights is None
            else delta
        )
    ),
    SoftmaxCrossEntropy,
)
_plant(
    "weights-not-normalised",
    "class weights: the mean divides by the batch size",
    _delta(
        lambda delta, loss, batch, z: (
            delta * float(_weights_of(loss, batch).sum() / batch.rows)
            if loss.reduction == "mean" and batch.targets.ndim == 1 and batch.class_weights is not None
            else delta
        )
    ),
    SoftmaxCrossEntropy,
)
_plant(
    "sigmoid-extra",
    "the fused sigmoid cross entropy is multiplied by a (1 - a)",
    _delta(lambda delta, loss, batch, z: delta / (2 + np.exp(-np.abs(z)) + np.exp(np.abs(z)))),
    SigmoidCrossEntropy,
)
_plant(
    "zero-logit-zero",
    "the gradient is 0 where the logit is exactly 0",
    _delta(lambda delta, loss, batch, z: np.where(z == 0, 0, delta)),
    SigmoidCrossEntropy,
)
_plant(
    "log-epsilon",
    "log(p + 1e-12) instead of log p",
    _delta(lambda delta, loss, batch, z: delta * z / (z + 1e-12)),
    CrossEntropy,
)
_plant(
    "half-mse",
    "half of the squared error",
    _delta(lambda delta, loss, batch, z: delta / 2),
    MeanSquaredError,
)
_plant(
    "huber-abs",
    "outliers are told without the absolute value: no gradient below -delta",
    _delta(lambda delta, loss, batch, z: np.where(z - batch.targets < -loss.delta, 0, delta)),  # type: ignore[attr-defined]
    Huber,
)
_plant(
    "smoothing-ignored",
    "label smoothing is in the cost and not in the gradient",
    lambda: _smoothing_ignored,
    SoftmaxCrossEntropy,
)


def _smoothing_ignored(network: Network, parameters: Parameters, batch: Batch) -> Found:
    if not isinstance(network.loss, SoftmaxCrossEntropy):
        return gradients(network, parameters, batch)
    hard = msgspec.structs.replace(network.loss, label_smoothing=0.0)
    found = gradients(msgspec.structs.replace(network, loss=hard), parameters, batch)
    return replace(found, loss=gradients(network, parameters, batch).loss)


# Linear layers.


def _dense(change: Callable[[Dense, Array, Mapping[str, Array], Array], tuple[Array, dict[str, Array]]]) -> Any:
    """Return a layer rule with another pullback for dense layers: `change(layer, x, parameters, delta)`."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        output, pullback = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, Dense):
            return output, pullback
        return output, lambda delta: change(layer, x, parameters, delta)

    return rule


def _right(
    layer: Dense, x: Array, parameters: Mapping[str, Array], delta: Array, **wrong: Array
) -> tuple[Array, dict[str, Array]]:
    """Return the right pullback of a dense layer, with what is given instead."""
    found = {"weight": x.T @ delta, **({"bias": delta.sum(axis=0)} if layer.bias else {})}
    below = wrong.pop("below", None)
    found |= {name: array for name, array in wrong.items() if name in found}
    return delta @ parameters["weight"].T if below is None else below, found


def _square(array: Array) -> bool:
    return bool(array.shape[0] == array.shape[1])


_plant(
    "transposed",
    "dC/dw is transposed where the weight is square",
    _parameters(lambda path, array, *_: array.T if array.ndim == 2 and _square(array) else array),
)
_plant(
    "weight-not-transposed",
    "the delta is propagated through W instead of its transpose where the weight is square",
    _rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, below=delta @ (p["weight"] if _square(p["weight"]) else p["weight"].T)
            )
        )
    ),
)
_plant(
    "wrong-activation",
    "dC/dw uses the layer's own output instead of the incoming activation where both are as wide",
    _rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, weight=((x @ p["weight"]) if _square(p["weight"]) else x).T @ delta
            )
        )
    ),
)
_plant(
    "updated-weights",
    "the delta is propagated through weights that were updated already",
    _rules(
        _dense(
            lambda layer, x, p, delta: _right(
                layer, x, p, delta, below=delta @ (p["weight"] - np.asarray(0.01, x.dtype) * (x.T @ delta)).T
            )
        )
    ),
)
_plant(
    "bias-scalar",
    "one sum over samples and units is the gradient of every bias",
    _rules(
        _dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=np.full(layer.units, delta.sum(), x.dtype)))
    ),
)
_plant(
    "bias-mean",
    "the bias gradient is averaged over the batch where the loss already is",
    _rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=delta.mean(axis=0)))),
)
_plant(
    "bias-first-row",
    "the bias gradient is that of the first sample",
    _rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=delta[0]))),
)
_plant(
    "bias-missing",
    "the bias gradient is 0",
    _rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, bias=np.zeros(layer.units, x.dtype)))),
)
_plant(
    "last-sample-dropped",
    "the last sample of a batch is left out of the gradients of the weights",
    _rules(_dense(lambda layer, x, p, delta: _right(layer, x, p, delta, weight=x[:-1].T @ delta[:-1]))),
)
_plant(
    "l2-added",
    "weight decay in the gradient of a loss without it",
    _parameters(lambda path, array, parameters, *_: array + np.asarray(1e-4, array.dtype) * parameters[path]),
)
_plant(
    "clipped",
    "gradients are clipped to 1",
    _parameters(lambda path, array, *_: np.clip(array, -1, 1)),
)


# Activations.


def _elementwise(change: Callable[[Record, Plain, Array, Array, Array], Array]) -> Callable[[], Compute]:
    """Return a fault in the pullback of elementwise layers: `change(layer, k, z, a, delta)`."""

    def rule(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
        a, pullback = layer_rule(layer, k, x, parameters)
        if isinstance(layer, Dense | Softmax):
            return a, pullback
        return a, lambda delta: (change(layer, k, x, a, delta), {})

    return _rules(rule)


def _pulled(layer: Record, k: Plain, z: Array, delta: Array) -> Array:
    return np.asarray(layer_rule(layer, k, z, {})[1](delta)[0])


def _softmax_diagonal(layer: Record, k: Plain, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Pullback]:
    p, pullback = layer_rule(layer, k, x, parameters)
    return p, (lambda delta: (p * (1 - p) * delta, {})) if isinstance(layer, Softmax) else pullback


_plant("derivative-missing", "sigma'(z) is left out", _elementwise(lambda layer, k, z, a, delta: delta))
_plant(
    "derivative-at-output",
    "sigma'(a) instead of sigma'(z)",
    _elementwise(lambda layer, k, z, a, delta: _pulled(layer, k, a, delta)),
)
_plant(
    "mask-from-output",
    "the mask of a leaky ReLU is taken on the wrong side",
    _elementwise(lambda layer, k, z, a, delta: _pulled(layer, k, -z if isinstance(layer, LeakyReLU) else z, delta)),
)
_plant(
    "gelu-mixed",
    "GELU goes forward in one form and backward in the other",
    _elementwise(
        lambda layer, k, z, a, delta: _pulled(
            GELU("none" if layer.approximate == "tanh" else "tanh") if isinstance(layer, GELU) else layer, k, z, delta
        )
    ),
)
_plant(
    "upstream-squared",
    "the upstream gradient is applied twice",
    _elementwise(lambda layer, k, z, a, delta: _pulled(layer, k, z, delta * delta)),
)
_plant(
    "softmax-diagonal",
    "the Jacobian of a Softmax layer is only its diagonal",
    _rules(_softmax_diagonal),
    MeanSquaredError,
    Huber,
    SigmoidCrossEntropy,
)


# Bookkeeping, state, memory.


def _accumulating() -> Compute:
    totals: dict[str, Array] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
        found = gradients(network, parameters, batch).parameters
        for path, array in found.items():
            old = totals.get(path)
            totals[path] = array + old if old is not None and old.shape == array.shape else array
        return {path: totals[path] for path in found}

    return compute


def _stale() -> Compute:
    first: dict[Network, Parameters] = {}

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Found:
        return gradients(network, first.setdefault(network, parameters), batch)

    return compute


def _mutating(network: Network, parameters: Parameters, batch: Batch) -> Found:
    batch.inputs[...] -= batch.inputs.mean()
    return gradients(network, parameters, batch)


_plant("second-call-accumulates", "gradients add up over the calls", _accumulating)
_plant("stale-parameters", "the parameters of the first call are used in later ones", _stale)
_plant("inputs-mutated", "the inputs are normalised in place", lambda: _mutating)
_plant(
    "half-precision",
    "gradients pass through float32 on the way",
    _parameters(lambda path, array, *_: array.astype(np.float32).astype(array.dtype)),
)
_plant("loss-scale", "a loss scale of 1024 is not divided out", _parameters(lambda path, array, *_: array * 1024))
_plant(
    "minus-lost",
    "the gradients point uphill and down: the sign is wrong",
    _parameters(lambda path, array, *_: -array),
)
_plant("zeros", "all gradients are 0", _parameters(lambda path, array, *_: np.zeros_like(array)))
_plant("nan", "all gradients are NaN", _parameters(lambda path, array, *_: np.full_like(array, np.nan)))
_plant("wrong-names", "the gradients have other names", lambda: _renamed)
_plant("one-element", "one element of the largest gradient is off by 1e-9", lambda: _one_element, MeanSquaredError)
_plant(
    "other-reduction",
    "the sum where the mean is asked for, in cost and gradients",
    _network(
        lambda network: (
            msgspec.structs.replace(network, loss=msgspec.structs.replace(network.loss, reduction="sum"))
            if network.loss.reduction == "mean"
            else network
        )
    ),
)
_plant(
    "probability-clip",
    "probabilities are clipped to [1e-7, 1 - 1e-7] before the logarithm",
    _delta(lambda delta, loss, batch, z: np.where((z > 1e-7) & (z < 1 - 1e-7), delta, 0)),
    BinaryCrossEntropy,
    CrossEntropy,
)


def _renamed(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    return {f"layer{path}": array for path, array in gradients(network, parameters, batch).parameters.items()}


def _one_element(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = {path: array.copy() for path, array in gradients(network, parameters, batch).parameters.items()}
    largest = max(found.values(), key=np.size)
    index = np.unravel_index(int(np.argmax(np.abs(largest))), largest.shape)
    largest[index] *= 1 + 1e-9
    return found
