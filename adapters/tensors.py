"""Arrays in the messages of the protocol: their numbers, or, where they are large, safetensors files by path."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from gradconform.case import Array
from gradconform.dtypes import DTYPES, dtype_of
from gradconform.errors import CandidateFailed, Unsupported, first_line, one_line

LARGE = 65_536
"""Arrays of more numbers than this go into files, for programs that read them."""

Word = Literal["NaN", "Infinity", "-Infinity"]
Dtype = Literal["float64", "float32", "bfloat16", "float16", "int64"]
Sizes = list[Annotated[int, msgspec.Meta(ge=0)]]
_SAFETENSORS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "I64": "int64"}
_MOST_AXES = 32


class Inline(msgspec.Struct, frozen=True, kw_only=True):
    """An array in the message: its numbers, row by row. A scalar has shape []. What is not finite is a word."""

    shape: Sizes
    data: list[int | float | Word]
    dtype: Dtype | None = None


class InFile(msgspec.Struct, frozen=True, kw_only=True):
    """An array in a safetensors file, which lies directly in the folder of `start`."""

    file: str
    name: str


class Tensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An array: `Inline` or `InFile`. In answers `dtype` is that of the run where it is left out."""

    shape: Sizes | None = None
    dtype: Dtype | None = None
    data: list[int | float | Word] | None = None
    file: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        inline, filed = self.shape is not None and self.data is not None, None not in (self.file, self.name)
        if inline == filed:
            raise ValueError("expected shape and data, or file and name")


class Outbox:
    """Where arrays of a message go: into it, or, above `large` numbers and where there is a `folder`, into one file."""

    def __init__(self, folder: Path | None = None, name: str = "arrays", large: int = LARGE) -> None:
        self._file = None if folder is None else folder / f"{name}.safetensors"
        self._large = large
        self._arrays: dict[str, Array] = {}

    def tensor(self, name: str, array: Array) -> Tensor:
        """Return an array as its message has it; raises `Unsupported` for a dtype that the protocol does not have."""
        dtype = array.dtype.name if array.dtype.kind not in "iu" else "int64"
        if dtype != "int64" and dtype not in DTYPES:
            raise Unsupported(f"the protocol has no {array.dtype}")
        if self._file is not None and array.size > self._large:
            self._arrays[name] = np.asarray(array, np.int64 if dtype == "int64" else dtype_of(dtype), order="C")
            return Tensor(file=str(self._file), name=name)
        numbers = array.ravel().astype(np.int64 if dtype == "int64" else np.float64)
        data: list[Any] = numbers.tolist()
        if dtype != "int64" and not np.isfinite(numbers).all():
            data = [n if math.isfinite(n) else word_of(n) for n in data]
        return Tensor(shape=list(array.shape), dtype=dtype, data=data)  # type: ignore[arg-type] # checked above

    def tensors(self, prefix: str, arrays: Mapping[Any, Array]) -> dict[str, Tensor]:
        """Return arrays by the text of their names."""
        return {str(name): self.tensor(f"{prefix}.{name}", array) for name, array in arrays.items()}

    def write(self) -> None:
        """Write the file, if anything is to be in it."""
        if self._file is not None and self._arrays:
            from safetensors import TensorSpec, serialize_file

            specs = {
                name: TensorSpec(
                    dtype=array.dtype.name, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
                )
                for name, array in self._arrays.items()
            }
            serialize_file(specs, self._file)


class Inbox:
    """Where arrays of a message come from: out of it, or out of files directly in `folder`, which is its owner's alone.

    Nothing is allocated by what a message claims: a shape must fit the numbers that are there, and a file is read only
    if it has at most `most_bytes`.
    """

    def __init__(self, folder: Path | None = None, most_bytes: int = 1 << 32) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._read: dict[str, dict[str, Array]] = {}

    def array(self, what: str, tensor: Tensor, dtype: str) -> Array:
        """Return an array; raises `CandidateFailed` about `what`. `dtype`: where the message leaves it out."""
        if tensor.file is not None:
            return self._in_file(what, tensor.file, tensor.name or "")
        data, shape = tensor.data or [], tensor.shape or []
        _check_size(what, shape, len(data))
        name = tensor.dtype or dtype
        if name == "int64":
            wrong = next((n for n in data if type(n) is not int or not -(2**63) <= n < 2**63), None)
            if wrong is not None:
                raise CandidateFailed("DTYPE", what, f"{wrong!r} is no int64")
            return np.array(data, np.int64).reshape(shape)
        try:
            numbers = np.array(data, np.float64).reshape(shape)
        except OverflowError:
            detail = 'a number is larger than any double: write "Infinity" or "-Infinity", with the quotes'
            raise CandidateFailed("CRASHED", what, detail) from None
        except ValueError as error:  # an axis longer than NumPy has them
            raise CandidateFailed("SHAPE", what, first_line(error)) from None
        with np.errstate(all="ignore"):
            return numbers.astype(dtype_of(name))

    def arrays(self, prefix: str, tensors: Mapping[str, Tensor], dtype: str) -> dict[str, Array]:
        """Return arrays by name; of those whose names are not what they are about, `prefix` says it."""
        return {name: self.array(f"{prefix}{name}", tensor, dtype) for name, tensor in tensors.items()}

    def _in_file(self, what: str, file: str, name: str) -> Array:
        if file not in self._read:
            content = self._content(what, file)
            from safetensors import SafetensorError, deserialize

            try:
                entries = deserialize(content)  # type: ignore[no-untyped-call] # safetensors leaves it without types
            except SafetensorError as error:
                raise CandidateFailed("CRASHED", what, one_line(f"{file}: no safetensors file: {error}")) from None
            self._read[file] = {key: _raw(f"{what}: {file}", key, entry) for key, entry in entries}
        if name not in self._read[file]:
            names = ", ".join(self._read[file]) or "nothing"
            raise CandidateFailed("NAME", what, one_line(f"{file} has no {name!r}; it has {names}"))
        return self._read[file][name]

    def _content(self, what: str, file: str) -> bytes:
        """Return what a file holds. It must be a plain one, no link, directly in the folder."""
        path = Path(file)
        if self._folder is None or path.parent != self._folder or path.name in {"", ".", ".."}:
            where = "files were not agreed on" if self._folder is None else f"it is not directly in {self._folder}"
            raise CandidateFailed("CRASHED", what, one_line(f"{file!r} is not read: {where}"))
        try:
            # neither through a link to somewhere else, nor waiting for the other end of a named pipe
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise CandidateFailed("CRASHED", what, f"{file!r} is not read: it is no plain file")
                if status.st_size > self._most_bytes:
                    size = f"{status.st_size:,} bytes; the whole answer has at most {self._most_bytes:,}"
                    raise CandidateFailed("SHAPE", what, f"{file!r} is not read: it has {size}")
                return stream.read(self._most_bytes)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise CandidateFailed("CRASHED", what, one_line(f"{file!r} cannot be read: {reason}")) from None


def word_of(number: float) -> Word:
    """Return how a number that is not finite is spelled."""
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _check_size(what: str, shape: list[int], numbers: int) -> None:
    if len(shape) > _MOST_AXES or math.prod(shape) != numbers:
        text = one_line(f"{shape}", 60)
        raise CandidateFailed("SHAPE", what, f"{numbers:,} numbers do not fill an array of shape {text}")


def _raw(place: str, name: str, entry: Mapping[str, Any]) -> Array:
    if entry["dtype"] not in _SAFETENSORS:
        known = ", ".join(_SAFETENSORS)
        raise CandidateFailed("DTYPE", name, one_line(f"{place} has {entry['dtype']}; known: {known}"))
    dtype = _SAFETENSORS[entry["dtype"]]
    flat: Array = np.frombuffer(entry["data"], np.int64 if dtype == "int64" else dtype_of(dtype))
    return flat.reshape(entry["shape"])
