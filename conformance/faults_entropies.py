"""Planted faults in cross entropies: smoothing, ignored labels, class weights, and what the softmax is taken over."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.faults_losses import counted, softmax
from gradconform.conformance.planting import Fault, Found, alone, in_batch, in_delta, in_rules, planted, sigmoid
from gradconform.losses import BinaryCrossEntropy, LossRecord, SigmoidCrossEntropy, SoftmaxCrossEntropy
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate
from gradconform.reference.losses import cost

FAULTY_ENTROPIES: dict[str, Fault] = {}
plant = partial(planted, FAULTY_ENTROPIES)

IGNORING = "4 -> Dense(3), SoftmaxCrossEntropy(label_smoothing=0.1, ignore_index=-100)"


def _upstream(loss: LossRecord, batch: Batch) -> Array:
    """Return what each row's cost is weighted with, (N, 1), where there are no class weights."""
    if batch.cotangent is not None:
        return batch.cotangent[:, None]
    rows = np.count_nonzero(counted(loss, batch)) if batch.labelled else batch.rows
    return np.full((batch.rows, 1), 1 / rows if loss.averages else 1.0)


class _OverBatch(Plain):
    """Softmax over the samples of each class."""

    def softmax(self, z: Array) -> tuple[Array, Array, Array]:
        p, complement, log_p = super().softmax(z.T)
        return p.T, complement.T, log_p.T


def _smoothing_over_others(delta: Array, loss: LossRecord, batch: Batch, z: Array) -> Array:
    classes = z.shape[1]
    if not isinstance(loss, SoftmaxCrossEntropy) or classes == 1:
        return delta
    # the delta is linear in epsilon
    hard, uniform = (
        cost(msgspec.structs.replace(loss, label_smoothing=epsilon), Plain(z.dtype), z, batch)[1]
        for epsilon in (0.0, 1.0)
    )
    return np.asarray(hard + loss.label_smoothing * classes / (classes - 1) * (uniform - hard))


def _smoothing_on_ignored(delta: Array, loss: LossRecord, batch: Batch, z: Array) -> Array:
    if not isinstance(loss, SoftmaxCrossEntropy) or not batch.labelled or batch.class_weights is not None:
        return delta
    smoothed = loss.label_smoothing * (softmax(z) - 1 / z.shape[1]) * _upstream(loss, batch)
    return np.where(counted(loss, batch)[:, None], delta, smoothed)


def _ignored_as_first(delta: Array, loss: LossRecord, batch: Batch, z: Array) -> Array:
    if not batch.labelled or batch.class_weights is not None:
        return delta
    as_first = (softmax(z) - (np.arange(z.shape[1]) == 0)) * _upstream(loss, batch)
    return np.where(counted(loss, batch)[:, None], delta, as_first)


def _weights_of_prediction(delta: Array, loss: LossRecord, batch: Batch, z: Array) -> Array:
    if batch.class_weights is None or not batch.labelled:
        return delta
    labels = np.where(counted(loss, batch), batch.targets, 0)
    return np.asarray(delta * (batch.class_weights[z.argmax(axis=1)] / batch.class_weights[labels])[:, None])


def _mistakes_only(delta: Array, loss: LossRecord, batch: Batch, z: Array) -> Array:
    return np.where((z.argmax(axis=1) == batch.targets)[:, None], 0, delta) if batch.labelled else delta


def _derivative_after_fused(network: Network, parameters: Parameters, batch: Batch) -> Found:
    def end(loss: LossRecord, k: Plain, z: Array, batch: Batch) -> tuple[Array, Array]:
        value, delta = cost(loss, k, z, batch)
        fused = isinstance(network.loss, BinaryCrossEntropy) and isinstance(loss, SigmoidCrossEntropy)
        return value, delta * sigmoid(z) * sigmoid(-z) if fused else delta

    return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, end=end)


plant(
    "softmax-over-batch",
    "the softmax is taken over the samples instead of the classes",
    in_rules(arithmetic=_OverBatch),
    SoftmaxCrossEntropy,
)
plant(
    "smoothing-over-others",
    "label smoothing gives epsilon / (C - 1) to each other class instead of epsilon / C to all",
    in_delta(_smoothing_over_others),
    SoftmaxCrossEntropy,
)
plant(
    "smoothing-on-ignored",
    "rows with the ignored label get the gradient of the smoothing",
    in_delta(_smoothing_on_ignored),
    networks=IGNORING,
)
plant(
    "ignored-as-first",
    "rows with the ignored label get a gradient, as if it were the first class",
    alone(in_delta(_ignored_as_first)),
    networks=IGNORING,
)
plant(
    "weights-ignored",
    "class weights are not used",
    alone(in_batch(lambda batch, network: replace(batch, class_weights=None))),
    SoftmaxCrossEntropy,
)
plant(
    "weights-squared",
    "class weights are applied twice, in cost and gradients",
    in_batch(
        lambda batch, network: (
            batch
            if batch.class_weights is None
            else replace(batch, class_weights=batch.class_weights * batch.class_weights)
        )
    ),
    SoftmaxCrossEntropy,
)
plant(
    "weights-of-prediction",
    "a sample is weighted with the weight of the predicted class",
    in_delta(_weights_of_prediction),
    SoftmaxCrossEntropy,
)
plant(
    "mistakes-only",
    "samples that are classified rightly give no gradient",
    alone(in_delta(_mistakes_only)),
    SoftmaxCrossEntropy,
)
plant(
    "derivative-after-fused",
    "p - y, which holds the sigmoid's derivative already, is multiplied by it again",
    alone(lambda: _derivative_after_fused),
    BinaryCrossEntropy,
)
