"""The rounding models: what follows from a type and an arithmetic."""

from __future__ import annotations

from dataclasses import asdict

import ml_dtypes
import numpy as np
import pytest

from gradconform.dtypes import DTYPES, dtype_of, finfo
from gradconform.errors import InvalidInput, Unsupported
from gradconform.reference.kernels import CONSTANTS, constants
from gradconform.reference.precision import ARITHMETICS, precision

SHORT = ("bfloat16", "float16")
each = pytest.mark.parametrize(
    "m", [pytest.param(precision(dtype_of(name), a), id=f"{name}-{a}") for name in DTYPES for a in ARITHMETICS]
)


@each
def test_the_limits_are_those_of_the_type(m):
    limits = finfo(m.dtype)
    assert 1 + 2 * m.u == 1 + float(limits.eps)
    assert m.largest == float(limits.max)
    assert float(limits.smallest_subnormal) <= m.eta <= float(limits.smallest_normal)
    assert m.normal >= m.eta


@each
def test_only_16_bit_types_are_accumulated_in_a_longer_one(m):
    short = m.dtype.name in SHORT
    assert m.longer == short
    assert m.u_acc == (2.0**-24 if short else m.u)
    assert m.eta_acc == (float(np.finfo(np.float32).smallest_normal) if short else m.eta)
    assert m.u_acc <= m.u_sum <= m.u


@each
def test_only_pytorch_adds_16_bit_numbers_in_the_longer_type(m):
    assert m.u_sum == (m.u_acc if m.arithmetic == "torch" else m.u)


@each
def test_what_xla_does_is_allowed_to_it_and_to_any_alone(m):
    xla = m.arithmetic in {"xla", "any"}
    # the processors' own instructions for bfloat16 flush, which PyTorch uses
    assert m.flushes == ((xla and m.dtype != np.float16) or (m.arithmetic == "torch" and m.dtype.name == "bfloat16"))
    assert m.excess == (xla and m.dtype.name in SHORT)
    # in float64 bounds underflow as the values do: some units are theirs
    units = 4 if m.dtype == np.float64 else 1
    gradual = units * float(finfo(m.dtype).smallest_subnormal)
    assert m.eta == (float(finfo(m.dtype).smallest_normal) if m.flushes else gradual)


@each
def test_the_functions_have_the_constants_of_the_table(m):
    assert {name: getattr(m, name) for name in CONSTANTS} == constants(m.dtype.name, m.arithmetic)


@each
def test_a_sum_costs_a_rounding_for_each_addition_and_one_for_what_is_shorter_than_the_accumulator(m):
    assert m.sum_units(5) == 4 * m.u_sum / m.u + (1 if m.u_sum < m.u else 0)


@pytest.mark.parametrize("name", DTYPES)
def test_any_is_what_is_known_of_xla(name):
    both = [asdict(precision(dtype_of(name), arithmetic)) | {"arithmetic": ""} for arithmetic in ("xla", "any")]
    assert both[0] == both[1]


@pytest.mark.parametrize("name", DTYPES)
def test_any_allows_whatever_another_allows(name):
    most = asdict(precision(dtype_of(name), "any"))
    for arithmetic in ARITHMETICS:
        fields = asdict(precision(dtype_of(name), arithmetic))
        assert all(most[field] >= fields[field] for field in fields if field not in {"dtype", "arithmetic"})


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_numpy_adds_the_rows_of_a_16_bit_array_in_its_own_type(dtype):
    # 1 is half of what the last digit of so large a sum is worth
    stuck = 1 / float(finfo(dtype).eps) * 2
    assert np.ones((5000, 2), dtype).sum(axis=0).astype(float).tolist() == [stuck, stuck]


def test_an_arithmetic_that_is_unknown_is_named():
    with pytest.raises(InvalidInput) as error:
        precision(np.dtype(np.float32), "cupy")
    assert str(error.value) == "arithmetic 'cupy' is unknown; use numpy, torch, xla, any"


def test_a_type_without_a_model_is_named():
    with pytest.raises(Unsupported) as error:
        precision(np.dtype(np.longdouble), "torch")
    known = "float64, float32, bfloat16, float16"
    assert str(error.value) == f"no rounding model for {np.dtype(np.longdouble)}; there is one for {known}"
