"""Hypothesis strategies for networks and examples. All are built without filtering, and shrink to little networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from gradconform import notation
from gradconform.capabilities import LABELS, Capabilities, Labels
from gradconform.conformance.examples import Draw, Example, Layout
from gradconform.conformance.focus import EVERYTHING_DRAWN, Focus
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
from gradconform.templates import Template, parse_template

BATCH_SIZES = (2, 1, 3, 5, 7)
"""Two first, where Hypothesis shrinks to: with one sample, everything that goes wrong over the batch goes unseen."""

DRAWS = 4
"""Cases per structure: a compiled gradient serves all of them."""

MAX_UNITS = 16
MAX_DENSE = 3
"""Small enough for the bound from inputs to gradients to catch a relative error of 1e-12 in float64."""

REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")
"""What is drawn where it is declared. The mean over the rows alone is, where nothing else is."""

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


def draws(count: int = DRAWS, regimes: Sequence[str] = ()) -> st.SearchStrategy[tuple[Draw, ...]]:
    """Return a strategy of the numbers of one example's cases, each in a regime of its own.

    `regimes`: the only ones; where they are fewer than the cases, each case has another seed.
    """
    chosen = list(regimes or REGIMES)
    draw = st.builds(Draw, st.sampled_from(chosen), st.integers(0, 2**32 - 1))
    own = (lambda one: one.regime) if count <= len(chosen) else (lambda one: one.seed)
    return st.lists(draw, min_size=count, max_size=count, unique_by=own).map(tuple)


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
    one = st.one_of(*ACTIVATIONS.values()) if layers is None else layers
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
    layers, losses = capabilities.layers, capabilities.losses
    if losses is None and layers is not None:
        # a loss on probabilities stands after a layer that must be declared
        losses = tuple(kind.__name__ for kind in LOSSES if all(layer.__name__ in layers for layer in kind.follows))
    return networks(
        layers=None if layers is None else _layers(layers),
        losses=_losses(losses, capabilities),
        bias=capabilities.bias,
        max_dense=max_dense,
        max_units=max_units,
    )


def _layers(entries: Sequence[str]) -> st.SearchStrategy[Layer]:
    """Return a strategy of declared activations: by name with all their options, else as they are written."""
    # Dense has its own place
    several = [_entry(entry, notation.LAYERS, ACTIVATIONS) for entry in entries if entry != Dense.__name__]
    return st.one_of(*several) if several else st.nothing()


def _losses(entries: Sequence[str] | None, capabilities: Capabilities) -> st.SearchStrategy[Loss]:
    """Return the same of losses, with a declared reduction where they state none."""
    chosen = [word for word in REDUCTIONS if word in capabilities.reductions] or capabilities.reductions
    reduced = st.sampled_from(chosen)
    several = []
    for entry in [kind.__name__ for kind in LOSSES] if entries is None else entries:
        one = _entry(entry, notation.LOSSES, LOSSES)
        if "integer" not in capabilities.labels and "ignore_index=" not in entry:
            one = one.map(_without_ignored)
        several.append(one if "reduction=" in entry else st.builds(_with_reduction, one, reduced))
    return st.one_of(*several)


def _entry(
    entry: str, kinds: Mapping[str, type[Any]], known: Mapping[type[Any], st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    return st.just(notation.parse_item(entry, kinds)) if "(" in entry else known[kinds[entry]]


def _with_reduction(loss: Loss, reduction: Reduction) -> Loss:
    return msgspec.structs.replace(loss, reduction=reduction)


def _without_ignored(loss: Loss) -> Loss:
    """Return the loss without an ignored label, which is an integer one."""
    return msgspec.structs.replace(loss, ignore_index=None) if isinstance(loss, SoftmaxCrossEntropy) else loss


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
            focus.of(capabilities), max_dense=focus.max_dense or MAX_DENSE, max_units=focus.max_units or MAX_UNITS
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
