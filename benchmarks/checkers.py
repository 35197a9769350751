"""The same wrong backward passes under `gradconform layer`, `torch.autograd.gradcheck` and `jax.test_util.check_grads`.

    python benchmarks/checkers.py [--largest 200000]

Every row is one candidate at one size; a cell says caught or passed, and the seconds of that check. The right candidate
is in the table too: there, passed is what is wanted. All checkers run with their defaults: gradconform on ten inputs,
and until it can name the wrong element; gradcheck in float64, as it asks for; check_grads in reverse mode on a
custom_vjp function in float32, which is JAX's default, and in forward mode on a custom_jvp function whose rule has the
same mistake, in float32 and in float64.

The slow gradcheck builds two matrices of outputs x inputs: where they take more than 2 GB, it is not run. Of a sum they
are small, but it would take minutes and tens of GB: it is not run above --slow elements. The fast one starts the slow
one where it finds something, to print both matrices; that is left out here, which makes it look better than it is.
"""

from __future__ import annotations

import argparse
import importlib
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

import jax  # isort: skip # torch first
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from gradconform.conformance.operation_run import check_layer

MOST_BYTES = 2e9
# private, and only there to print matrices: without it a failure of the fast mode takes the slow mode's memory
gradchecks: Any = importlib.import_module("torch.autograd.gradcheck")
gradchecks._run_slow_mode_and_get_error = lambda *arguments, **options: "not asked for"


class Fault(NamedTuple):
    """A backward pass of x**2, or of the sum of all x**2, for the cotangent c."""

    name: str
    backward: Callable[[Any, Any], Any]
    sizes: tuple[int, ...]
    total: bool = False


def one_wrong(c: Any, x: Any) -> Any:
    """Return a gradient that is wrong at one place."""
    right = 2 * c * x
    place = len(x) // 3
    if isinstance(x, torch.Tensor):
        right[place] *= 0.5
        return right
    return right.at[place].multiply(0.5)


FAULTS = (
    Fault("right", lambda c, x: 2 * c * x, (12, 100_000)),
    Fault("g*g", lambda c, x: 2 * c * c * x, (12,)),
    Fault("|g|", lambda c, x: 2 * abs(c) * x, (12,)),
    Fault("all zero", lambda c, x: 0 * c * x, (501, 100_000)),
    Fault("all zero, of a sum", lambda c, x: 0 * c * x, (501, 100_000), total=True),
    Fault("sign flipped", lambda c, x: -2 * c * x, (200_000,)),
    Fault("sign flipped, of a sum", lambda c, x: -2 * c * x, (200_000,), total=True),
    Fault("one wrong element", one_wrong, (100_000,)),
    Fault("one wrong element, of a sum", one_wrong, (100_000,), total=True),
    Fault("1e-6 too large", lambda c, x: 2 * (1 + 1e-6) * c * x, (12,)),
)


def torch_function(fault: Fault) -> Any:
    """Return a torch.autograd.Function with the fault."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return (x * x).sum() if fault.total else x * x

        @staticmethod
        def backward(ctx: Any, c: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = fault.backward(c, ctx.saved_tensors[0])
            return result

    return Square


def jax_function(fault: Fault) -> Any:
    """Return a jax.custom_vjp function with the fault."""

    def square(x: Any) -> Any:
        return (x * x).sum() if fault.total else x * x

    made = jax.custom_vjp(square)
    made.defvjp(lambda x: (square(x), x), lambda x, c: (fault.backward(c, x),))
    return made


def jax_forward_function(fault: Fault) -> Any:
    """Return a jax.custom_jvp function with the fault in its rule."""

    def square(x: Any) -> Any:
        return (x * x).sum() if fault.total else x * x

    def rule(primals: Any, tangents: Any) -> Any:
        tangent = fault.backward(tangents[0], primals[0])
        return square(primals[0]), tangent.sum() if fault.total else tangent

    made = jax.custom_jvp(square)
    made.defjvp(rule)
    return made


def timed(check: Callable[[], bool]) -> str:
    """Return caught or passed, and the seconds."""
    started = time.perf_counter()
    passed = check()
    return f"{'passed' if passed else 'caught'} {time.perf_counter() - started:6.2f} s"


def layer(candidate: Any, size: int) -> bool:
    """Return whether `gradconform layer` with its defaults passes the candidate."""
    return check_layer(candidate, inputs=[(size,)], max_examples=10).passed


def gradcheck(candidate: Any, size: int, fast: bool) -> bool:
    """Return whether gradcheck with its defaults passes the candidate."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=True)
    return bool(torch.autograd.gradcheck(candidate.apply, (x,), fast_mode=fast, raise_exception=False))


def check_grads_passes(candidate: Any, size: int, wide: bool, mode: str = "rev") -> bool:
    """Return whether check_grads with its defaults passes the candidate."""
    with jax.enable_x64(wide):
        x = jnp.asarray(np.random.default_rng(0).standard_normal(size), "float64" if wide else "float32")
        try:
            check_grads(candidate, (x,), order=1, modes=[mode])
        except AssertionError:
            return False
    return True


def chex_passes(candidate: Any, size: int, mode: str) -> bool:
    """Return whether chex.assert_numerical_grads with its defaults passes the candidate, in float32."""
    chex: Any = importlib.import_module("chex")
    x = jnp.asarray(np.random.default_rng(0).standard_normal(size), "float32")
    try:
        chex.assert_numerical_grads(candidate, (x,), order=1, modes=[mode])
    except AssertionError:
        return False
    return True


def beside_chex(largest: int) -> None:
    """Print the table of chex alone, which is none of this project's dependencies."""
    chex_passes(jax_function(FAULTS[0]), 3, "rev")
    print(f"{'of x**2, elements':<37}{'reverse 32':<17}forward 32")
    for fault in FAULTS:
        for size in fault.sizes:
            if size <= largest:
                reverse, forward = jax_function(fault), jax_forward_function(fault)
                cells = (
                    timed(lambda reverse=reverse, size=size: chex_passes(reverse, size, "rev")),
                    timed(lambda forward=forward, size=size: chex_passes(forward, size, "fwd")),
                )
                print(f"{f'{fault.name} {size:,}':<37}{cells[0]:<17}{cells[1]}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=200_000, help="leave out larger sizes")
    parser.add_argument("--slow", type=int, default=1_000, help="up to which size the slow gradcheck is run")
    parser.add_argument("--chex", action="store_true", help="chex.assert_numerical_grads alone, if it is installed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.chex:
        beside_chex(arguments.largest)
        return
    columns = (
        "gradconform",
        "gradcheck",
        "gradcheck fast",
        "gradconform",
        "check_grads 32",
        "forward 32",
        "forward 64",
    )
    print(f"torch {torch.__version__}, jax {jax.__version__}; {torch.get_num_threads()} threads")
    print(f"{'':<40}{'torch':<51}jax")
    print(f"{'backward pass of x**2':<29}{'elements':>9}  " + "".join(f"{column:<17}" for column in columns))
    # what is compiled or loaded at the first call is no check's own time
    layer(torch_function(FAULTS[0]), 3)
    layer(jax_function(FAULTS[0]), 3)
    check_grads_passes(jax_function(FAULTS[0]), 3, wide=False)
    for fault in FAULTS:
        for size in fault.sizes:
            if size > arguments.largest:
                continue
            mine, its, forward = torch_function(fault), jax_function(fault), jax_forward_function(fault)
            matrix = 2 * 8.0 * size * (1 if fault.total else size)
            if matrix > MOST_BYTES:
                slow = f"needs {matrix / 1e9:,.0f} GB"
            elif size > arguments.slow:
                slow = "not run"
            else:
                slow = timed(lambda mine=mine, size=size: gradcheck(mine, size, fast=False))
            cells = (
                timed(lambda mine=mine, size=size: layer(mine, size)),
                slow,
                timed(lambda mine=mine, size=size: gradcheck(mine, size, fast=True)),
                timed(lambda its=its, size=size: layer(its, size)),
                timed(lambda its=its, size=size: check_grads_passes(its, size, wide=False)),
                timed(lambda forward=forward, size=size: check_grads_passes(forward, size, wide=False, mode="fwd")),
                timed(lambda forward=forward, size=size: check_grads_passes(forward, size, wide=True, mode="fwd")),
            )
            print(f"{fault.name:<29}{size:>9,}  " + "".join(f"{cell:<17}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
