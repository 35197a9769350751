"""Backpropagation: the textbook's example by hand, and the chain rule by two other means."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradconform.case import Batch
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.strategies import LOSSES, networks
from gradconform.errors import Unsupported
from gradconform.layers import GELU, Dense, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network
from gradconform.notation import parse
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients

few = settings(deadline=None, derandomize=True, database=None, max_examples=40)
L = math.log(3)


@st.composite
def cases(draw, regimes=("ordinary", "large"), dtype=np.float64, **options):
    """Return a strategy of cases of small networks."""
    network = draw(networks(max_units=5, **options))
    plain = network.loss.labels != "classes" or getattr(network.loss, "ignore_index", None) is not None
    example = Example(
        network=network,
        rows=draw(st.sampled_from([1, 2, 3])),
        draws=(),
        labels="integer" if plain else draw(st.sampled_from(["integer", "one-hot", "soft"])),
        class_weights=isinstance(network.loss, SoftmaxCrossEntropy) and draw(st.booleans()),
        layout=draw(st.sampled_from(["C", "F", "strided", "reversed"])),
    )
    return example.case(Draw(draw(st.sampled_from(regimes)), draw(st.integers(0, 2**32 - 1))), dtype)


def run(case):
    return gradients(case.network, case.parameters, case.batch)


def leaves(found):
    yield "loss", found.loss
    yield "input", found.input
    for kind in ("parameters", "deltas", "outputs"):
        for key, array in getattr(found, kind).items():
            yield f"{kind}[{key}]", array


def scalar(loss, batch):
    """Return what is differentiated: the cost, or the unreduced losses weighted with their cotangent."""
    return loss if batch.cotangent is None else np.sum(loss * batch.cotangent)


def test_the_textbooks_network_step_by_step():
    """One training example through two sigmoid layers. With L = ln 3: sigma(L) = 3/4 and sigma(0) = 1/2."""
    network = Network(2, (Dense(2), Sigmoid(), Dense(1), Sigmoid()), MeanSquaredError())
    parameters = {
        "0.weight": np.array([[2 * L, L], [-L, 0]]),
        "0.bias": np.array([L, -L]),
        "2.weight": np.array([[4 * L], [-2 * L]]),
        "2.bias": np.array([-L]),
    }
    found = gradients(network, parameters, Batch(np.array([[1.0, 2.0]]), np.array([[0.25]])))
    expected = {
        # forward: z = (2L - 2L + L, L + 0 - L), a = sigma(z), z = 4L 3/4 - 2L 1/2 - L, a = sigma(L)
        "outputs[0]": [[L, 0]],
        "outputs[1]": [[3 / 4, 1 / 2]],
        "outputs[2]": [[L]],
        "outputs[3]": [[3 / 4]],
        # C = (3/4 - 1/4)^2
        "loss": 1 / 4,
        # dC/da = 2 (3/4 - 1/4); the output delta is sigma'(z) dC/da with sigma' = 3/4 1/4
        "deltas[3]": [[1]],
        "deltas[2]": [[3 / 16]],
        # dC/da = w delta; delta = sigma'(z) dC/da with sigma' = (3/16, 1/4)
        "deltas[1]": [[3 * L / 4, -3 * L / 8]],
        "deltas[0]": [[9 * L / 64, -3 * L / 32]],
        # dC/dw = dz/dw dC/dz = a delta, dC/db = delta
        "parameters[2.weight]": [[9 / 64], [3 / 32]],
        "parameters[2.bias]": [3 / 16],
        "parameters[0.weight]": [[9 * L / 64, -3 * L / 32], [9 * L / 32, -3 * L / 16]],
        "parameters[0.bias]": [9 * L / 64, -3 * L / 32],
        # dC/dx = w delta: 2L 9L/64 - L 3L/32, -L 9L/64
        "input": [[3 * L * L / 16, -9 * L * L / 64]],
    }
    actual = dict(leaves(found))
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert np.shape(actual[name]) == np.shape(value), name
        assert np.allclose(actual[name], value, rtol=2e-15, atol=2e-16), name


def complex_cost(case, path, index, h=1e-30):
    """Return the derivative of the cost by one element, from the same rules in complex arithmetic."""
    moved = {name: array.astype(complex) for name, array in case.parameters.items()} | {
        "input": case.batch.inputs.astype(complex)
    }
    moved[path][index] += 1j * h
    batch = replace(case.batch, inputs=moved.pop("input"))
    found = backpropagate(Plain(np.complex128), case.network, moved, batch)
    return scalar(found.loss, batch).imag / h


@settings(few, max_examples=100)
@given(cases())
def test_every_gradient_is_the_complex_step_of_the_cost(case):
    found = run(case)
    for path, gradient in {**found.parameters, "input": found.input}.items():
        stepped = np.array([complex_cost(case, path, index) for index in np.ndindex(gradient.shape)])
        scale = np.abs(gradient).max()
        assert np.abs(gradient.ravel() - stepped).max() <= 1e-12 * scale + 1e-250, (case.network, path)


@few
@given(cases())
def test_every_delta_is_the_gradient_at_the_layers_output(case):
    """Cut the network behind each layer: dC/dx of the upper part is the delta of the lower one."""
    found = run(case)
    for index in range(len(case.network.layers) - 1):
        shift = index + 1
        upper = Network(case.network.widths[shift], case.network.layers[shift:], case.network.loss)
        parameters = {
            f"{int(path.split('.')[0]) - shift}.{path.split('.')[1]}": array
            for path, array in case.parameters.items()
            if int(path.split(".")[0]) >= shift
        }
        part = gradients(upper, parameters, replace(case.batch, inputs=found.outputs[index]))
        assert np.array_equal(part.input, found.deltas[index])
        assert np.array_equal(part.loss, found.loss)


@few
@given(cases())
def test_the_last_delta_is_the_gradient_of_the_loss_alone(case):
    network, last = case.network, len(case.network.layers) - 1
    found, out = run(case), run(case).outputs[last]
    if network.loss.follows:  # on probabilities the loss is fused with the last layer; its own delta is 1 / p large
        return
    zero = Network(network.widths[-1], (Dense(network.widths[-1]),), network.loss)
    identity = {"0.weight": np.eye(network.widths[-1]), "0.bias": np.zeros(network.widths[-1])}
    alone = gradients(zero, identity, replace(case.batch, inputs=out))
    assert np.array_equal(alone.input, found.deltas[last])


SMOOTH = [
    "3 -> Dense(4) -> Tanh -> Dense(2), MeanSquaredError",
    "3 -> Dense(4) -> Sigmoid -> Dense(3), SoftmaxCrossEntropy(label_smoothing=0.1)",
    "2 -> Dense(3) -> SiLU -> Dense(3) -> Softmax, CrossEntropy(reduction=sum)",
    "2 -> Dense(5, bias=False) -> GELU -> Dense(2) -> Sigmoid, BinaryCrossEntropy",
    "2 -> Dense(3) -> GELU(approximate=tanh) -> Dense(2), SigmoidCrossEntropy(reduction=sum)",
    "3 -> Dense(4) -> Softplus -> Dense(2) -> Softmax -> Dense(2), MeanSquaredError",
]


@pytest.mark.parametrize("notation", SMOOTH)
def test_finite_differences_with_their_own_error(notation):
    """Richardson's extrapolation of central differences; how far two of them differ says how good they are."""
    network = parse(notation)
    case = Example(network, rows=3, draws=()).case(Draw("ordinary", 5), np.float64)
    found = run(case)
    values = {**case.parameters, "input": case.batch.inputs}

    def cost(path, index, step):
        array = values[path].copy()
        array[index] += step
        moved = values | {path: array}
        batch = replace(case.batch, inputs=moved.pop("input"))
        return gradients(network, moved, batch).loss, array[index] - values[path][index]

    for path, gradient in {**found.parameters, "input": found.input}.items():
        scale = np.abs(gradient).max()
        for index in np.ndindex(gradient.shape):
            central = []
            for step in (4e-3, 2e-3, 1e-3):
                (up, above), (down, below) = cost(path, index, step), cost(path, index, -step)
                central.append((up - down) / (above - below))
            once = [(4 * central[1] - central[0]) / 3, (4 * central[2] - central[1]) / 3]
            twice = (16 * once[1] - once[0]) / 15
            truncation, rounding = abs(once[1] - once[0]), 32 * np.finfo(float).eps * abs(found.loss) / 1e-3
            assert abs(gradient[index] - twice) <= truncation + rounding
            assert truncation + rounding < 1e-7 * scale + 1e-10  # an estimate that says nothing would pass everything


@few
@given(cases())
def test_a_batchs_gradient_is_the_sum_over_its_single_examples(case):
    network, batch = case.network, case.batch
    if network.loss.reduction == "mean":
        network = Network(network.inputs, network.layers, msgspec.structs.replace(network.loss, reduction="sum"))
    whole = gradients(network, case.parameters, batch)
    single = [gradients(network, case.parameters, batch.take(slice(i, i + 1))) for i in range(batch.rows)]
    for path, gradient in whole.parameters.items():
        terms = np.array([one.parameters[path] for one in single])
        close = 1e-13 * (np.abs(terms).sum(axis=0) + np.abs(terms).max())
        assert (np.abs(gradient - terms.sum(axis=0)) <= close).all()
    for kind in ("deltas", "outputs"):
        for index, array in getattr(whole, kind).items():
            rows = np.concatenate([getattr(one, kind)[index] for one in single])
            assert np.allclose(array, rows, rtol=1e-11, atol=1e-13 * np.abs(rows).max(initial=0), equal_nan=True)


@few
@given(cases())
def test_every_layer_has_a_delta_and_an_output_of_its_own(case):
    found, network, rows = run(case), case.network, case.batch.rows
    assert {path: array.shape for path, array in found.parameters.items()} == network.parameters()
    assert list(found.parameters) == list(network.parameters())
    shapes = {index: (rows, width) for index, width in enumerate(network.widths[1:])}
    assert {index: array.shape for index, array in found.deltas.items()} == shapes
    assert {index: array.shape for index, array in found.outputs.items()} == shapes
    assert found.input.shape == case.batch.inputs.shape
    assert np.shape(found.loss) == network.loss.shape(rows, network.widths[-1])


@pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)
def test_the_type_that_goes_in_comes_out(kind):
    @settings(few, max_examples=15)
    @given(cases(losses=LOSSES[kind]), st.sampled_from([np.float32, np.float64, np.longdouble]))
    def check(case, dtype):
        def cast(array):
            return None if array is None else array if array.dtype.kind == "i" else array.astype(dtype)

        batch = Batch(*(cast(getattr(case.batch, name)) for name in case.batch.__dataclass_fields__))
        found = gradients(case.network, {path: cast(array) for path, array in case.parameters.items()}, batch)
        assert {name: array.dtype for name, array in leaves(found)} == {
            name: np.dtype(dtype) for name, _ in leaves(found)
        }

    check()


@few
@given(cases())
def test_inputs_are_neither_changed_nor_handed_back(case):
    given_arrays = [*case.parameters.values(), *(a for a in vars(case.batch).values() if isinstance(a, np.ndarray))]
    before = [array.copy() for array in given_arrays]
    assert not any(array.flags.writeable for array in given_arrays)  # a write would raise
    first, second = run(case), run(case)
    assert all(np.array_equal(array, copy) for array, copy in zip(given_arrays, before, strict=True))
    for (name, array), (_, again) in zip(leaves(first), leaves(second), strict=True):
        assert np.array_equal(array, again, equal_nan=True), name
        assert not any(np.shares_memory(array, given) for given in given_arrays), name
        assert not (np.ndim(array) and np.shares_memory(array, again)), name


def test_memory_order_changes_no_more_than_the_last_digits():
    network = parse("4 -> Dense(5) -> Tanh -> Dense(3), SoftmaxCrossEntropy")
    found = [
        run(Example(network, 3, (), layout=layout).case(Draw("ordinary", 1), np.float64))
        for layout in ("C", "F", "strided", "reversed")
    ]
    for path, expected in found[0].parameters.items():
        assert all(np.allclose(other.parameters[path], expected, rtol=1e-12, atol=1e-15) for other in found)


def one_unit(z, loss, y, last):
    """Return the gradients of one layer with weight 1 and input z."""
    parameters = {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1)}
    return gradients(Network(1, (Dense(1), last), loss), parameters, Batch(np.array([[z]]), np.array([[y]])))


@pytest.mark.parametrize(
    ("z", "y", "loss", "delta"),
    # dC/dz = sigma(z) - y: right and saturated costs nothing, wrong and saturated costs |z|
    [(800.0, 0.0, 800, 1), (800.0, 1.0, 0, 0), (-800.0, 1.0, 800, -1), (-800.0, 0.0, 0, 0), (800.0, 0.5, 400, 0.5)],
)
def test_a_saturated_sigmoid_before_its_cross_entropy(z, y, loss, delta):
    found = one_unit(z, BinaryCrossEntropy(), y, Sigmoid())
    assert found.loss == loss
    assert found.deltas[0].tolist() == [[delta]]
    assert found.parameters["0.weight"].tolist() == [[delta * z]]
    assert found.parameters["0.bias"].tolist() == [delta]


def test_a_softmax_gap_of_2000_before_its_cross_entropy():
    network = Network(1, (Dense(2), Softmax()), CrossEntropy())
    parameters = {"0.weight": np.array([[1000.0, -1000]]), "0.bias": np.zeros(2)}
    found = gradients(network, parameters, Batch(np.array([[1.0], [1.0]]), np.array([1, 0])))
    # p = (1, 0): the first row is wrong and costs 2000, the second costs nothing; the mean halves both
    assert found.loss == 1000
    assert found.deltas[0].tolist() == [[0.5, -0.5], [0, 0]]
    assert found.parameters["0.weight"].tolist() == [[0.5, -0.5]]
    assert found.input.tolist() == [[1000], [0]]


@pytest.mark.parametrize(("last", "loss"), [(Softmax(), CrossEntropy()), (Sigmoid(), BinaryCrossEntropy())], ids=str)
def test_fused_or_one_after_the_other(last, loss):
    """Where nothing saturates, the loss on probabilities and its layer give what they give as one."""

    class Unfused(Plain):
        fuses = False

    network = Network(3, (Dense(4), Tanh(), Dense(3), last), loss)
    case = Example(network, 3, ()).case(Draw("ordinary", 3), np.float64)
    apart = backpropagate(Unfused(np.float64), network, case.parameters, case.batch)
    for (name, array), (_, expected) in zip(leaves(apart), leaves(run(case)), strict=True):
        assert np.allclose(array, expected, rtol=1e-13, atol=1e-15), name


def test_a_loss_on_logits_equals_its_layer_and_the_loss_on_probabilities():
    shared = (Dense(4), Tanh(), Dense(3))
    pairs = [
        (SoftmaxCrossEntropy(), Softmax(), CrossEntropy()),
        (SigmoidCrossEntropy(), Sigmoid(), BinaryCrossEntropy()),
    ]
    for on_logits, last, on_probabilities in pairs:
        case = Example(Network(2, shared, on_logits), 3, ()).case(Draw("saturated", 4), np.float64)
        logits = run(case)
        fused = gradients(Network(2, (*shared, last), on_probabilities), case.parameters, case.batch)
        assert logits.loss == fused.loss
        assert all(np.array_equal(logits.parameters[path], fused.parameters[path]) for path in logits.parameters)


@pytest.mark.parametrize("kind", [ReLU, Tanh, SiLU, Softplus, GELU], ids=lambda kind: kind.__name__)
def test_a_network_without_parameters(kind):
    found = gradients(Network(2, (kind(),), MeanSquaredError()), {}, Batch(np.array([[1.0, -2]]), np.array([[0.0, 0]])))
    assert found.parameters == {}
    assert found.input.shape == (1, 2)


def test_a_missing_rule_is_named():
    class Maxout(Record, frozen=True):
        pass

    network = Network(1, (Dense(1),), MeanSquaredError())
    msgspec.structs.force_setattr(network, "layers", (Dense(1), Maxout()))
    parameters = {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1)}
    with pytest.raises(Unsupported) as error:
        gradients(network, parameters, Batch(np.ones((1, 1)), np.ones((1, 1))))
    assert str(error.value) == "reference: no rule for Maxout"


def test_other_rules_may_be_handed_in():
    network = Network(1, (Dense(1),), MeanSquaredError())
    parameters = {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1)}

    def rule(layer, k, x, own):
        return 7 * x, lambda delta: (5 * delta, {name: array * 0 for name, array in own.items()})

    def end(loss, k, z, batch):
        return z.sum(), z

    batch = Batch(np.ones((1, 1)), np.ones((1, 1)))
    found = backpropagate(Plain(np.float64), network, parameters, batch, rule=rule, end=end)
    assert (found.loss, found.input.item(), found.parameters["0.weight"].item()) == (7, 35, 0)
