"""Programs that JAX compiles for the JAX adapter: with which options, when, and in which thread."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import jax

Given = TypeVar("Given")
Found = TypeVar("Found")
Options = dict[str, str | bool]

BARRIERS: Options = {
    "xla_backend_optimization_level": "0",
    "xla_disable_hlo_passes": "cse_barrier_expander",
    "xla_cpu_use_fusion_emitters": False,
}
"""For a program of which values are shown that each went through `shown`.

XLA may compute an output twice, for the caller and, rounded otherwise, inside the kernel that uses it. It never does so
across a barrier, and the pass that takes barriers away, before fusion is at its end, is the one that is disabled. The
other two make it compile in a quarter of the time: there is nothing to optimise in one run of a small network.
"""

UNFUSED: Options = {"xla_backend_optimization_level": "0", "xla_disable_hlo_passes": "fusion"}
"""The same without barriers, where `BARRIERS` are of no use: nothing is fused at all, which takes longer to compile."""

THREADS = 2
"""So many programs are compiled ahead at once. XLA lets other threads of Python run meanwhile."""

FORGET = 1000
"""After so many programs JAX forgets what it has traced: 40 kB of each, and it would keep thousands."""

BARRIER = "opt-barrier("
"""How a barrier is written in the text of a compiled program."""


def shown(value: jax.Array) -> jax.Array:
    """Return `value` behind a barrier, and put one before its delta: what is shown is what is gone on with."""
    barrier: Callable[[jax.Array], jax.Array] = jax.lax.optimization_barrier
    return barrier(value)


def compiled_as_shown(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Return a lowered program compiled so that XLA computes once what went through `shown`."""
    # other backends have other passes, and options of their own
    if jax.default_backend() == "cpu":
        # another release may not know an option, and says nothing of a pass that it does not know
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            compiled = lowered.compile(compiler_options=BARRIERS)
            if BARRIER in (compiled.as_text() or ""):
                return compiled
    return lowered.compile(compiler_options=UNFUSED)


class Ahead:
    """Threads that compile what will be needed, while those who need it do other things. They start with the first."""

    def __init__(self, threads: int) -> None:
        self._wanted = threads
        self._threads: list[threading.Thread] = []
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def submit(self, job: Callable[[], object]) -> None:
        """Do a job when a thread is free. What it raises is lost."""
        if not self._threads:
            # daemons are not waited for while there are jobs left; but one within XLA must not outlive Python
            atexit.register(self.end)
            self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._wanted)]
            for thread in self._threads:
                thread.start()
        self._jobs.put(job)

    def end(self) -> None:
        """Forget the jobs that nobody has begun, and wait for the others: the time of one program."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with contextlib.suppress(Exception):
                job()


AHEAD = Ahead(THREADS)
_count = itertools.count(1)


class Program(Generic[Given, Found]):
    """A function that is compiled when it is first called, or ahead of that.

    `function`: what JAX traces; `like`: arguments of the shapes and dtypes that it is compiled for; `double`: whether
    JAX has 64-bit types meanwhile; `probed`: whether it shows values that went through `shown`.
    """

    def __init__(self, function: Callable[[Given], Found], like: Given, *, double: bool, probed: bool) -> None:
        self._function, self._like, self._double, self._probed = function, like, double, probed
        self._lock = threading.Lock()
        self._compiled: jax.stages.Compiled | None = None

    def __call__(self, operands: Given) -> Found:
        """Return what the function returns, which JAX may still be computing. Raises what tracing it raises."""
        found: Found = (self._compiled or self.compiled())(operands)
        return found

    def ahead(self) -> None:
        """Compile it in the background. What that raises, the call will raise, which compiles it again."""
        if self._compiled is None:
            AHEAD.submit(self.compiled)

    def compiled(self) -> jax.stages.Compiled:
        """Return the executable, which is compiled once, in whatever thread comes first."""
        with self._lock:
            if self._compiled is None:
                # a context and not the global switch: it is the thread's own
                with jax.enable_x64(self._double):
                    lowered = jax.jit(self._function).lower(self._like)
                    self._compiled = compiled_as_shown(lowered) if self._probed else lowered.compile()
                if next(_count) % FORGET == 0:
                    forget: Callable[[], None] = jax.clear_caches
                    forget()
            return self._compiled
