"""Derivatives by other modes: the derivative of the backward pass, and forward mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import Arrays
from gradconform.conformance.operation_gradient import SCALES, gradient
from gradconform.conformance.operation_inputs import Example
from gradconform.conformance.operation_numerics import UNIT, Vector
from gradconform.conformance.operation_subject import CallFailed, Subject, fresh
from gradconform.conformance.operation_trial import (
    PERTURBATIONS,
    Element,
    Failure,
    Outcome,
    Trial,
    allowances,
    differing,
    flat,
    random_signs,
)
from gradconform.dtypes import is_floating
from gradconform.errors import Unsupported

BESIDE = 2.0**-8
FIRST = {"gradient", "cotangent-zero", "cotangent-sign", "cotangent-scale", "cotangent-sum", "repeat", "second-order"}
"""Where one of these failed, a second derivative tells nothing more."""


def second_order(trial: Trial) -> Iterator[Outcome]:
    """The derivative of the backward pass, where there is one, is that of its differences."""
    double = trial.subject.operation.double
    if any(check in FIRST for check, _ in trial.known) or trial.failing & FIRST:
        return  # the first derivative is wrong already
    if double is None:
        yield Outcome("second-order", "unsupported", why=f"no second derivative of {trial.subject.operation.kind}")
        return
    operation = double(len(trial.outputs))
    names = [trial.subject.operation.input_name(index) for index in range(len(trial.inputs))]
    names += ["cotangent" if len(trial.outputs) == 1 else f"cotangent {k}" for k in range(len(trial.outputs))]
    operation = replace(operation, names=tuple(names))
    example = Example([*trial.inputs, *trial.cotangents], trial.example.numbers)
    subject = Subject(operation)
    try:
        inner = Trial(subject, example, trial.dtype, trial.generator)
        _ = inner.gradients
    except (CallFailed, Unsupported) as error:
        # it fails loudly: nobody gets a wrong second derivative
        yield Outcome("second-order", "unsupported", why=f"second derivative: {error}")
        return
    for outcome in gradient(inner):
        failure = outcome.failure
        if failure is not None and not _away_from_kinks(trial, subject, failure.index):
            yield Outcome("second-order", "kink")
            continue
        if failure is not None and failure.index is not None:
            name = operation.input_name(failure.index)
            ratio = "" if failure.element is None else f": {failure.element.ratio:.1e} x what rounding can explain"
            sentence = f"the second derivative, of the gradients with respect to {name}, is wrong{ratio}"
            basis = "the derivative of the first backward pass"
            failure = replace(failure, check="second-order", sentence=sentence, basis=basis)
        yield replace(outcome, check="second-order", failure=failure)


def _away_from_kinks(trial: Trial, subject: Subject, index: int | None) -> bool:
    """Return whether a second derivative is wrong beside the inputs too: at a kink the first one is a convention."""
    moved = [x + np.asarray(BESIDE * random_signs(trial.generator, x.shape), x.dtype) if is_floating(x.dtype) else x
             for x in trial.inputs]  # fmt: skip
    try:
        outputs = trial.subject.forward(moved)
        cotangents = [np.asarray(random_signs(trial.generator, output.shape), output.dtype) for output in outputs]
        beside = Trial(subject, Example([*moved, *cotangents], trial.example.numbers), trial.dtype, trial.generator)
        return any(o.failure is not None and o.failure.index == index for o in gradient(beside))
    except (CallFailed, Unsupported):
        return True


def forward_mode(trial: Trial) -> Iterator[Outcome]:
    """The tangents of forward mode, where it exists, are the derivative along them, as the gradients are."""
    jvp = trial.subject.operation.jvp
    if jvp is None:
        return
    for index in trial.differentiable:
        direction = trial.direction(index)
        moved = [np.zeros(x.shape, x.dtype) for x in trial.inputs]
        moved[index] = direction.reshape(trial.inputs[index].shape).astype(trial.inputs[index].dtype)
        try:
            found = trial.subject.call("forward mode", partial(jvp, [fresh(x) for x in trial.inputs], moved))
        except Unsupported as error:
            yield Outcome("forward-mode", "unsupported", why=str(error))
            return
        nudged = [
            trial.subject.call("forward mode", partial(jvp, trial.nudged_inputs(), moved)) for _ in range(PERTURBATIONS)
        ]
        noise = flat(allowances(list(found), [list(other) for other in nudged], trial.dtype))
        yield _against_differences(trial, index, direction, found, noise)


def _against_differences(trial: Trial, index: int, direction: Vector, found: Arrays, noise: Vector) -> Outcome:
    """Compare tangents, element by element, where the derivative of the output can be told."""
    tangents = flat(found)
    element: Element | None = None
    for scale in (1.0, *SCALES):
        slope = trial.slope(index, direction, scale)
        resolved = slope.resolved(trial.dtype)
        if not resolved.any() or tangents.shape != slope.value.shape:
            return Outcome("forward-mode", "kink")
        unit = 64 * UNIT[trial.dtype]
        own = unit * (
            np.abs(tangents) + np.abs(flat(trial.outputs)) + np.abs(slope.value).max(initial=0, where=resolved)
        )
        allowed = np.where(resolved, slope.error + own + noise, np.inf)
        element = differing(np.where(resolved, tangents, slope.value), slope.value, allowed)
        if element is None:
            return Outcome("forward-mode", "passed")
    assert element is not None  # noqa: S101 - else it has passed
    name = trial.subject.operation.input_name(index)
    sentence = f"forward mode along {name} is wrong: {element.ratio:.1e} x what rounding can explain"
    position = 0
    place = element.index[0]
    while place >= trial.outputs[position].size:
        place -= trial.outputs[position].size
        position += 1
    where = tuple(map(int, np.unravel_index(place, trial.outputs[position].shape)))
    element = Element(where, element.actual, element.expected, element.bound)
    failure = Failure(
        "forward-mode", Kind.WRONG, sentence, index, element, basis="the derivative of the outputs by differences"
    )
    return Outcome("forward-mode", "failed", failure)
