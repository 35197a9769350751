"""How JAX compiles what is shown: with barriers that stay, and without fusion where they do not."""

from __future__ import annotations

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
