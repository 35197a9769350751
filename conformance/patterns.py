"""Patterns of an error, whatever its cause: which elements are wrong, by how much, and which relations break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradconform.case import Array
from gradconform.conformance.compare import Comparison
from gradconform.conformance.fresh import Evidence
from gradconform.conformance.looks import TITLES
from gradconform.conformance.mistakes_scale import CONSTANTS

CLEAR = 1e4
"""An error of so many bounds is no rounding."""
FEW = 4
"""So many cases make a pattern."""
Named = tuple[str, str, str, str]


def located(evidence: Sequence[Evidence]) -> Named | None:
    """Return the name of an error that is always at one place, or that is everywhere and no number."""
    failing = [entry for entry in evidence if entry.fails]
    if len(failing) < FEW or len(failing) < len(evidence):
        # what shows now and then alone has a cause in the numbers
        return None
    cases = f"in {len(failing)} cases that fail"
    if all(not np.isfinite(entry.given[entry.wrong]).any() for entry in failing) and _ordinary(failing):
        return (
            "never-finite",
            "what is wrong is NaN or infinite whatever the numbers: an array that is never filled, or a division by 0",
            "np.zeros(...), not np.empty(...); look for 0/0 and inf - inf in the first array that is wrong",
            cases,
        )
    single = all(
        np.count_nonzero(entry.wrong) == 1 and np.isfinite(entry.given[entry.wrong]).all() for entry in failing
    )
    if single and max(entry.given.size for entry in failing) > FEW:
        return (
            "one-element",
            f"one element alone is wrong each time, {_which(failing)}: everything around it is right",
            "look for an index: an element that is written once more, or an off-by-one at an edge",
            cases,
        )
    return None


def _ordinary(failing: Sequence[Evidence]) -> bool:
    """Return whether all that is wrong is so in cases of ordinary size, in every element of an array."""
    return all(any(part.all() for _, part in entry.by_name(entry.wrong)) for entry in failing)


def _which(failing: Sequence[Evidence]) -> str:
    """Return which element of its array it is, where it is always the same."""
    places = set()
    for entry in failing:
        for (_, part), (_, right) in zip(entry.by_name(entry.wrong), entry.by_name(entry.right), strict=True):
            if part.any():
                at = int(np.argmax(part))
                places.add("the largest of its array" if at == int(np.argmax(np.abs(right))) else f"number {at}")
    return places.pop() if len(places) == 1 else "not always the same"


def known(evidence: Sequence[Evidence], root: Comparison, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Return what is known of the pattern of an error that has no name."""
    return (*_factors(evidence), *_places(evidence, root), *_sizes(evidence), *_relations(comparisons))


def _factors(evidence: Sequence[Evidence]) -> Iterator[str]:
    """Yield the arrays that are off by a constant with a name, the same in all cases."""
    failing = [entry for entry in evidence if entry.fails]
    said: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for entry in failing for name in entry.names):
        parts = [
            (entry, given, right, wrong, bound)
            for entry in failing
            for (own, given), (_, right), (_, wrong), (_, bound) in zip(
                *map(entry.by_name, (entry.given, entry.right, entry.wrong, entry.bound)), strict=True
            )
            if own == name
        ]
        # what is off by rounding's own size is off by no constant
        parts = [part for part in parts if part[3].any() and (np.abs(part[1] - part[2]) > CLEAR * part[4]).any()]
        for constant in CONSTANTS:
            with np.errstate(all="ignore"):
                if parts and all(
                    (
                        np.abs(given - (factor := constant.value(entry.case)) * right)
                        <= 4 * max(1, abs(factor)) * bound
                    ).all()
                    for entry, given, right, _, bound in parts
                ):
                    said.setdefault(constant.text, []).append(TITLES[name[0]](name[1]))
                    break
    if said:
        text = "; ".join(
            f"{', '.join(dict.fromkeys(names))} = {constant} x expected" for constant, names in said.items()
        )
        yield f"{text}, in all of {len(failing)} cases that fail"


def _places(evidence: Sequence[Evidence], root: Comparison) -> Iterator[str]:
    """Yield where in the array of the root the wrong elements are, if that is the same in all cases."""
    for kind, title in TITLES.items():
        said = {
            text
            for entry in evidence
            for (name, part), shape in zip(entry.by_name(entry.wrong), _shapes(entry), strict=True)
            if name[0] == kind and title(name[1]) == root.path and part.any()
            for text in [_place(part.reshape(shape), kind)]
        }
        if len(said) == 1 and (text := said.pop()):
            yield f"{root.path} is wrong in {text}"


def _shapes(entry: Evidence) -> list[tuple[int, ...]]:
    from gradconform.conformance.looks import quantities

    right = quantities(entry.reference)
    return [right[name].shape for name in entry.names]


def _place(wrong: Array, kind: str) -> str:
    """Return which part of an array is wrong, and all of it: a row, a column; nothing where that is no part."""
    if wrong.all() or wrong.size < FEW or wrong.ndim != 2:
        return ""
    rows, columns = wrong.all(axis=1), wrong.all(axis=0)
    what = ("sample", "unit") if kind != "parameters" else ("row", "column")
    for lines, other, name in ((rows, wrong.any(axis=1), what[0]), (columns, wrong.any(axis=0), what[1])):
        if np.array_equal(lines, other) and lines.sum() == 1:
            at = int(np.argmax(lines))
            place = {0: "the first", lines.size - 1: "the last"}.get(at, "one")
            return f"{place} {name} alone, all of it"
    return ""


def _sizes(evidence: Sequence[Evidence]) -> Iterator[str]:
    """Yield how large the errors are beside the values, where all are small."""
    shares = []
    for entry in evidence:
        with np.errstate(all="ignore"):
            share = entry.off[entry.wrong] / np.abs(entry.right[entry.wrong])
        shares += [float(value) for value in share if np.isfinite(value)]
    if shares and max(shares) < 1e-3:
        yield f"the errors are small: {np.median(shares):.0e} of the value at the median, {max(shares):.0e} at most"


MEANINGS = {
    "delta-rows": "the output delta of a sample does not add up to 0 over the classes, as p - y does",
    "batch-permutation": "the place of a sample in the batch matters",
    "class-permutation": "the place of an output unit matters",
    "sum-of-samples": "the gradient of a batch is not that of its samples: something of the whole batch enters",
    "sample-twice": "a sample that stands twice does not count twice, or changes the mean",
    "cotangent-linearity": "the gradient is not linear in the upstream gradient",
    "repeatable": "calls differ",
    "stateless": "calls depend on each other",
}
"""What it means that a relation breaks, which takes no reference."""


def _relations(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield which relations break, what that means, and which hold."""
    related = [entry for entry in comparisons if entry.check in MEANINGS]
    broken = list(dict.fromkeys(entry.check for entry in related if not entry.passed))
    held = list(dict.fromkeys(entry.check for entry in related if entry.check not in broken))
    for check in broken:
        yield f"{check} breaks: {MEANINGS[check]}"
    if broken and held:
        *others, last = held
        yield f"{', '.join(others)} and {last} hold" if others else f"{last} holds"
