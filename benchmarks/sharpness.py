"""How small an error of one gradient entry is found: the two looks beside the checkers of PyTorch and JAX.

    python benchmarks/sharpness.py                  all dtypes; gradcheck and check_grads on the first cases alone
    python benchmarks/sharpness.py --networks 50

Each network is drawn with ordinary numbers, as at the start of training. Its gradients are PyTorch's own; one entry of
one parameter's gradient, drawn among those that are not 0, is made wrong by a relative error, and the smallest of a
ladder of errors, two a decade, from which on the checker complains is noted. All checkers have their defaults:

- `assert_close`: torch.testing.assert_close of that gradient against the one of the reference;
- `gradcheck`: torch.autograd.gradcheck of a torch.autograd.Function whose backward has the error, in float64;
- `check_grads`: jax.test_util.check_grads, order 1, of a jax.custom_vjp whose backward has the error.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the frameworks are imported

import argparse
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import torch
from hypothesis import Phase

from gradconform.adapters import jax as jax_adapter
from gradconform.adapters import torch as torch_adapter
from gradconform.case import Array, Batch, Case, Gradients
from gradconform.conformance.compare import ratios
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import adapter
from gradconform.conformance.plan import Chunk, Plan, draw_examples
from gradconform.conformance.sharpness import LADDER
from gradconform.conformance.situation import Situation, Subject
from gradconform.dtypes import DTYPES
from gradconform.reference.backpropagation import gradients

SLOW_CASES = 40
"""gradcheck and check_grads take up to seconds a case."""

Complains = Callable[[float], bool]


def examples() -> Iterator[Example]:
    """Yield examples as `gradconform check torch` draws them, each structure once."""
    plan, met = Plan([adapter("torch")], seed=1), set()
    for start in count():
        drawn: list[Example] = []
        draw_examples(plan, Chunk(start=start), [Phase.generate], drawn.append)
        for example in drawn:
            if example.structure not in met:
                met.add(example.structure)
                yield example


def smallest(complains: Complains) -> float:
    """Return the smallest error of the ladder that is found, 0 without any, infinite where not even the largest is."""
    if complains(0.0):
        return 0.0
    low, high = 0, len(LADDER) - 1
    if not complains(LADDER[high]):
        return np.inf
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if complains(LADDER[middle]) else (middle + 1, high)
    return LADDER[low]


def wrong(array: Array, place: tuple[int, ...], error: float) -> Array:
    """Return an array with one element wrong by a relative error, in float64 so that no rounding hides it."""
    changed = array.astype(np.float64)
    changed[place] *= 1 + error
    return changed


def looks(case: Case, path: str, place: tuple[int, ...]) -> dict[str, Complains]:
    """Return what the global and the local look say of an error in one element."""
    subject = Subject(adapter("torch"), Situation(case))

    def complains(look: str) -> Complains:
        view = next(view for view in subject.views if view.look == look)
        bound = view.against.expected.gradients.parameters[path]
        return lambda error: bool(np.any(ratios(bound, wrong(view.actual.parameters[path], place, error)) > 1))

    return {"global": complains("global"), "local": complains("local")}


def assert_close(case: Case, found: Gradients[Array], path: str, place: tuple[int, ...]) -> Complains:
    """Return what torch.testing.assert_close says."""
    doubled = {name: array.astype(np.float64) for name, array in case.parameters.items()}
    right = gradients(case.network, doubled, _in_double(case.batch)).parameters[path]
    kind = getattr(torch, case.dtype.name)

    def complains(error: float) -> bool:
        changed = torch.tensor(wrong(found.parameters[path], place, error)).to(kind)
        try:
            torch.testing.assert_close(changed, torch.tensor(right).to(kind))
        except AssertionError:
            return True
        return False

    return complains


def gradcheck(case: Case, path: str, place: tuple[int, ...]) -> Complains:
    """Return what torch.autograd.gradcheck says of a function of the one parameter."""

    def complains(error: float) -> bool:
        class Cost(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
                found = _with(case, path, weight.detach().numpy(), torch_adapter.gradients)
                ctx.found = wrong(found.parameters[path], place, error)
                return torch.tensor(_total(case, found))

            @staticmethod
            def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
                return upstream[0] * torch.tensor(ctx.found)

        weight = torch.tensor(np.array(case.parameters[path]), requires_grad=True)
        return not torch.autograd.gradcheck(Cost.apply, (weight,), raise_exception=False)

    return complains


def check_grads(case: Case, path: str, place: tuple[int, ...]) -> Complains:
    """Return what jax.test_util.check_grads says of a function of the one parameter."""

    def found(weight: Any) -> Gradients[Array]:
        return _with(case, path, np.asarray(weight), jax_adapter.gradients)

    def complains(error: float) -> bool:
        @jax.custom_vjp
        def cost(weight: jax.Array) -> jax.Array:
            return jnp.asarray(_total(case, found(weight)))

        def forward(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
            return cost(weight), jnp.asarray(wrong(found(weight).parameters[path], place, error))

        cost.defvjp(forward, lambda gradient, upstream: (upstream * gradient,))
        try:
            jax.test_util.check_grads(cost, (jnp.asarray(case.parameters[path]),), order=1, modes=("rev",))
        except AssertionError:
            return True
        return False

    return complains


def _with(case: Case, path: str, weight: Array, compute: Callable[..., Gradients[Array]]) -> Gradients[Array]:
    return compute(case.network, {**case.parameters, path: weight}, case.batch)


def _total(case: Case, found: Gradients[Array]) -> Array:
    """Return the cost as a number: an unreduced one weighted by its cotangent."""
    assert found.loss is not None
    return np.sum(found.loss if case.batch.cotangent is None else case.batch.cotangent * found.loss)


def _in_double(batch: Batch) -> Batch:
    def double(array: Any) -> Any:
        return array if array is None or array.dtype.kind in "iu" else array.astype(np.float64)

    return Batch(**{name: double(array) for name, array in vars(batch).items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, jax {jax.__version__}; the smallest relative error of one entry that is found")
    print(f"{'dtype':<10}{'checker':<14}{'networks':>9}{'median':>10}{'90 %':>10}{'99 %':>10}{'cries wolf':>12}")
    for dtype in DTYPES:
        found: dict[str, list[float]] = {}
        rng = np.random.default_rng(0)
        for example in examples():
            case = example.case(Draw("ordinary", int(rng.integers(2**32))), dtype)
            ours = torch_adapter.gradients(case.network, case.parameters, case.batch)
            places = [(path, tuple(p)) for path, g in ours.parameters.items() for p in np.argwhere(g != 0)]
            if not places:
                continue
            path, place = places[int(rng.integers(len(places)))]
            checkers = looks(case, path, place) | {"assert_close": assert_close(case, ours, path, place)}
            done = len(found.get("global", []))
            if dtype == "float64" and done < SLOW_CASES:
                checkers["gradcheck"] = gradcheck(case, path, place)
            with jax.enable_x64(dtype == "float64"):
                if dtype in {"float64", "float32"} and done < SLOW_CASES:
                    checkers["check_grads"] = check_grads(case, path, place)
                for name, complains in checkers.items():
                    found.setdefault(name, []).append(smallest(complains))
            if done + 1 == options.networks:
                break
        for name, errors in found.items():
            quantiles = [np.quantile(errors, share, method="inverted_cdf") for share in (0.5, 0.9, 0.99)]
            wolf = np.mean(np.asarray(errors) == 0)
            numbers = "".join(f"{'none' if np.isinf(q) else f'{q:.0e}':>10}" for q in quantiles)
            print(f"{dtype:<10}{name:<14}{len(errors):>9}{numbers}{wolf:>11.0%}", flush=True)


if __name__ == "__main__":
    main()
