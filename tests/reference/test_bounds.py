"""The expected gradients and their bounds: nothing right goes beyond them, and nearly everything wrong does."""

from __future__ import annotations

import math
from collections import Counter

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradconform.case import Batch, Gradients
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.strategies import LOSSES, examples, networks
from gradconform.errors import Unsupported
from gradconform.layers import Dense, ReLU
from gradconform.losses import MeanSquaredError
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference import bounds
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.bounds import allowance, carrier_for, expected

SIGNS = ("up", "down", "random", "random")
SHOWN = (("outputs", "deltas"), ("outputs", "deltas"), ("outputs",), ("deltas",))

settled = settings(deadline=None, derandomize=True, database=None, max_examples=40)


def leaves(found):
    yield "loss", found.loss
    yield "input", found.input
    for kind in ("parameters", "deltas", "outputs"):
        for key, array in getattr(found, kind).items():
            yield f"{kind}[{key}]", array


def ratio(bound, actual):
    """Return the worst |actual - exact| / bound of the elements that are known."""
    with np.errstate(all="ignore"):
        known, difference = np.isfinite(bound.error), np.abs(actual - bound.value)
        relative = np.where(known & (difference > 0), difference / (bound.error * allowance(bound)), 0)
        return float(np.where(known & ~np.isfinite(actual), np.inf, relative).max(initial=0))


def worst(case, found):
    bounded = dict(leaves(expected(case.network, case.parameters, case.batch).gradients))
    ratios = {name: ratio(bounded[name], np.asarray(array)) for name, array in leaves(found)}
    return max(ratios.items(), key=lambda item: item[1])


def parts(case):
    return case.network, case.parameters, case.batch


def run(case):
    return gradients(*parts(case))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_plain_reference_stays_within_in_every_regime(dtype):
    seen = Counter()

    @settled
    @given(examples())
    def check(example):
        for draw in example.draws:
            seen[draw.regime] += 1
            case = example.case(draw, dtype)
            name, found = worst(case, run(case))
            assert found <= 1, (str(case.network), draw, name)

    check()
    assert set(seen) == set(REGIMES)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda kind: kind.__name__)
def test_the_worst_legal_computation_stays_within_in_every_regime(loss, model, legal):
    """What `Legal` computes errs in every operation by as much as the model permits."""
    rng = np.random.default_rng(0)

    @settings(settled, max_examples=3)
    @given(examples(networks(losses=LOSSES[loss])))
    def check(example):
        for draw, signs in zip(example.draws, SIGNS, strict=True):
            case = example.case(draw, model.dtype)
            rough = backpropagate(legal(model.dtype, rng, signs, model.arithmetic), *parts(case))
            bounded = dict(leaves(expected(*parts(case), arithmetic=model.arithmetic).gradients))
            for name, array in leaves(rough):
                assert ratio(bounded[name], array.value) <= 1.002, (str(case.network), draw, name)

    check()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda kind: kind.__name__)
def test_each_step_of_it_stays_within_the_bound_on_the_step_before(loss, model, legal):
    """Outputs and deltas are shown as they are stored, all or some; it may have gone on with more digits."""
    rng = np.random.default_rng(0)

    @settings(settled, max_examples=3)
    @given(examples(networks(losses=LOSSES[loss])))
    def check(example):
        for draw, signs, kinds in zip(example.draws, SIGNS, SHOWN, strict=True):
            case = example.case(draw, model.dtype)
            rough = backpropagate(legal(model.dtype, rng, signs, model.arithmetic, stores=True), *parts(case))
            stored = {
                kind: {index: array.value.astype(model.dtype) for index, array in getattr(rough, kind).items()}
                for kind in kinds
            }
            found = expected(*parts(case), arithmetic=model.arithmetic, shown=Gradients({}, **stored))
            bounded = dict(leaves(found.gradients))
            for name, array in leaves(rough):
                assert ratio(bounded[name], array.value) <= 1.002, (str(case.network), draw, name)

    check()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_soft_labels_near_certainty(dtype):
    """p sum(q) - q by a formula that keeps its digits must be inside the bound of the one that does not."""
    rng = np.random.default_rng(0)
    network = parse("8 -> Dense(8, bias=False), SoftmaxCrossEntropy(reduction=sum)")
    for _ in range(100):
        soft = rng.dirichlet(np.full(8, rng.choice([0.1, 1])), 5)
        batch = Batch(rng.normal(size=(5, 8)).astype(dtype) * 5, soft.astype(dtype))
        parameters = {"0.weight": np.eye(8, dtype=dtype)}
        bounded = expected(network, parameters, batch).gradients
        assert ratio(bounded.deltas[0], gradients(network, parameters, batch).deltas[0]) <= 1


@st.composite
def ordinary(draw, max_dense=2):
    network = draw(networks(max_dense=max_dense, max_units=6))
    return Example(network, draw(st.sampled_from([2, 3, 5])), (Draw("ordinary", draw(st.integers(0, 2**32 - 1))),))


def choose(found, rng):
    """Return the path and the place of an element of a parameter's gradient that is not 0."""
    telling = [path for path, array in found.parameters.items() if array.any()]
    if not telling:
        return None, None
    path = telling[rng.integers(len(telling))]
    places = np.argwhere(found.parameters[path])
    return path, tuple(places[rng.integers(len(places))])


def perturbed(array, place, relative):
    array = array.copy()
    array[place] *= 1 + relative
    return array


@pytest.mark.parametrize(
    ("dtype", "least"),
    [(np.float64, {1e-9: 0.97, -1e-11: 0.95, 1e-12: 0.95, -1e-13: 0.8}), (np.float32, {1e-2: 0.97, -1e-4: 0.9})],
)
def test_a_wrong_digit_is_beyond_the_bound(dtype, least):
    """In nearly all ordinary networks one wrong element is seen, however little it is off."""
    rng, caught = np.random.default_rng(0), {relative: [] for relative in least}

    @settings(settled, max_examples=100)
    @given(ordinary())
    def look(example):
        case = example.case(example.draws[0], dtype)
        found = run(case)
        path, place = choose(found, rng)
        if path is not None:
            bound = expected(case.network, case.parameters, case.batch).gradients.parameters[path]
            for relative, outcomes in caught.items():
                outcomes.append(ratio(bound, perturbed(found.parameters[path], place, relative)) > 1)

    look()
    for relative, outcomes in caught.items():
        assert len(outcomes) > 60
        assert np.mean(outcomes) >= least[relative], relative


def test_a_wrong_digit_of_float64_is_beyond_the_local_bound():
    """However deep the network, one element that is off by 1e-12 is seen in more than 99 of 100."""
    rng, caught = np.random.default_rng(0), []

    @settings(settled, max_examples=100)
    @given(ordinary(max_dense=3))
    def look(example):
        case = example.case(example.draws[0], np.float64)
        found = run(case)
        bounded = expected(*parts(case), shown=found).gradients.parameters
        for _ in range(5):
            path, place = choose(found, rng)
            if path is not None:
                caught.append(ratio(bounded[path], perturbed(found.parameters[path], place, 1e-12)) > 1)

    look()
    assert len(caught) > 300
    assert np.mean(caught) > 0.99


def test_a_step_is_taken_from_what_was_shown():
    """x -> 2x -> 3x -> 5x, where the first layer showed 7 and the last delta was shown as 11."""
    network = parse(
        "1 -> Dense(1, bias=False) -> Dense(1, bias=False) -> Dense(1, bias=False), MeanSquaredError(reduction=sum)"
    )
    parameters = {f"{index}.weight": np.array([[weight]]) for index, weight in enumerate([2.0, 3, 5])}
    batch = Batch(np.ones((1, 1)), np.zeros((1, 1)))
    shown = Gradients({}, outputs={0: np.array([[7.0]])}, deltas={2: np.array([[11.0]])})
    found = expected(network, parameters, batch, shown=shown).gradients
    assert [float(found.outputs[index].value.item()) for index in range(3)] == [2, 21, 105]
    assert [float(found.deltas[index].value.item()) for index in range(3)] == [165, 55, 210]
    assert [float(found.parameters[path].value.item()) for path in parameters] == [165, 55 * 7, 11 * 21]
    assert found.input.value.item() == 330


def test_in_ordinary_networks_everything_is_known():
    unknown, elements = [], []

    @settled
    @given(ordinary())
    def look(example):
        case = example.case(example.draws[0], np.float64)
        for _, bound in leaves(expected(case.network, case.parameters, case.batch).gradients):
            unknown.append(np.count_nonzero(np.isinf(bound.error)))
            elements.append(bound.error.size)

    look()
    assert sum(unknown) <= 0.01 * sum(elements)


def test_without_a_longer_type_the_verdicts_are_the_same(monkeypatch):
    rng, verdicts = np.random.default_rng(0), Counter()

    @settings(settled, max_examples=40)
    @given(examples())
    def check(example):
        for draw in example.draws:
            case = example.case(draw, np.float64)
            found = run(case)
            path, place = choose(found, rng)
            wrong = None if path is None else perturbed(found.parameters[path], place, 1e-9)
            both = []
            for long in (bounds.LONG, False):
                monkeypatch.setattr(bounds, "LONG", long)
                bounded = expected(case.network, case.parameters, case.batch).gradients
                assert max(ratio(bound, np.asarray(array)) for (_, bound), (_, array) in pairs(bounded, found)) <= 1
                both.append(path and ratio(bounded.parameters[path], wrong) > 1)
            monkeypatch.undo()
            verdicts[tuple(both)] += 1

    def pairs(bounded, found):
        return zip(leaves(bounded), leaves(found), strict=True)

    check()
    verdicts.pop((None, None), None)
    assert verdicts[True, True] > 0.5 * verdicts.total()
    # a factor of 2 in the bound decides in a few
    assert verdicts[True, False] + verdicts[False, True] <= 0.05 * verdicts.total()


@pytest.mark.parametrize(
    ("dtype", "long", "rows", "carrier"),
    [
        (np.float64, True, 2, np.longdouble),
        (np.float64, False, 2, np.float64),
        (np.float64, True, 2_000_000, np.float64),
        (np.float32, True, 2, np.float64),
    ],
)
def test_the_type_of_the_exact_values(monkeypatch, dtype, long, rows, carrier):
    monkeypatch.setattr(bounds, "LONG", long)
    batch = Batch(np.broadcast_to(np.zeros((), dtype), (rows, 1)), np.zeros((rows, 2)))
    assert carrier_for(Network(1, (Dense(2),), MeanSquaredError()), batch) is carrier


def test_the_allowance_is_the_carriers_error():
    parameters = {"0.weight": np.ones((1, 1)), "0.bias": np.ones(1)}
    network, batch = Network(1, (Dense(1),), MeanSquaredError()), Batch(np.ones((1, 1)), np.ones((1, 1)))
    long = 2.0**-11 if bounds.LONG and np.finfo(np.longdouble).nmant == 63 else None
    if long:
        assert allowance(expected(network, parameters, batch).gradients.loss) == pytest.approx(1 + 1e-6 + long)
    short = {path: array.astype(np.float32) for path, array in parameters.items()}
    batch = Batch(batch.inputs.astype(np.float32), batch.targets.astype(np.float32))
    assert allowance(expected(network, short, batch).gradients.loss) == pytest.approx(1 + 1e-6 + 2.0**-29, abs=1e-12)


def kinked(z):
    """Return a case whose pre-activations are `z`."""
    z = np.asarray(z, float)
    network = Network(1, (Dense(z.size), ReLU()), MeanSquaredError(reduction="sum"))
    parameters = {"0.weight": np.zeros((1, z.size)), "0.bias": z}
    return network, parameters, Batch(np.ones((1, 1)), np.ones((1, z.size)))


def test_kinks_are_counted_and_both_sides_are_right():
    network, parameters, batch = kinked([0, 1, -1, 1e-320])
    found = expected(network, parameters, batch)
    assert found.kinks == 2
    # dC/da = 2 (a - 1) = -2 at the kink; dC/db is -2 or 0 there, and nothing else elsewhere
    bound = found.gradients.parameters["0.bias"]
    assert ratio(bound, np.array([0, 0, 0, 0.0])) <= 1
    assert ratio(bound, np.array([-2, 0, 0, -2.0])) <= 1
    assert ratio(bound, np.array([-1, 0, 0, -1.0])) <= 1
    assert ratio(bound, np.array([-2.001, 0, 0, 0])) > 1
    assert ratio(bound, np.array([0.001, 0, 0, 0])) > 1
    assert ratio(bound, np.array([0, 1e-12, 0, 0])) > 1
    assert ratio(bound, np.array([0, 0, -2, 0.0])) > 1


@pytest.mark.parametrize(("share", "slope"), [(0.0, 0), (1.0, 1), (0.5, 0.5), (0.25, 0.25)])
def test_a_share_tells_which_derivative_is_taken_at_a_kink(share, slope):
    network, parameters, batch = kinked([0, 1, -1])
    bound = expected(network, parameters, batch, shares=[share]).gradients.parameters["0.bias"]
    # dC/da = 2 (a - 1)
    assert bound.value.astype(float).tolist() == [-2 * slope, 0, 0]
    assert (bound.error < 1e-14).all()


def test_a_share_may_be_given_for_every_pre_activation():
    network, parameters, batch = kinked([0, 0, 1e-320, -1])
    shares = np.array([[0, 1, 0.5, 1.0]])
    bound = expected(network, parameters, batch, shares=[shares]).gradients.parameters["0.bias"]
    assert bound.value.astype(float).tolist() == [0, -2, -1, 0]


def test_sites_are_those_of_the_layers_in_order_with_the_sides_of_the_pre_activations():
    layers = "Dense(3) -> ReLU -> Dense(3) -> Tanh -> LeakyReLU(slope=0.25) -> Dense(3) -> ELU(alpha=2) -> Dense(3)"
    network = parse(f"1 -> {layers} -> ReLU, MeanSquaredError(reduction=sum)")
    biases = {"0.bias": [0, 1e-310, -1e-310], "2.bias": [0, 0, -1e-310], "5.bias": [1e-310, 0, 1], "7.bias": [1, 2, -3]}
    parameters = {path: np.zeros(shape) for path, shape in network.parameters().items()}
    parameters |= {path: np.array(bias) for path, bias in biases.items()}
    found = expected(network, parameters, Batch(np.ones((1, 1)), np.ones((1, 3))))
    assert [site.layer for site in found.sites] == ["ReLU", "LeakyReLU", "ELU", "ReLU"]
    near = [[[True] * 3], [[True] * 3], [[True, True, False]], [[False] * 3]]
    assert [site.near.tolist() for site in found.sites] == near
    assert [site.side.tolist() for site in found.sites] == [[[0, 1, -1]], [[0, 0, -1]], [[1, 0, 1]], [[1, 1, -1]]]
    assert found.kinks == 8


@pytest.mark.parametrize("shares", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 0.5), (0.5, 0.5, 0.5)])
def test_each_site_has_its_own_share(shares):
    network = parse(
        "1 -> Dense(1, bias=False) -> LeakyReLU(slope=0.25) -> Dense(1, bias=False) -> ELU(alpha=2) -> "
        "Dense(1, bias=False) -> ReLU, MeanSquaredError(reduction=sum)"
    )
    parameters = {path: np.ones(shape) for path, shape in network.parameters().items()}
    batch = Batch(np.zeros((1, 1)), np.ones((1, 1)))
    slopes = [left + share * (1 - left) for share, left in zip(shares, (0.25, 2, 0), strict=True)]
    found = expected(network, parameters, batch, shares=shares).gradients.input
    assert found.value.item() == -2 * math.prod(slopes)
    assert found.error.item() < 1e-13


def test_without_shares_the_hull_has_room_for_all_of_them():
    network, parameters, batch = kinked([0, 1e-320, -1e-320])
    hull = expected(network, parameters, batch).gradients.parameters["0.bias"]
    for share in (0, 0.3, 1):
        taken = expected(network, parameters, batch, shares=[share]).gradients.parameters["0.bias"]
        assert (np.abs(taken.value - hull.value) <= hull.error).all()


def test_a_smooth_network_has_no_kinks():
    case = Example(parse("3 -> Dense(4) -> ELU -> Dense(2) -> GELU, Huber"), 3, ()).case(
        Draw("integers", 0), np.float64
    )
    assert expected(case.network, case.parameters, case.batch).kinks == 0


def test_the_exact_value_is_exact():
    """C = (1/3 - 1/5)^2 / 1 on numbers that are not representable: the value is that of the given float64 numbers."""
    from fractions import Fraction

    x, w, b, y = (np.float64(1) / d for d in (3, 7, 11, 5))
    residual = Fraction(x) * Fraction(w) + Fraction(b) - Fraction(y)
    parameters = {"0.weight": np.array([[w]]), "0.bias": np.array([b])}
    found = expected(Network(1, (Dense(1),), MeanSquaredError()), parameters, Batch(np.array([[x]]), np.array([[y]])))
    exact = {"0.weight": 2 * residual * Fraction(x), "0.bias": 2 * residual}
    for path, value in exact.items():
        bound = found.gradients.parameters[path]
        carrier = np.finfo(bound.value.dtype).eps
        assert abs(Fraction(*bound.value.item().as_integer_ratio()) - value) <= 64 * carrier * abs(value)
        # a handful of roundings of the size of b, y and the residual
        assert bound.error.item() < 64 * 2.0**-53 * (abs(b) + abs(y))


def test_an_overflow_is_unknown_and_not_wrong():
    network = Network(1, (Dense(1),), MeanSquaredError())
    parameters = {"0.weight": np.full((1, 1), 1e200), "0.bias": np.zeros(1)}
    batch = Batch(np.full((1, 1), 1e200), np.zeros((1, 1)))
    found = expected(network, parameters, batch).gradients
    assert math.isinf(found.loss.error)
    assert ratio(found.loss, np.array(np.inf)) == 0


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e5m2, np.longdouble])
def test_a_type_without_a_model_is_named(dtype):
    network, parameters, batch = kinked([1])
    batch = Batch(batch.inputs.astype(dtype), batch.targets.astype(dtype))
    with pytest.raises(Unsupported) as error:
        expected(network, parameters, batch)
    known = "float64, float32, bfloat16, float16"
    assert str(error.value) == f"no rounding model for {np.dtype(dtype)}; there is one for {known}"


def test_smoothing_may_add_up_all_logarithms_before_it_divides():
    # 8 x 10,000 is beyond the largest number of float16, whichever way PyTorch reduces
    network = parse("2 -> Dense(2, bias=False), SoftmaxCrossEntropy(label_smoothing=0.1)")
    parameters = {"0.weight": np.eye(2, dtype=np.float16) * np.float16(100)}
    for rows, known in ((4, True), (8, False)):
        batch = Batch(np.tile(np.array([[100, 0]], np.float16), (rows, 1)), np.zeros(rows, int))
        found = expected(network, parameters, batch).gradients
        assert np.isfinite(found.loss.error) == known
        assert np.isfinite(found.deltas[0].error).all()


def test_a_bound_that_underflows_itself_is_still_a_bound():
    # u |delta| is below every number of float64, and a large weight brings it back
    rng = np.random.default_rng(0)
    network = parse("2 -> Dense(3), MeanSquaredError(reduction=none)")
    weight, delta = rng.normal(size=(2, 3)) * 500, rng.normal(size=(7, 3)) * 1e-308
    batch = Batch(rng.normal(size=(7, 2)), np.zeros((7, 3)), cotangent=np.ones((7, 3)))
    parameters = {"0.weight": weight, "0.bias": np.zeros(3)}
    shown = Gradients({}, deltas={0: delta})
    found = expected(network, parameters, batch, arithmetic="torch", shown=shown).gradients.input
    allowed = 3 * (np.abs(delta) @ np.abs(weight).T) * 2.0**-53
    assert (found.error >= allowed).all()
    assert (found.error <= 100 * allowed.max()).all()
