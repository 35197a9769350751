"""Where two models part, and why: every cause that is told was tried, by arithmetic or by running a changed model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradconform.case import Array
from gradconform.conformance.comparing_map import Link
from gradconform.conformance.comparing_models import Model, join
from gradconform.conformance.comparing_pairing import Pair
from gradconform.conformance.comparing_units import Judged, Looks, said
from gradconform.conformance.findings import NAMES
from gradconform.errors import InvalidInput

FORWARD = ("place", "outputs", "loss")
CHANGES = 3
"""How many options of a model are changed together, at most, to make it agree."""
EXACT = 1e-9
"""How near a factor must be to a number to be called that: the number has a few digits, the factor more than nine."""


def parted(judged: Sequence[Judged]) -> str:
    """Return the first place at which two models differ, in words, and the last one before it at which they agree."""
    forward = [entry for entry in judged if entry.key[0] in FORWARD]
    backward = [entry for entry in judged if entry.key[0] not in FORWARD]
    wrong = next((entry for entry in forward if entry.differs), None)
    if wrong is not None:
        before = [said(entry.key) for entry in forward[: forward.index(wrong)]]
        if wrong.key[0] == "loss":
            return "at the loss" + ("; the outputs agree" if "outputs" in before else ": no outputs were shown")
        what = "the outputs" if wrong.key[0] == "outputs" else wrong.key[1]
        after = f"; {before[-1].removeprefix('value of ')}, before it, agrees" if before else ""
        places = any(entry.key[0] == "place" for entry in forward)
        hint = "; [outputs] in the map can name places on the way" if not places and not before else ""
        return f"already in the forward pass, at {what}{after}{hint}"
    wrong = next(entry for entry in backward if entry.differs)
    before = [said(entry.key) for entry in backward[: backward.index(wrong)]]
    start = "the forward passes agree; they part in the backward pass, at" if forward else "going backwards, first at"
    return f"{start} the {said(wrong.key)}" + (f"; the {before[-1]}, before it, agrees" if before else "")


def causes(pair: Pair, judged: Sequence[Judged], looks: Sequence[Looks], dtype: str) -> list[str]:
    """Return what explains the difference, in sentences; nothing where nothing that was tried does."""
    wrong = [entry for entry in judged if entry.differs and entry.key[0] == "gradient" and not entry.shape]
    factor = _factor(pair, wrong, looks, dtype)
    found = factor or [sentence for entry in wrong if (sentence := _shape_of(pair, entry))]
    if factor and not any(entry.differs for entry in judged if entry.key[0] in {"place", "outputs"}):
        return found
    return [*found, *_options(pair, judged, dtype), *_transposes(pair, judged, dtype)]


def _factor(pair: Pair, wrong: Sequence[Judged], looks: Sequence[Looks], dtype: str) -> list[str]:
    """Return a sentence for every constant factor between gradients."""
    by_factor: dict[str, list[str]] = {}
    for entry in wrong:
        if entry.absent:
            continue
        factor = constant(entry)
        if factor is not None:
            by_factor.setdefault(_number(factor, pair, looks, dtype), []).append(entry.key[1])
    sentences = []
    for text, names in by_factor.items():
        whose = "every gradient that differs" if len(names) == len(wrong) > 1 else f"the gradient of {join(names)}"
        sentences.append(f"{whose} is in {pair.second.name} {text} times that in {pair.first.name}")
    return sentences


def constant(entry: Judged) -> float | None:
    """Return second / first where it is the same in every element, up to rounding; None where it is not, and for 0."""
    first, second = entry.first, entry.second
    with np.errstate(all="ignore"):
        square = float((first * first).sum())
        known = bool((np.abs(first) > entry.limit * entry.unit).any())  # more than rounding
        if not known or not np.isfinite(square) or not second.any() or np.count_nonzero(first) < 2:
            return None
        factor = float((first * second).sum()) / square
        rest = np.abs(second - factor * first)
        fits = bool((rest <= entry.limit * np.maximum(1.0, abs(factor)) * entry.unit).all())
    return factor if fits else None


def _number(factor: float, pair: Pair, looks: Sequence[Looks], dtype: str) -> str:
    """Return a factor with what it may be called: of several names that fit, all."""
    targets = pair.batch.get("inputs", next(iter(pair.batch.values())))
    rows = len(targets) if targets.ndim else 1
    outputs = looks[0].of(dtype).get(("outputs", ""), looks[1].of(dtype).get(("outputs", "")))
    width = outputs.shape[-1] if outputs is not None and outputs.ndim > 1 else 1
    near = EXACT if dtype == "float64" else 1e-4
    fitting = [
        name
        for name, value in NAMES.items()
        if (width > 1 or "outputs" not in name)
        and value(rows, width) not in {0, 1}
        and abs(factor / value(rows, width) - 1) < near
    ]
    return f"{factor:.6g} ({' or '.join(fitting)})" if fitting and fitting != [f"{factor:g}"] else f"{factor:.6g}"


def _shape_of(pair: Pair, entry: Judged) -> str:
    """Return in which simple way one gradient is another: cut off, transposed, or in another order."""
    first, second, name = entry.first, entry.second, entry.key[1]
    if entry.absent:
        return f"{entry.absent} gives no gradient of {name}: its cost does not depend on it"
    for model, own, other in ((pair.first, first, second), (pair.second, second, first)):
        if not own.any() and other.any():
            return f"in {model.name} the gradient of {name} is 0 in every element: is it cut off?"
    if first.ndim != 2:
        return ""

    def equal(one: Array, two: Array) -> bool:
        return one.shape == two.shape and bool((np.abs(one - two) <= entry.limit * entry.unit.max()).all())

    if equal(first, second.T):
        return f"the gradient of {name} in {pair.second.name} is the transpose of that in {pair.first.name}"
    for axis, lines in ((0, "rows"), (1, "columns")):
        ordered = [array.take(np.argsort(array.take(0, 1 - axis)), axis) for array in (first, second)]
        if equal(*ordered):
            return f"the gradient of {name} has the same {lines} in both, in another order"
    return ""


def _options(pair: Pair, judged: Sequence[Judged], dtype: str) -> Iterator[str]:
    """Yield the options of a model, one alone or a few together, that make it agree with the other."""
    for which, model in enumerate((pair.first, pair.second)):
        said_so_far: list[str] = []
        best, current = _agreeing(judged), model
        for _ in range(CHANGES):
            tried = [
                (_agreement(pair, which, varied, judged, dtype), words, varied)
                for words, varied in current.variations()
            ]
            winners = [words for agreeing, words, _ in tried if agreeing == len(judged)]
            if winners:
                yield from (f"{' and '.join([*said_so_far, w])}, {model.name} agrees" for w in winners)
                break
            count, words, varied = max(tried, key=lambda entry: entry[0], default=(0, "", current))
            if count <= best:
                break
            best, current = count, varied
            said_so_far.append(words)


def _agreeing(judged: Sequence[Judged]) -> int:
    return sum(not entry.differs for entry in judged)


def _agreement(pair: Pair, which: int, varied: Model, judged: Sequence[Judged], dtype: str) -> int:
    """Return how many quantities of a changed model agree with those of the other one."""
    changed = replace(pair, first=varied) if which == 0 else replace(pair, second=varied)
    return _matching(changed, which, judged, dtype)


def _matching(pair: Pair, which: int, judged: Sequence[Judged], dtype: str) -> int:
    try:
        look = pair.look(which, pair.run(which, dtype))
    except InvalidInput:  # such as the mean of one sample in a batch norm in train mode
        return 0
    return sum(
        not entry.shape and not entry.absent and entry.with_second(look.get(entry.key), which) <= entry.limit
        for entry in judged
    )


def _transposes(pair: Pair, judged: Sequence[Judged], dtype: str) -> Iterator[str]:
    """Yield the square parameters that, transposed on their way to the second model, make it agree."""
    square = [link for link in pair.trained if _is_square(pair.values[link.first])]
    choices = [[link] for link in square] + ([square] if len(square) > 1 else [])
    for chosen in choices:
        names = {link.first for link in chosen}
        links = [_toggled(link) if link.first in names else link for link in pair.links]
        # gradients come back by the changed link as well
        if _matching(replace(pair, links=links), 1, judged, dtype) == len(judged):
            how = "without transpose" if all(link.reverse for link in chosen) else "with transpose"
            yield f"{how} in the map for {join([link.first for link in chosen])}, the models agree"
            return


def _is_square(array: Array) -> bool:
    return array.ndim == 2 and array.shape[0] == array.shape[1] > 1


def _toggled(link: Link) -> Link:
    """Return a link of a square matrix with the transposition that it has not."""
    straight = link.axes in {None, (0, 1)} and not link.reverse
    return replace(link, axes=None, reverse=straight)
