"""Failures that say themselves what is wrong: what to do about them."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.conformance import implementations
from gradconform.conformance.advice import ADVICE, SHAPES, Misshapen, advice
from gradconform.conformance.compare import Kind
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.reference.backpropagation import gradients

NETWORK = "4 -> Dense(6) -> Tanh -> Dense(3), MeanSquaredError"


def right(network, parameters, batch):
    return {path: array.copy() for path, array in gradients(network, parameters, batch).parameters.items()}


def failing(candidate, text=NETWORK, max_examples=20):
    """Return the first failure of a candidate, and its plan."""
    kept = []
    plan = Plan(
        [implementations.of(candidate, "mine")],
        max_examples,
        seed=1,
        networks=None if text is None else network_strategy(text),
        dtypes=["float64"],
        witnesses=False,
        max_findings=1,
        shrink_seconds=0,
        diagnose=False,
        keep=kept.append,
    )
    run(plan)
    return kept[0], plan


def told(candidate, text=NETWORK, max_examples=20):
    failure, _ = failing(candidate, text, max_examples)
    return failure.root.kind, *advice(failure, [])


def changed(change):
    """Return a candidate whose gradients are changed one by one."""
    return lambda network, parameters, batch: {
        path: change(path, array) for path, array in right(network, parameters, batch).items()
    }


# Shapes.


@pytest.mark.parametrize(
    ("change", "symptom"),
    [
        (lambda path, array: array.T if array.ndim == 2 else array, "transposed-shape"),
        (lambda path, array: array[None] if array.ndim == 1 else array, "kept-axis"),
        (lambda path, array: array[..., None], "kept-axis"),
        (lambda path, array: array.ravel(), "flattened"),
    ],
)
def test_what_happened_to_a_shape_is_told(change, symptom):
    kind, *named = told(changed(change))
    assert kind is Kind.SHAPE
    assert named[0] == symptom
    assert all(named)


def test_gradients_for_each_sample_are_not_summed():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        last = len(network.layers) - 1
        return {**found.parameters, f"{last}.bias": found.deltas[last]}

    assert told(compute)[1] == "not-summed"


def test_an_axis_of_length_1_is_lost():
    assert told(changed(lambda path, array: array.squeeze()), "4 -> Dense(1), MeanSquaredError")[1] == "squeezed"


def test_a_shape_that_is_only_sometimes_so_is_not_called_so():
    def compute(network, parameters, batch):
        found = right(network, parameters, batch)
        return {**found, "0.weight": found["0.weight"].T if batch.rows != 3 else found["0.weight"].ravel()}

    assert told(compute)[1] != "transposed-shape"


def test_a_shape_without_a_rule_has_no_name():
    kind, *named = told(changed(lambda path, array: array[:1]))
    assert (kind, named) == (Kind.SHAPE, ["", "", ""])


@pytest.mark.parametrize(
    ("expected", "found", "rows", "number"),
    [
        ((4, 6), (6, 4), 5, 0),
        ((3,), (5, 3), 5, 1),
        ((3,), (1, 3), 5, 2),
        ((4, 1), (4,), 5, 3),
        ((4, 6), (24,), 5, 4),
        ((4, 6), (4, 5), 5, None),
    ],
)
def test_the_simplest_that_may_have_happened(expected, found, rows, number):
    one = Misshapen(expected, found, rows)
    assert next((index for index, (holds, _) in enumerate(SHAPES) if holds(one)), None) == number


# Names.


@pytest.mark.parametrize(
    ("rename", "symptom"),
    [
        (lambda found: {}, "nothing-returned"),
        (lambda found: {path.replace("2.", "1."): array for path, array in found.items()}, "numbered-by-dense"),
        (lambda found: {path: array for path, array in found.items() if path != "2.bias"}, "not-returned"),
        (lambda found: {**found, "input": found["0.bias"]}, "extra-names"),
        (lambda found: {f"layer{path}": array for path, array in found.items()}, "wrong-names"),
    ],
)
def test_what_names_are_is_told(rename, symptom):
    kind, *named = told(lambda *given: rename(right(*given)))
    assert kind is Kind.NAME
    assert named[0] == symptom
    assert all(named)


def test_the_paths_are_told():
    _, _, likely, mend = told(lambda *given: {p: a for p, a in right(*given).items() if p != "2.bias"})
    assert "2.bias" in likely
    assert "'2.bias'" in mend


# Memory, and calls that differ.


class Buffered:
    """Returns the same array in each call."""

    def __init__(self):
        self.buffer = {}

    def gradients(self, network, parameters, batch):
        for path, array in right(network, parameters, batch).items():
            self.buffer.setdefault((path, array.shape), np.empty_like(array))[...] = array
        return {path: self.buffer[path, parameters[path].shape] for path in parameters}


def writing(network, parameters, batch):
    found = right(network, parameters, batch)
    batch.inputs.flags.writeable = True
    batch.inputs[...] = 0
    return found


def test_each_kind_that_says_it_all_has_its_advice():
    assert told(Buffered()) == (Kind.ALIASED, *ADVICE[Kind.ALIASED])
    assert told(writing) == (Kind.MUTATED, *ADVICE[Kind.MUTATED])
    short = changed(lambda path, array: array.astype(np.float32))
    assert told(short) == (Kind.DTYPE, *ADVICE[Kind.DTYPE])


def test_what_differs_each_time_is_told_from_what_differs_once():
    rng = np.random.default_rng(1)
    kind, symptom, likely, _ = told(changed(lambda path, array: array + rng.normal(size=array.shape)))
    assert (kind, symptom) == (Kind.NONDETERMINISTIC, "nondeterministic")
    assert "each time" in likely
    kind, symptom, *_ = told(FAULTS["now-and-then"].implementation(), None, max_examples=100)
    assert (kind, symptom) == (Kind.NONDETERMINISTIC, "now-and-then")


def test_a_call_that_crashes_needs_no_advice():
    def crash(network, parameters, batch):
        raise ZeroDivisionError

    assert told(crash) == (Kind.CRASHED, "", "", "")


def test_a_candidate_that_crashes_when_it_is_asked_again_has_no_name():
    calls = []

    def compute(network, parameters, batch):
        calls.append(batch.rows)
        if len(calls) > 12:
            raise ZeroDivisionError
        return {}

    failure, _ = failing(compute, max_examples=1)
    calls.extend([0] * 20)
    assert advice(failure, []) == ("", "", "")
