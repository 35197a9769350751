"""Forward and backward pairs of NumPy: planted faults are found and named, and correct ones left alone."""

from __future__ import annotations

import types
from typing import ClassVar

import numpy as np
import pytest

from gradconform.conformance.operation import PAIR, operation_of
from gradconform.conformance.operation_run import check_layer
from gradconform.errors import InvalidInput


def pair(forward, backward):
    return (forward, backward)


def square_pair(backward):
    return pair(lambda x: x * x, backward)


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, cotangent):
        return cotangent * (1 - self.y**2)


class Affine:
    def forward(self, x, weight, bias):
        return x @ weight + bias, (x, weight)

    def backward(self, cotangent, cache):
        x, weight = cache
        return cotangent @ weight.T, x.T @ cotangent, cotangent.sum(axis=0)


AFFINE = [(3, 4), (4, 5), (5,)]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation, (centred / deviation, deviation)


def layer_norm_backward(cotangent, cache):
    y, deviation = cache
    inner = cotangent - cotangent.mean(axis=-1, keepdims=True) - y * (cotangent * y).mean(axis=-1, keepdims=True)
    return inner / deviation


CORRECT = {
    "class": (Tanh, None),
    "object": (Tanh(), None),
    "with a cache": (Affine, AFFINE),
    "stateless": (pair(np.sin, lambda c, x: c * np.cos(x)), None),
    "relu": (pair(lambda x: np.maximum(x, 0), lambda c, x: c * (x > 0)), None),
    "relu with 1 at 0": (pair(lambda x: np.maximum(x, 0), lambda c, x: c * (x >= 0)), None),
    "abs": (pair(np.abs, lambda c, x: c * np.sign(x)), None),
    "softmax": (
        pair(softmax, lambda c, x: softmax(x) * (c - (c * softmax(x)).sum(axis=-1, keepdims=True))),
        None,
    ),
    "layer norm": (pair(layer_norm, layer_norm_backward), None),
    "sum": (pair(np.sum, lambda c, x: np.broadcast_to(c, x.shape)), None),
    "max": (pair(lambda x: x.max(axis=0), lambda c, x: c * (x == x.max(axis=0))), [(5, 3)]),
    "identity that returns its cotangent": (pair(lambda x: x.copy(), lambda c, x: c), None),
    "two inputs, one gradient object": (pair(lambda x, y: x + y, lambda c, x, y: (c, c)), None),
    "log": (pair(np.log, lambda c, x: c / x), None),
    "an index": (
        pair(lambda x, index: x[index], lambda c, x, index: (np.eye(len(x))[index].T @ c, None)),
        lambda generator: [generator.standard_normal((4, 3)), generator.integers(0, 4, 5)],
    ),
    "staircase": (pair(np.floor, lambda c, x: 0 * c), None),
    "steep": (pair(lambda x: np.sin(50 * x), lambda c, x: 50 * c * np.cos(50 * x)), None),
    "cancelling": (pair(lambda x: (x + 1e6) - 1e6, lambda c, x: c), None),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_pairs_pass(name):
    candidate, inputs = CORRECT[name]
    for seed in range(2):
        result = check_layer(candidate, inputs=inputs, seed=seed, max_examples=7)
        assert result.passed, str(result)
        assert result.exit_code == 0
        assert result.checks["gradient"].passed > 0


def test_a_module_is_a_pair():
    module = types.ModuleType("cube")
    module.forward = lambda x: x**3
    module.backward = lambda c, x: 3 * c * x**2
    assert check_layer(module).passed


class Keeps:
    """An error that shows only in other uses than one after the other."""

    cache = None

    def forward(self, x):
        Keeps.cache = x
        return np.sin(x)

    def backward(self, cotangent):
        return cotangent * np.cos(Keeps.cache)


class Adds:
    def __init__(self):
        self.total = 0.0

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, cotangent):
        gradient = 2 * cotangent * self.x
        same_shape = np.shape(self.total) == gradient.shape
        self.total = (self.total if same_shape else 0) + gradient
        return self.total


class OneBuffer:
    buffers: ClassVar[dict] = {}

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, cotangent):
        buffer = OneBuffer.buffers.setdefault(self.x.shape, np.empty(self.x.shape))
        np.multiply(2 * cotangent, self.x, out=buffer)
        return buffer


class Noisy:
    generator = np.random.default_rng(0)

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, cotangent):
        return 2 * cotangent * self.x * (1 + 1e-3 * Noisy.generator.standard_normal())


def in_place(c, x):
    c *= 2 * x
    return c


def normalising(x):
    x -= x.mean()
    return x * x


def wrong_at_zero(c, x):
    return np.where(x == 0, 0.0, c * np.exp(x))


FAULTS = {
    # name: (candidate, inputs, check, kind, words of the sentence or the probable cause)
    "factor": (square_pair(lambda c, x: c * x), None, "gradient", "WRONG", "1/2 in each"),
    "doubled": (square_pair(lambda c, x: 4 * c * x), None, "gradient", "WRONG", "is 2 in each"),
    "sign": (square_pair(lambda c, x: -2 * c * x), None, "gradient", "WRONG", "the sign is wrong"),
    "zero": (square_pair(lambda c, x: 0 * c), None, "gradient", "WRONG", "0 in every element"),
    "relative 1e-6": (square_pair(lambda c, x: 2 * c * x * (1 + 1e-6)), None, "gradient", "WRONG", "is wrong"),
    "relative 1e-11": (square_pair(lambda c, x: 2 * c * x * (1 + 1e-11)), None, "gradient", "WRONG", "is wrong"),
    "float32": (
        square_pair(lambda c, x: (2 * c * x).astype(np.float32).astype(float)),
        None,
        "returned",
        "DTYPE",
        "float32 on the way",
    ),
    "float32 result": (square_pair(lambda c, x: (2 * c * x).astype(np.float32)), None, "returned", "DTYPE", "float32"),
    "1 - y": (pair(np.tanh, lambda c, x: c * (1 - np.tanh(x))), None, "gradient", "WRONG", "1 - y stands where"),
    "derivative missing": (pair(np.tanh, lambda c, x: c), None, "gradient", "WRONG", "the derivative is missing"),
    "derivative at the output": (
        pair(np.tanh, lambda c, x: c * (1 - np.tanh(np.tanh(x)) ** 2)),
        None,
        "gradient",
        "WRONG",
        "taken at y, the output",
    ),
    "g*g": (square_pair(lambda c, x: 2 * c * c * x), None, "cotangent-sign", "WRONG", "squared, as in g * g"),
    "|g|": (square_pair(lambda c, x: 2 * np.abs(c) * x), None, "cotangent-sign", "WRONG", "absolute value"),
    "cotangent ignored": (square_pair(lambda c, x: 2 * x), None, "cotangent-zero", "WRONG", "is ignored"),
    "first row only": (
        square_pair(lambda c, x: 2 * x * c[:1]),
        [(3, 4)],
        "gradient",
        "WRONG",
        "only the first row",
    ),
    "decay added": (
        square_pair(lambda c, x: 2 * c * x + 0.01 * x),
        None,
        "cotangent-zero",
        "WRONG",
        "something is added",
    ),
    "clipped": (square_pair(lambda c, x: np.clip(2 * c * x, -5, 5)), None, "cotangent-scale", "WRONG", "clipped"),
    "transposed": (
        pair(lambda x, w: x @ w, lambda c, x, w: (c @ w.T, (x.T @ c).T)),
        [(4, 4), (4, 4)],
        "gradient",
        "WRONG",
        "transpose",
    ),
    "bias averaged": (
        pair(lambda x, b: x + b, lambda c, x, b: (c, c.mean(axis=0))),
        [(3, 4), (4,)],
        "gradient",
        "WRONG",
        "1/3: averaged over the",
    ),
    "bias not summed": (
        pair(lambda x, b: x + b, lambda c, x, b: (c, c)),
        [(3, 4), (4,)],
        "returned",
        "SHAPE",
        "has shape (3, 4), the input (4,)",
    ),
    "None": (pair(lambda x, w: x * w, lambda c, x, w: (c * w, None)), None, "gradient", "WRONG", "no gradient (None)"),
    "too few": (pair(lambda x, w: x * w, lambda c, x, w: (c * w,)), None, "call", "NAME", "1 gradients for 2 inputs"),
    "wrong at 0 alone": (pair(np.exp, wrong_at_zero), None, "gradient", "WRONG", "is wrong"),
    "raises": (square_pair(lambda c, x: c @ x @ x @ c), [(3, 4)], "call", "CRASHED", "backward raised ValueError"),
    "state on the class": (Keeps, None, "interleave", "STATEFUL", "another forward pass"),
    "adds up": (Adds(), None, "repeat", "STATEFUL", "differs in call"),
    "one buffer": (OneBuffer, None, "keep", "ALIASED", "overwritten by a later one"),
    "noisy": (Noisy, None, "repeat", "NONDETERMINISTIC", "differs in call"),
    "writes into its cotangent": (square_pair(in_place), None, "mutation", "MUTATED", "writes into cotangent 0"),
    "writes into its input": (
        pair(normalising, lambda c, x: 2 * c * (x - x.mean()) - np.mean(2 * c * (x - x.mean()))),
        None,
        "mutation",
        "MUTATED",
        "writes into x",
    ),
    "needs contiguous memory": (
        square_pair(lambda c, x: 2 * np.ndarray(c.shape, c.dtype, c.copy("K").ravel("K").tobytes()) * x),
        [(3, 4)],
        "cotangent-layout",
        "WRONG",
        "transposed memory",
    ),
    "input's memory order": (
        square_pair(lambda c, x: 2 * c * x.ravel("K").reshape(x.shape)),
        [(3, 4)],
        "input-layout",
        "WRONG",
        "transposed memory",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(name):
    candidate, inputs, check, kind, words = FAULTS[name]
    result = check_layer(candidate, inputs=inputs, seed=1, max_examples=4)
    assert result.exit_code == 1
    assert not result.passed
    found = [(finding.check, finding.kind) for finding in result.findings]
    assert (check, kind) in found, str(result)
    finding = result.findings[found.index((check, kind))]
    assert words in f"{finding.sentence} {finding.likely} {finding.detail}", str(result)
    assert len(result.findings) == 1, str(result)


def test_a_gradient_that_is_not_finite():
    def backward(c, x):
        e = np.exp(x)
        return c * e / (1 + e) ** 2

    inputs = [np.array([1.0, 800.0, -3.0])]
    result = check_layer(pair(lambda x: 0.5 * (1 + np.tanh(x / 2)), backward), inputs=inputs)
    (finding,) = result.findings
    assert (finding.check, finding.kind, finding.index) == ("finite", "NONFINITE", [1])
    assert finding.actual == "NaN"
    assert abs(finding.expected) < 1e-12


def test_where_the_forward_pass_is_not_finite_its_gradient_need_not_be():
    inputs = [np.array([1.0, 0.0, -3.0])]
    assert check_layer(pair(lambda x: 1 / x, lambda c, x: -c / x**2), inputs=inputs).passed


def test_one_wrong_element_of_many_is_found_by_its_place():
    def backward(c, x):
        gradient = 2 * c * x
        gradient[77_777] *= 0.5
        return gradient

    result = check_layer(square_pair(backward), inputs=[(100_000,)], max_examples=1)
    (finding,) = result.findings
    assert finding.index == [77_777]
    assert finding.actual == pytest.approx(0.5 * finding.expected, rel=1e-9)
    assert finding.sentence.startswith("the gradient of x is wrong at [77777]: ")
    assert finding.rest == "all 99,999 other elements together are right"


def test_size_hides_nothing():
    backward = square_pair(lambda c, x: -2 * c * x)
    result = check_layer(backward, inputs=[(200_000,)], max_examples=1, only=["gradient"])
    assert result.findings[0].check == "gradient"
    assert "others looked at" in result.findings[0].rest


def test_a_sum_over_many_elements():
    right = pair(lambda x: np.sum(x * x), lambda c, x: 2 * c * x)
    assert check_layer(right, inputs=[(100_000,)], max_examples=1).passed
    wrong = pair(lambda x: np.sum(x * x), lambda c, x: 2 * c * x * (np.arange(len(x)) != 5))
    (finding,) = check_layer(wrong, inputs=[(100_000,)], max_examples=1).findings
    assert (finding.check, finding.index) == ("gradient", [5])


class TestReference:
    def test_agreement_with_a_function_of_numpy(self):
        def silu(x):
            return x / (1 + np.exp(-x))

        right = pair(silu, lambda c, x: c * (1 + x * (1 - 1 / (1 + np.exp(-x)))) / (1 + np.exp(-x)))
        result = check_layer(right, reference=silu)
        assert result.passed, str(result)
        assert result.checks["value"].passed == 10

    def test_a_wrong_backward_pass_is_told_from_a_wrong_forward_pass(self):
        backward_wrong = check_layer(square_pair(lambda c, x: c * x), reference=lambda x: x**2)
        (finding,) = backward_wrong.findings
        assert finding.check == "gradient"
        assert finding.detail == "the forward pass agrees with the reference: the backward pass is wrong"

        forward_wrong = check_layer(pair(lambda x: 3 * x * x, lambda c, x: 2 * c * x), reference=lambda x: x**2)
        (finding,) = forward_wrong.findings
        assert (finding.check, finding.kind) == ("value", "WRONG")
        assert finding.detail == "the backward pass is right, for this forward pass or for the reference's"

        consistent = check_layer(pair(lambda x: 3 * x * x, lambda c, x: 6 * c * x), reference=lambda x: x**2)
        assert [finding.check for finding in consistent.findings] == ["value"]

        both = check_layer(pair(lambda x: 3 * x * x, lambda c, x: c * x), reference=lambda x: x**2)
        assert {finding.check for finding in both.findings} == {"value", "gradient"}

    def test_the_gradient_of_a_reference_pair_is_used(self):
        result = check_layer(square_pair(lambda c, x: c * x), reference=square_pair(lambda c, x: 2 * c * x))
        (finding,) = result.findings
        assert finding.basis.startswith("the gradient of ")
        assert finding.rest == "wrong in 12 of 12 elements"

    def test_other_shapes(self):
        result = check_layer(square_pair(lambda c, x: 2 * c * x), reference=lambda x: x.sum())
        assert ("value", "SHAPE") in {(finding.check, finding.kind) for finding in result.findings}


def test_every_input_has_its_own_verdict():
    wrong = pair(lambda x, w, b: x @ w + b, lambda c, x, w, b: (c @ w.T, 2 * x.T @ c, c.sum(axis=0)))
    (finding,) = check_layer(wrong, inputs=AFFINE).findings
    assert (finding.path, finding.right) == ("w", ["x", "b"])


def test_both_dtypes():
    result = check_layer(Tanh, dtypes=["float64", "float32"])
    assert result.passed
    assert result.dtypes == ["float64", "float32"]
    upcast = check_layer(square_pair(lambda c, x: c.astype(float) * x), dtypes="float32")
    assert upcast.findings[0].check == "gradient"


def test_nothing_compared_is_not_green():
    constant = pair(lambda x: np.sign(x - x) * np.nan, lambda c, x: 0 * x)
    with pytest.raises(InvalidInput, match="is not finite at numbers drawn for it"):
        check_layer(constant, inputs=[(3,)])
    random = pair(lambda x: x * np.random.default_rng().standard_normal(), lambda c, x: c)
    result = check_layer(random, inputs=[(3,)])
    assert (result.verdict, result.exit_code) == ("nothing compared", 5)
    assert result.unsupported == {
        "gradient": "the forward pass gives another output in every call: it is random, or keeps state"
    }


def test_random_numbers_are_fixed_and_restored():
    state = np.random.get_state()[1].copy()  # noqa: NPY002

    class Dropout:
        def forward(self, x):
            self.mask = np.random.random(x.shape) > 0.5  # noqa: NPY002
            return x * self.mask

        def backward(self, cotangent):
            return cotangent * self.mask

    assert check_layer(Dropout).passed
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (3, "is no function, and has no forward and backward"),
        (np.tanh, "without a backward pass: give FILE.py:FORWARD,BACKWARD, a class with both, or"),
        (
            pair(lambda x: (x, 1, 2), lambda c, x: c),
            "forward returned 3 values; expected the output, or (output, cache)",
        ),
    ],
)
def test_what_is_no_pair(candidate, words):
    with pytest.raises(InvalidInput) as caught:
        check_layer(candidate)
    assert words in str(caught.value)


def test_a_class_that_needs_arguments():
    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        def forward(self, x):
            return self.factor * x

        def backward(self, cotangent):
            return self.factor * cotangent

    with pytest.raises(InvalidInput, match="cannot be made without arguments, give an instance"):
        check_layer(Scaled)
    assert check_layer(Scaled(3.0)).passed


def test_an_operation_is_named_and_described():
    operation = operation_of(Affine)
    assert (operation.name, operation.kind, operation.arity) == ("Affine", PAIR, 3)
    assert operation.names == ("x", "weight", "bias")
