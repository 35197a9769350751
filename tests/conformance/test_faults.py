"""The alarm rings for every planted fault, where the fault is."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from gradconform.case import Batch
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS, choose_faults
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.killing import plan_for
from gradconform.conformance.plan import Plan
from gradconform.conformance.strategies import LOSSES, networks
from gradconform.errors import InvalidInput
from gradconform.losses import Huber, LossRecord, MeanSquaredError
from gradconform.reference.backpropagation import gradients

EXAMPLES = 24
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
    # a row far below the maximum is 0/0; one that is only near underflow has lost its digits
    "batch-maximum": {
        (check, kind) for check in ("outputs", "loss", "output-delta") for kind in ("NONFINITE", "WRONG")
    },
    # of tied logits the first is the prediction, in whatever order the classes stand
    "weights-of-prediction": {("output-delta", "WRONG"), ("class-permutation", "WRONG")},
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
    # the right gradients of another case
    "stale-parameters": {("outputs", "WRONG")},
    "one-element": {("parameters", "WRONG")},
    # one call of a hundred is not like the same call before it
    "now-and-then": {("repeatable", "NONDETERMINISTIC")},
    "aliased-result": {("call", "ALIASED")},
    "nondeterministic": {("repeatable", "NONDETERMINISTIC")},
    "parameters-updated": {("call", "MUTATED")},
    "nothing": {("parameters", "NAME")},
    "flattened": {("parameters", "SHAPE")},
    "short-labelled-long": {("parameters", "WRONG")},
    "always-equal": {("call", "DTYPE")},
    "input-returned": {("call", "ALIASED")},
    "log-base-two": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "mean-over-rows": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "softmax-over-batch": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "weights-squared": {("loss", "WRONG"), ("output-delta", "WRONG")},
    "detached": {("deltas", "WRONG"), ("input", "WRONG")},
    "bias-down-rows": {("outputs", "WRONG")},
    "forward-transposed": {("outputs", "WRONG")},
    "gelu-by-sigmoid": {("outputs", "WRONG")},
    "short-operands": {("outputs", "WRONG"), ("deltas", "WRONG"), ("parameters", "WRONG"), ("input", "WRONG")},
    "through-float16": {("parameters", "WRONG"), ("parameters", "NONFINITE")},
    "cotangent-squared": {("parameters", "WRONG"), ("cotangent-linearity", "WRONG")},
    "clipped-by-norm": {("parameters", "WRONG"), ("sum-of-samples", "WRONG"), ("cotangent-linearity", "WRONG")},
    "squeezed-sample": {("parameters", "WRONG"), ("sum-of-samples", "WRONG"), ("sample-twice", "WRONG")},
    "cached-by-shape": {("parameters", "WRONG"), ("sum-of-samples", "WRONG"), ("batch-permutation", "WRONG")},
    "stale-batch-size": {("repeatable", "NONDETERMINISTIC"), ("repeatable", "STATEFUL"), ("stateless", "STATEFUL")},
    "momentum": {("repeatable", "NONDETERMINISTIC"), ("repeatable", "STATEFUL")},
    "cold-start": {("repeatable", "NONDETERMINISTIC"), ("repeatable", "STATEFUL")},
    "targets-mutated": {("call", "MUTATED")},
    "crash-on-one-sample": {("call", "CRASHED")},
    "last-not-returned": {("parameters", "NAME")},
    "input-as-parameter": {("parameters", "NAME")},
    "float32-returned": {("parameters", "DTYPE")},
    **{
        name: {("output-delta", "WRONG")}
        for name in [
            "delta-sign",
            "none-averaged",
            "absolute-error",
            "huber-slope",
            "smoothing-over-others",
            "smoothing-on-ignored",
            "delta-offset",
        ]
    },
    **{
        name: {("deltas", "WRONG")}
        for name in [
            "sigmoid-as-tanh",
            "sigmoid-fed-z",
            "tanh-unsquared",
            "relu-mask-inverted",
            "leaky-slope-squared",
            "elu-output-plus-one",
            "softplus-at-output",
            "silu-first-term",
            "in-place-delta",
            "softmax-plus",
        ]
    },
    **{
        name: {("parameters", "SHAPE"), ("call", "SHAPE")}
        for name in [
            "squeezed-unit",
            "all-transposed",
            "bias-keepdims",
            "bias-not-reduced",
        ]
    },
    # gradients of the parameters are all that is seen of these, or all that is wrong
    **{
        name: {("parameters", "WRONG")}
        for name in [
            "twice-mse",
            "mean-over-one-less",
            "mean-before-square",
            "targets-centred",
            "huber-quadratic",
            "ignored-as-first",
            "weights-ignored",
            "mistakes-only",
            "derivative-after-fused",
            "delta-from-above",
            "swapped-layers",
            "first-bias-missing",
            "samples-misaligned",
            "last-input-dropped",
            "last-unit-dropped",
            "bias-axis",
            "bias-sum",
            "buffer-of-four",
            "sigmoid-halved",
            "tanh-as-sigmoid",
            "tanh-fed-z",
            "relu-as-identity",
            "leaky-slope-forgotten",
            "elu-alpha-forgotten",
            "softplus-as-tanh",
            "silu-product-term",
            "gelu-backward-by-sigmoid",
            "mask-of-layer-below",
            "last-derivative-missing",
            "softmax-of-other-sample",
            "l1-added",
            "small-gradients-zeroed",
            "six-decimals",
            "seeded-noise",
            "growing-bias",
            "neighbours-averaged",
            "power",
            "checkerboard",
            "third-elements",
            "delta-waves",
            "inputs-blended",
            "cosine-weights",
            "odd-batches",
        ]
    },
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


def survey(implementation, max_examples, losses=(), dtypes=("float64",), seed=1, **more):
    """Run as little as a survey needs: no votes, and nothing is made smaller or named."""
    restricted = networks(losses=st.one_of(*(LOSSES[loss] for loss in losses))) if losses else None
    return run(
        Plan(
            [implementation],
            max_examples=max_examples,
            seed=seed,
            networks=restricted,
            dtypes=dtypes,
            witnesses=False,
            shrink_seconds=0,
            diagnose=False,
            **more,
        )
    )


@pytest.fixture(scope="module", params=FAULTS)
def met(request):
    """Run one fault until it is met, for all tests that ask for it."""
    fault = FAULTS[request.param]
    return fault, run(replace(plan_for(fault), shrink_seconds=0, diagnose=False))


def test_every_fault_is_caught(met):
    fault, result = met
    assert result.verdict == "failed"
    assert {finding.implementation for finding in result.findings} == {fault.id}
    assert all(finding.ratio is None or finding.ratio == "Infinity" or finding.ratio > 1 for finding in result.findings)


def test_every_fault_is_found_where_it_is(met):
    fault, result = met
    (finding,) = result.findings
    assert (finding.check, finding.kind) in ROOTS[fault.id]


@pytest.mark.parametrize(("name", "factor"), FACTORS.items())
def test_a_constant_factor_is_named(name, factor):
    fault = FAULTS[name]
    result = survey(fault.implementation(), 60, fault.losses or (MeanSquaredError,))
    names = {finding.factor_name for finding in result.findings}
    assert factor in names
    assert names <= {factor, ""}


def test_the_tables_name_faults_that_are_planted():
    assert set(ROOTS) == set(FAULTS)
    assert set(FACTORS) <= set(FAULTS)
    assert all(name == fault.id and fault.sentence for name, fault in FAULTS.items())
    assert len({fault.sentence for fault in FAULTS.values()}) == len(FAULTS) >= 100


def test_a_fault_is_named_by_its_own_id_unless_it_is_held_out():
    held_out = [fault for fault in FAULTS.values() if fault.held_out]
    assert len(held_out) >= 8
    assert all(fault.symptoms == () for fault in held_out)
    assert all(fault.id in fault.symptoms for fault in FAULTS.values() if not fault.held_out)


def test_faults_are_chosen_by_name_each_once():
    assert choose_faults([]) == list(FAULTS.values())
    assert choose_faults(["no-mean", "bias-mean", "no-mean"]) == [FAULTS["no-mean"], FAULTS["bias-mean"]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bias-men", "fault 'bias-men' is unknown; did you mean bias-mean?"),
        ("xyzzy", "fault 'xyzzy' is unknown; gradconform faults --list shows all"),
    ],
)
def test_a_fault_that_is_unknown_is_told_with_what_is_like_it(name, message):
    with pytest.raises(InvalidInput) as caught:
        choose_faults([name])
    assert str(caught.value) == message


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_changes_a_dtype_or_crashes_by_accident(name):
    plan = plan_for(FAULTS[name], 5, seed=2)
    result = run(replace(plan, dtypes=["float32"], shrink_seconds=0, diagnose=False, max_findings=None))
    kinds = {finding.kind for finding in result.findings}
    assert kinds <= {"WRONG"} | {kind for _, kind in ROOTS[name]}
    assert result.comparisons or kinds


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
