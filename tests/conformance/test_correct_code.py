"""Correct code is left alone, however it is written: what is no fault is no finding."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from gradconform import Gradients
from gradconform.adapters.deviations import described
from gradconform.capabilities import EVERYTHING
from gradconform.conformance.engine import run
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.losses import Huber, MeanSquaredError, SoftmaxCrossEntropy
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.losses import cost


def left_alone(function, max_examples=24, networks=None, **options):
    implementation = Implementation("right", function, capabilities=structs.replace(EVERYTHING, **options))
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


def test_identical_calls_may_differ_in_the_last_bits():
    calls, differing = [], []

    class Reordered(Plain):
        def lift(self, numbers):
            return np.asarray(numbers, self.dtype).view(Backwards)

    def compute(network, parameters, batch):
        calls.append(None)
        forwards, backwards = (
            backpropagate(kind(batch.inputs.dtype), network, parameters, batch).parameters
            for kind in (Plain, Reordered)
        )
        differing.append(any(not np.array_equal(forwards[path], backwards[path]) for path in parameters))
        chosen = forwards if len(calls) % 2 else backwards
        return {path: np.asarray(array) for path, array in chosen.items()}

    left_alone(compute)
    assert np.mean(differing) > 0.3


def test_float32_alone():
    def compute(network, parameters, batch):
        return backpropagate(Plain(np.float32), network, parameters, batch).parameters

    (tally,) = left_alone(compute, dtypes=("float32",)).implementations
    assert (tally.dtype, tally.cases) == ("float32", 24)


def test_float32_alone_said_by_an_exception():
    def compute(network, parameters, batch):
        if batch.inputs.dtype != np.float32:
            raise NotImplementedError("float32 alone")
        return gradients(network, parameters, batch)

    result = left_alone(compute)
    assert [(tally.dtype, tally.cases, tally.unsupported) for tally in result.implementations] == [
        ("float64", 0, 24), ("float32", 24, 0)
    ]  # fmt: skip


def test_a_clipped_loss_that_is_not_returned():
    clipped = []

    def end(loss, k, p, batch):
        value, delta = cost(loss, k, p, batch)
        clipped.append(bool(np.any(p < 1e-7)))
        return np.minimum(value, -np.log(1e-7)), delta

    def compute(network, parameters, batch):
        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, end=end).parameters

    left_alone(compute, networks="3 -> Dense(5) -> Tanh -> Dense(4) -> Softmax, CrossEntropy(reduction=none)")
    assert any(clipped)


def test_a_loss_that_is_limited_as_declared():
    limited = []

    def compute(network, parameters, batch):
        found = gradients(described("torch", network), parameters, batch)
        limited.append(not np.array_equal(found.loss, gradients(network, parameters, batch).loss))
        return found

    network = "3 -> Dense(1) -> Sigmoid, BinaryCrossEntropy(reduction=none)"
    left_alone(compute, 48, networks=network, conventions="torch")
    assert any(limited)


def test_nan_where_the_arithmetic_has_no_number():
    lost = []

    class Unfused(Plain):
        """Differentiates the last layer and the cost one after the other, as they are written."""

        fuses = False

    def compute(network, parameters, batch):
        found = backpropagate(Unfused(batch.inputs.dtype), network, parameters, batch)
        lost.append(any(np.isnan(array).any() for array in found.parameters.values()))
        return found

    result = left_alone(compute, 48, networks="3 -> Dense(2) -> Sigmoid, BinaryCrossEntropy")
    assert any(lost)
    for tally in result.implementations:
        assert tally.lost > 0
        assert tally.outcomes["global"].range >= tally.lost / 2


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
    def compute(*arguments):
        return {path: lay_out(array) for path, array in gradients(*arguments).parameters.items()}

    left_alone(compute)


def test_parameters_alone():
    result = left_alone(lambda *arguments: gradients(*arguments).parameters, 48)
    assert set(result.implementations[0].checks) - {"delta-rows"} == {
        "parameters", "batch-permutation", "class-permutation", "sum-of-samples", "sample-twice",
        "cotangent-linearity", "repeatable", "stateless",
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
