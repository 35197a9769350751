"""A failure is named: in whatever form a candidate comes, and as nothing where it is no mistake that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradconform.conformance import implementations
from gradconform.conformance.compare import Kind
from gradconform.conformance.diagnosis import (
    UNKNOWN,
    UNNAMED,
    Diagnosis,
    bodies_of,
    concluded,
    diagnose,
    explains,
    gather,
)
from gradconform.conformance.engine import run
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.theories import Theory, table
from gradconform.errors import Unsupported
from gradconform.reference.backpropagation import gradients

FREE = "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"
FIXED = "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
VALUES = "4 -> Dense(6) -> Tanh -> Dense(3), MeanSquaredError"


def right(network, parameters, batch):
    return dict(gradients(network, parameters, batch).parameters)


def bias_mean(network, parameters, batch):
    """Return the gradients with biases that are averaged over the batch."""
    found = right(network, parameters, batch)
    return {path: array / batch.rows if path.endswith("bias") else array for path, array in found.items()}


def shown(network, parameters, batch):
    """Return the same with all that is shown on the way."""
    return replace(gradients(network, parameters, batch), parameters=bias_mean(network, parameters, batch))


def failing(candidate, text=FREE, max_examples=30, dtype="float64", **more):
    """Return the first failure of a candidate, undiagnosed, and its plan."""
    kept = []
    plan = Plan(
        [implementations.of(candidate, "mine")],
        max_examples,
        seed=1,
        networks=network_strategy(text) if text else None,
        dtypes=[dtype],
        witnesses=False,
        max_findings=1,
        shrink_seconds=0,
        diagnose=False,
        keep=kept.append,
        **more,
    )
    run(plan)
    return kept[-1], plan


def diagnosed(candidate, text=FREE, **more):
    return diagnose(*failing(candidate, text, **more))


# In whatever form a candidate comes.


@pytest.mark.parametrize("text", [FREE, FIXED, None])
@pytest.mark.parametrize("candidate", [bias_mean, shown])
def test_a_mistake_is_named_with_deltas_and_without(candidate, text):
    told = diagnosed(candidate, text)
    assert told.symptom == "bias-mean"
    assert "averaged over the batch" in told.likely
    assert "delta.sum(axis=0)" in told.mend
    assert "putting this mistake into the reference reproduces your numbers, within rounding, in " in told.evidence
    assert told.facts == ()


def test_the_evidence_counts_what_fails_and_what_does_not():
    failure, plan = failing(bias_mean, FIXED)
    found = gather(failure, bodies_of(plan, failure))
    # a batch of one sample is its own mean
    assert [entry.fails for entry in found] == [entry.case.batch.rows > 1 for entry in found]
    failing_ones = sum(entry.fails for entry in found)
    assert (failing_ones, len(found) - failing_ones) > (10, 1)
    words = diagnose(failure, plan).evidence.partition("within rounding, in ")[2]
    assert words == f"all {failing_ones} cases that fail and the one that does not"


def test_float32_is_named_too():
    assert diagnosed(bias_mean, dtype="float32").symptom == "bias-mean"


class Single:
    """Takes one sample at a time, and forgets the derivative of tanh."""

    samples = "single"

    def gradients(self, network, parameters, batch):
        w2 = parameters["2.weight"]
        a = np.tanh(batch.inputs @ parameters["0.weight"] + parameters["0.bias"])
        delta2 = 2 * (a @ w2 + parameters["2.bias"] - batch.targets) / w2.shape[1]
        delta0 = w2 @ delta2
        return {
            "0.weight": np.outer(batch.inputs, delta0),
            "0.bias": delta0,
            "2.weight": np.outer(a, delta2),
            "2.bias": delta2,
        }


@pytest.mark.parametrize("text", [VALUES, FREE.replace("SoftmaxCrossEntropy", "MeanSquaredError")])
def test_a_single_sample_is_enough(text):
    assert diagnosed(Single(), text).symptom == "derivative-missing"


class Declared:
    """Has weights as (out, in) and half the squared error, says so, and averages the gradients of its biases."""

    conventions = ("transposed", "half")

    def gradients(self, network, parameters, batch):
        own = {path: array.T if array.ndim == 2 else array for path, array in parameters.items()}
        found = bias_mean(network, own, batch)
        return {path: (array.T if array.ndim == 2 else array) / 2 for path, array in found.items()}


def test_what_is_declared_is_no_part_of_the_mistake():
    assert diagnosed(Declared(), VALUES).symptom == "bias-mean"


def test_undeclared_conventions_are_named():
    def half(network, parameters, batch):
        found = gradients(network, parameters, batch)
        return replace(
            found,
            parameters={path: array / 2 for path, array in found.parameters.items()},
            loss=found.loss / 2,
            input=found.input / 2,
            deltas={index: array / 2 for index, array in found.deltas.items()},
        )

    told = diagnosed(half, VALUES)
    assert told.symptom == "half-mse"
    assert "declare the convention half" in told.likely


class Network:
    """A class that is built for each network, keeps its activations, and hands the delta down without a derivative."""

    def __init__(self, network):
        self.calls = 0

    def forward(self, network, parameters, batch):
        self.calls += 1
        self.a = np.tanh(batch.inputs @ parameters["0.weight"] + parameters["0.bias"])
        self.z = self.a @ parameters["2.weight"] + parameters["2.bias"]
        return ((self.z - batch.targets) ** 2).mean()

    def backward(self, network, parameters, batch):
        delta2 = 2 * (self.z - batch.targets) / self.z.size
        delta0 = delta2 @ parameters["2.weight"].T
        return {
            "0.weight": batch.inputs.T @ delta0,
            "0.bias": delta0.sum(axis=0),
            "2.weight": self.a.T @ delta2,
            "2.bias": delta2.sum(axis=0),
        }


class Accumulating:
    """A class with state: gradients add up over its calls."""

    def __init__(self, network):
        self.total = {}

    def gradients(self, network, parameters, batch):
        for path, array in right(network, parameters, batch).items():
            self.total[path] = self.total.get(path, 0) + array
        return dict(self.total)


def test_classes_are_asked_as_functions_are():
    assert diagnosed(Network, VALUES).symptom == "derivative-missing"


@pytest.mark.parametrize("text", [None, FREE, FIXED])
def test_what_is_kept_between_calls_is_named(text):
    failure, plan = failing(Accumulating, text)
    assert failure.root.kind is Kind.STATEFUL
    assert diagnose(failure, plan).symptom == "accumulates"


# Fresh cases that are refused.


@pytest.mark.parametrize("error", [NotImplementedError("no"), Unsupported("no"), ZeroDivisionError("no")])
def test_one_that_computes_the_failing_network_alone_is_named_nevertheless(error):
    failure, plan = failing(bias_mean, FREE)
    seen = failure.case.network

    def choosy(network, parameters, batch):
        if network != seen:
            raise error
        return bias_mean(network, parameters, batch)

    failure.implementation = implementations.of(choosy, "mine")
    evidence = gather(failure, bodies_of(plan, failure))
    assert {entry.case.network for entry in evidence} == {seen}
    assert diagnose(failure, plan).symptom == "bias-mean"


def test_one_that_computes_nothing_any_more_is_unknown():
    failure, plan = failing(bias_mean, FREE)

    def crash(network, parameters, batch):
        raise ZeroDivisionError

    failure.implementation = implementations.of(crash, "mine")
    assert diagnose(failure, plan) == UNKNOWN


def test_a_call_that_crashed_has_no_name():
    def crash(network, parameters, batch):
        return 1 / 0

    assert diagnosed(crash) == UNKNOWN


# What is no mistake that is known.


def test_correct_code_that_seemed_to_fail_has_no_name():
    failure, plan = failing(bias_mean, FREE)
    failure.implementation = implementations.of(right, "mine")
    assert diagnose(failure, plan) == UNKNOWN


def test_an_unknown_cause_leaves_what_is_known_of_it():
    def cubed(network, parameters, batch):
        return {
            path: array + array**3 if path.endswith("weight") else array
            for path, array in right(network, parameters, batch).items()
        }

    told = diagnosed(cubed, FIXED)
    assert replace(told, facts=()) == UNNAMED
    assert told.likely.startswith("unknown: ")
    assert told.facts


def test_one_element_is_told_where_no_mistake_explains_it():
    def one(network, parameters, batch):
        found = right(network, parameters, batch)
        array = found["0.weight"].copy()
        array[1, 2] *= 1.01
        return {**found, "0.weight": array}

    told = diagnosed(one, FIXED)
    assert told.symptom == "one-element"
    assert "number 8" in told.likely


# What several theories come to.


def theory(*identifiers):
    return Theory(tuple(next(one for one in table() if one.id == identifier) for identifier in identifiers))


@pytest.fixture(scope="module")
def evidence():
    failure, plan = failing(bias_mean, FIXED)
    return gather(failure, bodies_of(plan, failure))


def test_no_theory_is_no_diagnosis(evidence):
    assert concluded([], evidence) == UNKNOWN


def test_two_that_claim_as_much_are_both_told(evidence):
    told = concluded([theory("bias-first-row"), theory("bias-last-row")], evidence)
    assert told.symptom == "bias-first-row or bias-last-row"
    assert "; or: " in told.likely
    assert "; or: " in told.mend


def test_one_that_claims_much_more_is_left_out(evidence):
    much = replace(theory("bias-last-row"), mistakes=(replace(theory("bias-last-row").mistakes[0], claims=5),))
    assert concluded([theory("bias-first-row"), much], evidence).symptom == "bias-first-row"


def test_three_that_claim_as_much_are_none(evidence):
    three = [theory(name) for name in ("bias-first-row", "bias-last-row", "bias-scalar")]
    assert concluded(three, evidence) == UNKNOWN


def test_of_two_that_explain_the_same_the_one_that_says_less_is_told(evidence):
    told = concluded([theory("sigmoid-extra"), theory("fused-delta-on-probabilities")], evidence)
    assert told.symptom == "sigmoid-extra"


def test_several_at_once_are_told_in_one_sentence(evidence):
    told = concluded([theory("label-shift", "bias-first-row")], evidence)
    assert told.symptom == "bias-first-row + label-shift"
    assert "; and " in told.likely
    assert "; or: " not in told.likely


# What a diagnosis explains.


def test_a_diagnosis_explains_other_failures_of_the_same_mistake():
    first, plan = failing(bias_mean, FIXED)
    other, _ = failing(bias_mean, "3 -> Dense(2), MeanSquaredError")
    different, _ = failing(lambda *given: {path: 2 * array for path, array in right(*given).items()}, FIXED)
    told = diagnose(first, plan)
    assert explains(told, first)
    assert explains(told, other)
    assert not explains(told, different)
    assert not explains(UNKNOWN, first)
    assert not explains(Diagnosis("aliased", "likely"), first)


@pytest.mark.parametrize("candidate", [bias_mean, Accumulating, Single()])
def test_the_same_failure_gives_the_same_diagnosis(candidate):
    text = VALUES if isinstance(candidate, Single) else FREE
    first, second = (diagnosed(candidate, text) for _ in range(2))
    assert first == second
    assert first != UNKNOWN
