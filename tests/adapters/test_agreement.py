"""PyTorch and JAX agree closely on every layer, loss, reduction and option: two derivations of one table."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.jax]

LAYERS = [
    "Sigmoid",
    "Tanh",
    "ReLU",
    "LeakyReLU(slope=0.2)",
    "ELU(alpha=1.5)",
    "Softplus",
    "SiLU",
    "GELU",
    "GELU(approximate=tanh)",
    "Softmax",
    "Dense(2, bias=False)",
]
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
LOSSES = [
    "Sigmoid, BinaryCrossEntropy(reduction={})",
    "LeakyReLU(slope=0.5), SigmoidCrossEntropy(reduction={})",
    "LeakyReLU(slope=0.5), MeanSquaredError(reduction={})",
    "LeakyReLU(slope=0.5), Huber(reduction={}, delta=0.7)",
]


@pytest.fixture
def agree(torch_adapter, jax_adapter, leaves):
    def compare(case):
        found, others = leaves(torch_adapter(case)), leaves(jax_adapter(case))
        assert list(found) == list(others)
        for name, array in found.items():
            scale = np.abs(array).max()
            np.testing.assert_allclose(others[name], array, rtol=1e-9, atol=1e-12 * scale, err_msg=name)
        return found

    return compare


@pytest.mark.parametrize("layer", LAYERS)
def test_on_every_layer(agree, draw, layer):
    found = agree(draw(f"3 -> Dense(4) -> {layer} -> Dense(3), MeanSquaredError"))
    assert all(np.abs(array).max() > 0 for array in found.values())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_on_every_loss(agree, draw, loss, reduction):
    agree(draw(f"3 -> {loss.format(reduction)}"))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", [*LOSSES, "LeakyReLU(slope=0.5), SoftmaxCrossEntropy(reduction={})"])
def test_on_every_loss_with_a_scale(agree, draw, loss, reduction):
    whole, scaled = (draw(f"3 -> {loss.format(f'{reduction}{scale}')}") for scale in ("", ", scale=0.3"))
    before, after = agree(whole), agree(scaled)
    np.testing.assert_allclose(after["input"], 0.3 * before["input"], rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", ["Softmax, CrossEntropy", "Sigmoid, BinaryCrossEntropy"])
def test_on_clipped_probabilities(agree, draw, loss, reduction):
    found = agree(draw(f"3 -> {loss}(reduction={reduction}, clip=0.3)"))
    assert (found["input"] == 0).any()


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_on_cross_entropy_of_probabilities(agree, draw, reduction, labels):
    agree(draw(f"3 -> Softmax, CrossEntropy(reduction={reduction})", labels=labels))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("smoothing", "ignored"), [(0.0, None), (0.1, 1)])
def test_on_labels(agree, draw, reduction, smoothing, ignored, weighted):
    loss = f"SoftmaxCrossEntropy(reduction={reduction}, label_smoothing={smoothing}, ignore_index={ignored})"
    agree(draw(f"3 -> LeakyReLU(slope=0.5), {loss}", weighted=weighted))


@pytest.mark.parametrize(
    ("smoothing", "ignored"), [(0.1, None), (0.0, 1), (0.0, -100), (0.1, -1), (0.1, 255), (0.1, 2**40)]
)
def test_on_one_option_alone_and_on_ignoring_any_number(agree, draw, smoothing, ignored):
    loss = f"SoftmaxCrossEntropy(label_smoothing={smoothing}, ignore_index={ignored})"
    agree(draw(f"3 -> LeakyReLU(slope=0.5), {loss}", weighted=True))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("smoothing", "weighted"), [(0.0, False), (0.0, True), (0.1, True)])
def test_on_distributions(agree, draw, reduction, smoothing, weighted):
    # ignore_index is for integer labels alone: with distributions it changes nothing.
    loss = f"SoftmaxCrossEntropy(reduction={reduction}, label_smoothing={smoothing}, ignore_index=1)"
    agree(draw(f"3 -> LeakyReLU(slope=0.5), {loss}", labels=False, weighted=weighted))
