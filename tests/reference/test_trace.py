"""The textbook's quantities: their names, their values, and how they hang together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradconform.case import Batch, Gradients
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.strategies import networks
from gradconform.layers import Dense, Sigmoid, Softmax
from gradconform.losses import MeanSquaredError
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients
from gradconform.reference.trace import trace

L = math.log(3)
DENSE = ["incoming activation dz/dw", "pre-activation z", "delta dC/dz", "dC/dw", "dC/db"]


def test_a_single_training_example_by_hand():
    # z = L 1 = ln 3, a = 3/4, C = (3/4 - 1/4)^2; dC/da = 1, dC/dz = 3/16, dC/dw = 1 3/16
    network = Network(1, (Dense(1), Sigmoid()), MeanSquaredError())
    parameters = {"0.weight": np.array([[L]]), "0.bias": np.zeros(1)}
    dense, sigmoid = trace(network, parameters, Batch(np.array([[1.0]]), np.array([[0.25]])))
    expected = dict(zip(DENSE, [1, L, 3 / 16, 3 / 16, 3 / 16], strict=True))
    assert {name: array.item() for name, array in dense.quantities()} == pytest.approx(expected, rel=1e-15)
    assert [name for name, _ in dense.quantities()] == DENSE
    found = [(name, array.item()) for name, array in sigmoid.quantities()]
    assert found == [
        ("activation a", pytest.approx(3 / 4)),
        ("sigma'(z)", pytest.approx(3 / 16)),
        ("dC/da", pytest.approx(1)),
    ]


def test_the_names_of_every_kind_of_layer():
    network = parse("2 -> Dense(3, bias=False) -> Tanh -> Dense(2) -> Softmax, CrossEntropy")
    case = Example(network, 2, ()).case(Draw("ordinary", 0), np.float64)
    layers = trace(case.network, case.parameters, case.batch)
    assert [[name for name, _ in layer.quantities()] for layer in layers] == [
        DENSE[:-1],
        ["activation a", "sigma'(z)", "dC/da"],
        DENSE,
        ["activation a", "dC/da"],
    ]
    assert [layer.index for layer in layers] == [0, 1, 2, 3]
    assert tuple(layer.layer for layer in layers) == network.layers


@st.composite
def cases(draw):
    network = draw(networks(max_units=6))
    draws = Draw(draw(st.sampled_from(["ordinary", "large", "integers"])), draw(st.integers(0, 2**32 - 1)))
    return Example(network, draw(st.sampled_from([1, 2, 5])), ()).case(draws, np.float64)


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(cases())
def test_each_quantity_follows_from_its_neighbours(case):
    layers = trace(case.network, case.parameters, case.batch)
    incoming = case.batch.inputs
    for layer in layers:
        index = layer.index
        assert np.array_equal(layer.incoming, incoming)
        incoming = layer.output
        below = gradients(case.network, case.parameters, case.batch).input if not index else layers[index - 1].delta
        if isinstance(layer.layer, Dense):
            weight, bias = (case.parameters.get(f"{index}.{name}") for name in ("weight", "bias"))
            assert np.allclose(layer.output, layer.incoming @ weight + (0 if bias is None else bias), rtol=1e-14)
            assert np.allclose(layer.parameters["weight"], layer.incoming.T @ layer.delta, rtol=1e-14)
            if bias is not None:
                assert np.allclose(layer.parameters["bias"], layer.delta.sum(axis=0), rtol=1e-14)
            assert np.allclose(below, layer.delta @ weight.T, rtol=1e-14)
        elif isinstance(layer.layer, Softmax):
            assert layer.slope is None
        elif index < len(layers) - 1 or not case.network.loss.follows:
            # sigma'(z) times the delta that comes back from the layer above, which is delta W^T where that is dense
            assert np.allclose(below, layer.slope * layer.delta, rtol=1e-14)
            if index + 1 < len(layers) and isinstance(layers[index + 1].layer, Dense):
                above = layers[index + 1]
                weight = case.parameters[f"{index + 1}.weight"]
                assert np.allclose(below, layer.slope * (above.delta @ weight.T), rtol=1e-13)


def test_the_trace_of_other_gradients():
    network = parse("1 -> Dense(1) -> ReLU, MeanSquaredError")
    parameters = {"0.weight": np.array([[2.0]]), "0.bias": np.array([0.0])}
    found = Gradients(
        {"0.weight": np.array([[10.0]]), "0.bias": np.array([20.0])},
        deltas={0: np.array([[30.0]]), 1: np.array([[40.0]])},
        outputs={0: np.array([[50.0]]), 1: np.array([[60.0]])},
    )
    dense, relu = trace(network, parameters, Batch(np.array([[3.0]]), np.array([[0.0]])), found)
    assert [array.item() for _, array in dense.quantities()] == [3, 50, 30, 10, 20]
    assert [array.item() for _, array in relu.quantities()] == [60, 1, 40]


def test_a_saturated_unit_warns_of_nothing():
    network = parse("1 -> Dense(1) -> Sigmoid, BinaryCrossEntropy")
    parameters = {"0.weight": np.array([[-800.0]]), "0.bias": np.array([0.0])}
    dense, sigmoid = trace(network, parameters, Batch(np.array([[1.0]]), np.array([[1.0]])))
    assert dense.delta.item() == -1
    assert sigmoid.output.item() == 0
