"""Where a campaign looks next: what it chooses follows from what it learnt, and is always declared."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import Phase

from gradconform.capabilities import Capabilities
from gradconform.conformance.campaign_work import Described, Unit, work
from gradconform.conformance.focus import Focus
from gradconform.conformance.fuzz_neighbours import neighbours
from gradconform.conformance.fuzz_targeting import Targeting
from gradconform.conformance.implementations import reference
from gradconform.conformance.job import Job
from gradconform.conformance.plan import Chunk, draw_examples
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.signals import Signals, Top, pair
from gradconform.network import Network
from gradconform.notation import parse

JOB = Job(targets=("reference",), seed=1)
EVERYTHING = reference().capabilities
CLOSE = "3 -> Dense(5) -> Tanh -> Dense(2), MeanSquaredError"


def targeting(capabilities=EVERYTHING, job=JOB, **described):
    return Targeting(job, Described(names=["reference"], shared=capabilities, **described))


def units(chosen, count=200):
    return [chosen.unit(number, {}, settle=True) for number in range(count)]


def ways(chosen, count=200):
    return Counter(unit.focus.why for unit in units(chosen, count))


def test_units_are_of_every_kind_and_the_same_again():
    chosen = targeting()
    chosen.learn(Signals(tops={"reference float64 global loss": Top(0.9, "loss", CLOSE, "tiny")}))
    assert set(ways(chosen)) == {"broad", "rare", "close", "large"}
    assert units(chosen, 30) == units(chosen, 30)
    assert set(ways(targeting(narrow=["float16"]))) == {"broad", "rare", "large", "narrow"}


def test_types_that_are_asked_for_are_the_only_ones():
    chosen = targeting(job=Job(targets=("torch",), seed=1, dtypes=("float32",)), narrow=["float16"])
    assert all(unit.focus.dtypes == () for unit in units(chosen))


def test_what_was_hardly_met_is_looked_for():
    chosen = targeting()
    rare = pair("near-kinks", "ELU")
    chosen.learn(Signals(pairs={name: 10_000 for name in chosen.wanted if name != rare}))
    found = [unit.focus for unit in units(chosen) if unit.focus.why == "rare"]
    assert chosen.met == len(chosen.wanted) - 1
    assert sum("ELU" in focus.layers and "near-kinks" in focus.regimes for focus in found) > 0.9 * len(found)


def test_a_close_call_is_looked_at_with_its_neighbours_in_its_regime():
    chosen = targeting()
    chosen.learn(Signals(tops={"reference float64 global loss": Top(0.9, "loss", CLOSE, "tiny")}))
    found = [unit.focus for unit in units(chosen) if unit.focus.why == "close"]
    assert all(focus.networks[0] == CLOSE and "tiny" in focus.regimes and len(focus.networks) > 1 for focus in found)


def test_of_a_kind_a_few_networks_are_kept_those_with_the_closest_calls():
    chosen = targeting()
    for number in range(1, 20):
        network = f"{number} -> Dense(1), MeanSquaredError"
        chosen.learn(Signals(tops={"a": Top(number / 20, "loss", network, "tiny")}))
        chosen.learn(Signals(tops={"a": Top(2.0, "loss", network, "tiny")}))  # a finding is no close call
    starts = {unit.focus.networks[0] for unit in units(chosen) if unit.focus.why == "close"}
    assert starts == {f"{number} -> Dense(1), MeanSquaredError" for number in (16, 17, 18, 19)}


DECLARED = Capabilities(layers=("Tanh", "Softmax"), losses=("CrossEntropy", "MeanSquaredError()"), bias=True)


@pytest.mark.parametrize("capabilities", [EVERYTHING, DECLARED, Capabilities(layers=(), losses=("Huber",))])
def test_nothing_is_drawn_that_is_not_declared(capabilities):
    chosen = targeting(capabilities)
    drawn = []
    for unit in units(chosen, 40):
        plan = unit.plan(JOB, [])
        plan.implementations = [replace(reference(), capabilities=capabilities)]
        signals = listen(plan)
        chosen.learn(signals)
        drawn += [top.network for top in signals.tops.values()]
        drawn += unit.focus.networks
    assert len(set(drawn)) > 20
    assert {reason for text in drawn if (reason := capabilities.lacks(parse(text)))} == set()


def listen(plan):
    """Return as signals what a plan draws, as if it were a close call."""
    found = Signals()

    def take(example):
        example = plan.turned(example, plan.rounds[0], 0)
        regime = example.draws[0].regime
        assert not plan.focus.regimes or regime in plan.focus.regimes
        found.tops[f"a {len(found.tops)}"] = Top(0.5, "loss", str(example.network), regime)

    draw_examples(plan, Chunk(plan.rounds[0]), [Phase.generate], take)
    return found


@pytest.mark.parametrize("given", ["4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy", "* -> Dense(*), Huber"])
def test_a_given_network_stays_what_it_is(given):
    job = Job(targets=("reference",), seed=1, network=given)
    chosen = targeting(job=job)
    chosen.learn(Signals(tops={"a": Top(0.9, "loss", given.replace("*", "3"), "tiny")}))
    assert chosen.wanted == []
    assert set(ways(chosen)) == {"broad", "rare", "close"}
    for unit in units(chosen, 60):
        assert (unit.focus.layers, unit.focus.losses, unit.focus.max_dense) == ((), (), 0)
        assert all(len(parse(text).layers) == given.count("->") for text in unit.focus.networks)


def test_a_fixed_architecture_that_is_declared_stays_what_it_is():
    chosen = targeting(Capabilities(networks=("* -> Dense(*) -> Tanh, Huber",)))
    chosen.learn(Signals(tops={"a": Top(0.9, "loss", "2 -> Dense(3) -> Tanh, Huber", "tiny")}))
    near = {text for unit in units(chosen) for text in unit.focus.networks}
    assert len(near) > 5
    assert all(parse(text).layers[1:] == parse(CLOSE).layers[1:2] for text in near)


def test_large_networks_are_larger_than_others():
    focus = next(unit.focus for unit in units(targeting()) if unit.focus.why == "large")
    done = work(JOB, Unit(number=5, networks=8, focus=focus))
    assert focus.max_dense > 3
    assert not done.trace
    assert done.signals.tops


def test_neighbours_are_valid_different_and_differ_in_little():
    rng = random.Random(1)
    network = parse("3 -> Dense(5) -> Tanh -> Dense(2) -> Softmax, CrossEntropy")
    found = [near for _ in range(50) for near in neighbours(network, rng, 4)]
    assert len(found) == 200
    assert network not in found
    assert len(set(found)) > 40
    assert all(isinstance(near, Network) and abs(len(near.layers) - 4) <= 2 for near in found)
    assert {type(near.loss).__name__ for near in found} > {"CrossEntropy", "Huber"}


def test_where_no_neighbour_is_allowed_there_is_none():
    assert neighbours(parse(CLOSE), random.Random(1), 3, lambda network: False) == []


def test_the_only_class_is_never_the_ignored_one():
    network = parse("2 -> Dense(2), SoftmaxCrossEntropy(ignore_index=0)")
    found = neighbours(network, random.Random(2), 100)
    assert all(near.widths[-1] > 1 for near in found if getattr(near.loss, "ignore_index", None) == 0)


@pytest.mark.parametrize(
    ("focus", "layers", "losses"),
    [
        (Focus(), None, None),
        (Focus(layers=("Tanh",)), ("Tanh",), 4),
        (Focus(losses=("CrossEntropy",)), None, ("CrossEntropy",)),
    ],
)
def test_a_focus_narrows_what_is_declared(focus, layers, losses):
    found = focus.of(EVERYTHING)
    assert found.layers == layers
    assert (len(found.losses) if isinstance(losses, int) else found.losses) == losses


def test_regimes_of_a_focus_are_the_only_ones():
    done = work(JOB, Unit(number=5, networks=16, focus=Focus(regimes=("tiny", "subnormal"), draws=8)))
    assert {name.partition(" x ")[0] for name in done.signals.pairs} == {"tiny", "subnormal"}
    assert {name.partition(" x ")[0] for name in done.signals.pairs} <= set(REGIMES)
