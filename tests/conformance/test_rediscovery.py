"""What a sharp look finds in the installed frameworks, each a line in the table of known deviations.

Where one of these tests fails, a release has changed what it tells: then the line has to change too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from gradconform import Batch, Case, Gradients, check, parse
from gradconform.capabilities import EVERYTHING
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.implementations import Implementation, adapter
from gradconform.conformance.judge import judge
from gradconform.conformance.situation import Situation
from gradconform.dtypes import dtype_of

AGREEMENT = [entry for entry in CHECKS.values() if not entry.relation]


def rounding(implementation, arithmetic):
    return replace(implementation, capabilities=structs.replace(implementation.capabilities, arithmetic=arithmetic))


def judged(implementation, text, dtype, parameters, inputs, targets):
    kind = dtype_of(dtype)
    network = parse(text)
    parameters = {path: np.asarray(array).astype(kind) for path, array in parameters.items()}
    targets = np.asarray(targets)
    cotangent = np.ones_like(targets) if network.loss.reduction == "none" else None
    given = [None if array is None else array.astype(kind) for array in (targets, cotangent)]
    batch = Batch(np.asarray(inputs).astype(kind), given[0], cotangent=given[1])
    return judge(implementation, Situation(Case(network, parameters, batch)), AGREEMENT)


@pytest.mark.jax
@pytest.mark.parametrize(("form", "right"), [("log(1 - p)", True), ("log1p(-p)", False)])
def test_jaxs_log1p_loses_digits_near_two_fifths_in_float64(form, right):
    import jax
    import jax.numpy as jnp

    def gradients(network, parameters, batch):
        def cost(p):
            rest = jnp.log(1 - p) if right else jnp.log1p(-p)
            return -(batch.targets * jnp.log(p) + (1 - batch.targets) * rest)

        with jax.enable_x64(True):
            p = jax.nn.sigmoid(jnp.asarray(batch.inputs))
            return Gradients({}, loss=np.asarray(jax.jit(cost)(p)), outputs={0: np.asarray(p)})

    logits = np.log(0.4142 / 0.5858) + np.linspace(-1e-3, 1e-3, 200)[None]
    found = judged(
        Implementation("jax", gradients, capabilities=structs.replace(EVERYTHING, arithmetic="xla")),
        "200 -> Sigmoid, BinaryCrossEntropy(reduction=none)",
        "float64",
        {},
        logits,
        np.zeros((1, 200)),
    )
    assert (found.root is None) == right, found.root


@pytest.mark.torch
@pytest.mark.parametrize(("threshold", "right"), [(20, False), (40, True)])
def test_pytorchs_softplus_is_off_by_its_default_threshold_in_float64(threshold, right):
    import torch

    def gradients(network, parameters, batch):
        z = torch.tensor(batch.inputs, requires_grad=True)
        a = torch.nn.Softplus(threshold=threshold)(z)
        loss = torch.nn.functional.mse_loss(a, torch.tensor(batch.targets), reduction="sum")
        return Gradients({}, input=torch.autograd.grad(loss, z)[0].numpy(), outputs={0: a.detach().numpy()})

    found = judged(
        Implementation("torch", gradients, capabilities=structs.replace(EVERYTHING, arithmetic="torch")),
        "3 -> Softplus, MeanSquaredError(reduction=sum)",
        "float64",
        {},
        [[1.0, 21.0, 30.0]],
        [[0.0, 0.0, 0.0]],
    )
    assert (found.root is None) == right
    if not right:
        assert found.root.path == "output 0"
        assert found.root.worst.error / found.root.worst.expected == pytest.approx(np.exp(-21) / 21, rel=1e-3)


@pytest.mark.jax
def test_jaxs_tanh_gelu_has_no_gradient_in_float16_where_its_cube_overflows():
    text = "2 -> GELU(approximate=tanh), MeanSquaredError(reduction=sum)"
    found = judged(adapter("jax"), text, "float16", {}, [[147.75, 147.875]], [[147.75, 147.75]])
    assert [entry.path for entry in found.comparisons if entry.lost] == ["input"] * 2  # in both looks
    assert {entry.lost for entry in found.comparisons} == {0, 1}
    assert found.root is None  # the arithmetic overflows on the way: RANGE


@pytest.mark.torch
def test_pytorchs_tanh_gelu_has_one():
    text = "2 -> GELU(approximate=tanh), MeanSquaredError(reduction=sum)"
    found = judged(adapter("torch"), text, "float16", {}, [[147.75, 147.875]], [[147.75, 147.75]])
    assert not any(entry.lost for entry in found.comparisons)


@pytest.mark.jax
@pytest.mark.parametrize(("arithmetic", "right"), [("xla", True), ("torch", False)])
def test_xla_accumulates_bias_gradients_in_bfloat16(arithmetic, right):
    rng = np.random.default_rng(0)
    rows = 400
    found = judged(
        rounding(adapter("jax"), arithmetic),
        "1 -> Dense(2), MeanSquaredError(reduction=sum)",
        "bfloat16",
        {"0.weight": [[0.5, 0.25]], "0.bias": [0.0, 0.0]},
        rng.normal(size=(rows, 1)),
        rng.normal(size=(rows, 2)),
    )
    wrong = {(entry.look, entry.path) for entry in found.failures}
    assert (wrong == set()) == right
    if not right:
        assert ("local", "0.bias") in wrong
        assert ("local", "0.weight") not in wrong  # which is accumulated in float32


@pytest.mark.torch
def test_pytorch_accumulates_bias_gradients_in_float32():
    rng = np.random.default_rng(0)
    text = "1 -> Dense(2), MeanSquaredError(reduction=sum)"
    parameters = {"0.weight": [[0.5, 0.25]], "0.bias": [0.0, 0.0]}
    inputs, targets = rng.normal(size=(400, 1)), rng.normal(size=(400, 2))
    found = judged(adapter("torch"), text, "bfloat16", parameters, inputs, targets)
    assert found.root is None


@pytest.mark.jax
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("arithmetic", "right"), [("xla", True), ("torch", False)])
def test_xla_flushes_subnormal_numbers_to_zero(dtype, arithmetic, right):
    small = float(np.finfo(dtype).smallest_normal) / 4
    text = "1 -> Dense(1, bias=False), MeanSquaredError(reduction=sum)"
    implementation = rounding(adapter("jax"), arithmetic)
    found = judged(implementation, text, dtype, {"0.weight": [[1.0]]}, [[small]], [[0.0]])
    assert (found.root is None) == right


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pytorch_does_not(dtype):
    small = float(np.finfo(dtype).smallest_normal) / 4
    text = "1 -> Dense(1, bias=False), MeanSquaredError(reduction=sum)"
    assert judged(adapter("torch"), text, dtype, {"0.weight": [[1.0]]}, [[small]], [[0.0]]).root is None


@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "right"), [("bfloat16", True), ("float32", False)])
def test_pytorch_may_flush_them_in_bfloat16_alone(dtype, right):
    kind = dtype_of(dtype)
    torch = adapter("torch")

    def flushing(network, parameters, batch):
        # as processors with instructions for bfloat16 do, in GELU's backward pass since PyTorch 2.13 at the latest
        found = torch.gradients(network, parameters, batch)
        return replace(found, input=np.where(np.abs(found.input.astype(float)) < 1e-38, 0, found.input).astype(kind))

    inputs, small = np.full((1, 8), 2.0), np.full((1, 8), 2e-39)
    batch = Batch(inputs.astype(kind), np.zeros((1, 8), kind), cotangent=small.astype(kind))
    case = Case(parse("8 -> GELU, MeanSquaredError(reduction=none)"), {}, batch)
    assert judge(torch, Situation(case), AGREEMENT).root is None
    assert (judge(replace(torch, gradients=flushing), Situation(case), AGREEMENT).root is None) == right


@pytest.mark.jax
def test_jaxs_gradient_of_softmax_loses_subnormal_products_in_float16():
    kind = dtype_of("float16")
    small = np.full((1, 16), -6.4e-6).astype(kind)
    batch = Batch(np.ones((1, 16), kind), np.full((1, 16), 0.0, kind), cotangent=small)
    # the delta of the softmax is 2 p c: p is 1/16
    case = Case(parse("16 -> Softmax, MeanSquaredError(reduction=none)"), {}, replace(batch, cotangent=8 * small))
    assert judge(adapter("jax"), Situation(case), AGREEMENT).root is None


@pytest.mark.parametrize(
    "name", [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
)
def test_a_small_target_may_underflow_before_it_is_divided_by_its_probability_in_float16(name):
    kind = dtype_of("float16")
    small = [0.97607421875, 3.5762786865234375e-07, 0.0242156982421875]
    targets = np.array([small, small, small, small]).astype(kind)
    batch = Batch(np.array([[-1.0, -2.0, 1.0]] * 4, kind), targets)
    case = Case(parse("3 -> Softmax, CrossEntropy"), {}, batch)
    assert judge(adapter(name), Situation(case), AGREEMENT).root is None


KINKED = "2 -> Dense(3) -> {} -> Dense(2), MeanSquaredError"


def conventions(implementation, layer):
    result = check(implementation, networks=KINKED.format(layer), max_examples=40, seed=1, dtypes=["float64"])
    assert result.passed, str(result)
    return {name: share for tally in result.implementations for name, share in tally.kinks.items()}


@pytest.mark.parametrize(
    ("framework", "layer", "share"),
    [
        pytest.param("torch", "ReLU", 0, marks=pytest.mark.torch),
        pytest.param("jax", "ReLU", 0, marks=pytest.mark.jax),
        pytest.param("torch", "LeakyReLU(slope=0.25)", 0, marks=pytest.mark.torch),
        pytest.param("jax", "LeakyReLU(slope=0.25)", 1, marks=pytest.mark.jax),
        pytest.param("torch", "ELU(alpha=2)", 0, marks=pytest.mark.torch),
        pytest.param("jax", "ELU(alpha=2)", 0, marks=pytest.mark.jax),
    ],
)
def test_the_conventions_of_the_layers(framework, layer, share):
    assert conventions(adapter(framework), layer) == {layer.partition("(")[0]: share}


def by_hand(slope):
    """Return the gradients of `KINKED` with an activation of which only value and slope are known."""

    def gradients(network, parameters, batch):
        z = batch.inputs @ parameters["0.weight"] + parameters["0.bias"]
        a, d = slope(z)
        y = a @ parameters["2.weight"] + parameters["2.bias"]
        delta = 2 * (y - batch.targets) / y.size
        below = d * (delta @ parameters["2.weight"].T)
        return {
            "0.weight": batch.inputs.T @ below,
            "0.bias": below.sum(axis=0),
            "2.weight": a.T @ delta,
            "2.bias": delta.sum(axis=0),
        }

    return gradients


def in_torch(function):
    import torch

    def slope(z):
        x = torch.tensor(z, requires_grad=True)
        a = function(torch, x)
        return a.detach().numpy(), torch.autograd.grad(a.sum(), x)[0].numpy()

    return by_hand(slope)


def in_jax(function):
    import jax

    def slope(z):
        with jax.enable_x64(True):
            a, pullback = jax.vjp(lambda x: function(jax, x), jax.numpy.asarray(z))
            return np.asarray(a), np.asarray(pullback(jax.numpy.ones_like(a))[0])

    return by_hand(slope)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("function", "layer", "share"),
    [
        (lambda torch, x: torch.maximum(x, torch.zeros_like(x)), "ReLU", 0.5),
        (lambda torch, x: torch.clamp(x, min=0), "ReLU", 1),
        (lambda torch, x: torch.abs(x), "LeakyReLU(slope=-1)", 0.5),
    ],
    ids=["maximum", "clamp", "abs"],
)
def test_the_conventions_of_pytorchs_functions(function, layer, share):
    assert conventions(in_torch(function), layer) == {layer.partition("(")[0]: share}


@pytest.mark.jax
@pytest.mark.parametrize(
    ("function", "layer", "share"),
    [
        (lambda jax, x: jax.numpy.maximum(x, 0), "ReLU", 0.5),
        (lambda jax, x: jax.numpy.clip(x, min=0), "ReLU", 0.5),
        (lambda jax, x: jax.numpy.abs(x), "LeakyReLU(slope=-1)", 1),
    ],
    ids=["maximum", "clip", "abs"],
)
def test_the_conventions_of_jaxs_functions(function, layer, share):
    assert conventions(in_jax(function), layer) == {layer.partition("(")[0]: share}
