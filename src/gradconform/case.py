"""A case: network, parameters and batch, and the gradients that an implementation computes for it.

This is the seam between the suite and every implementation: NumPy arrays in, NumPy arrays out. Rows are samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradconform.dtypes import finfo, is_floating
from gradconform.errors import InvalidInput
from gradconform.losses import LossRecord, SoftmaxCrossEntropy
from gradconform.network import Network

Array = NDArray[Any]
Parameters = Mapping[str, Array]
T = TypeVar("T")

LABEL_TOLERANCE = 1e-4
"""How far the sum of a row of soft labels may be from 1, for labels that were written down with a few digits."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples and what the loss needs beside them.

    `inputs`: (N, width), of any floating-point type, bfloat16 included. `targets`: (N,) integer labels or (N, C)
    values in the dtype of the inputs.
    `class_weights`: (C,), for SoftmaxCrossEntropy alone. `cotangent`: what the unreduced loss is weighted with
    (reduction none alone), in the shape of the loss.

    To an implementation that takes single samples, one is handed without its axis: inputs (width,), targets (C,) or an
    integer of NumPy's.
    """

    inputs: Array
    targets: Array
    class_weights: Array | None = None
    cotangent: Array | None = None

    @property
    def rows(self) -> int:
        """The number of samples."""
        return int(self.inputs.shape[-2]) if self.inputs.ndim > 1 else 1

    @property
    def labelled(self) -> bool:
        """Whether the targets are integer labels, one a sample, and not values or probabilities."""
        return self.targets.dtype.kind in "iu"

    def take(self, rows: Array | slice) -> Batch:
        """Return the batch of the given samples, in the given order."""
        return replace(
            self,
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            cotangent=None if self.cotangent is None else self.cotangent[rows],
        )


@dataclass(frozen=True, eq=False)
class Case:
    """Everything that is needed to compute a gradient, and nothing of who computes it.

    Raises `InvalidInput` where names, shapes, dtypes or values do not fit the network.
    """

    network: Network
    parameters: Parameters
    batch: Batch

    def __post_init__(self) -> None:
        _check_parameters(self.network, self.parameters, self.dtype)
        _check_batch(self.network, self.batch)

    @classmethod
    def known(cls, network: Network, parameters: Parameters, batch: Batch) -> Case:
        """Return the case where it is known that everything fits, without a look at it."""
        case = object.__new__(cls)
        for name, part in (("network", network), ("parameters", parameters), ("batch", batch)):
            object.__setattr__(case, name, part)
        return case

    @property
    def dtype(self) -> np.dtype[Any]:
        """The floating-point type of inputs, parameters and everything that is computed."""
        return self.batch.inputs.dtype


@dataclass(frozen=True, eq=False)
class Gradients(Generic[T]):
    """What an implementation computes for a case. Only `parameters` is required.

    `parameters`: the gradient of each parameter, by path. `loss`: its value, unreduced where the reduction is none.
    `input`: dC/dx, (N, width). `deltas`: dC/dz at the output of each layer, by index. `outputs`: the output itself.

    `captured`: the same quantities, all of them, from the run that `deltas` and `outputs` belong to, where that is
    another program than the one that gave the rest, as with compilers: what a program is to return changes how it is
    rounded. None where all belong to one run. `deltas` and `outputs` stand here in either case: the same arrays,
    of which those in `captured` are compared.

    `slack`: by path, how far an element of `parameters` may be from what the implementation really computed, where
    they were not taken from it directly, such as by `gradconform.from_update`; it adds to the bound.
    """

    parameters: Mapping[str, T]
    loss: T | None = None
    input: T | None = None
    deltas: Mapping[int, T] = field(default_factory=dict)
    outputs: Mapping[int, T] = field(default_factory=dict)
    captured: Gradients[T] | None = None
    slack: Mapping[str, Array] = field(default_factory=dict)


def _check_parameters(network: Network, parameters: Parameters, dtype: np.dtype[Any]) -> None:
    if not is_floating(dtype):
        raise InvalidInput(f"inputs: expected floating-point numbers, got {dtype}")
    shapes = network.parameters()
    for path in itertools.chain(shapes, parameters):
        if path not in parameters:
            raise InvalidInput(f"{path}: the parameter is missing")
        if path not in shapes:
            raise InvalidInput(f"{path}: the network has no such parameter; it has {', '.join(shapes) or 'none'}")
        array = parameters[path]
        if array.shape != shapes[path]:
            raise InvalidInput(f"{path}: expected shape {shapes[path]}, got {array.shape}")
        if array.dtype != dtype:
            raise InvalidInput(f"{path}: expected {dtype}, as the inputs, got {array.dtype}")
        _check_finite(path, array)


def _check_batch(network: Network, batch: Batch) -> None:
    inputs, targets, weights, cotangent = batch.inputs, batch.targets, batch.class_weights, batch.cotangent
    loss, classes = network.loss, network.widths[-1]
    if inputs.ndim != 2 or inputs.shape[1] != network.inputs or not len(inputs):
        raise InvalidInput(f"inputs: expected shape (N, {network.inputs}) with N at least 1, got {inputs.shape}")
    _check_finite("inputs", inputs)
    if weights is not None:
        if not isinstance(loss, SoftmaxCrossEntropy):
            raise InvalidInput(f"class_weights: {type(loss).__name__} takes none")
        _check_floats("class_weights", weights, (classes,), inputs.dtype)
        if weights.min() < 0:
            raise InvalidInput(f"class_weights: must be at least 0, got {float(weights.min()):g}")
    if targets.dtype.kind in "iu" and loss.labels == "classes":
        _check_labels(loss, batch, classes)
    else:
        _check_target_values(loss, batch, classes)
    if loss.reduction == "none":
        shape = loss.shape(len(inputs), classes)
        if cotangent is None:
            raise InvalidInput(f"cotangent: reduction none needs one, of shape {shape}")
        _check_floats("cotangent", cotangent, shape, inputs.dtype)
    elif cotangent is not None:
        raise InvalidInput(f"cotangent: only reduction none takes one; this loss is reduced by {loss.reduction}")


def _check_labels(loss: LossRecord, batch: Batch, classes: int) -> None:
    targets, ignored = batch.targets, getattr(loss, "ignore_index", None)
    if targets.shape != (batch.rows,):
        raise InvalidInput(f"targets: expected integer labels of shape ({batch.rows},), got {targets.shape}")
    counted = np.ones(targets.shape, bool) if ignored is None else targets != ignored
    wrong = counted & ((targets < 0) | (targets >= classes))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInput(f"targets[{row}]: label {targets[row]} is not in 0..{classes - 1}")
    if loss.averages:
        if not counted.any():
            raise InvalidInput("targets: every row is ignored, so that the mean is 0/0")
        if batch.class_weights is not None and not batch.class_weights[targets[counted]].any():
            raise InvalidInput("class_weights: all rows have weight 0, so that the mean is 0/0")


def _check_target_values(loss: LossRecord, batch: Batch, classes: int) -> None:
    targets = batch.targets
    _check_floats("targets", targets, (batch.rows, classes), batch.inputs.dtype)
    if loss.labels == "values":
        return
    if targets.min() < 0 or targets.max() > 1:
        row, column = np.argwhere((targets < 0) | (targets > 1))[0]
        raise InvalidInput(f"targets[{row}, {column}]: {float(targets[row, column]):g} is not between 0 and 1")
    if loss.labels == "classes":
        sums = targets.sum(axis=1, dtype=np.float64)
        # labels that were divided by their sum in their own type are off by a rounding for each class; twice that is
        # more than the products of these roundings
        tolerance = max(LABEL_TOLERANCE, classes * float(finfo(targets.dtype).eps))
        if (abs(sums - 1) > tolerance).any():
            row = int(np.argmax(abs(sums - 1)))
            raise InvalidInput(f"targets[{row}]: the probabilities of the classes add up to {sums[row]:g}, not to 1")


def _check_floats(name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape:
        raise InvalidInput(f"{name}: expected shape {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise InvalidInput(f"{name}: expected {dtype}, as the inputs, got {array.dtype}")
    _check_finite(name, array)


def _check_finite(name: str, array: Array) -> None:
    if np.count_nonzero(np.isfinite(array)) < array.size:
        index = np.argwhere(~np.isfinite(array))[0]
        raise InvalidInput(f"{name}[{', '.join(map(str, index))}]: {float(array[tuple(index)])} is not finite")
