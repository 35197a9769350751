"""The relation checks: an implementation is held against itself, on variations of a case.

From the reference they take only how much rounding may explain; one that does not apply compares nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradconform.case import Array, Case
from gradconform.conformance.compare import Comparison, Kind, compare_array, compare_values
from gradconform.conformance.properties import register
from gradconform.conformance.situation import Situation, Subject
from gradconform.layers import Dense
from gradconform.losses import LossRecord, SoftmaxCrossEntropy
from gradconform.reference.bounded import Bounded

ORDER = 1 + 1e-9
"""By how much a bound may depend on the order in which it is itself added up."""


@register("delta-rows", relation=True)
def _delta_rows(subject: Subject) -> list[Comparison]:
    """The output delta of a softmax cross entropy adds up to 0 over the classes of each sample."""
    network = subject.case.network
    last = len(network.layers) - 1
    if not isinstance(network.loss, SoftmaxCrossEntropy):
        return []
    delta = subject.actual().deltas.get(last)
    if delta is not None:
        found = compare_array("delta-rows", "output delta", subject.expected().deltas[last], delta)
        if found.kind not in {Kind.PASS, Kind.WRONG}:
            return [found]
        return [relate("delta-rows", "output delta", delta, 0 * delta, subject.expected().deltas[last], axis=1)]
    bias = subject.actual().parameters.get(f"{last}.bias")
    if bias is None:
        return []
    bound = subject.expected().parameters[f"{last}.bias"]
    return [relate("delta-rows", f"{last}.bias", bias, 0 * bias, bound, axis=0)]


@register("batch-permutation", relation=True)
def _batch_permutation(subject: Subject) -> list[Comparison]:
    """The order of the samples does not matter."""
    case = subject.case
    if case.batch.rows == 1:
        return []
    order = np.roll(np.arange(case.batch.rows)[::-1], 1)
    varied = subject.situation.vary("batch-permutation", partial(take, order))
    return _same("batch-permutation", subject, varied, lambda path, gradient: gradient, permuted=True)


@register("class-permutation", relation=True)
def _class_permutation(subject: Subject) -> list[Comparison]:
    """The order of the output units, in the last layer and the targets alike, does not matter."""
    network = subject.case.network
    dense = [index for index, layer in enumerate(network.layers) if isinstance(layer, Dense)]
    classes = network.widths[-1]
    ignored = getattr(network.loss, "ignore_index", None)
    if not dense or classes == 1 or (ignored is not None and 0 <= ignored < classes):
        return []
    order = np.roll(np.arange(classes), 1)
    varied = subject.situation.vary("class-permutation", lambda case: _permute_classes(case, dense[-1], order))

    def in_order(path: str, gradient: Array) -> Array:
        return gradient[..., order] if path.startswith(f"{dense[-1]}.") else gradient

    return _same("class-permutation", subject, varied, in_order, permuted=True)


@register("sum-of-samples", relation=True)
def _sum_of_samples(subject: Subject) -> list[Comparison]:
    """The gradient of a batch is the weighted sum of the gradients of its single samples."""
    case = subject.case
    rows = case.batch.rows
    if rows == 1:
        return []
    counted = shares(case, subject.implementation.described(case.network).loss)
    total = {path: np.zeros(shape, np.longdouble) for path, shape in case.network.parameters().items()}
    slack = {path: np.zeros(shape) for path, shape in case.network.parameters().items()}
    chosen = np.flatnonzero(counted).tolist()
    for row, single in zip(chosen, single_samples(subject.situation, chosen), strict=True):
        gradients, bounds = subject.actual(single).parameters, subject.expected(single).parameters
        for path in bounds:
            part = counted[row] * np.asarray(gradients[path], np.longdouble)
            with np.errstate(invalid="ignore"):  # inf - inf, where the arithmetic overflows
                total[path] = total[path] + part
            # the sum over the samples is ours: its rounding is allowed for
            own = 2 * rows * np.finfo(np.longdouble).eps * np.abs(part).astype(np.float64)
            slack[path] = slack[path] + float(counted[row]) * bounds[path].error + own
    actual, expected = subject.actual().parameters, subject.expected().parameters
    return [relate("sum-of-samples", path, actual[path], total[path], expected[path], slack[path]) for path in total]


@register("sample-twice", relation=True)
def _sample_twice(subject: Subject) -> list[Comparison]:
    """A single sample that stands twice in a batch gives the same mean, and twice the sum."""
    case = subject.case
    if case.batch.rows > 1:
        return []
    varied = subject.situation.vary("twice", partial(take, np.zeros(2, np.int64)))
    factor = 1 if subject.implementation.described(case.network).loss.averages else 2
    return _same("sample-twice", subject, varied, lambda path, gradient: factor * gradient, factor)


@register("cotangent-linearity", relation=True)
def _cotangent_linearity(subject: Subject) -> list[Comparison]:
    """The gradient is linear in the cotangent of the loss: scaled by -2, and split into two parts."""
    cotangent = subject.case.batch.cotangent
    if cotangent is None:
        return []

    def times(factor: Array, case: Case) -> Case:
        return replace(case, batch=replace(case.batch, cotangent=cotangent * factor))

    two = cotangent.dtype.type(2)
    even = (np.arange(cotangent.size).reshape(cotangent.shape) % 2).astype(cotangent.dtype)
    factors = {"scaled": -two, "even": even, "odd": 1 - even}
    makes = {f"cotangent {name}": partial(times, factor) for name, factor in factors.items()}
    scaled, *parts = subject.situation.vary_together(makes)
    comparisons = _same("cotangent-linearity", subject, scaled, lambda path, gradient: -two * gradient, 2)
    if cotangent.size > 1:
        first, second = (subject.actual(part).parameters for part in parts)
        first_bound, second_bound = (subject.expected(part).parameters for part in parts)
        actual, expected = subject.actual().parameters, subject.expected().parameters
        for path, bound in expected.items():
            with np.errstate(invalid="ignore"):  # inf - inf, where the arithmetic overflows
                total = np.asarray(first[path], np.longdouble) + np.asarray(second[path], np.longdouble)
            slack = first_bound[path].error + second_bound[path].error
            comparisons.append(relate("cotangent-linearity", path, actual[path], total, bound, slack))
    return comparisons


def single_samples(situation: Situation, rows: Sequence[int]) -> list[Situation]:
    """Return the variations of a situation that have one of the given samples alone."""
    return situation.vary_together({f"sample {row}": partial(take, slice(row, row + 1)) for row in rows})


def take(rows: Array | slice, case: Case) -> Case:
    """Return the case of the given samples alone, in the given order."""
    return replace(case, batch=case.batch.take(rows))


def _same(
    check: str,
    subject: Subject,
    varied: Situation | None,
    change: Callable[[str, Array], Array],
    factor: float = 1,
    *,
    permuted: bool = False,
) -> list[Comparison]:
    """Compare the gradients of a variation with those of the case after `change`, which scales by `factor`.

    `permuted`: what is bounded are the same sums in another order, for which the bound of the case holds as well.
    """
    if varied is None:
        return []
    actual, varied_actual = subject.actual().parameters, subject.actual(varied).parameters
    expected = subject.expected().parameters
    with np.errstate(all="ignore"):  # what overflows here is infinite in both
        changed = {path: change(path, np.asarray(actual[path])) for path in expected}
    varied_expected = subject.expected(varied).parameters if not permuted else _changed(expected, change)
    return [
        relate(
            check,
            path,
            varied_actual[path],
            changed[path],
            varied_expected[path],
            factor * change(path, bound.error) if factor == 1 else factor * bound.error,
        )
        for path, bound in expected.items()
    ]


def _changed(expected: Mapping[str, Bounded], change: Callable[[str, Array], Array]) -> dict[str, Bounded]:
    return {
        path: Bounded(change(path, bound.value), ORDER * change(path, bound.error), bound.m)
        for path, bound in expected.items()
    }


def relate(
    check: str,
    path: str,
    one: object,
    other: Array,
    bound: Bounded,
    more: Any = 0.0,
    axis: int | None = None,
) -> Comparison:
    """Compare two results of the same implementation; each may be off by its own bound."""
    wide = np.asarray(one, bound.value.dtype)
    error = bound.error + more
    if axis is not None:
        wide, other, error = wide.sum(axis=axis), np.asarray(other).sum(axis=axis), error.sum(axis=axis)
    with np.errstate(all="ignore"):
        related = Bounded(np.asarray(other, bound.value.dtype), error, bound.m)
        # what is not finite on both sides is the agreement checks' business
        related.error = np.where(np.isfinite(wide) & np.isfinite(related.value), related.error, np.inf)
    # by what constant they differ says nothing of a formula
    return replace(compare_values(check, path, related, wide), factor=None)


def shares(case: Case, loss: LossRecord) -> Array:
    """Return by how much each single sample's gradient counts in the batch's: 0 for ignored samples.

    `loss`: the one that is computed, which may not be the network's own.
    """
    batch = case.batch
    counts = np.ones(batch.rows, np.longdouble)
    if batch.targets.ndim == 1:
        counts[batch.targets == getattr(loss, "ignore_index", None)] = 0
        if batch.class_weights is not None and loss.averages:
            kept = counts > 0
            counts[kept] = batch.class_weights[batch.targets[kept]]
    return counts / counts.sum() if loss.averages else counts


def _permute_classes(case: Case, dense: int, order: Array) -> Case:
    batch, inverse = case.batch, np.argsort(order)
    targets = batch.targets
    if targets.ndim == 2:
        targets = targets[:, order]
    else:
        kept = targets != getattr(case.network.loss, "ignore_index", None)
        targets = np.where(kept, inverse[np.where(kept, targets, 0)], targets)
    cotangent = batch.cotangent
    if cotangent is not None and cotangent.ndim == 2:
        cotangent = cotangent[:, order]
    weights = None if batch.class_weights is None else batch.class_weights[order]
    parameters = {
        path: array[..., order] if path.startswith(f"{dense}.") else array for path, array in case.parameters.items()
    }
    permuted = replace(batch, targets=targets, class_weights=weights, cotangent=cotangent)
    return Case(case.network, parameters, permuted)
