"""The floating-point types by name. bfloat16 is no type of NumPy's own: ml_dtypes adds it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from gradconform.errors import InvalidInput

_BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
_BY_NAME: dict[str, np.dtype[Any]] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "bfloat16": _BFLOAT16,
    "float16": np.dtype(np.float16),
}
DTYPES = tuple(_BY_NAME)


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype called `name`; raises `InvalidInput` for one that is not in `DTYPES`."""
    if name not in _BY_NAME:
        raise InvalidInput(f"dtype {name!r} is unknown; use {', '.join(DTYPES)}")
    return _BY_NAME[name]


@lru_cache
def is_floating(dtype: np.dtype[Any]) -> bool:
    """Return whether `dtype` is one of NumPy's floating-point types or bfloat16; other types of ml_dtypes are not."""
    # not by its kind: that is "V" for bfloat16, and "f" for float8_e5m2
    return bool(np.issubdtype(dtype, np.floating) or dtype == _BFLOAT16)


def finfo(dtype: DTypeLike) -> np.finfo[Any]:
    """Return the limits of a floating-point type, as `numpy.finfo` does, which refuses bfloat16.

    They are scalars of that type, 16-bit ones too: arithmetic with them overflows unless they are made `float`.
    """
    limits: np.finfo[Any] = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call] # ml_dtypes leaves it without types
    return limits
