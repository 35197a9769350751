"""What a finding depends on and what does not matter is told where it is sure, and nothing else."""

import numpy as np
import pytest

import gradconform as gc
from gradconform.case import Batch, Case
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.circumstances import Circumstances, Sighting, Sightings, facets_of
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients

KEY = ("mine", "parameters", "WRONG", "Dense.weight")
OTHER = ("mine", "loss", "WRONG", "loss Huber")


def sightings(*groups):
    """Return sightings in groups `(number of structures, cases of each, failure, facets)`."""
    found = Sightings()
    for group, (structures, cases, failure, facets) in enumerate(groups):
        for structure in range(structures):
            told = frozenset() if failure else frozenset([("parameters", "Dense.weight"), ("deltas", "deltas Tanh")])
            found.cases += [Sighting(facets, (group, structure), failure, told)] * cases
    return found


def test_a_condition_is_told_with_the_cases_that_speak_for_it():
    one, several = {"the batch size": "batch 1"}, {"the batch size": "batch > 1"}
    found = sightings((12, 4, KEY, several), (6, 4, None, one)).of([KEY])
    assert found == Circumstances(("batch > 1 (0 of 24 cases with batch 1)",))


@pytest.mark.parametrize(
    ("failing", "passing"),
    [
        # too few cases on either side
        ((12, 4), (1, 4)),
        ((1, 4), (12, 4)),
        ((3, 1), (30, 4)),
        # one structure, however often: all its cases are alike
        ((1, 40), (20, 4)),
        # of so few, chance may have made all of one kind
        ((2, 4), (8, 4)),
    ],
)
def test_what_may_be_chance_is_not_told(failing, passing):
    one, several = {"the batch size": "batch 1"}, {"the batch size": "batch > 1"}
    assert sightings((*failing, KEY, several), (*passing, None, one)).of([KEY]).only_where == ()


def test_a_single_failure_elsewhere_refutes_a_condition():
    one, several = {"the batch size": "batch 1"}, {"the batch size": "batch > 1"}
    found = sightings((12, 4, KEY, several), (6, 4, None, one), (1, 1, KEY, one))
    assert found.of([KEY]).only_where == ()


def test_another_failure_speaks_neither_for_nor_against():
    one, several = {"the batch size": "batch 1"}, {"the batch size": "batch > 1"}
    found = sightings((12, 4, KEY, several), (6, 4, OTHER, one))
    assert found.of([KEY]).only_where == ()
    assert sightings((12, 4, KEY, several), (6, 4, None, one), (4, 4, OTHER, several)).of([KEY]).only_where


def test_what_follows_from_a_condition_is_none_of_its_own():
    square = {"whether weights are square": "square weights", "the depth": "several Dense layers"}
    oblong = {"whether weights are square": "no square weights", "the depth": "several Dense layers"}
    flat = {"whether weights are square": "no square weights", "the depth": "one Dense layer"}
    found = sightings((10, 4, KEY, square), (10, 4, None, oblong), (8, 4, None, flat)).of([KEY])
    assert found.only_where == ("square weights (0 of 72 cases with no square weights)",)


def test_two_conditions_are_both_told():
    def facets(batch, reduction):
        return {"the batch size": batch, "the reduction": f"reduction {reduction}"}

    found = sightings(
        (12, 4, KEY, facets("batch > 1", "mean")),
        (10, 4, None, facets("batch 1", "mean")),
        (12, 4, None, facets("batch > 1", "sum")),
        (12, 4, None, facets("batch > 1", "none")),
        (10, 4, None, facets("batch 1", "sum")),
    ).of([KEY])
    # the second is counted among the cases that meet the first
    assert found.only_where == (
        "reduction mean (0 of 136 others)",
        "batch > 1 (0 of 40 cases with batch 1)",
    )


def test_what_fails_as_often_either_way_does_not_matter():
    shallow, deep = {"the depth": "one Dense layer"}, {"the depth": "several Dense layers"}
    assert sightings((5, 4, KEY, shallow), (7, 4, KEY, deep)).of([KEY]).does_not_matter == ("the depth",)
    seldom = sightings((5, 4, KEY, shallow), (2, 1, KEY, deep), (7, 4, None, deep))
    assert seldom.of([KEY]).does_not_matter == ()
    few = sightings((5, 4, KEY, shallow), (1, 4, KEY, deep))
    assert few.of([KEY]).does_not_matter == ()


def test_of_the_layer_in_which_it_fails_it_is_not_told_that_it_does_not_matter():
    key = ("mine", "deltas", "WRONG", "deltas Tanh")
    with_relu = {"Tanh": "a layer Tanh", "ReLU": "a layer ReLU"}
    without = {"Tanh": "a layer Tanh", "ReLU": "no layer ReLU"}
    assert sightings((12, 4, key, with_relu), (12, 4, key, without)).of([key]) == Circumstances()
    assert sightings((12, 4, KEY, with_relu), (12, 4, KEY, without)).of([KEY]).does_not_matter == ("the activation",)


def test_a_case_in_which_it_could_not_have_been_seen_is_none_against_it():
    one, several = {"the batch size": "batch 1"}, {"the batch size": "batch > 1"}
    key = ("mine", "parameters", "WRONG", "Dense.bias")
    # the passing cases told of the weights alone
    assert sightings((12, 4, key, several), (12, 4, None, one)).of([key]).only_where == ()
    crash, unsteady = ("mine", "call", "CRASHED", "gradients"), ("mine", "repeatable")
    assert sightings((12, 4, crash, several), (12, 4, None, one)).of([crash]).only_where
    assert sightings((12, 4, unsteady, several), (12, 4, None, one)).of([unsteady]).only_where == ()


def test_what_a_run_sees_is_what_is_counted():
    network = parse("2 -> Dense(1), MeanSquaredError")
    case = Case(network, {"0.weight": np.ones((2, 1)), "0.bias": np.ones(1)}, Batch(np.ones((1, 2)), np.ones((1, 1))))
    found = Sightings()
    found.passed(case, "regime tiny", frozenset({("parameters", "Dense.bias")}))
    found.failed(case, "regime tiny", KEY)
    passed, failed = found.cases
    assert (passed.told, passed.failure) == ({("parameters", "Dense.bias")}, None)
    assert (failed.told, failed.failure) == (frozenset(), KEY)


def test_the_facets_of_a_case():
    network = parse("3 -> Dense(3) -> Tanh -> Dense(1, bias=False), SoftmaxCrossEntropy(ignore_index=-100)")
    parameters = {path: np.ones(shape) for path, shape in network.parameters().items()}
    case = Case(network, parameters, Batch(np.ones((2, 3)), np.array([0, -100]), np.ones(1)))
    facets = facets_of(case, "regime tiny")
    assert {name: facets[name] for name in facets if not name[0].isupper()} == {
        "the batch size": "batch > 1",
        "the loss": "loss SoftmaxCrossEntropy",
        "the reduction": "reduction mean",
        "the kind of targets": "integer labels",
        "class weights": "class weights",
        "ignored labels": "ignored labels",
        "label smoothing": "no label smoothing",
        "the depth": "several Dense layers",
        "the bias": "biases",
        "whether weights are square": "square weights",
        "the number of outputs": "one output",
        "the memory order": "arrays in C order",
        "the dtype": "float64",
        "the values": "regime tiny",
    }
    assert (facets["Tanh"], facets["ReLU"]) == ("a layer Tanh", "no layer ReLU")
    assert "the values" not in facets_of(case, "step 3")


# In runs

SMALL = [
    "* -> Dense(*), MeanSquaredError",
    "* -> Dense(*) -> Tanh, Huber(reduction=sum)",
    "* -> Dense(*) -> Tanh -> Dense(*), Huber",
    "* -> Dense(*) -> Dense(*), MeanSquaredError(reduction=sum)",
]


def finding_of_run(candidate, **more):
    options = {"seed": 2, "witnesses": False, "shrink_seconds": 0, "dtypes": ["float64"], **more}
    checks = [CHECKS["parameters"]]
    return run(Plan([candidate], 100, networks=network_strategy(SMALL), checks=checks, **options)).findings[0]


@pytest.mark.parametrize(
    ("fault", "condition"),
    [("bias-mean", "batch > 1"), ("transposed", "square weights"), ("mean-twice", "reduction mean")],
)
def test_a_fault_tells_its_condition(fault, condition):
    finding = finding_of_run(FAULTS[fault].implementation())
    assert [text.partition(" (0 of ")[0] for text in finding.only_where][:1] == [condition]
    assert f"  only where           {finding.only_where[0]}" in finding_text(finding)


def test_a_fault_tells_what_does_not_matter():
    def doubled(network, parameters, batch):
        return {path: 2 * array for path, array in gradients(network, parameters, batch).parameters.items()}

    finding = finding_of_run(Implementation("mine", doubled))
    assert finding.only_where == []
    assert {"the batch size", "the loss", "the reduction", "the depth", "the activation"} <= {*finding.does_not_matter}
    assert "\n  regardless of        the batch size, the loss, " in finding_text(finding)


def test_nothing_is_told_of_a_few_cases():
    finding = finding_of_run(FAULTS["bias-mean"].implementation(), max_findings=1)
    assert (finding.only_where, finding.does_not_matter) == ([], [])
    assert "only where" not in finding_text(finding)


def test_a_given_network_has_no_structure_to_tell_of():
    given = "2 -> Dense(2) -> Tanh -> Dense(1), MeanSquaredError"
    result = gc.check(FAULTS["bias-missing"].implementation(), networks=given, max_examples=24, dtypes=["float64"])
    for finding in result.findings:
        assert not {"the loss", "the depth", "the activation"} & {*finding.does_not_matter}
