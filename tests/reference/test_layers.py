"""The layers' rules: hand-computed outputs and pullbacks."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from gradconform.errors import Unsupported
from gradconform.layers import ELU, GELU, Dense, Layer, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.reference.arithmetic import Plain
from gradconform.reference.layers import layer_rule

LN2, LN3 = math.log(2), math.log(3)
K = Plain(np.float64)
X = np.array([[1.0, 2, 3], [-1, 0, 4]])
WEIGHT = np.array([[1.0, -1], [0, 2], [3, 1]])
DELTA = np.array([[1.0, 2], [10, -1]])


def apply(layer, x, delta, **parameters):
    output, pullback = layer_rule(layer, K, np.asarray(x, float), parameters)
    incoming, gradients = pullback(np.asarray(delta, float))
    return output, incoming, gradients


def test_dense():
    output, incoming, gradients = apply(Dense(2), X, DELTA, weight=WEIGHT, bias=np.array([10.0, 20]))
    # rows (1 + 9 + 10, -1 + 4 + 3 + 20), (-1 + 12 + 10, 1 + 4 + 20)
    assert output.tolist() == [[20, 26], [21, 25]]
    # dC/dW_ij = sum over the samples of x_i delta_j: (1 - 10, 2 + 1), (2 + 0, 4 + 0), (3 + 40, 6 - 4)
    assert gradients["weight"].tolist() == [[-9, 3], [2, 4], [43, 2]]
    assert gradients["bias"].tolist() == [11, 1]
    # dC/dx_i = sum over the next units of W_ij delta_j: (1 - 2, 0 + 4, 3 + 2), (10 + 1, 0 - 2, 30 - 1)
    assert incoming.tolist() == [[-1, 4, 5], [11, -2, 29]]


def test_dense_without_bias():
    output, _, gradients = apply(Dense(2, bias=False), X, DELTA, weight=WEIGHT)
    assert output.tolist() == [[10, 6], [11, 5]]
    assert list(gradients) == ["weight"]


# sigma(ln 3) = 3/4 and sigma' = 3/16, tanh(ln 2) = 3/5 and tanh' = 16/25; delta is 32 in the first row, -50 in the
# second
ELEMENTWISE = [
    (Sigmoid(), [LN3, 0], [3 / 4, 1 / 2], [6, -12.5]),
    (Tanh(), [LN2, 0], [3 / 5, 0], [20.48, -50]),
    (ReLU(), [7, -7], [7, 0], [32, 0]),
    (LeakyReLU(0.25), [8, -8], [8, -2], [32, -12.5]),
    (ELU(2.0), [5, -LN2], [5, -1], [32, -50]),  # 2 (1/2 - 1); 2 (1/2) delta
    (Softplus(), [LN3, 0], [2 * LN2, LN2], [24, -25]),
    (SiLU(), [LN3, 0], [3 / 4 * LN3, 0], [24 + 6 * LN3, -25]),  # s + z s (1 - s)
    (GELU(), [0, -40], [0, 0], [16, 0]),
    (GELU(approximate="tanh"), [0, 40], [0, 40], [16, -50]),
]


@pytest.mark.parametrize(("layer", "x", "output", "incoming"), ELEMENTWISE, ids=str)
def test_elementwise(layer, x, output, incoming):
    found = apply(layer, np.transpose([x, x]), [[32, 0], [-50, 1]])
    assert np.allclose(found[0], np.transpose([output, output]), rtol=1e-15, atol=1e-300)
    assert np.allclose(found[1][:, 0], incoming, rtol=1e-15, atol=1e-300)
    assert found[1][0, 1] == 0
    assert found[2] == {}


def test_softmax():
    # p = (1/4, 1/2, 1/4); delta = (4, 8, 0): sum of p delta = 5; p (delta - 5) = (-1/4, 3/2, -5/4)
    # p = (1/3, 1/3, 1/3); delta = (3, 0, 0): mean 1; (2/3, -1/3, -1/3)
    output, incoming, gradients = apply(Softmax(), [[0, LN2, 0], [5, 5, 5]], [[4, 8, 0], [3, 0, 0]])
    assert np.allclose(output, [[1 / 4, 1 / 2, 1 / 4], [1 / 3] * 3], rtol=1e-15)
    assert np.allclose(incoming, [[-1 / 4, 3 / 2, -5 / 4], [2 / 3, -1 / 3, -1 / 3]], rtol=3e-15)
    assert gradients == {}


def test_softmax_of_one_class_is_constant():
    output, incoming, _ = apply(Softmax(), [[3], [-1000]], [[7], [1]])
    assert output.tolist() == [[1], [1]]
    assert incoming.tolist() == [[0], [0]]


@pytest.mark.parametrize("kind", get_args(Layer))
def test_there_is_a_rule_for_every_layer(kind):
    assert layer_rule.dispatch(kind) is not layer_rule.dispatch(Record)


def test_a_missing_rule_is_named():
    class Swish(Record, frozen=True):
        pass

    with pytest.raises(Unsupported) as error:
        layer_rule(Swish(), K, X, {})
    assert str(error.value) == "reference: no rule for Swish"
