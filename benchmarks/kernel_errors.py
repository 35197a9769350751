"""The worst errors of the elementary functions in the installed NumPy, PyTorch and XLA, beside those allowed.

    python benchmarks/kernel_errors.py [--points 262144] [--dtype float32]

Errors are in units of the unit roundoff times what `gradconform.reference.kernels.UNITS` says. float64 and float32 are
sampled over the whole normal range and densest where the errors are; of bfloat16 and float16 every number is taken.
The exact values are computed in 80 bits for float64 and in float64 for the others. A result that underflows may be
flushed to 0; one that overflows is left out. A library that is not installed is left out too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Iterator
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradconform.dtypes import DTYPES, dtype_of, finfo
from gradconform.layers import GELU, Sigmoid, SiLU, Softplus, Tanh
from gradconform.reference.erf import erfc
from gradconform.reference.functions import function as scalar
from gradconform.reference.kernels import DEVIATIONS, KERNELS, UNITS, Deviation, Kernel

A = NDArray[Any]
Index = A | slice
Computing = Callable[[Any], Any]

LIBRARIES = ("numpy", "torch", "xla")
TRIPLES = 100
INF = math.inf
ALL = slice(None)


class Definition(NamedTuple):
    """A function, exactly, and the intervals in which its errors are; infinite where exp overflows."""

    exact: Computing
    intervals: tuple[tuple[float, float], ...]
    domain: tuple[float, float] = (-INF, INF)


def value(layer: Any) -> Computing:
    """Return the activation of a layer, as the reference computes it."""
    return lambda z: scalar(layer).evaluate(z)[0]


ALL_OF_IT = ((-1.0, 1.0), (-6.0, 6.0), (-40.0, 40.0), (-INF, INF))
DEFINITIONS = {
    "exp": Definition(np.exp, ALL_OF_IT),
    "log": Definition(np.log, ((0.5, 2.0), (0.7, 0.8), (1.25, 1.4), (0.97, 1.03), (0.0, 100.0)), (0.0, INF)),
    "log1p": Definition(np.log1p, ((-1.0, 1.0), (-0.55, -0.25), (0.3, 0.45), (0.0, 100.0)), (-1.0, INF)),
    "expm1": Definition(np.expm1, (*ALL_OF_IT, (0.0, 0.15))),
    "tanh": Definition(value(Tanh()), (*ALL_OF_IT[:2], (-0.6, 0.6), (-20.0, 20.0), (17.0, 20.0))),
    "sigmoid": Definition(value(Sigmoid()), (*ALL_OF_IT, (-17.0, -16.0), (-38.0, -35.0))),
    "log_sigmoid": Definition(lambda z: -value(Softplus())(-z), (*ALL_OF_IT, (0.8, 0.9))),
    "softplus": Definition(value(Softplus()), (*ALL_OF_IT, (-0.9, -0.8))),
    "silu": Definition(value(SiLU()), (*ALL_OF_IT, (-17.0, -16.0), (-38.0, -35.0))),
    "erf": Definition(lambda x: 1 - erfc(x), (*ALL_OF_IT[:2], (-4.0, -2.9), (2.9, 4.0))),
    "erfc": Definition(erfc, (*ALL_OF_IT, (-1.0, -0.7))),
    "gelu": Definition(value(GELU()), (*ALL_OF_IT, (1.0, 2.1), (2.9, 3.5))),
    "gelu_tanh": Definition(value(GELU(approximate="tanh")), (*ALL_OF_IT, (1.0, 2.1), (4.0, 4.5), (7.3, 7.4))),
}


def numpy_kernels() -> dict[str, Computing]:
    return {
        "exp": np.exp,
        "log": np.log,
        "log1p": np.log1p,
        "expm1": np.expm1,
        "tanh": np.tanh,
        "softplus": lambda z: np.logaddexp(z, z.dtype.type(0)),
    }


def torch_kernels() -> dict[str, Computing]:
    import torch
    from torch.nn import functional

    return {
        "exp": torch.exp,
        "log": torch.log,
        "log1p": torch.log1p,
        "expm1": torch.expm1,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "log_sigmoid": functional.logsigmoid,
        "softplus": lambda z: functional.softplus(z, threshold=40),
        "silu": functional.silu,
        "erf": torch.erf,
        "erfc": torch.erfc,
        "gelu": functional.gelu,
        "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    }


def xla_kernels() -> dict[str, Computing]:
    import jax
    import jax.numpy as jnp

    return {
        "exp": jnp.exp,
        "log": jnp.log,
        "log1p": jnp.log1p,
        "expm1": jnp.expm1,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "log_sigmoid": jax.nn.log_sigmoid,
        "softplus": jax.nn.softplus,
        "silu": jax.nn.silu,
        "erf": jax.lax.erf,
        "erfc": jax.lax.erfc,
        "gelu": lambda z: jax.nn.gelu(z, approximate=False),
        "gelu_tanh": lambda z: jax.nn.gelu(z, approximate=True),
    }


KERNELS_OF = {"numpy": numpy_kernels, "torch": torch_kernels, "xla": xla_kernels}


def numpy_runs(kernel: Computing, z: A) -> Iterator[tuple[Index, A]]:
    """Yield results and which arguments they are of: contiguous ones, which are vectorised, and strided ones."""
    with np.errstate(all="ignore"):
        yield ALL, kernel(z)
        yield ALL, kernel(np.stack([z, z], axis=1)[:, 0])


def torch_runs(kernel: Computing, z: A) -> Iterator[tuple[Index, A]]:
    """Yield results and which arguments they are of: contiguous ones, which are vectorised, and strided ones."""
    import torch

    given = torch.from_numpy(z.astype(np.float64)).to(getattr(torch, z.dtype.name))
    with torch.no_grad():
        yield ALL, kernel(given).double().numpy()
        yield ALL, kernel(torch.stack([given, given], dim=1)[:, 0]).double().numpy()


def xla_runs(kernel: Computing, z: A) -> Iterator[tuple[Index, A]]:
    """Yield results and which arguments they are of: compiled, operation by operation, and three at a time."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(z.dtype == np.float64):
        given = jnp.asarray(z)
        compiled = jax.jit(kernel)
        yield ALL, np.asarray(compiled(given))
        with jax.disable_jit():
            yield ALL, np.asarray(kernel(given))
        for some in np.random.default_rng(1).integers(z.size, size=(TRIPLES, 3)):
            yield some, np.asarray(compiled(jnp.asarray(z[some])))


RUNS = {"numpy": numpy_runs, "torch": torch_runs, "xla": xla_runs}


def arguments(function: str, dtype: str, points: int) -> A:
    """Return arguments of the function: every one of a 16-bit type, else `points` of them."""
    limits, definition = finfo(dtype_of(dtype)), DEFINITIONS[function]
    low, high = definition.domain
    if limits.bits == 16:
        z: A = np.arange(2**16, dtype=np.uint16).view(limits.dtype)
    else:
        rng = np.random.default_rng(0)
        reach = math.log(limits.max)
        share = points // (len(definition.intervals) + 1)
        drawn = [rng.uniform(max(a, -reach), min(b, reach), share) for a, b in definition.intervals]
        sizes = np.exp2(rng.uniform(limits.minexp, limits.maxexp, points - share * len(drawn)))
        drawn.append(sizes * rng.choice([-1, 1] if low < 0 else [1], sizes.shape))
        z = np.concatenate(drawn).astype(limits.dtype)
    with np.errstate(invalid="ignore"):
        z = z[np.isfinite(z)]
    # nobody flushes float16, whose subnormal numbers are ordinary ones of float32
    least = limits.smallest_subnormal if dtype == "float16" else limits.smallest_normal
    inside: A = z[(np.abs(z) >= least) & (z > low) & (z < high)]
    return inside


class Exactly(NamedTuple):
    """The results of a function, the unit of their errors, and what is not counted of an error."""

    exact: A
    unit: A
    uncounted: A

    def worst(self, index: Index, computed: A) -> float:
        """Return the largest error of computed results."""
        exact, unit, uncounted = self.exact[index], self.unit[index], self.uncounted[index]
        with np.errstate(all="ignore"):
            beyond = np.abs(computed.astype(exact.dtype) - exact) - uncounted
            counted = np.isfinite(uncounted) & ~(beyond <= 0)
            units = np.where(np.isnan(beyond), INF, beyond / unit)
        return float(np.max(units, initial=0, where=counted))


def exactly(function: str, z: A) -> Exactly:
    """Return what the results of `function` have to be."""
    limits = finfo(z.dtype)
    u, largest, normal = float(limits.eps) / 2, float(limits.max), float(limits.smallest_normal)
    underflow = float(limits.smallest_subnormal) if z.dtype == np.float16 else normal
    x: A = z.astype(np.longdouble if z.dtype == np.float64 else np.float64)
    with np.errstate(all="ignore"):
        exact = DEFINITIONS[function].exact(x)
        size = np.abs(exact)
        scale = {"result": size, "one": np.ones_like(x), "argument": np.abs(x)}[UNITS[function]]
        # of the result, or of exp(-z) or 2 z on the way to it
        overflows = size * (1 + 16 * u) > largest
        if function in {"sigmoid", "silu"}:
            overflows |= -x > math.log(largest) - 0.7
        if function in {"gelu", "gelu_tanh"}:
            overflows |= 2 * np.abs(x) > largest
        factor = np.maximum(np.abs(x), 1) if function == "silu" else 1
        underflows = np.where(size < factor * normal, factor * underflow, 0)
    return Exactly(exact, u * scale, np.where(overflows, INF, underflows))


def inside_gelu(z: A) -> Exactly:
    """Return what the erf inside a GELU kernel has to be.

    Not counted are the roundings of the formula around it, which `gradconform.reference.functions` allows for: those
    of the argument, 2 |z| phi, of 1 + erf, 2 Phi, and of the products, 3 |gelu|.
    """
    exact, unit, uncounted = exactly("gelu", z)
    x = z.astype(exact.dtype)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return Exactly(exact, unit / 2, uncounted + unit * (2 * np.abs(x) * density + 5 * np.abs(exact / x)))


def worst(library: str, function: str, dtype: str, points: int, kernel: Computing | None = None) -> float | None:
    """Return the largest error of a library's function, or of `kernel` in its place; `None` where there is none."""
    kernels = KERNELS_OF[library]()
    if function not in kernels or (library, dtype) == ("numpy", "bfloat16"):
        return None
    kernel = kernel or kernels[function]
    z = arguments(function, dtype, points)
    for deviation in DEVIATIONS:
        if (deviation.library, deviation.dtype) == (library, dtype) and resolve_name(deviation.call) is kernel:
            z = z[(z < deviation.between[0]) | (z > deviation.between[1])]
    checks = [(kernel, exactly(function, z))]
    if function == "erf":
        checks.append((kernels["gelu"], inside_gelu(z)))
    return max(what.worst(*run) for one, what in checks for run in RUNS[library](one, z))


def deviating(deviation: Deviation, points: int) -> float:
    """Return the largest error of a deviation, between the arguments where it is."""
    z = np.random.default_rng(0).uniform(*deviation.between, points).astype(dtype_of(deviation.dtype))
    what = exactly(deviation.function, z)
    return max(what.worst(*run) for run in RUNS[deviation.library](resolve_name(deviation.call), z))


def row(kernel: Kernel, found: dict[str, float | None]) -> str:
    """Return a line of the table: what was measured, what is allowed, and how much of it is used."""
    used = max((one / kernel.constant(library) for library, one in found.items() if one is not None), default=0)
    columns = "".join(f"{'-' if found.get(one) is None else format(found[one], '.3g'):>10}" for one in LIBRARIES)
    allowed = f"{kernel.constant('torch'):g}"
    if kernel.constant("xla") != kernel.constant("torch"):
        allowed += f" / {kernel.constant('xla'):g}"
    return f"{kernel.function:<13}{kernel.dtype:<10}{columns}{allowed:>12}{used:>7.0%}  {UNITS[kernel.function]}"


def main() -> None:
    options = argparse.ArgumentParser(description="The worst errors of elementary functions, beside those allowed.")
    options.add_argument("--points", type=int, default=262_144, help="arguments of a function in float64 and float32")
    options.add_argument("--dtype", choices=DTYPES, help="this type only")
    chosen = options.parse_args()
    modules = {"numpy": "numpy", "torch": "torch", "xla": "jax"}
    installed = [one for one in LIBRARIES if importlib.util.find_spec(modules[one])]
    print(", ".join(f"{modules[one]} {importlib.metadata.version(modules[one])}" for one in installed))
    print(f"{'function':<13}{'dtype':<10}{'numpy':>10}{'torch':>10}{'xla':>10}{'allowed':>12}{'used':>7}  u times")
    for kernel in KERNELS:
        if chosen.dtype in {None, kernel.dtype}:
            found = {one: worst(one, kernel.function, kernel.dtype, chosen.points) for one in installed}
            print(row(kernel, found), flush=True)
    for deviation in DEVIATIONS:
        if deviation.library in installed and chosen.dtype in {None, deviation.dtype}:
            low, high = deviation.between
            print(f"{deviation.call} from {low:g} to {high:g}: {deviating(deviation, chosen.points):.3g}, not allowed")


if __name__ == "__main__":
    main()
