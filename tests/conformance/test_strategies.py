"""The strategies: everything in the vocabulary is drawn, all of it valid, and nothing is thrown away."""

from __future__ import annotations

import contextlib
import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st

from gradconform import Dense, SoftmaxCrossEntropy
from gradconform.capabilities import Capabilities, Labels
from gradconform.conformance import strategies
from gradconform.conformance.choices import BATCH_SIZES, REDUCTIONS
from gradconform.conformance.examples import Example, Layout
from gradconform.conformance.guard import Guard
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.plan import CHUNK, Chunk, Enough, Plan, draw_examples, network_strategy
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.strategies import declared_examples
from gradconform.layers import ELU, GELU, Layer, LeakyReLU
from gradconform.losses import Huber, Loss
from gradconform.templates import parse_template

STRUCTURES = 300


def drawn(plan_seed, count, networks=None):
    """Return the examples of the first structures of a run, drawn as the engine draws them."""
    plan = Plan([Implementation("any", dict, guard=Guard())], max_examples=10**9, seed=plan_seed, networks=networks)
    kept = []

    def take(example):
        if len(kept) >= count:
            raise Enough
        if example.structure not in {one.structure for one in kept}:
            kept.append(example)

    with contextlib.suppress(Enough):
        for start in itertools.count():
            draw_examples(plan, Chunk(start=start), [Phase.generate], take)
    return kept


@pytest.fixture(scope="module")
def run():
    return drawn(1, STRUCTURES)


def networks_of(run):
    return [example.network for example in run]


def test_every_layer_and_option_is_drawn(run):
    layers = {layer for network in networks_of(run) for layer in network.layers}
    assert {type(layer) for layer in layers} == set(get_args(Layer))
    assert {layer.bias for layer in layers if isinstance(layer, Dense)} == {True, False}
    assert {layer.approximate for layer in layers if isinstance(layer, GELU)} == {"none", "tanh"}
    assert len({layer.slope for layer in layers if isinstance(layer, LeakyReLU)}) == 3
    assert len({layer.alpha for layer in layers if isinstance(layer, ELU)}) == 3


def test_every_loss_is_drawn_in_every_reduction_and_with_every_option(run):
    losses = {network.loss for network in networks_of(run)}
    assert {(type(loss), loss.reduction) for loss in losses} == set(itertools.product(get_args(Loss), REDUCTIONS))
    softmax = [loss for loss in losses if isinstance(loss, SoftmaxCrossEntropy)]
    assert {loss.ignore_index for loss in softmax} == {None, -100, 0}
    assert {loss.label_smoothing for loss in softmax} == {0.0, 0.1, 0.5, 1.0}
    assert len({loss.delta for loss in losses if isinstance(loss, Huber)}) == 3


def test_every_label_layout_regime_batch_size_and_weighting_is_drawn(run):
    cross = [example for example in run if example.network.loss.labels == "classes"]
    assert {example.labels for example in cross} == set(get_args(Labels))
    assert {example.layout for example in run} == set(get_args(Layout))
    assert {draw.regime for example in run for draw in example.draws} == set(REGIMES)
    assert {example.rows for example in run} == set(BATCH_SIZES)
    assert {example.class_weights for example in cross} == {True, False}
    assert {type(example.network.loss) for example in run if example.class_weights} == {SoftmaxCrossEntropy}


def test_one_sample_and_one_width_are_the_exception(run):
    assert np.mean([example.rows == 1 for example in run]) < 0.5


def test_networks_have_each_number_of_dense_layers(run):
    counts = {sum(isinstance(layer, Dense) for layer in network.layers) for network in networks_of(run)}
    assert counts == set(range(1, strategies.MAX_DENSE + 1))


def dense_widths(network):
    return [network.inputs, *(layer.units for layer in network.layers if isinstance(layer, Dense))]


def test_widths_are_pairwise_distinct_or_all_equal(run):
    distinct = equal = 0
    for network in networks_of(run):
        widths = dense_widths(network)
        if len(set(widths)) == len(widths):
            distinct += 1
        else:
            # a last layer of one unit is widened where its only class would be ignored
            widened = getattr(network.loss, "ignore_index", None) == 0 and widths[-1] == 2
            assert len(set(widths[:-1] if widened else widths)) == 1, str(network)
            equal += 1
    assert distinct > 0.6 * STRUCTURES
    assert equal > 0.1 * STRUCTURES


def test_widths_stay_within_what_the_bound_is_sharp_for(run):
    assert all(1 <= width <= strategies.MAX_UNITS + 1 for network in networks_of(run) for width in network.widths)
    assert any(1 in dense_widths(network) for network in networks_of(run))
    assert any(network.widths[-1] == 1 for network in networks_of(run))


def test_the_draws_of_an_example_are_of_different_regimes(run):
    assert all(len({draw.regime for draw in example.draws}) == strategies.DRAWS for example in run)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_case_is_valid(run, dtype):
    # Case itself raises for names, shapes, dtypes, numbers that are not finite, and a mean over no rows
    cases = [example.case(draw, dtype) for example in run for draw in example.draws]
    assert len(cases) == STRUCTURES * strategies.DRAWS
    assert {str(case.dtype) for case in cases} == {dtype}


def test_some_row_always_counts(run):
    ignoring = 0
    for example in run:
        ignored = getattr(example.network.loss, "ignore_index", None)
        if ignored is None:
            continue
        for entry in example.draws:
            targets = example.case(entry, "float64").batch.targets
            assert (targets != ignored).any()
            ignoring += bool((targets == ignored).any())
    assert ignoring > 10


def test_the_same_seed_draws_the_same_examples_and_another_others():
    first = drawn(5, 30)
    assert drawn(5, 30) == first
    assert drawn(6, 30) != first


@pytest.mark.parametrize("strategy", ["networks", "examples"])
def test_nothing_that_was_drawn_is_thrown_away(strategy):
    begun, ended = [], []

    @st.composite
    def counted(draw):
        begun.append(None)
        value = draw(getattr(strategies, strategy)())
        ended.append(value)
        return value

    # as few from each start as the engine draws: later ones are variations, which Hypothesis may give up itself;
    # of the health checks only the one that looks at the clock is off
    for start in range(15):

        @seed(start)
        @settings(
            max_examples=CHUNK,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            derandomize=False,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(counted())
        def test(value):
            assert value is ended[-1]

        test()
    assert len(begun) == len(ended) == 15 * CHUNK


def test_the_simplest_example_is_small():
    smallest = []

    @settings(max_examples=1, phases=[Phase.generate], database=None, deadline=None, derandomize=True)
    @given(strategies.examples())
    def test(example):
        smallest.append(example)

    test()
    assert str(smallest[0].network) == "2 -> Dense(1), MeanSquaredError"
    assert (smallest[0].rows, smallest[0].draws[0].regime, smallest[0].layout) == (2, "integers", "C")


def test_networks_of_given_losses_and_sizes():
    @seed(4)
    @settings(max_examples=100, phases=[Phase.generate], database=None, deadline=None, derandomize=False)
    @given(strategies.networks(losses=st.just(Huber(delta=2.0)), max_dense=1, max_units=3))
    def test(network):
        seen.append(network)

    seen = []
    test()
    assert {network.loss for network in seen} == {Huber(delta=2.0)}
    assert {sum(isinstance(layer, Dense) for layer in network.layers) for network in seen} == {1}
    assert {layer.units for network in seen for layer in network.layers if isinstance(layer, Dense)} <= {1, 2, 3, 4}


def test_given_networks_are_the_only_ones():
    network = strategies.Network(2, (Dense(3),), SoftmaxCrossEntropy(ignore_index=0))
    examples = drawn(1, 10, st.just(network))
    assert {example.network for example in examples} == {network}
    # integer labels are the only ones that an index can be ignored among
    assert {example.labels for example in examples} == {"integer"}
    assert all(isinstance(example, Example) for example in examples)


# what is declared


def declared(count=150, **fields):
    """Return examples of what is declared, and check that nothing else is drawn."""
    capabilities = Capabilities(**fields)
    run = examples_of(declared_examples(capabilities), count)
    for example in run:
        batch = example.case(example.draws[0], "float64").batch
        assert capabilities.lacks(example.network, batch) is None
    return run


def examples_of(strategy, count):
    kept = []

    @settings(max_examples=count, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
    @given(strategy)
    def keep(example):
        kept.append(example)

    keep()
    return kept


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": ("Tanh", "LeakyReLU(slope=0.7)")},
        {"layers": ()},
        {"layers": ("Sigmoid",), "losses": ("BinaryCrossEntropy", "Huber(delta=3)")},
        {"losses": ("Huber(delta=3, reduction=none)", "CrossEntropy")},
        {"reductions": ("sum",)},
        {"reductions": ("batchmean",)},
        {"bias": True},
        {"bias": False},
        {"samples": "single", "labels": ("one-hot", "soft"), "class_weights": True},
        {"networks": ("* -> Dense(*) -> Tanh -> Dense(*), Huber", "3 -> Dense(2), SoftmaxCrossEntropy")},
    ],
    ids=",".join,
)
def test_what_is_not_declared_is_not_drawn(fields):
    assert len(declared(60, **fields)) == 60


def test_all_that_is_declared_is_drawn():
    run = declared(layers=("Tanh", "LeakyReLU", "Softplus()"), losses=("Huber(delta=3)", "MeanSquaredError"))
    layers = {layer for example in run for layer in example.network.layers}
    assert {type(layer).__name__ for layer in layers} == {"Dense", "Tanh", "LeakyReLU", "Softplus"}
    assert len({layer for layer in layers if isinstance(layer, LeakyReLU)}) == 3
    losses = {example.network.loss for example in run}
    assert {loss.delta for loss in losses if isinstance(loss, Huber)} == {3}
    assert {loss.reduction for loss in losses if isinstance(loss, Huber)} == set(REDUCTIONS)
    assert {example.rows for example in run} == set(BATCH_SIZES)
    assert {example.rows for example in declared(20, samples="single")} == {1}


def smallest_of(strategy):
    quick = settings(database=None, derandomize=True, max_examples=200, suppress_health_check=list(HealthCheck))
    return find(strategy, lambda drawn: True, settings=quick)


@pytest.mark.parametrize("fields", [{}, {"layers": ()}, {"layers": "Softmax", "losses": "CrossEntropy"}])
def test_what_is_declared_shrinks_to_a_little_network(fields):
    network = smallest_of(strategies.declared_networks(Capabilities(**fields)))
    assert isinstance(network.layers[0], Dense)
    assert len(network.layers) == 1 + bool(network.loss.follows)
    assert max(network.widths) <= 2


TEMPLATE = parse_template("* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError")


def test_the_widths_of_a_template_mostly_differ_are_sometimes_equal_and_sometimes_1():
    run = examples_of(strategies.templates(TEMPLATE), 200)
    widths = [(network.inputs, network.layers[0].units, network.layers[2].units) for network in run]
    different = sum(len(set(each)) == 3 for each in widths)
    equal = sum(len(set(each)) == 1 for each in widths)
    assert different > 2 * equal > 20
    assert all(any(each[place] == 1 for each in widths) for place in range(3))
    assert max(map(max, widths)) <= strategies.MAX_UNITS
    assert all(TEMPLATE.fits(network) for network in run)


def test_a_template_shrinks_and_needs_a_second_class_where_the_first_is_ignored():
    network = smallest_of(strategies.templates(TEMPLATE))
    assert sum(network.widths) <= 10
    ignoring = parse_template("* -> Dense(*), SoftmaxCrossEntropy(ignore_index=0)")
    run = examples_of(strategies.templates(ignoring), 100)
    assert min(network.widths[-1] for network in run) == 2


def test_a_template_without_free_widths_is_one_network_and_one_with_many_may_repeat_them():
    text = "3 -> Dense(2), MeanSquaredError"
    assert {str(network) for network in examples_of(strategies.templates(parse_template(text)), 5)} == {text}
    deep = parse_template("* -> " + "Dense(*) -> " * 19 + "Dense(*), MeanSquaredError")
    assert all(deep.fits(network) for network in examples_of(strategies.templates(deep), 10))


def test_networks_with_free_widths_are_given_as_text():
    several = network_strategy(["* -> Dense(*), Huber", "3 -> Dense(2), MeanSquaredError"])
    losses = {type(network.loss).__name__ for network in examples_of(several.strategy(), 60)}
    assert losses == {"Huber", "MeanSquaredError"}
