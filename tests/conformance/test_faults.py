"""The alarm rings for every planted fault, where the fault is, and not for correct code."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from gradconform import Gradients, ReLU
from gradconform.case import Batch
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.strategies import LOSSES, networks
from gradconform.losses import Huber, LossRecord, MeanSquaredError, SoftmaxCrossEntropy
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.layers import layer_rule

EXAMPLES = 24
MOST = 300
"""What a fault may need to be met: a square weight, one activation, one kind of labels. The run ends with it."""

ROOTS = {
    "no-mean": {("output-delta", "WRONG")},
    "mean-twice": {("parameters", "WRONG")},
    "sum-divides": {("output-delta", "WRONG")},
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
    """Run as little as a survey needs: no votes, and nothing is made smaller."""
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
    assert set(ROOTS) | set(FACTORS) <= set(FAULTS)
    assert set(FAULTS) - set(ROOTS) == {"second-call-accumulates", "stale-parameters", "one-element"}
    assert all(name == fault.id and fault.sentence for name, fault in FAULTS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_changes_a_dtype_or_crashes_by_accident(name):
    result = survey(FAULTS[name].implementation(), 5, FAULTS[name].losses, ("float32",), seed=2)
    kinds = {finding.kind for finding in result.findings}
    assert kinds <= {"WRONG"} | {kind for _, kind in ROOTS.get(name, ())}
    assert result.comparisons or kinds


@pytest.mark.parametrize(
    ("name", "check"), [("second-call-accumulates", "batch-permutation"), ("stale-parameters", "outputs")]
)
def test_state_is_caught(surveyed, name, check):
    assert check in {finding.check for finding in surveyed(name).findings}


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

    assert caught(compute)


def test_a_buffer_that_the_next_call_overwrites():
    buffers = {}

    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        for path, array in found.items():
            buffers.setdefault((path, array.shape), np.empty_like(array))[...] = array
        return {path: buffers[path, array.shape] for path, array in found.items()}

    assert caught(compute, losses=(SoftmaxCrossEntropy,))


def test_a_naive_softmax_overflows():
    def end(loss, k, z, batch):
        rows = np.arange(batch.rows)
        with np.errstate(all="ignore"):
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            cost = -np.log(p[rows, batch.targets]).mean()
        delta = p.copy()
        delta[rows, batch.targets] -= 1
        return cost, delta / batch.rows

    def compute(network, parameters, batch):
        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, end=end)

    implementation = Implementation("naive", compute, labels=("integer",), class_weights=False)
    plan = Plan(
        [implementation],
        max_examples=40,
        networks=network_strategy("3 -> Dense(4) -> Tanh -> Dense(3), SoftmaxCrossEntropy"),
        witnesses=False,
        shrink_seconds=0,
    )
    result = run(plan)
    assert "NONFINITE" in {finding.kind for finding in result.findings}
    assert {finding.numbers for finding in result.findings if finding.kind == "NONFINITE"} <= {
        "regime logit-gap-2000", "regime extreme-logits", "regime saturated"
    }  # fmt: skip


# Correct code is left alone.


def left_alone(function, max_examples=24, networks=None, **options):
    implementation = Implementation("right", function, **options)
    chosen = network_strategy(networks)
    result = run(
        Plan([implementation], max_examples=max_examples, seed=4, networks=chosen, witnesses=False, shrink_seconds=0)
    )
    assert result.findings == []
    assert result.verdict == "passed"
    assert result.networks == max_examples
    assert all(tally.comparisons > 4 * max_examples for tally in result.implementations if not tally.unsupported)
    return result


def test_the_reference():
    result = left_alone(reference().gradients, 50)
    assert [tally.dtype for tally in result.implementations] == ["float64", "float32"]
    assert all(0.05 < tally.worst_ratio <= 1 for tally in result.implementations)


RELUS = ["3 -> Dense(4) -> ReLU -> Dense(2), Huber", "2 -> ReLU -> Dense(3), SoftmaxCrossEntropy"]


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_every_convention_of_the_slope_of_relu_at_0(slope):
    kinks = []

    def rule(layer, k, x, parameters):
        a, pullback = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, ReLU):
            return a, pullback
        kinks.append(int(np.count_nonzero(x == 0)))
        factor = np.where(x == 0, slope, (x > 0) * 1.0).astype(x.dtype)
        return a, lambda delta: (factor * delta, {})

    def compute(network, parameters, batch):
        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule)

    result = left_alone(compute, networks=RELUS)
    assert sum(kinks) > 20
    assert all(tally.at_kinks > 3 for tally in result.implementations)


def test_a_slope_at_0_outside_of_the_convention_is_a_bug():
    def rule(layer, k, x, parameters):
        a, pullback = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, ReLU):
            return a, pullback
        factor = np.where(x == 0, 1.5, (x > 0) * 1.0).astype(x.dtype)
        return a, lambda delta: (factor * delta, {})

    def compute(network, parameters, batch):
        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule)

    plan = Plan([Implementation("mine", compute)], 40, networks=network_strategy(RELUS), shrink_seconds=0)
    plan.witnesses = False
    assert {(finding.check, finding.kind) for finding in run(plan).findings} & {("deltas", "WRONG"), ("input", "WRONG")}


class Backwards(np.ndarray):
    """An array whose matrix products and sums run in another order."""

    def __matmul__(self, other):
        one, two = np.asarray(self)[..., ::-1], np.asarray(other)[::-1]
        total = np.zeros((one.shape[0], two.shape[1]), one.dtype)
        for index in range(one.shape[1]):
            total = total + np.outer(one[:, index], two[index])
        return total.view(Backwards)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        flipped = np.flip(np.asarray(self), axis)
        return (
            np.add.reduce(flipped, axis=axis, keepdims=keepdims) if axis is not None else flipped.ravel().cumsum()[-1]
        )


def test_sums_in_another_order():
    differing = []

    class Reordered(Plain):
        def lift(self, numbers):
            return np.asarray(numbers, self.dtype).view(Backwards)

    def compute(network, parameters, batch):
        found = backpropagate(Reordered(batch.inputs.dtype), network, parameters, batch)
        plain = gradients(network, parameters, batch)
        differing.append(any(not np.array_equal(plain.parameters[path], found.parameters[path]) for path in parameters))
        return {path: np.asarray(array) for path, array in found.parameters.items()}

    left_alone(compute)
    assert np.mean(differing) > 0.3


@pytest.mark.parametrize(
    "lay_out",
    [
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
        lambda array: array[::-1].copy()[::-1],
        np.ma.masked_array,
        lambda array: array.tolist(),
    ],
    ids=["fortran", "strided", "reversed", "masked", "lists"],
)
def test_every_layout_of_the_result(lay_out):
    left_alone(altered(lambda path, array, *_: lay_out(array)))


def test_parameters_alone():
    result = left_alone(lambda *arguments: gradients(*arguments).parameters)
    assert set(result.implementations[0].checks) - {"delta-rows"} == {
        "parameters", "batch-permutation", "class-permutation", "sum-of-samples", "cotangent-linearity"
    }  # fmt: skip


def test_parameters_and_the_loss_as_a_python_float():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        loss = found.loss.tolist()
        return Gradients(found.parameters, loss=loss)

    # tolist() of float32 is the same number in float64
    assert left_alone(compute).implementations[0].checks["loss"] == 24


def test_half_of_the_losses_not_supported():
    def compute(network, parameters, batch):
        if isinstance(network.loss, Huber | MeanSquaredError | SoftmaxCrossEntropy):
            return gradients(network, parameters, batch)
        raise NotImplementedError(f"no {type(network.loss).__name__}")

    result = left_alone(compute)
    for tally in result.implementations:
        assert 2 < tally.unsupported < 22
        assert tally.cases + tally.unsupported == 24
        assert tally.comparisons > 4 * tally.cases
    (note,) = result.notes
    assert note.startswith("right does not support everything that was drawn: no ")


def test_nothing_supported_is_nothing_compared():
    def compute(*arguments):
        raise NotImplementedError

    result = survey(Implementation("none", compute), 5)
    assert (result.verdict, result.exit_code, result.passed) == ("nothing compared", 5, False)


def test_declared_restrictions_restrict_what_is_drawn():
    kinds, weighted, dtypes = set(), set(), set()

    def compute(network, parameters, batch):
        if network.loss.labels == "classes":
            kinds.add(batch.targets.ndim)
            weighted.add(batch.class_weights is not None)
        dtypes.add(str(batch.inputs.dtype))
        return gradients(network, parameters, batch)

    left_alone(compute, 60, labels=("integer",), class_weights=False, dtypes=("float32",))
    assert (kinds, weighted, dtypes) == ({1}, {False}, {"float32"})


def test_losses_are_records_that_can_be_replaced():
    # the faults that change a loss rely on it
    for loss in (MeanSquaredError(), Huber(delta=2.0)):
        changed = msgspec.structs.replace(loss, reduction="sum")
        assert isinstance(changed, LossRecord)
        assert (changed.reduction, type(changed)) == ("sum", type(loss))
