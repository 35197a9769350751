"""What a run met: regimes, layers, losses, reductions, dtypes and pairs of them, each where something could be told.

A case counts where a comparison could have told a wrong value from rounding. A layer has been met where such a gradient
came back through it: in the look from the inputs all layers behind the place of a gradient, step by step that one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import msgspec

from gradconform.conformance.compare import Look
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.rotation import Rotation
from gradconform.conformance.summary import Arrays, Summary
from gradconform.conformance.sums import added
from gradconform.layers import Dense
from gradconform.network import Network
from gradconform.notation import LAYERS, LOSSES

Axis = Literal["regime", "layer", "loss", "reduction", "dtype"]
AXES: tuple[Axis, ...] = get_args(Axis)
PLURALS: dict[Axis, str] = {
    "regime": "regimes",
    "layer": "layers",
    "loss": "losses",
    "reduction": "reductions",
    "dtype": "dtypes",
}
PAIRS: tuple[tuple[Axis, Axis], ...] = (
    ("layer", "regime"),
    ("layer", "loss"),
    ("layer", "dtype"),
    ("loss", "regime"),
    ("loss", "reduction"),
    ("loss", "dtype"),
)
"""The pairs that are counted: bugs hide in what a layer or a loss does under one condition."""
FEW = 5
"""More than this are counted and not named."""
Values = dict[Axis, tuple[str, ...]]
Cell = tuple[str, ...]
"""An axis and a value on it, or two of each."""


class Covered(msgspec.Struct, kw_only=True):
    """In how many cases of one implementation something could be told: by axis and value, and by pair.

    0: it is declared, or was given, and was never met so. What the implementation refused in every case is left out.
    """

    implementation: str
    values: dict[str, dict[str, int]]
    pairs: dict[str, dict[str, dict[str, int]]]
    """By the pair, as in `layer x regime`, the first value and the second one."""
    missing: list[str] = []
    """What the run had to meet and did not, as in `regime tiny`."""
    refused: list[str] = []
    """What the implementation refused in every case that asked for it, pairs as in `layer ELU regime tiny`."""
    untold: list[str] = []
    """What was compared where nothing could be told."""

    def __add__(self, other: Covered) -> Covered:
        """Return what was met in either of two parts of a run."""
        told = {" ".join(cell) for entry in (self, other) for cell, cases in entry.cells.items() if cases}
        untold = {*self.untold, *other.untold} - told
        refused = {*self.refused, *other.refused} - told - untold
        values = {
            axis: {
                value: cases
                for value, cases in added(self.values.get(axis, {}), other.values.get(axis, {})).items()
                if f"{axis} {value}" not in refused
            }
            for axis in dict.fromkeys((*self.values, *other.values))
        }
        pairs: dict[str, dict[str, dict[str, int]]] = {}
        for pair in dict.fromkeys((*self.pairs, *other.pairs)):
            one, two = pair.split(" x ")
            mine, its = self.pairs.get(pair, {}), other.pairs.get(pair, {})
            pairs[pair] = {
                row: {
                    value: cases
                    for value, cases in added(mine.get(row, {}), its.get(row, {})).items()
                    if refused.isdisjoint({f"{one} {row}", f"{two} {value}", f"{one} {row} {two} {value}"})
                }
                for row in dict.fromkeys((*mine, *its))
            }
        return Covered(
            implementation=self.implementation,
            values=values,
            pairs={pair: {row: cells for row, cells in rows.items() if cells} for pair, rows in pairs.items()},
            missing=[
                text
                for text in dict.fromkeys((*self.missing, *other.missing))
                if self._lacks(text) and other._lacks(text)
            ],
            refused=sorted(refused),
            untold=sorted(untold),
        )

    def _lacks(self, text: str) -> bool:
        """Return whether what a part has to meet is missing in this one too, or was not to be met in it at all."""
        axis, _, value = text.partition(" ")
        return text in self.missing or (value not in self.values.get(axis, {}) and text not in self.refused)

    @property
    def cells(self) -> dict[Cell, int]:
        """All values and pairs, flat: (axis, value) and (axis, value, axis, value)."""
        flat: dict[Cell, int] = {
            (axis, value): cases for axis, values in self.values.items() for value, cases in values.items()
        }
        for pair, rows in self.pairs.items():
            one, other = pair.split(" x ")
            flat |= {(one, first, other, second): cases for first, row in rows.items() for second, cases in row.items()}
        return flat


def uncovered(coverage: Iterable[Covered]) -> list[str]:
    """Return what was to be met and was not, and what to do."""
    return [f"{text}; raise --max-examples or --max-time" for text in missing_texts(coverage)]


def missing_texts(coverage: Iterable[Covered]) -> list[str]:
    """Return what was to be met and was not, a sentence for all implementations that lack the same."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for entry in coverage:
        if entry.missing:
            lacking.setdefault(tuple(entry.missing), []).append(entry.implementation)
    texts = []
    for missing, names in lacking.items():
        counts = Counter(text.partition(" ")[0] for text in missing)
        counted = [f"{counts[axis]} {PLURALS[axis] if counts[axis] > 1 else axis}" for axis in AXES if counts[axis]]
        what = ", ".join(missing if len(missing) <= FEW else counted)
        texts.append(f"{', '.join(names)}: nothing could be told of {what}")
    return texts


class Coverage:
    """Counts what the cases of one implementation met."""

    def __init__(self) -> None:
        self._met: Counter[Where] = Counter()
        """How many cases were met so, and could tell."""
        self._compared: set[Where] = set()
        self._refused: set[Where] = set()
        self._shows_steps = False

    def count(self, network: Network, regime: str, dtype: str, summary: Summary) -> None:
        """Add a case that was compared; `regime` is empty where its numbers were not drawn from one."""
        names, loss, reduction = _words(network)
        where = Where(frozenset(names), loss, reduction, regime, dtype)
        self._compared.add(where)
        self._shows_steps = self._shows_steps or "local" in summary.looks
        layers, tells, loss_told = _told(network, summary.arrays, tuple(summary.telling))
        if tells and loss_told and len(layers) == len(names):
            self._met[where] += 1
        elif tells:
            seen = frozenset(names[index] for index in layers)
            self._met[where._replace(layers=seen, loss=loss if loss_told else "")] += 1

    def refuse(self, network: Network, regime: str, dtype: str) -> None:
        """Add a case that the implementation does not support."""
        names, loss, reduction = _words(network)
        self._refused.add(Where(frozenset(names), loss, reduction, regime, dtype))

    def covered(self, name: str, rotation: Rotation, dtypes: Sequence[str], required: Iterable[Axis]) -> Covered:
        """Return what was met of what is drawn, and what of it is missing where it is `required`.

        What was refused in every case that asked for it is nobody's to meet.
        """
        told: Counter[Cell] = Counter()
        for where, cases in self._met.items():
            told.update(dict.fromkeys(_cells(where), cases))
        supported, refused = _cells_of(self._compared), _cells_of(self._refused)
        asked = supported | refused
        drawn, pairs = _declared(rotation, asked, dtypes)
        given_up = refused - supported
        owed = {
            (axis, value)
            for axis in required
            for value in drawn[axis]
            if (axis, value) not in told and self._owes((axis, value), supported, refused)
        }
        return Covered(
            implementation=name,
            values={
                axis: {value: told[axis, value] for value in drawn[axis] if (axis, value) not in given_up}
                for axis in AXES
                if drawn[axis]
            },
            pairs={
                f"{one} x {other}": _rows(
                    [cell for cell in pairs[one, other] if given_up.isdisjoint({cell, cell[:2], cell[2:]})], told
                )
                for one, other in PAIRS
                if pairs[one, other]
            },
            missing=[f"{axis} {value}" for axis in AXES for value in drawn[axis] if (axis, value) in owed],
            refused=sorted(" ".join(cell) for cell in given_up),
            untold=sorted(" ".join(cell) for cell in supported if cell not in told),
        )

    def _owes(self, cell: Cell, supported: Collection[Cell], refused: Collection[Cell]) -> bool:
        """Return whether a value in which nothing could be told was to be met.

        Of what an implementation refuses now and then nothing is promised. One that shows gradients alone may have no
        network in which an extreme regime could be told: it has to have been compared there.
        """
        return cell not in refused and (self._shows_steps or cell[0] != "regime" or cell not in supported)


@lru_cache(maxsize=4096)
def _told(network: Network, arrays: Arrays, telling: tuple[bool, ...]) -> tuple[set[int], bool, bool]:
    return told(network, itertools.compress(arrays, telling))


def told(network: Network, telling: Iterable[tuple[Look, str, str]]) -> tuple[set[int], bool, bool]:
    """Return through which layers a gradient came back that could tell, whether anything could, and of the loss.

    telling: the arrays, by look, check and path, of which an element could have told a wrong value from rounding.
    """
    end = len(network.layers)
    first, steps, loss, tells = end, set[int](), False, False
    for look, _, path in telling:
        tells, place = True, _place(path)
        if place is None:
            loss = loss or path == "loss"
        elif place == OUTPUT_DELTA:
            loss = True
        elif look == "local":
            steps.add(place)
        else:
            first, loss = min(first, place), True
    return {*range(first, end), *(step for step in steps if step < end)}, tells, loss


OUTPUT_DELTA = -1
"""The place of the loss, behind all layers."""


@lru_cache(maxsize=1024)
def _place(path: str) -> int | None:
    """Return the first layer through which a gradient has come back; None for what is no gradient."""
    if path == "input":
        return 0
    if path == "output delta":
        return OUTPUT_DELTA
    if path.startswith("delta ") and path[6:].isdecimal():
        return int(path[6:]) + 1
    number, dot, _ = path.partition(".")
    return int(number) if dot and number.isdecimal() else None


@lru_cache(maxsize=1024)
def _words(network: Network) -> tuple[tuple[str, ...], str, str]:
    """Return the names of the layers in their order, of the loss and of its reduction."""
    return tuple(type(layer).__name__ for layer in network.layers), type(network.loss).__name__, network.loss.reduction


class Where(NamedTuple):
    """In what a case counts; an empty word counts in nothing."""

    layers: frozenset[str]
    loss: str
    reduction: str
    regime: str
    dtype: str


def _cells_of(several: Iterable[Where]) -> set[Cell]:
    return {cell for where in several for cell in _cells(where)}


@lru_cache(maxsize=4096)
def _cells(where: Where) -> tuple[Cell, ...]:
    """Return all values and pairs that a case counts in."""
    values: dict[Axis, list[str]] = {
        "regime": [where.regime],
        "layer": list(where.layers),
        "loss": [where.loss],
        "reduction": [where.reduction],
        "dtype": [where.dtype],
    }
    values = {axis: [word for word in words if word] for axis, words in values.items()}
    single = [(axis, word) for axis in AXES for word in values[axis]]
    double = [(one, first, other, second) for one, other in PAIRS for first in values[one] for second in values[other]]
    return (*single, *double)


def _declared(
    rotation: Rotation, asked: set[Cell], dtypes: Sequence[str]
) -> tuple[Values, dict[tuple[Axis, Axis], list[Cell]]]:
    """Return the values and pairs that are drawn: those of the rotation, or of the networks that were given."""
    regimes = tuple(REGIMES) if any(cell[0] == "regime" for cell in asked) else ()
    losses = [options[0] for options in rotation.losses]
    drawn: Values = {"regime": regimes, "layer": (), "loss": (), "reduction": (), "dtype": tuple(dtypes)}
    possible: set[Cell] | None = None
    if losses:
        kinds = {Dense.__name__, *(type(options[0]).__name__ for options in rotation.layers)}
        drawn["layer"] = tuple(name for name in LAYERS if name in kinds)
        drawn["loss"] = tuple(name for name in LOSSES if name in {type(loss).__name__ for loss in losses})
        drawn["reduction"] = tuple(dict.fromkeys(loss.reduction for loss in losses))
        possible = {("loss", type(loss).__name__, "reduction", loss.reduction) for loss in losses}
    else:
        drawn["layer"] = tuple(name for name in LAYERS if ("layer", name) in asked)
        drawn["loss"] = tuple(name for name in LOSSES if ("loss", name) in asked)
        drawn["reduction"] = tuple(sorted({cell[1] for cell in asked if cell[0] == "reduction"}))
    pairs: dict[tuple[Axis, Axis], list[Cell]] = {
        (one, other): [(one, first, other, second) for first in drawn[one] for second in drawn[other]]
        for one, other in PAIRS
    }
    together: set[tuple[Axis, Axis]] = {("loss", "reduction")} if losses else {("loss", "reduction"), ("layer", "loss")}
    for pair in together:
        # not every one of them is drawn with every other
        pairs[pair] = [cell for cell in pairs[pair] if cell in (possible if possible is not None else asked)]
    return drawn, pairs


def _rows(cells: Sequence[Cell], counts: Mapping[Cell, int]) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for cell in cells:
        rows.setdefault(cell[1], {})[cell[3]] = counts[cell]
    return rows
