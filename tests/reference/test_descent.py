"""Gradient descent: the first step by hand, and where it leads."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.case import Batch
from gradconform.layers import Dense
from gradconform.losses import MeanSquaredError
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.descent import descend, initial_parameters

LINE = Network(1, (Dense(1),), MeanSquaredError())
START = {"0.weight": np.array([[2.0]]), "0.bias": np.array([1.0])}
POINTS = Batch(np.array([[1.0], [3.0]]), np.array([[1.0], [5.0]]))


def test_the_first_step_by_hand():
    # residuals 2 1 + 1 - 1 = 2 and 2 3 + 1 - 5 = 2: C = (4 + 4) / 2, dC/dw = (2 2 1 + 2 2 3) / 2 = 8, dC/db = 4
    (before, found), (after, _) = descend(LINE, START, POINTS, learning_rate=0.125, steps=2)
    assert before is START
    assert found.loss == 4
    assert {path: array.item() for path, array in found.parameters.items()} == {"0.weight": 8, "0.bias": 4}
    assert {path: array.item() for path, array in after.items()} == {"0.weight": 2 - 8 / 8, "0.bias": 1 - 4 / 8}


def test_the_parameters_that_were_given_stay():
    list(descend(LINE, START, POINTS, 0.1, 3))
    assert [array.item() for array in START.values()] == [2, 1]


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_as_many_steps_as_asked_for(steps):
    assert len(list(descend(LINE, START, POINTS, 0.1, steps))) == steps


def test_a_line_is_fitted():
    *_, (parameters, found) = descend(LINE, START, POINTS, 0.1, 800)
    assert found.loss < 1e-20
    assert np.allclose([parameters["0.weight"].item(), parameters["0.bias"].item()], [2, -1])


@pytest.mark.parametrize(
    "notation",
    [
        "2 -> Dense(4) -> Tanh -> Dense(2), SoftmaxCrossEntropy",
        "2 -> Dense(4) -> Sigmoid -> Dense(2) -> Softmax, CrossEntropy",
    ],
)
def test_separable_points_are_separated(notation):
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    inputs = rng.normal(size=(20, 2)) * 0.3 + np.where(labels[:, None] == 1, 1.0, -1.0)
    network = parse(notation)
    steps = list(descend(network, initial_parameters(network, 1), Batch(inputs, labels), 0.5, 60))
    costs = np.array([found.loss for _, found in steps])
    assert (np.diff(costs) < 0).all()
    assert costs[-1] < 0.3 * costs[0]
    output = steps[-1][1].outputs[len(network.layers) - 1]
    assert np.array_equal(output.argmax(axis=1), labels)


def test_initial_parameters():
    network = parse("30 -> Dense(20) -> Tanh -> Dense(10, bias=False), MeanSquaredError")
    parameters = initial_parameters(network, 3)
    assert {path: array.shape for path, array in parameters.items()} == network.parameters()
    assert {array.dtype for array in parameters.values()} == {np.dtype(np.float64)}
    assert not parameters["0.bias"].any()
    for path, width in (("0.weight", 50), ("2.weight", 30)):
        limit = np.sqrt(6 / width)
        size = np.abs(parameters[path])
        assert 0.95 * limit < size.max() <= limit
        assert np.isclose(size.mean(), limit / 2, rtol=0.1)


def test_the_seed_decides():
    one, same, other = (initial_parameters(LINE, seed)["0.weight"].item() for seed in (1, 1, 2))
    assert one == same != other
