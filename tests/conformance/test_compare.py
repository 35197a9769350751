"""Comparing arrays by bound: each verdict on the case that calls for it."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.conformance.compare import Comparison, Kind, Outcomes, compare_array, compare_named, compare_values
from gradconform.reference.bounded import Bounded
from gradconform.reference.precision import precision

M64, M32 = precision(np.dtype(np.float64)), precision(np.dtype(np.float32))


def bounded(value, error=1e-15, m=M64):
    """Return an expected array whose elements all have the bound `error`, or one bound each."""
    array = np.asarray(value, np.longdouble if m is M64 else np.float64)
    return Bounded(array, np.broadcast_to(np.asarray(error, float), array.shape).copy(), m)


def compare(expected, actual):
    return compare_array("parameters", "0.weight", expected, actual)


def test_within_the_bound_passes_and_says_how_close():
    found = compare(bounded([1.0, 2.0], 1e-10), np.array([1.0, 2.0 + 5e-11]))
    assert (found.kind, found.passed, found.outcomes) == (Kind.PASS, True, Outcomes(passed=2))
    assert found.ratio == pytest.approx(0.5, rel=1e-3)
    assert found.worst.index == (1,)
    assert found.factor is None


def test_the_bound_itself_passes_and_a_little_more_is_wrong():
    expected = bounded([0.0], 1e-10)
    assert compare(expected, np.array([1e-10])).passed
    assert compare(expected, np.array([1.001e-10])).kind is Kind.WRONG


def test_the_worst_element_is_that_of_the_largest_ratio_and_not_of_the_largest_error():
    expected = bounded([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[1e-3, 1e-3, 1e-3], [1e-3, 1e-3, 1e-12]])
    actual = np.ones((2, 3))
    actual[0, 0] += 0.5
    actual[1, 2] += 1e-6
    found = compare(expected, actual)
    assert found.kind is Kind.WRONG
    assert found.worst.index == (1, 2)
    assert found.worst.actual == actual[1, 2]
    assert found.worst.expected == 1.0
    assert found.worst.error == pytest.approx(1e-6)
    assert found.worst.bound == pytest.approx(1e-12, rel=1e-2)
    assert found.ratio == pytest.approx(1e6, rel=1e-2)


def test_one_wrong_element_of_100_000_is_found():
    expected = bounded(np.ones(100_000), 1e-14)
    actual = np.ones(100_000)
    actual[77_777] += 1e-11
    found = compare(expected, actual)
    assert (found.kind, found.worst.index) == (Kind.WRONG, (77_777,))


@pytest.mark.parametrize(("actual", "kind"), [(0.0, Kind.PASS), (-0.0, Kind.PASS), (5e-324, Kind.WRONG)])
def test_an_element_with_the_bound_0_is_exact_or_wrong(actual, kind):
    found = compare(bounded([0.0], 0.0), np.array([actual]))
    assert found.kind is kind
    assert found.ratio == (np.inf if kind is Kind.WRONG else 0)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_verdict_of_its_own(junk):
    found = compare(bounded([1.0, 2.0, 3.0], 1e300), np.array([1.0, junk, 3.0]))
    assert found.kind is Kind.NONFINITE
    assert found.worst.index == (1,)
    assert found.ratio == np.inf
    assert found.factor is None


def test_nan_everywhere_does_not_pass_for_a_small_difference():
    found = compare(bounded(np.ones((2, 3))), np.full((2, 3), np.nan))
    assert (found.kind, found.outcomes, found.factor) == (Kind.NONFINITE, Outcomes(failed=6), None)


def test_elements_without_a_finite_bound_are_counted_and_not_judged():
    expected = bounded([1.0, 2.0, 3.0], [np.inf, 1e-15, np.inf])
    found = compare(expected, np.array([99.0, 2.0, np.nan]))
    assert (found.kind, found.outcomes) == (Kind.PASS, Outcomes(passed=1, range=2))
    wrong = compare(expected, np.array([99.0, 2.1, np.nan]))
    assert (wrong.kind, wrong.outcomes) == (Kind.WRONG, Outcomes(failed=1, range=2))


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_what_is_lost_on_the_way_is_counted(junk):
    expected = bounded([1.0, 2.0, np.inf, np.nan], np.inf)
    # of the last two, the mathematics itself has no number
    assert compare(expected, np.array([1.0, junk, junk, junk])).lost == 1
    assert compare(bounded([1.0], 1e-15), np.array([1.0])).lost == 0


def test_what_the_type_cannot_hold_is_not_lost():
    expected = bounded([1e39, 1e38], np.inf, M32)
    assert compare(expected, np.array([np.inf, np.inf], np.float32)).lost == 1


def test_vacuous_elements_are_counted():
    expected = bounded([1.0, 1e-20, -1e-20, 0.0], [1e-15, 1e-15, 1e-15, 1e-15])
    found = compare(expected, np.array([1.0, 0.0, 0.0, 0.0]))
    assert (found.kind, found.outcomes) == (Kind.PASS, Outcomes(passed=1, vacuous=3))
    assert found.tells


def test_a_wrong_element_fails_whether_its_bound_is_vacuous_or_not():
    found = compare(bounded([1e-20, 1e-20], 1e-15), np.array([1e-14, 0.0]))
    assert (found.kind, found.outcomes) == (Kind.WRONG, Outcomes(failed=1, vacuous=1))


def test_an_array_of_vacuous_and_unbounded_elements_tells_nothing():
    found = compare(bounded([1e-20, 1.0], [1e-15, np.inf]), np.array([0.0, 1.0]))
    assert (found.outcomes, found.tells) == (Outcomes(vacuous=1, range=1), False)


def test_elements_are_at_a_kink_where_one_choice_would_have_a_smaller_bound():
    opened, closed = bounded([1.0, 1.0, 1.0], [0.5, 1e-10, 0.5]), bounded([1.2, 1.0, 1.2], [1e-10, 1e-10, np.inf])
    found = compare_array("parameters", "0.weight", opened, np.array([1.1, 1.0, 1.3]), closed)
    # where the one choice is no more certain, it is not the kink that leaves it open
    assert (found.kind, found.outcomes) == (Kind.PASS, Outcomes(passed=2, kink=1))
    assert compare_array("parameters", "0.weight", opened, np.array([1.6, 1.0, 1.0]), closed).outcomes.failed == 1


def test_every_element_ends_as_one_of_five():
    counts = Outcomes(1, 2, 3, 4, 5)
    assert (counts.passed, counts.failed, counts.kink, counts.range, counts.vacuous) == (1, 2, 3, 4, 5)
    assert (counts.elements, counts.telling) == (15, 6)
    assert counts + Outcomes(10, 10, 10, 10, 10) == Outcomes(11, 12, 13, 14, 15)


def test_an_empty_array_has_no_worst_element():
    found = compare(bounded(np.ones((0, 3))), np.ones((0, 3)))
    assert (found.kind, found.outcomes, found.worst, found.ratio) == (Kind.PASS, Outcomes(), None, 0.0)


@pytest.mark.parametrize("actual", [np.ones((3, 2)), np.ones(6), np.ones((1, 2, 3)), np.float64(1.0), [[1.0, 1.0]]])
def test_the_right_numbers_in_another_shape_are_not_broadcast(actual):
    found = compare(bounded(np.ones((2, 3))), actual)
    assert found.kind is Kind.SHAPE
    assert found.detail == f"expected shape (2, 3), got {np.shape(actual)}"


def test_a_scalar_for_a_bias_of_one_unit_has_the_wrong_shape():
    assert compare(bounded([1.0]), 1.0).kind is Kind.SHAPE
    assert compare(bounded([1.0]), [1.0]).passed


def test_a_ragged_list_has_the_wrong_shape_in_one_line():
    found = compare(bounded(np.ones((2, 2))), [[1.0, 1.0], [1.0]])
    assert found.kind is Kind.SHAPE
    assert found.detail.startswith("expected an array of shape (2, 2): ")
    assert "\n" not in found.detail


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.longdouble, np.int64, complex, bool, object, "S3"])
def test_another_dtype_is_told_even_where_the_numbers_are_right(dtype):
    found = compare(bounded([1.0, 0.0]), np.array([1, 0]).astype(dtype))
    assert found.kind is Kind.DTYPE
    assert found.detail.endswith(f"got {np.dtype(dtype)}")
    assert "float64" in found.detail


def test_float64_where_float32_is_expected_is_told():
    found = compare(bounded([1.0], 1e-7, M32), np.array([1.0]))
    assert (found.kind, found.detail) == (Kind.DTYPE, "expected float32, as the inputs, got float64")


def test_rounded_values_in_an_array_labelled_float64_are_wrong():
    exact = np.linspace(0.1, 0.9, 7)
    assert compare(bounded(exact, 1e-15), exact).passed
    found = compare(bounded(exact, 1e-15), exact.astype(np.float32).astype(np.float64))
    assert found.kind is Kind.WRONG
    assert found.ratio > 1e5


class Equal:
    """Says yes to every comparison."""

    __hash__ = None

    def __eq__(self, other):
        return True


class Unwilling:
    """Cannot be converted to an array."""

    def __array__(self, *arguments, **options):
        raise RuntimeError("call detach() first\nand then numpy()")


@pytest.mark.parametrize("actual", [Equal(), [Equal(), Equal()], np.array([Equal(), Equal()]), {"a": 1}, "text"])
def test_an_object_whose_equality_is_always_true_does_not_pass(actual):
    assert compare(bounded([1.0, 2.0]), actual).kind is Kind.DTYPE


def test_an_array_subclass_that_is_equal_to_everything_does_not_pass():
    class Smug(np.ndarray):
        def __eq__(self, other):
            return np.ones(self.shape, bool)

        __hash__ = None

    assert compare(bounded([1.0, 2.0]), np.zeros(2).view(Smug)).kind is Kind.WRONG


def test_what_cannot_be_converted_says_why():
    found = compare(bounded([1.0, 2.0]), Unwilling())
    assert found.kind is Kind.DTYPE
    assert found.detail == "expected float64 numbers, got Unwilling: call detach() first"


@pytest.mark.torch
def test_a_tensor_that_requires_a_gradient_says_so():
    import torch

    found = compare(bounded([1.0]), torch.tensor([1.0], dtype=torch.float64, requires_grad=True))
    assert found.kind is Kind.DTYPE
    assert "detach" in found.detail
    assert compare(bounded([1.0]), torch.tensor([1.0], dtype=torch.float64)).passed


@pytest.mark.parametrize("loss", [2.0, 2, np.float64(2), np.array(2.0), np.float32(2)])
def test_the_loss_may_be_any_scalar(loss):
    assert compare(bounded(2.0), loss).passed
    assert compare(bounded(2.5), loss).kind is Kind.WRONG


def test_a_loss_in_an_array_of_one_element_has_the_wrong_shape():
    assert compare(bounded(2.0), np.array([2.0])).kind is Kind.SHAPE


@pytest.mark.parametrize("factor", [0.5, 2.0, -1.0, 1 / 7, 0.0])
def test_the_factor_of_an_array_that_is_off_by_one_is_found(factor):
    exact = np.array([[1.0, -2.0, 3.0], [0.25, 0.0, 1e-9]])
    found = compare(bounded(exact, 1e-15 * np.abs(exact)), factor * exact)
    assert found.kind is Kind.WRONG
    assert found.factor.value == pytest.approx(factor, rel=1e-12)
    assert found.factor.may_be(factor)
    assert not found.factor.may_be(factor + 1e-3)


@pytest.mark.parametrize(
    "actual",
    [
        [2.0, 4.0, 6.1],
        [1.0, 2.0, 6.0],
        [2.0, 4.0, -6.0],
        [1.5, 2.5, 3.5],
    ],
)
def test_no_factor_is_named_where_there_is_none(actual):
    found = compare(bounded([1.0, 2.0, 3.0]), np.array(actual))
    assert (found.kind, found.factor) == (Kind.WRONG, None)


def test_a_factor_of_zeros_that_became_something_is_none():
    found = compare(bounded([0.0, 0.0], 0.0), np.array([1.0, 1.0]))
    assert (found.kind, found.factor) == (Kind.WRONG, None)


def test_a_factor_from_imprecise_elements_is_as_uncertain_as_they_are():
    found = compare(bounded([1.0, 2.0], 0.02), np.array([0.51, 1.01]))
    assert found.kind is Kind.WRONG
    assert found.factor.may_be(0.5)
    assert not found.factor.may_be(0.75)


def test_unknown_elements_have_no_say_in_the_factor():
    expected = bounded([1.0, 2.0, 3.0], [1e-15, 1e-15, np.inf])
    assert compare(expected, np.array([2.0, 4.0, 0.0])).factor.value == 2.0


def test_values_of_a_longer_type_may_be_compared():
    found = compare_values("sum", "0.weight", bounded([1.0, 2.0]), np.array([1.0, 2.5], np.longdouble))
    assert (found.kind, found.worst.index) == (Kind.WRONG, (1,))


EXPECTED = {"0.weight": bounded(np.ones((2, 2))), "0.bias": bounded(np.ones(2))}
RIGHT = {"0.weight": np.ones((2, 2)), "0.bias": np.ones(2)}


def named(actual, required=True):
    found = compare_named("parameters", EXPECTED, actual, required=required)
    return [(entry.path, entry.kind, entry.detail) for entry in found]


def test_all_names_right_is_one_comparison_each():
    assert named(RIGHT) == [("0.weight", Kind.PASS, ""), ("0.bias", Kind.PASS, "")]


@pytest.mark.parametrize("gap", [{}, {"0.bias": None}])
def test_missing_and_none_are_not_zero(gap):
    found = named({"0.weight": np.ones((2, 2)), **gap})
    assert found[0][1] is Kind.PASS
    names = ", ".join(["0.weight", *gap])
    assert found[1:] == [("0.bias", Kind.NAME, f"missing: what was returned is {names}")]


def test_missing_is_fine_where_it_is_not_required():
    assert named({"0.weight": np.ones((2, 2)), "0.bias": None, "x": 1}, required=False) == [("0.weight", Kind.PASS, "")]


def test_right_values_under_wrong_names_are_missing_and_unknown():
    found = named({"w": np.ones((2, 2)), 7: np.ones(2)})
    known = "unknown: the network's parameters are 0.weight, 0.bias"
    assert found == [
        ("0.weight", Kind.NAME, "missing: what was returned is w, 7"),
        ("0.bias", Kind.NAME, "missing: what was returned is w, 7"),
        ("w", Kind.NAME, known),
        ("7", Kind.NAME, known),
    ]


def test_nothing_at_all_says_so():
    assert named({})[0] == ("0.weight", Kind.NAME, "missing: what was returned is nothing")


@pytest.mark.parametrize("actual", [None, [1, 2], np.ones(2), Equal()])
def test_what_is_no_dictionary_is_told(actual):
    detail = f"expected a dictionary with 0.weight, 0.bias, got {type(actual).__name__}"
    assert named(actual) == [("0.weight", Kind.NAME, detail), ("0.bias", Kind.NAME, detail)]


def test_a_network_without_parameters_wants_nothing():
    assert compare_named("parameters", {}, {}, required=True) == []
    (found,) = compare_named("parameters", {}, {"0.weight": 1.0}, required=True)
    assert found == Comparison("parameters", "0.weight", Kind.NAME, detail="unknown: the network's parameters are none")
