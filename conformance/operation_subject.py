"""An operation under guard: what it raises, writes into, or hands out twice is noted, and random numbers are fixed."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import AnyArray, Arrays, Call, Gradients, Operation
from gradconform.dtypes import is_floating
from gradconform.errors import GradconformError, Unsupported, first_line

T = TypeVar("T")
RANDOM_STATE = random.Random(0).getstate()  # noqa: S311 - nothing is kept secret by it
NUMPY_STATE = np.random.RandomState(0).get_state()


class CallFailed(Exception):
    """A call that raised an exception: of which kind that is, and what it says."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Subject:
    """Calls an operation with copies of what it is given, and copies what it returns."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.mutated: dict[str, str] = {}
        """Which argument was written into, and by which pass."""
        self.calls = 0

    def forward(self, inputs: Sequence[AnyArray]) -> Arrays:
        """Return copies of the outputs; raises `CallFailed`."""
        given = [fresh(x) for x in inputs]
        outputs = self._guarded("forward", lambda: self.operation.forward(given))
        self._compare(inputs, given, "input", "the forward pass")
        return [np.array(output) for output in outputs]

    def backward(self, inputs: Sequence[AnyArray], cotangents: Sequence[AnyArray]) -> Gradients:
        """Return copies of the gradients; raises `CallFailed`."""
        backward = self.operation.backward
        assert backward is not None  # noqa: S101 - an operation that is checked has one
        return self.gradients(backward, inputs, cotangents)

    def gradients(
        self,
        way: Callable[[Arrays, Arrays], Gradients],
        inputs: Sequence[AnyArray],
        cotangents: Sequence[AnyArray],
    ) -> Gradients:
        """Return copies of the gradients that are found in some `way`; raises `CallFailed`."""
        given, upstream = [fresh(x) for x in inputs], [fresh(c) for c in cotangents]
        found = self._guarded("backward", lambda: way(given, upstream))
        self._compare(inputs, given, "input", "forward and backward")
        self._compare(cotangents, upstream, "cotangent", "the backward pass")
        return copied(found)

    def many(
        self, way: Callable[[Sequence[Call]], list[Gradients]], calls: Sequence[tuple[Sequence[AnyArray], Arrays]]
    ) -> list[Gradients]:
        """Return copies of the gradients of several calls; raises `CallFailed`."""
        given = [([fresh(x) for x in inputs], [fresh(c) for c in cotangents]) for inputs, cotangents in calls]
        return [copied(found) for found in self._guarded("backward", lambda: way(given))]

    def kept(self, inputs: Sequence[AnyArray], cotangents: Sequence[AnyArray]) -> tuple[Arrays, Gradients]:
        """Return the outputs and gradients themselves, not copied: a later call may write into them."""
        given, upstream = [fresh(x) for x in inputs], [fresh(c) for c in cotangents]
        backward = self.operation.backward
        assert backward is not None  # noqa: S101 - an operation that is checked has one
        outputs = self._guarded("forward", lambda: self.operation.forward(given))
        return outputs, self._guarded("backward", lambda: backward(given, upstream))

    def call(self, what: str, function: Callable[[], T]) -> T:
        """Return what anything else of the operation returns; raises `CallFailed` or `Unsupported`."""
        return self._guarded(what, function)

    def _guarded(self, what: str, function: Callable[[], T]) -> T:
        self.calls += 1
        try:
            fix_randomness()
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function()
        except GradconformError:
            raise
        except NotImplementedError as error:
            raise Unsupported(f"{what}: {first_line(error) or 'NotImplementedError'}") from error
        except Exception as error:  # a user's code may raise anything
            raise CallFailed(_kind(error), f"{what} raised {type(error).__name__}: {first_line(error)}") from error

    def _compare(self, before: Sequence[AnyArray], after: Sequence[AnyArray], what: str, where: str) -> None:
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if not np.array_equal(old, new, equal_nan=is_floating(old.dtype)):
                name = self.operation.input_name(index) if what == "input" else f"cotangent {index}"
                self.mutated.setdefault(name, where)


def fresh(array: AnyArray) -> AnyArray:
    """Return a writable copy with the same strides, so far as they are the transposed, reversed or repeated ones."""
    if 0 in array.strides and array.size:
        index = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)
        base = np.array(array[index])
        strides = tuple(0 if old == 0 else new for old, new in zip(array.strides, base.strides, strict=True))
        return np.lib.stride_tricks.as_strided(base, array.shape, strides, writeable=True)
    if array.flags.c_contiguous or not array.size:
        return np.array(array)
    if any(stride < 0 for stride in array.strides):
        flip = tuple(slice(None, None, -1) if stride < 0 else slice(None) for stride in array.strides)
        return np.asarray(np.array(array[flip], order="K")[flip])
    dense = np.array(array, order="K")
    if dense.strides == array.strides:
        return dense
    # every second element of a wider array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return np.asarray(wide[..., ::2])


def copied(gradients: Gradients) -> Gradients:
    """Return copies of gradients."""
    return [None if gradient is None else np.array(gradient) for gradient in gradients]


def fix_randomness() -> None:
    """Make the numbers that Python and NumPy draw next from their global generators always the same."""
    np.random.set_state(NUMPY_STATE)  # noqa: NPY002 - the user's code may draw from it
    random.setstate(RANDOM_STATE)


@contextlib.contextmanager
def restored_randomness() -> Iterator[None]:
    """Leave Python's and NumPy's global generators as they were found."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextlib.contextmanager
def complex_arguments() -> Iterator[None]:
    """Make it an error that an imaginary part is dropped."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield


def _kind(error: Exception) -> Kind:
    """Return what kind of failure an exception tells of: frameworks find some of them themselves."""
    said = str(error)
    if "number of gradients" in said or type(error).__name__ == "CountError" or "pytree" in said:
        return Kind.NAME
    if "invalid gradient at index" in said and "shape" in said:
        return Kind.SHAPE
    if "Custom VJP bwd rule" in said or "custom_vjp" in said:
        return Kind.SHAPE if "shape" in said else Kind.CRASHED
    return Kind.CRASHED
