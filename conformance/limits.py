"""The limits of a call: how long it takes, how much memory it has, and who hears a Ctrl-C."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

from gradconform.conformance import supervisor

try:
    import resource
except ImportError:  # a system without limits
    resource = None  # type: ignore[assignment]

REPEAT = 0.5
"""Seconds until a candidate that swallowed the end of its time is told again."""
GRACE = 1.5
"""How much longer than its time a candidate may take until the process is ended, as a factor and in seconds."""
TIMED = hasattr(signal, "setitimer")
"""Whether this system tells when a time is up."""


class TimeIsUp(BaseException):
    """Raised inside a candidate. No ordinary handler catches it."""


@contextlib.contextmanager
def limited_memory(limit: int | None) -> Iterator[None]:
    """Let a block allocate `limit` bytes more than the process has."""
    if limit is None or resource is None or not sys.platform.startswith("linux"):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = _in_use() + limit
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _in_use() -> int:
    """Return the bytes of data that the process has: what RLIMIT_DATA limits."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()


@functools.cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="ascii")


_signalled = threading.Event()
_listening = threading.Event()


def interrupted() -> bool:
    """Return whether the user may have asked for the end of the run: whether it was not surely the candidate."""
    return _signalled.is_set() or not _listening.is_set()


@contextlib.contextmanager
def signals_heard() -> Iterator[None]:
    """Let a block hear of the end of its time, and swallow no Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        _signalled.set()
        raise KeyboardInterrupt

    def on_alarm(_number: int, _frame: FrameType | None) -> None:
        raise TimeIsUp

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, on_interrupt)
        _listening.set()
    if TIMED:
        earlier = signal.signal(signal.SIGALRM, on_alarm)
    try:
        yield
    finally:
        if TIMED:
            signal.signal(signal.SIGALRM, earlier)
        if ours:
            _listening.clear()
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def limited_time(limit: float | None) -> Iterator[None]:
    """Raise `TimeIsUp` in a block that takes longer, and `KeyboardInterrupt` after one that swallowed it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _signalled.clear()
    if limit is not None and supervisor.watched():
        # a loop in C hears no signal: after that the process ends, and the run is made again
        faulthandler.dump_traceback_later(GRACE + GRACE * limit, exit=True, file=_nowhere())
    if TIMED and limit is not None:
        signal.setitimer(signal.ITIMER_REAL, limit, REPEAT)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if TIMED and limit is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
    if _signalled.is_set():
        raise KeyboardInterrupt
