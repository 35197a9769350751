"""The backward pass as a function of the cotangent, the upstream gradient: it is linear, and no layout matters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradconform.conformance.operation import Gradients
from gradconform.conformance.operation_layouts import spread, transposed
from gradconform.conformance.operation_trial import Outcome, Trial, level, rounding, same

HUGE = 2.0**40


def zero(trial: Trial) -> Iterator[Outcome]:
    """A cotangent of zeros gives a gradient of zeros."""
    nothing = [np.zeros_like(output) for output in trial.outputs]
    found = trial.subject.backward(trial.inputs, nothing)
    # where the gradient of any cotangent is not finite, 0 times that is not either
    expected: Gradients = [
        None if g is None or zeroed is None or g.shape != zeroed.shape else np.where(np.isfinite(g), 0, zeroed)
        for g, zeroed in zip(trial.gradients, found, strict=True)
    ]
    exact = [np.zeros(()) for _ in found]
    if trial.finite:
        yield from same(trial, "cotangent-zero", found, expected, "is not 0 for a cotangent of zeros", exact)


def sign(trial: Trial) -> Iterator[Outcome]:
    """A cotangent of the other sign gives the gradient with the other sign."""
    found = trial.subject.backward(trial.inputs, [-c for c in trial.cotangents])
    words = "does not change its sign with its cotangent"
    yield from same(trial, "cotangent-sign", found, _scaled(trial.gradients, -1.0), words)


def scale(trial: Trial) -> Iterator[Outcome]:
    """A cotangent 2, 2**40 or 2**-40 times as large gives a gradient just as many times as large."""
    for factor, word in ((2.0, "2"), (HUGE, "2**40"), (1 / HUGE, "2**-40")):
        found = trial.subject.backward(trial.inputs, [c * np.asarray(factor, c.dtype) for c in trial.cotangents])
        allowed = [limit * factor for limit in trial.allowance]
        words = f"is not {word} times as large for a cotangent {word} times as large"
        outcomes = list(same(trial, "cotangent-scale", found, _scaled(trial.gradients, factor), words, allowed))
        yield from outcomes
        if any(outcome.failure for outcome in outcomes):
            return


def total(trial: Trial) -> Iterator[Outcome]:
    """The gradient for a sum of two cotangents is the sum of their gradients."""
    other = trial.drawn_cotangents()
    second = trial.subject.backward(trial.inputs, other)
    together = [one + two for one, two in zip(trial.cotangents, other, strict=True)]
    found = trial.subject.backward(trial.inputs, together)
    expected: Gradients = [
        a + b if a is not None and b is not None else (b if a is None else a)
        for a, b in zip(trial.gradients, second, strict=True)
    ]
    allowed = [
        limit * 2 + (0 if one is None else rounding(trial, one))
        for limit, one in zip(trial.allowance, second, strict=True)
    ]
    words = "for a sum of two cotangents is not the sum of their gradients"
    yield from same(trial, "cotangent-sum", found, expected, words, allowed)


def cotangent_layout(trial: Trial) -> Iterator[Outcome]:
    """The memory layout of the cotangent does not matter: stride 0 as from `sum`, transposed, every second element."""
    ones = [np.ones_like(output) for output in trial.outputs]
    repeated = [np.lib.stride_tricks.as_strided(np.ones(1, o.dtype), o.shape, (0,) * o.ndim) for o in trial.outputs]
    expected = trial.subject.backward(trial.inputs, ones)
    for given, right, words in (
        (repeated, expected, "differs for a cotangent of stride 0, as the gradient of a sum is"),
        ([transposed(c) for c in trial.cotangents], trial.gradients, "differs for a cotangent in transposed memory"),
        ([spread(c) for c in trial.cotangents], trial.gradients, "differs for a cotangent that is not contiguous"),
    ):
        found = trial.subject.backward(trial.inputs, given)
        allowed = [
            limit + (0 if g is None else rounding(trial, g)) + level(trial, g)
            for limit, g in zip(trial.allowance, right, strict=True)
        ]
        yield from same(trial, "cotangent-layout", found, right, words, allowed)


def _scaled(gradients: Gradients, factor: float) -> Gradients:
    return [None if g is None else g * np.asarray(factor, g.dtype) for g in gradients]
