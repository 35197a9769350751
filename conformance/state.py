"""What belongs to everybody in a process, and what a candidate may therefore not keep changed."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradconform.conformance.compilation_cache import BROKEN


@dataclass(frozen=True)
class Global:
    """One piece of global state: what it is called, how it is read and how it is put back."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    library: str = "numpy"
    """The library that has to be loaded for the state to exist."""
    quiet: bool = False
    """Whether a change is nothing to tell."""


def _put_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _torch() -> Any:
    return sys.modules["torch"]


def _of_jax(option: str) -> Global:
    return Global(
        f"jax.config.{option}",
        lambda: getattr(sys.modules["jax"].config, option),
        lambda value: sys.modules["jax"].config.update(option, value),
        "jax",
    )


GLOBALS = (
    Global("NumPy's error state", np.geterr, lambda value: np.seterr(**value)),
    Global("the working directory", os.getcwd, os.chdir),
    Global("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Global(
        "PyTorch's default dtype",
        lambda: _torch().get_default_dtype(),
        lambda value: _torch().set_default_dtype(value),
        "torch",
    ),
    Global(
        "PyTorch's gradient mode",
        lambda: _torch().is_grad_enabled(),
        lambda value: _torch().set_grad_enabled(value),
        "torch",
    ),
    Global(
        "PyTorch's number of threads",
        lambda: _torch().get_num_threads(),
        lambda value: _torch().set_num_threads(value),
        "torch",
    ),
    Global(
        "PyTorch's deterministic mode",
        lambda: _torch().are_deterministic_algorithms_enabled(),
        lambda value: _torch().use_deterministic_algorithms(value),
        "torch",
    ),
    _of_jax("jax_enable_x64"),
    _of_jax("jax_debug_nans"),
    _of_jax("jax_disable_jit"),
    _of_jax("jax_default_matmul_precision"),
)
"""What is put back after every call."""

FOR_A_RUN = (
    Global("the environment", lambda: dict(os.environ), _put_environment),
    Global("the state of random", random.getstate, random.setstate, quiet=True),
    Global("the state of numpy.random", np.random.get_state, np.random.set_state, quiet=True),
)
"""What is put back after a run: it costs more to look at, and within a run a candidate may draw random numbers."""


@contextmanager
def kept(changed: Callable[[str], object], state: Sequence[Global] = GLOBALS) -> Iterator[None]:
    """Put global state back after the block; `changed` is called with the name of each piece that had been changed."""
    before = [(entry, entry.get()) for entry in state if _exists(entry)]
    try:
        yield
    finally:
        for entry, value in before:
            if entry.quiet:
                entry.put(value)
            elif _now(entry) != value:
                entry.put(value)
                changed(entry.name)


@contextmanager
def warnings_kept(heard: Callable[[str], object], changed: Callable[[str], object]) -> Iterator[None]:
    """Collect the warnings of the block, one line each, instead of printing them; put the filters back after it."""
    with warnings.catch_warnings(record=True) as recorded:
        # whatever the process says to do with warnings, such as to raise them: they are collected
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        for category in (RuntimeWarning, UserWarning):
            warnings.simplefilter("always", category)
        # not the candidate's doing, and of no consequence
        warnings.filterwarnings("ignore", message=BROKEN)
        filters, modules = list(warnings.filters), len(sys.modules)
        try:
            yield
        finally:
            # a library that is imported may add filters of its own
            if list(warnings.filters) != filters and len(sys.modules) == modules:
                changed("the warning filters")
            for warning in recorded or ():
                place = f"{Path(warning.filename).name}:{warning.lineno}"
                heard(f"{place}: {warning.category.__name__}: {warning.message}")


def _exists(entry: Global) -> bool:
    module = sys.modules.get(entry.library)
    # a library that is being imported, or one that only shares the name, has nothing to keep
    return module is not None and hasattr(module, "__version__")


def _now(entry: Global) -> Any:
    try:
        return entry.get()
    except OSError:  # the working directory was removed
        return None
