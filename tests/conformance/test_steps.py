"""The steps of a failing case: what is kept of them, in which order, and that it stays small."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import Gradients
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.judge import judge
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.results import Result
from gradconform.conformance.situation import Situation
from gradconform.conformance.steps import MOST, steps_of
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients

NETWORK = "3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError"


def finding_of(compute, networks=NETWORK):
    plan = Plan(
        [Implementation("mine", compute)],
        max_examples=6,
        seed=1,
        diagnose=False,
        networks=network_strategy(networks),
        dtypes=["float64"],
        witnesses=False,
        shrink_seconds=0,
        max_findings=1,
    )
    (finding,) = run(plan).findings
    return finding


def bias_alone(network, parameters, batch):
    found = dict(gradients(network, parameters, batch).parameters)
    found["0.bias"] = found["0.bias"] / 3
    return found


def test_steps_go_from_the_first_output_to_the_last_gradient():
    steps = finding_of(FAULTS["bias-mean"].make()).steps
    assert [step.path for step in steps] == [
        *("output 0", "output 1", "output 2", "loss", "output delta", "delta 1", "delta 0"),
        *("2.weight", "2.bias", "0.weight", "0.bias", "input"),
    ]
    assert {step.path for step in steps if not step.passed} == {"2.bias", "0.bias"}
    assert all(step.ratio <= 1 for step in steps if step.passed)


def test_what_was_not_returned_has_an_expected_size_alone():
    steps = {step.path: step for step in finding_of(bias_alone).steps}
    assert steps["delta 1"].actual is None
    assert steps["delta 1"].ratio is None
    assert steps["delta 1"].expected > 0
    assert not steps["0.bias"].passed
    assert steps["0.bias"].actual == pytest.approx(steps["0.bias"].expected / 3)


@pytest.mark.parametrize("wrong", [lambda array: array * np.inf, lambda array: array[:1], lambda array: "nonsense"])
def test_whatever_is_returned_ends_as_numbers_or_none(wrong):
    def compute(network, parameters, batch):
        found = dict(gradients(network, parameters, batch).parameters)
        return {**found, "0.weight": wrong(found["0.weight"])}

    finding = finding_of(compute)
    assert finding.path in {"0.weight", "parameters"}
    assert all(step.path != "0.weight" or not step.passed for step in finding.steps)
    result = Result(
        verdict="failed", seed=1, seconds=1.0, networks=1, structures=1, implementations=[], findings=[finding]
    )
    assert Result.from_json(result.to_json()).findings == [finding]


def test_of_a_call_that_crashed_there_are_no_steps():
    def compute(network, parameters, batch):
        raise ValueError("no")

    assert finding_of(compute).steps == []


def test_a_deep_network_keeps_so_many():
    network = parse(f"1 -> Dense(1){' -> ReLU' * MOST}, MeanSquaredError")
    situation = Situation(Example(network, 1, (Draw("ordinary", 1),)).case(Draw("ordinary", 1), "float64"))
    judgement = judge(reference(), situation, list(CHECKS.values()), relations=False)
    steps = steps_of(judgement.views, judgement.comparisons, "global", network)
    assert len(steps) == MOST
    assert all(step.passed for step in steps)


def test_of_two_looks_one_that_found_it_wrong_is_told():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        deltas = {index: np.array(delta) for index, delta in found.deltas.items()}
        deltas[0] = deltas[0] * 2
        wrong = {"0.weight": batch.inputs.T @ deltas[0], "0.bias": deltas[0].sum(axis=0)}
        return Gradients({**found.parameters, **wrong}, deltas=deltas, outputs=found.outputs)

    finding = finding_of(compute)
    steps = {step.path: step for step in finding.steps}
    assert (finding.look, finding.path) == ("local", "delta 0")
    assert (steps["delta 0"].look, steps["delta 0"].passed) == ("local", False)
    # its step is right on the wrong delta, and its value is not
    assert (steps["0.weight"].look, steps["0.weight"].passed) == ("global", False)
    assert (steps["2.weight"].look, steps["2.weight"].passed) == ("local", True)
    assert {step.path for step in finding.steps if not step.passed} == {finding.path, *finding.wrong}
