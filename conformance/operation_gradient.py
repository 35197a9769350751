"""The gradient of every input against the derivative of a forward pass, or against a reference's own gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import AnyArray, Arrays
from gradconform.conformance.operation_numerics import SAFETY, UNIT, Slope, Vector, random_sum
from gradconform.conformance.operation_trial import (
    PERTURBATIONS,
    Element,
    Failure,
    Outcome,
    Trial,
    allowances,
    differing,
    flat,
)

DIRECTIONS = 2
"""Random directions for each input of each example."""
SCALES = (0.75, 0.59375)
"""A failure must repeat along other directions with steps so many times as large."""
SPLITS = 3
KINKED = 1e-3
"""The least gap, of the largest derivative, that makes a kink where several meet."""
FEW = 64
"""Up to so many elements are all looked at one by one; of more, the wrong one is searched by halving."""
SAMPLED = 8
ROUNDING = 64
"""Units of roundoff that one pass may lose on its terms, beyond what nudged calls show."""
NAMES = {False: "the derivative of your own forward pass", True: "the derivative of the reference's forward pass"}


@dataclass(frozen=True)
class Look:
    """One direction in one input: the gradient along it, what is expected, and what rounding leaves open."""

    index: int
    direction: Vector
    cotangents: Arrays
    gradient: AnyArray
    missing: bool
    """Whether no gradient was returned at all."""
    actual: float
    expected: float
    bound: float
    telling: bool
    """Whether a gradient that is wrong altogether would have shown."""

    @property
    def wrong(self) -> bool:
        """Whether the two differ by more."""
        return not abs(self.actual - self.expected) <= self.bound


def gradient(trial: Trial) -> Iterator[Outcome]:
    """Compare the gradient of every input, each along random directions, for random cotangents."""
    for index in trial.differentiable:
        if ("gradient", index) in trial.known:
            continue
        for _ in range(DIRECTIONS):
            look = _look(trial, index)
            if look is None:
                yield Outcome("gradient", "kink")
                continue
            failure = _confirmed(trial, look) if look.wrong else None
            if failure is not None:
                yield Outcome(failure.check, "failed", failure)
                break
            yield Outcome("gradient", "passed" if look.telling and not look.wrong else "kink")


def _look(
    trial: Trial,
    index: int,
    scale: float = 1.0,
    direction: Vector | None = None,
    smooth: NDArray[np.bool_] | None = None,
) -> Look | None:
    """Return what one direction shows, in outputs that are `smooth`; None where none has a derivative to be told."""
    x = trial.inputs[index]
    direction = trial.direction(index) if direction is None else direction
    slope = trial.slope(index, direction, scale)
    resolved = slope.resolved(trial.dtype) & (True if smooth is None else smooth)
    if not resolved.any():
        return None
    cotangents = trial.drawn_cotangents(trial.split(resolved))
    found = trial.subject.backward(trial.inputs, cotangents)
    own = found[index]
    gradient = np.zeros(x.shape) if own is None else np.asarray(own, np.float64)
    if gradient.shape != x.shape:
        return None  # told by another check
    direction = np.where(np.isfinite(gradient).reshape(-1), direction, 0)
    if not np.isfinite(gradient).all():
        slope = trial.slope(index, direction, scale)
    noise = _noise(trial, index, gradient, cotangents)
    return _compared(trial, index, direction, cotangents, gradient, own is None, slope, noise)


def _noise(trial: Trial, index: int, gradient: AnyArray, cotangents: Arrays) -> AnyArray:
    """Return how far rounding may carry the gradient: by calls with nudged inputs."""
    others = [trial.subject.backward(trial.nudged_inputs(), cotangents) for _ in range(PERTURBATIONS)]
    allowed = allowances([gradient], [[other[index]] for other in others], trial.dtype)[0]
    return np.where(np.isfinite(allowed), allowed, 0) + trial.floor(index, cotangents)


def _compared(
    trial: Trial,
    index: int,
    direction: Vector,
    cotangents: Arrays,
    gradient: AnyArray,
    missing: bool,
    slope: Slope,
    noise: AnyArray,
) -> Look:
    c = flat(cotangents)
    used = c != 0
    values = np.where(used, slope.value, 0)
    terms = np.where(np.isfinite(gradient), gradient, 0).reshape(-1) * direction
    outputs = np.where(used, flat(trial.outputs), 0) / slope.scale
    unit = ROUNDING * UNIT[trial.dtype]
    parts = [
        c * np.where(used, slope.error, 0),
        unit * c * values,
        unit * c * outputs,
        unit * terms,
        np.broadcast_to(noise, gradient.shape).reshape(-1) * direction,
    ]
    bound = sum(random_sum(part) for part in parts)
    expected = float(np.sum(c * values))
    size = max(random_sum(c * values), random_sum(terms), random_sum(c * outputs))
    return Look(
        index,
        direction,
        cotangents,
        gradient,
        missing,
        float(np.sum(terms)),
        expected,
        bound,
        telling=bool(bound <= 0.1 * size),
    )


def _confirmed(trial: Trial, look: Look) -> Failure | None:
    """Return the failure, if it repeats along other directions; one that does not repeat at all is told as such."""
    again = trial.subject.backward(trial.inputs, look.cotangents)[look.index]
    if again is not None and again.shape == look.gradient.shape:
        allowed = allowances([look.gradient], [], trial.dtype)[0] + ROUNDING * UNIT[trial.dtype] * np.max(
            np.abs(look.gradient), initial=0, where=np.isfinite(look.gradient)
        )
        element = differing(again, look.gradient, allowed)
        if element is not None:
            name = trial.subject.operation.input_name(look.index)
            sentence = f"the gradient of {name} differs between two calls with the same numbers"
            return Failure("repeat", Kind.NONDETERMINISTIC, sentence, look.index, element)
    smooth = _smooth(trial, look)
    if not smooth.all():
        beside = _look(trial, look.index, direction=look.direction, smooth=smooth)
        if beside is None or not beside.wrong:
            return None
        look = beside
    for scale in SCALES:
        other = _look(trial, look.index, scale, smooth=smooth)
        if other is not None and not other.wrong:
            return None
    return _located(trial, look)


def _smooth(trial: Trial, look: Look) -> NDArray[np.bool_]:
    """Return in which outputs the derivative along a direction is the sum of those along two parts of it.

    Where several kinks meet, as in the middle one of three equal numbers when they are sorted, there may be a
    derivative along every direction, and yet none that is linear in it.
    """
    whole = trial.slope(look.index, look.direction)
    smooth = np.ones(len(whole.value), np.bool_)
    scale = np.abs(whole.value).max(initial=0, where=np.isfinite(whole.value))
    for _ in range(SPLITS):
        part = trial.generator.random(look.direction.shape) < 0.5
        one = trial.slope(look.index, np.where(part, look.direction, 0))
        two = trial.slope(look.index, np.where(part, 0, look.direction))
        apart = np.abs(whole.value - one.value - two.value)
        allowed = SAFETY * (whole.error + one.error + two.error) + KINKED * scale
        # what is unknown along a part alone tells nothing
        smooth &= ~(np.isfinite(allowed) & (apart > allowed))
    return smooth


def _located(trial: Trial, look: Look) -> Failure:
    """Return the failure with the elements that are wrong."""
    size = look.direction.size
    if size <= FEW:
        elements = [_element(trial, look, place) for place in range(size) if look.direction[place]]
        worst = _worst(elements)
        rest = ""
    else:
        place = _halved(trial, look)
        worst = _element(trial, look, place)
        sample = trial.generator.choice(size, SAMPLED, replace=False)
        elements = [worst, *(_element(trial, look, int(other)) for other in sample if other != place)]
        wrong = sum(element.ratio > 1 for element in elements[1:])
        if wrong:
            rest = f"wrong in {wrong} of {len(elements) - 1} others looked at, of {size:,}"
            worst = _worst(elements)
        else:
            rest = _without(trial, look, place)
    return _failure(trial, look, worst, elements, rest)


def _without(trial: Trial, look: Look, place: int) -> str:
    """Return what is known of all elements but one."""
    direction = look.direction.copy()
    direction[place] = 0
    other = _look(trial, look.index, direction=direction)
    right = other is not None and not other.wrong
    return f"all {look.direction.size - 1:,} other elements together are right" if right else "others are wrong too"


def _failure(
    trial: Trial, look: Look, worst: Element | None, elements: list[Element], rest: str, basis: str = ""
) -> Failure:
    name = trial.subject.operation.input_name(look.index)
    if worst is None or worst.ratio <= 1:
        # no element alone is off by more than what differences leave open: the sum of them is
        worst = None
    ratio = worst.ratio if worst is not None else abs(look.actual - look.expected) / look.bound
    if look.missing:
        sentence = f"{name} gets no gradient (None), though the output depends on it"
    else:
        sentence = f"the gradient of {name} is wrong: {ratio:.1e} x what rounding can explain"
        if worst is not None and look.direction.size > FEW and "together are right" in rest:
            place = ", ".join(map(str, worst.index))
            sentence = f"the gradient of {name} is wrong at [{place}]: {ratio:.1e} x what rounding can explain"
    return Failure(
        "gradient",
        Kind.WRONG,
        sentence,
        look.index,
        worst,
        elements,
        rest,
        look.cotangents,
        basis or NAMES[trial.truth is not None],
    )


def _element(trial: Trial, look: Look, place: int) -> Element:
    """Return one element with what is expected of it."""
    direction = np.zeros(look.direction.size)
    direction[place] = step = abs(look.direction[place]) or 1.0
    slope = trial.slope(look.index, direction)
    c = flat(look.cotangents)
    used = c != 0
    own = float(look.gradient.reshape(-1)[place])
    unit = ROUNDING * UNIT[trial.dtype]
    values = np.where(used, slope.value, 0) / step
    errors = np.where(used, slope.error, 0) / step
    bound = random_sum(c * errors) + unit * (random_sum(c * values) + abs(own))
    index = tuple(map(int, np.unravel_index(place, look.gradient.shape)))
    return Element(index, own, float(np.sum(c * values)), bound)


def _worst(elements: list[Element]) -> Element | None:
    wrong = [element for element in elements if element.ratio > 1 and np.isfinite(element.bound)]
    return max(wrong, key=lambda element: element.error, default=None)


def _halved(trial: Trial, look: Look) -> int:
    """Return an element that is wrong, by halving the direction and following the half that is farther off."""
    c = flat(look.cotangents)
    used = c != 0
    terms = look.gradient.reshape(-1) * look.direction
    support = np.flatnonzero(look.direction)
    off = look.actual - look.expected
    while len(support) > 1:
        half = support[: len(support) // 2]
        direction = np.zeros_like(look.direction)
        direction[half] = look.direction[half]
        slope = trial.slope(look.index, direction)
        here = float(np.sum(terms[half])) - float(np.sum(c * np.where(used, slope.value, 0)))
        if abs(here) >= abs(off - here):
            support, off = half, here
        else:
            support, off = support[len(support) // 2 :], off - here
    return int(support[0])


def agreement(trial: Trial) -> Iterator[Outcome]:
    """Compare the gradient of every input with that of a reference that has its own."""
    truth = trial.truth
    assert truth is not None  # noqa: S101 - this check is run only with one
    expected = truth.backward(trial.inputs, trial.cotangents)
    nudged = [trial.nudged_inputs() for _ in range(PERTURBATIONS)]
    own = allowances(trial.gradients, [trial.subject.backward(x, trial.cotangents) for x in nudged], trial.dtype)
    others = allowances(expected, [truth.backward(x, trial.cotangents) for x in nudged], trial.dtype)
    for index in trial.differentiable:
        found, right = trial.gradients[index], expected[index]
        x = trial.inputs[index]
        missing = found is None
        actual = np.zeros(x.shape) if found is None else found
        wanted = np.zeros(x.shape) if right is None else right
        if actual.shape != wanted.shape:
            continue  # told by another check
        allowed = np.broadcast_to(own[index] + others[index] + trial.allowance[index], x.shape)
        element = differing(actual, wanted, allowed)
        if element is None:
            yield Outcome("gradient", "passed")
            continue
        rows = [tuple(map(int, row)) for row in np.ndindex(*x.shape)][: 4 * FEW]
        elements = [Element(row, float(actual[row]), float(wanted[row]), float(allowed[row])) for row in rows]
        wrong = int(np.sum(np.abs(actual - wanted) > allowed))
        rest = f"wrong in {wrong:,} of {x.size:,} elements"
        look = Look(index, np.ones(x.size), trial.cotangents, actual, missing, 1.0, 0.0, 1.0, telling=True)
        failure = _failure(trial, look, element, elements, rest, f"the gradient of {truth.operation.name}")
        yield Outcome("gradient", "failed", failure)
