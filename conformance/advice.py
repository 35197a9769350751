"""What to do about failures that say themselves what is wrong: names, shapes, types, memory, calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconform.case import Case, Gradients
from gradconform.conformance.compare import Kind
from gradconform.conformance.contract import after_another
from gradconform.conformance.fresh import cases_like
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.situation import CallFailed, Situation, Subject
from gradconform.layers import Dense
from gradconform.network import Network

if TYPE_CHECKING:
    from gradconform.conformance.findings import Failure

Named = tuple[str, str, str]

ADVICE: dict[Kind, Named] = {
    Kind.ALIASED: (
        "aliased",
        "what is returned is memory that is not its own: the caller's, or a buffer that the next call writes into",
        "return {path: array.copy() ...}",
    ),
    Kind.MUTATED: (
        "mutated",
        "what is handed over is written into: work on a copy",
        "x = x - x.mean(), not x -= x.mean(); np.array(x) before writing",
    ),
    Kind.STATEFUL: (
        "stateful",
        "something is kept from call to call, in a global, an attribute or a default argument: start each call anew",
        "",
    ),
    Kind.DTYPE: (
        "dtype",
        "the array has another type than the inputs: compute and return in the type of batch.inputs",
        "np.asarray(dw, dtype=batch.inputs.dtype), better no cast on the way at all",
    ),
}
NOTHING: Named = ("", "", "")


def advice(failure: Failure, bodies: Sequence[Network]) -> Named:
    """Return the symptom, the sentence and the line of a failure of a kind that says what is wrong.

    bodies: other networks that the implementation may be asked for.
    """
    root = failure.root
    if root.kind is Kind.SHAPE:
        return _shape(failure, bodies)
    if root.kind is Kind.NAME:
        return _name(failure)
    if root.kind is Kind.NONDETERMINISTIC or (root.kind is Kind.STATEFUL and not _depends(failure)):
        return _unsteady(failure)
    return ADVICE.get(root.kind, NOTHING)


CALLS = 8
"""So often the same call is made, to see whether it differs each time."""


def _depends(failure: Failure) -> bool:
    """Return whether calls with another batch change what comes after them, each time that they are made."""
    subject, path = Subject(failure.implementation, failure.situation), failure.root.path

    def alike(one: Gradients[Any], other: Gradients[Any]) -> bool:
        return np.array_equal(one.parameters[path], other.parameters[path], equal_nan=True)

    try:
        steady = subject.again(), subject.again()
        return not alike(*steady) or all(not alike(after_another(subject), subject.again()) for _ in range(2))
    except (CallFailed, NotImplementedError):
        return True


def _unsteady(failure: Failure) -> Named:
    """Return whether the same call differs each time, or now and then."""
    subject = Subject(failure.implementation, failure.situation)
    try:
        results = {np.asarray(subject.again().parameters[failure.root.path]).tobytes() for _ in range(CALLS)}
    except (CallFailed, NotImplementedError):
        return NOTHING
    if len(results) > 2:
        return (
            "nondeterministic",
            "the same call gives something else each time: randomness without a fixed seed, memory that is not filled, "
            "threads",
            "np.random.default_rng(0) inside the call; np.zeros, not np.empty",
        )
    return (
        "now-and-then",
        "one call gave something else than all the others of the same: something that counts calls, or that was left "
        "by what was called before",
        "look for what is kept between calls: a global, an attribute, a cache, a default argument",
    )


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Misshapen:
    """One array of the wrong shape, in a batch of so many rows."""

    expected: Shape
    found: Shape
    rows: int


SHAPES: tuple[tuple[Callable[[Misshapen], bool], Named], ...] = (
    (
        lambda one: len(one.expected) == 2 and one.found == one.expected[::-1],
        (
            "transposed-shape",
            "the gradient of the weight is (out, in): here weights are (in, out), with y = x @ weight + bias",
            "return dw.T, or declare the convention: gradients.conventions = ('transposed',)",
        ),
    ),
    (
        lambda one: one.found[:1] == (one.rows,) and one.found[1:] == one.expected,
        (
            "not-summed",
            "there is a gradient for each sample: add them up over the samples",
            "db = delta.sum(axis=0), not delta; dw = x.T @ delta",
        ),
    ),
    (
        lambda one: _long(one.found) == _long(one.expected) and len(one.found) > len(one.expected),
        (
            "kept-axis",
            "there is an axis of length 1 too many: keep the shape of the parameter",
            "delta.sum(axis=0), without keepdims=True",
        ),
    ),
    (
        lambda one: _long(one.found) == _long(one.expected) and len(one.found) < len(one.expected),
        (
            "squeezed",
            "an axis of length 1 is lost: keep the shape of the parameter",
            "no squeeze(), or dw.reshape(w.shape)",
        ),
    ),
    (
        lambda one: one.found == (math.prod(one.expected),),
        ("flattened", "the array is flat: return it in the shape of its parameter", "dw.reshape(w.shape)"),
    ),
)
"""What may have happened to a shape, the simplest first: it has to be so wherever a shape is wrong."""


def _long(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _shape(failure: Failure, bodies: Sequence[Network]) -> Named:
    """Return what happens to shapes, in the failing case and in others, where one alone may leave that open."""
    cases = [failure.case, *cases_like(failure.case, failure.implementation.capabilities, None, bodies)]
    wrong = [one for case in cases for one in _misshapen(failure.implementation, case)]
    return next((named for holds, named in SHAPES if wrong and all(map(holds, wrong))), NOTHING)


def _misshapen(implementation: Implementation, case: Case) -> Iterator[Misshapen]:
    try:
        given = Subject(implementation, Situation(case)).actual().parameters
    except (CallFailed, NotImplementedError):
        return
    for path, expected in case.network.parameters().items():
        found = getattr(given.get(path), "shape", expected)
        if found != expected:
            yield Misshapen(expected, found, case.batch.rows)


def _name(failure: Failure) -> Named:
    """Return what the names are that are returned in place of the parameters' paths."""
    network = failure.case.network
    try:
        given = Subject(failure.implementation, failure.situation).actual().parameters
    except (CallFailed, NotImplementedError):
        return NOTHING
    expected = list(network.parameters())
    dense = [index for index, layer in enumerate(network.layers) if isinstance(layer, Dense)]
    counted = {f"{number}.{name}" for number in range(len(dense)) for name in ("weight", "bias")}
    names = {str(name) for name in given}
    if not names:
        return (
            "nothing-returned",
            "the dictionary is empty: return the gradient of every parameter under its path",
            f"return {{{', '.join(f'{path!r}: ...' for path in expected)}}}",
        )
    if names <= counted and not names <= set(expected):
        return (
            "numbered-by-dense",
            "the layers with parameters are numbered on their own: paths count all layers, activations too",
            f"the paths here are {', '.join(expected)}",
        )
    missing = [path for path in expected if path not in names]
    if missing and names <= set(expected):
        return (
            "not-returned",
            f"no gradient is returned for {', '.join(missing)}",
            f"return {{..., {missing[0]!r}: ...}}",
        )
    if set(expected) < names:
        extra = ", ".join(sorted(names - set(expected)))
        return (
            "extra-names",
            f"more is returned than there are parameters: {extra}",
            f"return {', '.join(expected)} alone",
        )
    return ("wrong-names", "the gradients have other names than the parameters", f"use {', '.join(expected)}")
