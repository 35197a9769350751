"""The case: what fits its network, and the one line that says what does not."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconform import Batch, Case, Gradients, InvalidInput, Network
from gradconform.dtypes import DTYPES, dtype_of
from gradconform.layers import Dense, Sigmoid, Softmax, Tanh
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)

ROWS, INPUTS, CLASSES = 4, 2, 3
LABELS = np.array([0, 2, 1, 2])
SOFT = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [1, 0, 0], [0, 0, 1]])


def network(loss, *after):
    return Network(INPUTS, (Dense(CLASSES), *after), loss)


def case(loss, targets, *after, dtype=np.float64, parameters=None, inputs=None, **batch):
    """Return a case of two inputs, three outputs and four rows, with what the test changes."""
    here = network(loss, *after)
    if parameters is None:
        parameters = {path: np.full(shape, 0.5, dtype) for path, shape in here.parameters().items()}
    if inputs is None:
        inputs = np.arange(ROWS * INPUTS, dtype=dtype).reshape(ROWS, INPUTS)
    return Case(here, parameters, Batch(inputs, targets, **batch))


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


VALUES = np.zeros((ROWS, CLASSES))
INSIDE = np.full((ROWS, CLASSES), 0.5)
WEIGHTS = np.ones(CLASSES)
FITS = {
    "labels": lambda: case(SoftmaxCrossEntropy(), LABELS),
    "labels of one byte": lambda: case(SoftmaxCrossEntropy(), LABELS.astype(np.int8)),
    "unsigned labels": lambda: case(SoftmaxCrossEntropy(ignore_index=-100), LABELS.astype(np.uint8)),
    "soft labels": lambda: case(SoftmaxCrossEntropy(), SOFT),
    "labels on probabilities": lambda: case(CrossEntropy(), LABELS, Softmax()),
    "fractions": lambda: case(SigmoidCrossEntropy(), INSIDE),
    "fractions on probabilities": lambda: case(BinaryCrossEntropy(), INSIDE, Sigmoid()),
    "values": lambda: case(MeanSquaredError(), VALUES - 7),
    "float32": lambda: case(Huber(), VALUES.astype(np.float32), dtype=np.float32),
    "bfloat16": lambda: case(Huber(), VALUES.astype(ml_dtypes.bfloat16), dtype=ml_dtypes.bfloat16),
    "float16": lambda: case(Huber(), VALUES.astype(np.float16), dtype=np.float16),
    "bfloat16 in all places": lambda: case(
        SoftmaxCrossEntropy("none"),
        SOFT.astype(ml_dtypes.bfloat16),
        dtype=ml_dtypes.bfloat16,
        class_weights=WEIGHTS.astype(ml_dtypes.bfloat16),
        cotangent=np.ones(ROWS, ml_dtypes.bfloat16),
    ),
    "soft labels of three digits": lambda: case(SoftmaxCrossEntropy(), np.tile([0.3333, 0.3333, 0.3333], (4, 1))),
    "class weights": lambda: case(SoftmaxCrossEntropy(), LABELS, class_weights=WEIGHTS),
    "class weights, one 0": lambda: case(SoftmaxCrossEntropy(), LABELS, class_weights=np.array([0.0, 1.0, 2.0])),
    "an ignored row": lambda: case(SoftmaxCrossEntropy(ignore_index=-1), np.array([-1, 0, 1, 2])),
    "all rows ignored in a sum": lambda: case(SoftmaxCrossEntropy("sum", ignore_index=-1), np.full(ROWS, -1)),
    "a cotangent a row": lambda: case(SoftmaxCrossEntropy("none"), LABELS, cotangent=np.ones(ROWS)),
    "a cotangent an element": lambda: case(MeanSquaredError("none"), VALUES, cotangent=VALUES),
    "one row": lambda: case(SoftmaxCrossEntropy(), LABELS[:1], inputs=np.ones((1, INPUTS))),
    "no row order in memory": lambda: case(MeanSquaredError(), VALUES, inputs=np.ones((INPUTS, ROWS)).T),
    "no parameters": lambda: Case(
        Network(3, (Tanh(),), MeanSquaredError()), {}, Batch(np.ones((4, 3)), np.zeros((4, 3)))
    ),
}


@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_what_fits_is_accepted(make):
    made = make()
    assert made.batch.rows == len(made.batch.inputs)
    assert made.dtype == made.batch.inputs.dtype


REFUSED = {
    "missing parameter": (
        lambda: case(Huber(), VALUES, parameters={"0.weight": np.ones((2, 3))}),
        "0.bias: the parameter is missing",
    ),
    "unknown parameter": (
        lambda: case(Huber(), VALUES, parameters={"0.weight": np.ones((2, 3)), "0.bias": WEIGHTS, "1.bias": WEIGHTS}),
        "1.bias: the network has no such parameter; it has 0.weight, 0.bias",
    ),
    "transposed parameter": (
        lambda: case(Huber(), VALUES, parameters={"0.weight": np.ones((3, 2)), "0.bias": WEIGHTS}),
        "0.weight: expected shape (2, 3), got (3, 2)",
    ),
    "parameter in another dtype": (
        lambda: case(Huber(), VALUES, parameters={"0.weight": np.ones((2, 3), np.float32), "0.bias": WEIGHTS}),
        "0.weight: expected float64, as the inputs, got float32",
    ),
    "parameter not finite": (
        lambda: case(
            Huber(), VALUES, parameters={"0.weight": changed(np.ones((2, 3)), (1, 2), np.inf), "0.bias": WEIGHTS}
        ),
        "0.weight[1, 2]: inf is not finite",
    ),
    "inputs are integers": (
        lambda: case(Huber(), VALUES, inputs=np.ones((4, 2), int)),
        "inputs: expected floating-point numbers, got int64",
    ),
    "inputs are of 8 bits": (
        lambda: case(Huber(), VALUES, inputs=np.ones((4, 2), ml_dtypes.float8_e5m2)),
        "inputs: expected floating-point numbers, got float8_e5m2",
    ),
    "parameter in the other 16 bits": (
        lambda: case(
            Huber(),
            VALUES,
            inputs=np.ones((4, 2), ml_dtypes.bfloat16),
            parameters={"0.weight": np.ones((2, 3), np.float16), "0.bias": WEIGHTS},
        ),
        "0.weight: expected bfloat16, as the inputs, got float16",
    ),
    "bfloat16 not finite": (
        lambda: case(
            Huber(),
            VALUES.astype(ml_dtypes.bfloat16),
            dtype=ml_dtypes.bfloat16,
            inputs=changed(np.ones((4, 2), ml_dtypes.bfloat16), (3, 1), -np.inf),
        ),
        "inputs[3, 1]: -inf is not finite",
    ),
    "bfloat16 fraction above 1": (
        lambda: case(
            SigmoidCrossEntropy(),
            changed(INSIDE, (2, 1), 1.5).astype(ml_dtypes.bfloat16),
            dtype=ml_dtypes.bfloat16,
        ),
        "targets[2, 1]: 1.5 is not between 0 and 1",
    ),
    "bfloat16 class weight negative": (
        lambda: case(
            SoftmaxCrossEntropy(),
            LABELS,
            dtype=ml_dtypes.bfloat16,
            class_weights=np.array([1, -2, 1], ml_dtypes.bfloat16),
        ),
        "class_weights: must be at least 0, got -2",
    ),
    "bfloat16 soft labels do not add up": (
        lambda: case(
            SoftmaxCrossEntropy(),
            changed(SOFT, (0, 0), 0.5625).astype(ml_dtypes.bfloat16),
            dtype=ml_dtypes.bfloat16,
        ),
        "targets[0]: the probabilities of the classes add up to 1.0625, not to 1",
    ),
    "inputs of another width": (
        lambda: case(Huber(), VALUES, inputs=np.ones((4, 3))),
        "inputs: expected shape (N, 2) with N at least 1, got (4, 3)",
    ),
    "inputs without rows": (
        lambda: case(Huber(), VALUES, inputs=np.ones((0, 2))),
        "inputs: expected shape (N, 2) with N at least 1, got (0, 2)",
    ),
    "inputs are a vector": (
        lambda: case(Huber(), VALUES, inputs=np.ones(2)),
        "inputs: expected shape (N, 2) with N at least 1, got (2,)",
    ),
    "input is NaN": (
        lambda: case(Huber(), VALUES, inputs=changed(np.ones((4, 2)), (3, 0), np.nan)),
        "inputs[3, 0]: nan is not finite",
    ),
    "labels are a column": (
        lambda: case(SoftmaxCrossEntropy(), LABELS[:, None]),
        "targets: expected integer labels of shape (4,), got (4, 1)",
    ),
    "too few labels": (
        lambda: case(SoftmaxCrossEntropy(), LABELS[:3]),
        "targets: expected integer labels of shape (4,), got (3,)",
    ),
    "label too large": (
        lambda: case(SoftmaxCrossEntropy(), np.array([0, 1, 3, 2])),
        "targets[2]: label 3 is not in 0..2",
    ),
    "label negative": (
        lambda: case(CrossEntropy(), np.array([0, -1, 1, 2]), Softmax()),
        "targets[1]: label -1 is not in 0..2",
    ),
    "label ignored nowhere": (
        lambda: case(SoftmaxCrossEntropy(ignore_index=-1), np.array([-1, -100, 1, 2])),
        "targets[1]: label -100 is not in 0..2",
    ),
    "all rows ignored": (
        lambda: case(SoftmaxCrossEntropy(ignore_index=2), np.full(ROWS, 2)),
        "targets: every row is ignored, so that the mean is 0/0",
    ),
    "all rows of weight 0": (
        lambda: case(SoftmaxCrossEntropy(), np.full(ROWS, 2), class_weights=np.array([1.0, 1.0, 0.0])),
        "class_weights: all rows have weight 0, so that the mean is 0/0",
    ),
    "rows that count have weight 0": (
        lambda: case(
            SoftmaxCrossEntropy(ignore_index=0), np.array([0, 0, 2, 2]), class_weights=np.array([1.0, 1.0, 0.0])
        ),
        "class_weights: all rows have weight 0, so that the mean is 0/0",
    ),
    "targets of another shape": (
        lambda: case(MeanSquaredError(), VALUES.T),
        "targets: expected shape (4, 3), got (3, 4)",
    ),
    "targets are integers": (
        lambda: case(MeanSquaredError(), VALUES.astype(int)),
        "targets: expected float64, as the inputs, got int64",
    ),
    "target is NaN": (
        lambda: case(MeanSquaredError(), changed(VALUES, (1, 2), np.nan)),
        "targets[1, 2]: nan is not finite",
    ),
    "fraction above 1": (
        lambda: case(SigmoidCrossEntropy(), changed(INSIDE, (2, 1), 1.5)),
        "targets[2, 1]: 1.5 is not between 0 and 1",
    ),
    "fraction below 0": (
        lambda: case(BinaryCrossEntropy(), changed(INSIDE, (0, 2), -0.25), Sigmoid()),
        "targets[0, 2]: -0.25 is not between 0 and 1",
    ),
    "soft labels do not add up": (
        lambda: case(SoftmaxCrossEntropy(), changed(SOFT, (3, 2), 0.5)),
        "targets[3]: the probabilities of the classes add up to 0.5, not to 1",
    ),
    "class weights of another length": (
        lambda: case(SoftmaxCrossEntropy(), LABELS, class_weights=np.ones(2)),
        "class_weights: expected shape (3,), got (2,)",
    ),
    "class weight negative": (
        lambda: case(SoftmaxCrossEntropy(), LABELS, class_weights=np.array([1.0, -2.0, 1.0])),
        "class_weights: must be at least 0, got -2",
    ),
    "class weights where there are no classes": (
        lambda: case(MeanSquaredError(), VALUES, class_weights=WEIGHTS),
        "class_weights: MeanSquaredError takes none",
    ),
    "reduction none without cotangent": (
        lambda: case(SoftmaxCrossEntropy("none"), LABELS),
        "cotangent: reduction none needs one, of shape (4,)",
    ),
    "cotangent of another shape": (
        lambda: case(MeanSquaredError("none"), VALUES, cotangent=np.ones(ROWS)),
        "cotangent: expected shape (4, 3), got (4,)",
    ),
    "cotangent of a mean": (
        lambda: case(MeanSquaredError(), VALUES, cotangent=VALUES),
        "cotangent: only reduction none takes one; this loss is reduced by mean",
    ),
    "cotangent is NaN": (
        lambda: case(SoftmaxCrossEntropy("none"), LABELS, cotangent=np.array([1, np.nan, 1, 1])),
        "cotangent[1]: nan is not finite",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(make, message):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 10, 50])
def test_labels_that_were_divided_by_their_sum_in_their_own_type_add_up(name, classes):
    dtype = dtype_of(name)
    shares = np.random.default_rng(classes).exponential(size=(200, classes)).astype(dtype)
    labels = shares / shares.sum(axis=1, keepdims=True)
    here = Network(1, (Dense(classes, bias=False),), SoftmaxCrossEntropy())
    made = Case(here, {"0.weight": np.ones((1, classes), dtype)}, Batch(np.ones((200, 1), dtype), labels))
    assert made.batch.targets is labels


def test_the_exception_is_a_value_error_too():
    assert issubclass(InvalidInput, ValueError)


@given(st.permutations(range(ROWS)), st.integers(1, ROWS))
def test_rows_are_taken_with_their_targets_and_cotangents(order, count):
    rows = np.array(order[:count])
    batch = case(SoftmaxCrossEntropy("none"), LABELS, class_weights=WEIGHTS, cotangent=np.arange(4.0)).batch
    taken = batch.take(rows)
    assert taken.rows == count
    np.testing.assert_array_equal(taken.inputs, batch.inputs[rows])
    np.testing.assert_array_equal(taken.targets, LABELS[rows])
    np.testing.assert_array_equal(taken.cotangent, rows)
    assert taken.class_weights is batch.class_weights


def test_rows_are_taken_by_a_slice_and_without_a_cotangent():
    taken = case(SoftmaxCrossEntropy(), LABELS).batch.take(slice(1, 3))
    assert (taken.rows, taken.targets.tolist(), taken.cotangent) == (2, [2, 1], None)


@pytest.mark.parametrize(
    "record",
    [Batch(np.ones((1, 1)), np.ones((1, 1))), case(MeanSquaredError(), VALUES), Gradients({"0.bias": np.ones(1)})],
    ids=lambda record: type(record).__name__,
)
def test_a_record_is_frozen_and_hashed_by_identity(record):
    name = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, None)
    assert record != dataclasses.replace(record)
    assert len({record, dataclasses.replace(record)}) == 2


def test_only_the_parameters_of_gradients_are_required():
    gradients = Gradients({"0.bias": np.ones(1)})
    assert (gradients.loss, gradients.input, gradients.deltas, gradients.outputs) == (None, None, {}, {})
    assert gradients.captured is None
