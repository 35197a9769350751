"""A program of any language as an implementation: started, spoken to by the protocol, and survived.

Whatever the program does, a call ends: with gradients, or with `CandidateFailed` that says what happened.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from gradconform.adapters.program import Program
from gradconform.adapters.protocol import (
    NOT_INSTALLED,
    PROTOCOL,
    Answer,
    BrokenMessage,
    Errored,
    Result,
    Skipped,
    Start,
    Started,
    Stop,
    decode_answer,
    encode,
    gradients_of,
    run_message,
)
from gradconform.adapters.tensors import Inbox, Outbox
from gradconform.capabilities import Capabilities
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.errors import CandidateFailed, InvalidInput, NotInstalled, Unsupported, one_line
from gradconform.network import Network

TIMEOUT = 20.0
STARTUP = 60.0
"""Seconds until a program must have answered `start`: importing a framework takes a few."""
STOPPING = 1.0
"""Seconds that a program has to end by itself."""
PATIENCE = 5
"""A program whose first calls all fail is not called again after so many."""
RESTARTS = 2
"""Nor is one that does not start again started more often, one after the other."""
HEADER_BYTES = 1 << 20
"""What a safetensors file has beside its numbers, at most."""


@dataclass
class _Running:
    """What must be gone when a client is: its process and its folder."""

    owner: int = field(default_factory=os.getpid)
    program: Program | None = None
    folder: Path | None = None

    def clear(self) -> None:
        if os.getpid() != self.owner:  # a fork of ours: they are its parent's
            return
        if self.program is not None:
            program, self.program = self.program, None
            program.kill()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


class ProcessClient:
    """A program that speaks the protocol, as `gradients(network, parameters, batch)`.

    It is started on first use. A call takes at most `timeout` seconds (None: as long as it takes), the start `startup`;
    after a crash, a timeout or garbage it is killed, with all that it started, and the next call starts it afresh. A
    program that does not start, or whose first `PATIENCE` calls all end so, is not called again: further calls fail at
    once. `memory`: bytes that it may have, where the system has such a limit. `close`, or leaving a `with` block, ends
    it, and so does the end of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = TIMEOUT,
        startup: float = STARTUP,
        memory: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = tuple(command)
        self._timeout, self._startup, self._memory, self._environment = timeout, startup, memory, environment
        self._state = _Running()
        self._started: Started | None = None
        self._number = 0
        self._answered = False
        self._failures = self._failed_starts = 0
        self._last: CandidateFailed | None = None
        weakref.finalize(self, self._state.clear)

    @property
    def name(self) -> str:
        """The command as it would be typed."""
        return shlex.join(self.command)

    @property
    def started(self) -> Started:
        """What the program said of itself when it started.

        Raises `InvalidInput` where it cannot be run, says that it cannot be used, or speaks another protocol,
        `NotInstalled` where it says that, and `CandidateFailed` where it crashes, hangs or answers something else.
        """
        if self._started is None:
            self._guarded_start()
            assert self._started is not None  # noqa: S101 - it raises otherwise
        return self._started

    @property
    def capabilities(self) -> Capabilities:
        """What the program declares; raises as `started` does."""
        return self.started.capabilities

    def gradients(self, network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
        """Return what the program answers, as plain arrays.

        Raises `Unsupported` where it skips the case, `CandidateFailed` where it fails, and `InvalidInput` where it
        cannot be started at all.
        """
        started = self.started
        if self._last is not None and not self._answered and self._failures >= PATIENCE:
            detail = f"{self._last.detail} (so did its first {PATIENCE} calls: it is not called again)"
            raise CandidateFailed(self._last.kind, self._last.what, detail)
        if self._state.program is None:
            self._guarded_start()
        self._number += 1
        folder = self._state.folder if started.files else None
        outbox = Outbox(folder, f"run-{self._number}")
        try:
            answer = self._ask(run_message(self._number, network, parameters, batch, outbox))
            inbox = Inbox(folder, _most_bytes(network, batch))
            if isinstance(answer, Skipped):
                raise Unsupported(one_line(answer.reason))
            if isinstance(answer, Errored):
                raise CandidateFailed(answer.kind, one_line(answer.what), one_line(answer.message))
            return gradients_of(answer, batch.inputs.dtype.name, inbox)
        finally:
            if folder is not None:
                _empty(folder)

    def close(self) -> None:
        """End the program: by asking it to, and, if it does not within a second, by killing it."""
        try:
            if self._state.program is not None and os.getpid() == self._state.owner:
                self._state.program.stop(encode(Stop()), STOPPING)
        finally:
            self._state.clear()

    def __enter__(self) -> ProcessClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._state.clear()

    def _guarded_start(self) -> None:
        """Start the program; one that has never started, or not for some times, is not tried again."""
        if self._last is not None and (self._started is None or self._failed_starts >= RESTARTS):
            raise CandidateFailed(self._last.kind, self._last.what, self._last.detail)
        try:
            self._start()
        except CandidateFailed as failure:
            self._failed_to_start(failure.kind, f"does not start: {failure.detail}")
        except (InvalidInput, NotInstalled) as refusal:
            if self._started is None:
                self._state.clear()
                raise
            self._failed_to_start("CRASHED", f"does not start again: {refusal}")
        except BaseException:
            self._state.clear()
            raise
        self._failed_starts = 0

    def _failed_to_start(self, kind: str, detail: str) -> NoReturn:
        self._state.clear()
        self._failed_starts += 1
        self._last = CandidateFailed(kind, "gradients", detail)
        raise self._last from None

    def _start(self) -> None:
        state = self._state
        if state.folder is None:
            # without links in its path, which is what files are held against
            state.folder = Path(tempfile.mkdtemp(prefix="gradconform-")).resolve()
        state.program = Program(self.command, self._memory, self._environment)
        line = state.program.exchange(encode(Start(protocol=PROTOCOL, folder=str(state.folder))), self._startup)
        answer = _answer(line, "started")
        if isinstance(answer, Errored):
            kind = NotInstalled if answer.what == NOT_INSTALLED else InvalidInput
            raise kind(one_line(answer.message))
        if not isinstance(answer, Started):
            raise CandidateFailed("CRASHED", "gradients", f"expected started, got {_kind(answer)}")
        if answer.protocol != PROTOCOL:
            raise InvalidInput(f"{self.name}: it speaks protocol {answer.protocol}, gradconform {PROTOCOL}")
        self._started = answer

    def _ask(self, request: bytes) -> Result | Skipped | Errored:
        """Return the answer to a run; where there is none, the program is gone."""
        program = self._state.program
        assert program is not None  # noqa: S101 - it was started
        try:
            answer = _answer(program.exchange(request, self._timeout), "result, skipped or errored")
            if isinstance(answer, Started) or answer.id != self._number:
                got = _kind(answer) if isinstance(answer, Started) else f"{_kind(answer)} with id {answer.id}"
                raise CandidateFailed("CRASHED", "gradients", f"expected an answer to run {self._number}, got {got}")
        except CandidateFailed as failure:
            self._kill()
            self._failures += 1
            self._last = failure
            raise
        except BaseException:  # Ctrl-C: what it still answers would be taken for the answer to another question
            self._kill()
            raise
        self._answered, self._failures = True, 0
        return answer

    def _kill(self) -> None:
        if self._state.program is not None:
            program, self._state.program = self._state.program, None
            program.kill()


def _answer(line: bytes, expected: str) -> Answer:
    try:
        return decode_answer(line)
    except BrokenMessage as error:
        detail = f"expected {expected}: {error}" if expected == "started" else str(error)
        raise CandidateFailed("CRASHED", "gradients", detail) from None


def _kind(answer: Answer) -> str:
    return type(answer).__name__.lower()


def _most_bytes(network: Network, batch: Batch) -> int:
    """Return how large any file of an answer can be: every quantity there is, twice, in the widest type."""
    rows = batch.inputs.size // network.inputs + 1
    parameters = sum(width * (1 + after) for width, after in zip(network.widths, network.widths[1:], strict=False))
    return HEADER_BYTES + 2 * 8 * (parameters + 3 * rows * sum(network.widths))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
