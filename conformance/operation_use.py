"""How an operation is used: twice, interleaved, after other shapes, with results kept, compiled, or batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import AnyArray, Arrays
from gradconform.conformance.operation_subject import CallFailed
from gradconform.conformance.operation_trial import (
    Failure,
    Outcome,
    Trial,
    allowances,
    differing,
    level,
    path_allowance,
    rounding,
    same,
)

UNREPEATABLE = "the forward pass gives another output in every call: it is random, or keeps state"
FORWARD_CALLS = 3


def repeatable(trial: Trial) -> bool:
    """Return whether the forward pass gives the same output in every call, as far as a few calls tell."""
    for _ in range(FORWARD_CALLS):
        for output, first in zip(trial.subject.forward(trial.inputs), trial.outputs, strict=True):
            if differing(output, first, rounding(trial, output) + level(trial, output)) is not None:
                return False
    return True


def repeated(trial: Trial) -> Iterator[Outcome]:
    """The same call again, with the same random numbers, gives the same."""
    first, *others = [trial.subject.backward(trial.inputs, trial.cotangents) for _ in range(3)]
    # not by what nudged calls show: they differ by whatever makes these differ
    allowed = [
        np.zeros(()) if g is None else rounding(trial, g) + level(trial, g) + trial.floor(index, trial.cotangents)
        for index, g in enumerate(first)
    ]
    for number, again in enumerate(others, start=2):
        words = f"differs in call {number} of the same"
        for outcome in same(trial, "repeat", again, first, words, allowed):
            failure = outcome.failure
            if failure is not None:
                adds = _accumulates([calls[failure.index or 0] for calls in (first, *others)])
                kind = Kind.STATEFUL if adds else Kind.NONDETERMINISTIC
                detail = "every call adds the same once more: what was kept from the calls before is not reset"
                failure = replace(failure, kind=kind, basis="the first call", detail=detail if adds else "")
            yield replace(outcome, failure=failure)
            if failure is not None:
                return


def _accumulates(calls: Sequence[AnyArray | None]) -> bool:
    """Return whether every call adds the same to a gradient."""
    first, second, third = (np.zeros(()) if call is None else np.asarray(call, np.float64) for call in calls)
    step = second - first
    return bool(step.any()) and np.allclose(third - second, step, rtol=1e-6)


def interleaved(trial: Trial) -> Iterator[Outcome]:
    """Two forward passes, then their two backward passes, give what each gives alone; so does a use in between."""
    way = trial.subject.operation.interleaved
    other_inputs = [_other(x) for x in trial.inputs]
    try:
        other_outputs = trial.subject.forward(other_inputs)
        if [o.shape for o in other_outputs] != [o.shape for o in trial.outputs]:
            return
        other = trial.subject.backward(other_inputs, trial.cotangents)
    except CallFailed:
        return  # it takes no such numbers
    allowed = path_allowance(trial)
    if way is None:
        again = trial.subject.backward(trial.inputs, trial.cotangents)
        outcomes = same(trial, "interleave", again, trial.gradients, "differs after another call in between", allowed)
    else:
        first, second = trial.subject.many(way, [(trial.inputs, trial.cotangents), (other_inputs, trial.cotangents)])
        words = "differs where another forward pass comes before its backward pass"
        outcomes = same(trial, "interleave", first, trial.gradients, words, allowed)
        last = list(same(trial, "interleave", second, other, words, path_allowance(trial, other)))
        outcomes = iter([*outcomes, *last])
    for outcome in outcomes:
        failure = outcome.failure
        if failure is not None:
            failure = replace(failure, kind=Kind.STATEFUL, basis="the call alone")
        yield replace(outcome, failure=failure)


def kept(trial: Trial) -> Iterator[Outcome]:
    """What a call returned is not overwritten by the next one."""
    outputs, gradients = trial.subject.kept(trial.inputs, trial.cotangents)
    before = [np.array(array) for array in outputs]
    before_gradients = [None if g is None else np.array(g) for g in gradients]
    other = [_other(x) for x in trial.inputs]
    try:
        trial.subject.kept(other, [-2 * c for c in trial.cotangents])
    except CallFailed:
        return
    for position, (old, new) in enumerate(zip(before, outputs, strict=True)):
        element = differing(new, old, np.zeros(()))
        failure = None
        if element is not None:
            sentence = f"output {position} of an earlier call is overwritten by a later one"
            failure = Failure("keep", Kind.ALIASED, sentence, element=element, basis="the same result before that call")
        yield Outcome("keep", "passed" if failure is None else "failed", failure)
    for index in trial.differentiable:
        one, now = before_gradients[index], gradients[index]
        if one is None or now is None:
            continue
        element = differing(now, one, np.zeros(()))
        failure = None
        if element is not None:
            name = trial.subject.operation.input_name(index)
            sentence = f"the gradient of {name} from an earlier call is overwritten by a later one"
            basis = "the same result before that call"
            failure = Failure("keep", Kind.ALIASED, sentence, index, element, basis=basis)
        yield Outcome("keep", "passed" if failure is None else "failed", failure)


def unchanged(trial: Trial) -> Iterator[Outcome]:
    """Neither pass writes into the inputs or the cotangent. In all calls of the run so far."""
    if not trial.subject.mutated:
        yield Outcome("mutation", "passed")
    for name, where in trial.subject.mutated.items():
        failure = Failure("mutation", Kind.MUTATED, f"{where} writes into {name}", detail=f"{name} is the caller's")
        yield Outcome("mutation", "failed", failure)


def compiled(trial: Trial) -> Iterator[Outcome]:
    """The gradient of the compiled program is that of the program run operation by operation."""
    way = trial.subject.operation.variants.get("jit")
    if way is None:
        return
    if trial.subject.operation.notes():
        yield Outcome("jit", "unsupported", why="it cannot be compiled")
        return
    found = trial.subject.gradients(way, trial.inputs, trial.cotangents)
    nudged = [trial.subject.gradients(way, trial.nudged_inputs(), trial.cotangents) for _ in range(2)]
    more = allowances(found, nudged, trial.dtype)
    allowed = [one + two for one, two in zip(path_allowance(trial, found), more, strict=True)]
    basis = "the compiled program's, yours is without jit"
    for outcome in same(trial, "jit", found, trial.gradients, "differs under jit", allowed):
        failure = None if outcome.failure is None else replace(outcome.failure, basis=basis)
        yield replace(outcome, failure=failure)


def batched(trial: Trial) -> Iterator[Outcome]:
    """The gradients of a batch by vmap are those of its members in a loop."""
    way = trial.subject.operation.batched
    if way is None:
        return
    if trial.subject.operation.notes():
        yield Outcome("vmap", "unsupported", why="it cannot be traced")
        return
    others = [_other(x) for x in trial.inputs]
    calls: list[tuple[Arrays, Arrays]] = [
        (trial.inputs, trial.cotangents),
        (others, trial.drawn_cotangents()),
        (trial.nudged_inputs(), trial.drawn_cotangents()),
    ]
    try:
        singles = [trial.subject.backward(inputs, cotangents) for inputs, cotangents in calls]
    except CallFailed:
        return  # it takes no such numbers
    found = trial.subject.many(way, calls)
    for alone, together in zip(singles, found, strict=True):
        yield from same(trial, "vmap", together, alone, "differs under vmap", path_allowance(trial, alone))


def _other(x: AnyArray) -> AnyArray:
    """Return other numbers of the same kind: those of the input in another order."""
    if not np.issubdtype(x.dtype, np.floating):
        return x
    return np.asarray(np.roll(x.reshape(-1), 1).reshape(x.shape) * np.asarray(0.875, x.dtype))
