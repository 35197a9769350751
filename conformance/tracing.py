"""The textbook's table of one case, every implementation beside the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradconform.case import Array, Case, Gradients
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import REFERENCE, Implementation
from gradconform.conformance.situation import CallFailed, Situation, Subject
from gradconform.conformance.wrapping import columns, filled
from gradconform.layers import Dense, Sigmoid
from gradconform.losses import SoftmaxCrossEntropy
from gradconform.network import Network
from gradconform.notation import to_notation
from gradconform.reference.backpropagation import gradients
from gradconform.reference.bounded import Bounded
from gradconform.reference.trace import trace

NETWORK = Network(2, (Dense(3), Sigmoid(), Dense(2)), SoftmaxCrossEntropy())
"""What is traced if nothing else is asked for."""
MOST_ELEMENTS = 24
"""Of a larger array only the first elements are shown."""
NARROWEST, WIDEST = 8, 16
"""Columns of a number: its digits are cut to what the width of the output leaves."""
RATIO = 12
LABEL, NARROW_LABEL, SHORTEST_LABEL = 28, 16, 12
"""Columns of an index, on wide and on narrow outputs."""


def trace_text(network: Network, implementations: Sequence[Implementation], seed: int, rows: int, dtype: str) -> str:
    """Return the table; an implementation that gives nothing for the case is told above it."""
    example = Example(network, rows, (Draw("ordinary", seed),))
    situation = Situation(example.case(example.draws[0], dtype))
    case = situation.case
    subjects = [Subject(entry, situation) for entry in implementations if entry.name != REFERENCE]
    found: dict[str, Gradients[Any]] = {}
    lines = [*filled(to_notation(network)), *filled(f"batch {rows}, {dtype}, seed {seed}; targets {_targets(case)}")]
    for subject in subjects:
        try:
            found[subject.implementation.name] = subject.actual()
        except CallFailed as failure:
            lines += filled(f"{subject.implementation.name}: {failure.comparison.detail}")
        except NotImplementedError as error:
            lines += filled(f"{subject.implementation.name}: not supported: {error}")
    table = _Table([REFERENCE, *found])
    lines += table.legend()
    expected = situation.expected(subjects[0].implementation).gradients if subjects else None
    reference = gradients(case.network, case.parameters, case.batch)
    for layer in trace(case.network, case.parameters, case.batch, reference):
        lines += ["", *table.header(f"layer {layer.index}  {_name(network, layer.index)}")]
        for name, values in layer.quantities():
            place = (layer.index, name)
            others = [_pick(case, given, place) for given in found.values()]
            bound = None if expected is None else _pick(case, expected, place)
            lines += table.quantity(name, values, others, bound, single=rows == 1)
    lines += ["", *table.header("cost")]
    others = [given.loss for given in found.values()]
    bound = None if expected is None else expected.loss
    lines += table.quantity("C", np.asarray(reference.loss), others, bound, single=False)
    return "\n".join(lines)


def _pick(case: Case, given: Gradients[Any], place: tuple[int, str]) -> Any:
    """Return one of the textbook's quantities from what an implementation gave; None where it did not give it."""
    index, name = place
    if name == "incoming activation dz/dw":
        return case.batch.inputs if index == 0 else given.outputs.get(index - 1)
    if name in {"pre-activation z", "activation a"}:
        return given.outputs.get(index)
    if name == "sigma'(z)":
        return _slope(given.input if index == 0 else given.deltas.get(index - 1), given.deltas.get(index))
    if name in {"delta dC/dz", "dC/da"}:
        return given.deltas.get(index)
    if name in {"dC/dw", "dC/db"}:
        return given.parameters.get(f"{index}.{'weight' if name == 'dC/dw' else 'bias'}")
    return None


def _slope(below: Any, above: Any) -> Array | None:
    """Return an implementation's own sigma'(z): its dC/dz over its dC/da, unknown where that is 0."""
    if not isinstance(below, np.ndarray) or not isinstance(above, np.ndarray):
        return None
    with np.errstate(all="ignore"):
        return below / above


class _Table:
    """Rows of a label, a number for each implementation, and the largest error / bound."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.label = LABEL if columns() >= LABEL + RATIO + WIDEST * len(names) else NARROW_LABEL
        if columns() < self.label + RATIO + NARROWEST * len(names):
            self.label = SHORTEST_LABEL
        room = columns() - self.label - RATIO
        self.width = max(NARROWEST, min(WIDEST, room // len(names)))
        # a name that is wider than its column is not cut: a letter stands for it
        self.titles = [
            name if len(name) < self.width else f"({chr(ord('a') + number)})" for number, name in enumerate(names)
        ]

    def legend(self) -> Iterator[str]:
        """Yield what stands for whom."""
        yield from (f"{title}  {name}" for title, name in zip(self.titles, self.names, strict=True) if title != name)

    def header(self, title: str) -> Iterator[str]:
        if len(title) >= self.label:
            yield title
            title = ""
        names = "".join(f"{name:>{self.width}}" for name in self.titles)
        ratio = f"{'error/bound':>{RATIO}}" if len(self.names) > 1 else ""
        yield f"{title:<{self.label}}{names}{ratio}"

    def quantity(self, name: str, values: Array, others: Sequence[Any], bound: Any, *, single: bool) -> Iterator[str]:
        """Yield the rows of one quantity; with a `single` sample its index is left out."""
        yield f"  {name}"
        given = []
        for who, other in zip(self.names[1:], others, strict=True):
            fits = other is not None and np.shape(other) == values.shape
            given.append(other if fits else None)
            if other is not None and not fits:
                yield from filled(f"    {who}: shape {np.shape(other)} where {values.shape} is expected")
        others = given
        ratios = self._ratios(others, bound)
        for count, index in enumerate(np.ndindex(values.shape)):
            if count == MOST_ELEMENTS:
                yield f"    ... and {values.size - count:,} more"
                return
            shown = index[1:] if single and name not in {"dC/dw", "dC/db"} else index
            label = f"    [{', '.join(map(str, shown))}]" if shown else "    "
            numbers = [values[index], *(None if other is None else np.asarray(other)[index] for other in others)]
            cells = "".join(self._cell(number) for number in numbers)
            ratio = "" if ratios is None else f"{ratios[index]:>{RATIO}.1g}"
            yield f"{label:<{self.label}}{cells}{ratio}".rstrip()

    def _cell(self, number: Any) -> str:
        if number is None:
            return f"{'-':>{self.width}}"
        digits = self.width - 2
        for precision in range(digits, 0, -1):
            text = f"{number:.{precision}g}"
            if len(text) < self.width:
                return f"{text:>{self.width}}"
        return f"{number:>{self.width}.0e}"

    def _ratios(self, others: Sequence[Any], bound: Bounded | None) -> Array | None:
        given = [other for other in others if other is not None]
        if not given or not isinstance(bound, Bounded):
            return None
        with np.errstate(all="ignore"):
            errors = [np.abs(np.asarray(other, bound.value.dtype) - bound.value) for other in given]
            ratios = np.max(errors, axis=0).astype(np.float64) / bound.error
        return np.where(np.isfinite(bound.error) & (bound.error > 0), ratios, 0.0)


def _name(network: Network, index: int) -> str:
    return to_notation(network).rpartition(", ")[0].split(" -> ")[index + 1]


def _targets(case: Case) -> str:
    return np.array2string(case.batch.targets, precision=4, separator=", ", threshold=12).replace("\n", "")
