"""Plain arithmetic: the operations of the rules on NumPy arrays."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from gradconform.layers import Tanh
from gradconform.reference.arithmetic import Plain
from gradconform.reference.functions import function

TYPES = [np.float32, np.float64, np.longdouble]
ROWS = {
    "gap 0": [0, 0, 0],
    "gap 20": [3, -17, 1.5],
    "gap 100": [-50, 50, 49.5],
    "gap 700": [-350, 349, 350],
    "gap 2000": [1000, -1000, 998.75],
    "high": [1e4, 1e4 + 1, 1e4 - 3],
    "low": [-1e4, -1e4 + 1, -1e4 - 3],
    "a tie at the top": [5, 5, -3],
    "a tie below": [-9, 4, -9],
    "one class": [7],
    "nearly certain": [0, 30, -2],
}


def softmax(logits):
    """Return p, 1 - p and log p of a row of Decimals, without cancellation."""
    with localcontext(prec=60):
        e = [logit.exp() for logit in logits]
        total = sum(e)
        return [
            ([p / total for p in e]),
            [sum(e[:i] + e[i + 1 :]) / total for i in range(len(e))],
            [logit - total.ln() for logit in logits],
        ]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_softmax_to_the_last_digits(row, dtype, decimal):
    z = np.array([row], dtype)
    with np.errstate(under="ignore"):
        found = Plain(dtype).softmax(z)
    logits = [decimal(logit) for logit in z[0]]
    span = max(logits) - min(logits)
    eps, tiny = decimal(np.finfo(dtype).eps), decimal(np.finfo(dtype).smallest_normal)
    for name, actual, expected in zip(("p", "1 - p", "log p"), found, softmax(logits), strict=True):
        assert actual.dtype == dtype
        for got, wanted in zip(actual[0], expected, strict=True):
            # the shift rounds each logit: exp turns that into a relative error of |gap| eps
            allowed = eps * abs(wanted) * (4 + (0 if name == "log p" else span))
            assert abs(decimal(got) - wanted) <= allowed + tiny, (name, got, wanted)


def test_softmax_is_over_each_row_of_its_own():
    z = np.array([[1000.0, 0.0], [-1000.0, 0.0], [0.0, 0.0]])
    p, complement, _ = Plain(np.float64).softmax(z)
    assert p.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert complement.tolist() == [[0, 1], [1, 0], [0.5, 0.5]]


def test_softmax_by_the_complex_step():
    # dp_i / dz_j = p_i (1 - p_i) for i = j, else -p_i p_j;  d log p_i / dz_j = 1 - p_i or -p_j
    k, z = Plain(np.complex128), np.array([0.3, -1.2, 2.0, 2.0])
    for j in range(4):
        moved = z.astype(complex)
        moved[j] += 1e-30j
        p, complement, log_p = k.softmax(moved[None])
        q = p[0].real
        unit = np.arange(4) == j
        assert np.allclose(p[0].imag / 1e-30, q * (unit - q[j]), rtol=1e-14)
        assert np.allclose(complement[0].imag / 1e-30, -q * (unit - q[j]), rtol=1e-14)
        assert np.allclose(log_p[0].imag / 1e-30, unit - q[j], rtol=1e-14)


@pytest.mark.parametrize("dtype", TYPES)
def test_weigh_takes_0_times_infinity_as_0(dtype):
    k = Plain(dtype)
    with np.errstate(all="ignore"):
        found = k.weigh(k.lift([0, 0, 0, 2, 0.5]), k.lift([-np.inf, np.inf, np.nan, -np.inf, 3]))
    assert found.tolist() == [0, 0, 0, -np.inf, 1.5]
    assert found.dtype == dtype


def test_affine():
    k = Plain(np.float64)
    x, weight, bias = k.lift([[1, 2], [3, 4]]), k.lift([[1, 0, -1], [2, 1, 0]]), k.lift([10, 20, 30])
    assert k.affine(x, weight, None).tolist() == [[5, 2, -1], [11, 4, -3]]
    assert k.affine(x, weight, bias).tolist() == [[15, 22, 29], [21, 24, 27]]


def test_the_other_operations():
    k = Plain(np.float64)
    assert k.lift([1, 2]).dtype == np.float64
    assert k.log(k.lift([1.0, np.e])).tolist() == [0, 1]
    assert k.maximum(k.lift([-200.0, -3.0]), -100).tolist() == [-100, -3]
    assert [part.tolist() for part in k.evaluate(function(Tanh()), k.lift([0.0]))] == [[0], [1]]


def test_accept_takes_the_accurate_formula_alone():
    def never():
        raise AssertionError

    assert Plain(np.float64).accept(lambda: 1, never) == 1


@pytest.mark.parametrize("dtype", [*TYPES, np.complex64, np.complex128])
def test_every_operation_keeps_the_type(dtype):
    k = Plain(dtype)
    x = k.lift([[0.5, 0.25]])
    results = [*k.softmax(x), k.log(x), k.weigh(x, x), k.affine(x, x.T, k.lift([1])), *k.evaluate(function(Tanh()), x)]
    assert {result.dtype for result in results} == {np.dtype(dtype)}


def test_the_oracle_of_these_tests():
    p, complement, log_p = softmax([Decimal(0), Decimal(3).ln()])
    assert [float(x) for x in (*p, *complement)] == [0.25, 0.75, 0.75, 0.25]
    assert float(log_p[0]) == -float(Decimal(4).ln())
