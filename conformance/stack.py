"""Cases of one structure in one dtype, whose bounds are computed together: all arrays have one more axis before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconform.case import Array, Batch, Case, Gradients, Parameters
from gradconform.network import Network
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounds import Expected, expected

if TYPE_CHECKING:
    from gradconform.conformance.implementations import Implementation

CERTIFIED = 64
"""About so many members of a stack, evenly spread, tell how small an error would have been found: they are alike."""
TOGETHER = 100_000
"""So many numbers of parameters and activations are evaluated together: more would cost memory and save nothing."""


class Stack:
    """The cases, and what is expected of all of them: computed once for each arithmetic, shared by implementations."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases
        self.parameters, self.batch = side_by_side([(case.parameters, case.batch) for case in cases])
        self._expected: dict[tuple[Network, str], Expected] = {}
        self._kinks: dict[tuple[Network, str], list[int]] = {}

    def certified(self, member: int) -> bool:
        """Return whether it is measured in a member how small an error would have been found."""
        return member % max(1, len(self.cases) // CERTIFIED) == 0

    def kinks(self, implementation: Implementation) -> list[int]:
        """Return by member how many pre-activations are so near a kink that either one-sided derivative is right."""
        key = implementation.described(self.cases[0].network), implementation.arithmetic
        if key not in self._kinks:
            near = [site.near.sum(axis=(1, 2)) for site in self.expected(implementation).sites]
            self._kinks[key] = sum(near, np.zeros(len(self.cases), int)).tolist()
        return self._kinks[key]

    def expected(self, implementation: Implementation) -> Expected:
        """Return what the implementation, by its documented design, is to compute, with all kinks left open."""
        key = implementation.described(self.cases[0].network), implementation.arithmetic
        if key not in self._expected:
            self._expected[key] = self.evaluate(implementation, slice(None))
        return self._expected[key]

    def evaluate(self, implementation: Implementation, members: slice | Sequence[int], **options: Any) -> Expected:
        """Return the same of some members, with options of `gradconform.reference.bounds.expected`."""
        parameters = {path: array[members] for path, array in self.parameters.items()}
        parts: list[Any] = [None if array is None else array[members] for array in vars(self.batch).values()]
        network = implementation.described(self.cases[0].network)
        return expected(network, parameters, Batch(*parts), arithmetic=implementation.arithmetic, **options)


def side_by_side(cases: Sequence[tuple[Parameters, Batch]]) -> tuple[Mapping[str, Array], Batch]:
    """Return parameters and batches of one structure as one of each, all arrays with one more axis before."""
    parameters = {path: np.stack([own[path] for own, _ in cases]) for path in cases[0][0]}
    several: list[list[Any]] = [[getattr(batch, part.name) for _, batch in cases] for part in fields(Batch)]
    parts: list[Any] = [None if arrays[0] is None else np.stack(arrays) for arrays in several]
    return parameters, Batch(*parts)


def one_by_one(
    network: Network, parameters: Mapping[str, Array], batch: Batch, hand_out: Callable[[Array], Array]
) -> list[Case]:
    """Return the cases whose parameters and batches, of the network's shapes, lie side by side.

    `hand_out`: what becomes of each array. Raises `InvalidInput` where numbers are not finite.
    """
    stacks = [stack for stack in (*parameters.values(), *vars(batch).values()) if stack is not None]
    make = Case.known if all(np.isfinite(stack).all() for stack in stacks) else Case
    several = {path: [hand_out(array) for array in stack] for path, stack in parameters.items()}
    parts: list[Any] = [
        [None] * len(batch.inputs) if stack is None else [hand_out(np.asarray(array)) for array in stack]
        for stack in vars(batch).values()
    ]
    return [
        make(network, {path: arrays[index] for path, arrays in several.items()}, Batch(*own))
        for index, own in enumerate(zip(*parts, strict=True))
    ]


def together(network: Network, rows: int, cases: int) -> int:
    """Return how many of so many cases of a structure are to be evaluated together, in parts of about one size."""
    numbers = sum(int(np.prod(shape)) for shape in network.parameters().values()) + rows * sum(network.widths)
    return math.ceil(cases / math.ceil(cases / max(1, TOGETHER // numbers)))


def member(whole: Expected, index: int | slice | Sequence[int]) -> Expected:
    """Return what is expected of one member of a stack, or of some."""
    sites = [replace(site, near=site.near[index], side=site.side[index]) for site in whole.sites]
    return Expected(members(whole.gradients, index), sites)


def members(whole: Gradients[Any], index: int | slice | Sequence[int]) -> Gradients[Any]:
    """Return the gradients of one member of a stack, or of some."""

    def one(part: Array | Bounded | None) -> Any:
        return None if part is None else part[index]

    return Gradients(
        {path: one(part) for path, part in whole.parameters.items()},
        one(whole.loss),
        one(whole.input),
        {layer: one(part) for layer, part in whole.deltas.items()},
        {layer: one(part) for layer, part in whole.outputs.items()},
        None if whole.captured is None else members(whole.captured, index),
    )


def stacked(several: Sequence[Gradients[Array]]) -> Gradients[Array]:
    """Return gradients with the same quantities in the same shapes as one stack."""
    first = several[0]
    return Gradients(
        {path: np.stack([one.parameters[path] for one in several]) for path in first.parameters},
        None if first.loss is None else np.stack([one.loss for one in several if one.loss is not None]),
        None if first.input is None else np.stack([one.input for one in several if one.input is not None]),
        {layer: np.stack([one.deltas[layer] for one in several]) for layer in first.deltas},
        {layer: np.stack([one.outputs[layer] for one in several]) for layer in first.outputs},
        None if first.captured is None else stacked([one.captured for one in several if one.captured is not None]),
    )
