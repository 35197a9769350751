"""What a failure depends on and what does not matter, from the cases of a run in which it was seen and not seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from gradconform.case import Case
from gradconform.conformance.regimes import REGIMES
from gradconform.layers import Dense, Layer

LEAST = 5
"""So many cases must speak for a value of a facet, and so many against the others."""
SURE = 2e-3
"""As rarely as this may it come by chance that all that fails shares what it does not depend on."""
MOST = 3
"""So many conditions are told."""
KEPT = 5000
"""So many cases of an implementation are kept."""

Facets = Mapping[str, str]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Circumstances:
    """`only_where`: conditions outside of which a failure was never seen; `does_not_matter`: what is none."""

    only_where: tuple[str, ...] = ()
    does_not_matter: tuple[str, ...] = ()


NOTHING_KNOWN = Circumstances()


def _dense(case: Case) -> list[Dense]:
    return [layer for layer in case.network.layers if isinstance(layer, Dense)]


def _labels(case: Case) -> str:
    if case.network.loss.labels != "classes":
        return "targets that are no classes"
    return "integer labels" if case.batch.labelled else "labels as probabilities"


def _ignored(case: Case) -> bool:
    index = getattr(case.network.loss, "ignore_index", None)
    return index is not None and case.batch.labelled and bool((case.batch.targets == index).any())


def _square(case: Case) -> bool:
    shapes = case.network.parameters().values()
    return any(len(shape) == 2 and shape[0] == shape[1] > 1 for shape in shapes)


def _either(name: str, otherwise: str, meets: Callable[[Case], bool]) -> Callable[[Case], str]:
    return lambda case: name if meets(case) else otherwise


FACETS: dict[str, Callable[[Case], str]] = {
    "the batch size": _either("batch > 1", "batch 1", lambda case: case.batch.rows > 1),
    "the loss": lambda case: f"loss {type(case.network.loss).__name__}",
    "the reduction": lambda case: f"reduction {case.network.loss.reduction}",
    "the kind of targets": _labels,
    "class weights": _either("class weights", "no class weights", lambda case: case.batch.class_weights is not None),
    "ignored labels": _either("ignored labels", "no ignored labels", _ignored),
    "label smoothing": _either(
        "label smoothing", "no label smoothing", lambda case: getattr(case.network.loss, "label_smoothing", 0) > 0
    ),
    "the depth": _either("several Dense layers", "one Dense layer", lambda case: len(_dense(case)) > 1),
    "the bias": _either("biases", "no biases", lambda case: any(layer.bias for layer in _dense(case))),
    "whether weights are square": _either("square weights", "no square weights", _square),
    "the number of outputs": _either("one output", "several outputs", lambda case: case.network.widths[-1] == 1),
    "the memory order": _either(
        "arrays in C order",
        "arrays in another order",
        lambda case: all(array.flags.c_contiguous for array in (case.batch.inputs, *case.parameters.values())),
    ),
    "the dtype": lambda case: str(case.dtype),
}
VALUES = "the values"
"""The facet of the regime."""
PARTS = {"the loss": ("the kind of targets", "class weights", "ignored labels", "label smoothing")}
"""Where the first does not matter, neither do the others, and are not told."""
OF_A_CASE = {VALUES, "the dtype"}
"""The facets in which cases of the same structure differ: in all others, they count as one."""
ACTIVATIONS = {kind.__name__ for kind in get_args(Layer) if kind is not Dense}
NAMES = (*FACETS, *sorted(ACTIVATIONS), VALUES)


def facets_of(case: Case, numbers: str) -> dict[str, str]:
    """Return the facets of a case; `numbers`: where its numbers came from."""
    facets = {name: facet(case) for name, facet in FACETS.items()}
    kinds = {type(layer).__name__ for layer in case.network.layers}
    facets |= {kind: f"a layer {kind}" if kind in kinds else f"no layer {kind}" for kind in ACTIVATIONS}
    regime = numbers.removeprefix("regime ")
    return {**facets, VALUES: f"regime {regime}"} if regime in REGIMES else facets


def _likeness(case: Case) -> Hashable:
    """Return all of a case on which its facets depend, beside where its numbers came from."""
    batch = case.batch
    orders = tuple(array.flags.c_contiguous for array in (batch.inputs, *case.parameters.values()))
    return case.network, batch.rows, batch.labelled, batch.class_weights is None, _ignored(case), orders, case.dtype


@dataclass(frozen=True)
class Sighting:
    """A case: what failed in it, as `key_of` names it, or, where everything agreed, what could tell.

    `told`: by check and subject, as `subject_of` names it.
    """

    facets: Facets
    structure: Hashable
    failure: Key | None = None
    told: frozenset[tuple[str, str]] = frozenset()

    def concerns(self, failures: Sequence[Key]) -> bool:
        """Return whether one of the failures was seen in the case, or could have been seen and was not."""
        if self.failure is not None:
            return self.failure in failures
        return any(self._looked_for(key) for key in failures)

    def _looked_for(self, failure: Key) -> bool:
        _, check, *rest = failure
        if check == "call" or not rest:
            return bool(self.told) and (check == "call" or any(own == check for own, _ in self.told))
        return (check, rest[-1]) in self.told


@dataclass
class Sightings:
    """The cases of a run that one implementation was asked."""

    cases: list[Sighting] = field(default_factory=list)
    _facets: dict[Hashable, Facets] = field(default_factory=dict)
    """The facets of cases that are alike."""

    def failed(self, case: Case, numbers: str, failure: Key) -> None:
        """Add a case, whose numbers came from `numbers`, in which something failed."""
        self._add(case, numbers, failure=failure)

    def passed(self, case: Case, numbers: str, told: frozenset[tuple[str, str]]) -> None:
        """Add a case in which everything agreed, and of that `told` could have told something else."""
        self._add(case, numbers, told=told)

    def _add(self, case: Case, numbers: str, **what: Any) -> None:
        if len(self.cases) < KEPT:
            key = _likeness(case), numbers
            if key not in self._facets:
                self._facets[key] = facets_of(case, numbers)
            self.cases.append(Sighting(self._facets[key], (case.network, case.batch.rows), **what))

    def of(self, failures: Sequence[Key]) -> Circumstances:
        """Return the circumstances of what is seen as any of `failures`.

        Cases with another failure tell nothing, and no more do those in which it could not have been seen.
        """
        told: list[str] = []
        places = {failure[-1].split()[-1] for failure in failures}
        claimed = set(ACTIVATIONS) if places & ACTIVATIONS else set()
        cases = [case for case in self.cases if case.concerns(failures)]
        while len(told) < MOST and (strongest := _strongest(cases)) is not None:
            name, value, text = strongest
            told.append(text)
            claimed.add(name)
            # within these alone the next condition is looked for: one that follows from the first is none
            cases = [case for case in cases if case.facets.get(name) == value]
        return Circumstances(tuple(told), tuple(_does_not_matter(cases, claimed)))


Table = Mapping[str, tuple[int, int]]
"""In how many cases it failed, and in how many not, for each value of a facet."""


def _table(cases: Sequence[Sighting], name: str) -> Table:
    counts = Counter((case.facets[name], case.failure is not None) for case in cases if name in case.facets)
    values = sorted({value for value, _ in counts})
    return {value: (counts[value, True], counts[value, False]) for value in values}


def _independent(cases: Sequence[Sighting], name: str) -> Sequence[Sighting]:
    """Return one case of each structure, one that failed where there is one, as the others are alike in a facet."""
    if name in OF_A_CASE:
        return cases
    chosen: dict[Hashable, Sighting] = {}
    for case in cases:
        own = case.structure, case.facets.get(name)
        if own not in chosen or (chosen[own].failure is None and case.failure is not None):
            chosen[own] = case
    return list(chosen.values())


def _strongest(cases: Sequence[Sighting]) -> tuple[str, str, str] | None:
    """Return the facet that most surely is a condition, its value, and both in words."""
    found: list[tuple[float, int, str, str, str]] = []
    for order, name in enumerate(NAMES):
        table = _table(cases, name)
        failing = [value for value, (failed, _) in table.items() if failed]
        if len(failing) != 1 or len(table) == 1:
            continue
        value = failing[0]
        rest = [other for other in table if other != value]
        others = sum(table[other][1] for other in rest)
        structures = _table(_independent(cases, name), name)
        chance = _by_chance(*structures[value], sum(structures[other][1] for other in rest))
        if min(table[value][0], others) >= LEAST and structures[value][0] > 1 and chance <= SURE:
            what = f"cases with {rest[0]}" if len(rest) == 1 else "others"
            found.append((chance, order, name, value, f"{value} (0 of {others} {what})"))
    return min(found)[2:] if found else None


def _by_chance(failed: int, passed: int, others: int) -> float:
    """Return how likely none of the `others` is among the `failed` if it does not matter which of all cases fail."""

    return math.comb(failed + passed, failed) / math.comb(failed + passed + others, failed)


def _does_not_matter(cases: Sequence[Sighting], claimed: set[str]) -> list[str]:
    """Return the facets that make no difference: it fails about as often whatever they are."""
    told = [name for name in NAMES if name not in claimed | ACTIVATIONS and _indifferent(_table(cases, name))]
    kinds = [table for kind in sorted(ACTIVATIONS) if len(table := _frequent(_table(cases, kind))) > 1]
    if kinds and not claimed & ACTIVATIONS and all(map(_indifferent, kinds)):
        told.append("the activation")
    for whole, parts in PARTS.items():
        if whole in told:
            told = [name for name in told if name not in parts]
    return told


def _frequent(table: Table) -> Table:
    return {value: counts for value, counts in table.items() if sum(counts) >= LEAST}


def _indifferent(table: Table) -> bool:
    frequent = _frequent(table)
    shares = [failed / (failed + passed) for failed, passed in frequent.values()]
    return len(frequent) > 1 and min(shares) >= max(shares) / 2 > 0
