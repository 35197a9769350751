"""Reading case files, whoever wrote them.

It runs nothing, and allocates no more than the file is long: what a file declares is compared with what it holds before
an array is made. Whatever is not as `gradconform.conformance.casefile.encode` writes it is one line that names the
place.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from gradconform.case import Array, Batch, Case
from gradconform.conformance.casefile import LARGEST, VERSION, CaseFile, Conditions, Found
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.examples import Layout, lay_out
from gradconform.dtypes import dtype_of
from gradconform.errors import InvalidInput, one_line
from gradconform.network import Network

NAMES = 100_000
"""More names than this stand in no case file."""
ID = re.compile(r"[0-9a-f]{8}")
LONGEST = 1000
"""Characters of a word or sentence of a file that are shown."""
BEFORE = 16
"""So many earlier calls may a file have."""

# possessive: a long text is gone through once, and nothing of the way is remembered
_NAMES = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*+:)?|[{}]', re.DOTALL)
T = TypeVar("T")


class _Head(msgspec.Struct):
    gradconform: str
    version: int


class _Written(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The arrays of one case as they stand in a file."""

    parameters: dict[str, msgspec.Raw]
    inputs: msgspec.Raw
    targets: msgspec.Raw
    class_weights: msgspec.Raw = msgspec.Raw()
    cotangent: msgspec.Raw = msgspec.Raw()
    layouts: dict[str, Layout] = {}


class _WrittenFile(_Written, kw_only=True, forbid_unknown_fields=True):
    gradconform: Literal["case"]
    version: int
    id: str
    implementation: str
    program: list[str] = []
    dtype: str
    network: Network
    conditions: Conditions
    found: Found
    seed: int
    versions: dict[str, str]
    before: list[_Written] = []


def read_case(place: Path | str) -> CaseFile:
    """Return the case file at a place.

    Raises `InvalidInput`, one line that names the file and the place in it, for whatever is not as `encode` writes it.
    """
    text = _content(Path(place))
    try:
        return _decoded(text)
    except InvalidInput as error:
        raise InvalidInput(one_line(f"{place}: {error}")) from None
    except RecursionError:
        raise InvalidInput(f"{place}: nested too deeply for a case file") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        message, _, where = str(error).partition(" - at `$")
        where = where.rstrip("`").lstrip(".")
        raise InvalidInput(one_line(f"{place}: {f'{where}: ' if where else ''}{message}")) from None


def _content(path: Path) -> bytes:
    try:
        # a pipe without a writer would be waited for
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(f"{path}: not a case file: it is no regular file")
            if status.st_size > LARGEST:
                raise InvalidInput(f"{path}: {status.st_size:,} bytes: a case file has at most {LARGEST:,}")
            with open(descriptor, "rb", closefd=False) as stream:
                return stream.read(status.st_size)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


def _decoded(text: bytes) -> CaseFile:
    try:
        head = msgspec.json.decode(text, type=_Head)
    except msgspec.ValidationError:
        raise InvalidInput('not a case file: expected "gradconform": "case" and "version"') from None
    if head.gradconform != "case":
        raise InvalidInput(f'not a case file: "gradconform" is {head.gradconform!r}, not "case"')
    if head.version != VERSION:
        newer = "a newer gradconform wrote it: install that" if head.version > VERSION else "there is no such version"
        raise InvalidInput(f"version {head.version} of the format, and this gradconform reads {VERSION}: {newer}")
    _require_single_names(text)
    written = msgspec.json.decode(text, type=_WrittenFile)
    if not ID.fullmatch(written.id):
        raise InvalidInput(f"id: expected 8 hexadecimal digits, got {written.id!r}")
    if written.seed < 0 or written.conditions.calls < 0:
        raise InvalidInput("seed and conditions.calls must be at least 0")
    if len(written.before) > BEFORE:
        raise InvalidInput(f"before: at most {BEFORE} earlier calls, got {len(written.before)}")
    dtype = dtype_of(written.dtype)
    return CaseFile(
        id=written.id,
        implementation=one_line(written.implementation, LONGEST),
        program=tuple(written.program),
        case=_case(written, written.network, dtype),
        conditions=_checked(written.conditions),
        found=_printable(written.found),
        seed=written.seed,
        versions=written.versions,
        before=tuple(_earlier(index, entry, written.network, dtype) for index, entry in enumerate(written.before)),
    )


def _require_single_names(text: bytes) -> None:
    """Raise `InvalidInput` where an object has a name twice, of which a reader would take either."""
    objects: list[set[bytes]] = []
    for count, match in enumerate(_NAMES.finditer(text)):
        if count > NAMES:
            raise InvalidInput(f"more than {NAMES:,} names and texts: not a case file")
        if match[0] == b"{":
            objects.append(set())
        elif match[0] == b"}":
            objects.pop()
        elif match[2]:
            name = json.loads(b'"' + match[1] + b'"')
            if name in objects[-1]:
                raise InvalidInput(f"{name!r} stands twice")
            objects[-1].add(name)


def _checked(conditions: Conditions) -> Conditions:
    for name in conditions.checks:
        if name not in CHECKS:
            raise InvalidInput(f"conditions.checks: unknown check {name!r}; the checks are {', '.join(CHECKS)}")
    if conditions.timeout is not None and not conditions.timeout > 0:
        raise InvalidInput(f"conditions.timeout must be above 0, got {conditions.timeout:g}")
    if conditions.max_memory is not None and conditions.max_memory < 1:
        raise InvalidInput(f"conditions.max_memory must be at least 1, got {conditions.max_memory}")
    for layer, share in conditions.kinks.items():
        if not 0 <= share <= 1:
            raise InvalidInput(f"conditions.kinks.{layer}: expected a share from 0 to 1, got {share:g}")
    return conditions


def _printable(found: Found) -> Found:
    """Return what was found without characters that would move a terminal's cursor."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        return one_line(value, LONGEST) if isinstance(value, str) else value

    return Found(**{name: plain(value) for name, value in msgspec.structs.asdict(found).items()})


def _earlier(index: int, written: _Written, network: Network, dtype: np.dtype[Any]) -> Case:
    try:
        return _case(written, network, dtype)
    except InvalidInput as error:
        raise InvalidInput(f"before[{index}].{error}") from None


def _case(written: _Written, network: Network, dtype: np.dtype[Any]) -> Case:
    shapes, classes = network.parameters(), network.widths[-1]
    # each row is a list in the list of rows; that there are as many numbers is seen to where they are read
    rows = max(1, bytes(written.inputs).count(b"[") - 1)
    if bytes(written.cotangent) and network.loss.reduction != "none":
        raise InvalidInput(f"cotangent: only reduction none takes one, not {network.loss.reduction}")
    arrays: dict[str, Array] = {}

    def read(place: str, name: str, raw: msgspec.Raw, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        arrays[name] = lay_out(_array(place, bytes(raw), shape, kind), written.layouts.get(name, "C"))

    for path, raw in written.parameters.items():
        if path not in shapes:
            raise InvalidInput(f"parameters: the network has no {path!r}; it has {', '.join(shapes) or 'none'}")
        read(f"parameters.{path}", path, raw, shapes[path], dtype)
    read("inputs", "inputs", written.inputs, (rows, network.inputs), dtype)
    if bytes(written.targets).count(b"[") == 1:
        read("targets", "targets", written.targets, (rows,), np.dtype(np.int64))
    else:
        read("targets", "targets", written.targets, (rows, classes), dtype)
    if bytes(written.class_weights):
        read("class_weights", "class_weights", written.class_weights, (classes,), dtype)
    if bytes(written.cotangent):
        read("cotangent", "cotangent", written.cotangent, network.loss.shape(rows, classes), dtype)
    for name in written.layouts:
        if name not in arrays:
            raise InvalidInput(f"layouts: there is no array {name!r}")
    batch = Batch(arrays["inputs"], arrays["targets"], arrays.get("class_weights"), arrays.get("cotangent"))
    return Case(network, {path: arrays[path] for path in shapes if path in arrays}, batch)


def _array(place: str, text: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return the array that JSON holds, if it is of the shape; lists are counted before any is made."""
    lists = 1 if len(shape) == 1 else 1 + shape[0]
    if text.count(b"[") != lists or text.count(b",") != math.prod(shape) - 1:
        raise InvalidInput(f"{place}: expected numbers of shape {shape}, by the network and the number of inputs")
    entry: type = int if dtype.kind in "iu" else float
    kind: Any = list[entry] if len(shape) == 1 else list[list[entry]]  # type: ignore[valid-type] # one of two
    values = _at(place, lambda: msgspec.json.decode(text, type=kind))
    if len(values) != shape[0] or (len(shape) == 2 and any(len(row) != shape[1] for row in values)):
        raise InvalidInput(f"{place}: expected numbers of shape {shape}: a row has too few or too many")
    try:
        with np.errstate(all="ignore"):
            return np.array(values, np.int64 if dtype.kind in "iu" else np.float64).astype(dtype)
    except OverflowError:
        raise InvalidInput(f"{place}: a label is too large for an integer of 64 bits") from None


def _at(place: str, read: Callable[[], T]) -> T:
    """Return what `read` reads, with the place in its error."""
    try:
        return read()
    except msgspec.DecodeError as error:
        message, _, where = str(error).partition(" - at `$")
        raise InvalidInput(f"{place}{where.rstrip('`')}: {message}") from None
