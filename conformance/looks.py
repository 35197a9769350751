"""The looks at one run of an implementation: what it gave, and what it is held against.

The *global* look goes from the inputs to each gradient. Where a run shows outputs and deltas, the *local* look holds
every step against the reference on the run's own values: one operation wide, however deep the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gradconform.case import Array, Case, Gradients
from gradconform.conformance.compare import Look, ratios
from gradconform.conformance.kinks import Resolution, resolve
from gradconform.dtypes import is_floating
from gradconform.reference.bounding import Site
from gradconform.reference.bounds import Expected
from gradconform.reference.losses import fused

Evaluate = Callable[..., Expected]

TITLES: dict[str, Callable[[Any], str]] = {
    "parameters": str,
    "outputs": lambda key: f"output {key}",
    "deltas": lambda key: f"delta {key}",
    "": str,
}
"""How what a run gives is called, by its kind, from its key there: as `quantities` has them."""


@dataclass(frozen=True, eq=False)
class View:
    """One run as one look sees it. `complete`: all parameters must be there."""

    look: Look
    against: Resolution
    actual: Gradients[Any]
    complete: bool = False


def views(
    case: Case,
    actual: Gradients[Any],
    evaluate: Evaluate,
    against: Callable[[Gradients[Any], Evaluate], Resolution],
    *,
    together: tuple[int, ...] = (),
) -> list[View]:
    """Return the views of what an implementation gave, the sharpest first.

    `evaluate(shown=, shares=)` gives the expected gradients of the case; `against` those of the choice at kinks with
    which a run is compared. Outputs and deltas may belong to another run than the rest: then each is viewed for
    itself. `together`: the shape of further axes before those of each array, for cases like this one.
    """
    run = actual.captured if actual.captured is not None else actual
    seen: list[View] = []
    shown = shown_steps(case, run, together)
    if shown.outputs or shown.deltas:
        seen.append(View("local", against(run, partial(evaluate, shown=shown)), run))
    if run is not actual:
        intermediate = Gradients({}, deltas=run.deltas, outputs=run.outputs)
        seen.append(View("global", against(run, evaluate), intermediate))
        actual = replace(actual, deltas={}, outputs={})
    seen.append(View("global", against(actual, evaluate), actual, complete=True))
    return seen


def resolved(
    measured: dict[str, float],
    as_shown: Callable[[Sequence[Site]], Sequence[Site]] | None,
    run: Gradients[Any],
    evaluate: Evaluate,
) -> Resolution:
    """Return what is expected with the choice at kinks that explains a run; new conventions go into `measured`.

    `as_shown`: gives the sites on the sides on which the run showed them; None where it did not.
    """
    expected = evaluate()
    given = quantities(run)
    # what can be compared: every array of the right shape and of floating-point numbers
    bounds = quantities(expected.gradients).items()
    arrays = {name: array for name, bound in bounds if (array := _usable(given.get(name), bound.shape)) is not None}

    def worst(expected: Expected) -> Array:
        bounds = quantities(expected.gradients)
        largest: Array = np.zeros(1)
        for name, array in arrays.items():
            found = ratios(bounds[name], array)
            own = tuple(range(found.ndim - array.ndim, found.ndim))
            largest = np.maximum(largest, found.max(axis=own, initial=0))
        return largest

    shown = None if as_shown is None or not expected.kinks else as_shown(expected.sites)
    return resolve(expected, lambda shares: evaluate(shares=shares), worst, measured, shown)


def quantities(found: Gradients[Any]) -> dict[tuple[str, Any], Any]:
    """Return all that a run may give, by its kind and its key."""
    kinds: dict[str, Mapping[Any, Any]] = {
        "parameters": found.parameters,
        "outputs": found.outputs,
        "deltas": found.deltas,
        "": {"loss": found.loss, "input": found.input},
    }
    return {(kind, key): value for kind, mapping in kinds.items() for key, value in mapping.items()}


def shown_steps(case: Case, run: Gradients[Any], together: tuple[int, ...] = ()) -> Gradients[Array]:
    """Return the outputs and deltas that can be gone on with.

    The probabilities under a cross entropy are none of them: many compute it, and its delta, from the logits.
    """
    rows, widths = case.batch.rows, case.network.widths
    steps = len(case.network.layers) - (fused(case.network) is not None)

    def usable(arrays: Mapping[int, Any]) -> dict[int, Array]:
        shapes = {index: (*together, rows, width) for index, width in enumerate(widths[1 : steps + 1])}
        found = {index: _usable(arrays.get(index), shape) for index, shape in shapes.items()}
        return {index: array for index, array in found.items() if array is not None and array.dtype == case.dtype}

    return Gradients({}, outputs=usable(run.outputs), deltas=usable(run.deltas))


def _usable(given: Any, shape: tuple[int, ...]) -> Array | None:
    if given is None:
        return None
    try:
        array = np.asarray(given)
    except Exception:  # the comparison of this very array says what is wrong with it
        return None
    return array if is_floating(array.dtype) and array.shape == shape else None
