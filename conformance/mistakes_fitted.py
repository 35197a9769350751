"""Mistakes with a number of their own, such as a factor of weight decay, which is read off what a candidate gave.

It is read in one case, and the mistake has to explain all the others with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from gradconform.case import Array, Case, Gradients
from gradconform.conformance.mistake import Mistake
from gradconform.conformance.mistakes_scale import POSITIONS, Constant, always, changed, multiplied, paths_of
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import Arithmetic

DIGITS = 3
"""Of so many digits are the numbers that people write down."""


def snapped(number: float, digits: int = DIGITS) -> float:
    """Return a number as a person would have written it, with a few digits."""
    return float(f"{number:.{digits - 1}e}") if np.isfinite(number) else number


def fitted(case: Case, right: Mapping[str, Array], given: Mapping[str, Array]) -> Iterator[Mistake]:
    """Yield the mistakes whose numbers are read off one case: what is right there, and what a candidate gave."""
    if not right or any(path not in given or given[path].shape != right[path].shape for path in right):
        return
    yield from _decayed(case, right, given)
    yield from _signed(case, right, given)
    yield from _clipped(right, given)
    yield from _constant(right, given)


def _decayed(case: Case, right: Mapping[str, Array], given: Mapping[str, Array]) -> Iterator[Mistake]:
    path = max((path for path in right if path.endswith("weight")), key=lambda path: right[path].size, default=None)
    if path is None:
        return
    weight = case.parameters[path].astype(np.float64)
    at = np.unravel_index(int(np.argmax(np.abs(weight))), weight.shape)
    if weight[at] == 0:
        return
    rate = snapped(float((given[path][at] - right[path][at]) / weight[at]))
    if not 0 < abs(rate) < 10:
        return
    for name, what in (("any", "all parameters"), ("weight", "the weights")):

        def finish(case: Case, found: Gradients[Value], k: Arithmetic, name: str = name) -> Gradients[Value]:
            paths = paths_of(case, name, POSITIONS[0])
            return changed(found, paths, lambda path, value: value + k.lift(case.parameters[path]) * rate)

        yield Mistake(
            "l2-added",
            f"a weight decay of {rate:g} is in the gradients of {what}: the loss has none, leave it out, or add it in "
            "the update",
            f"dw = x.T @ delta, not x.T @ delta + {rate:g} * w",
            finish=finish,
            claims=2,
        )


def _signed(case: Case, right: Mapping[str, Array], given: Mapping[str, Array]) -> Iterator[Mistake]:
    path = max(right, key=lambda path: right[path].size)
    at = np.unravel_index(int(np.argmax(np.abs(case.parameters[path]))), right[path].shape)
    sign = float(np.sign(case.parameters[path][at]))
    rate = snapped(float(given[path][at] - right[path][at]) * sign)
    if not 0 < abs(rate) < 10:
        return

    def finish(case: Case, found: Gradients[Value], k: Arithmetic) -> Gradients[Value]:
        return changed(
            found, list(found.parameters), lambda path, value: value + k.lift(np.sign(case.parameters[path])) * rate
        )

    yield Mistake(
        "l1-added",
        f"{rate:g} times the sign of the parameters is in the gradients: the loss has no such penalty",
        f"dw = x.T @ delta, not x.T @ delta + {rate:g} * np.sign(w)",
        finish=finish,
        claims=3,
    )


def _clipped(right: Mapping[str, Array], given: Mapping[str, Array]) -> Iterator[Mistake]:
    limit = snapped(max(float(np.abs(array).max(initial=0)) for array in given.values()))
    if not 0 < limit < max(float(np.abs(array).max(initial=0)) for array in right.values()):
        limit = 0.0

    def clip(_case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value]:
        # limiting is exact, and moves no value further than its error moves it
        return changed(found, list(found.parameters), lambda path, value: limited(value, limit))

    if limit:
        yield Mistake(
            "clipped",
            f"gradients are clipped to [-{limit:g}, {limit:g}]: clip in the update, after they are returned",
            f"return dw, not np.clip(dw, -{limit:g}, {limit:g})",
            finish=clip,
            claims=2,
        )
    norm = snapped(float(np.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in given.values()))))
    for together in (True, False):
        least = norm if together else snapped(max(float(np.linalg.norm(array)) for array in given.values()))
        if not 0 < least < np.inf:
            continue

        def by_norm(
            _case: Case, found: Gradients[Value], _k: Arithmetic, least: float = least, together: bool = together
        ) -> Gradients[Value]:
            squares = {path: (value * value).sum() for path, value in found.parameters.items()}
            total = sum(squares.values())

            def shrink(path: str, value: Value) -> Value:
                square = total if together else squares[path]
                size = float(np.asarray(getattr(square, "value", square))) ** 0.5
                return value * (least / size) if size > least else value

            return changed(found, list(found.parameters), shrink)

        yield Mistake(
            "clipped",
            f"gradients are scaled down to a norm of {least:g}{'' if together else ' each'}: clip in the update, after "
            "they are returned",
            "return dw, not dw * min(1, limit / norm)",
            finish=by_norm,
            claims=2,
        )


def limited(value: Value, limit: float) -> Value:
    """Return a value limited to +-limit, its bound unchanged."""
    if isinstance(value, np.ndarray | np.generic):
        return np.clip(value, -limit, limit)
    return type(value)(np.clip(value.value, -limit, limit), value.error, value.m)


def _constant(right: Mapping[str, Array], given: Mapping[str, Array]) -> Iterator[Mistake]:
    for name, what in (("any", ""), ("weight", " of the weights"), ("bias", " of the biases")):
        paths = [path for path in right if name == "any" or path.endswith(name)]
        path = max(paths, key=lambda path: float(np.abs(right[path]).max(initial=0)), default=None)
        if path is None:
            continue
        at = np.unravel_index(int(np.argmax(np.abs(right[path]))), right[path].shape)
        factor = snapped(float(given[path][at] / right[path][at])) if right[path][at] else 0.0
        # what has a name is in the table
        if not 0 < abs(factor) < np.inf or factor in {1.0, -1.0, 2.0, 0.5} or factor in {2.0**n for n in range(7, 17)}:
            continue
        constant = Constant(f"{factor:g}", always(factor))
        yield Mistake(
            "constant-factor",
            f"the gradients{what} are {factor:g} times what they should be, whatever the batch and the network",
            finish=multiplied(constant, name, POSITIONS[0]),
            claims=5,
        )
