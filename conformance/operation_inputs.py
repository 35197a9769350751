"""What an operation is given: shapes that it takes, and arrays drawn for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradconform.conformance.operation import AnyArray, Arrays, Operation
from gradconform.conformance.operation_subject import CallFailed, Subject
from gradconform.dtypes import dtype_of, is_floating
from gradconform.errors import GradconformError, InvalidInput

Shape = tuple[int, ...]
Given = Sequence[Any] | Callable[[np.random.Generator], Sequence[Any]]
"""Shapes, arrays, or a function that draws arrays."""

SHAPE = (3, 4)
OTHERS = {"numpy": ((1, 1), (4, 4), (5, 2)), "torch": ((1, 1), (4, 4), (5, 2)), "jax": ((5, 2),)}
"""Shapes of the other examples: few where every one is compiled anew."""
MOST_INPUTS = 3
"""How many are tried where the signature does not tell."""
GRID = 2.0**20
"""Drawn numbers are multiples of 1 / GRID, so that steps away from them are exact, in float32 too."""
NUMBERS = ("ordinary", "ordinary", "integers", "large", "positive", "ordinary", "between 0 and 1")
"""What the numbers of successive examples are like; those that an operation cannot take are left out."""


@dataclass(frozen=True)
class Example:
    """Inputs with the name of where their numbers came from."""

    inputs: Arrays
    numbers: str

    @property
    def shapes(self) -> str:
        """The shapes, in words."""
        return ", ".join(f"({', '.join(map(str, array.shape))}{',' * (array.ndim == 1)})" for array in self.inputs)


class Source:
    """Where the examples of a run come from."""

    def __init__(self, operation: Operation, given: Given | None, dtype: str, seed: int) -> None:
        self.operation, self.dtype = operation, dtype
        self.generator = np.random.default_rng(seed)
        self.seed = seed
        self.draw: Callable[[np.random.Generator], Sequence[Any]] | None = given if callable(given) else None
        self.fixed: Arrays | None = None
        self.shapes: list[tuple[Shape, ...]] = []
        self.taken = list(NUMBERS)
        if self.draw is not None:
            return
        if given is None:
            self._find_shapes()
        else:
            listed = list(given)  # type: ignore[arg-type] # it is no function
            if not listed:
                raise InvalidInput("inputs is empty: give one shape or array for every input")
            if all(_is_shape(entry) for entry in listed):
                self.shapes = [tuple(tuple(map(int, entry)) for entry in listed)]
            elif any(_is_shape(entry) for entry in listed):
                raise InvalidInput("inputs must be all shapes or all arrays")
            else:
                self.fixed = [self._cast(np.array(entry)) for entry in listed]
                return
        self._find_numbers()

    def examples(self, count: int) -> Iterator[Example]:
        """Yield examples; fixed arrays make every one, with other directions."""
        for index in range(count):
            if self.fixed is not None:
                yield Example([*map(np.copy, self.fixed), *self._parameters()], "given")
            elif self.draw is not None:
                drawn = self.draw(np.random.default_rng([self.seed, index]))
                if isinstance(drawn, np.ndarray):
                    drawn = [drawn]
                arrays = [self._cast(np.array(entry)) for entry in drawn]
                yield Example([*arrays, *self._parameters()], "drawn by your function")
            else:
                numbers = self.taken[index % len(self.taken)]
                shapes = self.shapes[index % len(self.shapes)]
                yield Example(self._drawn(shapes, numbers), numbers)

    def _parameters(self) -> Arrays:
        """Return the operation's own parameters, moved a little: zeros and ones would hide mistakes."""
        moved = []
        for value in self.operation.parameters.values():
            step = _on_grid(0.25 * self.generator.standard_normal(value.shape))
            moved.append((_on_grid(value) + step).astype(dtype_of(self.dtype)))
        return moved

    def _drawn(self, shapes: Sequence[Shape], numbers: str) -> Arrays:
        arrays = [_numbers(self.generator, shape, numbers).astype(dtype_of(self.dtype)) for shape in shapes]
        return [*arrays, *self._parameters()]

    def _cast(self, array: AnyArray) -> AnyArray:
        if array.dtype == object or np.iscomplexobj(array):
            raise InvalidInput(f"inputs: an array of {array.dtype.name} cannot be used")
        return array.astype(dtype_of(self.dtype)) if is_floating(array.dtype) else array

    def _find_shapes(self) -> None:
        """Find shapes that the operation takes, the same for all inputs if it can be."""
        arity = self.operation.arity
        counts = range(1, MOST_INPUTS + 1) if arity is None else [arity]
        if arity == 0 and not self.operation.parameters:
            raise InvalidInput(f"{self.operation.name} takes no input")
        refusal = ""
        for count in counts:
            for shapes in _candidates(count, self.operation.sizes):
                if said := self._refused_all(shapes):
                    refusal = refusal or said
                    continue
                alike = len(set(shapes)) <= 1 and shapes[:1] == (SHAPE,)
                others = [(shape,) * count for shape in OTHERS[self.operation.framework]] if alike else []
                self.shapes = [shapes, *(other for other in others if not self._refused_all(other))]
                return
        raise InvalidInput(
            f"{self.operation.name} refuses inputs of shape {SHAPE}: {refusal}; "
            f"give the shape of every input, as in --input 3,4 --input 4 (Python: inputs=[(3, 4), (4,)])"
        )

    def _find_numbers(self) -> None:
        """Leave out the kinds of numbers at which the operation is not finite, or which it refuses."""
        shapes = self.shapes[0]
        if said := self._refused_all(shapes):
            raise InvalidInput(f"{self.operation.name} refuses inputs of shape {', '.join(map(str, shapes))}: {said}")
        fitting = [numbers for numbers in NUMBERS if self._finite(shapes, numbers)]
        if not fitting:
            raise InvalidInput(
                f"{self.operation.name} is not finite at numbers drawn for it: give arrays, or a function that draws "
                "them, as inputs"
            )
        self.taken = fitting

    def _refused_all(self, shapes: Sequence[Shape]) -> str:
        """Return what the forward pass says of ordinary numbers, if it takes no probabilities either."""
        said = self._refused(shapes, "ordinary")
        return said if said and self._refused(shapes, "between 0 and 1") else ""

    def _refused(self, shapes: Sequence[Shape], numbers: str) -> str:
        """Return what the forward pass says when it refuses inputs, else nothing."""
        try:
            outputs = Subject(self.operation).forward(self._drawn(shapes, numbers))
        except (CallFailed, GradconformError) as error:
            return str(error)
        return "" if outputs and all(output.size for output in outputs) else "there is no floating-point output"

    def _finite(self, shapes: Sequence[Shape], numbers: str) -> bool:
        try:
            outputs = Subject(self.operation).forward(self._drawn(shapes, numbers))
        except (CallFailed, GradconformError):
            return False
        return all(bool(np.isfinite(output).all()) for output in outputs)


def _candidates(count: int, sizes: Sequence[int]) -> Iterator[tuple[Shape, ...]]:
    """Yield shapes to try for so many inputs: alike, as in products, layers and convolutions."""
    yield (SHAPE,) * count
    if count == 0:
        return
    for size in sizes:
        yield ((3, size),) * count
    if count == 2:
        yield from (((3, 4), (4, 5)), ((3, 4), (4,)), ((3, 4), (5, 4)))
    if count == 3:
        yield from (((3, 4), (4, 5), (5,)), ((3, 4), (5, 4), (5,)), ((3, 4), (4,), (4,)))
    for size in dict.fromkeys([*sizes, 4]):
        yield ((2, size, 6, 6),) * count
        yield ((2, size, 6),) * count
    if count == 2:
        yield ((2, 3, 6, 6), (4, 3, 3, 3))
    if count == 3:
        yield ((2, 3, 6, 6), (4, 3, 3, 3), (4,))
    yield ((5,),) * count
    yield ((),) * count


def _numbers(generator: np.random.Generator, shape: Shape, numbers: str) -> AnyArray:
    normal = generator.standard_normal(shape)
    match numbers:
        case "integers":
            return generator.integers(-2, 3, shape).astype(np.float64)
        case "large":
            return _on_grid(30 * normal)
        case "positive":
            return _on_grid(np.abs(normal) + 0.125)
        case "between 0 and 1":
            return _on_grid(generator.uniform(0.0625, 0.9375, shape))
    return _on_grid(normal)


def _on_grid(array: AnyArray) -> AnyArray:
    return np.asarray(np.round(array * GRID) / GRID)


def _is_shape(entry: Any) -> bool:
    return isinstance(entry, tuple) and all(isinstance(size, (int, np.integer)) for size in entry)
