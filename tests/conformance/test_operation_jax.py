"""Functions of JAX: planted faults are found and named, and correct ones left alone."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform.conformance.operation import CUSTOM_JVP, CUSTOM_VJP, PLAIN_JAX, kind_of, operation_of
from gradconform.conformance.operation_run import check_layer

pytestmark = pytest.mark.jax


@pytest.fixture(scope="module")
def jax():
    pytest.importorskip("jax")
    import jax

    return jax


def vjp(jax, function, forward, backward):
    """Return a jax.custom_vjp function."""
    made = jax.custom_vjp(function)
    made.defvjp(forward, backward)
    return made


def square(jax, backward):
    return vjp(jax, lambda x: x * x, lambda x: (x * x, x), lambda x, c: (backward(x, c),))


def tanh(jax, backward):
    jnp = jax.numpy
    return vjp(jax, jnp.tanh, lambda x: (jnp.tanh(x),) * 2, lambda y, c: (backward(y, c),))


def jvp(jax, function, rule):
    made = jax.custom_jvp(function)
    made.defjvp(rule)
    return made


def correct(jax):
    jnp = jax.numpy

    def by_value(x):
        return 2 * x if x.sum() > 0 else 3 * x

    return {
        "custom_vjp": tanh(jax, lambda y, c: c * (1 - y * y)),
        "matmul": vjp(jax, lambda x, w: x @ w, lambda x, w: (x @ w, (x, w)), lambda r, c: (c @ r[1].T, r[0].T @ c)),
        "custom_jvp": jvp(jax, jnp.sin, lambda x, dx: (jnp.sin(x[0]), jnp.cos(x[0]) * dx[0])),
        "softmax": jax.nn.softmax,
        "two outputs": lambda x: {"a": jnp.sin(x), "b": jnp.sum(x * x)},
        "an index": lambda x, index: jnp.take(x, index, axis=0),
        "python of values": by_value,
        "stop_gradient": lambda x: x * jax.lax.stop_gradient(jnp.ones_like(x)),
    }


INPUTS = {"an index": lambda generator: [generator.standard_normal((4, 3)), generator.integers(0, 4, 5)]}
CORRECT = (
    "custom_vjp",
    "matmul",
    "custom_jvp",
    "softmax",
    "two outputs",
    "an index",
    "python of values",
    "stop_gradient",
)


@pytest.mark.parametrize("name", CORRECT)
def test_correct_candidates_pass(jax, name):
    result = check_layer(correct(jax)[name], inputs=INPUTS.get(name), max_examples=3, framework="jax")
    assert result.passed, str(result)
    assert result.checks["gradient"].passed > 0
    assert result.checks["second-order"].passed > 0
    assert not jax.config.jax_enable_x64


def test_transformations_are_counted(jax):
    candidates = correct(jax)
    reverse = check_layer(candidates["custom_vjp"], max_examples=2)
    assert reverse.checks["forward-mode"].unsupported == 2
    assert "forward-mode" in reverse.unsupported["forward-mode"]
    assert (reverse.checks["jit"].passed, reverse.checks["vmap"].passed) == (2, 6)
    both = check_layer(candidates["custom_jvp"], max_examples=2)
    assert both.checks["forward-mode"].passed == 2
    plain = check_layer(candidates["python of values"], max_examples=2, framework="jax")
    assert plain.notes == ["cannot be compiled: all calls ran without jit"]
    assert plain.checks["jit"].unsupported == 2


def faults(jax):
    """Return name: (candidate, check, kind, words of the sentence or the probable cause)."""
    jnp = jax.numpy

    def batch_blind(x, c):
        # under vmap the first axis is another one
        return jax.custom_batching.custom_vmap(lambda x, c: 2 * c * x)(x, c)

    @jax.custom_batching.custom_vmap
    def twice(x, c):
        return 2 * c * x

    @twice.def_vmap
    def _(size, batched, x, c):
        return 3 * c * x, True

    def traced_differently(x, c):
        return 2 * c * x if not isinstance(c, jax.core.Tracer) else 2.5 * c * x

    def lost(x):
        y = jnp.tanh(x)
        return y, jax.lax.stop_gradient(y)

    return {
        "1 - y": (tanh(jax, lambda y, c: c * (1 - y)), "gradient", "WRONG", "1 - y stands where"),
        "g*g": (square(jax, lambda x, c: 2 * c * c * x), "cotangent-sign", "WRONG", "squared, as in g * g"),
        "|g|": (square(jax, lambda x, c: 2 * abs(c) * x), "cotangent-sign", "WRONG", "absolute value"),
        "ignored": (square(jax, lambda x, c: 2 * x), "cotangent-zero", "WRONG", "is ignored"),
        "first row": (square(jax, lambda x, c: 2 * x * c[:1]), "gradient", "WRONG", "only the first row"),
        "zero": (square(jax, lambda x, c: 0 * c), "gradient", "WRONG", "0 in every element"),
        "float32": (square(jax, lambda x, c: (2 * c * x).astype("float32")), "returned", "DTYPE", "is float32"),
        "shape": (square(jax, lambda x, c: (2 * c * x)[0]), "call", "SHAPE", "shapes do not match"),
        "two gradients": (
            vjp(jax, lambda x: x * x, lambda x: (x * x, x), lambda x, c: (c, c)),
            "call",
            "NAME",
            "pytree",
        ),
        "custom_jvp": (
            jvp(jax, jnp.sin, lambda x, dx: (jnp.sin(x[0]), jnp.sin(x[0]) * dx[0])),
            "gradient",
            "WRONG",
            "y, the output, stands where the derivative belongs",
        ),
        "under vmap": (square(jax, twice), "vmap", "WRONG", "differs under vmap"),
        "second order lost": (
            vjp(jax, jnp.tanh, lost, lambda y, c: (c * (1 - y * y),)),
            "second-order",
            "WRONG",
            "the second derivative",
        ),
        "forward": (square(jax, lambda x, c: c @ c @ c), "call", "CRASHED", "backward raised TypeError"),
    }


FAULTS = (
    "1 - y",
    "g*g",
    "|g|",
    "ignored",
    "first row",
    "zero",
    "float32",
    "shape",
    "two gradients",
    "custom_jvp",
    "under vmap",
    "second order lost",
    "forward",
)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(jax, name):
    candidate, check, kind, words = faults(jax)[name]
    result = check_layer(candidate, inputs=[(3, 4)], seed=1, max_examples=2)
    assert result.exit_code == 1
    (finding,) = result.findings
    assert (finding.check, finding.kind) == (check, kind), str(result)
    assert words in f"{finding.sentence} {finding.likely}", str(result)


def test_a_program_that_jit_changes(jax):
    seen = []

    def by_trace(x, c):
        # a constant of the moment of tracing
        seen.append(0)
        return 2 * c * x * (1.0 if len(seen) < 2 else 1.5)

    result = check_layer(square(jax, by_trace), inputs=[(3, 4)], max_examples=1, only=["jit"])
    (finding,) = result.findings
    assert (finding.check, finding.sentence) == ("jit", "the gradient of x differs under jit")


def test_one_wrong_element_of_a_hundred_thousand(jax):
    wrong = square(jax, lambda x, c: (2 * c * x).at[31_415].set(0.0))
    (finding,) = check_layer(wrong, inputs=[(100_000,)], max_examples=1, only=["gradient"]).findings
    assert (finding.index, finding.actual) == ([31_415], 0.0)


def test_a_reference_of_numpy_and_of_jax(jax):
    right = tanh(jax, lambda y, c: c * (1 - y * y))
    wrong = tanh(jax, lambda y, c: c * (1 - y))
    for reference in (np.tanh, jax.numpy.tanh):
        assert check_layer(right, reference=reference, max_examples=2).passed
        (finding,) = check_layer(wrong, reference=reference, max_examples=2).findings
        assert finding.detail == "the forward pass agrees with the reference: the backward pass is wrong"


def test_kinds(jax):
    candidates = correct(jax)
    assert kind_of(candidates["custom_vjp"]) == CUSTOM_VJP
    assert kind_of(candidates["custom_jvp"]) == CUSTOM_JVP
    assert operation_of(jax.numpy.sin).kind == PLAIN_JAX
    assert operation_of(candidates["matmul"]).names == ("x", "w")
