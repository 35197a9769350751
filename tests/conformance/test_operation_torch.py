"""Functions and modules of PyTorch: planted faults are found and named, and correct ones left alone."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.conformance.operation import FUNCTION, MODULE, PLAIN_TORCH, kind_of, operation_of
from gradconform.conformance.operation_run import check_layer
from gradconform.errors import InvalidInput

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def function(torch, forward, backward, name="Mine"):
    """Return a torch.autograd.Function of two passes; `forward(ctx, ...)`, `backward(ctx, cotangent)`."""
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(name, (torch.autograd.Function,), methods)


def save(ctx, *tensors):
    ctx.save_for_backward(*tensors)


def tanh_forward(torch):
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    return forward


def product(ctx, x, w):
    ctx.save_for_backward(x, w)
    return x * w


def product_backward(ctx, c):
    x, w = ctx.saved_tensors
    return c * w, c * x


def only_what_is_needed(ctx, c):
    x, w = ctx.saved_tensors
    return c * w if ctx.needs_input_grad[0] else None, c * x if ctx.needs_input_grad[1] else None


def saves_what_is_needed(ctx, x, w):
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w if ctx.needs_input_grad[0] else None)
    return x * w


def correct(torch):
    """Return correct candidates by name."""
    F = torch.nn.functional

    class SetupContext(torch.autograd.Function):
        @staticmethod
        def forward(x, w):
            return x * w

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        backward = staticmethod(product_backward)

        @staticmethod
        def jvp(ctx, dx, dw):
            x, w = ctx.saved_tensors
            return dx * w + x * dw

    class InPlace(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x > 0)
            ctx.mark_dirty(x)
            return x.clamp_(min=0)

        @staticmethod
        def backward(ctx, c):
            return c * ctx.saved_tensors[0]

    class WithMask(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            mask = (x > 0).to(x.dtype)
            ctx.save_for_backward(mask)
            ctx.mark_non_differentiable(mask)
            return x * mask, mask

        @staticmethod
        def backward(ctx, c, _):
            return c * ctx.saved_tensors[0]

    once = torch.autograd.function.once_differentiable
    return {
        "tanh": function(torch, tanh_forward(torch), lambda ctx, c: c * (1 - ctx.saved_tensors[0] ** 2)),
        "product": function(torch, product, product_backward),
        "what is needed alone": function(torch, saves_what_is_needed, only_what_is_needed),
        "once differentiable": function(torch, product, once(product_backward)),
        "setup_context and jvp": SetupContext,
        "in place, and says so": InPlace,
        "an output without a gradient": WithMask,
        "a function": lambda x, w: torch.tanh(x @ w),
        "two outputs": lambda x: (x.sin(), x.cos().sum()),
        "dropout": lambda x: F.dropout(x, 0.5),
        "Linear": torch.nn.Linear(4, 5),
        "LayerNorm": torch.nn.LayerNorm(4),
        "BatchNorm1d": torch.nn.BatchNorm1d(4),
        "BatchNorm1d in evaluation": torch.nn.BatchNorm1d(4).eval(),
        "Dropout": torch.nn.Dropout(0.5),
        "inplace ReLU": torch.nn.ReLU(inplace=True),
        "Embedding-like": lambda weight, index: F.embedding(index, weight),
    }


INPUTS = {
    "a function": [(3, 4), (4, 2)],
    "Embedding-like": lambda generator: [generator.standard_normal((5, 3)), generator.integers(0, 5, (2, 4))],
}
CORRECT = (
    "tanh",
    "product",
    "what is needed alone",
    "once differentiable",
    "setup_context and jvp",
    "in place, and says so",
    "an output without a gradient",
    "a function",
    "two outputs",
    "dropout",
    "Linear",
    "LayerNorm",
    "BatchNorm1d",
    "BatchNorm1d in evaluation",
    "Dropout",
    "inplace ReLU",
    "Embedding-like",
)


@pytest.mark.parametrize("name", CORRECT)
def test_correct_candidates_pass(torch, name):
    result = check_layer(correct(torch)[name], inputs=INPUTS.get(name), max_examples=4)
    assert result.passed, str(result)
    assert result.checks["gradient"].passed > 0


def test_what_does_not_exist_is_counted_and_no_failure(torch):
    candidates = correct(torch)
    once = check_layer(candidates["once differentiable"], max_examples=2)
    assert once.checks["second-order"].unsupported == 2
    assert "once_differentiable" in once.unsupported["second-order"]
    assert once.checks["forward-mode"].unsupported == 2
    both = check_layer(candidates["setup_context and jvp"], max_examples=2)
    assert both.checks["forward-mode"].passed == 4
    assert both.checks["second-order"].passed > 0
    dropout = check_layer(candidates["dropout"], max_examples=2)
    assert dropout.notes == ["draws random numbers: every call saw the same ones"]
    assert dropout.checks["input-layout"].unsupported == 2
    in_place = check_layer(candidates["in place, and says so"], max_examples=1)
    assert in_place.notes == ["writes into its input by design, as its graph knows"]


def faults(torch):
    """Return name: (candidate, inputs, check, kind, words of the sentence or the probable cause)."""

    def square(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def both(backward):
        return function(torch, square, backward)

    def x(ctx):
        return ctx.saved_tensors[0]

    def writes(ctx, c):
        return c.mul_(2 * x(ctx))

    def writes_input(ctx, given):
        given.data.mul_(2)
        ctx.save_for_backward(given)
        return given * given

    class OnTheClass(torch.autograd.Function):
        @staticmethod
        def forward(ctx, given):
            OnTheClass.saved = given.detach().clone()
            return given * given

        @staticmethod
        def backward(ctx, c):
            return 2 * c * OnTheClass.saved

    def second_order_lost(ctx, given):
        ctx.y = torch.tanh(given).detach()  # no graph leads through it
        return torch.tanh(given)

    def wrong_subset(ctx, c):
        given, w = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return 2 * c * w, None
        return c * w, c * given

    def crashes_alone(ctx, c):
        given, w = ctx.saved_tensors
        if ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]:
            raise RuntimeError("w has no buffer")
        return c * w, c * given

    buffers = {}

    def buffered(ctx, c):
        found = buffers.setdefault(c.shape, torch.empty_like(c))
        return torch.mul(2 * c, x(ctx), out=found)

    class Detached(torch.nn.Linear):
        def forward(self, given):
            return given @ self.weight.T.detach() + self.bias

    return {
        "1 - y": (
            function(torch, tanh_forward(torch), lambda ctx, c: c * (1 - ctx.saved_tensors[0])),
            None,
            ("gradient", "WRONG", "1 - y stands where 1 - y**2 belongs"),
        ),
        "g*g": (both(lambda ctx, c: 2 * c * c * x(ctx)), None, ("cotangent-sign", "WRONG", "squared, as in g * g")),
        "|g|": (both(lambda ctx, c: 2 * c.abs() * x(ctx)), None, ("cotangent-sign", "WRONG", "absolute value")),
        "ignored": (both(lambda ctx, c: 2 * x(ctx)), None, ("cotangent-zero", "WRONG", "is ignored")),
        "first row": (
            both(lambda ctx, c: 2 * c[:1] * x(ctx)),
            [(3, 4)],
            ("gradient", "WRONG", "only the first row"),
        ),
        "float32": (both(lambda ctx, c: (2 * c * x(ctx)).float()), None, ("returned", "DTYPE", "is float32")),
        "one gradient": (
            function(torch, product, lambda ctx, c: c * ctx.saved_tensors[1]),
            None,
            ("call", "NAME", "incorrect number of gradients"),
        ),
        "another shape": (
            both(lambda ctx, c: (2 * c * x(ctx))[:2]),
            [(3, 4)],
            ("call", "SHAPE", "invalid gradient at index 0"),
        ),
        "None": (
            function(torch, product, lambda ctx, c: (c * ctx.saved_tensors[1], None)),
            None,
            ("gradient", "WRONG", "w gets no gradient (None)"),
        ),
        "swapped": (
            function(torch, product, lambda ctx, c: (c * ctx.saved_tensors[0], c * ctx.saved_tensors[1])),
            None,
            ("gradient", "WRONG", "is wrong"),
        ),
        "memory order": (
            both(lambda ctx, c: 2 * c * x(ctx).as_strided(x(ctx).shape, (x(ctx).shape[1], 1))),
            [(3, 4)],
            ("input-layout", "WRONG", "transposed memory"),
        ),
        "cotangent's memory order": (
            both(lambda ctx, c: 2 * c.as_strided(c.shape, (c.shape[1], 1)) * x(ctx)),
            [(3, 4)],
            ("cotangent-layout", None, ""),
        ),
        "a subset": (
            function(torch, product, wrong_subset),
            None,
            ("needs-input-grad", "WRONG", "differs where x alone needs a gradient"),
        ),
        "crashes for a subset": (
            function(torch, product, crashes_alone),
            None,
            ("needs-input-grad", "CRASHED", "w has no buffer"),
        ),
        "writes into its cotangent": (both(writes), None, ("mutation", "MUTATED", "writes into cotangent 0")),
        "writes into its input": (
            function(torch, writes_input, lambda ctx, c: 4 * c * x(ctx)),
            None,
            ("mutation", "MUTATED", "writes into given"),
        ),
        "state on the class": (OnTheClass, None, ("interleave", "STATEFUL", "another forward pass")),
        "one buffer": (both(buffered), None, ("keep", "ALIASED", "overwritten by a later one")),
        "second order lost": (
            function(torch, second_order_lost, lambda ctx, c: c * (1 - ctx.y**2)),
            None,
            ("second-order", "WRONG", "the second derivative"),
        ),
        "a parameter is cut off": (
            Detached(4, 5),
            None,
            ("gradient", "WRONG", "weight gets no gradient (None)"),
        ),
        "raises": (both(lambda ctx, c: c @ c @ c), [(3, 4)], ("call", "CRASHED", "backward raised RuntimeError")),
    }


FAULTS = (
    "1 - y",
    "g*g",
    "|g|",
    "ignored",
    "first row",
    "float32",
    "one gradient",
    "another shape",
    "None",
    "swapped",
    "memory order",
    "cotangent's memory order",
    "a subset",
    "crashes for a subset",
    "writes into its cotangent",
    "writes into its input",
    "state on the class",
    "one buffer",
    "second order lost",
    "a parameter is cut off",
    "raises",
)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(torch, name):
    candidate, inputs, (check, kind, words) = faults(torch)[name]
    result = check_layer(candidate, inputs=inputs, seed=1, max_examples=4)
    assert result.exit_code == 1
    found = [finding.check for finding in result.findings]
    assert check in found, str(result)
    finding = result.findings[found.index(check)]
    assert kind in {None, finding.kind}
    assert words in f"{finding.sentence} {finding.likely}", str(result)
    assert len(result.findings) == 1, str(result)


def test_all_zero_and_one_wrong_element_of_a_hundred_thousand(torch):
    def square(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def one_wrong(ctx, c):
        gradient = 2 * c * ctx.saved_tensors[0]
        gradient[4_321] += 1.0
        return gradient

    zero = function(torch, square, lambda ctx, c: 0 * c)
    result = check_layer(zero, inputs=[(100_000,)], max_examples=1, only=["gradient"])
    assert result.findings[0].actual == 0.0
    one = function(torch, square, one_wrong)
    result = check_layer(one, inputs=[(100_000,)], max_examples=1, only=["gradient"])
    (finding,) = result.findings
    assert finding.index == [4_321]
    assert finding.actual - finding.expected == pytest.approx(1.0, abs=1e-9)


def test_a_sum_that_hides_its_cotangent_needs_no_contiguous_one(torch):
    candidate = function(
        torch, lambda ctx, x: (save(ctx, x), x.sum())[1], lambda ctx, c: c.expand(ctx.saved_tensors[0].shape)
    )
    assert check_layer(candidate, max_examples=3).passed


class TestReference:
    def test_own_gradient(self, torch):
        wrong = function(torch, tanh_forward(torch), lambda ctx, c: c * (1 - ctx.saved_tensors[0]))
        result = check_layer(wrong, reference=torch.tanh, max_examples=2)
        (finding,) = result.findings
        assert finding.basis == "the gradient of tanh"
        assert finding.detail == "the forward pass agrees with the reference: the backward pass is wrong"
        assert finding.likely.startswith("1 - y stands where 1 - y**2 belongs")

    def test_a_straight_through_estimator_is_right_for_its_reference(self, torch):
        estimator = function(torch, lambda ctx, x: torch.round(x), lambda ctx, c: c)
        assert not check_layer(estimator, max_examples=3).passed
        meant = check_layer(estimator, reference=lambda x: x + (torch.round(x) - x).detach(), max_examples=3)
        assert [finding.check for finding in meant.findings] == [], str(meant)

    def test_of_another_framework(self, torch):
        right = function(torch, tanh_forward(torch), lambda ctx, c: c * (1 - ctx.saved_tensors[0] ** 2))
        assert check_layer(right, reference=np.tanh, max_examples=3).passed

    def test_forward_and_backward_told_apart(self, torch):
        forward_wrong = function(
            torch, lambda ctx, x: (save(ctx, x), 3 * x * x)[1], lambda ctx, c: 2 * c * ctx.saved_tensors[0]
        )
        (finding,) = check_layer(forward_wrong, reference=torch.square, max_examples=2).findings
        assert (finding.check, finding.detail) == (
            "value",
            "the backward pass is right, for this forward pass or for the reference's",
        )


def test_parameters_of_a_module_are_inputs_by_name(torch):
    class Wrong(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(4))

        def forward(self, x):
            return function(torch, product, lambda ctx, c: (c * ctx.saved_tensors[1], c.mean(dim=0))).apply(
                x, self.scale
            )

    before = Wrong()
    result = check_layer(before, inputs=[(3, 4)], max_examples=2)
    (finding,) = result.findings
    assert (finding.path, finding.right) == ("scale", ["x"])
    assert torch.equal(before.scale, torch.ones(4))
    operation = operation_of(torch.nn.Linear(3, 2))
    assert list(operation.parameters) == ["weight", "bias"]
    assert operation.input_name(1) == "weight"


def test_dtypes(torch):
    def forward(ctx, x):
        if x.dtype is not torch.float32:
            raise TypeError("only float32")
        ctx.save_for_backward(x)
        return torch.sin(x)

    single = function(torch, forward, lambda ctx, c: c * torch.cos(ctx.saved_tensors[0]))
    result = check_layer(single, max_examples=3)
    assert (result.verdict, result.dtypes) == ("passed", ["float32"])
    wrong = function(torch, forward, lambda ctx, c: 1.001 * c * torch.cos(ctx.saved_tensors[0]))
    assert check_layer(wrong, max_examples=3).findings[0].check == "gradient"
    inside = check_layer(lambda x: torch.tanh(x.float()).double(), max_examples=2)
    assert "rounded to float32 on the way" in inside.findings[0].sentence
    with pytest.raises(InvalidInput, match="dtype 'float16' cannot be checked alone"):
        check_layer(torch.tanh, dtypes="float16")


def test_arguments_that_are_no_arrays(torch):
    class Leaky(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, slope, scale=1.0):
            ctx.save_for_backward(x)
            ctx.slope, ctx.scale = slope, scale
            return scale * torch.where(x > 0, x, slope * x)

        @staticmethod
        def backward(ctx, c):
            (x,) = ctx.saved_tensors
            return ctx.scale * c * torch.where(x > 0, 1.0, ctx.slope), None, None

    assert check_layer(Leaky, arguments={"slope": 0.25}, max_examples=3).passed
    assert check_layer(Leaky, arguments={"slope": 0.25, "scale": 2.0}, max_examples=3).passed
    with pytest.raises(InvalidInput, match="Leaky has no argument 'slop'; it has x, slope, scale"):
        check_layer(Leaky, arguments={"slop": 0.25})


def test_shapes_are_found_or_asked_for(torch):
    assert check_layer(torch.nn.Conv2d(3, 4, 3), max_examples=1).shapes[0].startswith("(2, 3, 6, 6), ")
    with pytest.raises(InvalidInput) as caught:
        check_layer(lambda x: x.reshape(7, 9, 11), framework="torch")
    assert "give the shape of every input, as in --input 3,4 --input 4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_forward_pass_that_keeps_state_is_not_compared(torch):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, given):
            self.calls += 1
            return given * (1 + 0.25 * (self.calls % 2))

    result = check_layer(Counting(), max_examples=2)
    assert (result.verdict, result.exit_code) == ("nothing compared", 5)
    assert "it is random, or keeps state" in result.unsupported["gradient"]


def test_kinds(torch):
    assert kind_of(function(torch, product, product_backward)) == FUNCTION
    assert kind_of(torch.nn.Linear) == MODULE
    assert kind_of(torch.nn.Linear(2, 3)) == MODULE
    assert kind_of(torch.tanh) is None
    assert operation_of(torch.tanh).kind == PLAIN_TORCH
    assert operation_of(lambda x: 2 * torch.tanh(x)).kind == PLAIN_TORCH
    with pytest.raises(InvalidInput, match="give an instance of the module, not its class"):
        operation_of(torch.nn.Linear)
    with pytest.raises(InvalidInput, match="the forward pass returned no tensor, but int"):
        check_layer(lambda x: 3, inputs=[(3,)], framework="torch")
