"""What every adapter promises of arrays: any layout in, fresh arrays of the same dtype out, nothing changed."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from gradconform import Unsupported
from gradconform.dtypes import DTYPES, dtype_of

TEXT = "3 -> Dense(4) -> Tanh -> Dense(3), SoftmaxCrossEntropy(reduction=none)"


def strided(array):
    wide = np.full([2 * size for size in array.shape], 7, array.dtype)
    view = wide[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def reversed_in_memory(array):
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = [read_only, strided, np.asfortranarray, reversed_in_memory, lambda array: read_only(strided(array))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_and_is_left_alone(adapter, draw, leaves, layout):
    case = draw(TEXT, weighted=True)
    batch = case.batch
    parameters = {path: layout(array) for path, array in case.parameters.items()}
    arrays = [layout(array) for array in (batch.inputs, batch.targets, batch.class_weights, batch.cotangent)]
    found = leaves(adapter(replace(case, parameters=parameters, batch=type(batch)(*arrays))))
    for name, expected in leaves(adapter(case)).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-14, atol=1e-16)
    for path, array in parameters.items():
        np.testing.assert_array_equal(array, case.parameters[path])
    for array, original in zip(
        arrays, (batch.inputs, batch.targets, batch.class_weights, batch.cotangent), strict=True
    ):
        np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize("rows", [1, 4])
def test_results_are_fresh_writable_arrays(adapter, draw, leaves, rows):
    case = draw(TEXT, rows=rows, weighted=True)
    given = [*case.parameters.values(), *vars(case.batch).values()]
    first, again = leaves(adapter(case)), leaves(adapter(case))
    results = list(first.values()) + list(again.values())
    for index, array in enumerate(results):
        assert type(array) is np.ndarray
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert not any(np.shares_memory(array, other) for other in given)
        assert not any(np.shares_memory(array, other) for other in results[:index])
    for array in first.values():
        array[...] = np.nan
    for name, array in leaves(adapter(case)).items():
        np.testing.assert_array_equal(array, again[name])


@pytest.mark.parametrize("layout", [strided, np.asfortranarray, reversed_in_memory])
def test_any_layout_of_bfloat16_gives_the_same(adapter, draw, leaves, layout):
    case = draw(TEXT, weighted=True, dtype=dtype_of("bfloat16"))
    parameters = {path: read_only(layout(array)) for path, array in case.parameters.items()}
    batch = replace(case.batch, **{name: layout(array) for name, array in vars(case.batch).items() if array.ndim > 1})
    found = leaves(adapter(replace(case, parameters=parameters, batch=batch)))
    for name, expected in leaves(adapter(case)).items():
        np.testing.assert_array_equal(found[name], expected)


def test_every_dtype_is_declared(adapter):
    assert adapter.module.DTYPES == DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_shapes_and_dtypes(adapter, draw, leaves, dtype, reduction):
    case = draw(TEXT.replace("none", reduction), rows=4, weighted=True, dtype=dtype_of(dtype))
    found = adapter(case)
    assert all(type(array) is np.ndarray for array in leaves(found).values())
    assert all(array.dtype == dtype for array in leaves(found).values())
    assert {path: array.shape for path, array in found.parameters.items()} == case.network.parameters()
    assert list(found.parameters) == list(case.network.parameters())
    assert found.loss.shape == case.network.loss.shape(4, 3)
    assert found.input.shape == (4, 3)
    for arrays in (found.deltas, found.outputs):
        assert {index: array.shape for index, array in arrays.items()} == {0: (4, 4), 1: (4, 4), 2: (4, 3)}


def test_float32_and_float64_agree(adapter, draw, leaves):
    double = draw(TEXT, weighted=True, dtype=np.float64)
    single = leaves(adapter(draw(TEXT, weighted=True, dtype=np.float32)))
    for name, array in leaves(adapter(double)).items():
        np.testing.assert_allclose(single[name], array, rtol=1e-5, atol=1e-5)


def test_what_the_cost_does_not_reach_has_zero_gradient(adapter, draw):
    case = draw("3 -> ReLU -> Dense(2), MeanSquaredError", dtype=np.float64)
    case = replace(case, parameters={path: np.zeros_like(array) for path, array in case.parameters.items()})
    found = adapter(replace(case, batch=replace(case.batch, inputs=-np.ones((4, 3)))))
    np.testing.assert_array_equal(found.parameters["1.weight"], np.zeros((3, 2)))
    np.testing.assert_array_equal(found.input, np.zeros((4, 3)))


def test_an_unknown_dtype_is_named(adapter, draw):
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("longdouble is float64 on this platform")
    case = draw("3 -> Tanh, MeanSquaredError", dtype=np.longdouble)
    with pytest.raises(Unsupported, match=f"^{adapter.name}: no rule for {np.dtype(np.longdouble)}$"):
        adapter(case)


def test_the_version_is_the_frameworks(adapter):
    assert adapter.module.version().split(".")[0].isdecimal()


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_without_the_framework_the_import_fails_by_its_name(monkeypatch, framework):
    monkeypatch.setitem(sys.modules, framework, None)
    monkeypatch.delitem(sys.modules, f"gradconform.adapters.{framework}", raising=False)
    with pytest.raises(ImportError, match=framework):
        importlib.import_module(f"gradconform.adapters.{framework}")
