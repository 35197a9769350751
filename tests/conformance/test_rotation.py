"""The rotation: a run meets all that is declared in few networks, and a round does not depend on others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st

from gradconform import Dense, Huber, Network, SoftmaxCrossEntropy, Tanh
from gradconform.capabilities import Capabilities
from gradconform.conformance.choices import BATCH_SIZES, LAYER_OPTIONS, LOSS_OPTIONS, REDUCTIONS
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.exploring import drawn_in
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.guard import Guard
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.rotation import in_regimes, rotation_of


def anyone(**fields):
    return Implementation("any", dict, capabilities=Capabilities(**fields), guard=Guard())


def drawn(max_examples, seed=1, given=None, rounds=None, **fields):
    """Return the example and the regime of every network of a run."""
    plan = Plan([anyone(**fields)], max_examples, seed, network_strategy(given), rounds=rounds)
    examples = [one for number, count in plan.networks_by_round for one in drawn_in(plan, number, count)]
    return [(one.example, draw.regime) for one in examples for draw in one.draws]


def kinds(seen):
    networks = {example.network for example, _ in seen}
    return {type(layer) for network in networks for layer in network.layers}, {type(one.loss) for one in networks}


@pytest.mark.parametrize("seed", range(4))
def test_24_networks_meet_every_regime_loss_and_layer(seed):
    seen = drawn(24, seed)
    layers, losses = kinds(seen)
    assert {regime for _, regime in seen} == set(REGIMES)
    assert losses == set(LOSS_OPTIONS)
    assert layers == {Dense, *LAYER_OPTIONS}
    assert {example.network.loss.reduction for example, _ in seen} == set(REDUCTIONS)
    assert {example.rows for example, _ in seen} == set(BATCH_SIZES)


def test_every_loss_meets_every_regime_and_reduction():
    seen = drawn(160, compiled=True)
    assert len({(type(example.network.loss), regime) for example, regime in seen}) == len(LOSS_OPTIONS) * len(REGIMES)
    seen = drawn(80)
    assert len({(type(example.network.loss), example.network.loss.reduction) for example, _ in seen}) == 18


def test_every_run_begins_with_the_simplest_network():
    assert {str(drawn(1, seed)[0][0].network) for seed in range(3)} == {"2 -> Dense(1), MeanSquaredError"}


def test_a_round_alone_draws_what_it_draws_in_a_run():
    whole = drawn(96)
    parts = [drawn(96, rounds=[number]) for number in range(3)]
    assert [case for part in parts for case in part] == whole
    assert drawn(96, seed=2) != whole


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": ("Tanh",)},
        {"layers": ()},
        {"losses": ("Huber(delta=3)", "SoftmaxCrossEntropy"), "layers": ("ReLU", "LeakyReLU(slope=0.7)", "GELU")},
        {"losses": ("CrossEntropy", "BinaryCrossEntropy"), "reductions": ("sum",)},
        {"labels": ("one-hot",), "class_weights": True, "bias": False},
        {"reductions": ("batchmean",), "samples": "single"},
    ],
    ids=str,
)
def test_what_is_not_declared_is_not_put_in(fields):
    capabilities = Capabilities(**fields)
    for example, _ in drawn(60, **fields):
        assert capabilities.lacks(example.network, example.case(example.draws[0], "float64").batch) is None


@pytest.mark.parametrize("how", ["given", "networks"])
def test_given_and_declared_networks_stay_and_their_regimes_go_round(how):
    network = "3 -> Dense(2) -> Tanh, MeanSquaredError"
    seen = drawn(20, **{how: (network,)})
    assert {str(example.network) for example, _ in seen} == {network}
    assert {regime for _, regime in seen} == set(REGIMES)


def example_of(network, seed=5):
    return Example(network, 3, (Draw("tiny", seed), Draw("integers", seed)))


def test_what_has_its_turn_is_put_in_and_the_rest_stays():
    rotation = rotation_of(Capabilities(), 1, list(REGIMES), given=False)
    network = Network(4, (Dense(5), Tanh(), Dense(3)), Huber())
    for structure in range(1, 7):
        turned = rotation.turned(example_of(network), structure, 0)
        assert turned.network.loss in rotation.losses[structure]
        assert [layer for layer in turned.network.layers if isinstance(layer, Dense)] == [Dense(5), Dense(3)]
        assert [draw.seed for draw in turned.draws] == [5, 5]
        assert turned.rows == BATCH_SIZES[structure % len(BATCH_SIZES)]
    assert rotation.turned(example_of(network), 7, 0).network.layers[:2] == (Dense(5), Tanh())


def test_an_ignored_label_is_never_the_only_class():
    rotation = rotation_of(Capabilities(layers=(), losses=("SoftmaxCrossEntropy",)), 1, list(REGIMES), given=False)
    drawn = [rotation.turned(example_of(Network(2, (Dense(1),), Huber()), seed), 1, 0).network for seed in range(60)]
    assert {network.loss.ignore_index for network in drawn} == {None, -100, 0}
    assert {network.widths[-1] for network in drawn if network.loss.ignore_index == 0} == {2}


def test_regimes_are_exchanged_and_seeds_stay():
    example = example_of(Network(2, (Dense(3),), SoftmaxCrossEntropy()))
    other = in_regimes(example, ["large", "constant"])
    assert other.draws == (Draw("large", 5), Draw("constant", 5))
    assert replace(other, draws=example.draws) == example


def test_hypothesis_makes_small_what_failed_in_a_regime_that_was_put_in():
    strategy = st.sampled_from([Network(n, (Dense(n),), Huber()) for n in (1, 2, 5, 9)])
    plan = Plan(
        [FAULTS["zeros"].implementation()], 12, 3, strategy, dtypes=["float64"], witnesses=False, diagnose=False
    )
    seen = []
    plan.keep = lambda failure: seen.append(failure.case.network.inputs)
    finding, *_ = run(plan).findings
    assert finding.network.inputs == min(seen) == 1
