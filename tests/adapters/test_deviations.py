"""The table of deviations holds what the installed frameworks really do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gradconform import Batch, parse
from gradconform.adapters.deviations import DEVIATIONS, described, unchanged
from gradconform.losses import BinaryCrossEntropy

BINARY = parse("3 -> Sigmoid, BinaryCrossEntropy(reduction=none)")


def test_no_framework_is_imported():
    code = "import sys, gradconform.adapters.deviations; print({'torch', 'jax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("row", DEVIATIONS, ids=lambda row: f"{row.implementation}-{row.subject.__name__}")
def test_every_row_is_filled_in(row):
    assert row.implementation in ("torch", "torch.vmap", "jax")
    assert row.reason.endswith(".")
    assert row.reason.count(". ") == 0
    assert row.source


def test_pytorchs_binary_cross_entropy_is_described_with_its_floors():
    loss = described("torch", BINARY).loss
    assert loss == BinaryCrossEntropy("none", log_floor=-100.0, denominator_floor=float(np.float32(1e-12)))


def test_everything_else_is_described_as_it_is():
    assert described("jax", BINARY) is BINARY
    assert described("my_mlp.py:gradients", BINARY) is BINARY
    for text in ("3 -> Softplus, MeanSquaredError", "3 -> Sigmoid, BinaryCrossEntropy(log_floor=-50)"):
        network = parse(text)
        assert described("torch", network) is network
    assert unchanged(BINARY) is BINARY


@pytest.mark.torch
def test_pytorch_limits_the_logarithms_and_the_denominator():
    from gradconform.adapters import torch

    loss = described("torch", BINARY).loss
    inputs = np.array([[-1000.0, -29.0, 3.0]])
    targets = np.array([[1.0, 1.0, 0.25]])
    found = torch.gradients(BINARY, {}, Batch(inputs, targets, cotangent=np.ones((1, 3))))
    p = found.outputs[0]
    assert p[0, 0] == 0
    with np.errstate(divide="ignore"):
        logarithms = np.maximum(np.log(p), loss.log_floor), np.maximum(np.log(1 - p), loss.log_floor)
    assert found.loss[0, 0] == 100
    np.testing.assert_allclose(found.loss, -targets * logarithms[0] - (1 - targets) * logarithms[1], rtol=1e-14)
    assert p[0, 1] * (1 - p[0, 1]) < loss.denominator_floor < p[0, 2]
    np.testing.assert_allclose(
        found.deltas[0], (p - targets) / np.maximum(p * (1 - p), loss.denominator_floor), rtol=1e-14
    )


@pytest.mark.torch
def test_a_small_loss_of_logits_loses_its_digits_under_vmap_and_its_gradient_does_not():
    import torch

    from gradconform.adapters import torch as module

    def cost(z):
        return torch.nn.functional.binary_cross_entropy_with_logits(z, torch.ones_like(z))

    logits = torch.tensor([[16.0], [40.0]], dtype=torch.float64)
    exact = np.log1p(np.exp([-16.0, -40.0]))
    np.testing.assert_allclose([cost(row).item() for row in logits], exact, rtol=1e-15)
    shown, slopes = (torch.func.vmap(way)(logits).numpy() for way in (cost, torch.func.grad(cost)))
    assert abs(shown[0] / exact[0] - 1) > 1e-11
    assert shown[1] == 0
    np.testing.assert_allclose(slopes[:, 0], -exact, rtol=1e-6)
    network = parse("1 -> LeakyReLU, SigmoidCrossEntropy")
    found = module.vmapped(network, {}, Batch(logits.numpy()[:, None], np.ones((2, 1, 1))))
    assert found.loss is None
    np.testing.assert_allclose(found.deltas[0].ravel(), slopes.ravel(), rtol=1e-15)


@pytest.mark.torch
def test_pytorchs_softplus_is_off_by_its_threshold_and_the_adapters_is_not():
    from torch import from_numpy, nn

    from gradconform.adapters import torch

    inputs = np.array([[20.001, 25.0, 36.0, 39.9, 40.1]])
    exact = np.logaddexp(inputs, 0)
    assert np.abs(nn.Softplus()(from_numpy(inputs)).numpy() - exact).max() > 2e-9
    network = parse("5 -> Softplus, MeanSquaredError(reduction=sum)")
    found = torch.gradients(network, {}, Batch(inputs, np.zeros((1, 5))))
    np.testing.assert_allclose(found.outputs[0], exact, rtol=4e-16)
    np.testing.assert_allclose(found.input, 2 * exact / (1 + np.exp(-inputs)), rtol=1e-15)


@pytest.mark.jax
def test_xlas_log1p_is_off_and_the_adapters_logarithm_is_not():
    import jax

    from gradconform.adapters import jax as adapter

    logits = np.linspace(-0.37, -0.34, 999)[None]
    network = parse("999 -> Sigmoid, BinaryCrossEntropy(reduction=none)")
    found = adapter.gradients(network, {}, Batch(logits, np.zeros((1, 999)), cotangent=np.ones((1, 999))))
    p = found.outputs[0]
    exact = -np.log1p(-p)
    with jax.enable_x64(True):
        off = -np.asarray(jax.numpy.log1p(-p))
    unit = np.spacing(exact)
    assert np.abs((off - exact) / unit).max() > 50
    assert np.abs((found.loss - exact) / unit).max() < 4
