"""Loss and gradients worked out by hand, for both adapters."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import Batch, parse

LOG2 = np.log(2)


def run(adapter, text, inputs, targets, parameters=None, **batch):
    network = parse(text)
    arrays = {path: np.array(value, float) for path, value in (parameters or {}).items()}
    found = {key: np.array(value, float) for key, value in batch.items()}
    return adapter.module.gradients(network, arrays, Batch(np.array(inputs, float), np.array(targets), **found))


def test_a_line_fitted_by_least_squares(adapter):
    # z = 3 x + 1 = 4, 7; C = (4^2 + 7^2) / 2; dC/dz = z
    found = run(
        adapter,
        "1 -> Dense(1), MeanSquaredError",
        [[1], [2]],
        [[0.0], [0.0]],
        {"0.weight": [[3]], "0.bias": [1]},
    )
    assert found.loss == 32.5
    np.testing.assert_array_equal(found.outputs[0], [[4], [7]])
    np.testing.assert_array_equal(found.deltas[0], [[4], [7]])
    np.testing.assert_array_equal(found.parameters["0.weight"], [[4 * 1 + 7 * 2]])
    np.testing.assert_array_equal(found.parameters["0.bias"], [11])
    np.testing.assert_array_equal(found.input, [[12], [21]])


def test_the_weight_is_in_by_out(adapter):
    # z = x W = [1, 2] W; C = sum of z^2; dC/dW = x^T 2z
    found = run(
        adapter,
        "2 -> Dense(3, bias=False), MeanSquaredError(reduction=sum)",
        [[1, 2]],
        [[0.0, 0.0, 0.0]],
        {"0.weight": [[1, 0, 2], [0, 1, -1]]},
    )
    np.testing.assert_array_equal(found.outputs[0], [[1, 2, 0]])
    np.testing.assert_array_equal(found.parameters["0.weight"], [[2, 4, 0], [4, 8, 0]])
    np.testing.assert_array_equal(found.input, [[2, 4]])


ZEROS = {"0.weight": [[0, 0]], "0.bias": [0, 0]}


@pytest.mark.parametrize(
    ("options", "weights", "labels", "loss", "deltas"),
    [
        ("", None, [0, 1], LOG2, [[-1 / 4, 1 / 4], [1 / 4, -1 / 4]]),
        ("(reduction=sum)", None, [0, 1], 2 * LOG2, [[-1 / 2, 1 / 2], [1 / 2, -1 / 2]]),
        ("", [1, 3], [0, 1], LOG2, [[-1 / 8, 1 / 8], [3 / 8, -3 / 8]]),
        ("", [1, 3], [[1.0, 0.0], [0.0, 1.0]], 2 * LOG2, [[-1 / 4, 1 / 4], [3 / 4, -3 / 4]]),
        ("(ignore_index=-1)", None, [-1, 1], LOG2, [[0, 0], [1 / 2, -1 / 2]]),
        ("(ignore_index=0)", [1, 3], [0, 1], LOG2, [[0, 0], [1 / 2, -1 / 2]]),
        ("(label_smoothing=0.5)", None, [0, 1], LOG2, [[-1 / 8, 1 / 8], [1 / 8, -1 / 8]]),
        # q = 3/4, 1/4: the costs are (1 * 3/4 + 3 * 1/4) log 2 and (1 * 1/4 + 3 * 3/4) log 2, over 1 + 3.
        ("(label_smoothing=0.5)", [1, 3], [0, 1], LOG2, [[0, 0], [1 / 4, -1 / 4]]),
    ],
)
def test_cross_entropy_of_even_logits(adapter, options, weights, labels, loss, deltas):
    batch = {} if weights is None else {"class_weights": weights}
    found = run(adapter, f"1 -> Dense(2), SoftmaxCrossEntropy{options}", [[1], [3]], labels, ZEROS, **batch)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-15)
    np.testing.assert_allclose(found.deltas[0], deltas, atol=1e-16)
    np.testing.assert_allclose(found.parameters["0.weight"], [[1, 3]] @ np.array(deltas), atol=1e-15)
    np.testing.assert_allclose(found.parameters["0.bias"], np.sum(deltas, 0), atol=1e-15)


def test_an_unreduced_loss_is_weighted_by_its_cotangent(adapter):
    found = run(
        adapter, "1 -> Dense(2), SoftmaxCrossEntropy(reduction=none)", [[1], [3]], [0, 1], ZEROS, cotangent=[2, -4]
    )
    np.testing.assert_allclose(found.loss, [LOG2, LOG2], rtol=1e-15)
    np.testing.assert_allclose(found.deltas[0], [[-1, 1], [-2, 2]])


def test_ignored_rows_have_exactly_no_gradient(adapter):
    found = run(
        adapter,
        "1 -> Dense(2), SoftmaxCrossEntropy(ignore_index=255, label_smoothing=0.1)",
        [[1], [3], [1e9]],
        np.array([0, 255, 255], np.uint8),
        {"0.weight": [[1, 2]], "0.bias": [0, 0]},
        class_weights=[1, 2],
    )
    np.testing.assert_array_equal(found.deltas[0][1:], 0)
    np.testing.assert_array_equal(found.input[1:], 0)
    assert np.isfinite(found.loss)


def test_a_sigmoid_at_zero(adapter):
    found = run(adapter, "1 -> Sigmoid, MeanSquaredError(reduction=sum)", [[0]], [[0.0]])
    assert found.loss == 0.25
    np.testing.assert_array_equal(found.deltas[0], [[1]])
    np.testing.assert_array_equal(found.input, [[0.25]])
    assert dict(found.parameters) == {}


def test_binary_cross_entropies_at_zero(adapter):
    # p = 1/2, y = 0 and 1/4: the delta is p - y, on probabilities (p - y) / (p (1 - p)), over 2 elements.
    for text in ("2 -> Sigmoid, BinaryCrossEntropy", "2 -> Dense(2, bias=False), SigmoidCrossEntropy"):
        weights = {"0.weight": np.eye(2)} if "Dense" in text else {}
        found = run(adapter, text, [[0, 0]], [[0.0, 0.25]], weights)
        np.testing.assert_allclose(found.loss, LOG2, rtol=1e-15)
        np.testing.assert_allclose(found.input, [[1 / 4, 1 / 8]], rtol=1e-15)
        slope = 1 if weights else 1 / 4
        np.testing.assert_allclose(found.deltas[0] * slope, [[1 / 4, 1 / 8]], rtol=1e-15)


def test_huber_inside_and_outside(adapter):
    found = run(adapter, "2 -> ReLU, Huber(reduction=sum, delta=2)", [[0.5, 5]], [[0.0, 0.0]])
    np.testing.assert_allclose(found.loss, 0.125 + 2 * (5 - 1))
    np.testing.assert_allclose(found.input, [[0.5, 2]])


def test_cross_entropy_of_probabilities(adapter):
    for labels in ([0, 1], [[1.0, 0.0], [0.0, 1.0]]):
        found = run(adapter, "2 -> Softmax, CrossEntropy", [[0, 0], [0, 0]], labels)
        np.testing.assert_allclose(found.loss, LOG2)
        np.testing.assert_allclose(found.deltas[0], [[-1, 0], [0, -1]])
        np.testing.assert_allclose(found.input, [[-1 / 4, 1 / 4], [1 / 4, -1 / 4]])
