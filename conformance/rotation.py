"""What a run draws next: regimes, losses and activations in rotation, so that few networks meet all of them.

Hypothesis draws an example; the rotation puts in it what its turn it is. The turn follows from the number of a network
in the run alone, so that a round does the same whatever was run before it, and in whatever process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from gradconform.capabilities import Capabilities, Labels
from gradconform.conformance.choices import BATCH_SIZES, finished, layer_options, loss_options
from gradconform.conformance.examples import Draw, Example
from gradconform.layers import Dense, Layer, Softmax
from gradconform.losses import Loss, SoftmaxCrossEntropy
from gradconform.network import Network

EACH = 2
"""So many activations are put into a structure, in place of its own."""
AS_DRAWN = 7
"""Of so many structures the first keeps the activations that it was drawn with: none of them, often."""

ONE_CLASS = 11
"""Of so many structures the last may have a softmax over one class, as may those that stay as they were drawn."""


@dataclass(frozen=True)
class Rotation:
    """The regimes, the losses by kind and reduction, and the activations by kind, each with its options, in turn.

    `losses` and `layers` are empty where the networks are given: then they stay as they are. `labels` and
    `class_weights`: what a loss that is put in place of another may be given. `rows`: the sizes of batches, in turn;
    empty: they are as drawn.
    """

    regimes: tuple[str, ...]
    losses: tuple[tuple[Loss, ...], ...] = ()
    layers: tuple[tuple[Layer, ...], ...] = ()
    labels: tuple[Labels, ...] = ("integer",)
    class_weights: bool = False
    rows: tuple[int, ...] = ()

    def turned(self, example: Example, structure: int, network: int) -> Example:
        """Return an example with what its turn it is, for a structure and its first network by their numbers."""
        turned = in_regimes(example, [self._regime(network + index) for index in range(len(example.draws))])
        if not self.losses:
            return turned
        if self.rows:
            turned = replace(turned, rows=self.rows[structure % len(self.rows)])
        rng = Random(example.draws[0].seed)  # noqa: S311 - it chooses among options
        turned = self._with_loss(turned, self.losses[structure % len(self.losses)], rng)
        if structure % AS_DRAWN == 0:
            return turned
        if self.layers:
            turned = self._with_layers(turned, self._activations(structure), rng)
        one_class = structure % ONE_CLASS == ONE_CLASS - 1
        return turned if one_class else replace(turned, network=_with_classes(turned.network))

    def _regime(self, network: int) -> str:
        return self.regimes[network % len(self.regimes)]

    def _activations(self, structure: int) -> list[tuple[Layer, ...]]:
        """Return which activations are next: after each turn of all losses and layers others meet the same losses."""
        start = EACH * structure + structure // math.lcm(len(self.losses), len(self.layers))
        return [self.layers[(start + index) % len(self.layers)] for index in range(min(EACH, len(self.layers)))]

    def _with_loss(self, example: Example, options: Sequence[Loss], rng: Random) -> Example:
        network = example.network
        if network.loss in options:
            return example
        loss = rng.choice(options)
        free = loss.labels == "classes" and getattr(loss, "ignore_index", None) is None
        return replace(
            example,
            network=finished(network.inputs, network.layers, loss, logits=rng.random() < 0.5),
            labels=rng.choice(self.labels) if free else "integer",
            class_weights=self.class_weights and isinstance(loss, SoftmaxCrossEntropy) and rng.random() < 0.5,
        )

    def _with_layers(self, example: Example, wanted: Sequence[Sequence[Layer]], rng: Random) -> Example:
        network = example.network
        layers: list[Any] = list(network.layers)
        kinds = [type(options[0]) for options in wanted]
        for options, kind in zip(wanted, kinds, strict=True):
            if any(isinstance(layer, kind) for layer in layers):
                continue
            # what a loss stands after stays
            end = len(layers) - bool(network.loss.follows)
            free = [index for index in range(end) if not isinstance(layers[index], (Dense, *kinds))]
            if free:
                layers[rng.choice(free)] = rng.choice(options)
            else:
                dense = [index for index, layer in enumerate(layers) if isinstance(layer, Dense)]
                layers.insert(rng.choice(dense) + 1, rng.choice(options))
        return replace(example, network=Network(network.inputs, tuple(layers), network.loss))


def _with_classes(network: Network) -> Network:
    """Return a network in which no softmax is taken over one class: its gradient is 0, and below it nothing is told."""
    layers: list[Any] = list(network.layers)
    over = network.loss.labels == "classes"
    widths = {network.inputs, *(layer.units for layer in layers if isinstance(layer, Dense))}
    for index in reversed(range(len(layers))):
        layer = layers[index]
        over = over or isinstance(layer, Softmax)
        if isinstance(layer, Dense):
            if over and layer.units == 1:
                # as no other width, so that what is transposed shows
                units = next(width for width in itertools.count(2) if width not in widths)
                widths.add(units)
                layers[index] = Dense(units, layer.bias)
            over = False
    return Network(network.inputs, tuple(layers), network.loss)


def rotation_of(capabilities: Capabilities, seed: int, names: Sequence[str], *, given: bool) -> Rotation:
    """Return the rotation over what is declared, in an order of the seed; `given`: over the regimes alone.

    names: the regimes.
    """
    rng = Random(f"{seed}/rotation")  # noqa: S311 - it shuffles
    # a run begins with the simplest numbers, and the simplest network, which has the first loss
    simplest, *regimes = names
    rng.shuffle(regimes)
    regimes = [simplest, *regimes]
    if given or capabilities.networks:
        return Rotation(tuple(regimes))
    layers = list(_by_kind(layer_options(capabilities)).values())
    losses = [_by_reduction(options) for options in _by_kind(loss_options(capabilities)).values()]
    rng.shuffle(layers)
    first, *others = losses
    rng.shuffle(others)
    losses = [first, *others]
    turns = [
        one[(turn + index) % len(one)] for turn in range(max(map(len, losses))) for index, one in enumerate(losses)
    ]
    rows = BATCH_SIZES if capabilities.samples == "batch" else ()
    return Rotation(tuple(regimes), tuple(turns), tuple(layers), capabilities.labels, capabilities.class_weights, rows)


def in_regimes(example: Example, regimes: Sequence[str]) -> Example:
    """Return the example with other regimes for the numbers of its cases."""
    draws = [Draw(regime, draw.seed) for draw, regime in zip(example.draws, regimes, strict=True)]
    return replace(example, draws=tuple(draws))


def _by_kind(entries: Sequence[tuple[Any, ...]]) -> Mapping[type[Any], tuple[Any, ...]]:
    kinds: dict[type[Any], tuple[Any, ...]] = {}
    for options in entries:
        kinds[type(options[0])] = (*kinds.get(type(options[0]), ()), *options)
    return kinds


def _by_reduction(options: Sequence[Loss]) -> list[tuple[Loss, ...]]:
    reductions = dict.fromkeys(option.reduction for option in options)
    return [tuple(option for option in options if option.reduction == reduction) for reduction in reductions]
