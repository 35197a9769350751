"""What is drawn of layers and losses: every kind with its options, and what of them an implementation declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gradconform import notation
from gradconform.capabilities import Capabilities
from gradconform.layers import (
    ELU,
    GELU,
    Dense,
    Layer,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    Reduction,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network

Kind = TypeVar("Kind")

BATCH_SIZES = (2, 1, 3, 5, 7)
"""Two first, where Hypothesis shrinks to: with one sample, everything that goes wrong over the batch goes unseen."""

REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")
"""What is drawn where it is declared. The mean over the rows alone is, where nothing else is."""

LAYER_OPTIONS: dict[type[Layer], tuple[Layer, ...]] = {
    Tanh: (Tanh(),),
    Sigmoid: (Sigmoid(),),
    ReLU: (ReLU(),),
    LeakyReLU: tuple(map(LeakyReLU, (0.01, 0.25, 0.5))),
    ELU: tuple(map(ELU, (1.0, 0.5, 2.0))),
    Softplus: (Softplus(),),
    SiLU: (SiLU(),),
    GELU: (GELU(), GELU(approximate="tanh")),
    Softmax: (Softmax(),),
}
"""The activations that are drawn, with their options; the simplest first."""

LOSS_OPTIONS: dict[type[Loss], tuple[Loss, ...]] = {
    MeanSquaredError: tuple(MeanSquaredError(reduction=reduction) for reduction in REDUCTIONS),
    SoftmaxCrossEntropy: tuple(
        SoftmaxCrossEntropy(reduction=reduction, label_smoothing=smoothing, ignore_index=ignored)
        # most have neither
        for smoothing in (0.0, 0.0, 0.1, 0.5, 1.0)
        for ignored in (None, None, -100, 0)
        for reduction in REDUCTIONS
    ),
    CrossEntropy: tuple(CrossEntropy(reduction=reduction) for reduction in REDUCTIONS),
    SigmoidCrossEntropy: tuple(SigmoidCrossEntropy(reduction=reduction) for reduction in REDUCTIONS),
    BinaryCrossEntropy: tuple(BinaryCrossEntropy(reduction=reduction) for reduction in REDUCTIONS),
    Huber: tuple(Huber(reduction=reduction, delta=delta) for delta in (1.0, 0.1, 2.5) for reduction in REDUCTIONS),
}
"""The same of losses."""


def layer_options(capabilities: Capabilities) -> list[tuple[Layer, ...]]:
    """Return the activations that are declared, each entry with its options: as written, or all of them."""
    entries = [kind.__name__ for kind in LAYER_OPTIONS] if capabilities.layers is None else capabilities.layers
    # Dense has its own place
    return [_options(entry, notation.LAYERS, LAYER_OPTIONS) for entry in entries if entry != Dense.__name__]


def loss_options(capabilities: Capabilities) -> list[tuple[Loss, ...]]:
    """Return the same of losses, with the declared reductions where an entry states none.

    Where layers are declared and losses are not, these are the losses that need no other layer.
    """
    layers, entries = capabilities.layers, capabilities.losses
    if entries is None:
        # a loss on probabilities stands after a layer that must be declared
        declared = [
            kind for kind in LOSS_OPTIONS if layers is None or all(one.__name__ in layers for one in kind.follows)
        ]
        entries = tuple(kind.__name__ for kind in declared)
    chosen = [word for word in REDUCTIONS if word in capabilities.reductions] or capabilities.reductions
    several: list[tuple[Loss, ...]] = []
    for entry in entries:
        options = _options(entry, notation.LOSSES, LOSS_OPTIONS)
        if "integer" not in capabilities.labels and "ignore_index=" not in entry:
            # an ignored label is an integer one
            options = tuple(one for one in options if getattr(one, "ignore_index", None) is None)
        if "reduction=" not in entry:
            one_each = [option for option in options if option.reduction == options[0].reduction]
            options = tuple(msgspec.structs.replace(option, reduction=word) for option in one_each for word in chosen)
        several.append(options)
    return several


def finished(inputs: int, layers: Sequence[Layer], loss: Loss, logits: bool) -> Network:
    """Return a network that ends as its loss asks for; `logits`: in a dense layer, where the loss may stand anywhere.

    `layers` has a dense one. Where 0 is the ignored label, the last width is at least 2.
    """
    chosen: list[Any] = list(layers)
    if loss.follows and not isinstance(chosen[-1], loss.follows):
        chosen.append(loss.follows[0]())
    elif not loss.follows and logits:
        # a loss on logits mostly follows a dense layer
        while not isinstance(chosen[-1], Dense):
            chosen.pop()
    last = max(index for index, layer in enumerate(chosen) if isinstance(layer, Dense))
    if getattr(loss, "ignore_index", None) == 0 and chosen[last].units == 1:
        # the only class cannot be the ignored one: nothing would count
        chosen[last] = Dense(2, chosen[last].bias)
    return Network(inputs=inputs, layers=tuple(chosen), loss=loss)


def _options(
    entry: str, kinds: Mapping[str, type[Any]], known: Mapping[type[Kind], tuple[Kind, ...]]
) -> tuple[Kind, ...]:
    return (notation.parse_item(entry, kinds),) if "(" in entry else known[kinds[entry]]
