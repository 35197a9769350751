"""What a run judges: each round by itself, no structure twice, the simplest network once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradconform.conformance.exploring import drawn_in
from gradconform.conformance.implementations import reference
from gradconform.conformance.plan import BROAD, DEEP, DEEPEST, LATE, ROUND, Plan, network_strategy, rounds_of
from gradconform.conformance.record import Record


def plan(**more):
    return Plan([reference()], **{"max_examples": 1000, "seed": 4, **more})


@pytest.mark.parametrize("number", [0, 1, BROAD, LATE])
@pytest.mark.parametrize("count", [1, 7, ROUND])
def test_a_round_has_as_many_networks_as_it_is_to_have_and_no_structure_twice(number, count):
    drawn = list(drawn_in(plan(), number, count))
    assert sum(len(one.draws) for one in drawn) == count
    assert all(one.new and one.draws == one.example.draws[: len(one.draws)] for one in drawn)
    assert len({one.example.structure for one in drawn}) == len(drawn)


def test_later_rounds_have_many_cases_of_one_structure():
    assert [len(one.draws) for one in drawn_in(plan(), BROAD, DEEP)] == [DEEP]
    assert [len(one.draws) for one in drawn_in(plan(), LATE, DEEPEST)] == [DEEPEST]


def test_the_simplest_network_begins_a_run_and_does_not_come_again():
    first = [next(iter(drawn_in(plan(seed=seed), 0, 4))).example.network for seed in range(5)]
    assert {str(network) for network in first} == {"2 -> Dense(1), MeanSquaredError"}
    later = [one.example.network for number in range(1, 6) for one in drawn_in(plan(), number, ROUND)]
    assert sum(network.widths[:2] == (2, 1) and len(network.widths) < 4 for network in later) < len(later) / 10


def test_a_single_structure_is_drawn_as_often_as_it_takes():
    given = network_strategy("2 -> Dense(1), MeanSquaredError")
    drawn = list(drawn_in(plan(networks=given), 0, ROUND))
    assert sum(len(one.draws) for one in drawn) == ROUND
    assert {one.new for one in drawn} == {True, False}


def test_the_rounds_of_a_run_add_up_to_its_networks():
    assert [count for _, count in plan(max_examples=70).networks_by_round] == [ROUND, ROUND, 70 - 2 * ROUND]
    assert list(plan(max_examples=70, rounds=[2, 9]).networks_by_round) == [(2, 70 - 2 * ROUND)]


@pytest.mark.parametrize(
    "networks",
    [
        1,
        ROUND,
        ROUND + 1,
        BROAD * ROUND,
        BROAD * ROUND + 1,
        BROAD * ROUND + 2 * DEEP + 3,
        BROAD * ROUND + (LATE - BROAD) * DEEP,
        BROAD * ROUND + (LATE - BROAD) * DEEP + DEEPEST + 1,
    ],
)
def test_all_of_a_run_is_in_its_rounds(networks):
    rounds = list(plan(max_examples=networks).networks_by_round)
    assert sum(count for _, count in rounds) == networks
    assert len(rounds) == rounds_of(networks)


def test_what_is_compiled_is_told_what_comes_next_before_it_is_called():
    told = []

    def prepare(network, batch, *, alone):
        told.append((network, batch.rows, alone))

    def compute(network, parameters, batch):
        assert any(one == network for one, _, _ in told)
        return implementation.gradients(network, parameters, batch)

    implementation = reference()
    preparing = replace(implementation, gradients=compute, prepare=prepare)
    record = Record(Plan([preparing], max_examples=12, seed=4, dtypes=["float64"]))
    result = record.over(record.explore)
    assert result.passed
    # the batch itself, and where it has several samples one of them
    assert {(rows > 1, alone) for _, rows, alone in told} >= {(True, False), (False, True)}
