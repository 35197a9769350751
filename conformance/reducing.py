"""Making a case smaller, step by step, as long as a predicate says that it still shows the same.

It works on the arrays of a case, wherever they came from: what was drawn and what was given are made small alike. The
steps are tried in a fixed order, the big ones first; each leads to a case that is smaller, so that it ends by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import msgspec
import numpy as np

from gradconform.case import Array, Case
from gradconform.conformance.examples import lay_out
from gradconform.conformance.remaking import PATTERNS, made_anew, remade, valid
from gradconform.conformance.simple_numbers import complexity, simpler_numbers
from gradconform.layers import Dense, Layer
from gradconform.losses import Loss, MeanSquaredError
from gradconform.network import Network

ROUNDS = 2
"""How often all kinds of steps are gone through: simpler numbers may make a smaller network possible."""
SINGLES = 8
"""Of a larger batch, single samples are tried by halving it."""


@dataclass(frozen=True)
class Shown:
    """A case that shows the failure, and the layer in which it does; None where that is not one layer.

    `given`: its numbers are somebody's data, which become simpler and are not made up.
    """

    case: Case
    layer: int | None = None
    given: bool = False


Shows = Callable[[Case], Shown | None]
Allows = Callable[[Network], bool]
Step = Callable[[Shown], Iterator[Case]]


def reduced(shown: Shown, shows: Shows, allows: Allows) -> Shown:
    """Return the smallest case that is found.

    `shows`: looks at a case, and returns what it shows if that is the same. `allows`: whether a network may be.
    """
    tried: set[bytes] = set()
    for _ in range(ROUNDS):
        before = shown
        for step in (_networks, _rows, _options, _numbers):
            shown = _descended(shown, step, shows, allows, tried)
        if shown is before:
            break
    return shown


def _descended(shown: Shown, step: Step, shows: Shows, allows: Allows, tried: set[bytes]) -> Shown:
    """Take a kind of step again and again, as long as one of them shows the same."""
    while True:
        size = size_of(shown.case)
        for case in step(shown):
            if not allows(case.network) or size_of(case) >= size or (same := _fingerprint(case)) in tried:
                continue
            tried.add(same)
            found = shows(case)
            if found is not None:
                shown = found
                break
        else:
            return shown


def size_of(case: Case) -> tuple[float, ...]:
    """Return what is compared to tell which of two cases is smaller: the structure first, the numbers last."""
    network, batch = case.network, case.batch
    options = sum(layer != _plain(layer) for layer in network.layers)
    widths = network.inputs + sum(layer.units for layer in network.layers if isinstance(layer, Dense))
    arrays = _arrays(case)
    return (
        len(network.layers),
        sum(not isinstance(layer, Dense) for layer in network.layers),
        _loss_size(network.loss) + options + (batch.class_weights is not None) + _label_size(case),
        widths,
        batch.rows,
        sum(not array.flags.c_contiguous for array in arrays),
        sum(complexity(array) for array in arrays if array.dtype.kind not in "iu"),
    )


def _loss_size(loss: Loss) -> int:
    default = type(loss)()
    options: int = sum(getattr(loss, name) != getattr(default, name) for name in loss.__struct_fields__)
    return options + 2 * (not isinstance(loss, MeanSquaredError))


def _label_size(case: Case) -> int:
    if case.batch.labelled or case.network.loss.labels != "classes":
        return 0
    return 1 if bool(((case.batch.targets == 0) | (case.batch.targets == 1)).all()) else 2


# Networks.


def _networks(shown: Shown) -> Iterator[Case]:
    """Yield cases with fewer layers, or with narrower ones: little networks around the failing layer first."""
    case = shown.case
    losses = _losses(case.network.loss)
    little = [] if shown.given else list(_little(shown))
    for network in little:
        yield from made_anew(case, network, 2, 0)
    layers = list(range(len(case.network.layers)))
    without = [[index for index in layers if index != gone] for gone in layers if gone != shown.layer]
    for kept in (*_windows(shown), *filter(None, without)):
        for loss in losses:
            yield from remade(case, _network(case.network, kept, loss), kept)
    for loss in losses[:-1]:
        yield from remade(case, _network(case.network, layers, loss), layers)
    for network in _narrower(case.network):
        yield from remade(case, network, layers)
    for pattern in range(1, PATTERNS):
        for network in little:
            yield from made_anew(case, network, 2, pattern)


def _windows(shown: Shown) -> list[list[int]]:
    """Return the few layers around the failing one, by their indices, or those before the loss: the fewest first."""
    last = len(shown.case.network.layers) - 1
    if shown.layer is None:
        return [list(range(first, last + 1)) for first in range(last, max(-1, last - 3), -1)] + [[0]]
    at = shown.layer
    around = [[at], [at, at + 1], [at - 1, at], [at - 1, at, at + 1], [at, at + 1, at + 2]]
    return [window for window in around if window[0] >= 0 and window[-1] <= last]


def _losses(loss: Loss) -> list[Loss]:
    """Return the losses that may do, the simplest first, the loss itself last."""
    return list(dict.fromkeys([MeanSquaredError(), type(loss)(), loss]))


def _little(shown: Shown) -> Iterator[Network]:
    """Yield networks of the few layers around the failing one, with 2 units everywhere, or with 1 and 2 in turn."""
    network = shown.case.network
    for window in _windows(shown):
        layers = [network.layers[index] for index in window]
        alike = [layers]
        if shown.layer is not None and window[0] == shown.layer - 1 and not isinstance(layers[0], Dense):
            alike.insert(0, [Dense(1), *layers[1:]])
        for loss in _losses(network.loss):
            for chosen in alike:
                for inputs, units in ((2, 2), (2, 1), (1, 2)):
                    yield _network_of(chosen, loss, inputs, (units, inputs))


def _network(network: Network, kept: list[int], loss: Loss) -> Network:
    """Return the network with the layers `kept`, at least one, and the loss."""
    return _network_of([network.layers[index] for index in kept], loss, network.widths[kept[0]])


def _network_of(layers: Sequence[Layer], loss: Loss, inputs: int, units: Sequence[int] = ()) -> Network:
    """Return the network of the layers, with what the loss stands behind, and with `units` in turn in Dense layers."""
    chosen: list[Layer] = list(layers)
    turn = itertools.cycle(units)
    if loss.follows and not isinstance(chosen[-1], loss.follows):
        # the layers that losses ask for are layers, of which the losses know only that they are records
        chosen.append(cast("Layer", loss.follows[0]()))
    if units:
        chosen = [
            _plain(msgspec.structs.replace(layer, units=next(turn))) if isinstance(layer, Dense) else layer
            for layer in chosen
        ]
    return Network(inputs, tuple(chosen), loss)


def _narrower(network: Network) -> Iterator[Network]:
    """Yield the network with fewer units: all 1, all 2, then one layer after the other."""
    free = [-1, *(index for index, layer in enumerate(network.layers) if isinstance(layer, Dense))]
    for units in (1, 2):
        yield _widened(network, dict.fromkeys(free, units))
    for index in free:
        own = network.inputs if index < 0 else network.widths[index + 1]
        for units in dict.fromkeys((1, 2, own // 2, own - 1)):
            if 0 < units < own:
                yield _widened(network, {index: units})
                # square weights stay so where all that are as wide become narrower together
                equal = [other for other in free if network.widths[other + 1] == own]
                if len(equal) > 1:
                    yield _widened(network, dict.fromkeys(equal, units))


def _widened(network: Network, units: dict[int, int]) -> Network:
    layers = [
        msgspec.structs.replace(layer, units=units[index]) if index in units and isinstance(layer, Dense) else layer
        for index, layer in enumerate(network.layers)
    ]
    return Network(units.get(-1, network.inputs), tuple(layers), network.loss)


# Samples.


def _rows(shown: Shown) -> Iterator[Case]:
    """Yield the case with fewer samples: single ones, pairs, halves, all but one."""
    case, rows = shown.case, shown.case.batch.rows
    slices = []
    if rows <= SINGLES:
        slices += [slice(row, row + 1) for row in range(rows)]
        slices += [slice(row, row + 2) for row in range(rows - 1)]
    else:
        slices += [slice(0, 1), slice(rows - 1, rows), slice(0, 2)]
    slices += [slice(0, rows // 2), slice(rows // 2, rows), slice(0, rows - 1), slice(1, rows)]
    for part in slices:
        yield from valid(case.network, case.parameters, case.batch.take(part))


# Options.


def _options(shown: Shown) -> Iterator[Case]:
    """Yield the case with defaults in place of options: all of them at once, then one after the other."""
    case = shown.case
    network, batch = case.network, case.batch
    plain = Network(network.inputs, tuple(map(_plain, network.layers)), type(network.loss)())
    for simple in (plain, *_one_plain(network)):
        if simple != network:
            for bare in (replace(batch, class_weights=None), batch):
                yield from remade(replace(case, batch=bare), simple, list(range(len(network.layers))))
    if batch.class_weights is not None:
        yield from valid(network, case.parameters, replace(batch, class_weights=None))
    if not batch.labelled and network.loss.labels == "classes":
        labels = np.argmax(batch.targets, axis=1)
        for targets in (labels, np.eye(network.widths[-1], dtype=case.dtype)[labels]):
            yield from valid(network, case.parameters, replace(batch, targets=targets))
    if not all(array.flags.c_contiguous for array in _arrays(case)):
        yield _in_c_order(case)


def _one_plain(network: Network) -> Iterator[Network]:
    """Yield the network with one option of its loss, or one layer, as it is by default."""
    default = type(network.loss)()
    for name in network.loss.__struct_fields__:
        loss = msgspec.structs.replace(network.loss, **{name: getattr(default, name)})
        yield Network(network.inputs, network.layers, loss)
    for index, layer in enumerate(network.layers):
        layers = (*network.layers[:index], _plain(layer), *network.layers[index + 1 :])
        yield Network(network.inputs, layers, network.loss)


def _plain(layer: Layer) -> Layer:
    return Dense(layer.units) if isinstance(layer, Dense) else type(layer)()


# Numbers.


def _numbers(shown: Shown) -> Iterator[Case]:
    """Yield the case with simpler numbers: all of them anew, then rounded, array by array, element by element."""
    case = shown.case
    for pattern in range(0 if shown.given else PATTERNS):
        yield from made_anew(case, case.network, case.batch.rows, pattern)
    for values in simpler_numbers({**case.parameters, **_values(case)}):
        parameters = {path: lay_out(values[path], "C") for path in case.parameters}
        given = {name: lay_out(values[name], "C") for name in _values(case)}
        yield from valid(case.network, parameters, replace(case.batch, **given))


def _values(case: Case) -> dict[str, Array]:
    """Return the arrays of the batch that any numbers may stand in."""
    batch = case.batch
    values = {"inputs": batch.inputs, "class_weights": batch.class_weights, "cotangent": batch.cotangent}
    if case.network.loss.labels != "classes":
        values["targets"] = batch.targets
    return {name: array for name, array in values.items() if array is not None}


def _arrays(case: Case) -> list[Array]:
    return [*case.parameters.values(), *(array for array in vars(case.batch).values() if array is not None)]


def _in_c_order(case: Case) -> Case:
    given = {name: lay_out(array, "C") for name, array in vars(case.batch).items() if array is not None}
    parameters = {path: lay_out(array, "C") for path, array in case.parameters.items()}
    return Case(case.network, parameters, replace(case.batch, **given))


def _fingerprint(case: Case) -> bytes:
    """Return what tells two cases apart, their memory order included."""
    parts = [repr(case.network).encode()]
    for array in _arrays(case):
        parts += [f"{array.dtype}{array.shape}{array.flags.c_contiguous}".encode(), array.tobytes()]
    return b"|".join(parts)
