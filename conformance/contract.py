"""The contract checks: the same call gives the same result, whatever was called before it.

What one call alone can break (names, shapes, dtypes, writing into inputs, sharing memory) is found where it is made,
in `gradconform.conformance.guard`, and where arrays are compared.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from gradconform.case import Array, Case, Gradients
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.properties import register
from gradconform.conformance.relations import relate, shares, single_samples
from gradconform.conformance.situation import Subject

AGAIN = "the same call again gives something else"


@register("repeatable", relation=True)
def _repeatable(subject: Subject) -> list[Comparison]:
    """The same call gives the same gradients again."""
    first, second = subject.actual(), subject.again()
    comparisons = _held("repeatable", subject, first, second)
    failed = next((entry for entry in comparisons if not entry.passed), None)
    if failed is None:
        return comparisons
    return [_explained(failed, subject, [first, second, subject.again(), subject.again()])]


@register("stateless", relation=True)
def _stateless(subject: Subject) -> list[Comparison]:
    """Calls with other batches in between, one of another size and one of the same, change nothing."""
    first = subject.actual()
    if subject.case.batch.rows > 1:
        _call_smaller(subject)
    comparisons = _held("stateless", subject, first, after_another(subject))
    failed = next((entry for entry in comparisons if not entry.passed), None)
    if failed is None:
        return comparisons
    results = [first, after_another(subject), subject.again(), subject.again()]
    kind, why = Kind.STATEFUL, "calls with other batches in between change it"
    third, fourth = (result.parameters[failed.path] for result in results[2:])
    if not np.array_equal(third, fourth, equal_nan=True):
        kind, why = Kind.NONDETERMINISTIC, AGAIN
    return [replace(failed, kind=kind, detail=f"{why}: {_values(failed, results)}")]


def _held(check: str, subject: Subject, first: Gradients[Any], second: Gradients[Any]) -> list[Comparison]:
    """Compare two results of the same call: each may be off by its own bound."""
    expected = subject.expected().parameters
    return [
        relate(check, path, second.parameters[path], np.asarray(first.parameters[path]), bound, bound.error)
        for path, bound in expected.items()
    ]


def _explained(failed: Comparison, subject: Subject, results: list[Gradients[Any]]) -> Comparison:
    """Return the comparison with what it comes from: what was called before, or nothing that can be told."""
    arrays = [np.asarray(result.parameters[failed.path], np.longdouble) for result in results]
    error = subject.expected().parameters[failed.path].error
    slack = 8 * error + 8 * float(np.finfo(np.float64).eps) * np.abs(arrays[-1])

    def same(one: Array, other: Array) -> bool:
        return bool(np.all(np.abs(one - other) <= slack))

    def asked_again() -> Array:
        return np.asarray(subject.again().parameters[failed.path], np.longdouble)

    def changed_by_another() -> bool:
        """Return whether a call with another batch, of the same size or of another, changes what comes after it."""
        after = [after_another(subject)]
        if subject.case.batch.rows > 1:
            after.append(_after_smaller(subject))
        return any(not same(np.asarray(one.parameters[failed.path], np.longdouble), arrays[3]) for one in after)

    with np.errstate(all="ignore"):
        # other calls lie between the first and the second
        clear = bool(np.any(np.abs(arrays[2] - arrays[1]) > 8 * slack))
        if clear and same(arrays[3] - arrays[2], arrays[2] - arrays[1]):
            why, kind = "every further call adds the same: something is not set to 0 between calls", Kind.STATEFUL
        elif clear and _in_proportion([*arrays[1:], asked_again()], slack):
            why, kind = "every further call adds a share of what the one before added: it is kept", Kind.STATEFUL
        elif np.array_equal(arrays[3], arrays[2], equal_nan=True) and changed_by_another():
            why, kind = "it changes after a call with another batch: something of that call is used", Kind.STATEFUL
        else:
            why, kind = AGAIN, Kind.NONDETERMINISTIC
    return replace(failed, kind=kind, detail=f"{why}: {_values(failed, results)}")


def after_another(subject: Subject) -> Gradients[Any]:
    """Return the gradients right after a call with another batch of the same size."""
    subject.again(subject.situation.vary("other values", _other_values))
    return subject.again()


def _call_smaller(subject: Subject) -> None:
    """Call with a single sample of the batch, one that counts."""
    row = int(np.flatnonzero(shares(subject.case, subject.case.network.loss))[0])
    subject.again(single_samples(subject.situation, [row])[0])


def _after_smaller(subject: Subject) -> Gradients[Any]:
    """Return the gradients right after a call with a single sample of the batch."""
    _call_smaller(subject)
    return subject.again()


def _in_proportion(arrays: list[Array], slack: Array) -> bool:
    """Return whether each difference of successive results is a share of the one before, the same in all elements."""
    differences = [later - earlier for earlier, later in itertools.pairwise(arrays)]
    at = np.unravel_index(int(np.argmax(np.abs(differences[0]))), differences[0].shape)
    share = differences[1][at] / differences[0][at]
    pairs = itertools.pairwise(differences)
    return bool(0 < share < 1 and all(np.all(np.abs(two - share * one) <= 4 * slack) for one, two in pairs))


def _values(failed: Comparison, results: list[Gradients[Any]]) -> str:
    """Return the worst element in each of several results."""
    index = failed.worst.index if failed.worst is not None else ()
    values = [float(np.asarray(result.parameters[failed.path])[index]) for result in results]
    place = f"[{', '.join(map(str, index))}]" if index else ""
    # as many digits as it takes to see that they differ
    digits = next((digits for digits in (6, 9, 12) if len({f"{value:.{digits}g}" for value in values}) > 1), 17)
    first, *rest = (f"{value:.{digits}g}" for value in values)
    return f"{failed.path}{place} was {first} at first, and {', '.join(rest)} in calls in a row"


def _other_values(case: Case) -> Case:
    """Return the case with other inputs, in a batch of the same size."""
    return replace(case, batch=replace(case.batch, inputs=case.batch.inputs * case.batch.inputs.dtype.type(-0.5)))
