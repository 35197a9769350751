"""JAX's functions as operations on NumPy arrays, in 64 bits where they are given such."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradconform.conformance.operation import (
    CUSTOM_JVP,
    CUSTOM_VJP,
    PLAIN_JAX,
    AnyArray,
    Arrays,
    Call,
    Gradients,
    Operation,
    bind,
)
from gradconform.errors import InvalidInput, Unsupported, first_line

Values = tuple[Any, ...]


def operation(candidate: Any, name: str, arguments: Mapping[str, Any]) -> Operation:
    """Return a `jax.custom_vjp` or `jax.custom_jvp` function, or any other of JAX, as an operation."""
    if not callable(candidate):
        raise InvalidInput(f"{name} is no function")
    binding = bind(candidate, name, arguments)

    def called(*arrays: Any) -> Any:
        values, keywords = binding.assemble(arrays)
        return candidate(*values, **keywords)

    kind = PLAIN_JAX
    if isinstance(candidate, jax.custom_vjp):
        kind = CUSTOM_VJP
    elif isinstance(candidate, jax.custom_jvp):
        kind = CUSTOM_JVP
    return Traced(called).operation(name, kind, binding.names, binding.arity)


class Traced:
    """A function of arrays, with the transformations of JAX."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled_forward = jax.jit(self._floats)
        self.compiled_backward = jax.jit(self._pull)
        self.compiled_batch = jax.jit(jax.vmap(self._pull))
        self.compiled_jvp = jax.jit(lambda inputs, moved: jax.jvp(self._floats, inputs, moved)[1])
        self.compiles = True
        self.doubled: dict[int, Operation] = {}

    def operation(self, name: str, kind: str, names: tuple[str, ...], arity: int | None) -> Operation:
        """Return the operation."""
        return Operation(
            name,
            "jax",
            kind,
            forward=self.forward,
            backward=self.backward,
            names=names,
            arity=arity,
            jvp=self.jvp,
            variants={"jit": self.interpreted},
            batched=self.batched,
            double=lambda outputs: self.double(name, names, outputs),
            notes=lambda: [] if self.compiles else ["cannot be compiled: all calls ran without jit"],
        )

    def forward(self, inputs: Arrays) -> Arrays:
        """Return the floating-point outputs, compiled where that can be."""
        with jax.enable_x64(True):
            if self.compiles:
                try:
                    return _arrays(self.compiled_forward(*_values(inputs)))
                except (jax.errors.JAXTypeError, NotImplementedError):
                    self.compiles = False  # its Python depends on values
            return _arrays(self._floats(*_values(inputs)))

    def backward(self, inputs: Arrays, cotangents: Arrays) -> Gradients:
        """Return the gradient of every input of floating-point type, compiled where that can be."""
        if not self.compiles:
            return self.interpreted(inputs, cotangents)
        with jax.enable_x64(True):
            return _gradients(self.compiled_backward(_values(inputs), _values(cotangents)))

    def interpreted(self, inputs: Arrays, cotangents: Arrays) -> Gradients:
        """Return the same, operation by operation."""
        with jax.enable_x64(True):
            return _gradients(self._pull(_values(inputs), _values(cotangents)))

    def double(self, name: str, names: tuple[str, ...], outputs: int) -> Operation:
        """Return the backward pass of a function with so many outputs, as an operation."""
        if outputs not in self.doubled:

            def called(*arrays: Any) -> list[Any]:
                gradients = self._pull(arrays[: len(arrays) - outputs], arrays[len(arrays) - outputs :])
                return [gradient for gradient in gradients if gradient is not None]

            made = Traced(called)
            made.compiles = self.compiles
            self.doubled[outputs] = made.operation(name, "the backward pass", names, None)
        return self.doubled[outputs]

    def batched(self, calls: Sequence[Call]) -> list[Gradients]:
        """Return the gradients of several calls in one, by vmap over a new first axis of every array."""
        with jax.enable_x64(True):
            inputs = tuple(jnp.stack([call[0][k] for call in calls]) for k in range(len(calls[0][0])))
            cotangents = tuple(jnp.stack([call[1][k] for call in calls]) for k in range(len(calls[0][1])))
            way = self.compiled_batch if self.compiles else jax.vmap(self._pull)
            stacked = _gradients(way(inputs, cotangents))
        return [[None if one is None else one[row] for one in stacked] for row in range(len(calls))]

    def jvp(self, inputs: Arrays, tangents: Arrays) -> Arrays:
        """Return the tangents of the outputs; raises `Unsupported` where there is no forward mode."""
        with jax.enable_x64(True):
            moved = tuple(
                jnp.asarray(t) if _inexact(x) else np.zeros(np.shape(x), jax.dtypes.float0)
                for x, t in zip(inputs, tangents, strict=True)
            )
            try:
                if self.compiles:
                    return _arrays(self.compiled_jvp(_values(inputs), moved))
                return _arrays(jax.jvp(self._floats, _values(inputs), moved)[1])
            except TypeError as error:
                if "forward-mode" not in str(error):
                    raise
                raise Unsupported(f"no forward mode: {first_line(error)}") from error

    def _floats(self, *inputs: Any) -> list[Any]:
        leaves = jax.tree_util.tree_leaves(self.function(*inputs))
        return [leaf for leaf in leaves if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

    def _pull(self, inputs: Values, cotangents: Values) -> list[Any]:
        """Return the gradients of the inputs of floating-point type alone, None for the others."""
        _, pull = jax.vjp(self._floats, *inputs)
        found = pull([jnp.asarray(cotangent) for cotangent in cotangents])
        return [
            gradient if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else None
            for x, gradient in zip(inputs, found, strict=True)
        ]


def _values(arrays: Sequence[AnyArray]) -> Values:
    return tuple(jnp.asarray(array) for array in arrays)


def _arrays(values: Sequence[Any]) -> Arrays:
    return [np.asarray(value) for value in values]


def _gradients(values: Sequence[Any]) -> Gradients:
    return [None if value is None else np.asarray(value) for value in values]


def _inexact(array: AnyArray) -> bool:
    return bool(np.issubdtype(array.dtype, np.inexact))
