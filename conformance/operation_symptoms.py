"""What a wrong gradient probably comes from: a table of symptoms, each one arithmetic test on what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradconform.conformance.operation import AnyArray, Arrays
from gradconform.conformance.operation_numerics import Vector
from gradconform.conformance.operation_subject import CallFailed
from gradconform.conformance.operation_trial import Element, Failure, Trial, flat
from gradconform.errors import Unsupported

CLOSE = {"float64": 1e-6, "float32": 1e-3}
"""Relative distance within which two numbers are taken for the same."""
ENOUGH = 2
"""A rule must hold in at least so many elements that are not 0."""
HUGE = 2.0**40


def likely(trial: Trial, failure: Failure) -> str:
    """Return the probable cause of a failure, nothing where no test fits."""
    if failure.index is None or failure.check not in {*COTANGENT_CHECKS, "gradient"}:
        return ""
    try:
        cause = _cotangent_cause(trial, failure.index)
    except (CallFailed, Unsupported):
        cause = ""
    if cause or failure.check != "gradient":
        return cause
    return _element_cause(trial, failure)


COTANGENT_CHECKS = ("cotangent-zero", "cotangent-sign", "cotangent-scale", "cotangent-sum")


def _cotangent_cause(trial: Trial, index: int) -> str:
    """Return how the gradient depends on the cotangent, where that is not linearly or not on all of it."""
    c = trial.cotangents

    def at(cotangents: Arrays) -> Vector:
        found = trial.subject.backward(trial.inputs, cotangents)[index]
        return np.zeros(trial.inputs[index].size) if found is None else flat([found])

    base = at(c)
    if not base.any() or not np.isfinite(base).all():
        return ""

    def same(one: AnyArray, other: AnyArray) -> bool:
        size = np.abs(base).max()
        return bool(np.abs(one - other).max() <= CLOSE[trial.dtype] * max(size, float(np.abs(other).max())))

    if same(at(trial.drawn_cotangents()), base):
        return "the cotangent (the upstream gradient) is ignored: every one gives the same gradient"
    twice = at([2 * one for one in c])
    if same(twice, 4 * base):
        return "the cotangent enters squared, as in g * g: doubled, it gives 4 times the gradient"
    if same(at([-one for one in c]), base) and same(twice, 2 * base):
        return "the absolute value of the cotangent is used: its sign makes no difference"
    nothing = at([np.zeros_like(one) for one in c])
    if nothing.any() and same(twice - base, base - nothing):
        return "something is added to the gradient that does not depend on the cotangent"
    far, farther = at([HUGE * one for one in c]), at([2 * HUGE * one for one in c])
    if same(far, farther) and not same(far, HUGE * base):
        return f"the gradient is clipped: it never exceeds {np.abs(far).max():.6g}"
    if all(one.ndim and len(one) > 1 for one in c):
        other = [one.copy() for one in c]
        for one, drawn in zip(other, trial.drawn_cotangents(), strict=True):
            one[1:] = drawn[1:]
        if same(at(other), base):
            return "only the first row of the cotangent is read: another cotangent below it changes nothing"
    return ""


def _element_cause(trial: Trial, failure: Failure) -> str:
    """Return what yours and expected have in common over the elements that were looked at."""
    index = failure.index
    known = [e for e in failure.elements if np.isfinite([e.actual, e.expected, e.bound]).all()]
    close = CLOSE[trial.dtype]
    telling = [e for e in known if abs(e.expected) > 1e3 * e.bound or e.ratio > 1]
    if index is None or len(telling) < 1 or (telling and sum(e.ratio > 1 for e in telling) * 2 < len(telling)):
        return ""
    yours = np.array([e.actual for e in telling])
    right = np.array([e.expected for e in telling])
    x = trial.inputs[index]
    if not yours.any():
        return "it is 0 in every element: a path is cut off, or the result is never filled" if len(yours) > 1 else ""
    if factor := _factor(trial, yours, right, x, close):
        return factor
    if transposed := _transposed(x, failure.elements, close):
        return transposed
    return _elementwise(trial, failure, telling, yours, right, close)


def _factor(trial: Trial, yours: Vector, right: Vector, x: AnyArray, close: float) -> str:
    """Return the constant between yours and expected."""
    if not right.all() or len(yours) < ENOUGH:
        return ""
    ratios = yours / right
    value = float(np.median(ratios))
    # a factor next to 1 must be the same in what it differs by
    near = min(close * abs(value), 0.01 * abs(value - 1))
    if not (np.abs(ratios - value) <= near).all():
        return ""
    if abs(value - 1) < 1e-3:
        return (
            f"yours / expected is 1 {'+' if value > 1 else '-'} {abs(value - 1):.1e} in each of {len(yours)} elements"
        )
    names = {"-1: the sign is wrong": -1.0, "2": 2.0, "1/2": 0.5}
    for size, what in _sizes(trial, x):
        names |= {f"{size}, the number of {what}": float(size), f"1/{size}: averaged over the {what}": 1 / size}
    fitting = [name for name, number in names.items() if abs(value - number) <= close * abs(number)]
    return f"yours / expected is {fitting[0] if fitting else f'{value:.6g}'} in each of {len(yours)} elements"


def _sizes(trial: Trial, x: AnyArray) -> list[tuple[int, str]]:
    """Return what may have been averaged or summed over."""
    sizes = [(len(array), "rows") for array in (x, *trial.outputs, *trial.inputs) if array.ndim]
    sizes += [(x.size, "elements"), *((output.size, "outputs") for output in trial.outputs)]
    return [(size, what) for size, what in dict.fromkeys(sizes) if size > 2]


def _transposed(x: AnyArray, elements: Sequence[Element], close: float) -> str:
    if x.ndim != 2 or x.shape[0] != x.shape[1] or len(elements) != x.size or len(x) < 2:
        return ""
    yours, right = np.zeros(x.shape), np.zeros(x.shape)
    for element in elements:
        yours[element.index], right[element.index] = element.actual, element.expected
    if np.abs(yours.T - right).max() <= close * np.abs(right).max():
        return "yours is the transpose of what is expected"
    return ""


def _elementwise(
    trial: Trial, failure: Failure, telling: Sequence[Element], yours: Vector, right: Vector, close: float
) -> str:
    """Return what is wrong with the derivative of an elementwise function, with y for its output."""
    index = failure.index
    if index is None or len(trial.outputs) != 1 or trial.outputs[0].shape != trial.inputs[index].shape:
        return ""
    places = [element.index for element in telling]
    c = np.array([failure.cotangents[0][place] for place in places], np.float64)
    x = np.array([trial.inputs[index][place] for place in places], np.float64)
    y = np.array([trial.outputs[0][place] for place in places], np.float64)
    used = c != 0
    if used.sum() < ENOUGH:
        return ""
    c, x, y = c[used], x[used], y[used]
    p, q = yours[used] / c, right[used] / c  # the derivative, yours and expected
    with np.errstate(all="ignore"):
        rules = [
            ("the derivative is missing: the cotangent is passed on as it is", p, np.ones_like(p)),
            ("1 - y stands where 1 - y**2 belongs: expected / yours is 1 + y, with y the output", q, p * (1 + y)),
            ("a factor y, the output, is missing", q, p * y),
            ("a factor x, the input, is missing", q, p * x),
            ("a factor 1 - y, with y the output, is missing", q, p * (1 - y)),
            ("there is a factor y, the output, too many", p, q * y),
            ("there is a factor x, the input, too many", p, q * x),
            ("the derivative is applied twice", p, q * q),
            ("there is one of the derivative too few: expected is its square", q, p * p),
            ("the reciprocal of the derivative is used", p, 1 / q),
            ("x, the input, stands where the derivative belongs", p, x),
            ("y, the output, stands where the derivative belongs", p, y),
        ]
        for sentence, one, other in rules:
            if np.ptp(other) == 0 and np.ptp(q) == 0:
                continue
            if (np.abs(one - other) <= close * np.abs(one).max()).all():
                return f"{sentence}, in each of {len(p)} elements"
        if _is_derivative_at_output(trial, index, places, used, p, close):
            return "the derivative is taken at y, the output, where it is meant at x, the input"
    return ""


def _is_derivative_at_output(
    trial: Trial, index: int, places: Sequence[tuple[int, ...]], used: AnyArray, p: Vector, close: float
) -> bool:
    moved = list(trial.inputs)
    moved[index] = trial.outputs[0].astype(trial.inputs[index].dtype)
    try:
        other = replace(trial, example=replace(trial.example, inputs=moved))
        slope = other.slope(index, np.ones(moved[index].size))
    except CallFailed:
        return False
    derivative = slope.value.reshape(moved[index].shape)
    d = np.array([derivative[place] for place in places])[used]
    return bool(np.isfinite(d).all() and (np.abs(p - d) <= close * np.abs(d).max()).all())
