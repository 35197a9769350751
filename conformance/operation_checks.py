"""What is checked of an operation, each check by its stable name. Checks yield outcomes: nothing here asserts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import AnyArray, Gradients
from gradconform.conformance.operation_cotangents import cotangent_layout, scale, sign, total, zero
from gradconform.conformance.operation_gradient import agreement, gradient
from gradconform.conformance.operation_layouts import backwards, spread, transposed
from gradconform.conformance.operation_second import forward_mode, second_order
from gradconform.conformance.operation_subject import CallFailed
from gradconform.conformance.operation_trial import (
    PERTURBATIONS,
    Element,
    Failure,
    Outcome,
    Trial,
    allowances,
    differing,
    flat,
    path_allowance,
    same,
)
from gradconform.conformance.operation_use import batched, compiled, interleaved, kept, repeated, unchanged
from gradconform.dtypes import finfo, is_floating

MOST_SUBSETS = 15


@dataclass(frozen=True)
class OperationCheck:
    """A named property of an operation. `applies` to which frameworks; `derivative`: it needs the right derivative."""

    name: str
    claim: str
    run: Callable[[Trial], Iterator[Outcome]]
    frameworks: tuple[str, ...] = ("numpy", "torch", "jax")


def returned(trial: Trial) -> Iterator[Outcome]:
    """One gradient for every input, of its shape and dtype."""
    raw = trial.subject.operation.raw
    plain: Sequence[object] = trial.gradients
    if raw is not None:
        given, upstream = [np.array(x) for x in trial.inputs], [np.array(c) for c in trial.cotangents]
        plain = trial.subject.call("backward", lambda: raw(given, upstream))
    own_shapes = trial.subject.operation.framework != "torch"  # PyTorch sums or refuses what has another shape
    for index in trial.differentiable:
        x, value = trial.inputs[index], plain[index]
        name = trial.subject.operation.input_name(index)
        failure = None
        if value is not None:
            array = np.asarray(value)
            if own_shapes and array.shape != x.shape:
                said = f"the gradient of {name} has shape {array.shape}, the input {x.shape}"
                failure = Failure("returned", Kind.SHAPE, said, index)
            elif not is_floating(array.dtype) or finfo(array.dtype).bits < finfo(x.dtype).bits:
                said = f"the gradient of {name} is {array.dtype.name}, the input {x.dtype.name}"
                failure = Failure("returned", Kind.DTYPE, said, index)
        if failure is None and value is not None and _is_rounded(trial, index):
            said = f"the gradient of {name} is rounded to float32 on the way: each of its numbers is one of float32"
            failure = Failure("returned", Kind.DTYPE, said, index, detail="if that is meant: --dtype float32")
        yield Outcome("returned", "passed" if failure is None else "failed", failure)


def _is_rounded(trial: Trial, index: int) -> bool:
    """Return whether a gradient for inputs and cotangents of all 53 bits has only 24 bits."""
    if trial.dtype != "float64":
        return False
    cotangents = [np.where(c == 0, 0, trial.generator.standard_normal(c.shape)) for c in trial.cotangents]
    found = trial.subject.backward(trial.nudged_inputs(), cotangents)[index]
    if found is None:
        return False
    # what is left of terms that cancel has few bits anyway
    numbers = found[np.isfinite(found) & (np.abs(found) > 8 * trial.floor(index, cotangents))]
    with np.errstate(all="ignore"):
        return bool(len(numbers)) and np.array_equal(numbers.astype(np.float32), numbers)


def finite(trial: Trial) -> Iterator[Outcome]:
    """The gradient is finite where the outputs and their derivatives are."""
    for index in trial.differentiable:
        found = trial.gradients[index]
        x = trial.inputs[index]
        if found is None or found.shape != x.shape:
            continue
        bad = np.flatnonzero(~np.isfinite(found) & np.isfinite(x))
        if not len(bad):
            yield Outcome("finite", "passed")
            continue
        yield _nonfinite(trial, index, found, int(bad[0]), len(bad))


def _nonfinite(trial: Trial, index: int, found: AnyArray, place: int, count: int) -> Outcome:
    direction = np.zeros(found.size)
    direction[place] = 1.0
    slope = trial.slope(index, direction)
    # an output that the input does not touch has derivative 0
    if not trial.finite or not slope.resolved(trial.dtype).all():
        return Outcome("finite", "kink")
    expected = float(np.sum(flat(trial.cotangents) * slope.value))
    where = tuple(map(int, np.unravel_index(place, found.shape)))
    actual = float(found.reshape(-1)[place])
    name = trial.subject.operation.input_name(index)
    sentence = f"the gradient of {name} is {actual} where the forward pass and its derivative are finite"
    element = Element(where, actual, expected, float(np.sum(np.abs(flat(trial.cotangents)) * slope.error)))
    rest = f"not finite in {count:,} of {found.size:,} elements"
    return Outcome("finite", "failed", Failure("finite", Kind.NONFINITE, sentence, index, element, rest=rest))


def value(trial: Trial) -> Iterator[Outcome]:
    """Every output agrees with the reference's."""
    truth = trial.truth
    if truth is None:
        return
    expected = truth.forward(trial.inputs)
    if [one.shape for one in expected] != [one.shape for one in trial.outputs]:
        shapes = f"{[one.shape for one in trial.outputs]}, the reference's {[one.shape for one in expected]}"
        yield Outcome("value", "failed", Failure("value", Kind.SHAPE, f"the outputs have shapes {shapes}"))
        return
    nudged = [trial.nudged_inputs() for _ in range(PERTURBATIONS)]
    own = allowances(list(trial.outputs), [list(trial.subject.forward(x)) for x in nudged], trial.dtype)
    other = allowances(list(expected), [list(truth.forward(x)) for x in nudged], trial.dtype)
    for position, output in enumerate(trial.outputs):
        element = differing(output, expected[position], own[position] + other[position])
        failure = None
        if element is not None:
            what = f"output {position}" if len(trial.outputs) > 1 else "the output"
            failure = Failure(
                "value",
                Kind.WRONG if np.isfinite(element.actual) else Kind.NONFINITE,
                f"the forward pass is wrong: {what} differs from the reference's",
                element=element,
                basis=f"the output of {truth.operation.name}",
            )
        yield Outcome("value", "passed" if failure is None else "failed", failure)


def input_layout(trial: Trial) -> Iterator[Outcome]:
    """The memory layout of the inputs does not matter: transposed, every second element, expanded from one row."""
    if trial.subject.operation.random():
        yield Outcome("input-layout", "unsupported", why="random numbers are drawn in the order of the memory")
        return
    for arrange, words in (
        (transposed, "differs for inputs in transposed memory"),
        (spread, "differs for inputs that are not contiguous"),
        (backwards, "differs for inputs with negative strides"),
    ):
        if arrange is backwards and trial.subject.operation.framework != "numpy":
            continue
        arranged = [arrange(x) for x in trial.inputs]
        found = trial.subject.backward(arranged, trial.cotangents)
        yield from same(trial, "input-layout", found, trial.gradients, words, path_allowance(trial))
    for index in trial.differentiable:
        x = trial.inputs[index]
        if x.ndim < 2 or index >= len(trial.inputs) - len(trial.subject.operation.parameters):
            continue
        expanded = np.lib.stride_tricks.as_strided(x[:1].copy(), x.shape, (0, *x[:1].copy().strides[1:]))
        dense, strided = list(trial.inputs), list(trial.inputs)
        dense[index], strided[index] = np.array(expanded), expanded
        try:
            right = trial.subject.backward(dense, trial.cotangents)
        except CallFailed:
            continue  # it refuses equal rows
        found = trial.subject.backward(strided, trial.cotangents)
        words = "differs for an input that is expanded from one row"
        yield from same(trial, "input-layout", found, right, words, path_allowance(trial, right))


def derivative(trial: Trial) -> Iterator[Outcome]:
    """The gradient agrees with the reference's own, where it has one, else with the derivative of a forward pass.

    Where the forward pass is wrong, the backward pass may be right either for it or for the reference.
    """
    own = trial.truth is not None and trial.truth.operation.backward is not None
    outcomes = list(agreement(trial) if own else gradient(trial))
    if trial.truth is not None and "value" in trial.failing and any(outcome.failure for outcome in outcomes):
        outcomes = list(gradient(replace(trial, truth=None)))
    yield from outcomes


def needs_input_grad(trial: Trial) -> Iterator[Outcome]:
    """Whichever inputs a gradient is asked for, it is the same."""
    subset = trial.subject.operation.subset
    assert subset is not None  # noqa: S101 - a check of PyTorch
    everything = trial.differentiable
    patterns = [wanted for size in range(1, len(everything)) for wanted in itertools.combinations(everything, size)]
    if len(patterns) > MOST_SUBSETS:
        patterns = [wanted for wanted in patterns if len(wanted) in {1, len(everything) - 1}][:MOST_SUBSETS]
    for wanted in patterns:
        names = " and ".join(trial.subject.operation.input_name(index) for index in wanted)
        try:
            found = trial.subject.gradients(partial(subset, wanted=wanted), trial.inputs, trial.cotangents)
        except CallFailed as error:
            sentence = f"with a gradient asked for of {names} alone, {error}"
            yield Outcome("needs-input-grad", "failed", Failure("needs-input-grad", error.kind, sentence, wanted[0]))
            return
        expected: Gradients = [g if index in wanted else None for index, g in enumerate(trial.gradients)]
        words = f"differs where {names} alone needs a gradient"
        yield from same(trial, "needs-input-grad", found, expected, words, path_allowance(trial))


CHECKS: dict[str, OperationCheck] = {
    check.name: check
    for check in (
        OperationCheck("value", "Every output agrees with the reference's, where one is given.", value),
        OperationCheck("returned", "There is one gradient for every input, of its shape and dtype.", returned),
        OperationCheck("finite", "The gradient is finite where the outputs and their derivatives are.", finite),
        OperationCheck("repeat", "The same call again, with the same random numbers, gives the same.", repeated),
        OperationCheck("cotangent-zero", "A cotangent of zeros gives a gradient of zeros.", zero),
        OperationCheck("cotangent-sign", "A cotangent of the other sign gives the gradient of the other sign.", sign),
        OperationCheck("cotangent-scale", "A cotangent 2, 2**40 or 2**-40 times as large scales the gradient.", scale),
        OperationCheck("cotangent-sum", "The gradient for a sum of cotangents is the sum of their gradients.", total),
        OperationCheck(
            "gradient", "Every input's gradient is the derivative of the forward pass, or the reference's.", derivative
        ),
        OperationCheck(
            "cotangent-layout",
            "Stride 0, transposed or spread memory of the cotangent does not matter.",
            cotangent_layout,
        ),
        OperationCheck(
            "input-layout", "Transposed, spread or expanded memory of the inputs does not matter.", input_layout
        ),
        OperationCheck(
            "needs-input-grad",
            "Whichever inputs a gradient is asked for, it is the same.",
            needs_input_grad,
            frameworks=("torch",),
        ),
        OperationCheck("interleave", "Another call between forward and backward changes nothing.", interleaved),
        OperationCheck("keep", "What a call returned is not overwritten by the next one.", kept),
        OperationCheck("jit", "The compiled program's gradient is the same.", compiled, frameworks=("jax",)),
        OperationCheck("vmap", "A batch by vmap gives what a loop gives.", batched, frameworks=("jax",)),
        OperationCheck(
            "forward-mode", "Forward mode, where it exists, agrees.", forward_mode, frameworks=("torch", "jax")
        ),
        OperationCheck("second-order", "The derivative of the backward pass, where it exists, is right.", second_order),
        OperationCheck("mutation", "Neither pass writes into the inputs or the cotangent.", unchanged),
    )
}
