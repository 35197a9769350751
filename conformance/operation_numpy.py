"""Forward and backward passes written with NumPy: a class, an object, a module or two functions.

`forward(*inputs)` returns the output, or a tuple of the output and a cache. `backward(cotangent, cache)` gets the cache
where there is one, `backward(cotangent)` what an object keeps itself, and `backward(cotangent, *inputs)` else the
inputs. It returns one array, or a tuple with one for every input; None is no gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from gradconform.conformance.operation import (
    PAIR,
    PLAIN_NUMPY,
    Arrays,
    Binding,
    Call,
    Gradients,
    Operation,
    bind,
)
from gradconform.conformance.operation_subject import fix_randomness
from gradconform.errors import InvalidInput, first_line


def operation(candidate: Any, name: str, arguments: Mapping[str, Any]) -> Operation:
    """Return a pair of passes as an operation; a function alone becomes one without a backward pass."""
    if isinstance(candidate, tuple) and len(candidate) == 2 and all(map(callable, candidate)):
        return Pair(lambda: candidate, name, arguments, holds_state=False).operation()
    if isinstance(candidate, type) and hasattr(candidate, "forward") and hasattr(candidate, "backward"):
        return Pair(lambda: _passes(_instance(candidate, name)), name, arguments, holds_state=True).operation()
    if callable(getattr(candidate, "forward", None)) and callable(getattr(candidate, "backward", None)):
        return Pair(lambda: _passes(candidate), name, arguments, not isinstance(candidate, ModuleType)).operation()
    if not callable(candidate):
        raise InvalidInput(f"{name} is no function, and has no forward and backward")
    binding = bind(candidate, name, arguments)

    def forward(inputs: Arrays) -> Arrays:
        values, keywords = binding.assemble(inputs)
        found = candidate(*values, **keywords)
        return [np.asarray(output) for output in (found if isinstance(found, tuple) else (found,))]

    return Operation(name, "numpy", PLAIN_NUMPY, forward, None, binding.arity, binding.names, analytic=True)


def _instance(made: type, name: str) -> Any:
    try:
        return made()
    except TypeError as error:
        raise InvalidInput(f"{name} cannot be made without arguments, give an instance: {first_line(error)}") from error


def _passes(holder: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return holder.forward, holder.backward


class Pair:
    """A forward and a backward pass. `passes()` returns them for one use: of a class, those of a new object."""

    def __init__(
        self,
        passes: Callable[[], tuple[Callable[..., Any], Callable[..., Any]]],
        name: str,
        arguments: Mapping[str, Any],
        holds_state: bool,
    ) -> None:
        self.passes, self.name, self.holds_state = passes, name, holds_state
        forward, backward = passes()
        self.binding: Binding = bind(forward, name, arguments)
        self.takes = _positional(backward)
        self.shared = holds_state and passes()[0] == forward  # one object: its state is that of the last use

    def operation(self) -> Operation:
        """Return the operation."""
        return Operation(
            self.name,
            "numpy",
            PAIR,
            self.forward,
            self.backward,
            self.binding.arity,
            self.binding.names,
            analytic=True,
            raw=self.raw,
            interleaved=None if self.shared else self.interleaved,
        )

    def forward(self, inputs: Arrays) -> Arrays:
        """Return the output."""
        return [self._forward(self.passes()[0], inputs)[0]]

    def backward(self, inputs: Arrays, cotangents: Arrays) -> Gradients:
        """Return the gradient of every input."""
        return self.interleaved([(inputs, cotangents)])[0]

    def raw(self, inputs: Arrays, cotangents: Arrays) -> list[Any]:
        """Return what backward returned."""
        forward, backward = self.passes()
        _, cache = self._forward(forward, inputs)
        return self._backward(backward, inputs, cotangents[0], cache)

    def interleaved(self, calls: Sequence[Call]) -> list[Gradients]:
        """Run all forward passes, then all backward passes."""
        uses = []
        for inputs, cotangents in calls:
            forward, backward = self.passes()
            fix_randomness()  # the same numbers for every one of several
            cache = self._forward(forward, inputs)[1]
            uses.append((backward, inputs, cotangents[0], cache))
        # of several calls, each is copied before the next one: whether that writes into it is another question
        keep = np.array if len(uses) > 1 else np.asarray
        return [[None if g is None else keep(g) for g in self._backward(*use)] for use in uses]

    def _forward(self, forward: Callable[..., Any], inputs: Arrays) -> tuple[Any, tuple[Any, ...]]:
        values, keywords = self.binding.assemble(inputs)
        found = forward(*values, **keywords)
        if isinstance(found, tuple):
            if len(found) != 2:
                raise InvalidInput(
                    f"{self.name}: forward returned {len(found)} values; expected the output, or (output, cache)"
                )
            return np.asarray(found[0]), (found[1],)
        return np.asarray(found), ()

    def _backward(
        self, backward: Callable[..., Any], inputs: Arrays, cotangent: Any, cache: tuple[Any, ...]
    ) -> list[Any]:
        if not cache and (self.takes is None or self.takes > 1) and not (self.holds_state and self.takes is None):
            cache = tuple(self.binding.assemble(inputs)[0])
        found = backward(cotangent, *cache)
        gradients = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(gradients) != len(inputs):
            raise CountError(f"backward returned {len(gradients)} gradients for {len(inputs)} inputs")
        return gradients


class CountError(ValueError):
    """There are not as many gradients as inputs."""


def _positional(function: Callable[..., Any]) -> int | None:
    """Return how many arguments a function takes by position, None for any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD} for parameter in parameters
    )
