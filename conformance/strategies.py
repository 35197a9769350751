"""Hypothesis strategies for networks and examples. All are built without filtering, and shrink to little networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from gradconform.conformance.examples import Draw, Example, Labels, Layout
from gradconform.conformance.regimes import REGIMES
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
    REDUCTIONS,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network

BATCH_SIZES = (2, 1, 3, 5, 7)
"""Two first, where Hypothesis shrinks to: with one sample, everything that goes wrong over the batch goes unseen."""

DRAWS = 4
"""Cases per structure: a compiled gradient serves all of them."""

MAX_UNITS = 16
MAX_DENSE = 3
"""Small enough for the bound from inputs to gradients to catch a relative error of 1e-12 in float64."""

reductions = st.sampled_from(REDUCTIONS)

ACTIVATIONS: dict[type[Layer], st.SearchStrategy[Layer]] = {
    Tanh: st.just(Tanh()),
    Sigmoid: st.just(Sigmoid()),
    ReLU: st.just(ReLU()),
    LeakyReLU: st.sampled_from([0.01, 0.25, 0.5]).map(LeakyReLU),
    ELU: st.sampled_from([1.0, 0.5, 2.0]).map(ELU),
    Softplus: st.just(Softplus()),
    SiLU: st.just(SiLU()),
    GELU: st.sampled_from([GELU(), GELU(approximate="tanh")]),
    Softmax: st.just(Softmax()),
}

LOSSES: dict[type[Loss], st.SearchStrategy[Loss]] = {
    MeanSquaredError: st.builds(MeanSquaredError, reduction=reductions),
    SoftmaxCrossEntropy: st.builds(
        SoftmaxCrossEntropy,
        reduction=reductions,
        label_smoothing=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]),
        ignore_index=st.sampled_from([None, None, -100, 0]),
    ),
    CrossEntropy: st.builds(CrossEntropy, reduction=reductions),
    SigmoidCrossEntropy: st.builds(SigmoidCrossEntropy, reduction=reductions),
    BinaryCrossEntropy: st.builds(BinaryCrossEntropy, reduction=reductions),
    Huber: st.builds(Huber, reduction=reductions, delta=st.sampled_from([1.0, 0.1, 2.5])),
}


def draws() -> st.SearchStrategy[tuple[Draw, ...]]:
    """Return a strategy of the numbers of one example's cases, each in a regime of its own."""
    draw = st.builds(Draw, st.sampled_from(list(REGIMES)), st.integers(0, 2**32 - 1))
    several = st.lists(draw, min_size=DRAWS, max_size=DRAWS, unique_by=lambda one: one.regime)
    return several.map(tuple)


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    losses: st.SearchStrategy[Loss] | None = None,
    max_dense: int = MAX_DENSE,
    max_units: int = MAX_UNITS,
) -> Network:
    """Return a strategy of valid networks: up to `max_dense` dense layers with none to two activations after each.

    Widths are pairwise distinct, so that a transposed or swapped axis shows, except in one of four networks, where
    they are all equal, so that a wrong transpose that fits does.
    """
    loss = draw(losses if losses is not None else st.one_of(*LOSSES.values()))
    units = st.integers(1, max_units)
    activations = st.lists(st.one_of(*ACTIVATIONS.values()), max_size=2)
    block = st.tuples(units, st.sampled_from([True, True, True, False]), activations)
    blocks = draw(st.lists(block, min_size=1, max_size=max_dense, unique_by=lambda one: one[0]))
    inputs = draw(units)
    square = draw(st.sampled_from([False, False, False, True]))
    widths = {width for width, _, _ in blocks}
    while inputs in widths:
        inputs = inputs % (max_units + 1) + 1
    layers: list[Any] = []
    for width, bias, after in blocks:
        layers += [Dense(inputs if square else width, bias=bias), *after]
    if loss.follows and not isinstance(layers[-1], loss.follows):
        layers.append(loss.follows[0]())
    elif not loss.follows and draw(st.booleans()):
        # a loss on logits mostly follows a dense layer
        while not isinstance(layers[-1], Dense):
            layers.pop()
    last = max(index for index, layer in enumerate(layers) if isinstance(layer, Dense))
    if getattr(loss, "ignore_index", None) == 0 and layers[last].units == 1:
        # the only class cannot be the ignored one: nothing would count
        layers[last] = Dense(2, layers[last].bias)
    return Network(inputs=inputs, layers=tuple(layers), loss=loss)


@st.composite
def examples(
    draw: st.DrawFn,
    network: st.SearchStrategy[Network] | None = None,
    *,
    labels: Sequence[Labels] = get_args(Labels),
    class_weights: bool = True,
    layouts: bool = True,
) -> Example:
    """Return a strategy of examples: a network, a batch and the numbers of several cases.

    `labels`: the kinds that cross entropies are given. `class_weights`: whether some of them are given weights.
    `layouts`: whether arrays come in other memory orders than C.
    """
    chosen = draw(network if network is not None else networks())
    weighted = class_weights and isinstance(chosen.loss, SoftmaxCrossEntropy) and draw(st.booleans())
    kind: Labels = "integer"
    if chosen.loss.labels == "classes" and getattr(chosen.loss, "ignore_index", None) is None:
        kind = draw(st.sampled_from(labels))
    return Example(
        network=chosen,
        rows=draw(st.sampled_from(BATCH_SIZES)),
        draws=draw(draws()),
        labels=kind,
        class_weights=weighted,
        layout=draw(st.sampled_from(get_args(Layout))) if layouts else "C",
    )
