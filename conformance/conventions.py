"""Conventions that an implementation may follow if it declares them: no bugs, but not what the network says either.

A convention is a rewrite of the network's description, so that the implementation is held against what it really
computes, or of the arrays on their way to it and back. Undeclared, what follows one is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from gradconform.adapters.deviations import described as with_deviations
from gradconform.capabilities import Capabilities
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.losses import BinaryCrossEntropy, CrossEntropy, LossRecord, MeanSquaredError
from gradconform.network import Network

Compute = Callable[[Network, Parameters, Batch], Any]
Arrays = Callable[[Network, str, Any], Any]


def _same_loss(loss: LossRecord, _value: float) -> LossRecord:
    return loss


def _same_array(_network: Network, _path: str, array: Any) -> Any:
    return array


def _sum(loss: LossRecord, _value: float) -> LossRecord:
    return msgspec.structs.replace(loss, reduction="sum") if loss.averages else loss


def _batchmean(loss: LossRecord, _value: float) -> LossRecord:
    element = loss.reduction == "mean" and loss.labels != "classes"
    return msgspec.structs.replace(loss, reduction="batchmean") if element else loss


def _half(loss: LossRecord, _value: float) -> LossRecord:
    return msgspec.structs.replace(loss, scale=loss.scale / 2) if isinstance(loss, MeanSquaredError) else loss


def _clip(loss: LossRecord, value: float) -> LossRecord:
    clips = isinstance(loss, CrossEntropy | BinaryCrossEntropy) and not loss.clip
    return msgspec.structs.replace(loss, clip=value) if clips else loss


def _transposed(_network: Network, path: str, array: Any) -> Any:
    """Return a weight, or its gradient, with its axes exchanged; anything else as it is."""
    if path.endswith(".weight") and len(getattr(array, "shape", ())) == 2:
        return array.T
    if path.endswith(".weight") and isinstance(array, list):
        return [list(row) for row in zip(*array, strict=False)] if array and isinstance(array[0], list) else array
    return array


@dataclass(frozen=True)
class Convention:
    """What an implementation computes in place of what the network says, as a sentence and as a rewrite.

    `loss`: the loss that it computes, given the convention's value. `parameter`: how a parameter, or its gradient, by
    path, is handed over and comes back.
    """

    name: str
    sentence: str
    loss: Callable[[LossRecord, float], LossRecord] = _same_loss
    parameter: Arrays = _same_array


CONVENTIONS = {
    row.name: row
    for row in (
        Convention("torch", "Shares PyTorch's documented deviations."),
        Convention("jax", "Shares JAX's documented deviations."),
        Convention("sum", "Adds up the costs where the network says mean.", _sum),
        Convention(
            "batchmean",
            "Divides squared, Huber and binary losses by the samples alone, and adds them up over the outputs.",
            _batchmean,
        ),
        Convention("half", "Computes half the squared error.", _half),
        Convention("transposed", "Keeps the weight of Dense as (out, in).", parameter=_transposed),
        Convention(
            "clip",
            "Clips probabilities to [eps, 1 - eps] before their logarithm; where it does, the gradient is 0.",
            _clip,
        ),
    )
}
"""The torch and jax rows stand for the table in `gradconform.adapters.deviations`."""


@lru_cache(maxsize=1024)
def described(conventions: tuple[str, ...], network: Network) -> Network:
    """Return the network that is really computed by who follows `conventions`, or is the adapter of one of them."""
    for word in conventions:
        name, _, value = word.partition("=")
        network = with_deviations(name, network)
        if name in CONVENTIONS:
            loss = CONVENTIONS[name].loss(network.loss, float(value or 0))
            network = msgspec.structs.replace(network, loss=loss)
    return network


def adapted(compute: Compute, capabilities: Capabilities) -> Compute:
    """Return `compute` as a function of batches and canonical parameters, whatever it takes and returns itself.

    What it declares as its `samples` and `conventions` is handed over and comes back so. Where that changes nothing,
    it is `compute` itself.
    """
    rewrites = [
        row.parameter
        for row in CONVENTIONS.values()
        if row.name in capabilities.conventions and row.parameter is not _same_array
    ]
    single = capabilities.samples == "single"
    if not rewrites and not single:
        return compute

    def rewritten(network: Network, arrays: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(arrays)
        for rewrite in rewrites:
            found = {path: rewrite(network, str(path), array) for path, array in found.items()}
        return found

    def back(network: Network, batch: Batch, found: Gradients[Any]) -> Gradients[Any]:
        if isinstance(found.parameters, Mapping) and isinstance(found.slack, Mapping):
            parameters, slack = rewritten(network, found.parameters), rewritten(network, found.slack)
            found = replace(found, parameters=parameters, slack=slack)
        if single:
            found = _rows(found, bool(batch.cotangent is not None))
        if isinstance(found.captured, Gradients):
            return replace(found, captured=back(network, batch, found.captured))
        return found

    def called(network: Network, parameters: Parameters, batch: Batch) -> Any:
        handed = {path: _handed(array) for path, array in rewritten(network, parameters).items()}
        result = compute(network, handed, _sample(batch) if single else batch)
        if isinstance(result, Mapping):
            return rewritten(network, result)
        return back(network, batch, result) if isinstance(result, Gradients) else result

    return called


def _handed(array: Array) -> Array:
    """Return an array in C order, as one that was not rewritten is, and as unwriteable."""
    if array.flags.c_contiguous:
        return array
    copy = np.ascontiguousarray(array)
    copy.flags.writeable = False
    return copy


def _sample(batch: Batch) -> Batch:
    """Return the only sample of a batch without the axis of the samples."""
    return replace(
        batch,
        inputs=batch.inputs[0],
        targets=batch.targets[0],
        cotangent=None if batch.cotangent is None else batch.cotangent[0],
    )


def _rows(found: Gradients[Any], unreduced: bool) -> Gradients[Any]:
    """Return what was computed for a single sample with the axis of the samples."""

    def rows(arrays: Any) -> Any:
        return {index: _row(array) for index, array in arrays.items()} if isinstance(arrays, Mapping) else arrays

    return replace(
        found,
        loss=_row(found.loss, 2) if unreduced else found.loss,
        input=_row(found.input),
        deltas=rows(found.deltas),
        outputs=rows(found.outputs),
    )


def _row(value: Any, axes: int = 1) -> Any:
    """Return a vector as a row, of an unreduced loss a number too; anything else as it is."""
    if isinstance(value, list):
        return [value] if not any(isinstance(item, list) for item in value) else value
    shape = getattr(value, "shape", () if isinstance(value, int | float) else None)
    if shape is None or len(shape) > 1 or (not shape and axes == 1):
        return value
    return value[None] if shape else np.asarray(value)[None]
