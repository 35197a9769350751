"""Sums by name: counts, and records of counts, of two parts of a run added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

Key = TypeVar("Key")


class Adds(Protocol):
    """What adds up with its own kind: a count, or a record of counts."""

    def __add__(self: Amount, other: Amount, /) -> Amount:
        """Return the sum."""
        ...


Amount = TypeVar("Amount", bound=Adds)


def added(one: Mapping[Key, Amount], other: Mapping[Key, Amount]) -> dict[Key, Amount]:
    """Return what either has by each name, added up where both have it; the names of the first come first."""
    sums = dict(one)
    for key, amount in other.items():
        sums[key] = sums[key] + amount if key in sums else amount
    return sums
