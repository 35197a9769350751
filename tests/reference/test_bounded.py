"""Arrays with bounds: no computation that the model permits strays further, and the worst ones come near."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gradconform.layers import ELU, LeakyReLU, ReLU, SiLU, Tanh
from gradconform.reference.bounded import Bounded, peak_of
from gradconform.reference.bounding import Bounding
from gradconform.reference.functions import function
from gradconform.reference.precision import precision

ROUNDS = 8
SLACK = 1.002
"""The carriers' own errors."""


def numbers(rng, shape, spread):
    return rng.normal(size=shape) * 10 ** rng.uniform(-spread, spread, shape)


def positive(rng, shape, spread):
    return np.abs(numbers(rng, shape, spread)) + 1e-3


def probabilities(rng, shape, spread):
    return rng.uniform(0.01, 0.99, shape)


OPERATIONS = {
    "x + y": (lambda k, x, y: x + y, [((4, 3), numbers), ((4, 3), numbers)], 5),
    "x - y": (lambda k, x, y: x - y, [((4, 3), numbers), ((1, 3), numbers)], 5),
    "y - x by the right": (lambda k, x: 1.5 - x, [((4, 3), numbers)], 5),
    "x * y": (lambda k, x, y: x * y, [((4, 3), numbers), ((4, 1), numbers)], 5),
    "2 x": (lambda k, x: 2.0 * x, [((4, 3), numbers)], 5),
    "x 0.1": (lambda k, x: x * 0.1, [((4, 3), numbers)], 5),
    "x / y": (lambda k, x, y: x / y, [((4, 3), numbers), ((4, 3), positive)], 5),
    "1 / y": (lambda k, y: 1 / y, [((4, 3), positive)], 5),
    "-x": (lambda k, x: -x, [((4, 3), numbers)], 5),
    "x[1:].mT": (lambda k, x: x[1:].mT, [((4, 3), numbers)], 5),
    "x @ y": (lambda k, x, y: x @ y, [((2, 5), numbers), ((5, 3), numbers)], 10),
    "x @ y of one term": (lambda k, x, y: x @ y, [((2, 1), numbers), ((1, 3), numbers)], 5),
    "x W + b": (
        lambda k, x, weight, bias: k.affine(x, weight, bias),
        [((2, 7), numbers), ((7, 3), numbers), ((3,), numbers)],
        15,
    ),
    "x^T y": (lambda k, x, y: x.mT @ y, [((5, 2), numbers), ((5, 3), numbers)], 10),
    "sum": (lambda k, x: x.sum(), [((3, 3), numbers)], 15),
    "sum of one large number and many small ones": (
        lambda k, x, y: (x * y).sum(axis=0),
        [((40, 3), positive), ((40, 1), lambda rng, shape, spread: np.where(np.arange(40)[:, None] == 0, 1, 1e-6))],
        10,
    ),
    "sum over rows": (lambda k, x: x.sum(axis=0), [((6, 3), numbers)], 10),
    "sum over columns": (lambda k, x: x.sum(axis=-1, keepdims=True), [((3, 6), numbers)], 10),
    "sum of one": (lambda k, x: x.sum(axis=0), [((1, 3), numbers)], 5),
    "log": (lambda k, x: k.log(x), [((4, 3), positive)], 5),
    "log p": (lambda k, x: k.log(x), [((4, 3), probabilities)], 5),
    "maximum": (lambda k, x: k.maximum(x, 0.3), [((4, 3), numbers)], 5),
    "maximum of logarithms": (lambda k, x: k.maximum(k.log(x), -0.7), [((4, 3), probabilities)], 15),
    "weigh": (lambda k, w, x: k.weigh(w, x), [((4, 3), probabilities), ((4, 3), numbers)], 5),
    "softmax": (lambda k, z: k.softmax(z)[0], [((4, 3), numbers)], 10),
    "1 - softmax": (lambda k, z: k.softmax(z)[1], [((4, 3), numbers)], 10),
    "log softmax": (lambda k, z: k.softmax(z)[2], [((4, 3), numbers)], 10),
    "accept": (
        lambda k, x, y: k.accept(lambda: x * (y - 1), lambda: x * y - x),
        [((4, 3), numbers), ((4, 3), numbers)],
        10,
    ),
    "tanh": (lambda k, z: k.evaluate(function(Tanh()), z)[0], [((4, 3), numbers)], 10),
    "a chain": (lambda k, x, y: (x * y + 1) / (x * x + 1) - y, [((4, 3), numbers), ((4, 3), numbers)], 15),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_legal_computation_strays_further_than_the_bound(name, model, legal, rough):
    operation, shapes, most = OPERATIONS[name]
    rng, m, dtype = np.random.default_rng(2), model, model.dtype
    slack = []
    for spread in (0, 1, 2):
        for relative in (0, 4 * m.u, 1e-3, 0.1):
            exact = [kind(rng, shape, spread).astype(dtype) for shape, kind in shapes]
            errors = [relative * np.abs(x).astype(float) * rng.uniform(0.5, 1, x.shape) for x in exact]
            carrier = legal(dtype, rng).carrier
            k = Bounding(m, carrier)
            with np.errstate(all="ignore"):
                bounded = [Bounded(x.astype(carrier), e, m) for x, e in zip(exact, errors, strict=True)]
                result = operation(k, *bounded)
            worst = np.zeros(result.value.shape)
            for attempt in range(ROUNDS):
                rougher = legal(dtype, rng, ("up", "down", "random", "random")[attempt % 4], m.arithmetic)
                inputs = [
                    rough(rougher, x.astype(carrier) + e * rng.choice([-1, 1], x.shape))
                    for x, e in zip(exact, errors, strict=True)
                ]
                strayed = np.abs(operation(rougher, *inputs).value - result.value)
                worst = np.maximum(worst, strayed.astype(float))
            assert (worst <= result.error * SLACK).all()
            slack.append(np.where(worst > 0, result.error / np.where(worst > 0, worst, 1), 1).ravel())
    assert np.median(np.concatenate(slack)) < most


@pytest.mark.parametrize("gap", [0, 1, 20, 100, 700, 2000])
def test_softmax_at_every_gap(gap, model, legal, rough):
    rng, m, dtype = np.random.default_rng(3), model, model.dtype
    for classes in (1, 2, 8):
        z = (rng.uniform(-1, 1, (5, classes)) * gap / 2).astype(dtype)
        z[:, -1] = z.max(axis=1)
        for most in (0, 1e-6, 0.5):
            # logits with an error are rounded ones, which may be used before they are
            error = most * rng.uniform(0.5, 1, z.shape) + (most > 0) * m.u * np.abs(z).astype(float)
            k = Bounding(m, legal(dtype, rng).carrier)
            with np.errstate(all="ignore"):
                found = k.softmax(Bounded(z.astype(k.plain.dtype), error, m))
                for attempt in range(6):
                    rougher = legal(dtype, rng, ("up", "down", "random")[attempt % 3], m.arithmetic)
                    # one logit up, the others down: the farthest that p moves
                    sign = np.where(np.arange(classes) == attempt % classes, 1, -1) * rng.choice([-1, 1])
                    moved = z.astype(rougher.carrier) + error * sign
                    keeps = bool(most) and rougher.excess
                    computed = rougher.softmax(rough(rougher, moved, moved.copy() if keeps else None))
                    for bound, actual in zip(found, computed, strict=True):
                        assert (np.abs(actual.value - bound.value) <= bound.error * SLACK).all()
            assert (found[0].error <= 1 + 100 * m.eta).all()


def test_where_one_logit_is_unknown_the_row_is_and_no_other():
    m = precision(np.dtype(np.float64))
    error = np.array([[0, np.inf, 0], [0, 0, 0]])
    with np.errstate(all="ignore"):
        parts = Bounding(m, np.float64).softmax(Bounded(np.zeros((2, 3)), error, m))
    for part in parts:
        assert np.isinf(part.error).tolist() == [[True] * 3, [False] * 3]


def test_representable_constants_carry_no_error():
    for dtype in (np.float32, np.float64):
        m = precision(np.dtype(dtype))
        for constant in (0, 1, 2.0, -0.5, 0.25, 2.0**20, dtype(0.1), np.array([0.1, 3], dtype)):
            assert not np.any(Bounded.lift(constant, np.float64, m).error), constant


def test_other_constants_are_rounded():
    m = precision(np.dtype(np.float32))
    assert Bounded.lift(0.1, np.float64, m).error == m.u * 0.1
    assert Bounded.lift([0.5, 1 / 3], np.float64, m).error.tolist() == [0, m.u / 3]
    assert Bounded.lift(2.0**24 + 1, np.float64, m).error == pytest.approx(1)


def test_subnormal_numbers_may_be_read_as_0():
    m = precision(np.dtype(np.float32))
    given = np.array([1e-40, -1e-40, 0, 1.2e-38], np.float32)
    assert Bounded.lift(given, np.float64, m).error.tolist() == [m.eta, m.eta, 0, 0]


def test_overflow_is_unknown():
    m = precision(np.dtype(np.float32))

    def of(*values):
        return Bounded.lift(np.array(values, np.float32), np.float64, m)

    big = of(3e38, 1)
    with np.errstate(all="ignore"):
        assert np.isinf((big + big).error).tolist() == [True, False]
        assert np.isinf((big * 2.0).error).tolist() == [True, False]
        assert np.isinf((big / 0.5).error).tolist() == [True, False]
        assert np.isinf(of(3e38, 3e38, 0).sum().error)
        # the sum is small, but a partial sum may overflow
        assert np.isinf(of(3e38, 3e38, -3e38, -3e38).sum().error)
        assert np.isfinite(of(3e38, 1).sum().error)
        x, weight = of(3e38, -3e38)[None], of(2, 2)[:, None]
        assert np.isinf((x @ weight).error)
        assert np.isfinite((x @ of(0.25, 0.25)[:, None]).error)


def test_what_is_unknown_stays_unknown():
    m = precision(np.dtype(np.float64))
    k = Bounding(m, np.float64)
    x, zero = Bounded(np.array([1.0]), np.array([np.inf]), m), Bounded.lift([0.0], np.float64, m)
    with np.errstate(all="ignore"):
        for result in (x + 1, x * zero, zero * x, zero / x, x / 2, 1 / x, k.log(x), k.weigh(zero, x), x.sum(), -x):
            assert np.isinf(result.error).all()
        assert all(np.isinf(part.error) for part in k.evaluate(function(Tanh()), x))
        assert np.isinf((x[None] @ zero[None]).error)


def test_a_divisor_that_may_be_0_and_a_logarithm_of_it_are_unknown():
    m = precision(np.dtype(np.float64))
    x = Bounded(np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.4, 0.5, 0, 0.1]), m)
    with np.errstate(all="ignore"):
        assert np.isinf((1 / x).error).tolist() == [False, True, True, True]
        assert np.isinf(Bounding(m, np.float64).log(x).error).tolist() == [False, True, True, True]


def test_weight_0_hides_a_value_but_not_that_it_is_unknown():
    m = precision(np.dtype(np.float64))
    k = Bounding(m, np.float64)
    weight = Bounded(np.array([0.0, 0.0, 0.0]), np.array([0, 0, 0.5]), m)
    x = Bounded(np.array([-700.0, -np.inf, 3]), np.array([1.0, 0, 0]), m)
    with np.errstate(all="ignore"):
        found = k.weigh(weight, x)
    assert found.value.tolist() == [0, 0, 0]
    assert found.error == pytest.approx([0, np.inf, 1.5])


def test_a_floor_makes_what_lies_below_it_known():
    m = precision(np.dtype(np.float64))
    k = Bounding(m, np.float64)
    below = Bounded(np.array([-np.inf, -150.0, -3.0, -30.0]), np.array([0, np.inf, 0.5, np.inf]), m)
    found = k.maximum(below, -100)
    assert found.value.tolist() == [-100, -100, -3, -30]
    assert found.error == pytest.approx([100, 100, 0.5, 100])
    assert np.isinf(k.maximum(Bounded(np.array([1.0]), np.array([np.inf]), m), 1e-12).error)


@pytest.mark.parametrize(
    ("layer", "left", "right"), [(ReLU(), 0, 1), (LeakyReLU(0.25), 0.25, 1), (ELU(2.0), 2, 1)], ids=str
)
def test_at_a_kink_the_slope_is_anything_between_its_sides(layer, left, right):
    m = precision(np.dtype(np.float64))
    k = Bounding(m, np.longdouble)
    z = Bounded(np.array([0, 1e-9, -1e-9, 1e-3, -1e-3], np.longdouble), np.array([0, 1e-8, 1e-8, 1e-8, 1e-8]), m)
    with np.errstate(all="ignore"):
        value, slope = k.evaluate(function(layer), z)
    low, high = slope.value - slope.error, slope.value + slope.error
    assert (low[:3] <= min(left, right)).all()
    assert (high[:3] >= max(left, right)).all()
    assert slope.error[:3] == pytest.approx(abs(right - left) / 2, abs=1e-7)
    assert (slope.error[3:] < 1e-7).all()  # and away from it there is no excuse
    assert (value.error <= max(left, right) * z.error + 1e-15).all()
    assert [np.count_nonzero(site.near) for site in k.sites] == [3]
    assert [site.side[site.near].tolist() for site in k.sites] == [[0, 1, -1]]


@pytest.mark.parametrize("layer", [LeakyReLU(0.3), ELU(0.3)], ids=str)
def test_the_left_sided_derivative_is_rounded_where_a_kink_is_near_on_either_side(layer):
    m = precision(np.dtype(np.float64))
    k = Bounding(m, np.longdouble, shares=[0.0])
    with np.errstate(all="ignore"):
        _, slope = k.evaluate(function(layer), Bounded(np.array([1e-30, -1e-30], np.longdouble), np.full(2, 1e-29), m))
    assert slope.value == pytest.approx([0.3, 0.3])
    assert (slope.error >= 0.3 * m.u).all()


def test_arrays_on_either_side_of_an_operator():
    m = precision(np.dtype(np.float64))
    x, array = Bounded.lift([1.0, 2.0], np.float64, m), np.array([3.0, 4.0])
    for found, expected in ((array * x, [3, 8]), (array + x, [4, 6]), (array - x, [2, 2]), (array / x, [3, 2])):
        assert isinstance(found, Bounded)
        assert found.value.tolist() == expected


def test_given_numbers_of_the_type_are_exact_and_others_are_not():
    m = precision(np.dtype(np.float32))
    assert Bounded.lift(np.float32([0.1, 3]), np.float64, m).exact
    assert Bounded.lift([0.5, 3.0], np.float64, m).exact
    assert not Bounded.lift([0.5, 0.1], np.float64, m).exact
    assert not Bounded.lift(np.float32([1e-40, 3]), np.float64, m).exact
    assert not Bounded.lift(np.float32([np.inf, 3]), np.float64, m).exact


def test_how_large_a_value_may_be():
    m = precision(np.dtype(np.float64))
    x = Bounded(np.array([-3.0, 2.0]), np.array([0.25, 2.0]), m)
    assert x.size.tolist() == [3, 2]
    assert x.reach.tolist() == [3.25, 4]
    assert x.peak == 4
    given = Bounded.lift([-3.0, 2.0], np.float64, m)
    assert given.reach.tolist() == [3, 2]
    assert given.peak == 3


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / y,
        lambda x, y: x @ y.mT,
        lambda x, y: x.affine(y.mT, y[:, 0]),
        lambda x, y: x.sum(axis=-1),
    ],
    ids=["x + y", "x - y", "x * y", "x / y", "x y^T", "x y^T + b", "sum"],
)
@pytest.mark.parametrize("exact", [(True, True), (True, False), (False, True)])
def test_what_is_known_to_be_exact_changes_no_bound(operation, exact):
    m = precision(np.dtype(np.float64))
    rng, errors = np.random.default_rng(0), [np.zeros((2, 3)) if known else np.full((2, 3), 1e-9) for known in exact]
    values = rng.normal(size=(2, 2, 3)) * 1e3
    given = [Bounded(v, e, m, exact=known) for v, e, known in zip(values, errors, exact, strict=True)]
    plain = [Bounded(v, e, m) for v, e in zip(values, errors, strict=True)]
    found, expected = operation(*given), operation(*plain)
    assert np.array_equal(found.value, expected.value)
    assert np.array_equal(found.error, expected.error)


def test_the_largest_of_numbers():
    assert peak_of(np.array([[1.0, 4.0], [3.0, 0.0]])) == 4
    assert peak_of(np.float64(2)) == peak_of(2.0) == 2
    assert peak_of(np.zeros((0, 3))) == 0
    assert peak_of(np.array([1.0, np.inf])) == np.inf
    assert np.isnan(peak_of(np.array([1.0, np.nan, np.inf])))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "view",
    [lambda x: x.mT, lambda x: x[1:], lambda x: x[..., None, :], lambda x: -x, lambda x: x[0, 1]],
    ids=["mT", "rows", "an axis more", "-x", "one element"],
)
def test_what_is_seen_of_an_array_keeps_its_bounds(view, exact):
    m = precision(np.dtype(np.float64))
    value, error = np.array([[1.0, -2, 3], [4, 5, -6]]), np.zeros((2, 3)) if exact else np.arange(6.0).reshape(2, 3)
    x = Bounded(value, error, m, exact=exact)
    seen = view(x)
    alone = Bounded(seen.value, seen.error, m)
    place = {abs(number): at for at, number in np.ndenumerate(value)}
    assert all(seen.error[at] == error[place[abs(number)]] for at, number in np.ndenumerate(seen.value))
    assert seen.exact == exact
    assert np.array_equal(seen.size, alone.size)
    assert np.array_equal(seen.reach, alone.reach)
    assert seen.peak >= alone.peak


@pytest.mark.parametrize("arithmetic", ["torch", "any"])
def test_a_shown_number_may_have_been_used_with_more_digits(arithmetic):
    m = precision(np.dtype(np.float16), arithmetic)
    shown = Bounding(m, np.float64).observe(np.array([0, 3, -1024], np.float16))
    if arithmetic == "torch":
        assert not shown.error.any()
    else:
        # half the distance to the next number, which is 2^-24 next to 0, 2^-9 next to 3, 1 above 1024
        assert (shown.error >= [2.0**-25, 2.0**-10, 0.5]).all()
        assert (shown.error <= [2.0**-24, 1.51 * 2.0**-10, 0.501]).all()


def test_an_unrounded_number_is_off_by_u_times_itself_and_not_times_the_shown_one():
    # x (1 + d) = 3, |d| <= u
    m = precision(np.dtype(ml_dtypes.bfloat16))
    shown = Bounding(m, np.float64).observe(np.array(3, ml_dtypes.bfloat16))
    assert shown.error >= 3 / (1 - m.u) - 3


def test_a_reciprocal_that_overflows_leaves_the_quotient_unknown():
    # 1 / 2^-17 is beyond float16's 65504, although 2^-4 / 2^-17 is not
    m = precision(np.dtype(np.float16), "torch")
    x, y = (Bounded.lift(np.float16(number), np.float64, m) for number in (2.0**-4, 2.0**-17))
    with np.errstate(all="ignore"):
        assert np.isinf((x / y).error)
        assert np.isfinite((x / (y * 4.0)).error)


def test_a_reciprocal_that_underflows_is_paid_for():
    # 1 / 60000 is a subnormal number of float16, 2^-24 from the next
    m = precision(np.dtype(np.float16), "torch")
    x, y = (Bounded.lift(np.float16(number), np.float64, m) for number in (1000, 60000))
    assert (x / y).error >= 1000 * 2.0**-25


def test_a_kernel_that_multiplies_the_cotangent_first_may_overflow():
    # SiLU'(-12) is below 1e-4, but a kernel may multiply by z before it multiplies by sigma'(z)
    m = precision(np.dtype(np.float16), "torch")
    k = Bounding(m, np.float64)
    with np.errstate(all="ignore"):
        _, slope = k.evaluate(function(SiLU()), k.lift(np.float16([-12, -12])))
        delta = slope * k.lift(np.float16([1000, 40000]))
    assert (np.abs(delta.value) < 5).all()
    assert np.isinf(delta.error).tolist() == [False, True]


@pytest.mark.parametrize("unknown", [0, 1])
def test_what_is_unknown_elsewhere_hides_no_overflow(unknown):
    m = precision(np.dtype(np.float16), "xla")
    delta = Bounded(np.array([np.nan, 25552.0]), np.zeros(2), m)
    for gain, fits in ((2.0, True), (40.0, False)):
        gains = np.array([np.nan if unknown else gain, gain])
        slope = Bounded(np.array([1.0, 1.0]), np.zeros(2), m, gain=gains)
        for product in (slope * delta, delta * slope):
            assert np.isfinite(product.error[1]) == fits
            assert not np.isfinite(product.error[0])


def test_an_affine_layer_whose_partial_sums_may_overflow_is_unknown_there_alone():
    m = precision(np.dtype(np.float16), "torch")
    x = Bounded.lift(np.float16([[60000, 60000], [1, 1]]), np.float64, m)
    weight = Bounded.lift(np.float16([[1, 0.25], [-1, 0.25]]), np.float64, m)
    assert np.isinf((x @ weight).error).tolist() == [[True, False], [False, False]]
    bias = Bounded.lift(np.float16([0, 50000]), np.float64, m)
    assert np.isinf(x.affine(weight, bias).error).tolist() == [[True, True], [False, False]]


def test_a_sum_of_16_bit_numbers_is_rounded_once_or_at_every_addition():
    u = 2.0**-8
    for arithmetic, units in (("torch", 1), ("numpy", 7), ("xla", 7), ("any", 7)):
        m = precision(np.dtype(ml_dtypes.bfloat16), arithmetic)
        total = Bounded.lift(np.ones(8), np.float64, m).sum()
        assert total.error == pytest.approx(8 * units * u, rel=1e-3)


def test_a_16_bit_affine_layer_is_rounded_at_its_end_and_before_the_bias():
    u = 2.0**-8
    for arithmetic in ("numpy", "torch", "xla", "any"):
        m = precision(np.dtype(ml_dtypes.bfloat16), arithmetic)
        x, weight, bias = (Bounded.lift(np.ones(shape), np.float64, m) for shape in ((1, 8), (8, 1), (1,)))
        assert (x @ weight).error == pytest.approx(8 * u, rel=1e-3)
        assert x.affine(weight, bias).error == pytest.approx((8 + 9) * u, rel=0.01)


def test_no_probability_is_off_by_more_than_1_however_large_the_errors_of_the_logits():
    m = precision(np.dtype(np.float64))
    with np.errstate(all="ignore"):
        p, _, _ = Bounding(m, np.float64).softmax(Bounded(np.array([[0.0, 3, -5]]), np.full((1, 3), 5000.0), m))
    assert p.error == pytest.approx(np.ones((1, 3)))


def test_a_softmax_whose_largest_logit_may_be_rounded_before_it_is_subtracted_may_overflow():
    m, z = precision(np.dtype(np.float16)), np.float16([[60000, 100]])
    k = Bounding(m, np.float64)
    with np.errstate(all="ignore"):
        assert np.isinf(k.softmax(k.observe(z))[0].error).all()  # by 16: exp(16) is beyond 65504
        assert np.isfinite(k.softmax(k.lift(z))[0].error).all()
