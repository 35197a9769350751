"""Surviving what ends the process: a run whose candidate does that is made once more, with `--isolate`.

The run is made in a child of a process that has imported next to nothing. A candidate that crashes the interpreter,
leaves by `os._exit`, or hangs in C until the watchdog ends it, ends the child without a word; the parent then runs the
same command again, with each candidate in a process of its own. Where a system cannot fork, or cannot wait for signals,
the run is made here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gradconform.conformance.configuration import has_configuration

CRASHES = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGKILL", "SIGSYS", "SIGTRAP", "SIGXCPU"}
"""The signals of a crash, or of a system out of memory; others were sent to end the run."""
DONE = "done"
AWAITED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD} if hasattr(signal, "sigtimedwait") else set()
SET_CHILD_SUBREAPER = 36
"""An option of Linux' prctl."""

_report: int | None = None


def watched() -> bool:
    """Return whether somebody runs this once more if the process ends without a word."""
    return _report is not None


def tell(word: str) -> None:
    """Tell the supervising process, if there is one: the seed of the run, and that the run has come to its end."""
    if _report is not None:
        os.write(_report, f"{word}\n".encode())


def supervised(arguments: Sequence[str], run: Callable[[Sequence[str]], None]) -> None:
    """Call `run` with the arguments of a command, and once more with `--isolate` where it ends the process."""
    if not _needed(arguments):
        run(arguments)
        return
    _open_standard_streams()
    reading, writing = os.pipe()
    _adopt()
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    child = os.fork()
    if child == 0:
        global _report  # noqa: PLW0603 - one process has one supervisor
        signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)
        os.close(reading)
        _report = writing
        try:
            run(arguments)
        finally:
            try:
                sys.stdout.flush()
            except OSError:
                silence()
            tell(DONE)
        return
    os.close(writing)
    words, status = _wait(child, reading)
    if DONE in words:
        # as the child would have: its own end is ours
        os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
    code = os.waitstatus_to_exitcode(status)
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if code < 0 and name not in CRASHES:
        os._exit(128 - code)
    print(  # noqa: T201 - progress goes to stderr
        f"gradconform: the process was ended by a candidate ({name}): once more, with --isolate",
        file=sys.stderr,
        flush=True,
    )
    seeds = [word for word in words if word.isdecimal()]
    given = any(argument == "--seed" or argument.startswith("--seed=") for argument in arguments)
    run([*arguments, "--isolate", *(["--seed", seeds[-1]] if seeds and not given else [])])


def silence() -> None:
    """Have what is written to standard output go nowhere, also at exit: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_streams() -> None:
    """Open what was closed of the standard streams: a pipe is to be none of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the first that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as the process


def _needed(arguments: Sequence[str]) -> bool:
    """Return whether a command runs somebody's own code in this process."""
    own = any(":" in argument or argument.endswith(".py") for argument in arguments[1:])
    # a case that is replayed names what is run, and so may a file that is read
    runs = bool(arguments) and (
        arguments[0] == "replay" or (arguments[0] == "check" and (own or has_configuration(arguments)))
    )
    return runs and "--isolate" not in arguments and "--" not in arguments and hasattr(os, "fork") and bool(AWAITED)


def _wait(child: int, reading: int) -> tuple[list[str], int]:
    """Return what a child told, and how it ended. What was sent to this process alone is sent on to it."""
    ended, status = 0, 0
    while not ended:
        sent = signal.sigtimedwait(AWAITED, 1.0)
        # Ctrl-C of a terminal, which the kernel sends, reaches the child as well
        if sent is not None and sent.si_signo != signal.SIGCHLD and sent.si_code <= 0:
            os.kill(child, sent.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
    told = b""
    # somebody whom the candidate left behind may hold the other end open
    os.set_blocking(reading, False)
    with contextlib.suppress(BlockingIOError):
        told = os.read(reading, 65536)
    os.close(reading)
    _end_orphans()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)
    return told.decode().split(), status


def _adopt() -> None:
    """Become the parent of what a candidate leaves behind, where the system knows that."""
    if sys.platform.startswith("linux"):
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_orphans() -> None:
    """End the processes that a candidate left behind, and their own."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while children.exists() and (orphans := children.read_text("ascii").split()):
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(orphan), signal.SIGKILL)
            os.waitpid(int(orphan), 0)
