"""What one rounding may do: the arithmetic model of each precision and the accuracy of the elementary functions.

fl(x op y) = (x op y)(1 + d) + h with |d| <= u and |h| <= eta. Any summation order, fused or not, with or without
flushing to zero, is inside the model; reduced-precision products such as TF32 are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconform.errors import Unsupported


@dataclass(frozen=True)
class Precision:
    """A floating-point type and the worst error of its elementary functions, in units of u times the result.

    The function constants are 1.1 to 2 times the worst that was measured over NumPy, PyTorch and XLA on the CPU.
    """

    dtype: np.dtype[Any]
    u: float
    """Unit roundoff: half the distance from 1 to the next number."""
    eta: float
    """Worst absolute error of an operation whose result underflows: the smallest normal number, as XLA flushes."""
    largest: float
    exp: float = 4
    log: float = 5
    expm1: float = 8
    tanh: float = 9
    sigmoid: float = 4
    softplus: float = 5
    erf: float = 7
    """The error function inside GELU kernels, absolute."""


_PRECISIONS = {
    np.dtype(np.float64): Precision(np.dtype(np.float64), 2.0**-53, 2.0**-1022, float(np.finfo(np.float64).max)),
    np.dtype(np.float32): Precision(np.dtype(np.float32), 2.0**-24, 2.0**-126, float(np.finfo(np.float32).max), erf=14),
}


def precision(dtype: np.dtype[Any]) -> Precision:
    """Return the model of `dtype`; raises `Unsupported` for a type without one."""
    if dtype not in _PRECISIONS:
        known = ", ".join(str(known) for known in _PRECISIONS)
        raise Unsupported(f"no rounding model for {dtype}; there is one for {known}")
    return _PRECISIONS[dtype]
