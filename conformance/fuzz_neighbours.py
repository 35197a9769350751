"""Neighbours of a network: other networks that differ from it in one thing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gradconform.layers import GELU, Dense, LeakyReLU
from gradconform.losses import REDUCTIONS
from gradconform.network import Network
from gradconform.notation import LAYERS, LOSSES

WIDEST = 64
TRIES = 40
"""So many changes are tried for each neighbour that is wanted."""

ACTIVATIONS: tuple[Any, ...] = (
    *(kind() for kind in LAYERS.values() if kind is not Dense),
    LeakyReLU(0.25),
    GELU(approximate="tanh"),
)


def neighbours(
    network: Network, rng: random.Random, count: int, allowed: Callable[[Network], bool] = lambda network: True
) -> list[Network]:
    """Return up to `count` different networks near `network`, of those that are allowed; fewer where there are few."""
    found = dict.fromkeys(itertools.islice(_changed(network, rng, allowed), count * TRIES))
    found.pop(network, None)
    return list(found)[:count]


def _changed(network: Network, rng: random.Random, allowed: Callable[[Network], bool]) -> Iterator[Network]:
    while True:
        change = rng.choice(CHANGES)
        try:
            other = _mended(change(network, rng))
        except (ValueError, IndexError):  # what was changed does not fit, or is not there
            other = network
        yield other if allowed(other) else network


def _mended(network: Network) -> Network:
    """Return the network with what its loss needs: another class beside the ignored one."""
    last = max(index for index, layer in enumerate(network.layers) if isinstance(layer, Dense))
    if getattr(network.loss, "ignore_index", None) == 0 and network.widths[-1] == 1:
        return _with_layers(network, [*network.layers[:last], Dense(2), *network.layers[last + 1 :]])
    return network


def _with_layers(network: Network, layers: list[Any]) -> Network:
    return Network(inputs=network.inputs, layers=tuple(layers), loss=network.loss)


def _dense(network: Network) -> list[int]:
    return [index for index, layer in enumerate(network.layers) if isinstance(layer, Dense)]


def _width(network: Network, rng: random.Random) -> Network:
    index = rng.choice([-1, *_dense(network)])
    layer = network.layers[index]
    old = network.inputs if index < 0 or not isinstance(layer, Dense) else layer.units
    new = min(WIDEST, max(1, rng.choice([old - 1, old + 1, 2 * old, old // 2, 1, rng.randint(1, 16)])))
    if index < 0 or not isinstance(layer, Dense):
        return Network(inputs=new, layers=network.layers, loss=network.loss)
    layers = list(network.layers)
    layers[index] = Dense(new, layer.bias)
    return _with_layers(network, layers)


def _bias(network: Network, rng: random.Random) -> Network:
    index = rng.choice(_dense(network))
    layers, layer = list(network.layers), network.layers[index]
    layers[index] = Dense(network.widths[index + 1], not getattr(layer, "bias", True))
    return _with_layers(network, layers)


def _activation(network: Network, rng: random.Random) -> Network:
    index = rng.choice([index for index, layer in enumerate(network.layers) if not isinstance(layer, Dense)])
    layers = list(network.layers)
    layers[index] = rng.choice(ACTIVATIONS)
    return _with_layers(network, layers)


def _more(network: Network, rng: random.Random) -> Network:
    layers = list(network.layers)
    new = rng.choice([Dense(rng.randint(1, 16)), *rng.sample(ACTIVATIONS, 2)])
    layers.insert(rng.randint(0, len(layers)), new)
    return _with_layers(network, layers)


def _less(network: Network, rng: random.Random) -> Network:
    layers = list(network.layers)
    del layers[rng.randrange(len(layers))]
    if not any(isinstance(layer, Dense) for layer in layers):
        return network
    return _with_layers(network, layers)


def _swap(network: Network, rng: random.Random) -> Network:
    layers = list(network.layers)
    one = rng.randrange(len(layers) - 1) if len(layers) > 1 else 0
    layers[one : one + 2] = reversed(layers[one : one + 2])
    return _with_layers(network, layers)


def _reduction(network: Network, rng: random.Random) -> Network:
    loss = msgspec.structs.replace(network.loss, reduction=rng.choice(REDUCTIONS))
    return Network(inputs=network.inputs, layers=network.layers, loss=loss)


def _loss(network: Network, rng: random.Random) -> Network:
    loss: Any = rng.choice(list(LOSSES.values()))(reduction=network.loss.reduction)
    layers = list(network.layers)
    if loss.follows and not isinstance(layers[-1], loss.follows):
        layers.append(loss.follows[0]())
    return Network(inputs=network.inputs, layers=tuple(layers), loss=loss)


CHANGES: tuple[Callable[[Network, random.Random], Network], ...] = (
    _width,
    _width,
    _bias,
    _activation,
    _more,
    _less,
    _swap,
    _reduction,
    _loss,
)
