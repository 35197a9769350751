"""The sharpness certificate: what it says would have been found is found, and what is much smaller is not."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from gradconform import Gradients
from gradconform.capabilities import EVERYTHING
from gradconform.case import Batch, Case
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.sharpness import LADDER, Sharpness, measure
from gradconform.conformance.situation import Situation
from gradconform.dtypes import dtype_of, finfo
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients

AGREEMENT = [check for check in CHECKS.values() if not check.relation]
TEXT = "4 -> Dense(5) -> Tanh -> Dense(4) -> Sigmoid -> Dense(3), SoftmaxCrossEntropy"


def case(dtype="float64", seed=1, text=TEXT, rows=5):
    draw = Draw("ordinary", seed)
    return Example(parse(text), rows, (draw,)).case(draw, dtype)


def judged(function, where):
    return judge(Implementation("mine", function), Situation(where), AGREEMENT)


def scaled(path, error):
    """Return the reference with one parameter's gradient off by a relative error, as exactly as its type allows."""

    def compute(*arguments):
        found = gradients(*arguments)
        array = found.parameters[path]
        wrong = (array.astype(np.longdouble) * (1 + np.longdouble(error))).astype(array.dtype)
        return Gradients({**found.parameters, path: wrong}, outputs=found.outputs, deltas=found.deltas)

    return compute


def looks(judgement):
    return {entry.look for entry in judgement.failures}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("seed", range(4))
def test_errors_are_found_from_the_certified_one_on(dtype, seed):
    where = case(dtype, seed)
    rungs = measure(judged(gradients, where).views)
    assert set(rungs) == {"global", "local"}
    assert rungs["local"] <= rungs["global"]
    paths = list(where.parameters)
    for look, rung in rungs.items():
        assert all(look in looks(judged(scaled(path, LADDER[rung]), where)) for path in paths)
        # a third of it would have passed in one of the parameters
        assert any(look not in looks(judged(scaled(path, LADDER[rung - 1]), where)) for path in paths)


def test_in_float64_an_error_of_1e_13_is_found_step_by_step():
    for seed in range(10):
        assert LADDER[measure(judged(gradients, case(seed=seed)).views)["local"]] <= 1e-13


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_error_is_certified_that_the_type_cannot_hold(dtype):
    # the gradient of a single sample's bias is a copy: any error of it would show
    where = case(dtype, text="2 -> Dense(1), MeanSquaredError", rows=1)

    def compute(*arguments):
        found = gradients(*arguments)
        return Gradients({"0.bias": found.parameters["0.bias"]}, outputs=found.outputs, deltas=found.deltas)

    rung = measure(judged(compute, where).views)["local"]
    eps = float(finfo(dtype_of(dtype)).eps)
    assert eps / 4 <= LADDER[rung] <= 4 * eps


def test_a_gradient_that_is_0_is_left_out():
    where = case()
    where.parameters["4.weight"].flags.writeable = True
    where.parameters["4.weight"][...] = 0
    found = gradients(where.network, where.parameters, where.batch).parameters
    assert [path for path, array in found.items() if not array.any()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    rungs = measure(judged(gradients, where).views)
    assert LADDER[rungs["local"]] <= 1e-13


def test_nothing_but_zeros_certifies_nothing():
    network = parse("3 -> Dense(2), MeanSquaredError")
    parameters = {path: np.zeros(shape) for path, shape in network.parameters().items()}
    where = Case(network, parameters, Batch(np.zeros((2, 3)), np.zeros((2, 2))))
    judgement = judged(gradients, where)
    assert judgement.root is None
    assert measure(judgement.views) == {}


def test_what_is_lost_in_rounding_is_missed():
    where = case("float16", text="3 -> Dense(2), MeanSquaredError")
    batch = Batch(where.batch.inputs * np.float16(1e-7), where.batch.targets)
    judgement = judged(gradients, Case(where.network, where.parameters, batch))
    assert judgement.root is None
    # the gradients of the weights are as small as the smallest number there is
    assert measure(judgement.views)["global"] is None


def test_gradients_alone_are_certified_in_the_global_look_alone():
    rungs = measure(judged(lambda *arguments: dict(gradients(*arguments).parameters), case()).views)
    assert set(rungs) == {"global"}


def test_a_gradient_that_is_missing_is_no_part_of_it():
    # a captured run need not have them
    def compute(*arguments):
        found = gradients(*arguments)
        shown = Gradients({}, deltas=found.deltas, outputs=found.outputs)
        return Gradients(found.parameters, captured=shown)

    assert set(measure(judged(compute, case()).views)) == {"global"}


def test_half_and_nearly_all_of_the_networks():
    measured = Sharpness()
    for rung in [2] * 5 + [7] * 4 + [30]:
        measured.count(rung)
    assert measured.networks == 10
    found = [measured.quantile(share) for share in (0.1, 0.5, 0.51, 0.9, 0.91, 1.0)]
    assert found == [LADDER[2], LADDER[2], LADDER[7], LADDER[7], LADDER[30], LADDER[30]]


def test_networks_in_which_no_error_shows_count():
    measured = Sharpness()
    for rung in [3, 4, None, None]:
        measured.count(rung)
    assert (measured.networks, measured.missed) == (4, 2)
    assert measured.quantile(0.5) == LADDER[4]
    assert measured.quantile(0.51) is None


def test_without_networks_there_is_no_quantile():
    assert Sharpness().quantile(0.5) is None
    assert Sharpness(missed=3).quantile(0.5) is None


def test_the_ladder_rises_by_half_decades_to_all():
    ratios = np.divide(LADDER[1:], LADDER[:-1])
    assert LADDER[0] == pytest.approx(1e-16)
    assert LADDER[-1] == 1.0
    assert ratios.min() > 2.9
    assert ratios.max() < 3.4


def test_a_run_certifies_what_passed_and_nothing_else():
    calls = []

    def compute(network, parameters, batch):
        calls.append(None)
        found = dict(gradients(network, parameters, batch).parameters)
        return found if len(calls) % 4 else {path: 2 * array for path, array in found.items()}

    plan = Plan(
        [Implementation("mine", compute, capabilities=structs.replace(EVERYTHING, dtypes=("float64",)))],
        20,
        1,
        network_strategy("3 -> Dense(4) -> Tanh -> Dense(2), Huber"),
        checks=AGREEMENT,
        witnesses=False,
        shrink_seconds=0,
    )
    result = run(plan)
    (tally,) = result.implementations
    assert set(tally.sharpness) == {"global"}
    failing = sum(finding.failing_cases for finding in result.findings)
    assert 2 <= failing <= 5
    assert 5 < tally.sharpness["global"].networks <= 20 - failing


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_whole_run_finds_what_its_certificate_says(dtype):
    def counted(function):
        networks = network_strategy("3 -> Dense(4) -> Tanh -> Dense(2), SoftmaxCrossEntropy")
        implementation = Implementation("mine", function, capabilities=structs.replace(EVERYTHING, dtypes=(dtype,)))
        plan = Plan([implementation], 20, 1, networks, checks=AGREEMENT, witnesses=False, shrink_seconds=0)
        return run(plan)

    (tally,) = counted(gradients).implementations
    measured = tally.sharpness["local"]
    certified = measured.quantile(0.9)
    found = counted(scaled("2.bias", certified))
    assert sum(finding.failing_cases for finding in found.findings) >= 0.9 * measured.networks
