"""Affine forms: no permitted computation strays further, whatever its earlier errors, and the bound is far tighter."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from gradconform.losses import Huber
from gradconform.reference.affine import AffineBounding, AffineForm
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import Bounding
from gradconform.reference.functions import LogitCrossEntropy, function
from gradconform.reference.precision import precision

ROUNDS = 12
SLACK = 1.01
"""The carriers' own errors, and second-order terms in float32."""


def numbers(rng, shape):
    return rng.normal(size=shape) * 10 ** rng.uniform(-1, 1, shape)


def moderate(rng, shape):
    return rng.normal(size=shape)


def positive(rng, shape):
    return np.abs(rng.normal(size=shape)) + 0.3


def probabilities(rng, shape):
    return rng.uniform(0.05, 0.95, shape)


TARGETS = np.random.default_rng(1).uniform(size=(4, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
FUNCTIONS = {
    **{
        str(layer): function(layer)
        for layer in (
            Tanh(),
            Sigmoid(),
            ReLU(),
            LeakyReLU(0.25),
            ELU(),
            ELU(2.0),
            Softplus(),
            SiLU(),
            GELU(),
            GELU(approximate="tanh"),
            Huber(delta=0.5),
        )
    },
    "LogitCrossEntropy": LogitCrossEntropy(TARGETS),
}


def lifted(k, array):
    return k.lift(np.asarray(array, k.m.dtype))


OPERATIONS = {
    "x + y": (lambda k, x, y: x + y, [numbers, numbers]),
    "x - y": (lambda k, x, y: x - y, [numbers, numbers]),
    "x - x / 2": (lambda k, x: x - 0.5 * x, [numbers]),
    "1.5 - x": (lambda k, x: 1.5 - x, [numbers]),
    "given - x": (lambda k, x: lifted(k, TARGETS) - x, [numbers]),
    "-x": (lambda k, x: -x, [numbers]),
    "x y": (lambda k, x, y: x * y, [numbers, numbers]),
    "x x": (lambda k, x: x * x, [numbers]),
    "given x": (lambda k, x: lifted(k, TARGETS) * x, [numbers]),
    "x / y": (lambda k, x, y: x / y, [numbers, positive]),
    "given / y": (lambda k, y: lifted(k, TARGETS) / y, [positive]),
    "x W": (lambda k, x: x @ lifted(k, WEIGHTS), [numbers]),
    "x W + b": (lambda k, x: k.affine(x, lifted(k, WEIGHTS), lifted(k, WEIGHTS[0])), [numbers]),
    "x^T y": (lambda k, x, y: x.mT @ y, [numbers, numbers]),
    "sum over rows": (lambda k, x: x.sum(axis=-2), [numbers]),
    "sum of all": (lambda k, x: x.sum(axis=(-2, -1)), [numbers]),
    "sum in rows": (lambda k, x: x.sum(axis=-1, keepdims=True), [numbers]),
    "x - sum": (lambda k, x: x - x.sum(axis=-1, keepdims=True), [numbers]),
    "sum x": (lambda k, x, y: x.sum(axis=-1, keepdims=True) * y, [numbers, numbers]),
    "p": (lambda k, z: k.softmax(z)[0], [moderate]),
    "1 - p": (lambda k, z: k.softmax(z)[1], [moderate]),
    "log p": (lambda k, z: k.softmax(z)[2], [moderate]),
    "log": (lambda k, x: k.log(x), [positive]),
    "maximum": (lambda k, x: k.maximum(x, 0.5), [positive]),
    "weigh": (lambda k, x: k.weigh(lifted(k, np.eye(4, 3)), x), [numbers]),
    "weigh by a form": (lambda k, w, x: k.weigh(w, x), [probabilities, numbers]),
    "accept": (
        lambda k, x, y: k.accept(lambda: x * (y - 1), lambda: x * y - x),
        [numbers, numbers],
    ),
    "chain": (lambda k, x, y: (x * y + 1) / (x * x + 1) - y, [moderate, moderate]),
    **{f"{name}, value": (lambda k, z, f=f: k.evaluate(f, z)[0], [moderate]) for name, f in FUNCTIONS.items()},
    **{f"{name}, slope": (lambda k, z, f=f: k.evaluate(f, z)[1], [moderate]) for name, f in FUNCTIONS.items()},
}


def drawn(rng, m, exact, error, rest, blocks):
    """Return a form with such an error, of which the share `rest` is without a source."""
    raw = {block: rng.normal(size=(len(exact), 2, exact.shape[1])) for block in blocks}
    total = sum(np.abs(effects).sum(axis=-2) for effects in raw.values())
    terms = {block: effects * ((1 - rest) * error / total)[:, None] for block, effects in raw.items()}
    return AffineForm.within(Bounded(exact, 2 * error, m), terms, rest * error)


def at(form, sources):
    """Return what the form says for such sources, but for its rest."""
    return form.value + sum(
        np.einsum("...sw,...s->...w", effects, sources[block]) for block, effects in form.terms.items()
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_the_sources_are_only_the_rest_is_left_open(name, dtype, legal, rough):
    """A computation that errs as much as it may on operands that are off by given sources and rests."""
    operation, kinds = OPERATIONS[name]
    rng, m = np.random.default_rng(2), precision(np.dtype(dtype))
    slack = []
    for relative in (0, 1e-6, 1e-3, 0.1):
        for rest in (0, 0.3):
            carrier = legal(dtype, rng).carrier
            exact = [kind(rng, (4, 3)).astype(dtype).astype(carrier) for kind in kinds]
            errors = [relative * np.abs(x).astype(float) * rng.uniform(0.5, 1, x.shape) for x in exact]
            # the first block moves all operands, each of the others its own
            forms = [
                drawn(rng, m, x, error, rest, (-1, -2 - index))
                for index, (x, error) in enumerate(zip(exact, errors, strict=True))
            ]
            with np.errstate(all="ignore"):
                result = operation(AffineBounding(m, carrier), *forms)
            assert (result.error >= 0).all()
            open_ = result.rest if isinstance(result, AffineForm) else result.error
            worst = np.zeros(result.shape)
            for attempt in range(ROUNDS):
                k = legal(dtype, rng, ("up", "down", "random")[attempt % 3])
                sources = {block: rng.choice([-1, 1], (4, 2)) for block in (-1, -2, -3)}
                signs = [rng.choice([-1, 1], x.shape) for x in exact]
                inputs = [at(form, sources) + form.rest * sign for form, sign in zip(forms, signs, strict=True)]
                computed = operation(k, *[rough(k, x) for x in inputs]).value
                assert (np.abs(computed - result.value) <= result.error * SLACK).all()
                said = result.value
                if isinstance(result, AffineForm):
                    # of a product with weights the rest of the operand has become a block of sources
                    new = dict.fromkeys(set(result.terms) - set(sources), signs[0])
                    said = at(result, sources | new)
                worst = np.maximum(worst, np.abs(computed - said).astype(float))
            assert (worst <= open_ * SLACK + 1e-15 * result.error).all()
            slack.append(np.where(worst > 0, open_ / np.where(worst > 0, worst, 1), 1).ravel())
    assert np.median(np.concatenate(slack)) < 25


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("radius", [1e-12, 1e-7, 1e-3, 0.3, 3])
def test_what_taylors_theorem_leaves_is_in_the_rest(name, radius):
    """One source alone, anywhere in [-1, 1], around every point: also next to extrema, jumps and kinks."""
    f, m = FUNCTIONS[name], precision(np.dtype(np.float64))
    z = np.linspace(-6, 6, 1203, dtype=np.longdouble).reshape(-1, 3)
    if isinstance(f, LogitCrossEntropy):
        f = LogitCrossEntropy(np.resize(TARGETS, z.shape))
    form = AffineForm.within(Bounded(z, np.full(z.shape, 2 * radius), m), {-1: np.full((len(z), 1, 3), radius)}, 0 * z)
    with np.errstate(all="ignore"):
        found = AffineBounding(m, np.longdouble).evaluate(f, form)
    for source in np.linspace(-1, 1, 21):
        for result, exact in zip(found, f.evaluate(z + radius * source), strict=True):
            said = at(result, {-1: np.full((len(z), 1), source)})
            assert (np.abs(exact - said) <= result.rest * SLACK + 1e-15 * result.error).all()


def forms(*shapes, relative=1e-3):
    """Return an arithmetic and, for each shape, a form with terms of one block and with a rest."""
    rng, m = np.random.default_rng(0), precision(np.dtype(np.float64))
    made = []
    for shape in shapes:
        exact = rng.normal(size=shape)
        made.append(drawn(rng, m, exact, relative * np.abs(exact), 0.2, (-1,)))
    return AffineBounding(m, np.float64), *made


def test_what_is_subtracted_from_itself_leaves_only_the_rest():
    _, x = forms((4, 3))
    difference = x - x
    assert not any(effects.any() for effects in difference.terms.values())
    assert (difference.error <= 2 * x.rest + 1e-15).all()


def test_where_formulas_have_other_terms_the_difference_is_open():
    k, x, y = forms((4, 3), (4, 3))
    same = k.accept(lambda: x, lambda: y + (x - y))
    assert same.terms[-1] == pytest.approx(x.terms[-1])
    assert same.rest == pytest.approx(x.rest + 2 * y.rest)
    half = AffineForm.within(x.bounded, {-1: x.terms[-1] / 2}, x.rest)
    mixed = k.accept(lambda: x, lambda: half)
    assert mixed.terms[-1] == pytest.approx(x.terms[-1])
    assert mixed.rest == pytest.approx(x.rest + np.abs(x.terms[-1] / 2).sum(axis=-2))
    none = k.accept(lambda: x, lambda: x.bounded)
    assert not none.terms[-1].any()
    assert (none.rest == x.error).all()


def test_a_common_shift_of_the_logits_does_not_move_the_probabilities():
    m = precision(np.dtype(np.float64))
    z = Bounded(np.array([[0.3, -0.2, 1.0]]), np.full((1, 3), 1e-3), m)
    shift = {-1: np.full((1, 1, 3), 1e-3)}
    for part, bound in zip(
        AffineBounding(m, np.float64).softmax(AffineForm.within(z, shift, np.zeros((1, 3)))),
        Bounding(m, np.float64).softmax(z),
        strict=True,
    ):
        assert (part.error < 0.01 * bound.error).all()


def test_the_rest_becomes_sources_in_a_product_with_weights():
    k, x = forms((4, 3))
    weight = lifted(k, WEIGHTS)
    z = x @ weight
    (new,) = set(z.terms) - set(x.terms)
    assert z.terms[new] == pytest.approx(x.rest[..., None] * WEIGHTS)
    assert z.terms[-1] == pytest.approx(x.terms[-1] @ WEIGHTS)
    assert z.shape == z.rest.shape == (4, 5)
    # two products have sources of their own
    (another,) = set((x @ weight).terms) - set(x.terms)
    assert another != new
    # what comes back through the same weights is nearly as uncertain as it was
    back = z @ lifted(k, np.linalg.pinv(WEIGHTS))
    assert (back.error <= 1.01 * x.error).all()
    assert (back.error < (z.bounded @ lifted(k, np.linalg.pinv(WEIGHTS))).error).all()


def test_exact_numbers_have_no_sources():
    k = AffineBounding(precision(np.dtype(np.float64)), np.float64)
    z = k.affine(k.lift(TARGETS), lifted(k, WEIGHTS), None)
    assert isinstance(z, AffineForm)
    assert not z.terms
    assert (z.rest == z.error).all()


def test_shapes_are_those_of_the_values():
    k, x, y = forms((4, 3), (4, 3))
    total = x.sum(axis=-1, keepdims=True)
    assert total.shape == total.rest.shape == (4, 1)
    for result in (total * y, y * total, total + y, y - total, y / total, total * k.lift([[2.0, 3.0, 4.0]])):
        assert isinstance(result, AffineForm)
        assert result.shape == result.rest.shape == result.error.shape == (4, 3)
        assert {effects.shape for effects in result.terms.values()} == {(4, 2, 3)}
    for result, shape in ((x.mT, (3, 4)), (x[1:], (3, 3)), (x.sum(), ()), (x.sum(axis=-2), (3,)), (x.mT @ y, (3, 3))):
        assert type(result) is Bounded
        assert result.shape == result.error.shape == shape


def test_overflow_is_unknown_whatever_the_terms_say():
    m = precision(np.dtype(np.float32))
    k = AffineBounding(m, np.float64)
    error = np.full((1, 2), 1e30)
    x = AffineForm.within(Bounded(np.array([[3e38, 1.0]]), error, m), {-1: error[:, None]}, 0 * error)
    with np.errstate(all="ignore"):
        assert np.isinf((x + x).error).tolist() == [[True, False]]
        assert np.isinf((x * 2.0).error).tolist() == [[True, False]]
        for unknown in (x + x, x * 2.0):
            assert not any(effects[..., 0].any() for effects in unknown.terms.values())
            assert np.isinf((unknown @ lifted(k, np.ones((2, 3)))).error).all()
            assert np.isinf((unknown * 0.0).error).tolist() == [[True, False]]
            assert np.isinf(unknown.sum(axis=-1, keepdims=True).error).all()
            for part in (*k.evaluate(function(Tanh()), unknown), *k.softmax(unknown)):
                assert np.isinf(part.error[0, 0])
                assert not np.isnan(part.error).any()
        known = AffineForm.within(
            Bounded(np.ones((1, 1)), np.full((1, 1), np.inf), m), {-1: np.ones((1, 1, 1))}, np.ones((1, 1))
        )
        assert np.isinf(known.error)


def test_a_divisor_that_may_be_0_is_unknown():
    m = precision(np.dtype(np.float64))
    error = np.array([[0.4, 0.5, 0.0]])
    y = AffineForm.within(Bounded(np.array([[0.5, 0.5, 0.0]]), error, m), {-1: error[:, None]}, 0 * error)
    with np.errstate(all="ignore"):
        assert np.isinf((1 / y).error).tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    ("layer", "low", "high"), [(ReLU(), 0, 1), (LeakyReLU(0.25), 0.25, 1), (ELU(2.0), 1, 2)], ids=str
)
def test_at_a_kink_the_slope_is_anything_between_its_sides(layer, low, high):
    m = precision(np.dtype(np.float64))
    k = AffineBounding(m, np.longdouble)
    z = Bounded(np.array([[0, 1e-9, -1e-9, 1e-3, -1e-3]], np.longdouble), np.full((1, 5), 1e-8), m)
    form = AffineForm.within(z, {-1: np.full((1, 1, 5), 1e-8)}, np.zeros((1, 5)))
    value, slope = k.evaluate(function(layer), form)
    assert (slope.value - slope.error)[0, :3].max() <= low
    assert (slope.value + slope.error)[0, :3].min() >= high
    assert (slope.error[0, 3:] < 1e-7).all()
    assert (value.error <= high * 1.001e-8).all()
    assert not value.terms[-1][..., :3].any()
    assert [np.count_nonzero(site.near) for site in k.sites] == [3]
