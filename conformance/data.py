"""Real data: a CSV or NPZ file as inputs and targets, and a network that suits it."""

from __future__ import annotations

import csv
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradconform.case import Array, Batch
from gradconform.errors import InvalidInput, first_line
from gradconform.layers import Dense, Tanh
from gradconform.losses import LossRecord, MeanSquaredError, SoftmaxCrossEntropy
from gradconform.network import Network

HIDDEN_UNITS = 8
MOST_CLASSES = 50
"""Whole numbers from 0 to less than this are taken for labels, others for values."""


@dataclass(frozen=True, eq=False)
class Data:
    """`inputs`: (N, width) float64. `labels`: (N,) class indices, or `values`: (N, T) float64; the other is None."""

    inputs: Array
    labels: Array | None
    values: Array | None
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """The number of outputs that a network for these targets has."""
        if self.labels is not None:
            return len(self.classes)
        assert self.values is not None  # noqa: S101 - one of the two is there
        return int(self.values.shape[1])

    def standardised(self) -> Data:
        """Return the data with every input column shifted and scaled to mean 0 and standard deviation 1."""
        spread = self.inputs.std(axis=0)
        inputs = (self.inputs - self.inputs.mean(axis=0)) / np.where(spread > 0, spread, 1)
        # of a constant column rounding alone would be left
        inputs[:, (self.inputs == self.inputs[0]).all(axis=0)] = 0
        return Data(inputs, self.labels, self.values, self.classes)

    def sample(self, rows: int, seed: int) -> Data:
        """Return at most `rows` samples, drawn without replacement and kept in order."""
        if len(self.inputs) <= rows:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.inputs), rows, replace=False))
        labels = None if self.labels is None else self.labels[chosen]
        values = None if self.values is None else self.values[chosen]
        return Data(self.inputs[chosen], labels, values, self.classes)

    def network(self) -> Network:
        """Return one hidden layer of tanh units, for labels with a softmax cross entropy, for values with squares."""
        loss = SoftmaxCrossEntropy() if self.labels is not None else MeanSquaredError()
        width = int(self.inputs.shape[1])
        return Network(width, (Dense(HIDDEN_UNITS), Tanh(), Dense(self.outputs)), loss)

    def batch(self, network: Network) -> Batch:
        """Return the data as a float64 batch for `network`: labels are one-hot for losses that take values.

        Raises `InvalidInput` where the widths do not fit.
        """
        if network.inputs != self.inputs.shape[1]:
            raise InvalidInput(
                f"the network takes {network.inputs} inputs, the data has {self.inputs.shape[1]} columns"
            )
        return Batch(self.inputs, self._targets(network.loss, network.widths[-1]))

    def _targets(self, loss: LossRecord, outputs: int) -> Array:
        if self.labels is None:
            assert self.values is not None  # noqa: S101 - one of the two is there
            if loss.labels == "classes" and self.values.shape[1] == 1:
                raise InvalidInput(f"{type(loss).__name__} takes labels, the data's target is a value")
            return self.values
        if loss.labels == "classes":
            return self.labels
        if outputs == 1 and len(self.classes) == 2:
            return self.labels[:, None].astype(float)
        return np.eye(max(outputs, len(self.classes)))[self.labels]


def read_data(place: str) -> Data:
    """Return the data of a CSV file (last column: the target) or an NPZ file (arrays `inputs` and `targets`).

    Raises `InvalidInput`, one line that names the file and the place in it.
    """
    path = Path(place)
    if path.is_dir():
        raise InvalidInput(f"{place}: a folder; expected a .csv or .npz file")
    if not path.is_file():
        raise InvalidInput(f"{place}: no such file")
    if path.suffix.lower() == ".csv":
        return _read_csv(place)
    if path.suffix.lower() == ".npz":
        return _read_npz(place)
    raise InvalidInput(f"{place}: expected a .csv or .npz file")


def _read_csv(place: str) -> Data:
    try:
        with Path(place).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{place}: not a CSV file in UTF-8: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{place}: cannot be read: {error.strerror}") from None
    if not rows:
        raise InvalidInput(f"{place}: the file is empty")
    header = [f"column {index}" for index in range(1, len(rows[0][1]) + 1)]
    if not any(_is_number(cell) for cell in rows[0][1]):
        header = [cell.strip() for cell in rows.pop(0)[1]]
    if not rows:
        raise InvalidInput(f"{place}: there is a header and no data")
    if len(header) < 2:
        raise InvalidInput(f"{place}: expected at least one input column and, last, the target")
    inputs = np.empty((len(rows), len(header) - 1))
    for index, (line, row) in enumerate(rows):
        if len(row) != len(header):
            raise InvalidInput(f"{place}:{line}: expected {len(header)} values, got {len(row)}")
        inputs[index] = [_cell(place, line, name, cell) for name, cell in zip(header, row[:-1], strict=False)]
    targets = [row[-1].strip() for _, row in rows]
    if all(map(_is_number, targets)):
        values = [_cell(place, line, header[-1], row[-1]) for line, row in rows]
        return _data(place, inputs, np.array(values))
    classes = sorted(set(targets))
    if len(classes) == 1:
        raise InvalidInput(f"{place}: all samples have the same target, {classes[0]}: there is nothing to learn")
    if len(classes) > MOST_CLASSES:
        raise InvalidInput(f"{place}: the last column, {header[-1]}, has {len(classes)} different words: not a target")
    return Data(inputs, np.array([classes.index(target) for target in targets]), None, tuple(classes))


def _read_npz(place: str) -> Data:
    if not zipfile.is_zipfile(place):
        raise InvalidInput(f"{place}: not an NPZ file, which np.savez writes")
    try:
        with np.load(place, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("inputs", "targets") if name in file}
            names = ", ".join(file.files) or "nothing"
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"{place}: not an NPZ file of plain arrays: {first_line(error)}") from None
    for name in ("inputs", "targets"):
        if name not in arrays:
            raise InvalidInput(f"{place}: no array {name!r}; the file has {names}")
        if arrays[name].dtype.kind not in "fiu":
            raise InvalidInput(f"{place}: {name}: expected numbers, got {arrays[name].dtype}")
        finite = np.isfinite(arrays[name])
        if not finite.all():
            index = ", ".join(map(str, np.argwhere(~finite)[0]))
            raise InvalidInput(f"{place}: {name}[{index}] is not finite")
    inputs, targets = arrays["inputs"].astype(float), arrays["targets"]
    if inputs.ndim != 2 or not inputs.size:
        raise InvalidInput(f"{place}: inputs: expected shape (N, width), got {inputs.shape}")
    if targets.ndim not in {1, 2} or len(targets) != len(inputs) or not targets.size:
        raise InvalidInput(f"{place}: targets: expected {len(inputs)} rows as the inputs, got shape {targets.shape}")
    return _data(place, inputs, targets)


def _data(place: str, inputs: Array, targets: Array) -> Data:
    """Return numeric targets as labels, if they are whole numbers from 0 on, or as values."""
    if targets.ndim == 2:
        return Data(inputs, None, targets.astype(float))
    whole = bool((targets == np.round(targets)).all())
    if whole and targets.min() >= 0 and targets.max() < MOST_CLASSES:
        labels = targets.astype(np.int64)
        return Data(inputs, labels, None, tuple(str(label) for label in range(int(labels.max()) + 1)))
    if targets.dtype.kind in "iu" and targets.min() < 0:
        row = int(np.argmin(targets))
        raise InvalidInput(f"{place}: targets[{row}]: label {targets[row]} is below 0")
    return Data(inputs, None, targets.astype(float)[:, None])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cell(place: str, line: int, name: str, cell: str) -> float:
    if not _is_number(cell):
        raise InvalidInput(f"{place}:{line}: {name}: {cell.strip()!r} is not a number")
    number = float(cell)
    if not np.isfinite(number):
        raise InvalidInput(f"{place}:{line}: {name}: {cell.strip()} is not finite")
    return number
