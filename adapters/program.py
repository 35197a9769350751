"""A program that runs beside this one: lines in, lines out, and no way to hang, flood or outlive it.

One thread reads and writes all three pipes, none of which ever blocks it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from gradconform.adapters.protocol import LONGEST_LINE, shown
from gradconform.errors import CandidateFailed, InvalidInput, one_line

STDERR_KEPT = 4096
CHUNK = 1 << 16
POLL = 0.05
"""Seconds between looks at whether the program still lives, where the system cannot tell of its end."""
GRACE = 0.5
"""Seconds between the end of a program's output and its own, which it needs to die."""
MOST_PIECES = 64
"""More than a pipe holds."""


class Program:
    """A running program in a process group of its own: lines in, lines out, each within a time limit.

    Raises `InvalidInput` where the command cannot be run. `memory`: bytes of data that each of its processes may have,
    where the system has such a limit (Linux). Its end, and whatever it started, is `kill`.
    """

    def __init__(
        self, command: Sequence[str], memory: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        if os.name != "posix":
            raise InvalidInput("programs of other languages and --isolate need Linux or macOS")
        if not command:
            raise InvalidInput("no command: write it after --, as in: gradconform check -- ./my_backprop")
        self.longest = LONGEST_LINE
        self.lines = 0
        """Lines of its output that were read."""
        self._memory = memory
        self._output, self._searched, self._errors = bytearray(), 0, b""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise InvalidInput(_not_run(command[0], error)) from None
        if memory is not None:
            _limit(self._process.pid, memory)
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (stream for stream in streams if stream is not None)
        self._selector = selectors.DefaultSelector()
        for stream in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(stream.fileno(), False)
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)
        self._pidfd: int | None = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # an old kernel, or a sandbox
                self._pidfd = os.pidfd_open(self._process.pid)
                self._selector.register(self._pidfd, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """The number of the process, and of its group."""
        return self._process.pid

    def exchange(self, request: bytes, seconds: float | None) -> bytes:
        """Write a request and return the next line, without its end; raises `CandidateFailed`, the program still there.

        Each of both takes as long as it takes, and together at most `seconds`.
        """
        self._refuse_unasked()
        deadline = None if seconds is None else time.monotonic() + seconds
        pending = memoryview(request)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)
        try:
            while (line := self._line()) is None:
                if deadline is not None and time.monotonic() > deadline:
                    unread = "; it did not read the whole request" if pending else ""
                    raise CandidateFailed("TIMEOUT", "gradients", f"no answer within {seconds:g} s{unread}")
                ready, alive = self._wait(deadline)
                if self._stdin in ready:
                    pending = self._write(pending)
                if not pending:
                    self._forget(self._stdin)
                if not alive:
                    while self._line_is_open() and self._read_output():
                        pass
                    if self._line_is_open():
                        raise CandidateFailed("CRASHED", "gradients", self.end())
                elif self._stdout in ready and not self._read_output():
                    self._closed_output()
            return line
        finally:
            self._forget(self._stdin)

    def end(self) -> str:
        """Return how the program ended, and the last line that it wrote to standard error."""
        status = self._status()
        if status is None:
            said = "is running"
        elif status.si_code == os.CLD_EXITED:
            said = f"exited with code {status.si_status}"
        else:
            said = f"killed by {_signal_name(status.si_status)}"
            if self._memory is not None:
                said += f" (memory limit {self._memory / 2**20:,.0f} MiB)"
        rest = bytes(self._output[:STDERR_KEPT]).strip()
        if rest:
            said += f" in the middle of the line {shown(rest)}"
        for _ in range(MOST_PIECES):
            if not self._read_errors():
                break
        last = [line for line in self._errors.splitlines() if line.strip()][-1:]
        return said + "".join(f"; its last words: {shown(line)}" for line in last)

    def stop(self, request: bytes, seconds: float) -> str | None:
        """Write a last request, close the input and return how the program ended; None if it did not in time."""
        deadline = time.monotonic() + seconds
        pending = memoryview(b"" if self._stdin.closed else request)
        if pending:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        while time.monotonic() <= deadline:
            if not pending and not self._stdin.closed:
                self._forget(self._stdin)
                self._stdin.close()
            ready, alive = self._wait(deadline)
            if not alive:
                return self.end()
            if self._stdin in ready:
                pending = self._write(pending)
            if self._stdout in ready:
                piece = _read(self._stdout.fileno())
                self._output += (piece or b"")[: CHUNK - len(self._output)]
                if not piece:
                    self._forget(self._stdout)
        return None

    def unasked(self) -> bytes:
        """Return what the program wrote and nobody read."""
        return bytes(self._output)

    def kill(self) -> None:
        """End the program and all that it started, and leave no zombie."""
        # the group first: as long as its leader is not waited for, the number is nobody else's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._selector.close()
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        with contextlib.suppress(subprocess.TimeoutExpired):  # a kernel that does not let it go
            self._process.wait(GRACE * 10)

    def _wait(self, deadline: float | None) -> tuple[set[object], bool]:
        """Wait until something can be read or written; return what, and whether the program lives."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._pidfd is None:
            left = POLL if left is None else min(POLL, left)
        ready: set[object] = {key.fileobj for key, _ in self._selector.select(left)}
        if self._stderr in ready and not self._read_errors():
            self._forget(self._stderr)
        alive = self._pidfd not in ready if self._pidfd is not None else self._status() is None
        return ready, alive

    def _forget(self, stream: object) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(stream)  # type: ignore[arg-type] # one of ours

    def _write(self, pending: memoryview) -> memoryview:
        try:
            return pending[self._stdin.write(pending[:CHUNK]) or 0 :]
        except BrokenPipeError:  # it does not read any more: dying, or with what it needs
            return pending[len(pending) :]

    def _read_output(self) -> bool:
        """Read a piece of the output; return whether there was one."""
        piece = _read(self._stdout.fileno())
        self._output += piece or b""
        if self._line_is_open() and len(self._output) > self.longest:
            much = f"{self.longest / 2**20:,.0f} MiB"
            detail = f"wrote more than {much} without the end of a line: {shown(bytes(self._output[:1000]))}"
            raise CandidateFailed("CRASHED", "gradients", detail)
        return bool(piece)

    def _read_errors(self) -> bool:
        piece = _read(self._stderr.fileno())
        self._errors = (self._errors + (piece or b""))[-STDERR_KEPT:]
        return bool(piece)

    def _line_is_open(self) -> bool:
        at = self._output.find(b"\n", self._searched)
        self._searched = at if at >= 0 else len(self._output)
        return at < 0

    def _line(self) -> bytes | None:
        """Take the first whole line out of what was read."""
        if self._line_is_open():
            return None
        line = bytes(self._output[: self._searched])
        del self._output[: self._searched + 1]
        self._searched = 0
        self.lines += 1
        return line

    def _refuse_unasked(self) -> None:
        while self._status() is None and len(self._output) <= CHUNK and self._read_output():
            pass
        if self._output.strip():
            first = bytes(self._output).strip().splitlines()[0]
            detail = f"wrote what nobody asked for: {shown(first)}; one line answers one request"
            raise CandidateFailed("CRASHED", "gradients", detail)

    def _closed_output(self) -> None:
        """Raise, once the program has had the time to die of what closed its output."""
        self._forget(self._stdout)
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            _, alive = self._wait(until)
            if not alive:
                raise CandidateFailed("CRASHED", "gradients", self.end())
        raise CandidateFailed("CRASHED", "gradients", "closed its standard output")

    def _status(self) -> os.waitid_result | None:
        """Return how the program ended, if it has, and leave it to be waited for."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _read(descriptor: int) -> bytes | None:
    """Return a piece of what is there, empty at the end; None where there is nothing yet."""
    try:
        return os.read(descriptor, CHUNK)
    except BlockingIOError:
        return None


def _limit(pid: int, memory: int) -> None:
    """Limit the data of a process and of all that it starts from now on.

    Not its address space: frameworks reserve far more of that than they use.
    """
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))


def _not_run(program: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{program}: no such program"
    if isinstance(error, PermissionError):
        return f"{program}: cannot be run: permission denied; try: chmod +x {shlex.quote(program)}"
    if isinstance(error, OSError) and error.strerror == "Exec format error":
        return f"{program}: neither a program for this machine nor a script whose first line is #!"
    return one_line(f"{program!r} cannot be run: {error}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
