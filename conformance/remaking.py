"""A case made over for another network: with little numbers of its own, or with those that the case has.

What comes out of it is a valid case, or nothing where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradconform.case import Array, Batch, Case, Parameters
from gradconform.conformance.examples import lay_out
from gradconform.errors import InvalidInput
from gradconform.losses import Loss, SoftmaxCrossEntropy
from gradconform.network import Network

INPUTS = ((2, 1, -1, 3), (-1, 2, 1, -2), (0.5, -1.5, 1, -0.5))
WEIGHTS = ((1, -1, 2, -2, 1), (1, 2, 1, -1, 2), (0.5, -1, 1.5, 0.5, -0.5))
BIASES = ((1, -1, 2), (0, 1, -1), (0.5, -0.5, 0))
COTANGENTS = ((1, -2, 3), (2, 1, -1), (1, -1.5, 0.5))
CLASS_WEIGHTS = (1, 2, 0.5)
SOFT = (0.25, 0.75)
PATTERNS = len(INPUTS)
"""So many sets of little numbers are tried: of either sign, and so that units are on and off."""


def made_anew(case: Case, network: Network, rows: int, pattern: int) -> Iterator[Case]:
    """Yield a case of the network with little numbers, and labels and options of the kind that `case` has."""
    dtype = case.dtype
    parameters = {
        path: _filled(WEIGHTS[pattern] if len(shape) == 2 else BIASES[pattern], shape).astype(dtype)
        for path, shape in network.parameters().items()
    }
    inputs = _filled(INPUTS[pattern], (rows, network.inputs)).astype(dtype)
    batch = Batch(
        inputs,
        _targets_anew(case, network, rows),
        _class_weights(case, network),
        _cotangent(case, network, rows, COTANGENTS[pattern]),
    )
    yield from valid(network, parameters, batch)


def remade(case: Case, network: Network, kept: Sequence[int]) -> Iterator[Case]:
    """Yield the case with another network, whose layers were those at `kept`, as far as there are as many.

    Where it is narrower, the first units stay, and, in a second case, the last. Where numbers are missing, little ones
    take their place.
    """
    names = {index: place for place, index in enumerate(kept)}
    parameters: dict[str, Array] = {}
    for path, array in case.parameters.items():
        place, _, name = path.partition(".")
        if int(place) in names:
            parameters[f"{names[int(place)]}.{name}"] = array
    same = {path: array.shape for path, array in parameters.items()} == network.parameters()
    inputs = network.inputs == case.network.inputs
    if same and inputs and network.loss == case.network.loss:
        yield from valid(network, parameters, case.batch)
        return
    for last in (False, True) if not (same and inputs) else (False,):
        fitted = _fitted_parameters(parameters, network, case, last)
        yield from valid(network, fitted, _batch(case, network, last))


def valid(network: Network, parameters: Parameters, batch: Batch) -> Iterator[Case]:
    """Yield the case of these, unless it is none."""
    try:
        yield Case(network, parameters, batch)
    except InvalidInput:
        return


def _fitted_parameters(parameters: Mapping[str, Array], network: Network, case: Case, last: bool) -> dict[str, Array]:
    fitted = {}
    for path, shape in network.parameters().items():
        anew = _filled(WEIGHTS[0] if len(shape) == 2 else BIASES[0], shape).astype(case.dtype)
        fitted[path] = _fitted(parameters[path], anew, last) if path in parameters else anew
    return fitted


def _batch(case: Case, network: Network, last: bool) -> Batch:
    """Return the batch of the case as it suits another network."""
    rows = case.batch.rows
    anew = _filled(INPUTS[0], (rows, network.inputs)).astype(case.dtype)
    cotangent = _cotangent(case, network, rows, COTANGENTS[0])
    if cotangent is not None and case.batch.cotangent is not None and cotangent.ndim == case.batch.cotangent.ndim:
        cotangent = _fitted(case.batch.cotangent, cotangent, last)
    weights = _class_weights(case, network)
    if weights is not None and case.batch.class_weights is not None:
        weights = _fitted(case.batch.class_weights, weights, last)
    return Batch(_fitted(case.batch.inputs, anew, last), _targets(case, network, last), weights, cotangent)


def _targets(case: Case, network: Network, last: bool) -> Array:
    """Return the targets of the case as they suit another network: those of another kind are made anew."""
    batch, rows, width = case.batch, case.batch.rows, network.widths[-1]
    if network.loss.labels != case.network.loss.labels:
        return _targets_anew(case, network, rows)
    if batch.labelled:
        ignored = _ignored(case.network.loss)
        counted = np.ones(rows, bool) if ignored is None else batch.targets != ignored
        labels = np.where(counted, batch.targets % width, batch.targets)
        if _ignored(network.loss) != ignored:
            labels = np.where(counted, labels, 0)
        return labels.astype(np.int64)
    fitted = _fitted(batch.targets, np.zeros((rows, width), case.dtype), last)
    if network.loss.labels == "classes" and width != batch.targets.shape[1]:
        missing = np.zeros_like(fitted)
        missing[:, 0] = 1 - fitted.sum(axis=1)
        return lay_out_alike(fitted + missing, batch.targets)
    return fitted


def _targets_anew(case: Case, network: Network, rows: int) -> Array:
    """Return targets of the kind that the case has, where the loss takes classes; else little numbers."""
    width, batch = network.widths[-1], case.batch
    if network.loss.labels == "values":
        return _filled((0, 1, -1), (rows, width)).astype(case.dtype)
    if network.loss.labels == "fractions":
        return _filled((0, 1, 1), (rows, width)).astype(case.dtype)
    labels = np.arange(rows, dtype=np.int64) % width
    if case.network.loss.labels != "classes" or batch.labelled:
        ignored = _ignored(network.loss)
        if ignored is not None:
            labels = np.where(labels == ignored, (labels + 1) % width, labels)
            labels[1::2] = ignored
        return labels
    targets = np.eye(width)[labels]
    if width > 1 and ((batch.targets != 0) & (batch.targets != 1)).any():
        targets = SOFT[1] * targets + SOFT[0] * np.roll(targets, 1, axis=1)
    return targets.astype(case.dtype)


def _class_weights(case: Case, network: Network) -> Array | None:
    if case.batch.class_weights is None or not isinstance(network.loss, SoftmaxCrossEntropy):
        return None
    return _filled(CLASS_WEIGHTS, (network.widths[-1],)).astype(case.dtype)


def _cotangent(case: Case, network: Network, rows: int, pattern: Sequence[float]) -> Array | None:
    if network.loss.reduction != "none":
        return None
    return _filled(pattern, network.loss.shape(rows, network.widths[-1])).astype(case.dtype)


def _ignored(loss: Loss) -> int | None:
    return loss.ignore_index if isinstance(loss, SoftmaxCrossEntropy) else None


def _filled(pattern: Sequence[float], shape: tuple[int, ...]) -> Array:
    """Return an array of the numbers of a pattern, over and over."""
    return np.resize(np.array(pattern, float), shape)


def _fitted(array: Array, anew: Array, last: bool) -> Array:
    """Return an array of the shape of `anew`, with the first or the last numbers of `array` as far as they go."""
    sizes = [min(one, other) for one, other in zip(array.shape, anew.shape, strict=True)]
    starts = [length - size if last else 0 for length, size in zip(array.shape, sizes, strict=True)]
    taken = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    fitted = anew.copy()
    fitted[tuple(map(slice, sizes))] = array[taken]
    return lay_out_alike(fitted, array)


def lay_out_alike(array: Array, other: Array) -> Array:
    """Return the array in C order, or in Fortran's where `other` is not in C order."""
    return lay_out(array, "C" if other.flags.c_contiguous else "F")
