"""Drawing the same for the same seed, whatever else is loaded in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis.internal.conjecture import providers


@contextmanager
def without_constants_of_modules() -> Iterator[None]:
    """Keep Hypothesis from drawing the constants that stand in the loaded modules, as it does now and then.

    Which modules are loaded, and which of them are somebody's own, differs between a worker and a run in one piece, and
    between an installed gradconform and one that is worked on. A release of Hypothesis without such constants draws as
    it does.
    """
    collect = getattr(providers, "_get_local_constants", None)
    if collect is None:
        yield
        return
    if len(providers._local_constants):
        providers.CONSTANTS_CACHE.cache.clear()
    none = type(providers._local_constants)()
    providers._get_local_constants = lambda: none
    try:
        yield
    finally:
        providers._get_local_constants = collect
        if len(providers._local_constants):
            providers.CONSTANTS_CACHE.cache.clear()
