"""The floating-point types by name, bfloat16 among them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gradconform import InvalidInput
from gradconform.dtypes import DTYPES, dtype_of, finfo, is_floating


def test_every_name_is_that_of_its_dtype():
    assert DTYPES == ("float64", "float32", "bfloat16", "float16")
    for name in DTYPES:
        assert dtype_of(name).name == str(dtype_of(name)) == name
    assert dtype_of("float32") == np.float32
    assert dtype_of("bfloat16") == ml_dtypes.bfloat16


@pytest.mark.parametrize("name", ["float8_e5m2", "longdouble", "Float64", "int64", "f4", ""])
def test_an_unknown_name_is_told_the_known_ones(name):
    with pytest.raises(InvalidInput) as caught:
        dtype_of(name)
    assert str(caught.value) == f"dtype {name!r} is unknown; use float64, float32, bfloat16, float16"


def test_what_is_a_floating_point_type():
    assert all(is_floating(dtype_of(name)) for name in DTYPES)
    assert is_floating(np.dtype(np.longdouble))


@pytest.mark.parametrize(
    "dtype", [ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, "V2", int, bool, complex, object, "U2"]
)
def test_what_is_none(dtype):
    assert not is_floating(np.dtype(dtype))


@pytest.mark.parametrize(
    ("name", "digits", "smallest", "largest"),
    [
        ("float64", 53, -1022, (2 - 2.0**-52) * 2.0**1023),
        ("float32", 24, -126, (2 - 2.0**-23) * 2.0**127),
        ("bfloat16", 8, -126, (2 - 2.0**-7) * 2.0**127),
        ("float16", 11, -14, 65504.0),
    ],
)
def test_the_limits_of_every_type(name, digits, smallest, largest):
    limits = finfo(dtype_of(name))
    assert float(limits.eps) == 2.0 ** (1 - digits)
    assert float(limits.smallest_normal) == 2.0**smallest
    assert float(limits.smallest_subnormal) == 2.0 ** (smallest - digits + 1)
    assert float(limits.max) == largest
