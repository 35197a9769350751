"""What one rounding may do: the arithmetic model of each floating-point type, in each kind of implementation.

fl(x op y) = (x op y)(1 + d) + h with |d| <= u and |h| <= eta. Any summation order, fused or not, and any subset of the
roundings left out are inside the model; reduced-precision products such as TF32, and Winograd's convolution, are not.

An *arithmetic* is what is known of an implementation's kernels beyond that, as it was measured:

- `numpy`: gradual underflow; every operation is rounded to its type. In bfloat16 and float16 products are accumulated
  in float32, plain sums in the type itself, as they are over the rows of an array.
- `torch`: the same; in bfloat16 and float16 sums, too, are accumulated in float32 and rounded once, and in bfloat16
  subnormal numbers may be read and written as 0, as the processors' own instructions for it do.
- `xla`: subnormal numbers are read and written as 0; in bfloat16 and float16 products are accumulated in float32, plain
  sums in the type itself, composed functions are rounded operation by operation, or not at all where XLA fuses them.
- `any`: all of these, for an implementation of which nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gradconform.dtypes import DTYPES, dtype_of, finfo
from gradconform.errors import InvalidInput, Unsupported
from gradconform.reference.kernels import constants

ARITHMETICS = ("numpy", "torch", "xla", "any")
ACCUMULATION = np.dtype(np.float32)
"""The type in which bfloat16 and float16 are accumulated."""


@dataclass(frozen=True)
class Precision:
    """A floating-point type in one arithmetic, with the worst error of its elementary functions.

    The function constants, in units of u times the result, are those of `gradconform.reference.kernels`.
    """

    dtype: np.dtype[Any]
    arithmetic: str
    u: float
    """Unit roundoff: half the distance from 1 to the next number."""
    u_acc: float
    """Unit roundoff of the accumulation inside matrix products."""
    u_sum: float
    """Unit roundoff of the accumulation inside plain sums."""
    eta: float
    """Worst absolute error of an operation whose result underflows."""
    eta_acc: float
    """The same inside matrix products."""
    normal: float
    """The smallest normal number. Elementary functions promise nothing below it."""
    flushes: bool
    """Whether subnormal numbers may be read as 0."""
    excess: bool
    """Whether a value may be used with more digits than it is stored with."""
    largest: float
    exp: float
    log: float
    expm1: float
    tanh: float
    sigmoid: float
    softplus: float
    erf: float
    """The error function inside GELU kernels, absolute."""

    @property
    def longer(self) -> bool:
        """Whether products are accumulated in a longer type, from which the result is rounded once more."""
        return self.u_acc < self.u

    def sum_units(self, terms: float) -> float:
        """Return the relative error of a sum of so many terms in units of u."""
        return (terms - 1) * self.u_sum / self.u + (self.u_sum < self.u)


@lru_cache
def precision(dtype: np.dtype[Any], arithmetic: str = "any") -> Precision:
    """Return the model of `dtype` in an arithmetic; raises `Unsupported` for a type without one."""
    if arithmetic not in ARITHMETICS:
        raise InvalidInput(f"arithmetic {arithmetic!r} is unknown; use {', '.join(ARITHMETICS)}")
    if dtype not in map(dtype_of, DTYPES):
        raise Unsupported(f"no rounding model for {dtype}; there is one for {', '.join(DTYPES)}")
    info = finfo(dtype)
    u, normal, subnormal = float(info.eps) / 2, float(info.smallest_normal), float(info.smallest_subnormal)
    long = dtype if u < 2.0**-11 else ACCUMULATION
    u_acc = float(np.finfo(long).eps) / 2
    # nobody was seen to flush float16, whose subnormal numbers are ordinary ones of float32
    flushes = arithmetic in {"xla", "any"} and dtype != np.float16
    # the instructions for bfloat16 that processors have read and write subnormal numbers as 0
    flushes = flushes or (arithmetic == "torch" and dtype.name == "bfloat16")
    # the bounds of float64 are themselves float64 numbers, of which an operation may lose some units
    eta = normal if flushes else 4 * subnormal if dtype == np.float64 else subnormal
    return Precision(
        dtype=dtype,
        arithmetic=arithmetic,
        u=u,
        u_acc=u_acc,
        u_sum=u_acc if arithmetic == "torch" else u,
        eta=eta,
        eta_acc=eta if long == dtype else float(np.finfo(long).smallest_normal),
        normal=subnormal if dtype == np.float16 else normal,
        flushes=flushes,
        excess=long != dtype and arithmetic in {"xla", "any"},
        largest=float(info.max),
        **constants(dtype.name, arithmetic),
    )
