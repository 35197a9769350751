"""How error / bound is counted: the half decades, what is left out, and that it adds up."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import reference
from gradconform.conformance.margins import HIGHEST, LOWEST, Margins, Subject, steps_of
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.results import Result
from gradconform.conformance.summary import Arrays, Summary
from gradconform.notation import parse

NETWORK = parse("3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError")


@pytest.fixture(scope="module")
def result():
    plan = Plan(
        [reference(), FAULTS["bias-mean"].implementation()],
        max_examples=20,
        seed=1,
        networks=network_strategy(str(NETWORK)),
        dtypes=["float64"],
        witnesses=False,
        shrink_seconds=0,
    )
    return run(plan)


@pytest.mark.parametrize(
    ("ratio", "step"),
    [
        (0.0, LOWEST),
        (math.nan, LOWEST),
        (1e-300, LOWEST),
        (0.09, -2),
        (0.11, -1),
        (0.5, 0),
        (math.nextafter(1, 0), 0),
        (1.0, 0),
        (math.nextafter(1, 2), 1),
        (3.0, 1),
        (3.3, 2),
        (1e300, HIGHEST),
        (math.inf, HIGHEST),
    ],
)
def test_half_decades_end_with_their_number_and_the_bound_is_within(ratio, step):
    assert steps_of(np.array([ratio, 1.0])).tolist() == [step, 0]


def summary(*arrays, telling=True):
    return Summary(Arrays(array[:3] for array in arrays), [array[3] for array in arrays], [telling] * len(arrays))


def test_arrays_are_counted_by_what_they_are_and_relations_by_their_check():
    margins = Margins()
    found = summary(
        ("local", "deltas", "delta 1", 0.2),
        ("global", "deltas", "delta 1", 0.02),
        ("global", "parameters", "0.bias", 5.0),
        ("global", "parameters", "2.bias", 0.0),
        ("global", "batch-permutation", "2.bias", 0.3),
    )
    margins.count([found], NETWORK)
    assert margins.subjects == {
        "deltas Dense": Subject(2, 0.2),
        "Dense.bias": Subject(2, 5.0),
        "batch-permutation": Subject(1, 0.3),
    }
    assert margins.steps == {"local": {-1: 1}, "global": {-3: 1, 2: 1, LOWEST: 1, -1: 1}}
    assert margins.all_steps() == {**dict.fromkeys(range(LOWEST, 3), 0), LOWEST: 1, -3: 1, -1: 2, 2: 1}


def test_what_could_tell_nothing_is_not_counted():
    margins = Margins()
    margins.count([summary(("global", "parameters", "0.bias", 0.0), telling=False)], NETWORK)
    assert margins == Margins()
    assert margins.all_steps() == {}


def test_parts_add_up():
    one, other, whole = Margins(), Margins(), Margins()
    first = summary(("global", "parameters", "0.bias", 5.0), ("local", "input", "input", 0.5))
    second = summary(("global", "parameters", "2.bias", 0.1), ("global", "loss", "loss", math.inf))
    one.count([first], NETWORK)
    other.count([second], NETWORK)
    whole.count([first, second], NETWORK)
    assert one + other == other + one == whole


def test_a_run_counts_what_is_wrong_beyond_the_bound_and_what_is_right_within(result):
    right, wrong = result.implementations
    assert max(right.margins.all_steps()) <= 0
    assert sum(right.margins.all_steps().values()) > right.comparisons / 2
    assert max(subject.worst for subject in right.margins.subjects.values()) == right.worst_ratio
    beyond = {name for name, subject in wrong.margins.subjects.items() if subject.worst > 1}
    assert "Dense.bias" in beyond
    assert "Dense.weight" not in beyond
    assert max(wrong.margins.all_steps()) > 20


def test_what_is_not_finite_comes_back_from_json(result):
    broken = msgspec.json.decode(result.to_json(), type=dict)
    broken["implementations"][1]["margins"]["subjects"]["Dense.bias"]["worst"] = "Infinity"
    again = Result.from_json(msgspec.json.encode(broken))
    assert again.implementations[1].margins.subjects["Dense.bias"].worst == math.inf
    assert Result.from_json(again.to_json()) == again


def test_a_result_of_before_there_were_margins_can_be_read(result):
    old = msgspec.json.decode(result.to_json(), type=dict)
    for tally in old["implementations"]:
        del tally["margins"]
    assert Result.from_json(msgspec.json.encode(old)).implementations[0].margins == Margins()
