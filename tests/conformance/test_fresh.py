"""Fresh cases like the failing one, and what a candidate gives in them beside what is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradconform.capabilities import EVERYTHING, Capabilities
from gradconform.case import Gradients
from gradconform.conformance import implementations
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.fresh import (
    FILLING,
    JITTER,
    JITTERED,
    ROWS,
    cases_like,
    evidence_of,
    example_of,
    failing_first,
    filled_like,
    jittered,
    networks_like,
)
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.situation import Situation
from gradconform.errors import Unsupported
from gradconform.layers import Dense, Sigmoid, Softmax, Tanh
from gradconform.reference.backpropagation import gradients
from gradconform.templates import parse_template

CLASSES = "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy"


def case_of(text=CLASSES, rows=5, dtype="float64", regime="ordinary", **more):
    return Example(parse_template(text).network, rows, (), **more).case(Draw(regime, 3), dtype)


def fresh(case, capabilities=EVERYTHING, regime=None, bodies=()):
    return list(cases_like(case, capabilities, regime, bodies))


def alone(network, parameters, batch):
    """Return the right gradients of the parameters, and nothing else."""
    return dict(gradients(network, parameters, batch).parameters)


def given_by(compute, case, **more):
    return evidence_of(Implementation("mine", compute, **more), Situation(case))


# Fresh cases.


def test_batches_have_sizes_of_their_own():
    case = case_of()
    made = fresh(case)
    assert [one.batch.rows for one in made] == [*ROWS, *[5] * JITTERED]
    assert all(one.network == case.network for one in made)
    assert not set(ROWS) - {1} & set(case.network.widths[1:-1])


def test_they_are_the_same_each_time_and_differ_from_each_other():
    first, second = (fresh(case_of()) for _ in range(2))
    assert all(np.array_equal(a.batch.inputs, b.batch.inputs) for a, b in zip(first, second, strict=True))
    assert len({one.batch.inputs.tobytes() for one in first}) == len(first)


def test_near_cases_are_near_and_not_as_round():
    case = case_of(regime="integers")
    near = jittered(case, np.random.default_rng(1))
    for path, array in case.parameters.items():
        assert np.allclose(near.parameters[path], array, rtol=JITTER, atol=0)
        assert not np.array_equal(near.parameters[path], array)
    assert np.array_equal(near.batch.targets, case.batch.targets)
    assert near.dtype == case.dtype


def test_the_regime_of_the_failing_case_comes_again():
    tied = case_of(regime="zero-weights")
    made = fresh(tied, regime="zero-weights")
    zeros = [one for one in made if any(not one.parameters[path].any() for path in ("0.weight", "2.weight"))]
    assert len(made) > len(fresh(tied))
    assert len(zeros) > 3


def test_a_single_sample_comes_with_others():
    assert sum(one.batch.rows == 1 for one in fresh(case_of(rows=1))) > JITTERED + 3


def test_an_implementation_of_single_samples_gets_no_batch():
    single = Capabilities(samples="single")
    assert {one.batch.rows for one in fresh(case_of(rows=1), single)} == {1}
    assert len(fresh(case_of(rows=1), single)) > JITTERED + 3


def test_what_is_not_declared_is_not_drawn():
    case = case_of()
    bodies = list(networks_like(case.network))
    assert {one.network for one in fresh(case, EVERYTHING, None, bodies)} == {case.network, *bodies}
    fixed = Capabilities(networks=(CLASSES,))
    assert {one.network for one in fresh(case, fixed, None, bodies)} == {case.network}


@pytest.mark.parametrize("labels", ["integer", "soft"])
def test_labels_and_class_weights_are_of_the_same_kind(labels):
    case = case_of(labels=labels, class_weights=True)
    for one in fresh(case):
        assert one.batch.labelled == (labels == "integer")
        assert one.batch.class_weights is not None
    assert example_of(case, 3).rows == 3


def test_float32_stays_float32():
    assert {one.dtype for one in fresh(case_of(dtype="float32"))} == {np.dtype(np.float32)}


# Other networks.


def test_other_networks_are_of_the_same_parts():
    network = parse_template("2 -> Dense(3, bias=False) -> Tanh -> Dense(4, bias=False) -> Sigmoid, MeanSquaredError")
    others = list(networks_like(network.network))
    assert len(others) == 3
    for other in others:
        assert other.loss == network.network.loss
        assert {type(layer) for layer in other.layers} == {Dense, Tanh, Sigmoid}
        assert not any(layer.bias for layer in other.layers if isinstance(layer, Dense))
        assert len(other.layers) > len(network.network.layers)
    assert len(set(others[0].widths)) > 3
    assert set(others[1].widths) == {3}


@pytest.mark.parametrize(
    "text", ["3 -> Dense(2) -> Softmax, CrossEntropy", "3 -> Dense(2) -> Sigmoid, BinaryCrossEntropy"]
)
def test_a_loss_on_probabilities_keeps_the_layer_that_makes_them(text):
    network = parse_template(text).network
    for other in networks_like(network):
        assert other.layers[-1] == network.layers[-1]
        assert fresh(case_of(text), EVERYTHING, None, [other])


def test_a_network_without_parameters_has_others_with_some():
    network = parse_template("3 -> Softmax, CrossEntropy").network
    assert all(isinstance(other.layers[-1], Softmax) and other.parameters() for other in networks_like(network))


def test_a_template_is_filled_with_widths_of_its_own_and_with_equal_ones():
    template = parse_template("* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError")
    first, second = filled_like(template)
    assert (first.widths[0], first.widths[1], first.widths[-1]) == FILLING[:3]
    assert set(second.widths) == {3}
    assert list(filled_like(parse_template(CLASSES))) == []


# Evidence.


def test_what_is_right_does_not_fail():
    entry = given_by(alone, case_of())
    assert not entry.fails
    assert entry.shown is None
    assert {kind for kind, _ in entry.names} == {"parameters"}
    assert entry.given.size == sum(array.size for array in case_of().parameters.values()) == sum(entry.sizes)
    assert np.allclose(entry.given, entry.right, rtol=1e-12)


def test_what_is_shown_is_held_against_steps():
    entry = given_by(gradients, case_of())
    assert entry.shown is not None
    assert {"parameters", "deltas", "outputs"} <= {kind for kind, _ in entry.names}
    assert not entry.fails


def test_which_elements_are_wrong_and_by_how_much():
    def compute(network, parameters, batch):
        found = alone(network, parameters, batch)
        found["2.bias"] = found["2.bias"] + np.array([0, 0.25, 0])
        return found

    entry = given_by(compute, case_of())
    wrong = {name: part for name, part in entry.by_name(entry.wrong) if part.any()}
    assert {name: part.tolist() for name, part in wrong.items()} == {("parameters", "2.bias"): [False, True, False]}
    assert entry.off.max() == pytest.approx(0.25)
    assert (entry.bound < 1e-12).all()
    largest = dict(entry.by_name(entry.largest))["parameters", "2.bias"]
    assert len(set(largest)) == 1
    assert largest[0] == np.abs(compute(entry.case.network, entry.case.parameters, entry.case.batch)["2.bias"]).max()


def test_arrays_of_another_shape_are_left_out():
    def compute(network, parameters, batch):
        return {
            path: array.T[..., None] if path == "0.weight" else array
            for path, array in alone(network, parameters, batch).items()
        }

    assert ("parameters", "0.weight") not in given_by(compute, case_of()).names


def crashing(network, parameters, batch):
    raise ZeroDivisionError


def refusing(network, parameters, batch):
    raise NotImplementedError("no")


def unsupporting(network, parameters, batch):
    raise Unsupported("no")


def empty(network, parameters, batch):
    return {}


@pytest.mark.parametrize("compute", [crashing, refusing, unsupporting, empty])
def test_where_nothing_is_given_there_is_no_evidence(compute):
    assert given_by(compute, case_of()) is None


class Single:
    """Takes one sample at a time, without its axis."""

    samples = "single"

    def gradients(self, network, parameters, batch):
        assert batch.inputs.shape == (4,)
        return alone(network, parameters, replace(batch, inputs=batch.inputs[None], targets=batch.targets[None]))


def test_a_single_sample_is_evidence_too():
    entry = evidence_of(implementations.of(Single(), "mine"), Situation(case_of(rows=1)))
    assert not entry.fails
    assert {key for _, key in entry.names} == set(case_of().parameters)


class Transposed:
    """Has weights as (out, in), and says so."""

    conventions = ("transposed", "half")

    def gradients(self, network, parameters, batch):
        own = {path: array.T if array.ndim == 2 else array for path, array in parameters.items()}
        return {path: (array.T if array.ndim == 2 else array) / 2 for path, array in alone(network, own, batch).items()}


def test_what_is_declared_is_right_and_the_case_is_the_one_that_is_computed():
    case = case_of("4 -> Dense(6) -> Tanh -> Dense(3), MeanSquaredError")
    entry = evidence_of(implementations.of(Transposed(), "mine"), Situation(case))
    assert not entry.fails
    assert entry.case.network.loss.scale == 0.5
    assert not given_by(alone, case).fails


def test_slack_widens_the_bounds():
    def compute(network, parameters, batch):
        found = alone(network, parameters, batch)
        slack = {path: np.full(array.shape, 1e-3) for path, array in found.items()}
        return Gradients({path: array + 5e-4 for path, array in found.items()}, slack=slack)

    entry = given_by(compute, case_of())
    assert not entry.fails
    assert (entry.bound >= 1e-3).all()


def test_the_most_telling_comes_first():
    def compute(network, parameters, batch):
        return {
            path: array * (2 if batch.rows in {1, 3} else 1)
            for path, array in alone(network, parameters, batch).items()
        }

    entries = [given_by(compute, case_of(rows=rows)) for rows in (1, 2, 3)]
    entries[1].fresh = False
    assert [entry.case.batch.rows for entry in failing_first(entries)] == [3, 1, 2]
