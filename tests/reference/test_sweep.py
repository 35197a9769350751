"""Every activation of PyTorch and JAX, value and derivative, is within its bound: at all numbers of a 16-bit type."""

from __future__ import annotations

import math
import re
from functools import cache

import numpy as np
import pytest

from gradconform.dtypes import DTYPES, dtype_of, finfo
from gradconform.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import Bounding
from gradconform.reference.bounds import LONG, allowance
from gradconform.reference.functions import function
from gradconform.reference.precision import precision

LAYERS = [
    Sigmoid(),
    Tanh(),
    ReLU(),
    LeakyReLU(),
    LeakyReLU(-0.3),
    ELU(),
    ELU(2.0),
    Softplus(),
    SiLU(),
    GELU(),
    GELU(approximate="tanh"),
]
POINTS = 50_000
LIBRARIES = [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
dtypes = pytest.mark.parametrize("dtype", DTYPES)
libraries = pytest.mark.parametrize("library", LIBRARIES)
layers = pytest.mark.parametrize("layer", LAYERS, ids=str)


@cache
def numbers(name):
    """Return all finite numbers of a 16-bit type; of a longer one some of every size, most of them near 0."""
    dtype = dtype_of(name)
    limits = finfo(dtype)
    if limits.bits == 16:
        z = np.arange(2**16, dtype=np.uint16).view(dtype)
    else:
        rng = np.random.default_rng(0)
        reach = 1.1 * math.log(limits.max)
        share = POINTS // 6
        spread = [rng.uniform(-scale, scale, share) for scale in (1, 6, 25, reach)]
        exponents = rng.uniform(math.log2(limits.smallest_subnormal), math.log2(limits.max), 2 * share)
        ends = [0, 1, limits.smallest_subnormal, limits.smallest_normal, limits.max, float(limits.max) / 2]
        z = np.concatenate([*spread, np.exp2(exponents) * rng.choice([-1, 1], 2 * share), ends, np.negative(ends)])
        z = z.astype(dtype)
    with np.errstate(invalid="ignore"):
        return z[np.isfinite(z)]


def bounding(name, library):
    if name == "float64" and not LONG:
        pytest.skip("this machine has no type longer than float64")
    arithmetic = {"torch": "torch", "jax": "xla"}[library]
    return Bounding(precision(dtype_of(name), arithmetic), np.longdouble if name == "float64" else np.float64)


@cache
def bounds(layer, name, library):
    """Return value and derivative with the bounds that a kernel of the library must keep."""
    k = bounding(name, library)
    with np.errstate(all="ignore"):
        value, slope = k.evaluate(function(layer), k.lift(numbers(name)))
        # the product with a cotangent tells where backward kernels may overflow, but has a rounding of its own
        delta = slope * k.lift(np.ones((), numbers(name).dtype))
    return value, Bounded(slope.value, np.where(np.isfinite(delta.error), slope.error, np.inf), k.m)


def torch_runs(layer, z):
    """Yield value and derivative of contiguous numbers, which are vectorised, and of strided ones."""
    import torch

    from gradconform.adapters.torch import layer_rule

    module, given = layer_rule(layer, 1), torch_tensor(z)
    for x in (given, torch.stack([given, given], dim=1)[:, 0]):
        leaf = x.requires_grad_()
        value = module(leaf)
        (slope,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
        yield value.detach().double().numpy(), slope.double().numpy()


def jax_runs(layer, z):
    """Yield value and derivative, in one compiled program."""
    import jax

    from gradconform.adapters.jax import layer_rule

    @jax.jit
    def program(x):
        value, pullback = jax.vjp(lambda x: layer_rule(layer, {}, x), x)
        return value, *pullback(jax.numpy.ones_like(value))

    with jax.enable_x64(z.dtype == np.float64):
        yield tuple(np.asarray(found).astype(np.float64) for found in program(z))


RUNS = {"torch": torch_runs, "jax": jax_runs}


def torch_tensor(z):
    import torch

    return torch.from_numpy(z.astype(np.float64)).to(getattr(torch, z.dtype.name))


def excess(bound, found):
    """Return every error in units of its bound: 0 where nothing is claimed."""
    with np.errstate(all="ignore"):
        off = np.abs(found - bound.value)
        share = np.where(off == 0, 0, off / (bound.error * allowance(bound)))
        return np.where(np.isfinite(bound.error), np.where(np.isnan(off), np.inf, share), 0).astype(float)


def assert_within(bound, found, z):
    share = excess(bound, found)
    worst = np.unravel_index(np.argmax(share), share.shape)
    violations = np.count_nonzero(share > 1)
    assert violations == 0, (
        f"{violations} beyond the bound, the worst {share[worst]:.4g} times at {z[worst]!r}:"
        f" {found[worst]!r}, not {float(bound.value[worst])!r} +- {bound.error[worst]:.3g}"
    )


@dtypes
@libraries
@layers
def test_values_and_derivatives_are_within_their_bounds(layer, library, dtype):
    z = numbers(dtype)
    both = bounds(layer, dtype, library)
    for found in RUNS[library](layer, z):
        for bound, array in zip(both, found, strict=True):
            assert array.shape == z.shape
            assert_within(bound, array, z)


@dtypes
@libraries
@layers
def test_something_is_claimed_wherever_nothing_overflows(layer, library, dtype):
    z = numbers(dtype).astype(np.float64)
    most = float(finfo(dtype_of(dtype)).max) / 4
    with np.errstate(over="ignore"):
        inside = np.abs(z) < most
        if isinstance(layer, GELU):  # z^2 or z^3 is on the way to it
            inside &= np.abs(z) ** {"none": 2, "tanh": 3}[layer.approximate] < most
    for bound in bounds(layer, dtype, library):
        assert np.isfinite(bound.error[inside]).all()


@dtypes
@libraries
@pytest.mark.parametrize("which", [0, 1], ids=["value", "derivative"])
@layers
def test_an_error_at_one_number_is_beyond_the_bound(layer, which, library, dtype):
    z = numbers(dtype)
    at = int(np.argmin(np.abs(z.astype(np.float64) - 1.7)))
    bound = bounds(layer, dtype, library)[which]
    units = 300 * float(finfo(dtype_of(dtype)).eps) / 2
    for changed in (1 + units, 1 - units, np.nan, np.inf):
        found = np.array(bound.value)
        assert_within(bound, found, z)
        found[at] *= changed
        with pytest.raises(
            AssertionError, match=rf"^1 beyond the bound, the worst .* times at {re.escape(repr(z[at]))}"
        ):
            assert_within(bound, found, z)


@pytest.mark.jax
def test_xlas_tanh_form_of_gelu_has_no_derivative_in_float16_beyond_147():
    # 3 z^2 overflows, and is multiplied by a 1 - t^2 of 0; the exact derivative is 1
    z = np.array([147.5, 148], np.float16)
    ((value, slope),) = jax_runs(GELU(approximate="tanh"), z)
    assert value.tolist() == z.tolist()
    assert slope[0] == 1
    assert np.isnan(slope[1]), "JAX's derivative is a number now: this test can go"


@pytest.mark.torch
def test_pytorchs_tanh_form_of_gelu_has_one():
    for _, slope in torch_runs(GELU(approximate="tanh"), np.array([147.5, 148, 6e4], np.float16)):
        assert slope.tolist() == [1, 1, 1]


def rows(name):
    """Yield logits: two and three classes of all numbers, and more of every spread."""
    z, rng = numbers(name), np.random.default_rng(0)
    yield np.stack([z, np.zeros_like(z)], axis=1)
    yield np.stack([z, z[::-1], np.ones_like(z)], axis=1)
    for classes in (2, 10, 100):
        for scale in (0.01, 1, 5, 30, 300):
            yield (rng.normal(size=(200, classes)) * scale).astype(z.dtype)
        yield rng.integers(-3, 4, (200, classes)).astype(z.dtype)


def torch_softmax(logits):
    from torch.nn import functional

    given = torch_tensor(logits)
    return [kernel(given, dim=-1).double().numpy() for kernel in (functional.softmax, functional.log_softmax)]


def jax_softmax(logits):
    import jax

    with jax.enable_x64(logits.dtype == np.float64):
        return [np.asarray(jax.jit(kernel)(logits)).astype(float) for kernel in (jax.nn.softmax, jax.nn.log_softmax)]


SOFTMAX = {"torch": torch_softmax, "jax": jax_softmax}


@dtypes
@libraries
def test_softmax_and_its_logarithm_are_within_their_bounds(library, dtype):
    k = bounding(dtype, library)
    for logits in rows(dtype):
        with np.errstate(all="ignore"):
            p, _, log_p = k.softmax(k.lift(logits))
        for bound, found in zip((p, log_p), SOFTMAX[library](logits), strict=True):
            assert_within(bound, found, logits)
            assert np.isfinite(bound.error[(np.abs(logits) < 10_000).all(axis=1)]).all()
