"""A campaign: the rounds of a job, run by a crew of workers and counted once each, whatever becomes of a worker.

It is written against `concurrent.futures`: a crew is a pool of processes here, or a cluster.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Protocol

import msgspec

from gradconform.conformance.campaign_work import Described, Done, Unit, result_of, work
from gradconform.conformance.canaries import proved
from gradconform.conformance.job import Job
from gradconform.conformance.merging import merged, verdict_of
from gradconform.conformance.plan import choose_checks
from gradconform.conformance.results import Result
from gradconform.errors import InvalidInput

TICK = 0.25
"""Seconds between two looks at the clock."""
DEATHS = 2
"""So many workers may one round end; then it is told and not run again."""
MEMORY = 1536 << 20
"""Bytes from which on a worker of ours is one too many: JAX does not give back all that it takes."""
TRIES = 5
"""So often may a round be lost for other reasons."""


class CrewGone(Exception):
    """A crew cannot take work any more."""


class Crew(Protocol):
    """Workers: where units are run."""

    alone: bool
    """Whether a worker that dies takes with it what the others are doing: then nobody knows which unit it was."""

    @property
    def size(self) -> int:
        """How many units it takes at a time."""

    def submit(self, function: Callable[..., Done], job: Job, unit: Unit) -> Future[Done]:
        """Hand over a unit. Raises `CrewGone` where nobody is there any more."""

    def describe(self, job: Job) -> Future[Described]:
        """Ask one worker who is checked."""

    def deadly(self, error: BaseException) -> bool:
        """Return whether an error says that a worker died of a unit, or of another one beside it."""

    def renew(self) -> None:
        """Put others in the place of workers that are gone."""

    def close(self) -> None:
        """End all workers that are ours."""


class Campaign:
    """Runs units until `draw` gives no more. `done` is called with what became of each, once.

    A unit that ends its worker twice is run once more, and all others from then on, with each target in a process of
    its own, where its end is a finding. `lost` is called with a unit that is given up, why, and whether more than time
    is to blame; `tick` now and then. After `until`, on the monotonic clock, what is still running is given up.
    """

    def __init__(
        self,
        job: Job,
        crew: Crew,
        draw: Callable[[], Unit | None],
        done: Callable[[Done], None],
        lost: Callable[[Unit, str, bool], None],
        *,
        tick: Callable[[], None] = lambda: None,
        until: Callable[[], float | None] = lambda: None,
        work: Callable[[Job, Unit], Done] = work,
    ) -> None:
        self.job, self.crew, self.draw, self.done, self.lost = job, crew, draw, done, lost
        self._tick, self._until, self._work = tick, until, work
        self._running: dict[Future[Done], Unit] = {}
        self._again: deque[Unit] = deque()
        self._suspects: deque[Unit] = deque()
        """Units beside which a worker died: each is run alone, so that it is known whether it was that one."""
        self._full = False
        """Whether other workers are to take the place of these, when they have done what they have."""
        self._deaths: Counter[int] = Counter()
        self._tries: Counter[int] = Counter()

    def run(self) -> None:
        """Run all units. Raises `CrewGone` where nobody is left to run them."""
        while True:
            self._fill()
            if not self._running:
                return
            finished, _ = wait(self._running, timeout=TICK, return_when=FIRST_COMPLETED)
            self._collect(finished)
            self._tick()
            until = self._until()
            if until is not None and time.monotonic() > until:
                for unit in self._running.values():
                    self.lost(unit, "it was still running when time was up", False)
                return

    def _fill(self) -> None:
        """Hand over as many units as the crew takes; a suspect only when nothing else runs."""
        if self._full:
            if self._running:
                return
            self.crew.renew()
            self._full = False
        if self._suspects:
            if not self._running:
                self._start(self._suspects.popleft())
            return
        while len(self._running) < self.crew.size and not self._suspects:
            unit = self._again.popleft() if self._again else self.draw()
            if unit is None:
                return
            self._start(unit)

    def _start(self, unit: Unit) -> None:
        self._running[self.crew.submit(self._work, self.job, unit)] = unit

    def _collect(self, finished: Iterable[Future[Done]]) -> None:
        died = False
        waiting = deque(sorted(finished, key=lambda future: self._running[future].number))
        while waiting:
            future = waiting.popleft()
            unit = self._running.pop(future)
            try:
                done = future.result()
            except (Exception, CancelledError) as error:
                deadly = self.crew.deadly(error)
                if deadly and self.crew.alone and not died:
                    # the pool ends with its worker, and everything that it was given
                    died = True
                    wait(self._running)
                    waiting.extend(future for future in self._running if future not in waiting)
                self._failed(unit, error, deadly=deadly)
                continue
            self._full = self._full or (self.crew.alone and done.memory > MEMORY)
            self.done(done)
        if died:
            self.crew.renew()

    def _failed(self, unit: Unit, error: BaseException, *, deadly: bool) -> None:
        """Have a unit run again, unless it was lost too often."""
        counter, most = (self._deaths, DEATHS) if deadly else (self._tries, TRIES)
        counter[unit.number] += 1
        if counter[unit.number] < most:
            # nobody knows of which unit a worker of ours died: each is run alone then
            (self._suspects if deadly and self.crew.alone else self._again).append(unit)
        elif deadly and counter[unit.number] == most:
            self.job = msgspec.structs.replace(self.job, isolate=True)
            self._suspects.append(unit)
        else:
            said = " ".join(str(error).split()) or type(error).__name__
            why = "its worker ended each time" if deadly else f"it was lost {TRIES} times: {said}"
            self.lost(unit, why, True)


class Total:
    """The result of all units so far, merged as they come."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result: Result | None = None
        self.lost: list[str] = []
        self.interrupted = False
        self._started = time.monotonic()

    def add(self, result: Result) -> Result:
        """Add the result of a unit; return the total."""
        self.result = result if self.result is None else merged([self.result, result])
        return self.result

    def give_up(self, unit: Unit, why: str, bad: bool) -> None:
        """Take note of a unit that is not counted; `bad`: for another reason than that time was up."""
        self.lost.append(f"round {unit.number} was given up: {why}")
        self.interrupted |= bad

    def whole(self) -> Result:
        """Return the result of the campaign, with the proof of its checks."""
        whole = self.result
        if whole is None:
            whole = Result(
                verdict="nothing compared",
                seed=self.job.seed,
                seconds=0.0,
                networks=0,
                structures=0,
                implementations=[],
                findings=[],
            )
        whole.notes += self.lost
        whole.interrupted = self.interrupted
        whole.seconds = round(time.monotonic() - self._started, 3)
        whole.verdict = verdict_of(whole)
        # once for all rounds, whose checks are the same
        return proved(whole, choose_checks(self.job.only, self.job.exclude))


def require_done(done: Done) -> Done:
    """Return what became of a unit; raises `InvalidInput` for what the user named, and where the harness failed."""
    if done.error:
        raise InvalidInput(done.error)
    if done.trace:
        raise RuntimeError(f"round {done.unit.number} failed in the harness:\n{done.trace}")
    return done


def run_job(job: Job, crew: Crew, *, progress: Callable[[int, int], None] = lambda done, rounds: None) -> Result:
    """Return the result of a whole job, as one process would give it; Ctrl-C ends it with what was done so far.

    Raises `InvalidInput` for a job without end and for what its targets are not, `CrewGone` where nobody is left.
    """
    rounds = job.rounds
    if rounds is None:
        raise InvalidInput("max_examples: a job that is run as a whole has an end")
    total, units = Total(job), iter([Unit(number=number) for number in range(rounds)])
    counted = 0

    def done(one: Done) -> None:
        nonlocal counted
        total.add(result_of(require_done(one)))
        counted += 1
        progress(counted, rounds)

    try:
        Campaign(job, crew, lambda: next(units, None), done, total.give_up).run()
    except KeyboardInterrupt:
        total.interrupted = True
    finally:
        crew.close()
    return total.whole()
