"""What a check is: a named property, a function from a subject to comparisons; and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradconform.conformance.compare import Comparison
from gradconform.conformance.situation import Subject


@dataclass(frozen=True)
class Check:
    """A property that is verified, under its stable id. A relation holds an implementation against itself."""

    id: str
    sentence: str
    run: Callable[[Subject], list[Comparison]]
    relation: bool


REGISTERED: dict[str, Check] = {}
"""Those of the modules that were imported so far; `gradconform.conformance.checks` has all of them, in their order."""


def register(identifier: str, *, relation: bool = False) -> Callable[[Callable[[Subject], list[Comparison]]], Any]:
    """Register a function as a check, its docstring as the sentence."""

    def add(function: Callable[[Subject], list[Comparison]]) -> Callable[[Subject], list[Comparison]]:
        sentence = (function.__doc__ or "").strip().splitlines()[0]
        REGISTERED[identifier] = Check(identifier, sentence, function, relation)
        return function

    return add
