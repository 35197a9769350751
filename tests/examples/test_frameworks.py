"""The examples of frameworks, on the real ones: what agrees, and the defects that were found.

tox -e wild installs them and sets GRADCONFORM_EXPECT_WILD: there, one that is missing is a failure.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import gradconform as gc
from gradconform.conformance import implementations as known
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.judge import judge
from gradconform.conformance.situation import Situation

# the frameworks' own warnings, of overflow for example, are told and are no errors
pytestmark = pytest.mark.filterwarnings("default")

FOLDER = Path(__file__).parents[2] / "examples" / "frameworks"
PROMISED = os.environ.get("GRADCONFORM_EXPECT_WILD")


def framework(name):
    """Return a mark that skips where a package is absent, unless it was promised."""
    absent = not PROMISED and importlib.util.find_spec(name) is None
    return pytest.mark.skipif(absent, reason=f"{name} is not installed, and GRADCONFORM_EXPECT_WILD is not set")


def example(target):
    return known.resolve(str(FOLDER / target))


def check(target, **options):
    result = gc.check(example(target), seed=1, **options)
    assert result.comparisons > 0
    return result


def root_of(candidate, notation, inputs, dtype="float64"):
    """Return the check, kind and path of what fails first: weights are 1, biases 0 and targets -1 or label 0."""
    network = gc.parse(notation)
    parameters = {
        path: np.full(shape, float(path.endswith("weight")), dtype) for path, shape in network.parameters().items()
    }
    inputs = np.array(inputs, dtype)
    targets = np.full((len(inputs), network.widths[-1]), -1, dtype)
    if network.loss.labels == "classes":
        targets = np.zeros(len(inputs), np.int64)
    batch = gc.Batch(inputs, targets)
    agreement = [entry for entry in CHECKS.values() if not entry.relation]
    judgement = judge(candidate, Situation(gc.Case(network, parameters, batch)), agreement)
    assert judgement.comparisons
    assert judgement.unsupported is None
    root = judgement.root
    return None if root is None else (root.check, root.kind.name, root.path)


@framework("micrograd")
def test_micrograd_agrees():
    result = check("with_micrograd.py:gradients", max_examples=12)
    assert result.passed, str(result)
    (tally,) = result.implementations
    assert (tally.cases, tally.unsupported) == (12, 0)


@framework("autograd")
def test_autograd_agrees():
    result = check("with_autograd.py:gradients", max_examples=60)
    assert result.passed, str(result)
    (tally,) = result.implementations
    assert (tally.cases, tally.unsupported) == (60, 0)


def with_autograd(log_of_sum):
    """Return a candidate for one dense layer and the softmax cross entropy, in HIPS autograd."""
    from autograd import grad

    def gradients(network, parameters, batch):
        z = batch.inputs @ parameters["0.weight"]
        delta = grad(lambda z: (log_of_sum(z) - z[:, 0]).sum())(z)
        return gc.Gradients({"0.weight": batch.inputs.T @ delta}, deltas={0: delta}, outputs={0: z})

    return known.of(gradients)


@framework("autograd")
def test_autograds_rule_of_logsumexp_loses_digits():
    """Its rule exp(x - result) is off by as many units in the last place as x is large."""
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp
    from autograd.tracer import getval

    network = "1 -> Dense(3, bias=False), SoftmaxCrossEntropy(reduction=sum)"
    naive = with_autograd(lambda z: logsumexp(z, axis=1))
    assert root_of(naive, network, [[1000.5]]) == ("output-delta", "WRONG", "output delta")
    assert root_of(naive, network, [[1.5]]) is None

    def shifted(z):
        most = getval(z).max(axis=1)
        return anp.log(anp.exp(z - most[:, None]).sum(axis=1)) + most

    assert root_of(with_autograd(shifted), network, [[1000.5]]) is None


@framework("autograd")
def test_autograds_rule_of_abs_underflows():
    """Its rule g x / |x| has the derivative 0 at the smallest numbers."""
    import autograd.numpy as anp
    from autograd import grad

    assert grad(lambda x: 0.25 * anp.abs(x))(5e-324) == 0.0
    assert grad(lambda x: 0.25 * anp.abs(x))(1e-300) == 0.25


@framework("autograd")
@pytest.mark.parametrize("rule", ["where", "maximum", "mean"])
def test_autograds_rules_compute_float32_in_float64(rule):
    """Why the example declares float64 alone."""
    import autograd.numpy as anp
    from autograd import grad
    from autograd.extend import defvjp, primitive

    seen = []
    spy = primitive(lambda x: x)
    defvjp(spy, lambda ans, x: lambda g: (seen.append(g.dtype.name), g)[1])
    rules = {"where": lambda x: anp.where(x > 0, x, 0 * x), "maximum": lambda x: anp.maximum(x, 0), "mean": anp.mean}
    grad(lambda x: anp.sum(rules[rule](spy(x))))(anp.ones(3, "float32"))
    assert seen == ["float64"]


@framework("sklearn")
def test_the_gradient_of_the_regressor_with_several_outputs_is_too_large_by_their_number():
    """scikit-learn's issue 8349: the squared error is averaged over the outputs, its gradient is not."""
    result = check("with_scikit_learn.py:regressor", max_examples=40)
    assert result.verdict == "failed"
    assert {finding.check for finding in result.findings} == {"parameters"}
    for finding in result.findings:
        assert "loss" in finding.right
        assert finding.factor == pytest.approx(finding.network.widths[-1])
        assert finding.network.widths[-1] > 1
    assert result.findings[0].factor_name == "outputs"
    assert "= outputs, in each of " in str(result)


@framework("sklearn")
def test_the_regressor_with_one_output_agrees():
    result = check("with_scikit_learn.py:one_output", max_examples=40)
    assert result.passed, str(result)


@framework("sklearn")
def test_the_gradients_of_the_classifier_agree_and_its_cost_is_clipped():
    result = check("with_scikit_learn.py:classifier", max_examples=40)
    assert {finding.check for finding in result.findings} == {"loss"}
    agreed = check("with_scikit_learn.py:classifier", max_examples=40, exclude=["loss"])
    assert agreed.passed, str(agreed)


TINY = "with_tinygrad.py:gradients"


@framework("tinygrad")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tinygrad_agrees_where_it_can(dtype):
    network = "2 -> Dense(2) -> ReLU -> Dense(1), MeanSquaredError"
    assert root_of(example(TINY), network, [[0.3, 0.5], [1.0, 0.25]], dtype) is None


@framework("tinygrad")
@pytest.mark.parametrize(("dtype", "overflows"), [("float64", 1000), ("float32", 100)])
def test_tinygrads_elu_has_no_gradient_at_0_nor_where_exp_overflows(dtype, overflows):
    """elu is relu(x) - alpha relu(1 - exp(x)): both have the derivative 0 at 0, and infinity times 0 is NaN."""
    network = "1 -> Dense(1) -> ELU, MeanSquaredError"
    assert root_of(example(TINY), network, [[1.0]], dtype) is None
    assert root_of(example(TINY), network, [[0.0]], dtype) == ("deltas", "WRONG", "delta 0")
    assert root_of(example(TINY), network, [[overflows]], dtype) == ("deltas", "NONFINITE", "delta 0")


@framework("tinygrad")
def test_tinygrads_gelu_is_good_to_seven_digits_in_float64():
    """Its erf is a polynomial that is off by 1.5e-7, in float64 too."""
    network = "1 -> Dense(1) -> GELU, MeanSquaredError"
    assert root_of(example(TINY), network, [[0.5]]) == ("outputs", "WRONG", "output 1")


@framework("tinygrad")
def test_tinygrads_tanh_loses_digits_near_0():
    """It is 2 sigmoid(2 x) - 1, of which near 0 only the rounding of 1 is left."""
    network = "1 -> Dense(1) -> Tanh, MeanSquaredError"
    assert root_of(example(TINY), network, [[0.5]], "float32") is None
    assert root_of(example(TINY), network, [[1e-3]], "float32") == ("outputs", "WRONG", "output 1")


MYGRAD = "with_mygrad.py:gradients"


@framework("mygrad")
def test_mygrads_elu_cancels_near_zero():
    """It computes alpha (exp(x) - 1) where expm1 keeps the digits."""
    network = "1 -> Dense(1) -> ELU, MeanSquaredError"
    assert root_of(example(MYGRAD), network, [[-1e-9]]) == ("outputs", "WRONG", "output 1")
    assert root_of(example(MYGRAD), network, [[1.5]]) is None


@framework("mygrad")
def test_mygrads_leaky_relu_has_no_gradient_at_0():
    """It adds maximum(x, 0) and slope minimum(x, 0), both of which have the derivative 0 at 0."""
    network = "1 -> Dense(1) -> LeakyReLU(slope=0.25), MeanSquaredError"
    assert root_of(example(MYGRAD), network, [[0.0]]) == ("deltas", "WRONG", "delta 0")
    assert root_of(example(MYGRAD), network, [[-1.0]]) is None


@framework("mygrad")
def test_mygrad_agrees_elsewhere():
    for activation in ("Tanh", "Sigmoid", "ReLU", "Softmax"):
        result = check(
            MYGRAD, max_examples=6, networks=[gc.parse(f"3 -> Dense(4) -> {activation} -> Dense(2), MeanSquaredError")]
        )
        assert result.passed, str(result)


def test_all_examples_are_tested():
    tested = Path(__file__).read_text("utf-8")
    assert all(path.name in tested for path in FOLDER.glob("*.py"))


def test_what_is_promised_is_installed():
    if PROMISED:
        missing = [name for name in PROMISED.split(",") if importlib.util.find_spec(name) is None]
        assert missing == []
        assert set(PROMISED.split(",")) == {"micrograd", "autograd", "mygrad", "sklearn", "tinygrad", "dask"}
