"""Cases of one structure that are computed together: each has the values and the bounds that it has alone."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings

from gradconform.case import Batch, Gradients
from gradconform.conformance.strategies import LOSSES, examples, networks
from gradconform.dtypes import DTYPES
from gradconform.notation import parse
from gradconform.reference import bounding
from gradconform.reference.backpropagation import gradients
from gradconform.reference.bounds import expected

settled = settings(deadline=None, derandomize=True, database=None, max_examples=6)


def stacked(arrays):
    return None if arrays[0] is None else np.stack(arrays)


def together(cases):
    parameters = {path: np.stack([case.parameters[path] for case in cases]) for path in cases[0].parameters}
    parts = [[getattr(case.batch, field.name) for case in cases] for field in fields(Batch)]
    return cases[0].network, parameters, Batch(*map(stacked, parts))


def leaves(found):
    yield found.loss
    yield found.input
    for kind in (found.parameters, found.deltas, found.outputs):
        yield from kind.values()


def shown_by(found):
    kinds = {kind: getattr(found[0], kind) for kind in ("outputs", "deltas")}
    stacks = {kind: {index: [getattr(one, kind)[index] for one in found] for index in kinds[kind]} for kind in kinds}
    return Gradients({}, **{kind: {index: np.stack(rows) for index, rows in stacks[kind].items()} for kind in kinds})


def assert_the_same(stack, alone, rtol):
    for whole, *parts in zip(leaves(stack.gradients), *(leaves(one.gradients) for one in alone), strict=True):
        for index, part in enumerate(parts):
            assert np.array_equal(whole.value[index], part.value, equal_nan=True)
            assert np.allclose(whole.error[index], part.error, rtol=rtol, atol=0)


@pytest.fixture
def one_path(monkeypatch):
    """Evaluate functions in one way, which is otherwise chosen for all cases at once."""
    monkeypatch.setattr(bounding, "NARROW", -1.0)


@pytest.mark.usefixtures("one_path")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda kind: kind.__name__)
def test_every_case_has_the_values_and_bounds_that_it_has_alone(loss, dtype):
    @settled
    @given(examples(networks(losses=LOSSES[loss])))
    def check(example):
        cases = [example.case(draw, dtype) for draw in example.draws]
        alone = [expected(case.network, case.parameters, case.batch) for case in cases]
        assert_the_same(expected(*together(cases)), alone, rtol=1e-12)

    check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_way_in_which_functions_are_evaluated_hardly_matters(dtype):
    @settled
    @given(examples())
    def check(example):
        cases = [example.case(draw, dtype) for draw in example.draws]
        alone = [expected(case.network, case.parameters, case.batch) for case in cases]
        assert_the_same(expected(*together(cases)), alone, rtol=0.01)

    check()


@pytest.mark.usefixtures("one_path")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_so_does_every_case_whose_outputs_and_deltas_were_shown(dtype):
    @settled
    @given(examples())
    def check(example):
        cases = [example.case(draw, dtype) for draw in example.draws]
        found = [gradients(case.network, case.parameters, case.batch) for case in cases]
        alone = [
            expected(case.network, case.parameters, case.batch, shown=one)
            for case, one in zip(cases, found, strict=True)
        ]
        assert_the_same(expected(*together(cases), shown=shown_by(found)), alone, rtol=1e-12)

    check()


def test_kinks_are_reported_for_all_cases_together():
    network = parse("1 -> Dense(2) -> ReLU, MeanSquaredError(reduction=sum)")
    parameters = {"0.weight": np.zeros((2, 1, 2)), "0.bias": np.array([[0.0, 1], [-1, 0]])}
    batch = Batch(np.ones((2, 1, 1)), np.zeros((2, 1, 2)))
    (site,) = expected(network, parameters, batch).sites
    assert site.near.tolist() == [[[True, False]], [[False, True]]]
    assert site.side.tolist() == [[[0, 1]], [[-1, 0]]]
