"""What to do about failures that say themselves what is wrong: names, shapes, types, memory, calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradconform.conformance.compare import Kind
from gradconform.conformance.situation import CallFailed, Subject
from gradconform.layers import Dense

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
    Kind.NONDETERMINISTIC: (
        "nondeterministic",
        "the same call gives something else each time: randomness without a fixed seed, uninitialised memory, threads",
        "np.random.default_rng(0) inside the call; np.zeros, not np.empty",
    ),
    Kind.DTYPE: (
        "dtype",
        "the array has another type than the inputs: compute and return in the type of batch.inputs",
        "np.asarray(dw, dtype=batch.inputs.dtype), better no cast on the way at all",
    ),
}
NOTHING: Named = ("", "", "")


def advice(failure: Failure) -> Named:
    """Return the symptom, the sentence and the line of a failure of a kind that says what is wrong."""
    root = failure.root
    if root.kind in {Kind.SHAPE, Kind.NAME}:
        subject = Subject(failure.implementation, failure.situation)
        try:
            given = dict(subject.actual().parameters)
        except (CallFailed, NotImplementedError):
            return NOTHING
        return _shape(failure, given) if root.kind is Kind.SHAPE else _name(failure, given)
    return ADVICE.get(root.kind, NOTHING)


def _shape(failure: Failure, given: dict[Any, Any]) -> Named:
    expected = failure.case.network.parameters().get(failure.root.path)
    found = getattr(given.get(failure.root.path), "shape", None)
    if expected is None or found is None:
        return NOTHING
    rows = failure.case.batch.rows
    if len(expected) == 2 and found == expected[::-1]:
        return (
            "transposed-shape",
            "the gradient of the weight is (out, in): here weights are (in, out), with y = x @ weight + bias",
            "return dw.T, or declare the convention: gradients.conventions = ('transposed',)",
        )
    if found[1:] == expected and found[:1] == (rows,):
        return (
            "not-summed",
            "there is a gradient for each sample: add them up over the samples",
            "dw = per_sample.sum(axis=0)",
        )
    if (
        len(found) == len(expected) + 1
        and 1 in found
        and tuple(n for n in found if n != 1) == tuple(n for n in expected if n != 1)
    ):
        return (
            "kept-axis",
            "there is one axis of length 1 too many",
            "delta.sum(axis=0), without keepdims=True",
        )
    if len(found) == 1 and len(expected) == 2 and found[0] == expected[0] * expected[1]:
        return ("flattened", "the array is flat: return it in the shape of its parameter", "dw.reshape(w.shape)")
    return NOTHING


def _name(failure: Failure, given: dict[Any, Any]) -> Named:
    network = failure.case.network
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
    return ("wrong-names", "the gradients have other names than the parameters", f"use {', '.join(expected)}")
