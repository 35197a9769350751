"""Which rounds of which run a result is of: what it takes to put the results of a run's parts together."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import msgspec

import gradconform


class Part(msgspec.Struct, kw_only=True):
    """A part of a run.

    `run`: all that decides what the run counts, its options, its seed and the versions of what draws and judges;
    `rounds`: the numbers of those that this part is of, `of`: how many the whole run has, None where it has no end;
    `shard`: which part it is, such as 2/4, where it was made as one.
    """

    run: dict[str, Any]
    rounds: list[int]
    of: int | None = None
    shard: str = ""


def drawn_by() -> dict[str, str]:
    """Return the releases that decide what a seed draws."""
    return {
        "gradconform": gradconform.__version__,
        **{name: importlib.metadata.version(name) for name in ("hypothesis", "numpy")},
    }


def differing(one: Part, other: Part, first: str = "in one", second: str = "in the other") -> str | None:
    """Return what the runs of two parts differ in, both values told; None where they are parts of one run."""
    for name in dict.fromkeys([*one.run, *other.run]):
        mine, its = one.run.get(name), other.run.get(name)
        if mine != its:
            return f"{name} is {_word(mine)} {first} and {_word(its)} {second}"
    return None if one.of == other.of else f"{one.of} rounds {first} and {other.of} {second}"


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "not given"
    return "not given" if value is None or value == "" else str(value)
