"""bfloat16 and float16: every layer and loss has kernels in them, whose results are near those in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from gradconform.dtypes import dtype_of, finfo
from gradconform.layers import Layer
from gradconform.losses import Loss

LOW = ["bfloat16", "float16"]
LAYERS = [kind.__name__ for kind in get_args(Layer) if kind.__name__ != "Dense"]
LAYERS += ["Dense(2, bias=False)", "GELU(approximate=tanh)"]
ON_PROBABILITIES = {"CrossEntropy": "Softmax", "BinaryCrossEntropy": "Sigmoid"}
LOSSES = [f"{ON_PROBABILITIES.get(kind.__name__, 'Tanh')}, {kind.__name__}" for kind in get_args(Loss)]

ROUNDINGS = 32
"""More than these networks do one after another: some 4 stages each way, of at most 4 terms each."""


@pytest.fixture
def near(adapter, leaves):
    """Hold the results in the dtype of a case against those in float64 of the same numbers."""

    def check(case):
        dtype = case.dtype
        assert dtype.itemsize == 2

        def widen(array):
            return array.astype(np.float64) if array is not None and array.dtype == dtype else array

        # no case: in float64, labels that were rounded do not add up to 1
        batch = replace(case.batch, **{name: widen(array) for name, array in vars(case.batch).items()})
        parameters = {path: widen(array) for path, array in case.parameters.items()}
        found, expected = leaves(adapter(case)), leaves(adapter.module.gradients(case.network, parameters, batch))
        assert list(found) == list(expected)
        u = float(finfo(dtype).eps) / 2
        for name, array in found.items():
            assert array.dtype == dtype, name
            assert array.shape == expected[name].shape, name
            scale = np.abs(expected[name]).max()
            assert scale > 0, name
            np.testing.assert_allclose(widen(array), expected[name], rtol=0, atol=ROUNDINGS * u * scale, err_msg=name)

    return check


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(near, draw, layer, dtype):
    near(draw(f"3 -> Dense(3) -> {layer}, MeanSquaredError", dtype=dtype_of(dtype)))


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(near, draw, loss, reduction, dtype):
    near(draw(f"3 -> {loss}(reduction={reduction})", dtype=dtype_of(dtype)))


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("loss", ["Softmax, CrossEntropy", "Tanh, SoftmaxCrossEntropy"])
def test_distributions(near, draw, loss, dtype):
    near(draw(f"3 -> {loss}", labels=False, dtype=dtype_of(dtype)))


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("labels", [True, False])
def test_every_option_of_labels(near, draw, labels, dtype):
    loss = "SoftmaxCrossEntropy(label_smoothing=0.1, ignore_index=1)"
    near(draw(f"3 -> Tanh, {loss}", labels=labels, weighted=True, dtype=dtype_of(dtype)))
