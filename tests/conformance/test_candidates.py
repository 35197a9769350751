"""Every form in which a candidate may come: classes, forward and backward apart, one step of descent, modules."""

from __future__ import annotations

import types
from dataclasses import replace

import numpy as np
import pytest

import gradconform as gc
from gradconform import InvalidInput, parse
from gradconform.case import Batch, Gradients
from gradconform.conformance import candidates
from gradconform.conformance.candidates import allowing, from_update
from gradconform.conformance.engine import run
from gradconform.conformance.implementations import of
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.reference.backpropagation import gradients as right
from gradconform.reference.bounds import expected

SMALL = "* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError"


def checked(candidate, networks=SMALL, max_examples=16):
    chosen = network_strategy(networks)
    return run(Plan([of(candidate)], max_examples, seed=3, networks=chosen, witnesses=False, shrink_seconds=0))


class Built:
    """Counts how often it is built, and for what."""

    built = ()

    def gradients(self, network, parameters, batch):
        return right(network, parameters, batch).parameters


def test_a_class_is_built_once_and_called_many_times():
    class Once(Built):
        def __init__(self):
            Once.built += (None,)

    assert checked(Once).passed
    assert Once.built == (None,)


@pytest.mark.parametrize("optional", [True, False])
def test_a_class_that_takes_the_network_is_built_once_for_each(optional):
    class ForEach(Built):
        def __init__(self, network):
            ForEach.built += (network,)
            self.network = network

        def gradients(self, network, parameters, batch):
            assert network == self.network
            return super().gradients(network, parameters, batch)

    class Optional(ForEach):
        def __init__(self, network=None):
            super().__init__(network)

    result = checked(Optional if optional else ForEach)
    assert result.passed
    assert len(set(ForEach.built)) == len(ForEach.built) > 1


def test_a_class_is_not_built_before_it_is_called():
    class Breaking:
        def __init__(self):
            raise RuntimeError("no")

        def gradients(self, network, parameters, batch):
            return {}

    implementation = of(Breaking)
    with pytest.raises(RuntimeError, match="no"):
        implementation.gradients(parse("1 -> Dense(1), Huber"), {}, None)


def test_state_that_is_kept_is_a_finding():
    class Accumulating(Built):
        def __init__(self, network):
            self.total = dict.fromkeys(network.parameters(), 0)

        def gradients(self, network, parameters, batch):
            found = super().gradients(network, parameters, batch)
            self.total = {path: self.total[path] + array for path, array in found.items()}
            return self.total

    assert checked(Accumulating).verdict == "failed"


class Layered:
    """Forward and then backward, as two calls."""

    shows = "outputs"

    def forward(self, network, parameters, batch):
        self.found = right(network, parameters, batch)
        outputs = self.found.outputs
        return {"outputs": outputs, "last": outputs[len(network.layers) - 1], "loss": self.found.loss}.get(self.shows)

    def backward(self, network, parameters, batch):
        return self.found.parameters


@pytest.mark.parametrize(
    ("shows", "compared"), [("outputs", {"outputs"}), ("last", {"outputs"}), ("loss", {"loss"}), ("nothing", set())]
)
def test_forward_and_backward_are_separate_calls(shows, compared):
    class Shown(Layered):
        pass

    Shown.shows = shows
    for candidate in (Shown, Shown()):
        result = checked(candidate)
        assert result.passed, str(result)
        assert set(result.implementations[0].checks) & {"outputs", "loss"} == compared


def test_a_wrong_output_that_forward_shows_is_a_finding():
    class Off(Layered):
        def forward(self, network, parameters, batch):
            shown = super().forward(network, parameters, batch)
            return {index: 1.01 * array for index, array in shown.items()}

    assert [finding.check for finding in checked(Off).findings][:1] == ["outputs"]


def test_what_backward_returns_comes_before_what_forward_showed():
    class Both(Layered):
        def backward(self, network, parameters, batch):
            return replace(self.found, outputs={})

        def forward(self, network, parameters, batch):
            super().forward(network, parameters, batch)
            return np.float64(7)

    result = checked(Both)
    assert result.passed, str(result)
    assert {"loss", "input", "deltas"} <= set(result.implementations[0].checks)


def test_nonsense_from_backward_is_passed_on():
    class Nonsense(Layered):
        def backward(self, network, parameters, batch):
            return 3

    assert checked(Nonsense).verdict == "failed"


class Strange:
    def __init__(self, units, rate):
        pass

    def gradients(self, network, parameters, batch):
        return {}


class Empty:
    def forward(self, network, parameters, batch):
        return {}


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (Strange, "target 'Strange': the class is built with units, rate; expected nothing or the network"),
        (Empty, "target 'Empty': the class has no method gradients(network, parameters, batch), nor forward and"),
        (Empty(), "target 'Empty': expected a function gradients(network, parameters, batch)"),
        (dict, "target 'dict': the class has no method gradients"),
    ],
)
def test_a_class_that_cannot_be_used(candidate, message):
    with pytest.raises(InvalidInput) as caught:
        of(candidate)
    assert str(caught.value).startswith(message)


def test_a_class_that_is_called_like_a_function():
    class Callable(Built):
        def __call__(self, network, parameters, batch):
            return right(network, parameters, batch).parameters

        gradients = None

    assert checked(Callable).passed


# declarations


def test_declarations_of_an_object_are_its_words_and_not_its_other_attributes():
    class Mine(Built):
        dtypes = ("float32",)
        layers = (object(), object())
        bias = np.ones(3)

        def __init__(self):
            self.labels = "soft"
            self.samples = 12

    declared = of(Mine()).capabilities
    assert (declared.dtypes, declared.layers, declared.bias) == (("float32",), None, None)
    assert (declared.labels, declared.samples) == (("soft",), "batch")


def test_declarations_of_a_function_are_what_they_are():
    def mine(network, parameters, batch):
        return {}

    mine.layers = (object(),)
    with pytest.raises(InvalidInput, match="target 'mine': layers declares <object"):
        of(mine)
    mine.layers = (gc.Tanh, "ReLU")
    mine.conventions = "half"
    assert of(mine).capabilities == gc.Capabilities(layers=("Tanh", "ReLU"), conventions=("half",))


@pytest.mark.parametrize("declared", [gc.Capabilities(bias=True), {"bias": True}])
def test_a_record_declares_all_at_once(declared):
    def mine(network, parameters, batch):
        return {}

    mine.capabilities = declared
    assert of(mine).capabilities == gc.Capabilities(bias=True)


def test_a_class_declares_by_the_decorator():
    @gc.supports(bias=False)
    class Mine(Built):
        pass

    assert of(Mine).capabilities == of(Mine()).capabilities == gc.Capabilities(bias=False)


def test_a_module_is_a_candidate_with_what_it_declares():
    module = types.ModuleType("my_adapter")
    module.gradients = lambda *arguments: right(*arguments).parameters
    module.dtypes, module.layers, module.networks = ("float64", "float32"), types.ModuleType("layers"), SMALL
    implementation = of(module)
    assert implementation.name == "my_adapter"
    assert implementation.capabilities == gc.Capabilities(dtypes=("float64", "float32"), networks=(SMALL,))
    module.gradients.dtypes = "float32"
    assert of(module).capabilities == gc.Capabilities(dtypes=("float32",), networks=(SMALL,))
    assert checked(module, None).networks == 16


# one step of gradient descent


def step(network, parameters, batch, learning_rate):
    found = right(network, parameters, batch).parameters
    return {path: array - learning_rate * found[path] for path, array in parameters.items()}


@pytest.mark.parametrize("rate", [2.0**20, 2**20, 1.0, 2.0**-10, 2.0**-30])
def test_a_step_of_descent_passes_at_any_learning_rate(rate):
    result = checked(from_update(step, learning_rate=rate))
    assert result.passed, str(result)


def test_a_step_of_descent_passes_in_float32_and_on_every_network():
    mine = gc.supports(dtypes=("float64", "float32"), reductions=("mean", "sum", "none"))(step)
    candidate = from_update(mine)
    assert candidate.capabilities == mine.capabilities
    result = checked(candidate, None, 40)
    assert result.passed, str(result)
    del step.capabilities


def test_a_large_learning_rate_is_sharp():
    """An error of 1e-11 of the gradient."""

    def wrong(network, parameters, batch, learning_rate):
        return step(network, parameters, batch, learning_rate * (1 + 1e-11))

    assert checked(from_update(wrong)).verdict == "failed"


def test_a_step_in_the_wrong_direction_is_a_finding():
    def ascent(network, parameters, batch, learning_rate):
        return step(network, parameters, batch, -learning_rate)

    assert checked(from_update(ascent)).verdict == "failed"


@pytest.mark.parametrize("rate", [0.1, 0.0, -2.0, float("inf"), float("nan"), "1", None])
def test_the_learning_rate_is_a_power_of_two(rate):
    with pytest.raises(InvalidInput, match=r"learning_rate: expected a power of two, such as 2\.0\*\*20, got"):
        from_update(step, learning_rate=rate)


def test_what_a_step_returns_of_another_shape_or_name_is_passed_on():
    network = parse("2 -> Dense(1), MeanSquaredError")
    parameters = {"0.weight": np.ones((2, 1)), "0.bias": np.ones(1)}
    batch = Batch(np.ones((1, 2)), np.ones((1, 1)))

    def given(result):
        return from_update(lambda *_: result)(network, parameters, batch)

    assert given(None) is None
    found = given({"0.weight": [1, 2, 3], "x": "text", "0.bias": None})
    assert (found.parameters, found.slack) == ({"0.weight": [1, 2, 3], "x": "text", "0.bias": None}, {})


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_slack_covers_what_the_subtraction_loses_and_little_more(dtype):
    rng = np.random.default_rng(0)
    before = rng.normal(size=2000).astype(dtype)
    exact = (rng.normal(size=2000) * 10.0 ** rng.integers(-6, 3, 2000)).astype(dtype)
    for rate in (2.0**20, 1.0, 2.0**-8):
        after = (before - dtype(rate) * exact).astype(dtype)
        found, slack = candidates._difference(before, after, rate)
        error = np.abs(found.astype(np.longdouble) - exact)
        assert found.dtype == dtype
        assert np.all(error <= slack)
        assert np.max(error / slack) > 0.3


def test_bounds_are_widened_by_the_slack_alone():
    network = parse("2 -> Dense(1), MeanSquaredError")
    parameters = {"0.weight": np.ones((2, 1)), "0.bias": np.ones(1)}
    bounded = expected(network, parameters, Batch(np.ones((1, 2)), np.zeros((1, 1)))).gradients
    assert allowing(bounded, Gradients({})) is bounded
    wider = allowing(bounded, Gradients({}, slack={"0.weight": np.array([[1.0], [0.0]]), "0.bias": np.ones(7)}))
    difference = wider.parameters["0.weight"].error - bounded.parameters["0.weight"].error
    assert difference == pytest.approx(np.array([[1.0], [0.0]]))
    assert wider.parameters["0.bias"] is bounded.parameters["0.bias"]
