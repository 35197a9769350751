"""The error function: the whole line, every type, and the complex step."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from gradconform.reference.erf import erfc

LINE = np.concatenate(
    [
        np.linspace(-7, 27, 3401),  # erfc underflows at 27.3
        [2.0, np.nextafter(2, 0), np.nextafter(2, 3), -2.0, 0.0, -0.0, 5e-324, -5e-324, 1e-310],
    ]
)


def exact(x, digits):
    """Return erfc of a Decimal by the series of erf, whose terms are all positive."""
    with localcontext(prec=digits):
        size = abs(x)
        term = total = size
        n = 0
        while term > total.scaleb(-digits):
            n += 1
            term *= 2 * size * size / (2 * n + 1)
            total += term
        pi = Decimal(
            "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
            "214808651328230664709384460955058223172535940812848111745028410270193852110555964462294895493038196"
        )
        erf = 2 / pi.sqrt() * (-size * size).exp() * total
        return 1 - erf if x >= 0 else 1 + erf


def test_erfc_is_the_standard_librarys():
    ours, standard = erfc(LINE), np.array([math.erfc(x) for x in LINE])
    # exp(-x^2) makes x^2 roundings of the exponent; below 2 erfc is as accurate as 1 - erf
    tail = LINE >= 2
    relative = np.finfo(float).eps * (4 + LINE[tail] ** 2)
    assert (np.abs(ours - standard)[tail] <= relative * standard[tail] + 5e-324).all()
    assert np.abs(ours - standard)[~tail].max() <= 4 * np.finfo(float).eps


def test_erf_is_the_standard_librarys():
    x = np.linspace(-7, 7, 1401)
    assert np.abs(1 - erfc(x) - [math.erf(value) for value in x]).max() <= 4 * np.finfo(float).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_every_type_has_its_own_accuracy(dtype, decimal):
    eps = Decimal(float(np.finfo(dtype).eps))
    for x in np.asarray([-3.1, -0.7, 1e-9, 0.3, 1.1, 1.9, 2, 2.1, 3.3, 5, 8], dtype):
        found, expected = decimal(erfc(x)[()]), exact(decimal(x), 80)
        scale = expected if x >= 2 else Decimal(1)
        assert abs(found - expected) <= 4 * eps * scale * (1 + decimal(x) ** 2), x


def test_far_in_the_tails():
    with np.errstate(under="ignore", over="ignore"):
        values = erfc(np.array([1e3, 1e150, 1e308, -1e3, -1e308]))
    assert values.tolist() == [0, 0, 0, 2, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex64, np.complex128, np.clongdouble])
def test_the_type_and_the_shape_stay(dtype):
    for shape in [(), (0,), (3,), (2, 1, 4)]:
        found = erfc(np.full(shape, 2.5, dtype))
        assert found.dtype == dtype
        assert found.shape == shape
        assert np.allclose(found.real, math.erfc(2.5))


def test_the_complex_step_gives_the_derivative():
    x = np.concatenate([np.linspace(-6, 26, 2000), [2.0, np.nextafter(2, 0), 0.0]])
    derivative = erfc(x + 1e-10j).imag / 1e-10
    expected = -2 / np.sqrt(np.pi) * np.exp(-x * x)
    # below 2 the derivative of the series is a difference of terms near 1
    assert (np.abs(derivative - expected) <= 1e-15 * (4 + x * x) * np.abs(expected) + (np.abs(x) <= 2) * 4e-15).all()


def test_the_input_is_not_written_to():
    x = np.array([-1.0, 1.0, 3.0])
    x.flags.writeable = False
    erfc(x)
