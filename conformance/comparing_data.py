"""What two models are compared on: a batch of named arrays, and parameter values from a file."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gradconform.case import Array
from gradconform.conformance.data import read_data
from gradconform.dtypes import is_floating
from gradconform.errors import InvalidInput, first_line

SAFETENSORS: Mapping[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""The types of a safetensors file by the names in its header."""


def read_batch(data: str | Mapping[str, Any], rows: int | None = None) -> dict[str, Array]:
    """Return a batch as named arrays: of an NPZ file all of them, of a CSV file `inputs` and `targets`.

    Floating-point arrays come as float32, so that every precision of a model starts from the same numbers. `rows`: at
    most so many of the first samples, of all arrays that are as long as `inputs` along their first axis.
    Raises `InvalidInput`, one line that names the file or the array.
    """
    if isinstance(data, str):
        batch = _read_file(data)
        place = f"{data}: "
    else:
        batch = {str(name): np.asarray(value) for name, value in data.items()}
        place = "data: "
    if not batch:
        raise InvalidInput(f"{place}there is no array in it")
    for name, array in batch.items():
        if not is_floating(array.dtype) and array.dtype.kind not in "iub":
            raise InvalidInput(f"{place}{name}: expected numbers, got {array.dtype}")
    if rows is not None:
        if "inputs" not in batch or not batch["inputs"].ndim:
            raise InvalidInput(f"{place}rows were asked for, but there is no array 'inputs' to count them by")
        samples = len(batch["inputs"])
        batch = {name: array[:rows] if array.ndim and len(array) == samples else array for name, array in batch.items()}
    return {name: _single(f"{place}{name}", array) for name, array in batch.items()}


def _read_file(place: str) -> dict[str, Array]:
    if not Path(place).is_file():
        raise InvalidInput(f"{place}: no such file")
    suffix = Path(place).suffix.lower()
    if suffix == ".npz":
        return read_npz(place)
    if suffix != ".csv":
        raise InvalidInput(f"{place}: expected a .csv or .npz file")
    data = read_data(place)
    targets = data.labels if data.labels is not None else data.values
    assert targets is not None  # noqa: S101 - one of the two is there
    return {"inputs": data.inputs, "targets": targets}


def read_values(values: str | Mapping[str, Any]) -> dict[str, Array]:
    """Return parameter values by name, as float32, from an NPZ file, a safetensors file or a mapping.

    Nested mappings are flattened with "/" between the names. Raises `InvalidInput` as `read_batch` does.
    """
    if not isinstance(values, str):
        from gradconform.conformance.comparing_models import flatten

        return {name: _single(f"values: {name}", np.asarray(value)) for name, value in flatten(values).items()}
    if not Path(values).is_file():
        raise InvalidInput(f"{values}: no such file")
    suffix = Path(values).suffix.lower()
    if suffix not in {".npz", ".safetensors"}:
        raise InvalidInput(f"{values}: expected a .npz or .safetensors file")
    arrays = read_npz(values) if suffix == ".npz" else read_safetensors(values)
    if not arrays:
        raise InvalidInput(f"{values}: there is no array in it")
    return {name: _single(f"{values}: {name}", array) for name, array in arrays.items()}


def read_npz(place: str) -> dict[str, Array]:
    """Return all arrays of an NPZ file. Raises `InvalidInput` for what is none, and for pickled objects."""
    if not zipfile.is_zipfile(place):
        raise InvalidInput(f"{place}: not an NPZ file, which np.savez writes")
    try:
        with np.load(place, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"{place}: not an NPZ file of plain arrays: {first_line(error)}") from None


def read_safetensors(place: str) -> dict[str, Array]:
    """Return all arrays of a safetensors file: 8 bytes with the header's length, a JSON header, the numbers.

    Raises `InvalidInput` for a header or an array that does not fit the file, and for a type without NumPy's like.
    """
    content = Path(place).read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        if len(content) < 8 + length:
            raise ValueError("it ends within its header")
        header = json.loads(content[8 : 8 + length])
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] not in SAFETENSORS:
                raise ValueError(f"{name} has the type {entry['dtype']}")
            start, stop = entry["data_offsets"]
            dtype, shape = np.dtype(SAFETENSORS[entry["dtype"]]), tuple(entry["shape"])
            numbers = content[8 + length + start : 8 + length + stop]
            if len(numbers) != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} has {len(numbers)} bytes for the shape {shape} of {dtype}")
            arrays[str(name)] = np.frombuffer(numbers, dtype).reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{place}: not a safetensors file: {first_line(error)}") from None
    return arrays


def single(array: Array) -> Array:
    """Return floating-point numbers rounded to float32, others as they are."""
    return array.astype(np.float32) if is_floating(array.dtype) else array


def _single(name: str, array: Array) -> Array:
    with np.errstate(over="ignore"):
        rounded = single(array)
    if is_floating(array.dtype) and not np.isfinite(rounded).all():
        index = tuple(map(int, np.argwhere(~np.isfinite(rounded))[0]))
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise InvalidInput(f"{name}{where}: {float(array[index])} is not a finite number of float32")
    return rounded
