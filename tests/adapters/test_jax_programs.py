"""How JAX compiles: what is shown, with barriers that stay, or without fusion where they do not; and what is ahead."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

pytestmark = pytest.mark.jax


@pytest.fixture
def programs():
    from gradconform.adapters import jax_programs

    return jax_programs


@pytest.fixture
def jax():
    import jax

    return jax


class Lowered:
    """A lowered program of which it is known how it was compiled."""

    def __init__(self, lowered, refused=(), lost=False):
        self._lowered, self._refused, self._lost = lowered, refused, lost
        self.options = []

    def compile(self, compiler_options):
        self.options.append(compiler_options)
        unknown = {f"xla_of_another_release_{name}": "1" for name in self._refused if name in compiler_options}
        compiled = self._lowered.compile(compiler_options={**compiler_options, **unknown})
        return Lost(compiled) if self._lost else compiled


class Lost:
    """An executable that has no barriers any more."""

    def __init__(self, compiled):
        self._compiled = compiled

    def __call__(self, *arguments):
        return self._compiled(*arguments)

    def as_text(self):
        return self._compiled.as_text().replace("opt-barrier", "copy")


def lowered(jax, programs):
    return jax.jit(lambda x: programs.shown(2 * x) + 1).lower(np.ones(3, np.float32))


def test_barriers_stay_to_the_end(jax, programs):
    given = Lowered(lowered(jax, programs))
    compiled = programs.compiled_as_shown(given)
    assert given.options == [programs.BARRIERS]
    assert compiled.as_text().count(programs.BARRIER) == 1
    np.testing.assert_array_equal(compiled(np.ones(3, np.float32)), 3)


def test_an_option_that_is_unknown_leads_to_a_program_without_fusion(jax, programs):
    given = Lowered(lowered(jax, programs), refused=["xla_cpu_use_fusion_emitters"])
    compiled = programs.compiled_as_shown(given)
    assert given.options == [programs.BARRIERS, programs.UNFUSED]
    np.testing.assert_array_equal(compiled(np.ones(3, np.float32)), 3)


def test_so_does_a_pass_of_another_name(jax, programs):
    given = Lowered(lowered(jax, programs), lost=True)
    compiled = programs.compiled_as_shown(given)
    assert given.options == [programs.BARRIERS, programs.UNFUSED]
    np.testing.assert_array_equal(compiled(np.ones(3, np.float32)), 3)


def test_so_does_another_backend(jax, programs, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    given = Lowered(lowered(jax, programs))
    programs.compiled_as_shown(given)
    assert given.options == [programs.UNFUSED]


def program(programs, function):
    return programs.Program(function, np.ones(3), double=True, probed=False)


def test_a_program_is_traced_once_whoever_asks_for_it(jax, programs):
    traced = []

    def double(x):
        traced.append(threading.current_thread())
        return 2 * x

    ours = program(programs, double)
    ours.ahead()
    with jax.enable_x64(True):
        for _ in range(2):
            np.testing.assert_array_equal(ours(np.ones(3)), [2, 2, 2])
    ours.ahead()
    assert len(traced) == 1


def test_one_that_is_being_compiled_is_waited_for(jax, programs):
    begun, waited_for = threading.Event(), threading.Event()

    def slow(x):
        begun.set()
        assert waited_for.wait(60)
        return x

    ours = program(programs, slow)
    ours.ahead()
    assert begun.wait(60)
    assert not ours._lock.acquire(blocking=False)
    waited_for.set()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(ours(np.ones(3)), np.ones(3))


def test_the_precision_of_other_threads_is_their_own(jax, programs):
    seen, begun, go_on = [], threading.Event(), threading.Event()

    def look(x):
        begun.set()
        assert go_on.wait(60)
        seen.append(jax.numpy.zeros(2).dtype)
        return x

    ours = program(programs, look)
    with jax.enable_x64(False):
        ours.ahead()
        assert begun.wait(60)
        assert jax.numpy.zeros(2).dtype == np.float32
        go_on.set()
        assert ours.compiled() is not None
        assert jax.numpy.zeros(2).dtype == np.float32
    assert seen == [np.float64]


def test_what_jax_has_traced_is_forgotten_now_and_then(jax, programs, monkeypatch):
    forgotten = []
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append(None))
    monkeypatch.setattr(programs, "FORGET", 2)
    monkeypatch.setattr(programs, "_count", itertools.count(1))
    seen = []
    for _ in range(5):
        program(programs, lambda x: x).compiled()
        seen.append(len(forgotten))
    assert seen == [0, 1, 1, 2, 2]


def test_what_fails_ahead_fails_at_the_call(jax, programs):
    asked = []

    def broken(_):
        asked.append(None)
        raise NotImplementedError("no rule")

    ours = program(programs, broken)
    programs.AHEAD.submit({}.popitem)
    ours.ahead()
    for _ in range(2):
        with pytest.raises(NotImplementedError, match="no rule"):
            ours(np.ones(3))
    assert len(asked) in {2, 3}


ENDING = """
import atexit, os, signal, threading
import numpy as np
from gradconform.adapters import jax_programs

traced, begun = [], threading.Event()

def function(x):
    traced.append(None)
    begun.set()
    return x

@atexit.register
def tell():  # before the threads start, hence after they are ended
    print(len(traced) < 50, [t.name for t in threading.enumerate()])

for _ in range(50):
    jax_programs.Program(lambda x: function(x), np.ones(3), double=True, probed=True).ahead()
begun.wait()
END
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("os.kill(os.getpid(), signal.SIGINT); threading.Event().wait()", "INT")],
)
def test_the_process_ends_without_the_programs_that_are_left(end, code):
    done = subprocess.run(
        [sys.executable, "-c", ENDING.replace("END", end)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == (-signal.SIGINT if code == "INT" else code)
    assert done.stdout == "True ['MainThread']\n"
    assert ("KeyboardInterrupt" in done.stderr) if code == "INT" else done.stderr == ""
