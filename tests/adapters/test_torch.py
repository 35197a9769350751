"""The PyTorch adapter: nothing global changes, and no surrounding mode keeps it from differentiating."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gradconform import Batch, BinaryCrossEntropy, Unsupported, parse
from gradconform.adapters.deviations import described
from gradconform.dtypes import dtype_of

pytestmark = pytest.mark.torch

TEXT = "3 -> Dense(4) -> Softplus -> Dense(3), SoftmaxCrossEntropy"


@pytest.fixture
def torch():
    import torch

    return torch


def state(torch):
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients enabled": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "random state": torch.get_rng_state().tolist(),
        "NumPy's random state": str(np.random.get_state()),  # noqa: NPY002 - the global one is what is watched
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def test_nothing_global_changes(torch, torch_adapter, draw):
    before = state(torch)
    torch_adapter(draw(TEXT, dtype=np.float32))
    torch_adapter(draw(TEXT))
    assert state(torch) == before


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "enable_grad"])
def test_it_differentiates_inside_any_mode(torch, torch_adapter, draw, leaves, mode):
    case = draw(TEXT)
    expected = leaves(torch_adapter(case))
    with getattr(torch, mode)():
        before = state(torch)
        found = leaves(torch_adapter(case))
        assert state(torch) == before
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_default_dtype_does_not_matter(torch, torch_adapter, draw):
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch_adapter(draw(TEXT, dtype=np.float32)).loss.dtype == np.float32
    finally:
        torch.set_default_dtype(default)


@pytest.mark.parametrize("floors", [(-50.0, None), (None, 1e-12), (-100.0, 1e-12)])
def test_other_floors_than_its_own_are_unsupported(torch_adapter, draw, floors):
    case = draw("3 -> Sigmoid, BinaryCrossEntropy")
    floored = type(case.network)(3, case.network.layers, BinaryCrossEntropy("mean", *floors))
    with pytest.raises(Unsupported, match=r"^torch: BinaryCrossEntropy has the floors .* built in, got"):
        torch_adapter.module.gradients(floored, case.parameters, case.batch)


def test_its_own_floors_may_be_named(torch_adapter, draw):
    case = draw("3 -> Sigmoid, BinaryCrossEntropy")
    floored = described("torch", case.network)
    assert floored != case.network
    found = torch_adapter.module.gradients(floored, case.parameters, case.batch)
    np.testing.assert_array_equal(found.input, torch_adapter(case).input)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type(torch_adapter, draw, dtype):
    case = draw(TEXT)
    batch = type(case.batch)(case.batch.inputs, case.batch.targets.astype(dtype))
    found = torch_adapter.module.gradients(case.network, case.parameters, batch)
    np.testing.assert_array_equal(found.input, torch_adapter(case).input)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_16_bits_goes_in_and_comes_out_bit_by_bit(torch_adapter, dtype):
    numbers = np.arange(2**16, dtype=np.uint16).view(dtype_of(dtype))
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        inputs = numbers[np.isfinite(numbers)][:, None]
    network = parse("1 -> LeakyReLU(slope=1), MeanSquaredError(reduction=none)")
    batch = Batch(inputs, np.zeros_like(inputs), cotangent=np.zeros_like(inputs))
    outputs = torch_adapter.module.gradients(network, {}, batch).outputs[0]
    assert outputs.dtype == inputs.dtype
    np.testing.assert_array_equal(outputs.view(np.uint16), inputs.view(np.uint16))


def test_one_run_gives_all(torch_adapter, draw):
    assert torch_adapter(draw(TEXT)).captured is None


def test_a_cotangent_is_what_grad_outputs_is(torch, torch_adapter, draw):
    case = draw("3 -> Dense(4) -> Tanh -> Dense(2), MeanSquaredError(reduction=none)", dtype=np.float32)
    weight, inputs, targets = (
        torch.tensor(array) for array in (case.parameters["0.weight"], case.batch.inputs, case.batch.targets)
    )
    weight.requires_grad_()
    hidden = (inputs @ weight + torch.tensor(case.parameters["0.bias"])).tanh()
    output = hidden @ torch.tensor(case.parameters["2.weight"]) + torch.tensor(case.parameters["2.bias"])
    loss = (output - targets) ** 2
    (expected,) = torch.autograd.grad(loss, weight, grad_outputs=torch.tensor(case.batch.cotangent))
    np.testing.assert_allclose(torch_adapter(case).parameters["0.weight"], expected.numpy(), rtol=1e-5)


def test_nothing_is_imported_for_a_cotangent():
    code = (
        "import sys, numpy as np, gradconform as gc\n"
        "from gradconform.adapters.torch import gradients\n"
        "network, ones = gc.parse('1 -> Dense(1), MeanSquaredError(reduction=none)'), np.ones((1, 1))\n"
        "gradients(network, {'0.weight': ones, '0.bias': ones[0]}, gc.Batch(ones, ones, cotangent=ones))\n"
        "print('sympy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_rounding_model_is_its_own(torch_adapter):
    assert torch_adapter.module.ARITHMETIC == "torch"
