"""What a worker of a campaign does: one round of a job, by itself, with the same result in whatever process it runs."""

from __future__ import annotations

import functools
import os
import platform
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import msgspec
from hypothesis.errors import HypothesisDeprecationWarning

from gradconform.capabilities import Capabilities, combined
from gradconform.conformance.adapter_names import names_adapter
from gradconform.conformance.casefolder import Keeper
from gradconform.conformance.engine import run
from gradconform.conformance.focus import EVERYTHING_DRAWN, Focus
from gradconform.conformance.implementations import REFERENCE, Implementation
from gradconform.conformance.job import Job
from gradconform.conformance.plan import SHRINK_SECONDS, Plan, networks_before, networks_in
from gradconform.conformance.results import Result
from gradconform.conformance.signals import Listener, Signals
from gradconform.errors import GradconformError

NARROW = ("bfloat16", "float16")
ALONE = threading.Lock()
"""One round at a time in a process: what a candidate may not keep changed belongs to all threads."""


class Unit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A unit of work: a round of a job by its number, and all that decides what becomes of it.

    `networks`: how many, 0 for as many as the round has; `focus`: what is drawn; `known`: the keys of bugs that were
    told before, by implementation; `settle`: whether bugs are made small and named at all.
    """

    number: int
    networks: int = 0
    focus: Focus = EVERYTHING_DRAWN
    known: dict[str, list[str]] = {}
    settle: bool = True

    def plan(self, job: Job, implementations: Sequence[Implementation]) -> Plan:
        """Return the plan of the round."""
        plan = job.plan(implementations, [self.number])
        if self.networks:
            plan.max_examples = networks_before(self.number) + min(self.networks, networks_in(self.number))
        if self.focus.dtypes:
            plan.dtypes = self.focus.dtypes
        plan.focus, plan.known = self.focus, self.known
        plan.shrink_seconds, plan.diagnose = (SHRINK_SECONDS, True) if self.settle else (0.0, False)
        return plan


class Done(msgspec.Struct, kw_only=True):
    """What became of a unit. `files`: the case files of its findings, by id; `memory`: bytes that the worker has.

    `error`: in one line why it could not be run, for what the user named; `trace`: where the harness itself failed.
    """

    unit: Unit
    result: bytes = b""
    signals: Signals = msgspec.field(default_factory=Signals)
    files: dict[str, bytes] = {}
    seconds: float = 0.0
    worker: str = ""
    memory: int = 0
    error: str = ""
    trace: str = ""


class Described(msgspec.Struct, kw_only=True):
    """Who is checked, as a worker finds them: names, what all of them take, and the dtypes in which each is checked.

    `narrow`: the 16-bit types that frameworks support beside; none where somebody else is checked, who has to declare
    them.
    """

    names: list[str] = []
    dtypes: dict[str, list[str]] = {}
    narrow: list[str] = []
    shared: Capabilities = Capabilities()
    error: str = ""


def describe(job: Job) -> Described:
    """Return who is checked in a job."""
    try:
        chosen = _implementations(job)
    except GradconformError as error:
        return Described(error=str(error))
    frameworks = [entry for entry in chosen if entry.name != REFERENCE]
    supported = {dtype for entry in frameworks for dtype in entry.supported}
    ours = all(names_adapter(entry.name) for entry in frameworks)
    return Described(
        names=[entry.name for entry in chosen],
        dtypes={entry.name: list(entry.asked(job.dtypes or None)) for entry in chosen},
        narrow=[dtype for dtype in NARROW if ours and dtype in supported],
        shared=combined([entry.capabilities for entry in chosen]),
    )


def work(job: Job, unit: Unit) -> Done:
    """Return what becomes of a unit. Whatever is raised inside is in it: what this raises, the worker did."""
    with ALONE, warnings.catch_warnings():
        # other threads of a worker draw random numbers while Hypothesis does
        warnings.filterwarnings("ignore", "Do not use the `random` module", HypothesisDeprecationWarning)
        started = time.monotonic()
        done = Done(unit=unit)
        try:
            _run(job, unit, done)
        except GradconformError as error:
            done.error = str(error)
        except Exception:
            done.trace = traceback.format_exc()
        done.seconds = round(time.monotonic() - started, 3)
        done.worker = f"{platform.node()}:{os.getpid()}"
        done.memory = memory()
        return done


def _run(job: Job, unit: Unit, done: Done) -> None:
    # what a guard or a look has learnt of a candidate belongs to one round
    fresh = [entry.fresh() for entry in _implementations(job)]
    plan, listener = unit.plan(job, fresh), Listener()
    plan.judged = listener.judged
    with tempfile.TemporaryDirectory(prefix="gradconform-") as folder:
        keeper = Keeper(folder, plan, job.program)
        plan.keep = keeper.keep
        result = run(plan)
        keeper.complete(result.findings)
        done.files = {path.stem: path.read_bytes() for path in sorted(Path(folder).glob("*.json"))}
    for finding in result.findings:
        finding.file = finding.replay = ""
    result.part = job.part([unit.number])
    done.result, done.signals = result.to_json(indent=-1), listener.signals


@functools.lru_cache(maxsize=1)
def _implementations(job: Job) -> tuple[Implementation, ...]:
    """Return who is checked: resolved once in a process."""
    return tuple(job.implementations())


def memory() -> int:
    """Return the bytes of memory that this process has, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def result_of(done: Done) -> Result:
    """Return the result of a unit."""
    return Result.from_json(done.result)
