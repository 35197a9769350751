"""The worker of `--isolate`: a Python target behind the protocol, in a process of its own.

`python -m gradconform.conformance.serve TARGET` is what `gradconform.adapters.process.ProcessClient` starts. The
protocol has descriptors of its own: whatever the target prints goes to standard error, and what it reads is empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gradconform.errors import CandidateFailed, GradconformError, InvalidInput, NotInstalled, Unsupported, first_line

if TYPE_CHECKING:
    from gradconform.adapters.protocol import Errored, Run
    from gradconform.conformance.guard import Guard
    from gradconform.conformance.implementations import Implementation

FIRST_DESCRIPTOR = 100
"""The protocol's descriptors lie above those that programs close by number."""


class Channel:
    """The protocol's two pipes, taken away from the target before it is imported."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        # closed in programs that the target starts; a fork of it is kept from writing by its number
        self._requests: BinaryIO = open(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR), "rb")  # noqa: PTH123, SIM115 - a descriptor, for good
        self._answers = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    def read(self) -> bytes:
        """Return the next line, empty at the end of the input."""
        self._leave_forks()
        return self._requests.readline()

    def write(self, line: bytes) -> None:
        """Write a whole line; what nobody reads any more is the end of this process."""
        self._leave_forks()
        pending = memoryview(line)
        try:
            while pending:
                pending = pending[os.write(self._answers, pending) :]
        except OSError:
            os._exit(1)

    def _leave_forks(self) -> None:
        if os.getpid() != self._owner:  # a child of the target that came back out of it
            os._exit(0)


def serve(target: str, channel: Channel) -> None:
    """Answer requests for the target until the end of them."""
    from gradconform.adapters.protocol import (
        PROTOCOL,
        BrokenMessage,
        Errored,
        Run,
        Start,
        Started,
        decode_request,
        encode,
    )
    from gradconform.conformance.guard import Guard

    implementation: Implementation | None = None
    folder, guard = None, Guard()
    while line := channel.read():
        try:
            request = decode_request(line)
        except BrokenMessage as error:
            channel.write(_refusal(line, str(error)))
            continue
        if isinstance(request, Start):
            folder = None if request.folder is None else Path(request.folder)
            found = _start(target)
            if isinstance(found, Errored):
                channel.write(encode(found))
                continue
            implementation = found
            started = Started(
                protocol=PROTOCOL,
                name=found.name,
                version=found.version,
                capabilities=found.capabilities,
                files=True,
            )
            channel.write(encode(started))
        elif not isinstance(request, Run):
            return
        elif implementation is None:
            channel.write(encode(Errored(message="run: expected start before it", id=request.id)))
        else:
            channel.write(_run(implementation, guard, request, folder))


def _refusal(line: bytes, error: str) -> bytes:
    """Return the answer to what cannot be read: to a run of a network that is not known here, that it is skipped."""
    from gradconform.adapters.protocol import Errored, Skipped, encode

    try:
        number = json.loads(line)["id"]
    except (ValueError, KeyError, TypeError):
        number = None
    if type(number) is int and error.startswith("run.network"):
        return encode(Skipped(id=number, reason=error))
    return encode(Errored(id=number if type(number) is int else None, message=error))


def _start(target: str) -> Implementation | Errored:
    """Return the target, or why it cannot be used: in one line, the very one that is told without isolation."""
    from gradconform.adapters.protocol import NOT_INSTALLED, Errored
    from gradconform.conformance.implementations import resolve

    try:
        return resolve(target)
    except NotInstalled as error:
        return Errored(message=str(error), what=NOT_INSTALLED)
    except GradconformError as error:
        return Errored(message=str(error))


def _run(implementation: Implementation, guard: Guard, run: Run, folder: Path | None) -> bytes:
    """Return the line that answers a run."""
    from gradconform.adapters.protocol import Errored, Skipped, batch_of, encode, result_message
    from gradconform.adapters.tensors import Inbox, Outbox

    try:
        parameters, batch = batch_of(run, Inbox(folder))
        for array in (*parameters.values(), *(a for a in vars(batch).values() if a is not None)):
            array.flags.writeable = False
        gradients = guard.call(implementation.gradients, run.network, parameters, batch)
        return result_message(run.id, gradients, Outbox(folder, f"result-{run.id}"))
    except (Unsupported, NotImplementedError) as error:
        return encode(Skipped(id=run.id, reason=first_line(error)))
    except CandidateFailed as error:
        return encode(Errored(id=run.id, message=error.detail, kind=error.kind, what=error.what))  # type: ignore[arg-type] # of the same words
    except BaseException as error:  # whatever a target does, it is an answer
        return encode(Errored(id=run.id, message=f"{type(error).__name__}: {first_line(error)}"))


def main(arguments: Sequence[str]) -> None:
    """Serve the target that is named; what it left running does not keep the process."""
    if len(arguments) != 1:
        raise InvalidInput("python -m gradconform.conformance.serve TARGET")
    try:
        serve(arguments[0], Channel())
        code = 0
    except BaseException:  # a defect of ours: the parent repeats the last line
        traceback.print_exc()
        code = 1
    with contextlib.suppress(Exception):  # the target may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
