"""Derivatives without a step: the error that is claimed holds, kinks are left open, and nothing is taken on trust."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.conformance.operation_numerics import Slope, power_of_two, random_sum, slope

GENERATOR = np.random.default_rng(0)
X = np.round(GENERATOR.standard_normal(2000) * 2**20) / 2**20
V = GENERATOR.choice([-1.0, 1.0], 2000) * GENERATOR.integers(4, 13, 2000) / 8

SMOOTH = {
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "exp": (np.exp, np.exp),
    "fast": (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x)),
    "linear": (lambda x: 3 * x, lambda x: 3 + 0 * x),
    "cancelling": (lambda x: (x + 1e8) - 1e8, lambda x: 1 + 0 * x),
    "rational": (lambda x: 1 / (1 + 25 * x * x), lambda x: -50 * x / (1 + 25 * x * x) ** 2),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("scale", [1.0, 0.75])
def test_the_error_holds_and_is_small(name, scale):
    function, derivative = SMOOTH[name]
    found = slope(lambda t: function(X + t * V), "float64", scale)
    error = np.abs(found.value - derivative(X) * V)
    assert (error <= found.error).all()
    assert found.resolved("float64").all()
    allowed = {"cancelling": 1e-6, "fast": 1e-8}.get(name, 1e-10)
    assert np.median(found.error) < allowed


@pytest.mark.parametrize("name", ["tanh", "exp", "linear", "rational"])
def test_a_complex_step_is_sharper(name):
    function, derivative = SMOOTH[name]
    found = slope(lambda t: function(X + t * V), "float64", 1.0, lambda h: np.imag(function(X + 1j * h * V)))
    error = np.abs(found.value - derivative(X) * V)
    assert (error <= found.error).all()
    assert np.median(found.error) < 5e-14


def test_a_complex_step_that_loses_the_imaginary_part_is_not_trusted():
    found = slope(lambda t: np.abs(X + t * V), "float64", 1.0, lambda h: np.imag(np.abs(X + 1j * h * V)))
    resolved = found.resolved("float64")
    assert resolved.mean() > 0.99
    assert (np.abs(found.value - np.sign(X) * V) <= found.error)[resolved].all()


def test_float32():
    x, v = X.astype(np.float32), V.astype(np.float32)
    found = slope(lambda t: np.tanh(x + np.float32(t) * v).astype(float), "float32", 1.0)
    error = np.abs(found.value - (1 - np.tanh(X) ** 2) * V)
    assert (error <= found.error).all()
    assert np.median(found.error) < 1e-3


@pytest.mark.parametrize("offset", [0.0, 1e-12, 1e-9, 1e-6, 1e-3])
def test_at_and_beside_a_kink_every_value_between_the_slopes_is_left_open(offset):
    x = np.full(50, offset)
    found = slope(lambda t: np.maximum(x + t * V[:50], 0), "float64", 1.0)
    right = np.where(offset > 0, V[:50], 0)
    assert (np.abs(found.value - right) <= found.error).all()
    if offset in {0.0, 1e-12}:
        assert not found.resolved("float64").any()
        assert (np.abs(found.value) <= found.error).all()
    if offset == 1e-3:
        assert found.resolved("float64").all()


def test_a_function_rounded_to_float32_inside_is_no_staircase_of_slope_0():
    found = slope(lambda t: np.tanh((X + t * V).astype(np.float32)).astype(float), "float64", 1.0)
    right = (1 - np.tanh(X) ** 2) * V
    ratio = np.abs(found.value - right) / found.error
    assert (ratio > 1).mean() <= 1e-3
    assert ratio.max() < 3


def test_what_is_not_finite_is_not_resolved():
    with np.errstate(all="ignore"):
        found = slope(lambda t: np.log(np.array([1.0, 1e-12, -1.0]) + t), "float64", 1.0)
    assert found.resolved("float64").tolist()[0]
    assert not found.resolved("float64").tolist()[2]
    assert not Slope(np.array([np.nan]), np.array([np.inf]), np.zeros(1)).resolved("float64").any()


def test_a_constant_has_slope_0_and_is_resolved():
    found = slope(lambda t: np.full(3, 1e6), "float64", 1.0)
    assert found.resolved("float64").all()
    assert (found.value == 0).all()


def test_random_sums():
    assert random_sum(np.zeros(3)) == 0
    assert random_sum(np.array([3.0, -4.0])) == 7.0
    assert random_sum(np.full(10_000, 1e-3)) == pytest.approx(0.8)
    assert random_sum(np.full(10_000, 1e200)) == pytest.approx(8e202)
    assert random_sum(np.array([np.inf, 1.0])) == np.inf


@pytest.mark.parametrize(("values", "size"), [([3.0, -3.0], 4.0), ([1.0], 1.0), ([0.0], 1.0), ([1e-200], 2.0**-664)])
def test_power_of_two(values, size):
    assert power_of_two(np.array(values)) == size
    assert power_of_two(np.array([*values, np.nan, np.inf])) == size
