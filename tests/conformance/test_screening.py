"""Screening: what is judged together is judged as each case is by itself, and what is wrong is never passed."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from gradconform import Gradients, parse
from gradconform.conformance import judge as module
from gradconform.conformance import summary
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation, reference, resolve
from gradconform.conformance.judge import Judgement, judge_together
from gradconform.conformance.plan import BROAD, Plan, networks_before
from gradconform.conformance.screening import Screened
from gradconform.conformance.sharpness import measure
from gradconform.conformance.situation import situations_of
from gradconform.reference.backpropagation import gradients

CLASSES = "3 -> Dense(4) -> Tanh -> Dense(2), SoftmaxCrossEntropy"
KINKS = "3 -> Dense(4) -> ReLU -> Dense(3) -> LeakyReLU -> Dense(2), Huber(reduction=none)"
REGIMES = ("ordinary", "integers", "large", "near-kinks", "zero-weights", "subnormal", "cancelling", "saturated")


def stack(text=CLASSES, rows=3, regimes=REGIMES, dtype="float64"):
    draws = tuple(Draw(name, seed) for seed, name in enumerate(regimes))
    example = Example(parse(text), rows, draws)
    return situations_of([example.case(draw, dtype) for draw in draws])


def judged(function, situations, **more):
    return list(judge_together(Implementation("mine", function), situations, list(CHECKS.values()), **more))


def alone(monkeypatch):
    monkeypatch.setattr(module, "_screened", lambda subjects, given, checks: [None] * len(subjects))


def totals(result):
    """Return the tallies; of margins that a bound of many and one of a single case may change, the first digits."""
    tallies = [msgspec.to_builtins(tally) for tally in result.implementations]
    for tally in tallies:
        for subject in tally["margins"]["subjects"].values():
            subject["worst"] = f"{subject['worst']:.4g}"
    return tallies


@pytest.mark.parametrize("round_", [0, BROAD])
def test_a_run_counts_what_it_would_count_of_each_case_by_itself(monkeypatch, round_):
    def counted():
        return run(Plan([reference()], max_examples=networks_before(BROAD + 1), seed=3, rounds=[round_]))

    together = counted()
    alone(monkeypatch)
    by_itself = counted()
    assert together.passed
    assert totals(together) == totals(by_itself)
    assert together.regimes == by_itself.regimes


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(pytest.param("torch", dtype, marks=pytest.mark.torch) for dtype in ("float64", "float32", "bfloat16")),
        # one look of a case is explained by the sides that were shown, the other by those of the exact values
        pytest.param("jax", "bfloat16", marks=pytest.mark.jax),
    ],
)
def test_a_run_of_a_framework_counts_the_same(monkeypatch, name, dtype):
    def counted():
        networks = networks_before(BROAD + 1)
        return run(Plan([resolve(name)], max_examples=networks, seed=3, rounds=[BROAD], dtypes=[dtype]))

    together = counted()
    alone(monkeypatch)
    assert totals(together) == totals(counted())


@pytest.mark.parametrize("text", [CLASSES, KINKS])
@pytest.mark.parametrize("shows", ["everything", "parameters"])
def test_summaries_and_sharpness_are_those_of_the_judgement(monkeypatch, text, shows):
    def function(*arguments):
        found = gradients(*arguments)
        return found if shows == "everything" else dict(found.parameters)

    situations = stack(text)
    together = judged(function, situations)
    alone(monkeypatch)
    network = situations[0].case.network
    seen = 0
    for one, other in zip(together, judged(function, situations), strict=True):
        assert isinstance(other, Judgement)
        assert other.root is None
        if isinstance(one, Screened):
            seen += 1
            assert one.sharpness == measure(other.views)
            expected = summary.summary_of(other.comparisons, network)
            assert (one.summary.arrays.checks, one.summary.looks, one.summary.told) == (
                expected.arrays.checks, expected.looks, expected.told,
            )  # fmt: skip
            assert one.summary.outcomes == expected.outcomes
            assert one.summary.worst[0] == pytest.approx(expected.worst[0], rel=1e-6)
            assert sorted(one.summary.arrays) == sorted(expected.arrays)
    assert seen > len(situations) / 2


@pytest.mark.parametrize("member", range(len(REGIMES)))
@pytest.mark.parametrize("what", ["parameters", "deltas", "outputs", "loss", "input"])
def test_one_wrong_element_of_one_member_is_told_of_that_member_alone(what, member):
    situations = stack()
    inputs = situations[member].case.batch.inputs

    def function(network, parameters, batch):
        found = gradients(network, parameters, batch)
        if not np.array_equal(batch.inputs, inputs):
            return found

        def wrong(array):
            array = np.array(array)
            array.flat[-1] = array.flat[-1] * (1 + 1e-6) + 1e-6
            return array

        value = getattr(found, what)
        changed = {key: wrong(array) for key, array in value.items()} if isinstance(value, dict) else wrong(value)
        return replace(found, **{what: changed})

    failed = [isinstance(one, Judgement) and one.root is not None for one in judged(function, situations)]
    assert failed == [index == member for index in range(len(situations))]


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_what_is_not_finite_does_not_pass(spoil):
    def function(*arguments):
        found = dict(gradients(*arguments).parameters)
        found["0.bias"] = np.full_like(found["0.bias"], spoil)
        return found

    for one in judged(function, stack(regimes=("ordinary", "integers", "large"))):
        assert isinstance(one, Judgement)
        assert one.root is not None
        assert (one.root.path, one.root.kind.name) == ("0.bias", "NONFINITE")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda found: {**found, "0.bias": found["0.bias"][:-1]}, "SHAPE"),
        (lambda found: {**found, "0.bias": found["0.bias"].astype(np.float32)}, "DTYPE"),
        (lambda found: {path: array for path, array in found.items() if path != "0.bias"}, "NAME"),
        (lambda found: {**found, "9.bias": found["0.bias"]}, "NAME"),
    ],
)
def test_what_is_not_as_it_is_to_be_is_judged_by_itself(change, kind):
    for one in judged(lambda *arguments: change(dict(gradients(*arguments).parameters)), stack()):
        assert isinstance(one, Judgement)
        assert one.root is not None
        assert one.root.kind.name == kind


def test_a_member_that_crashes_or_is_not_supported_leaves_the_others_alone():
    situations = stack()
    third, fifth = (situations[index].case.batch.inputs for index in (2, 4))

    def function(network, parameters, batch):
        if np.array_equal(batch.inputs, third):
            raise ValueError("no")
        if np.array_equal(batch.inputs, fifth):
            raise NotImplementedError("not this one")
        return gradients(network, parameters, batch)

    found = judged(function, situations)
    told = [one if isinstance(one, Judgement) else Judgement() for one in found]
    assert [one.root.kind.name for one in told if one.root is not None] == ["CRASHED"]
    assert [one.unsupported for one in told if one.unsupported] == ["not this one"]
    assert told[2].root is not None
    assert told[4].unsupported


def test_only_what_is_asked_for_is_counted_and_can_fail():
    def function(*arguments):
        found = gradients(*arguments)
        return Gradients({path: 2 * array for path, array in found.parameters.items()}, found.loss)

    checks = [CHECKS["loss"]]
    found = list(judge_together(Implementation("mine", function), stack(), checks))
    kept = [one.summary.arrays.checks for one in found if isinstance(one, Screened)]
    assert kept == [{"loss": 1}] * (len(REGIMES) - 1)


def test_after_calls_that_took_too_long_and_once_it_is_late_nothing_more_is_called():
    calls = []

    def function(*arguments):
        calls.append(None)
        return gradients(*arguments)

    situations = stack()
    assert len(judged(function, situations, relations=False, go_on=lambda: len(calls) < 3)) == 3
    assert len(calls) == 3
