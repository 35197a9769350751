"""A crew of processes on this machine. Nothing heavy is imported here: a worker first sets what libraries read."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradconform.conformance.campaign_work import Done, Unit
    from gradconform.conformance.job import Job

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""How many threads libraries start, which they read when they are loaded: a worker has a core."""
RENEWALS = 1000
"""After so many deaths of a pool something else is wrong."""


class LocalCrew:
    """Worker processes that are started afresh, each with a session of its own: Ctrl-C of a terminal is not for them.

    `errors`: the file to which they write what candidates print; None: nowhere.
    """

    alone = True

    def __init__(self, workers: int | None = None, errors: str | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._errors = errors or os.devnull
        self._pool: ProcessPoolExecutor | None = None
        self._renewed = 0

    @property
    def size(self) -> int:
        """As many units as workers."""
        return self.workers

    def submit(self, function: Callable[..., Done], job: Job, unit: Unit) -> Future[Done]:
        """Hand over a unit."""
        return self._submit(function, job, unit)

    def describe(self, job: Job) -> Future[Any]:
        """Ask one worker who is checked."""
        from gradconform.conformance.campaign_work import describe

        return self._submit(describe, job)

    def _submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, multiprocessing.get_context("spawn"), initializer=prepare, initargs=(self._errors,)
            )
        try:
            return self._pool.submit(function, *arguments)
        except BrokenExecutor as error:  # between two units: it is told as those are that were lost with it
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def deadly(self, error: BaseException) -> bool:
        """Return whether a worker died."""
        return isinstance(error, BrokenExecutor)

    def renew(self) -> None:
        """End the workers that are left; others are started for the next unit."""
        from gradconform.conformance.campaign import CrewGone

        self.close()
        self._renewed += 1
        if self._renewed > RENEWALS:
            raise CrewGone(f"worker processes have died {RENEWALS} times")

    def close(self) -> None:
        """End all workers, and what they have started."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            _end(process)
        for process in processes:
            process.join()


def _end(process: Any) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, ValueError):
        process.kill()


def prepare(errors: str) -> None:
    """Make a process a worker, before anything else is imported in it."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()
    stream = os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number in (1, 2):
        os.dup2(stream, number)
    os.close(stream)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when its parent has ended, however that was."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
