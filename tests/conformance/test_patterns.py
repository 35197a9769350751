"""What is known of an error that has no name: which elements, by how much, and which relations break."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.capabilities import EVERYTHING
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.fresh import cases_like, evidence_of, failing_first
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.patterns import known, located
from gradconform.conformance.situation import Situation
from gradconform.reference.backpropagation import gradients
from gradconform.templates import parse_template

NETWORK = "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
ROOT = Comparison("parameters", "0.weight", Kind.WRONG)


def evidence_for(change, text=NETWORK):
    """Return what is given by whoever changes the gradients of the parameters, in a dozen cases."""

    def compute(network, parameters, batch):
        found = dict(gradients(network, parameters, batch).parameters)
        return {path: change(path, array.copy(), batch) for path, array in found.items()}

    case = Example(parse_template(text).network, 5, ()).case(Draw("ordinary", 3), "float64")
    cases = [case, *cases_like(case, EVERYTHING, None)]
    found = [evidence_of(Implementation("mine", compute), Situation(one)) for one in cases]
    return failing_first([entry for entry in found if entry is not None])


def facts(change, root=ROOT, comparisons=()):
    return known(evidence_for(change), root, comparisons)


def in_weight(change):
    """Return a change of 0.weight alone."""

    def apply(path, array, batch):
        if path == "0.weight":
            change(array)
        return array

    return apply


def added(place, by=0.5):
    def change(array):
        array[place] += by

    return change


# Where an error is.


def test_correct_code_has_no_pattern():
    evidence = evidence_for(lambda path, array, batch: array)
    assert located(evidence) is None
    assert known(evidence, ROOT, []) == ()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (added((2, 3)), "number 15"),
        (lambda array: np.put(array, np.argmax(np.abs(array)), 2 * np.abs(array).max()), "the largest of its array"),
    ],
)
def test_one_element_is_told_by_its_place(change, place):
    symptom, likely, mend, evidence = located(evidence_for(in_weight(change)))
    assert symptom == "one-element"
    assert place in likely
    assert mend
    assert "cases that fail" in evidence


def test_one_element_now_here_now_there():
    def change(path, array, batch):
        if path == "0.weight":
            array.flat[int(abs(batch.inputs.sum()) * 1000) % array.size] += 0.5
        return array

    symptom, likely, *_ = located(evidence_for(change))
    assert symptom == "one-element"
    assert "not always the same" in likely


def test_two_elements_are_no_single_one():
    assert located(evidence_for(in_weight(added((slice(2, 4), 3))))) is None


def test_what_is_never_finite_is_told():
    assert located(evidence_for(lambda path, array, batch: array * np.nan))[0] == "never-finite"
    assert located(evidence_for(lambda path, array, batch: array * 2)) is None


def test_a_few_cases_make_no_pattern():
    assert located(evidence_for(in_weight(added((2, 3))))[:3]) is None


# What is known without a name.


@pytest.mark.parametrize(
    ("factor", "text"),
    [(lambda rows: rows, "batch"), (lambda rows: 1 / 2, "1/2"), (lambda rows: -1, "-1"), (lambda rows: 0, "0")],
)
def test_a_constant_is_told_where_it_is_the_same_in_all_cases(factor, text):
    def change(path, array, batch):
        return array * factor(batch.rows) if path == "0.weight" else array

    assert facts(change)[0].startswith(f"0.weight = {text} x expected, in all of ")


def test_what_is_no_constant_is_not_called_one():
    assert not any("x expected" in fact for fact in facts(lambda path, array, batch: array + 0.5))


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((0, slice(None)), "the first row alone, all of it"),
        ((-1, slice(None)), "the last row alone, all of it"),
        ((slice(None), 0), "the first column alone, all of it"),
        ((slice(None), 2), "one column alone, all of it"),
    ],
)
def test_a_part_of_an_array_is_told(place, text):
    assert f"0.weight is wrong in {text}" in facts(in_weight(added(place)))


def test_no_part_is_told_where_all_is_wrong():
    assert not any("is wrong in" in fact for fact in facts(in_weight(added((slice(None), slice(None))))))


def test_small_errors_are_told_by_their_size():
    told = facts(lambda path, array, batch: array * (1 + 1e-6))
    assert "the errors are small: 1e-06 of the value at the median, 1e-06 at most" in told
    assert not any("small" in fact for fact in facts(lambda path, array, batch: array * 1.5))


def test_relations_are_told_that_break_and_that_hold():
    comparisons = [
        Comparison("batch-permutation", "0.weight", Kind.WRONG),
        Comparison("batch-permutation", "0.bias", Kind.WRONG),
        Comparison("sum-of-samples", "0.weight"),
        Comparison("parameters", "0.weight", Kind.WRONG),
    ]
    assert facts(lambda path, array, batch: array + 1e9, comparisons=comparisons)[-2:] == (
        "batch-permutation breaks: the place of a sample in the batch matters",
        "sum-of-samples holds",
    )
    assert not any("breaks" in fact for fact in facts(lambda path, array, batch: array + 1e9))
