"""Failures that are expected: keys, what they excuse, and what they do not."""

from __future__ import annotations

import pytest

from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.expected import Expectations, key_text, read_expected, require_known, unexpected_pass
from gradconform.conformance.judge import Judgement
from gradconform.errors import InvalidInput
from gradconform.notation import parse

NETWORK = parse("3 -> Dense(4) -> Tanh -> Dense(2), MeanSquaredError")

PASSED = Comparison("loss", "loss", Kind.PASS)
BIAS = Comparison("parameters", "2.bias", Kind.WRONG)
WEIGHT = Comparison("parameters", "2.weight", Kind.WRONG)
DELTA = Comparison("output-delta", "output delta", Kind.WRONG)
BELOW = Comparison("deltas", "delta 0", Kind.NONFINITE)
CRASH = Comparison("call", "gradients", Kind.CRASHED, detail="ValueError: no")
RELATION = Comparison("sum-of-samples", "2.bias", Kind.WRONG)


def sift(keys, *comparisons, dtype="float64"):
    expectations = Expectations(read_expected(dict.fromkeys(keys, "known")))
    left = expectations.sift(NETWORK, dtype, Judgement(list(comparisons)))
    return left.comparisons, [key.text for key in expectations.unmet]


@pytest.mark.parametrize(
    ("comparison", "text"),
    [
        (BIAS, "parameters WRONG Dense.bias"),
        (DELTA, "output-delta WRONG MeanSquaredError"),
        (BELOW, "deltas NONFINITE Tanh"),
        (Comparison("outputs", "output 1", Kind.WRONG), "outputs WRONG Tanh"),
        (Comparison("input", "input", Kind.SHAPE), "input SHAPE"),
        (Comparison("loss", "loss", Kind.WRONG), "loss WRONG MeanSquaredError"),
        (Comparison("parameters", "7.what", Kind.NAME), "parameters NAME 7.what"),
        (CRASH, "call CRASHED gradients"),
        (RELATION, "sum-of-samples WRONG Dense.bias"),
    ],
)
def test_the_key_of_a_failure_names_it(comparison, text):
    key = key_text(NETWORK, comparison.check, comparison.kind.name, comparison.path)
    assert key == text
    (expected,) = read_expected({key: "known"})
    assert expected.covers(NETWORK, "float64", comparison)


@pytest.mark.parametrize(
    ("key", "covered"),
    [
        ("parameters", True),
        ("parameters WRONG", True),
        ("parameters WRONG Dense.bias float64", True),
        ("parameters float64", True),
        ("agreement", True),
        ("agreement WRONG", True),
        ("parameters float32", False),
        ("parameters SHAPE", False),
        ("parameters WRONG Dense.weight", False),
        ("input", False),
        ("sum-of-samples", False),
        ("call", False),
    ],
)
def test_a_key_covers_all_that_it_leaves_open(key, covered):
    (expected,) = read_expected({key: "known"})
    assert expected.covers(NETWORK, "float64", BIAS) is covered


def test_agreement_covers_neither_relations_nor_calls():
    (expected,) = read_expected({"agreement": "known"})
    assert not expected.covers(NETWORK, "float64", RELATION)
    assert not expected.covers(NETWORK, "float64", CRASH)


def test_what_is_expected_is_set_aside():
    assert sift(["parameters WRONG Dense.bias"], PASSED, BIAS) == ([PASSED], [])


def test_another_failure_of_the_same_check_is_told():
    assert sift(["parameters WRONG Dense.bias"], BIAS, WEIGHT) == ([WEIGHT], [])
    assert sift(["parameters WRONG Dense.bias"], WEIGHT, BIAS) == ([WEIGHT], [])


def test_failures_of_later_checks_may_be_consequences():
    assert sift(["output-delta"], PASSED, DELTA, BIAS, RELATION) == ([PASSED], [])


def test_a_failure_before_the_expected_one_is_told():
    assert sift(["parameters"], DELTA, BIAS) == ([DELTA], [])


def test_every_key_that_is_met_counts_whatever_else_is_told():
    assert sift(["parameters", "sum-of-samples"], BIAS, RELATION) == ([], [])


def test_what_did_not_happen_is_unmet():
    assert sift(["parameters", "input"], BIAS) == ([], ["input"])
    assert sift(["parameters float32"], BIAS) == ([BIAS], ["parameters float32"])


def test_without_keys_the_judgement_stays_as_it_is():
    judgement = Judgement([BIAS])
    assert Expectations().sift(NETWORK, "float64", judgement) is judgement


def test_the_reasons_of_what_was_met_are_told():
    expectations = Expectations(read_expected({"parameters": "issue 12", "input": "not yet"}))
    expectations.sift(NETWORK, "float64", Judgement([BIAS]))
    assert expectations.reasons() == "parameters: issue 12"


def test_an_unexpected_pass_says_what_to_do():
    (key,) = read_expected({"input": "not yet"})
    assert unexpected_pass("mine", key, 40) == (
        "UNEXPECTED PASS  mine   'input' failed in none of 40 networks: remove it from expected_failures, or draw more "
        "(expected: not yet)"
    )


@pytest.mark.parametrize(
    ("failures", "sentence"),
    [
        ({"parmeters": "x"}, "expected_failures: 'parmeters': no check 'parmeters'; did you mean parameters?"),
        ({"inputs": "x"}, "expected_failures: 'inputs': no check 'inputs'; did you mean input?"),
        (
            {"parameters WORNG": "x"},
            "expected_failures: 'parameters WORNG': no kind of failure 'WORNG'; did you mean WRONG?",
        ),
        (
            {"parameters WRONG Dense.bais": "x"},
            "expected_failures: 'parameters WRONG Dense.bais': no 'Dense.bais'; did you mean Dense.bias?",
        ),
        ({"input": " "}, "expected_failures: 'input' has no reason: say why it is expected"),
        ({" ": "x"}, "expected_failures: expected a key such as 'parameters WRONG Dense.bias', got ' '"),
        (["input"], "expected_failures: expected a dictionary of reasons by key, got ['input']"),
    ],
)
def test_a_key_that_can_match_nothing_is_told_with_the_nearest_name(failures, sentence):
    with pytest.raises(InvalidInput) as caught:
        read_expected(failures)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("delta-rows", "expected_failures: 'delta-rows' matches no item: delta-rows is not checked here"),
        ("agreement", "expected_failures: 'agreement' matches no item: agreement is not checked here"),
        (
            "batch-permutation float16",
            "expected_failures: 'batch-permutation float16' matches no item: checked are float64",
        ),
    ],
)
def test_a_key_of_what_is_not_run_is_told(key, sentence):
    with pytest.raises(InvalidInput) as caught:
        require_known(read_expected({key: "known"}), ["batch-permutation"], ["float64"])
    assert str(caught.value) == sentence


def test_keys_of_what_is_run_are_fine():
    require_known(read_expected({"call": "x", "agreement": "y", "input float64": "z"}), ["input"], ["float64"])
