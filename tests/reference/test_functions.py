"""The scalar functions: values, slopes and curvatures by other means, and what the error bound takes for granted."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from gradconform.errors import Unsupported
from gradconform.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import Huber
from gradconform.reference import bounding
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import LITTLE, Bounding, _largest
from gradconform.reference.functions import NARROW, LogitCrossEntropy, function
from gradconform.reference.precision import precision

LAYERS = [
    Sigmoid(),
    Tanh(),
    ReLU(),
    LeakyReLU(),
    LeakyReLU(0.5),
    LeakyReLU(3.0),
    LeakyReLU(-0.3),
    LeakyReLU(1.0),
    ELU(),
    ELU(0.5),
    ELU(2.0),
    ELU(0.0),
    Softplus(),
    SiLU(),
    GELU(),
    GELU(approximate="tanh"),
    Huber(),
    Huber(delta=0.1),
    Huber(delta=2.5),
]
FUNCTIONS = {str(layer): function(layer) for layer in LAYERS}
FUNCTIONS |= {f"LogitCrossEntropy({y:g})": LogitCrossEntropy(np.float64(y)) for y in (0.0, 0.3, 1.0)}
each = pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)

LN2, LN3 = math.log(2), math.log(3)
PHI1 = 0.841344746068542948585232545632  # Phi(1)
DENSITY1 = 0.241970724519143349797830192936  # phi(1) = exp(-1/2) / sqrt(2 pi)

LINE = np.concatenate([np.linspace(-40, 40, 1601), np.linspace(-300, 300, 281), [1e-9, -1e-9, 1e-100, -1e-100]])
EXTREMES = np.array([0.0, -0.0, 5e-324, -5e-324, 1e-310, -1e-310, 745, -745, 1e3, -1e3, 1e308, -1e308])


def away_from_kinks(f, z):
    kinks = [0.0] if f.kink is not None or f.curvature_extrema == (0.0,) else []
    if hasattr(f, "delta"):
        kinks = [f.delta, -f.delta]
    return z[np.all([np.abs(z - kink) > 1e-6 for kink in kinks], axis=0)] if kinks else z


def complex_step(f, which, z, h=1e-10):
    return f.evaluate(z + 1j * h)[which].imag / h


# ln 3 is where sigma = 3/4, ln 2 where tanh = 3/5; sigma' = sigma (1 - sigma), tanh' = 1 - tanh^2
BY_HAND = [
    (Sigmoid(), 0, 1 / 2, 1 / 4),
    (Sigmoid(), LN3, 3 / 4, 3 / 16),
    (Sigmoid(), -LN3, 1 / 4, 3 / 16),
    (Tanh(), LN2, 3 / 5, 16 / 25),
    (Tanh(), -LN2, -3 / 5, 16 / 25),
    (ReLU(), 2, 2, 1),
    (ReLU(), -2, 0, 0),
    (LeakyReLU(0.25), 2, 2, 1),
    (LeakyReLU(0.25), -2, -0.5, 0.25),
    (ELU(2.0), 3, 3, 1),
    (ELU(2.0), -LN2, -1, 1),  # 2 (1/2 - 1), 2 (1/2)
    (Softplus(), 0, LN2, 1 / 2),
    (Softplus(), LN3, 2 * LN2, 3 / 4),  # log(1 + 3)
    (SiLU(), LN3, 3 / 4 * LN3, 3 / 4 + 3 / 16 * LN3),  # f' = s + z s (1 - s)
    (SiLU(), -LN3, -1 / 4 * LN3, 1 / 4 - 3 / 16 * LN3),
    (GELU(), 0, 0, 1 / 2),
    (GELU(), 1, PHI1, PHI1 + DENSITY1),  # f' = Phi + z phi
    (GELU(), -1, PHI1 - 1, 1 - PHI1 - DENSITY1),
    (GELU(approximate="tanh"), 0, 0, 1 / 2),
    (Huber(), 0.5, 1 / 8, 0.5),
    (Huber(), 3, 2.5, 1),  # 1 (3 - 1/2)
    (Huber(delta=2.0), -3, 4, -2),  # 2 (3 - 1)
]


@pytest.mark.parametrize(("layer", "z", "value", "slope"), BY_HAND, ids=str)
def test_values_by_hand(layer, z, value, slope):
    found = function(layer).evaluate(np.array([z], float))
    assert np.allclose(found, [[value], [slope]], rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize(
    ("y", "z", "value", "slope"),
    [
        (1, LN3, 2 * LN2 - LN3, -1 / 4),  # -log(3/4)
        (0, LN3, 2 * LN2, 3 / 4),  # -log(1/4)
        (0.25, LN3, 2 * LN2 - LN3 / 4, 1 / 2),  # softplus(z) - y z
    ],
)
def test_the_logit_cross_entropy_by_hand(y, z, value, slope):
    found = LogitCrossEntropy(np.array([y], float)).evaluate(np.array([z]))
    assert np.allclose(found, [[value], [slope]], rtol=1e-15, atol=1e-16)


def test_the_tanh_form_of_gelu_by_hand():
    # w = sqrt(2 / pi) 1.044715, w' = sqrt(2 / pi) (1 + 3 0.044715);
    # f = (1 + t) / 2, f' = (1 + t) / 2 + (1 - t^2) w' / 2
    k0 = math.sqrt(2 / math.pi)
    t = math.tanh(k0 * 1.044715)
    found = function(GELU(approximate="tanh")).evaluate(np.array([1.0]))
    assert np.allclose(found, [[(1 + t) / 2], [(1 + t) / 2 + (1 - t * t) * k0 * 1.134145 / 2]], rtol=2e-15)


@each
def test_the_slope_is_the_complex_step_of_the_value(f):
    z = away_from_kinks(f, LINE)
    with np.errstate(all="ignore"):
        slope, stepped, bend = f.evaluate(z)[1], complex_step(f, 0, z), f.curvature(z, *f.evaluate(z))
    # a slope is known no better than z is: |z f''| u
    assert (np.abs(slope - stepped) <= 1e-13 * (np.abs(slope) + np.abs(z * bend)) + 1e-300).all()


@each
def test_the_curvature_is_the_complex_step_of_the_slope(f):
    z = away_from_kinks(f, np.linspace(-30, 30, 6001))
    with np.errstate(all="ignore"):
        bend, stepped, slope = f.curvature(z, *f.evaluate(z)), complex_step(f, 1, z), f.evaluate(z)[1]
    assert np.abs(bend - stepped).max() <= 1e-13
    small = np.abs(z) < 5
    assert (np.abs(bend - stepped)[small] <= 1e-10 * np.abs(bend[small]) + 1e-13 * np.abs(slope[small])).all()


def exactly(layer, z):
    """Return value and slope, as Decimals, of the functions that need no more than exp and log."""
    with localcontext(prec=400, Emin=-999999999999999999, Emax=999999999999999999):
        one, e = Decimal(1), (-abs(z)).exp() if abs(z) < 10**6 else Decimal(0)
        near, far = one / (1 + e), e / (1 + e)
        s, q = (near, far) if z >= 0 else (far, near)
        softplus = max(z, Decimal(0)) + (1 + e).ln() if e > Decimal("1e-40") else max(z, Decimal(0)) + e
        match layer:
            case Sigmoid():
                return s, s * q
            case Tanh():
                e2 = e * e
                return (1 - e2) / (1 + e2) * (1 if z >= 0 else -1), 4 * e2 / (1 + e2) ** 2
            case Softplus():
                return softplus, s
            case SiLU():
                return z * s, s + z * s * q
            case ELU():
                alpha = Decimal(layer.alpha)
                return (z, one) if z > 0 else (alpha * (e - 1), alpha * e)
            case ReLU():
                return max(z, Decimal(0)), one if z > 0 else Decimal(0)


@pytest.mark.parametrize("layer", [Sigmoid(), Tanh(), Softplus(), SiLU(), ELU(2.0), ReLU()], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_values_and_slopes_keep_their_digits_everywhere(layer, dtype, decimal):
    z = np.concatenate([np.linspace(-80, 80, 65), EXTREMES, [-700, 700, 20, -20, 1e-3, -1e-3]])
    if dtype == np.float32:
        z = np.clip(z, np.finfo(dtype).min, np.finfo(dtype).max)
    z = z.astype(dtype)
    with np.errstate(under="ignore", over="ignore"):
        found = function(layer).evaluate(z)
    eps, tiny = decimal(np.finfo(dtype).eps), decimal(np.finfo(dtype).smallest_normal)
    for point, *pair in zip(z, *found, strict=True):
        x = decimal(point)
        for name, actual, expected in zip(("value", "slope"), pair, exactly(layer, x), strict=True):
            # 1 + z (1 - s) cancels near -1.28; |z| eps is what the last digit of z is worth in exp(z)
            loss = 16 if isinstance(layer, SiLU) else 4
            error = abs(decimal(actual) - expected)
            assert error <= loss * eps * abs(expected) + tiny * max(1, abs(x) if abs(x) < 10**4 else 1), (name, point)


@each
def test_extreme_arguments(f):
    # the mathematics is finite, but for a linear function with a slope above 1
    with np.errstate(all="ignore"):
        value, slope = f.evaluate(EXTREMES)
    grows = max(abs(getattr(f, "slope", 0)), getattr(f, "delta", 0)) > 1
    finite = np.abs(EXTREMES) < 1e308 if grows else np.full(EXTREMES.shape, True)
    assert np.isfinite(value[finite]).all()
    assert not np.isnan(value).any()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("layer", "left", "right", "slopes"),
    [
        (Sigmoid(), 0, 1, (0, 0)),
        (Tanh(), -1, 1, (0, 0)),
        (ReLU(), 0, 1e308, (0, 1)),
        (LeakyReLU(0.5), -5e307, 1e308, (0.5, 1)),
        (ELU(2.0), -2, 1e308, (0, 1)),
        (Softplus(), 0, 1e308, (0, 1)),
        (SiLU(), 0, 1e308, (0, 1)),
        (GELU(), 0, 1e308, (0, 1)),
        (GELU(approximate="tanh"), 0, 1e308, (0, 1)),
        (Huber(), 1e308, 1e308, (-1, 1)),
    ],
    ids=str,
)
def test_limits(layer, left, right, slopes):
    with np.errstate(all="ignore"):
        value, slope = function(layer).evaluate(np.array([-1e308, 1e308]))
    assert value.tolist() == [left, right]
    assert slope.tolist() == list(slopes)


def test_relu_of_an_infinite_pre_activation_is_not_nan():
    value, slope = function(ReLU()).evaluate(np.array([-np.inf, np.inf]))
    assert value.tolist() == [0, np.inf]
    assert slope.tolist() == [0, 1]


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_the_type_stays(f, dtype):
    if isinstance(f, LogitCrossEntropy):
        f = LogitCrossEntropy(f.y.astype(dtype(0).real.dtype))
    value, slope = f.evaluate(np.array([-1.5, 0.25, 3], dtype))
    assert value.dtype == dtype
    assert slope.dtype in {np.dtype(dtype), dtype(0).real.dtype}


def test_targets_in_a_shorter_type_cost_no_digits():
    # 1 - y has more digits than float32
    y, z = np.float32(1e-3), np.array([1.5])
    short, long = LogitCrossEntropy(y).evaluate(z), LogitCrossEntropy(np.float64(y)).evaluate(z)
    assert np.array_equal(short, long)


@each
def test_the_sides_of_a_kink(f):
    slopes = f.evaluate(np.array([-1e-300, 1e-300]))[1].tolist()
    if f.kink is None:
        assert slopes == pytest.approx([slopes[0]] * 2, abs=1e-15)
    else:
        assert slopes == [f.kink.left, f.kink.right]
        assert f.evaluate(np.array([0.0]))[1] in slopes


@each
def test_the_largest_derivative_in_an_interval(f):
    rng = np.random.default_rng(0)
    centre = rng.normal(size=400) * rng.choice([0.5, 2, 6], 400)
    radius = rng.exponential(size=400) * rng.choice([0.01, 0.3, 3], 400)
    if f.kink is not None:  # there evaluate() adds the sides itself
        radius = np.minimum(radius, np.abs(centre) * 0.99)
    points = np.stack([centre - radius, centre, centre + radius])
    inside = centre + radius * np.linspace(-1, 1, 2001)[:, None]
    inside = np.concatenate([inside, np.clip(0, points[:1], points[2:])])
    for derivative, extrema in (
        (lambda z: f.evaluate(z)[1], f.slope_extrema),
        (lambda z: f.curvature(z, *f.evaluate(z)), f.curvature_extrema),
    ):
        found = _largest(derivative(points), derivative, extrema, centre, radius)
        grid = np.abs(derivative(inside)).max(axis=0)
        assert (found >= grid - 1e-9).all()
        assert (found <= grid * 1.001 + 1e-3).all()


def critical(f):
    """Return points everywhere, and many next to where f'' is 0 or jumps."""
    places = {0.0, *f.slope_extrema, *f.curvature_extrema, *([f.delta, -f.delta] if hasattr(f, "delta") else [])}
    nearby = [place + np.linspace(-4 * NARROW, 4 * NARROW, 33) for place in sorted(places)]
    return np.concatenate([np.linspace(-12, 12, 1201), np.linspace(-700, 700, 351), *nearby])


@each
def test_the_third_derivative_is_no_larger_than_is_taken_for_granted(f):
    z = critical(f)
    third = f.curvature(z + 1e-9j, *f.evaluate(z + 1e-9j)).imag * 1e9
    with np.errstate(under="ignore"):
        jerk = f.jerk(z, *f.evaluate(z))
    assert (np.abs(third) <= jerk * (1 + 1e-6) + 1e-290).all()


@each
@pytest.mark.parametrize("error", [NARROW, NARROW / 7, 1e-9])
def test_within_a_narrow_error_the_derivatives_are_no_larger_than_is_taken_for_granted(f, error):
    z = critical(f)
    if f.kink is not None:
        z = z[np.abs(z) > error]
    with np.errstate(under="ignore"):
        value, slope = f.evaluate(z)
        bend = np.abs(f.curvature(z, value, slope)) + LITTLE * error * f.jerk(z, value, slope)
        steepest = np.abs(slope) + error * bend
        for at in z + error * np.linspace(-0.999, 0.999, 7)[:, None]:
            assert (np.abs(f.evaluate(at)[1]) <= steepest * (1 + 1e-12) + 1e-300).all()
            if not hasattr(f, "delta") or np.all(np.abs(np.abs(at) - f.delta) > 1e-12):
                curvature = complex_step(f, 1, at, h=1e-20)
                # what is left of it where it cancels
                assert (np.abs(curvature) <= bend * (1 + 1e-9) + 1e-14 * np.abs(slope) + 1e-280).all()


@each
def test_a_narrow_error_is_propagated_as_a_wide_one_is(f, monkeypatch):
    z, m = critical(f), precision(np.dtype(np.float64), "torch")
    for error in (0.0, 1e-12, 1e-9, NARROW):
        given = Bounded(z, np.full(z.shape, error), m)
        with np.errstate(all="ignore"):
            narrow = Bounding(m, np.float64).evaluate(f, given)
            monkeypatch.setattr(bounding, "NARROW", -1.0)
            wide = Bounding(m, np.float64).evaluate(f, given)
            monkeypatch.undo()
            slopes = f.evaluate(z)
            flat = np.abs(f.curvature(z, *slopes)) < 200 * error * f.jerk(z, *slopes)
        for one, other in zip(narrow, wide, strict=True):
            assert (one.error <= other.error * np.where(flat & (error > 1e-9), 6, 1.02)).all()
            # next to a kink and beyond it, a wide one counts both sides
            aside = (np.abs(z) > 4 * NARROW) & (np.abs(np.abs(z) - getattr(f, "delta", 0)) > 4 * NARROW)
            assert (one.error >= other.error * 0.98)[aside].all()


@each
@pytest.mark.parametrize("exact", [1e-9, 2e-9, -1e-9])
def test_a_pre_activation_may_be_on_the_other_side_of_0(f, exact, legal, rough, model):
    m, rng = model, np.random.default_rng(0)
    error = 5e-9
    k = Bounding(m, legal(m.dtype, rng).carrier)
    place = getattr(f, "delta", 0.0)
    z = np.full(50, place + exact, k.plain.dtype)
    with np.errstate(all="ignore"):
        value, slope = k.evaluate(f, Bounded(z, np.full(z.shape, error), m))
        for signs in ("up", "down", "random"):
            rougher = legal(m.dtype, rng, signs, m.arithmetic)
            a, d = rougher.evaluate(f, rough(rougher, z + error * rng.uniform(-1, 1, z.shape)))
            delta, bound = d * rougher.lift(np.ones((), m.dtype)), slope * k.lift(np.ones((), m.dtype))
            assert (np.abs(a.value - value.value) <= value.error * 1.002).all()
            assert (np.abs(delta.value - bound.value) <= bound.error * 1.002).all()


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5])
def test_a_residual_may_be_beyond_hubers_delta_where_the_exact_one_is_not(delta, legal, rough, model):
    f, m, rng = function(Huber(delta=delta)), model, np.random.default_rng(0)
    k = Bounding(m, legal(m.dtype, rng).carrier)
    z, error = np.full(50, delta, k.plain.dtype) * (1 - 1.5 * m.u), 2 * m.u * delta
    value, _ = k.evaluate(f, Bounded(z, np.full(z.shape, error), m))
    for signs in ("up", "down", "random") * 3:
        rougher = legal(m.dtype, rng, signs, m.arithmetic)
        found, _ = rougher.evaluate(f, rough(rougher, z + error))
        assert (np.abs(found.value - value.value) <= value.error * 1.002).all()


@each
def test_the_local_errors_are_honest(f, legal, rough, model):
    """Every kernel of every function, with roundings as bad as the model has them, stays within the bound."""
    m, dtype, rng = model, model.dtype, np.random.default_rng(1)
    if isinstance(f, LogitCrossEntropy):
        f = LogitCrossEntropy(f.y.astype(dtype))
    size, minus_one = 150, np.array(-1, dtype)
    spread = [rng.normal(size=size) * scale for scale in (0.01, 1, 5, 30, 1000)]
    spread += [rng.uniform(-104, 89, size), -np.exp(rng.uniform(-90, 3, size))]
    spread += [rng.uniform(0.9, 1.1, size) * getattr(f, "delta", 1)]
    z = np.concatenate(spread).astype(dtype)
    k0 = Bounding(m, legal(dtype, rng).carrier)
    for relative in (0, 1e-6, 1e-3, 0.1, 1):
        error = relative * np.abs(z).astype(float) * rng.uniform(0.5, 1, z.shape)
        with np.errstate(all="ignore"):
            value, slope = k0.evaluate(f, Bounded(z.astype(k0.plain.dtype), error, m))
            delta = slope * k0.lift(minus_one)
            worst_value = worst_delta = 0
            for signs in ("up", "down", "random", "random", "random", "random"):
                k = legal(dtype, rng, signs, m.arithmetic)
                moved = z.astype(k.carrier) + error * rng.choice([-1, 1], z.shape)
                # so large an error may be that of a rounding which is left out
                a, d = k.evaluate(f, rough(k, moved, moved.copy() if k.excess and relative >= 0.1 else None))
                worst_value = np.maximum(worst_value, np.abs(a.value - value.value))
                worst_delta = np.maximum(worst_delta, np.abs((d * k.lift(minus_one)).value - delta.value))
        for bound, worst, most in ((value.error, worst_value, 5), (delta.error, worst_delta, 25)):
            assert ((worst <= bound * 1.002) | np.isinf(bound)).all()
            if relative <= 1e-3:  # and it is no more than the worst of six attempts on a few numbers by as much
                clear = (worst > min(1e9 * m.eta, 1e-4)) & np.isfinite(bound)
                if clear.any():
                    assert np.median(bound[clear] / worst[clear]) < most


def test_a_function_that_is_missing_is_named():
    with pytest.raises(Unsupported) as error:
        function(Softmax())
    assert str(error.value) == "reference: no rule for Softmax"
