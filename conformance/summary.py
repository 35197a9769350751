"""What the comparisons of one case come to: the counts that a run keeps of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gradconform.conformance.compare import Comparison, Look, Outcomes
from gradconform.conformance.sums import added
from gradconform.network import Network


class Arrays(tuple[tuple[Look, str, str], ...]):
    """What was compared, as look, check and path: one object for all cases of a stack, which is counted once."""

    @cached_property
    def checks(self) -> Counter[str]:
        """How many were compared by each check."""
        return Counter(check for _, check, _ in self)

    @cached_property
    def looks(self) -> Counter[Look]:
        """How many were compared in each look."""
        return Counter(look for look, _, _ in self)

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Summary:
    """The comparisons of one implementation on one case, by their numbers.

    `arrays`: what was compared, as look, check and path, with error / bound of each in `ratios`, and in `telling`
    whether some element of it could have told a wrong value from rounding. `told`: by check and subject, as
    `subject_of` names it, those that could.
    """

    arrays: Arrays = field(default_factory=Arrays)
    ratios: Sequence[float] = ()
    telling: Sequence[bool] = ()
    told: frozenset[tuple[str, str]] = frozenset()
    outcomes: Mapping[Look, Outcomes] = field(default_factory=dict)
    lost: int = 0

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            Arrays((*self.arrays, *other.arrays)),
            [*self.ratios, *other.ratios],
            [*self.telling, *other.telling],
            self.told | other.told,
            added(self.outcomes, other.outcomes),
            self.lost + other.lost,
        )

    @property
    def comparisons(self) -> int:
        """How many arrays were compared."""
        return len(self.arrays)

    @property
    def looks(self) -> Counter[Look]:
        """How many were compared in each look."""
        return self.arrays.looks

    @property
    def worst(self) -> tuple[float, str]:
        """The largest error / bound, and the first path that has it; 0 and nothing where nothing was compared."""
        if not self.ratios:
            return 0.0, ""
        ratio = max(self.ratios)
        return ratio, self.arrays[self.ratios.index(ratio)][2]


def summary_of(comparisons: Sequence[Comparison], network: Network) -> Summary:
    """Return the summary of comparisons."""
    outcomes: dict[Look, Outcomes] = {}
    for entry in comparisons:
        outcomes = added(outcomes, {entry.look: entry.outcomes})
    return Summary(
        Arrays((entry.look, entry.check, entry.path) for entry in comparisons),
        [entry.ratio for entry in comparisons],
        [entry.tells for entry in comparisons],
        frozenset((entry.check, subject_of(network, entry.check, entry.path)) for entry in comparisons if entry.tells),
        outcomes,
        sum(entry.lost for entry in comparisons),
    )


def subject_of(network: Network, check: str, path: str) -> str:
    """Return what was compared, without its place in the network: which parameter, or which layer's output or delta."""
    place, _, name = path.rpartition(".")
    if place.isdecimal() and int(place) < len(network.layers):
        return f"{type(network.layers[int(place)]).__name__}.{name}"
    if check in {"outputs", "deltas"}:
        index = int(path.rsplit(maxsplit=1)[-1]) + (check == "deltas")
        return f"{check} {type(network.layers[index]).__name__}"
    if check in {"loss", "output-delta"}:
        return f"{check} {type(network.loss).__name__}"
    return name
