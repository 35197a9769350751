"""The alarm rings for every planted fault, where the fault is."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from gradconform.case import Batch
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.strategies import LOSSES, networks
from gradconform.losses import Huber, LossRecord, MeanSquaredError
from gradconform.reference.backpropagation import gradients

EXAMPLES = 24
MOST = 300
"""What a fault may need to be met: a square weight, one activation, one kind of labels. The run ends with it."""

ROOTS = {
    "no-mean": {("output-delta", "WRONG")},
    "mean-twice": {("parameters", "WRONG")},
    "sum-divides": {("output-delta", "WRONG"), ("sample-twice", "WRONG")},
    "mean-over-elements": {("output-delta", "WRONG")},
    "one-hot-missing": {("output-delta", "WRONG")},
    "softmax-twice": {("output-delta", "WRONG")},
    "label-shift": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "soft-as-hard": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "upstream-ignored": {("output-delta", "WRONG")},
    "first-cotangent-only": {("output-delta", "WRONG")},
    "ignored-rows-counted": {("output-delta", "WRONG")},
    "weights-not-normalised": {("output-delta", "WRONG")},
    "sigmoid-extra": {("output-delta", "WRONG")},
    "zero-logit-zero": {("output-delta", "WRONG")},
    "log-epsilon": {("output-delta", "WRONG"), ("deltas", "WRONG")},
    "half-mse": {("output-delta", "WRONG")},
    "huber-abs": {("output-delta", "WRONG")},
    "smoothing-ignored": {("output-delta", "WRONG")},
    "transposed": {("parameters", "WRONG")},
    "weight-not-transposed": {("deltas", "WRONG"), ("input", "WRONG")},
    "wrong-activation": {("parameters", "WRONG")},
    "updated-weights": {("deltas", "WRONG"), ("input", "WRONG")},
    "bias-scalar": {("parameters", "WRONG")},
    "bias-mean": {("parameters", "WRONG")},
    "bias-first-row": {("parameters", "WRONG")},
    "bias-missing": {("parameters", "WRONG")},
    "last-sample-dropped": {("parameters", "WRONG"), ("sum-of-samples", "WRONG"), ("batch-permutation", "WRONG")},
    "l2-added": {("parameters", "WRONG")},
    "clipped": {("parameters", "WRONG"), ("sum-of-samples", "WRONG"), ("cotangent-linearity", "WRONG")},
    "derivative-missing": {("deltas", "WRONG")},
    "derivative-at-output": {("deltas", "WRONG")},
    "mask-from-output": {("deltas", "WRONG")},
    "gelu-mixed": {("deltas", "WRONG")},
    "upstream-squared": {("deltas", "WRONG")},
    "softmax-diagonal": {("deltas", "WRONG")},
    "inputs-mutated": {("call", "MUTATED")},
    "half-precision": {("parameters", "WRONG")},
    "loss-scale": {("parameters", "WRONG")},
    "minus-lost": {("parameters", "WRONG")},
    "zeros": {("parameters", "WRONG")},
    "nan": {("parameters", "NONFINITE")},
    "wrong-names": {("parameters", "NAME")},
    "other-reduction": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "probability-clip": {("deltas", "WRONG"), ("output-delta", "WRONG")},
    "unstable-softmax": {("outputs", "NONFINITE"), ("loss", "NONFINITE"), ("output-delta", "NONFINITE")},
    "batch-maximum": {("outputs", "NONFINITE"), ("loss", "NONFINITE"), ("output-delta", "NONFINITE")},
    "tanh-by-division": {("outputs", "WRONG"), ("outputs", "NONFINITE")},
    "softplus-by-log": {("outputs", "WRONG"), ("outputs", "NONFINITE")},
    "softplus-threshold": {("outputs", "WRONG")},
    "relu-slope-negative": {("deltas", "WRONG"), ("input", "WRONG")},
    "relu-slope-double": {("deltas", "WRONG"), ("input", "WRONG")},
    "rounded-slope": {("outputs", "WRONG"), ("deltas", "WRONG"), ("input", "WRONG")},
    "short-constant": {("outputs", "WRONG")},
    "single-precision": {("parameters", "WRONG")},
    "short-delta": {("output-delta", "WRONG")},
    "short-sums": {("parameters", "WRONG")},
    "nearly-right": {("parameters", "WRONG")},
    "second-call-accumulates": {("repeatable", "STATEFUL")},
    "stale-activations": {("repeatable", "STATEFUL"), ("stateless", "STATEFUL")},
    "stale-shape": {("sample-twice", "WRONG")},
    "aliased-result": {("call", "ALIASED")},
    "nondeterministic": {("repeatable", "NONDETERMINISTIC")},
    "parameters-updated": {("call", "MUTATED")},
    "nothing": {("parameters", "NAME")},
    "flattened": {("parameters", "SHAPE")},
    "short-labelled-long": {("parameters", "WRONG")},
    "always-equal": {("call", "DTYPE")},
    "input-returned": {("call", "ALIASED")},
}
"""Check and kind of what is found first."""

FACTORS = {
    "bias-mean": "1/batch",
    "bias-missing": "0",
    "half-mse": "1/2",
    "mean-over-elements": "1/outputs",
    "minus-lost": "-1",
    "no-mean": "batch",
    "zeros": "0",
}


NETWORKS = {
    "relu-slope-negative": "3 -> Dense(4) -> ReLU -> Dense(2), Huber",
    "relu-slope-double": "3 -> Dense(4) -> ReLU -> Dense(2), Huber",
    "rounded-slope": "3 -> Dense(4) -> LeakyReLU -> Dense(2), Huber",
    "softplus-threshold": "3 -> Dense(4) -> Softplus -> Dense(2), Huber",
}
"""Where a fault of one layer is met in a short run."""


def survey(implementation, max_examples, losses=(), dtypes=("float64",), seed=1, **more):
    """Run as little as a survey needs: no votes, and nothing is made smaller."""
    restricted = networks(losses=st.one_of(*(LOSSES[loss] for loss in losses))) if losses else None
    if implementation.name in NETWORKS:
        restricted = network_strategy(NETWORKS[implementation.name])
    return run(
        Plan(
            [implementation],
            max_examples=max_examples,
            seed=seed,
            networks=restricted,
            dtypes=dtypes,
            witnesses=False,
            shrink_seconds=0,
            **more,
        )
    )


def enough(line):
    """End the run with its first finding, as Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def surveyed():
    """Run every fault until it is met, once, when it is asked for."""
    results = {}

    def result(name):
        if name not in results:
            fault = FAULTS[name]
            results[name] = survey(fault.implementation(), MOST, fault.losses, notify=enough)
        return results[name]

    return result


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_caught(surveyed, name):
    result = surveyed(name)
    assert result.verdict == "failed"
    assert {finding.implementation for finding in result.findings} == {name}
    assert all(finding.ratio is None or finding.ratio == "Infinity" or finding.ratio > 1 for finding in result.findings)


@pytest.mark.parametrize("name", ROOTS)
def test_every_fault_is_found_where_it_is(surveyed, name):
    (finding,) = surveyed(name).findings
    assert (finding.check, finding.kind) in ROOTS[name]


@pytest.mark.parametrize(("name", "factor"), FACTORS.items())
def test_a_constant_factor_is_named(name, factor):
    fault = FAULTS[name]
    result = survey(fault.implementation(), 60, fault.losses or (MeanSquaredError,))
    names = {finding.factor_name for finding in result.findings}
    assert factor in names
    assert names <= {factor, ""}


def test_the_tables_name_faults_that_are_planted():
    assert set(ROOTS) | set(FACTORS) | set(NETWORKS) <= set(FAULTS)
    assert set(FAULTS) - set(ROOTS) == {"stale-parameters", "one-element", "now-and-then"}
    assert all(name == fault.id and fault.sentence for name, fault in FAULTS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_changes_a_dtype_or_crashes_by_accident(name):
    result = survey(FAULTS[name].implementation(), 5, FAULTS[name].losses, ("float32",), seed=2)
    kinds = {finding.kind for finding in result.findings}
    assert kinds <= {"WRONG"} | {kind for _, kind in ROOTS.get(name, ())}
    assert result.comparisons or kinds


def test_stale_parameters_give_the_right_gradients_of_another_case(surveyed):
    assert [finding.check for finding in surveyed("stale-parameters").findings] == ["outputs"]


def test_a_mistake_in_one_of_a_hundred_calls_is_not_taken_for_a_wrong_formula():
    result = survey(FAULTS["now-and-then"].implementation(), 100)
    assert [finding.kind for finding in result.findings] == ["NONDETERMINISTIC"]


def test_a_fault_keeps_no_state_between_its_instances():
    fault = FAULTS["second-call-accumulates"]
    first, second = (survey(fault.implementation(), 4) for _ in range(2))
    assert [finding.id for finding in first.findings] == [finding.id for finding in second.findings]


# Faults that are not in the catalogue: what must not fool the harness.


def altered(change):
    """Return the reference's gradients of the parameters after `change(path, array, batch, network)`."""

    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        return {path: change(path, array, batch, network) for path, array in found.items()}

    return compute


def caught(function, max_examples=EXAMPLES, **more):
    result = survey(Implementation("mine", function), max_examples, **more)
    return {(finding.check, finding.kind) for finding in result.findings}


class Equal:
    """Says yes to every comparison."""

    __hash__ = None

    def __eq__(self, other):
        return True


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda path, array, *_: Equal(), "DTYPE"),
        (lambda path, array, *_: None, "NAME"),
        (lambda path, array, *_: array.astype(np.float32), "DTYPE"),
        (lambda path, array, *_: array.astype(np.float32).astype(np.float64), "WRONG"),
        (lambda path, array, *_: array[None], "SHAPE"),
        (lambda path, array, *_: array.ravel() if array.ndim == 2 else array, "SHAPE"),
        (lambda path, array, *_: array * (1 + 1e-11), "WRONG"),
        (lambda path, array, *_: array + 0j, "DTYPE"),
        (lambda path, array, *_: array.astype(object), "DTYPE"),
        (lambda path, array, *_: array * (1 if array.size < 2 else np.inf), "NONFINITE"),
    ],
    ids=["equal", "none", "float32", "rounded", "axis", "ravel", "1e-11", "complex", "object", "infinite"],
)
def test_what_must_not_pass(change, kind):
    assert kind in {kind for _, kind in caught(altered(change))}


def test_an_error_of_1e_5_in_float32():
    assert caught(altered(lambda path, array, *_: array * np.float32(1 + 1e-5)), dtypes=("float32",))


def test_right_for_a_single_sample_only():
    change = altered(lambda path, array, batch, network: array if batch.rows == 1 else array * 1.01)
    assert ("parameters", "WRONG") in caught(change)


def test_right_for_batches_only():
    change = altered(lambda path, array, batch, network: array * 1.01 if batch.rows == 1 else array)
    assert {check for check, _ in caught(change)} & {"parameters", "sum-of-samples"}


def test_right_for_equal_widths_only():
    change = altered(lambda path, array, batch, network: array if len(set(network.widths)) == 1 else array * 1.01)
    assert ("parameters", "WRONG") in caught(change)


def test_right_for_contiguous_arrays_only():
    def compute(network, parameters, batch):
        as_if = Batch(np.asarray(batch.inputs.ravel(order="K").reshape(batch.inputs.shape)), batch.targets,
                      batch.class_weights, batch.cotangent)  # fmt: skip
        return gradients(network, parameters, as_if).parameters

    assert caught(compute, 100)


@pytest.mark.parametrize("name", ["nearly-right", "one-element"])
def test_one_element_of_float32(name):
    result = survey(FAULTS[name].implementation(), EXAMPLES, FAULTS[name].losses, ("float32",))
    assert {(finding.check, finding.kind, finding.dtype) for finding in result.findings} == {
        ("parameters", "WRONG", "float32")
    }


def test_nothing_supported_is_nothing_compared():
    def compute(*arguments):
        raise NotImplementedError

    result = survey(Implementation("none", compute), 5)
    assert (result.verdict, result.exit_code, result.passed) == ("nothing compared", 5, False)


def test_losses_are_records_that_can_be_replaced():
    # the faults that change a loss rely on it
    for loss in (MeanSquaredError(), Huber(delta=2.0)):
        changed = msgspec.structs.replace(loss, reduction="sum")
        assert isinstance(changed, LossRecord)
        assert (changed.reduction, type(changed)) == ("sum", type(loss))
