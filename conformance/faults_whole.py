"""Planted faults in the finished gradients of all parameters: factors, signs, penalties, clipping, rounding to 0."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Parameters
from gradconform.conformance.planting import Fault, alone, in_network, in_parameters, planted
from gradconform.network import Network
from gradconform.reference.backpropagation import gradients

FAULTY_AS_A_WHOLE: dict[str, Fault] = {}
plant = partial(planted, FAULTY_AS_A_WHOLE)

plant("loss-scale", "a loss scale of 1024 is not divided out", in_parameters(lambda path, array, *_: array * 1024))
plant(
    "minus-lost",
    "the gradients point uphill and down: the sign is wrong",
    in_parameters(lambda path, array, *_: -array),
)
plant(
    "other-reduction",
    "the sum where the mean is asked for, in cost and gradients",
    in_network(
        lambda network: (
            msgspec.structs.replace(network, loss=msgspec.structs.replace(network.loss, reduction="sum"))
            if network.loss.reduction == "mean"
            else network
        )
    ),
)
plant(
    "l2-added",
    "weight decay in the gradient of a loss without it",
    in_parameters(lambda path, array, parameters, *_: array + np.asarray(1e-4, array.dtype) * parameters[path]),
)
plant(
    "clipped",
    "gradients are clipped to 1",
    in_parameters(lambda path, array, *_: np.clip(array, -1, 1)),
)


def _clipped_by_norm(network: Network, parameters: Parameters, batch: Batch) -> dict[str, Array]:
    found = gradients(network, parameters, batch).parameters
    norm = max(1.0, float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in found.values()))))
    return {path: np.asarray(array / norm, array.dtype) for path, array in found.items()}


plant("clipped-by-norm", "the gradients are scaled to a norm of at most 1", lambda: _clipped_by_norm)
plant(
    "l1-added",
    "the sign of the parameters is in the gradient: an absolute penalty that the loss has not",
    alone(
        in_parameters(
            lambda path, array, parameters, *_: array + np.asarray(1e-4, array.dtype) * np.sign(parameters[path])
        )
    ),
)
plant(
    "small-gradients-zeroed",
    "gradients below 1e-8 are set to 0",
    alone(in_parameters(lambda path, array, *_: np.where(np.abs(array) < 1e-8, 0, array))),
)
plant(
    "six-decimals",
    "gradients are rounded to six decimals",
    alone(in_parameters(lambda path, array, *_: np.round(array, 6))),
)
