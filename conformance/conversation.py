"""A conversation with a program by the protocol, one message at a time, for the self-test: what is wrong, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gradconform.adapters.process import STARTUP
from gradconform.adapters.program import Program
from gradconform.adapters.protocol import (
    PROTOCOL,
    Answer,
    BrokenMessage,
    Errored,
    Result,
    Skipped,
    Start,
    Started,
    decode_answer,
    encode,
    gradients_of,
    run_message,
    shown,
)
from gradconform.adapters.tensors import Inbox, Outbox
from gradconform.capabilities import Capabilities
from gradconform.case import Array, Batch, Gradients
from gradconform.dtypes import dtype_of
from gradconform.errors import CandidateFailed, GradconformError
from gradconform.layers import Dense, Layer
from gradconform.losses import LossRecord, MeanSquaredError
from gradconform.network import Network
from gradconform.notation import LOSSES, parse_item
from gradconform.templates import parse_template

AROUND = 30
"""Characters of a line that are shown on either side of what is wrong."""
FILE_BYTES = 1 << 24


class Wrong(GradconformError):
    """A program did not do what a step asks of it."""

    def __init__(self, detail: str, mend: str) -> None:
        super().__init__(detail)
        self.detail, self.mend = detail, mend


class Conversation:
    """One process of the program, and what was said so far."""

    def __init__(self, command: Sequence[str], timeout: float, folder: Path) -> None:
        self.program = Program(command)
        self.folder = folder
        self._timeout = timeout
        self._line = b""
        self._number = 0

    def ask(self, request: bytes, seconds: float | None = None) -> Answer:
        """Return the answer to a message; raises `Wrong`."""
        try:
            self._line = self.program.exchange(request, seconds or self._timeout)
        except CandidateFailed as failure:
            raise Wrong(failure.detail, _mend_transport(failure.detail)) from None
        try:
            return decode_answer(self._line)
        except BrokenMessage as error:
            raise Wrong(f"{self.place}: {error}\nthe line: {self._excerpt(error.column)}", _mend(str(error))) from None

    def start(self) -> Started:
        """Return the answer to `start`."""
        request = encode(Start(protocol=PROTOCOL, folder=str(self.folder)))
        answer = self.ask(request, max(STARTUP, self._timeout))
        if isinstance(answer, Errored):
            raise Wrong(f"{self.place}: it says: {answer.message}", "this is what it must not say to protocol 1")
        if not isinstance(answer, Started):
            raise self.wrong(f"expected started, got {kind_of(answer)}", "answer start with started")
        if answer.protocol != PROTOCOL:
            mend = f'answer with "protocol":{PROTOCOL}, or with errored'
            raise self.wrong(f"started.protocol: expected {PROTOCOL}, got {answer.protocol}", mend)
        return answer

    def run(
        self,
        started: Started,
        rows: int = 2,
        scale: float = 1.0,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> Result | Skipped | Errored:
        """Return the answer to a run of the smallest network that the program takes; `change` edits the message."""
        return self.send(smallest_case(started.capabilities, rows, scale), Outbox(), change)

    def send(
        self, case: Case, outbox: Outbox, change: Callable[[dict[str, Any]], None] | None = None
    ) -> Result | Skipped | Errored:
        """Return the answer to the run of a case, its arrays checked against what was asked."""
        self._number += 1
        request = run_message(self._number, *case, outbox)
        if change is not None:
            message = msgspec.json.decode(request)
            change(message)
            request = msgspec.json.encode(message) + b"\n"
        answer = self.ask(request)
        if isinstance(answer, Started):
            raise self.wrong("expected result, skipped or errored, got started", "started answers start alone")
        if answer.id != self._number:
            mend = "answer with the id of the run, each run once"
            raise self.wrong(f"{kind_of(answer)}.id: expected {self._number}, got {answer.id}", mend)
        if isinstance(answer, Result):
            self._check_result(answer, case)
        return answer

    @property
    def place(self) -> str:
        """The line of the program's output that is being looked at."""
        return f"line {self.program.lines} of its output"

    def wrong(self, detail: str, mend: str) -> Wrong:
        """Return the failure of a step whose reason is the last line."""
        return Wrong(f"{self.place}: {detail}\nthe line: {self._excerpt(None)}", mend)

    def _excerpt(self, column: int | None) -> str:
        if column is None or column <= AROUND:
            return shown(self._line)
        start = column - 1 - AROUND
        return f"...{shown(self._line[start : start + 2 * AROUND])}... from column {start + 1} on"

    def _check_result(self, result: Result, case: Case) -> None:
        network, parameters, batch = case
        try:
            found = gradients_of(result, batch.inputs.dtype.name, Inbox(self.folder, FILE_BYTES))
        except CandidateFailed as failure:
            what = f'parameters["{failure.what}"]' if failure.what in result.parameters else failure.what
            raise self.wrong(f"result.{what}: {failure.detail}", "shape and data must belong together") from None
        names = ", ".join(parameters)
        for path, array in parameters.items():
            if path not in found.parameters:
                raise self.wrong(f"result.parameters: {path} is missing", f"answer with {names}")
            if found.parameters[path].shape != array.shape:
                got = list(found.parameters[path].shape)
                detail = f'result.parameters["{path}"].shape: expected {list(array.shape)}, got {got}'
                raise self.wrong(detail, "a gradient has the shape of its parameter")
        unknown = [path for path in found.parameters if path not in parameters]
        if unknown:
            raise self.wrong(f"result.parameters: unknown {unknown[0]}", f"answer with {names}")
        for name, field, shape in _optional(network, batch, found):
            if field.shape != shape:
                raise self.wrong(
                    f"result.{name}.shape: expected {list(shape)}, got {list(field.shape)}",
                    "one row for each sample, one column for each unit of the layer",
                )


Case = tuple[Network, dict[str, Array], Batch]


def smallest_case(capabilities: Capabilities, rows: int = 2, scale: float = 1.0) -> Case:
    """Return the smallest case that a program declares to take: 1 -> Dense(1) where it takes any network.

    Inputs and weights are `scale` times small numbers.
    """
    network = _smallest_network(capabilities)
    dtype = dtype_of(capabilities.dtypes[0])
    parameters = {
        path: (scale * (np.arange(np.prod(shape)).reshape(shape) % 3 + 0.5)).astype(dtype)
        for path, shape in network.parameters().items()
    }
    if "transposed" in capabilities.conventions:
        parameters = {path: np.ascontiguousarray(array.T) for path, array in parameters.items()}
    rows = 1 if capabilities.samples == "single" else rows
    inputs = (scale * (np.arange(rows * network.inputs).reshape(rows, -1) % 4 - 1.25)).astype(dtype)
    targets = _targets(network, rows).astype(dtype, copy=False)
    if network.loss.labels == "classes" and "integer" in capabilities.labels:
        targets = np.zeros(rows, np.int64)
    shape = network.loss.shape(rows, network.widths[-1])
    cotangent = np.ones(shape, dtype) if network.loss.reduction == "none" else None
    if capabilities.samples == "single":
        cotangent = None if cotangent is None else cotangent[0]
        return network, parameters, Batch(inputs[0], targets[0], None, cotangent)
    return network, parameters, Batch(inputs, targets, None, cotangent)


def _smallest_network(capabilities: Capabilities) -> Network:
    if capabilities.networks:
        return min((parse_template(text).network for text in capabilities.networks), key=_size)
    losses: list[LossRecord] = []
    for entry in capabilities.losses or LOSSES:
        kind = LOSSES[entry.partition("(")[0]]
        record: Any = parse_item(entry, LOSSES) if "(" in entry else kind()
        if "reduction=" not in entry and record.reduction not in capabilities.reductions:
            record = msgspec.structs.replace(record, reduction=capabilities.reductions[0])
        losses.append(record)
    # without an activation before it where there is such a loss
    loss = min(losses, key=lambda loss: (len(loss.follows), not isinstance(loss, MeanSquaredError)))
    dense = Dense(1, bias=capabilities.bias is not False)
    last: tuple[Any, ...] = tuple(kind() for kind in loss.follows[:1])
    layers: tuple[Layer, ...] = (dense, *last)
    return Network(inputs=1, layers=layers, loss=loss)  # type: ignore[arg-type] # of the union, by its table


def _size(network: Network) -> int:
    return sum(network.widths)


def _targets(network: Network, rows: int) -> Array:
    targets: Array = np.zeros((rows, network.widths[-1]))
    targets[:, 0] = 1
    return targets


def _optional(network: Network, batch: Batch, found: Gradients[Array]) -> Iterator[tuple[str, Array, tuple[int, ...]]]:
    """Return what a result has beside its parameters, with the shape that it must have."""
    rows = batch.inputs.shape[:-1]
    if found.loss is not None:
        whole = network.loss.shape(batch.rows, network.widths[-1])
        yield "loss", found.loss, whole if rows or network.loss.reduction != "none" else whole[1:]
    if found.input is not None:
        yield "input", found.input, batch.inputs.shape
    for name, arrays in (("deltas", found.deltas), ("outputs", found.outputs)):
        for index, array in arrays.items():
            if index < len(network.layers):
                yield f'{name}["{index}"]', array, (*rows, network.widths[index + 1])
            else:
                yield f'{name}["{index}"]', array, (-1,)


def kind_of(answer: Answer) -> str:
    """Return the word for a message."""
    return type(answer).__name__.lower()


def said(answer: Result | Skipped | Errored) -> str:
    """Return an answer in a few words."""
    if isinstance(answer, Result):
        return "result"
    return f"{kind_of(answer)}: {answer.reason if isinstance(answer, Skipped) else answer.message}"


def _mend(error: str) -> str:
    if "standard error" in error:
        return "write nothing but messages to standard output"
    if "with the quotes" in error:
        return 'write what is not finite as one of the words "NaN", "Infinity", "-Infinity"'
    if "the line ends" in error:
        return "write a message without line breaks in it, and end it with one"
    if "capabilities" in error:
        return "declare capabilities by the words of docs/protocol.md"
    return "write this field as docs/protocol.md has it"


def _mend_transport(detail: str) -> str:
    if detail.startswith("no answer"):
        return "write one line for each line that is read, and flush standard output after it"
    if "nobody asked" in detail:
        return "answer each request with one line, and say all else on standard error"
    return "catch what goes wrong and answer errored, with the id of the run"
