"""A crew of Dask workers: a scheduler's address is all that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from gradconform.errors import InvalidInput, NotInstalled, first_line

if TYPE_CHECKING:
    from gradconform.conformance.campaign_work import Done, Unit
    from gradconform.conformance.job import Job

CONNECTING = 10.0
"""Seconds until a scheduler must have answered."""
JOINING = 30.0
"""Seconds until it must have a worker."""
COUNTING = 5.0
"""Seconds between two looks at how many workers there are."""


class DaskCrew:
    """The workers of a scheduler, which may come and go: they are counted again and again.

    Raises `NotInstalled` without `distributed`, and `InvalidInput`, one line, where nobody answers at the address.
    """

    alone = False

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError:
            raise NotInstalled("--dask needs Dask: pip install 'gradconform[dask]'") from None
        self.address, self._killed = address, distributed.KilledWorker
        try:
            self._client = distributed.Client(address, timeout=CONNECTING, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise InvalidInput(f"--dask {address}: no scheduler answers: {first_line(error)}") from None
        try:
            self._client.wait_for_workers(1, timeout=JOINING)
        except TimeoutError:
            self._client.close()
            raise InvalidInput(f"--dask {address}: the scheduler has no workers") from None
        # each unit is a task of its own, even one that is handed over again
        self._executor = self._client.get_executor(pure=False)
        self._size, self._counted = 1, 0.0

    @property
    def size(self) -> int:
        """A unit and half a unit more for each worker: that none waits for us."""
        if time.monotonic() - self._counted > COUNTING:
            self._counted = time.monotonic()
            workers = len(self._client.nthreads())
            self._size = max(1, workers + (workers + 1) // 2)
        return self._size

    def submit(self, function: Callable[..., Done], job: Job, unit: Unit) -> Future[Done]:
        """Hand over a unit."""
        return self._submit(function, job, unit)

    def describe(self, job: Job) -> Future[Any]:
        """Ask one worker who is checked."""
        from gradconform.conformance.campaign_work import describe

        return self._submit(describe, job)

    def _submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        from gradconform.conformance.campaign import CrewGone

        try:
            future: Future[Any] = self._executor.submit(function, *arguments)
        except Exception as error:
            raise CrewGone(f"the scheduler at {self.address} is gone: {first_line(error)}") from error
        return future

    def deadly(self, error: BaseException) -> bool:
        """Return whether workers died of a unit: the scheduler has then tried it on several."""
        return isinstance(error, self._killed)

    def renew(self) -> None:
        """Do nothing: workers that are gone are their nannies' business."""

    def close(self) -> None:
        """Take back what is not done. The workers stay: they are not ours."""
        self._executor.shutdown(wait=False)
        self._client.close()
