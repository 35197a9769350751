"""The table of kernel errors: it leaves room above what was measured, and the installed releases keep to it."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gradconform.dtypes import DTYPES
from gradconform.reference.bounds import LONG
from gradconform.reference.kernels import CONSTANTS, DEVIATIONS, KERNELS, UNITS, constants

LIBRARIES = ["numpy", pytest.param("torch", marks=pytest.mark.torch), pytest.param("xla", marks=pytest.mark.jax)]
MARKS = {"numpy": [], "torch": [pytest.mark.torch], "xla": [pytest.mark.jax]}
POINTS = 8_000


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "kernel_errors.py"
    spec = importlib.util.spec_from_file_location("kernel_errors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs_long(dtype):
    if dtype == "float64" and not LONG:
        pytest.skip("this machine has no type longer than float64")


def measured(kernel):
    return {"numpy": kernel.numpy, "torch": kernel.torch, "xla": kernel.xla}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"{kernel.function}-{kernel.dtype}")
def test_every_row_leaves_room(kernel):
    found = {library: error for library, error in measured(kernel).items() if error is not None}
    assert found
    for library, error in found.items():
        assert 0 < 1.05 * error <= kernel.constant(library) <= kernel.constant("any")


def test_every_function_has_a_row_for_every_dtype():
    rows = [(kernel.function, kernel.dtype) for kernel in KERNELS]
    assert sorted(rows) == sorted((function, dtype) for function in UNITS for dtype in DTYPES)
    assert set(UNITS.values()) == {"result", "one", "argument"}
    assert all(kernel.allowed_xla is None for kernel in KERNELS if kernel.dtype in {"float64", "float32"})


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_constants_are_those_of_the_rows(dtype):
    rows = {kernel.function: kernel for kernel in KERNELS if kernel.dtype == dtype}
    found = {arithmetic: constants(dtype, arithmetic) for arithmetic in ("numpy", "torch", "xla", "any")}
    for arithmetic, values in found.items():
        assert list(values) == list(CONSTANTS)
        assert all(values[function] == rows[function].constant(arithmetic) for function in CONSTANTS)
    assert found["numpy"] == found["torch"]
    assert found["any"] == {name: max(found["torch"][name], found["xla"][name]) for name in CONSTANTS}


def test_some_constants():
    assert constants("float64", "torch") == {
        "exp": 4, "log": 5, "expm1": 8, "tanh": 9, "sigmoid": 4, "softplus": 5, "erf": 7,
    }  # fmt: skip
    assert constants("float32", "xla")["erf"] == 14
    assert set(constants("bfloat16", "torch").values()) == {1.1}
    assert constants("float16", "any")["sigmoid"] == constants("float16", "xla")["sigmoid"] == 3


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda row: row.call)
def test_every_deviation_is_explained_and_not_allowed(deviation):
    (row,) = (row for row in KERNELS if (row.function, row.dtype) == (deviation.function, deviation.dtype))
    assert deviation.measured > row.constant(deviation.library)
    assert deviation.reason.endswith(".")
    assert deviation.reason.count(". ") == 0
    assert deviation.source


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"{kernel.function}-{kernel.dtype}")
def test_the_installed_release_keeps_to_the_table(benchmark, library, kernel):
    needs_long(kernel.dtype)
    found = benchmark.worst(library, kernel.function, kernel.dtype, POINTS)
    if measured(kernel)[library] is None:
        assert found is None
    else:
        # the last rounding alone is more than a quarter somewhere
        assert 0.25 < found <= kernel.constant(library)


@pytest.mark.parametrize("deviation", [pytest.param(row, marks=MARKS[row.library], id=row.call) for row in DEVIATIONS])
def test_a_deviation_is_still_there(benchmark, deviation):
    needs_long(deviation.dtype)
    found = benchmark.deviating(deviation, POINTS)
    assert found <= 1.1 * deviation.measured
    assert found > deviation.measured / 2, f"{deviation.call} is better than it was: the row can go"


@pytest.mark.jax
def test_xlas_log1p_is_worst_where_its_row_says(benchmark):
    needs_long("float64")
    (row,) = (row for row in DEVIATIONS if row.function == "log1p")
    close = dataclasses.replace(row, between=(-0.41422, -0.41420))
    assert benchmark.deviating(close, 100) > 100, f"{row.call} is better than it was: the row can go"


@pytest.mark.torch
def test_pytorchs_softplus_is_off_above_its_threshold_by_what_its_row_says(benchmark):
    needs_long("float64")
    (row,) = (row for row in DEVIATIONS if row.library == "torch")
    close = dataclasses.replace(row, between=(20.0, 20.01))
    # the next term of log(1 + exp(z)) = z + exp(-z) - ...: 2e-9
    error = benchmark.deviating(close, 100) * 2.0**-53 * 20
    assert error == pytest.approx(np.exp(-20), rel=0.01), f"{row.call} is better than it was: the row can go"


def off(kernel, units, where=lambda z: True):
    """Return `kernel` with an error of so many units of u."""
    return lambda z: kernel(z) * z.dtype.type(1 + units * float(np.finfo(z.dtype).eps) / 2 * where(z))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("units", [20, -20])
def test_a_kernel_that_is_off_is_measured(benchmark, dtype, units):
    needs_long(dtype)
    assert 20 <= benchmark.worst("numpy", "tanh", dtype, POINTS, off(np.tanh, units)) < 23


@pytest.mark.parametrize(
    "where",
    [
        lambda z: not z.flags.contiguous,
        lambda z: (z > 1) & (z < 1.1),
        lambda z: z < -18,
        lambda z: np.abs(z) < 1e-290,
        lambda z: z > 1e300,
    ],
    ids=["strided", "in an interval", "in the tail", "tiny", "huge"],
)
def test_an_error_anywhere_is_measured(benchmark, where):
    needs_long("float64")
    assert benchmark.worst("numpy", "tanh", "float64", POINTS, off(np.tanh, 20, where)) >= 19


@pytest.mark.jax
def test_an_error_in_short_arrays_alone_is_measured(benchmark):
    import jax.numpy as jnp

    def kernel(z):
        return jnp.tanh(z) * (1 + (z.size == 3) * 20 * 2.0**-24)

    assert benchmark.worst("xla", "tanh", "float32", POINTS, kernel) >= 19


def test_a_result_that_is_not_a_number_is_an_error_and_an_overflow_is_not(benchmark):
    assert benchmark.worst("numpy", "tanh", "float32", POINTS, lambda z: np.where(z > 1, np.nan, z)) == np.inf
    assert benchmark.worst("numpy", "exp", "float32", POINTS, lambda z: np.where(z > 80, np.inf, np.exp(z))) == np.inf
    assert benchmark.worst("numpy", "exp", "float32", POINTS, lambda z: np.where(z > 89, np.nan, np.exp(z))) < 4


def test_a_result_that_underflows_may_be_flushed(benchmark):
    def flushed(below):
        def kernel(z):
            result = np.exp(z)
            return np.where(result < below, 0, result).astype(z.dtype)

        return kernel

    normal = float(np.finfo(np.float32).smallest_normal)
    assert benchmark.worst("numpy", "exp", "float32", POINTS, flushed(normal)) < 4
    assert benchmark.worst("numpy", "exp", "float32", POINTS, flushed(1.1 * normal)) == pytest.approx(2**24)
    # not in float16, which nobody flushes
    normal = float(np.finfo(np.float16).smallest_normal)
    assert benchmark.worst("numpy", "exp", "float16", POINTS, flushed(normal)) > 1000


@pytest.mark.torch
def test_the_erf_inside_gelu_is_measured(benchmark, monkeypatch):
    from torch import special
    from torch.nn import functional

    def off_by(units):
        gelu = lambda z: 0.5 * z * (1 + special.erf(z / 2**0.5) + units * 2.0**-53)  # noqa: E731
        monkeypatch.setattr(functional, "gelu", gelu)
        return benchmark.worst("torch", "erf", "float64", POINTS)

    needs_long("float64")
    assert off_by(0) < 3
    assert 20 <= off_by(20) < 24


def test_the_table_is_printed(benchmark, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["kernel_errors.py", "--points", "100", "--dtype", "float32"])
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: name == "numpy")
    benchmark.main()
    title, head, *lines = capsys.readouterr().out.splitlines()
    assert title == f"numpy {np.__version__}"
    assert head.split()[:6] == ["function", "dtype", "numpy", "torch", "xla", "allowed"]
    assert [line.split()[0] for line in lines] == list(UNITS)
    name, dtype, found, torch, xla, allowed, used, *unit = lines[0].split()
    assert (name, dtype, torch, xla, allowed, unit) == ("exp", "float32", "-", "-", "4", ["result"])
    assert used == f"{float(found) / 4:.0%}"
