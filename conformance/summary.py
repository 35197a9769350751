"""What the comparisons of one case come to: the counts that a run keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gradconform.conformance.compare import Comparison, Look, Outcomes
from gradconform.network import Network

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Summary:
    """The comparisons of one implementation on one case, by their numbers.

    `checks`, `looks`: how many there were in each. `told`: by check and subject, as `subject_of` names it, those of
    which some element could have told a wrong value from rounding. `arrays`: what was compared, as look, check and
    path, with error / bound of each in `ratios`, and in `telling` whether it could have told.
    """

    checks: Mapping[str, int] = field(default_factory=dict)
    looks: Mapping[Look, int] = field(default_factory=dict)
    outcomes: Mapping[Look, Outcomes] = field(default_factory=dict)
    lost: int = 0
    worst_ratio: float = 0.0
    worst_at: str = ""
    told: frozenset[tuple[str, str]] = frozenset()
    arrays: Sequence[tuple[Look, str, str]] = ()
    ratios: Sequence[float] = ()
    telling: Sequence[bool] = ()

    def __add__(self, other: Summary) -> Summary:
        worse = other if other.worst_ratio > self.worst_ratio else self
        return Summary(
            _added(self.checks, other.checks, 0),
            _added(self.looks, other.looks, 0),
            _added(self.outcomes, other.outcomes, Outcomes()),
            self.lost + other.lost,
            worse.worst_ratio,
            worse.worst_at,
            self.told | other.told,
            [*self.arrays, *other.arrays],
            [*self.ratios, *other.ratios],
            [*self.telling, *other.telling],
        )

    @property
    def comparisons(self) -> int:
        """How many arrays were compared."""
        return sum(self.checks.values())


def summary_of(comparisons: Sequence[Comparison], network: Network) -> Summary:
    """Return the summary of comparisons."""
    checks: dict[str, int] = {}
    looks: dict[Look, int] = {}
    outcomes: dict[Look, Outcomes] = {}
    for entry in comparisons:
        checks[entry.check] = checks.get(entry.check, 0) + 1
        looks[entry.look] = looks.get(entry.look, 0) + 1
        outcomes[entry.look] = outcomes.get(entry.look, Outcomes()) + entry.outcomes
    worst = max(comparisons, key=lambda entry: entry.ratio, default=None)
    return Summary(
        checks,
        looks,
        outcomes,
        lost=sum(entry.lost for entry in comparisons),
        worst_ratio=worst.ratio if worst is not None else 0.0,
        worst_at=worst.path if worst is not None else "",
        told=frozenset((entry.check, subject_of(network, entry)) for entry in comparisons if entry.tells),
        arrays=[(entry.look, entry.check, entry.path) for entry in comparisons],
        ratios=[entry.ratio for entry in comparisons],
        telling=[entry.tells for entry in comparisons],
    )


def _added(one: Mapping[K, V], other: Mapping[K, V], nothing: V) -> dict[K, V]:
    found = dict(one)
    for key, value in other.items():
        found[key] = found.get(key, nothing) + value  # type: ignore[operator] # numbers, and records of them
    return found


def subject_of(network: Network, comparison: Comparison) -> str:
    """Return what was compared, without its place in the network: which parameter, or which layer's output or delta."""
    place, _, name = comparison.path.rpartition(".")
    if place.isdecimal() and int(place) < len(network.layers):
        return f"{type(network.layers[int(place)]).__name__}.{name}"
    if comparison.check in {"outputs", "deltas"}:
        index = int(comparison.path.split()[-1]) + (comparison.check == "deltas")
        return f"{comparison.check} {type(network.layers[index]).__name__}"
    if comparison.check in {"loss", "output-delta"}:
        return f"{comparison.check} {type(network.loss).__name__}"
    return name
