"""A model in JAX: a pure function of parameters and inputs. JAX is imported when one is run, not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradconform.case import Array, Batch
from gradconform.conformance.comparing_data import single
from gradconform.conformance.comparing_functions import returned_gradients
from gradconform.conformance.comparing_models import (
    Ask,
    Run,
    arguments,
    as_arrays,
    cast,
    failed,
    flatten,
    keywords,
    pull,
    split,
    unflatten,
)
from gradconform.dtypes import is_floating
from gradconform.errors import GradconformError

CONCRETE = (
    "ConcretizationTypeError",
    "TracerArrayConversionError",
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
)
"""What a function raises that looks at numbers, and so cannot be compiled."""


class _Program(NamedTuple):
    """A function of parameters to differentiate, inputs, other parameters and other arrays, and what is made of it."""

    call: Callable[..., Any]
    forward: Callable[..., Any]
    pullback: Callable[..., Any] | None
    """None where the function returns gradients itself."""


class JaxFunction:
    """A function of JAX arrays, `function(parameters, inputs)`, as a model; compiled once for each precision."""

    framework = "jax"
    frozen: list[str] = []  # noqa: RUF012 - never written
    shuffled: list[str] = []  # noqa: RUF012 - never written

    def __init__(self, name: str, function: Callable[..., Any], template: Any = None) -> None:
        self.name = name
        self.function = function
        self.template = template
        self.values = None
        if template is not None:
            self.values = {path: single(array) for path, array in as_arrays(flatten(template), name).items()}
        self.constants: dict[str, Array] = {}
        self._compiles = True
        self._programs: dict[tuple[str, tuple[str, ...]], _Program] = {}

    def run(self, values: Mapping[str, Array], batch: Mapping[str, Array], dtype: str, ask: Ask) -> Run:
        """Return one run in `dtype`, compiled if the function can be."""
        import jax

        # a context and not the global switch: the user's own code keeps the precision that it has
        with jax.enable_x64(dtype == "float64"):
            try:
                try:
                    return self._run(values, batch, dtype, ask)
                except Exception as error:
                    if not self._compiles or type(error).__name__ not in CONCRETE:
                        raise
                    self._compiles = False
                    self._programs.clear()
                    return self._run(values, batch, dtype, ask)
            except GradconformError:
                raise
            except (Exception, SystemExit) as error:
                raise failed(self.name, error, dtype) from error

    def variations(self) -> Iterator[tuple[str, JaxFunction]]:
        """Yield nothing: what a function does cannot be changed from outside."""
        yield from ()

    def _run(self, values: Mapping[str, Array], batch: Mapping[str, Array], dtype: str, ask: Ask) -> Run:
        import jax

        own = {path: jax.numpy.asarray(cast(array, dtype)) for path, array in values.items()}
        given = {name: jax.numpy.asarray(cast(array, dtype)) for name, array in batch.items()}
        entered = given.pop("inputs", None)
        leaves = {path: own.pop(path) for path in ask.differentiated}
        operands = leaves, entered, own, given
        key = dtype, ask.differentiated
        if key not in self._programs:
            self._programs[key] = self._program(list(values), batch, ask, operands)
        program = self._programs[key]
        if program.pullback is None:
            run = returned_gradients(self.name, jax.tree.map(np.array, program.forward(*operands)), ask)
            assert run is not None  # noqa: S101 - its shape was looked at
            return run
        outputs, pullback, shown = program.forward(*operands)
        returned = np.array(outputs)
        pulled = pull(self.name, ask.loss, returned, batch)
        found, *rest = program.pullback(pullback, jax.numpy.asarray(pulled.delta))
        return Run(
            gradients={path: np.array(found[path]) for path in ask.differentiated},
            loss=pulled.loss,
            outputs=returned if returned.ndim else None,
            places={place: np.array(value) for place, value in shown.items()},
            inputs=np.array(rest[0]) if rest else None,
            narrowed=next(_narrowed(jax.make_jaxpr(program.call)(*operands).jaxpr), "")
            if ask.inspect and self._compiles
            else "",
        )

    def _program(self, names: list[str], batch: Mapping[str, Array], ask: Ask, operands: tuple[Any, ...]) -> _Program:
        """Return the function as programs of JAX: its gradients as they are, or its outputs and their pullback."""
        import jax

        chosen = arguments(self.name, self.function, batch, skip=1)
        positional, named = keywords(self.function, chosen, skip=1)

        def call(leaves: Mapping[str, Any], entered: Any, own: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
            arrays = {**given} if entered is None else {**given, "inputs": entered}
            arrays["batch"] = Batch(arrays.get("inputs"), arrays.get("targets"))  # type: ignore[arg-type]
            flat = {path: leaves[path] if path in leaves else own[path] for path in names}
            return self.function(
                unflatten(flat, self.template),
                *(arrays[name] for name in positional),
                **{argument: arrays[name] for argument, name in named.items()},
            )

        def forward(leaves: Any, entered: Any, own: Any, given: Any) -> Any:
            def outputs(leaves: Any, entered: Any) -> Any:
                return split(self.name, call(leaves, entered, own, given))

            # inputs that Python looks at must be numbers, not what is differentiated
            if self._compiles and entered is not None and is_floating(np.dtype(entered.dtype)):
                return jax.vjp(outputs, leaves, entered, has_aux=True)
            return jax.vjp(lambda leaves: outputs(leaves, entered), leaves, has_aux=True)

        def pull_back(pullback: Any, delta: Any) -> Any:
            return pullback(delta)

        compiled: Callable[..., Any] = jax.jit if self._compiles else lambda function: function
        if _are_gradients(jax.eval_shape(call, *operands) if self._compiles else call(*operands), ask):
            return _Program(call, compiled(call), None)
        return _Program(call, compiled(forward), compiled(pull_back))


def _are_gradients(returned: Any, ask: Ask) -> bool:
    """Return whether a function returns {name: gradient} or (loss, {name: gradient}), and not outputs."""
    if isinstance(returned, Mapping):
        return True
    if not (isinstance(returned, tuple | list) and len(returned) == 2 and isinstance(returned[1], Mapping)):
        return False
    return not np.shape(returned[0]) and bool(set(flatten(returned[1])) & set(ask.differentiated))


def _narrowed(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        inner = list(_inner(equation.params.values()))
        for program in inner:
            yield from _narrowed(program)
        if not inner and any(_bytes_of(variable) == 8 for variable in equation.invars):
            for variable in equation.outvars:
                if 0 < _bytes_of(variable) < 8:
                    yield f"{equation.primitive.name} to {variable.aval.dtype}"


def _inner(parameters: Iterable[Any]) -> Iterator[Any]:
    """Yield the programs within an equation: of a jit, a scan, a branch."""
    for parameter in parameters:
        if isinstance(parameter, tuple | list):
            yield from _inner(parameter)
        elif hasattr(parameter, "eqns"):
            yield parameter
        elif hasattr(parameter, "jaxpr"):
            yield parameter.jaxpr


def _bytes_of(variable: Any) -> int:
    """Return the size of a floating-point number of a variable; 0 for other types."""
    dtype = getattr(variable.aval, "dtype", None)
    try:
        return int(np.dtype(dtype).itemsize) if dtype is not None and is_floating(np.dtype(dtype)) else 0
    except TypeError:  # a key of random numbers
        return 0
