"""The unit of rounding: measured, never smaller than it should be, and the verdicts that rest on it."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.conformance.comparing_units import EPSILON, HALFWAY, RATIO, Looks, absent, judge, largest, move

KEY = ("gradient", "w")
EPS = EPSILON["float64"]


def judged(first, second, *, singles=None, moved=((), ()), scale=0.0, dtype="float64"):
    arrays = [np.asarray(array, float) for array in (first, second)]
    low = [np.asarray(array, float) for array in (singles or arrays)]
    looks = [Looks({KEY: double}, {KEY: single}) for double, single in zip(arrays, low, strict=True)]
    return judge(KEY, looks, [[np.asarray(array, float) for array in own] for own in moved], dtype, scale)


def test_the_unit_is_the_largest_of_what_was_measured():
    first = [1.0, 4.0]
    assert judged(first, first).unit.tolist() == [4 * EPS] * 2
    assert judged(first, first, moved=([[1.5, 4.0]], ())).unit.tolist() == [0.5, 4 * EPS]
    assert judged(first, first, moved=((), [[1.0, 3.0]])).unit.tolist() == [4 * EPS, 1.0]
    assert judged(first, first, singles=([2.0, 4.0], first)).unit.tolist() == [RATIO, 4 * EPS]
    # what a moved run overflows to is no measure
    assert judged(first, first, moved=([[np.inf, np.nan]], ())).unit.tolist() == [4 * EPS] * 2


def test_lost_digits_are_held_against_the_largest_gradient():
    # the derivative of a saturated tanh: 0 in one kernel, 1e-16 in the other, and 0 in float32 in both
    assert judged([0.0], [1e-16], singles=([0.0], [0.0])).verdict == "DIFFERS"
    assert judged([0.0], [1e-16], singles=([0.0], [0.0]), scale=0.5).verdict == "zero"
    # one that float32 knows is no rounding, however small it is
    assert judged([0.0], [1e-16], singles=([0.0], [1e-16]), scale=0.5).verdict == "DIFFERS"


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (1.0, "equal"),
        (1 + 100 * EPS, "rounding"),
        (1 + 1000 * EPS, "faint"),
        (1 + 1e-11, "DIFFERS"),
        (-1.0, "DIFFERS"),
        (np.nan, "DIFFERS"),
        (np.inf, "DIFFERS"),
    ],
)
def test_verdicts(second, verdict):
    entry = judged([1.0, 0.5], [second, 0.5])
    assert entry.verdict == verdict
    assert entry.differs is (verdict == "DIFFERS")
    if verdict == "DIFFERS":
        assert entry.index == (0,)


def test_a_difference_that_a_unit_in_the_inputs_makes_is_unstable():
    assert judged([1.0], [2.0], moved=([[2.0]], ())).verdict == "unstable"
    assert judged([1.0, 1.0], [2.0, 2.0], moved=([[2.0, 1.0]], ())).verdict == "DIFFERS"


def test_both_not_finite_in_the_same_places():
    assert judged([np.nan, np.inf], [np.nan, np.inf]).verdict == "nonfinite"
    assert judged([np.inf, 1.0], [-np.inf, 1.0]).verdict == "DIFFERS"
    assert judged([np.nan, 1.0], [np.nan, 1.0]).verdict == "equal"


def test_shapes_and_missing_gradients():
    assert judged([1.0], [[1.0]]).verdict == "SHAPE"
    assert absent(KEY, np.ones(2), "b", "float64").verdict == "MISSING"
    # a gradient of zeros may as well be left out
    assert absent(KEY, np.zeros(2), "b", "float64").verdict == "zero"


def test_sharpness_is_what_would_have_been_found():
    entry = judged([1.0, 1e-6], [1.0, 1e-6], moved=([[1.0 + 1e-12, 1e-6]], ()))
    sharp = entry.sharpness
    for factor, found in ((0.9, False), (1.1, True)):
        wrong = np.array([1.0, 1e-6]) * (1 + factor * sharp)
        assert (entry.with_second(wrong) > HALFWAY) is found
    assert judged([0.0], [0.0]).sharpness is None


def test_float32_units():
    entry = judged([1.0], [1.0], singles=([1.0], [1.0 + 3 * EPSILON["float32"]]))
    assert entry.single_units == pytest.approx(1.0)
    assert judged([1.0], [1.0 + 3 * EPSILON["float32"]], dtype="float32").units == pytest.approx(3.0)


def test_moved_numbers():
    generator = np.random.default_rng(0)
    values = {"w": np.array([1.0, -3.0, 0.0], np.float32), "zero": np.zeros(2), "labels": np.arange(3)}
    moved = move(values, generator, "float64", zeros=True)
    assert (moved["w"] != values["w"]).all()
    assert np.abs(moved["w"] - values["w"]).max() <= 6 * EPS
    assert (np.abs(moved["zero"]) == EPS).all()
    assert moved["labels"].tolist() == [0, 1, 2]
    assert move(values, generator, "float64", zeros=False)["w"][2] == 0
    single = move(values, generator, "float32", zeros=True)["w"]
    assert single.dtype == np.float32
    assert (single != values["w"]).all()


def test_the_largest_gradient():
    looks = [Looks({KEY: np.array([1.0, np.inf]), ("outputs", ""): np.array([9.0])}, {}) for _ in range(2)]
    assert largest(looks, "float64") == 1.0
    assert largest([], "float64") == 0.0
