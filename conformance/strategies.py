"""Hypothesis strategies for networks and examples. All are built without filtering, and shrink to little networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st

from gradconform.capabilities import LABELS, Capabilities, Labels
from gradconform.conformance.choices import (
    BATCH_SIZES,
    LAYER_OPTIONS,
    LOSS_OPTIONS,
    finished,
    layer_options,
    loss_options,
)
from gradconform.conformance.examples import Draw, Example, Layout
from gradconform.conformance.focus import EVERYTHING_DRAWN, Focus
from gradconform.conformance.regimes import REGIMES
from gradconform.layers import Dense, Layer
from gradconform.losses import Loss, SoftmaxCrossEntropy
from gradconform.network import Network
from gradconform.templates import Template, parse_template

DRAWS = 4
"""Cases per structure: a compiled gradient serves all of them."""

MAX_UNITS = 16
MAX_DENSE = 3
"""Small enough for the bound from inputs to gradients to catch a relative error of 1e-12 in float64."""

LOSSES: dict[type[Loss], st.SearchStrategy[Loss]] = {
    kind: st.sampled_from(options) for kind, options in LOSS_OPTIONS.items()
}


def draws(count: int = DRAWS, regimes: Sequence[str] = ()) -> st.SearchStrategy[tuple[Draw, ...]]:
    """Return a strategy of the numbers of one example's cases, each in a regime of its own.

    `regimes`: the only ones; where they are fewer than the cases, they come again, with other seeds. All come from one
    seed, of which 0, to which Hypothesis shrinks, means the first regimes in their order.
    """

    def drawn(seed: int) -> tuple[Draw, ...]:
        rng = np.random.default_rng(seed)
        names = list(regimes or REGIMES)
        order = names if seed == 0 else [str(name) for name in rng.permutation(names)]
        return tuple(Draw(name, int(rng.integers(2**32))) for name in itertools.islice(itertools.cycle(order), count))

    return st.integers(0, 2**32 - 1).map(drawn)


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    layers: st.SearchStrategy[Layer] | None = None,
    losses: st.SearchStrategy[Loss] | None = None,
    bias: bool | None = None,
    max_dense: int = MAX_DENSE,
    max_units: int = MAX_UNITS,
) -> Network:
    """Return a strategy of valid networks: up to `max_dense` dense layers with none to two activations after each.

    `layers`: the activations, `st.nothing()` for none; a loss on probabilities is given what it stands after. `bias`:
    whether all dense layers have one, or none; None: most of them have.

    Widths are pairwise distinct, so that a transposed or swapped axis shows, except in one of four networks, where
    they are all equal, so that a wrong transpose that fits does.
    """
    loss = draw(losses if losses is not None else st.one_of(*LOSSES.values()))
    units = st.integers(1, max_units)
    one = st.one_of(*map(st.sampled_from, LAYER_OPTIONS.values())) if layers is None else layers
    activations = st.lists(one, max_size=0 if one.is_empty else 2)
    block = st.tuples(units, st.sampled_from([True, True, True, False] if bias is None else [bias]), activations)
    blocks = draw(st.lists(block, min_size=1, max_size=max_dense, unique_by=lambda one: one[0]))
    inputs = draw(units)
    square = draw(st.sampled_from([False, False, False, True]))
    logits = draw(st.booleans())  # whatever the loss is: fewer choices would seem to be a smaller network
    widths = {width for width, _, _ in blocks}
    while inputs in widths:
        inputs = inputs % (max_units + 1) + 1
    chosen: list[Any] = []
    for width, biased, after in blocks:
        chosen += [Dense(inputs if square else width, bias=biased), *after]
    return finished(inputs, chosen, loss, logits)


def templates(template: Template, *, max_units: int = MAX_UNITS) -> st.SearchStrategy[Network]:
    """Return a strategy of the networks that fit a template.

    As with `networks`, widths mostly differ from each other, in one of four networks they are all equal, and 1 is one
    of them. Where 0 is the ignored label, the last width is at least 2.
    """
    count = len(template.free)
    if not count:
        return st.just(template.network)
    units = list(range(1, max_units + 1))
    one = st.sampled_from(units)
    different = st.lists(one, min_size=count, max_size=count, unique=count <= max_units)
    equal = one.map(lambda width: [width] * count)

    def fill(widths: Sequence[int]) -> Network:
        widths = list(widths)
        if getattr(template.network.loss, "ignore_index", None) == 0 and template.filled(widths).widths[-1] == 1:
            widths[-1] = 2
        return template.filled(widths)

    return st.one_of(different, different, different, equal).map(fill)


def declared_networks(
    capabilities: Capabilities, *, max_dense: int = MAX_DENSE, max_units: int = MAX_UNITS
) -> st.SearchStrategy[Network]:
    """Return a strategy of the networks that are declared: of a fixed architecture, or of layers and losses."""
    if capabilities.networks:
        return st.one_of(*(templates(parse_template(text), max_units=max_units) for text in capabilities.networks))
    layers = [st.sampled_from(options) for options in layer_options(capabilities)]
    losses = [st.sampled_from(options) for options in loss_options(capabilities)]
    return networks(
        layers=st.one_of(*layers) if layers else st.nothing(),
        losses=st.one_of(*losses),
        bias=capabilities.bias,
        max_dense=max_dense,
        max_units=max_units,
    )


@st.composite
def examples(
    draw: st.DrawFn,
    network: st.SearchStrategy[Network] | None = None,
    *,
    labels: Sequence[Labels] = LABELS,
    class_weights: bool = True,
    layouts: bool = True,
    single: bool = False,
    cases: int = DRAWS,
    regimes: Sequence[str] = (),
) -> Example:
    """Return a strategy of examples: a network, a batch and the numbers of several cases.

    `labels`: the kinds that cross entropies are given. `class_weights`: whether some of them are given weights.
    `layouts`: whether arrays come in other memory orders than C. `single`: whether all batches have one row.
    `cases`: how many there are, each in a regime of its own, of `regimes` where they are given.
    """
    chosen = draw(network if network is not None else networks())
    weighted = class_weights and isinstance(chosen.loss, SoftmaxCrossEntropy) and draw(st.booleans())
    kind: Labels = "integer"
    if chosen.loss.labels == "classes" and getattr(chosen.loss, "ignore_index", None) is None:
        kind = draw(st.sampled_from(labels))
    return Example(
        network=chosen,
        rows=1 if single else draw(st.sampled_from(BATCH_SIZES)),
        draws=draw(draws(cases, regimes)),
        labels=kind,
        class_weights=weighted,
        layout=draw(st.sampled_from(get_args(Layout))) if layouts else "C",
    )


def declared_examples(
    capabilities: Capabilities,
    network: st.SearchStrategy[Network] | None = None,
    cases: int = DRAWS,
    focus: Focus = EVERYTHING_DRAWN,
) -> st.SearchStrategy[Example]:
    """Return a strategy of examples of what is declared, of a network of one's own if it is given.

    `focus`: what of it is drawn.
    """
    if network is None and focus.networks:
        network = st.one_of(*(templates(parse_template(text)) for text in focus.networks))
    if network is None:
        network = declared_networks(
            capabilities, max_dense=focus.max_dense or MAX_DENSE, max_units=focus.max_units or MAX_UNITS
        )
    return examples(
        network,
        labels=capabilities.labels,
        class_weights=capabilities.class_weights,
        layouts=capabilities.layouts,
        single=capabilities.samples == "single",
        cases=cases,
        regimes=focus.regimes,
    )
