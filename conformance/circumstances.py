"""What a failure depends on and what does not matter, from the cases of a run in which it was seen and not seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from gradconform.case import Case
from gradconform.conformance.regimes import REGIMES
from gradconform.layers import Dense, Layer
from gradconform.losses import Loss

LEAST = 5
"""So many cases must speak for a value of a facet, and so many against the others."""
STRUCTURE = 4
"""So many cases of one structure count as one, where a facet is one of the structure: they are alike in it."""
SURE = 2e-3
"""As rarely as this may it come by chance that all that fails shares what it does not depend on."""
MOST = 3
"""So many conditions are told."""
KEPT = 5000
"""So many cases of an implementation are kept."""

Facets = Mapping[str, str]


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
    return any(len(set(shape)) < len(shape) for shape in case.network.parameters().values())


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
    "square or oblong weights": _either("square weights", "no square weights", _square),
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
OF_A_CASE = {VALUES, "ignored labels", "the dtype"}
"""The facets in which cases of the same structure differ."""
LOSSES = {kind.__name__ for kind in get_args(Loss)}
ACTIVATIONS = {kind.__name__ for kind in get_args(Layer) if kind is not Dense}


def facets_of(case: Case, numbers: str) -> dict[str, str]:
    """Return the facets of a case; `numbers`: where its numbers came from."""
    facets = {name: facet(case) for name, facet in FACETS.items()}
    kinds = {type(layer).__name__ for layer in case.network.layers}
    facets |= {kind: f"a layer {kind}" if kind in kinds else f"no layer {kind}" for kind in ACTIVATIONS}
    regime = numbers.removeprefix("regime ")
    return {**facets, VALUES: f"regime {regime}"} if regime in REGIMES else facets


@dataclass
class Sightings:
    """The cases of a run that one implementation was asked, each with the failure that was seen, if any."""

    cases: list[tuple[Facets, tuple[str, ...] | None]] = field(default_factory=list)

    def count(self, facets: Facets, failure: tuple[str, ...] | None) -> None:
        """Add a case that could tell: what failed in it, or None where everything agreed."""
        if len(self.cases) < KEPT:
            self.cases.append((facets, failure))

    def of(self, failures: Sequence[tuple[str, ...]]) -> Circumstances:
        """Return the circumstances of what is seen as any of `failures`, as `key_of` names them.

        Cases with another failure tell nothing, and no more do those without the layer or the loss that it stands in.
        """
        told: list[str] = []
        places = {failure[-1].split()[-1] for failure in failures}
        claimed = set(ACTIVATIONS) if places & ACTIVATIONS else set()
        cases = [
            (facets, seen is not None)
            for facets, seen in self.cases
            if (seen is None or seen in failures) and any(_has(facets, place) for place in places)
        ]
        while len(told) < MOST and (strongest := _strongest(cases)) is not None:
            name, value, text = strongest
            told.append(text)
            claimed.add(name)
            # within these alone the next condition is looked for: one that follows from the first is none
            cases = [(facets, failed) for facets, failed in cases if facets.get(name) == value]
        return Circumstances(tuple(told), tuple(_does_not_matter(cases, claimed)))


def _has(facets: Facets, place: str) -> bool:
    """Return whether a case has the layer, the loss or the parameter in which a failure is."""
    if place in ACTIVATIONS:
        return facets[place] == f"a layer {place}"
    if place == "Dense.bias":
        return facets["the bias"] == "biases"
    return place not in LOSSES or facets["the loss"] == f"loss {place}"


Cases = Sequence[tuple[Facets, bool]]


def _table(cases: Cases, name: str) -> dict[str, tuple[int, int]]:
    """Return in how many cases of each value of a facet it failed, and in how many not."""
    counts = Counter((facets[name], failed) for facets, failed in cases if name in facets)
    values = sorted({value for value, _ in counts})
    return {value: (counts[value, True], counts[value, False]) for value in values}


def _strongest(cases: Cases) -> tuple[str, str, str] | None:
    """Return the facet that most surely is a condition, its value, and both in words."""
    found: list[tuple[float, int, str, str, str]] = []
    for order, name in enumerate(_names(cases)):
        table = _table(cases, name)
        failing = [value for value, (failed, _) in table.items() if failed]
        if len(failing) != 1:
            continue
        value = failing[0]
        failed, passed = table[value]
        others = sum(right for other, (_, right) in table.items() if other != value)
        alike = 1 if name in OF_A_CASE else STRUCTURE
        chance = _by_chance(failed / alike, passed / alike, others / alike)
        if failed >= max(LEAST, 2 * alike) and others >= LEAST and chance <= SURE:
            rest = [other for other in table if other != value]
            what = f"cases with {rest[0]}" if len(rest) == 1 else "others"
            found.append((chance, order, name, value, f"{value} (0 of {others} {what})"))
    return min(found)[2:] if found else None


def _by_chance(failed: float, passed: float, others: float) -> float:
    """Return how likely none of the `others` is among the `failed` if it does not matter which of all cases fail."""

    def chosen(of: float) -> float:
        return math.lgamma(of + 1) - math.lgamma(failed + 1) - math.lgamma(of - failed + 1)

    return math.exp(chosen(failed + passed) - chosen(failed + passed + others))


def _does_not_matter(cases: Cases, claimed: set[str]) -> list[str]:
    """Return the facets that make no difference: it fails about as often whatever they are."""
    told = [name for name in _names(cases) if name not in claimed | ACTIVATIONS and _indifferent(_table(cases, name))]
    kinds = [table for kind in sorted(ACTIVATIONS) if len(table := _frequent(_table(cases, kind))) > 1]
    if kinds and not claimed & ACTIVATIONS and all(map(_indifferent, kinds)):
        told.append("the activation")
    for whole, parts in PARTS.items():
        if whole in told:
            told = [name for name in told if name not in parts]
    return told


def _frequent(table: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {value: counts for value, counts in table.items() if sum(counts) >= LEAST}


def _indifferent(table: Mapping[str, tuple[int, int]]) -> bool:
    frequent = _frequent(table)
    shares = [failed / (failed + passed) for failed, passed in frequent.values()]
    return len(frequent) > 1 and min(shares) >= max(shares) / 2 > 0


def _names(cases: Cases) -> list[str]:
    return [*FACETS, *sorted(ACTIVATIONS), VALUES] if cases else []
