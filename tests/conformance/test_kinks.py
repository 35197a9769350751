"""Kinks: any choice between the one-sided derivatives is right, if it is one choice; away from kinks none is."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import LeakyReLU, ReLU, parse
from gradconform.case import Batch, Case
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Kind, ratios
from gradconform.conformance.engine import run
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.kinks import FEW, as_shown
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.situation import Situation
from gradconform.dtypes import dtype_of
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.bounding import Site
from gradconform.reference.layers import layer_rule

AGREEMENT = [check for check in CHECKS.values() if not check.relation]


def spelled(slope):
    """Return gradients with another spelling of ReLU and LeakyReLU: `slope(z)` is the derivative."""

    def rule(layer, k, x, parameters):
        a, pullback = layer_rule(layer, k, x, parameters)
        if not isinstance(layer, ReLU | LeakyReLU):
            return a, pullback
        return a, lambda delta: (slope(x).astype(x.dtype) * delta, {})

    def compute(network, parameters, batch):
        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule)

    return compute


def relu_with(share, zero=lambda z: z == 0):
    """Return the derivative of a ReLU that takes `share` of the right-sided one where `zero`."""
    return lambda z: np.where(zero(z), share, z > 0)


def alone(function):
    """Return the gradients of the parameters alone, so that nothing shows on which side a unit is."""
    return lambda *arguments: dict(function(*arguments).parameters)


def case(units=3, rows=4, moved=0.0, text="3 -> Dense({}) -> ReLU -> Dense(2), MeanSquaredError", dtype="float64"):
    """Return a case in which all units of the first sample are exactly 0, or `moved` from it."""
    rng = np.random.default_rng(5)
    network = parse(text.format(units))
    parameters = {
        path: rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], shape) for path, shape in network.parameters().items()
    }
    inputs = rng.normal(size=(rows, 3))
    inputs[0] = 1, 2, -1
    parameters["0.bias"] = -(inputs[0] @ parameters["0.weight"]) + moved
    targets = rng.normal(size=(rows, network.widths[-1]))
    rounded = {path: array.astype(dtype) for path, array in parameters.items()}
    return Case(network, rounded, Batch(inputs.astype(dtype), targets.astype(dtype)))


def judged(function, where, **known):
    """Return the implementation and its judgement."""
    implementation = Implementation("mine", function, kinks=dict(known))
    return implementation, judge(implementation, Situation(where), AGREEMENT)


def counted(judgement, outcome):
    return sum(getattr(entry.outcomes, outcome) for entry in judgement.comparisons)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("units", [1, 3, 12])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shown", [True, False])
def test_a_usual_convention_is_explained_and_learnt(share, units, dtype, shown):
    function = spelled(relu_with(share))
    implementation, judgement = judged(function if shown else alone(function), case(units, dtype=dtype))
    assert judgement.root is None
    assert counted(judgement, "kink") == 0
    assert implementation.kinks == {"ReLU": share}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("share", [0.3, 1 / 3, 0.999, 1e-6])
@pytest.mark.parametrize("shown", [True, False])
def test_an_unusual_convention_is_explained(share, dtype, shown):
    function = spelled(relu_with(share))
    implementation, judgement = judged(function if shown else alone(function), case(dtype=dtype))
    assert judgement.root is None
    assert counted(judgement, "kink") == 0
    assert implementation.kinks == {}


@pytest.mark.parametrize(
    ("units", "share"),
    [(units, share) for units in (1, 3) for share in (-1.0, -1e-9, 1 + 1e-9, 2.0)] + [(12, -0.01), (12, 1.01)],
)
def test_what_is_not_between_the_sides_is_wrong(share, units):
    function = spelled(relu_with(share))
    assert judged(function, case(units))[1].root.path == "delta 0"
    assert judged(alone(function), case(units))[1].root.path == "0.weight"


def test_what_is_known_is_corrected():
    function = spelled(relu_with(0.5))
    implementation, judgement = judged(function, case(), ReLU=0.0)
    assert judgement.root is None
    assert implementation.kinks == {"ReLU": 0.5}


def test_nothing_is_learnt_where_every_convention_explains_the_same():
    where = case()
    where.parameters["2.weight"][...] = 0
    implementation, judgement = judged(gradients, where)
    assert judgement.root is None
    assert implementation.kinks == {}


def test_two_kinds_of_layers_may_have_two_conventions():
    text = "3 -> Dense({}) -> LeakyReLU(slope=0.25) -> Dense(2, bias=False) -> ReLU -> Dense(2), MeanSquaredError"
    where = case(text=text)

    def rule(layer, k, x, parameters):
        a, pullback = layer_rule(layer, k, x, parameters)
        if isinstance(layer, ReLU):
            return a, lambda delta: ((x >= 0) * delta, {})
        return a, pullback

    def compute(network, parameters, batch):
        return backpropagate(Plain(np.float64), network, parameters, batch, rule=rule)

    for function in (compute, alone(compute)):
        implementation, judgement = judged(function, where)
        assert judgement.root is None
        assert implementation.kinks == {"ReLU": 1.0, "LeakyReLU": 0.0}


def mixture(network, parameters, batch):
    """Return right-sided derivatives for the weight, left-sided ones for the bias."""
    right, left = (spelled(relu_with(share))(network, parameters, batch).parameters for share in (1, 0))
    return {**right, "0.bias": left["0.bias"]}


def test_a_mixture_that_no_single_choice_explains_is_wrong():
    where = case()
    implementation, judgement = judged(mixture, where)
    assert (judgement.root.path, judgement.root.kind) in {("0.weight", Kind.WRONG), ("0.bias", Kind.WRONG)}
    # which everything between both sides would have let pass
    given = mixture(where.network, where.parameters, where.batch)
    opened = Situation(where).expected(implementation).gradients.parameters
    assert all((ratios(bound, given[path]) <= 1).all() for path, bound in opened.items())
    assert implementation.kinks == {}


def test_of_many_near_units_every_mixture_is_open_and_counted():
    where = case(units=FEW + 1)
    judgement = judged(mixture, where)[1]
    assert judgement.root is None
    kinks = {entry.path: entry.outcomes.kink for entry in judgement.comparisons}
    # a column of the weight and one bias for each unit
    assert kinks == {"0.weight": 3 * (FEW + 1), "0.bias": FEW + 1, "2.weight": 0, "2.bias": 0}
    assert judged(mixture, case(units=FEW))[1].root is not None


def test_every_unit_may_take_its_own_side():
    # as when the units are 0 in exact arithmetic alone, and are computed above or below it
    function = spelled(lambda z: np.where(z == 0, np.arange(z.shape[1]) % 2, z > 0))
    implementation, judgement = judged(alone(function), case())
    assert judgement.root is None
    assert counted(judgement, "kink") == 0
    assert implementation.kinks == {}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("moved", [2.0**-51, -(2.0**-51)])
def test_what_rounding_may_have_moved_may_be_taken_as_0(share, moved):
    # as where a sum in another order is exactly 0, or a subnormal number is read as 0
    function = alone(spelled(relu_with(share, lambda z: abs(z) < 1e-12)))
    judgement = judged(function, case(moved=moved))[1]
    assert judgement.root is None
    assert counted(judgement, "kink") == 0


def test_some_may_be_taken_as_0_and_others_on_a_side():
    shares = np.array([0.5, 0.0, 1.0])
    judgement = judged(alone(spelled(lambda z: np.where(z == 0, shares, z > 0))), case())[1]
    assert judgement.root is None
    assert counted(judgement, "kink") == 0


@pytest.mark.parametrize("moved", [1e-9, -1e-9])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_away_from_kinks_there_is_no_excuse(moved, share):
    function = alone(spelled(relu_with(share, lambda z: abs(z) < 1e-6)))
    right = share == float(moved > 0)
    assert (judged(function, case(moved=moved))[1].root is None) is right


def test_a_unit_that_is_shown_is_on_its_own_side():
    where = case(moved=2.0**-51)
    function = spelled(relu_with(0.0, lambda z: abs(z) < 1e-12))
    # from the inputs, either side is right
    assert judged(alone(function), where)[1].root is None
    judgement = judged(function, where)[1]
    assert (judgement.root.path, judgement.root.look) == ("delta 0", "local")
    assert {entry.look for entry in judgement.failures} == {"local"}


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.7])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_slope_that_the_type_cannot_hold_is_explained_at_exactly_0(slope, share, dtype):
    text = f"40 -> LeakyReLU(slope={slope}) -> Dense(3), MeanSquaredError"
    rng = np.random.default_rng(1)
    network = parse(text)
    parameters = {path: rng.normal(size=shape).astype(dtype) for path, shape in network.parameters().items()}
    where = Case(network, parameters, Batch(np.zeros((7, 40), dtype), rng.normal(size=(7, 3)).astype(dtype)))
    real = np.dtype(dtype).type
    taken = real(slope) + real(share) * (1 - real(slope))
    implementation, judgement = judged(spelled(lambda z: np.where(z == 0, taken, 1)), where)
    assert judgement.root is None
    assert counted(judgement, "kink") == 0
    assert implementation.kinks == {"LeakyReLU": share}


RELUS = ["3 -> Dense(4) -> ReLU -> Dense(2), Huber", "2 -> ReLU -> Dense(3), SoftmaxCrossEntropy"]
ABSOLUTES = [text.replace("ReLU", "LeakyReLU(slope=-1)") for text in RELUS]


@pytest.mark.parametrize(
    ("texts", "slope", "kinks"),
    [
        (RELUS, lambda z: z > 0, {"ReLU": 0.0}),
        (RELUS, lambda z: z >= 0, {"ReLU": 1.0}),
        (RELUS, lambda z: (np.sign(z) + 1) / 2, {"ReLU": 0.5}),
        (ABSOLUTES, np.sign, {"LeakyReLU": 0.5}),
        (ABSOLUTES, lambda z: np.where(z >= 0, 1, -1), {"LeakyReLU": 1.0}),
        (ABSOLUTES, lambda z: np.where(z > 0, 1, -1), {"LeakyReLU": 0.0}),
    ],
    ids=["relu", "clip", "maximum", "abs", "abs right", "abs left"],
)
def test_every_spelling_is_left_alone_and_its_convention_reported(texts, slope, kinks):
    networks = network_strategy(texts)
    plan = Plan([Implementation("mine", spelled(slope))], 48, 4, networks, witnesses=False, shrink_seconds=0)
    result = run(plan)
    assert result.passed
    for tally in result.implementations:
        assert tally.at_kinks > 3
        assert tally.kinks == kinks


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_side_that_is_shown_is_taken_near_a_kink_and_that_of_the_exact_value_where_it_is_nan(dtype):
    shown = np.array([[1.0, -1.0, 0.0, np.nan, 1.0]]).astype(dtype_of(dtype))
    site = Site("ReLU", np.array([[True] * 4 + [False]]), np.array([[-1, 1, 1, -1, -1]]))
    (found,) = as_shown(parse("5 -> ReLU, Huber"), shown, {}, [site])
    assert found.side.tolist() == [[1, -1, 0, -1, -1]]
