"""Several cases at once, by the framework's vmap: within the reference's bounds, and what the calls one by one give."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from gradconform import Batch, BinaryCrossEntropy, Unsupported, parse
from gradconform.conformance.adapter_names import BY_VMAP, adapter_names
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.implementations import adapter as implementation_of
from gradconform.conformance.judge import judge_together
from gradconform.conformance.screening import Screened
from gradconform.conformance.situation import situations_of
from gradconform.conformance.stack import members, side_by_side
from gradconform.dtypes import dtype_of

TEXT = "3 -> Dense(4) -> Softplus -> Dense(3), SoftmaxCrossEntropy"
REDUCTIONS = ("mean", "sum", "none", "batchmean")
LOSSES = [
    *(
        f"3 -> Dense(2) -> {loss}(reduction={reduction})"
        for loss in ("SiLU, Huber", "ELU, MeanSquaredError", "Tanh, SigmoidCrossEntropy", "Sigmoid, BinaryCrossEntropy")
        for reduction in REDUCTIONS
    ),
    "3 -> ReLU, SoftmaxCrossEntropy(scale=0.3)",
    "3 -> GELU, MeanSquaredError(reduction=sum)",
    "3 -> Dense(4, bias=False) -> LeakyReLU -> GELU(approximate=tanh), Huber(delta=0.4)",
]
CLASSES = [
    *(
        f"3 -> Dense(3), SoftmaxCrossEntropy(reduction={reduction}, label_smoothing={smooth}, ignore_index={ignored})"
        for reduction in REDUCTIONS
        for smooth, ignored in ((0.0, None), (0.1, 1), (0.0, -100))
    ),
    *(f"3 -> Dense(3) -> Softmax, CrossEntropy(reduction={reduction})" for reduction in REDUCTIONS),
]
FEW = [text for text in CLASSES if "none" in text or "mean," in text]


def together(cases):
    return side_by_side([(case.parameters, case.batch) for case in cases])


def at_once(adapter, cases):
    return adapter.module.vmapped(cases[0].network, *together(cases))


def drawn(draw, text, count=3, **options):
    return [draw(text, seed=seed, **options) for seed in range(count)]


def agree(adapter, cases):
    """Hold what one call gives for cases against the bounds of each of them."""
    entry = implementation_of(adapter.name).by_vmap
    single = replace(entry, gradients=lambda *_: pytest.fail("called one by one"))
    judged = list(judge_together(single, situations_of(cases), list(CHECKS.values()), relations=False))
    assert len(judged) == len(cases)
    assert all(isinstance(one, Screened) for one in judged)


def test_the_adapters_that_have_it_are_known_by_name(adapter):
    assert hasattr(adapter.module, "vmapped")
    assert adapter.name in BY_VMAP
    assert set(BY_VMAP) <= set(adapter_names())


@pytest.mark.parametrize("text", LOSSES)
def test_on_every_loss(adapter, draw, text):
    agree(adapter, drawn(draw, text))


@pytest.mark.parametrize("number", range(len(CLASSES)))
def test_on_labels(adapter, draw, number):
    text = CLASSES[number]
    agree(adapter, drawn(draw, text, weighted=number % 2 == 0 and "Softmax, " not in text))


@pytest.mark.parametrize("text", FEW)
def test_on_distributions(adapter, draw, text):
    agree(adapter, drawn(draw, text, labels=False, weighted="Softmax, " not in text))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("text", [TEXT, "3 -> Dense(4) -> ReLU -> Dense(2), Huber(reduction=none)"])
def test_in_every_dtype(adapter, draw, text, dtype):
    cases = drawn(draw, text, dtype=dtype_of(dtype))
    found = at_once(adapter, cases)
    network = cases[0].network
    assert {array.dtype.name for array in (*found.parameters.values(), found.loss, found.input)} == {dtype}
    assert {path: array.shape for path, array in found.parameters.items()} == {
        path: (3, *shape) for path, shape in network.parameters().items()
    }
    assert found.input.shape == (3, 4, 3)
    assert found.loss.shape == (3, *network.loss.shape(4, network.widths[-1]))
    shapes = {index: (3, 4, width) for index, width in enumerate(network.widths[1:])}
    assert {index: array.shape for index, array in found.outputs.items()} == shapes
    assert {index: array.shape for index, array in found.deltas.items()} == shapes
    agree(adapter, cases)


@pytest.mark.parametrize("text", [TEXT, "2 -> Tanh, Huber(reduction=none)"])
def test_each_case_gets_what_a_call_of_its_own_gives(adapter, draw, leaves, text):
    cases = drawn(draw, text)
    found = at_once(adapter, cases)
    for index, case in enumerate(cases):
        alone = leaves(adapter(case))
        for name, array in leaves(members(found, index)).items():
            np.testing.assert_allclose(array, alone[name], rtol=1e-12, atol=1e-14, err_msg=name)


def test_nothing_that_is_given_is_changed_or_returned(adapter, draw, leaves):
    parameters, batch = together(drawn(draw, TEXT, weighted=True))
    given = [*parameters.values(), *(array for array in vars(batch).values() if array is not None)]
    before = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    found = list(leaves(adapter.module.vmapped(parse(TEXT), parameters, batch)).values())
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    for number, array in enumerate(found):
        assert not any(np.shares_memory(array, other) for other in (*given, *found[:number]))


def test_the_environment_is_left_alone(adapter, draw):
    before = dict(os.environ)
    at_once(adapter, drawn(draw, TEXT))
    assert dict(os.environ) == before


def test_what_it_does_not_support_is_told(adapter, draw):
    case = draw("3 -> Sigmoid, BinaryCrossEntropy")
    floored = type(case.network)(3, case.network.layers, BinaryCrossEntropy("mean", -50.0, None))
    parameters, batch = together([case] * 2)
    if adapter.name == "torch":
        with pytest.raises(Unsupported, match=r"^torch: BinaryCrossEntropy has the floors"):
            adapter.module.vmapped(floored, parameters, batch)
    long = Batch(batch.inputs.astype(np.longdouble), batch.targets)
    with pytest.raises(Unsupported, match=rf"^{adapter.name}: no rule for "):
        adapter.module.vmapped(case.network, parameters, long)


@pytest.mark.torch
def test_a_nan_of_one_case_is_unsupported_in_pytorchs_binary_cross_entropy(torch_adapter, draw):
    cases = drawn(draw, "3 -> Dense(2) -> Sigmoid, BinaryCrossEntropy")
    cases[1].batch.inputs[0, 0] = np.nan
    with pytest.raises(Unsupported, match=r"refuses a NaN") as at_once_:
        at_once(torch_adapter, cases)
    with pytest.raises(Unsupported) as alone:
        torch_adapter(cases[1])
    assert str(at_once_.value) == str(alone.value)
    for index in (0, 2):
        torch_adapter(cases[index])


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_it_differentiates_inside_any_mode(torch_adapter, draw, leaves, mode):
    import torch

    cases = drawn(draw, TEXT)
    expected = leaves(at_once(torch_adapter, cases))
    with getattr(torch, mode)():
        found = leaves(at_once(torch_adapter, cases))
        assert not torch.is_grad_enabled()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
