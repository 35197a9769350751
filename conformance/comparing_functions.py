"""A model that is a function which returns gradients itself, as a hand-written backward pass in NumPy does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gradconform.case import Array, Batch, Gradients
from gradconform.conformance.comparing_data import single
from gradconform.conformance.comparing_models import (
    Ask,
    Model,
    Run,
    arguments,
    as_arrays,
    cast,
    failed,
    flatten,
    join,
    keywords,
    split,
    unflatten,
)
from gradconform.dtypes import is_floating
from gradconform.errors import GradconformError, InvalidInput


class NumpyFunction:
    """A function of NumPy arrays, `gradients(parameters, inputs, targets)`, that returns `{name: gradient}`."""

    frozen: list[str] = []  # noqa: RUF012 - never written
    shuffled: list[str] = []  # noqa: RUF012 - never written

    def __init__(self, name: str, function: Callable[..., Any], template: Any = None) -> None:
        self.name = name
        self.framework = "numpy"
        self.function = function
        self.template = template
        self._tracer: Model | None = None
        self.values = None
        if template is not None:
            self.values = {path: single(array) for path, array in as_arrays(flatten(template), name).items()}
        self.constants: dict[str, Array] = {}

    def run(self, values: Mapping[str, Array], batch: Mapping[str, Array], dtype: str, ask: Ask) -> Run:
        """Return one run in `dtype`; the function gets copies.

        One that returns arrays of JAX, though its code did not tell, is run as a function of JAX from then on.
        """
        if self._tracer is not None:
            return self._tracer.run(values, batch, dtype, ask)
        own = {path: cast(array, dtype).copy() for path, array in values.items()}
        given: dict[str, Any] = {key: cast(array, dtype).copy() for key, array in batch.items()}
        given["batch"] = Batch(given.get("inputs"), given.get("targets"))  # type: ignore[arg-type] # as far as there are
        chosen = arguments(self.name, self.function, batch, skip=1)
        positional, named = keywords(self.function, chosen, skip=1)
        try:
            with np.errstate(all="ignore"):
                returned = self.function(
                    unflatten(own, self.template),
                    *(given[name] for name in positional),
                    **{argument: given[name] for argument, name in named.items()},
                )
        except GradconformError:
            raise
        except (Exception, SystemExit) as error:
            raise failed(self.name, error, dtype) from error
        run = returned_gradients(self.name, returned, ask)
        if run is None and type(split(self.name, returned)[0]).__module__.partition(".")[0] in {"jax", "jaxlib"}:
            from gradconform.conformance.comparing_jax import JaxFunction

            self.framework, self._tracer = "jax", JaxFunction(self.name, self.function, self.template)
            return self._tracer.run(values, batch, dtype, ask)
        if run is None:
            raise InvalidInput(
                f"{self.name} returns {type(returned).__name__}, and NumPy cannot differentiate it: write a function "
                "gradients(parameters, inputs, targets) that returns {name: gradient}; one that is to get arrays of "
                'JAX or PyTorch says so by an attribute, framework = "jax"'
            )
        return run

    def variations(self) -> Iterator[tuple[str, NumpyFunction]]:
        """Yield nothing: what a function does cannot be changed from outside."""
        yield from ()


def returned_gradients(name: str, returned: Any, ask: Ask) -> Run | None:
    """Return the run of a model that returned its gradients: `{name: gradient}`, or (loss, `{name: gradient}`).

    None for a model that returned outputs. A name that is missing counts as a gradient that is not there.
    Raises `InvalidInput` for gradients of unknown parameters, and for wrong shapes.
    """
    if isinstance(returned, Gradients):
        returned = returned.parameters if returned.loss is None else (returned.loss, returned.parameters)
    loss, tree = (None, returned)
    if isinstance(returned, tuple | list) and len(returned) == 2 and isinstance(returned[1], Mapping):
        loss, tree = returned
        if np.ndim(loss) or not set(ask.differentiated) & set(flatten(tree)):
            return None  # outputs and intermediate values
    if not isinstance(tree, Mapping):
        return None
    found = {path: value for path, value in flatten(tree).items() if value is not None}
    known = set(ask.differentiated)
    if not found.keys() & known:
        raise InvalidInput(
            f"{name} returns {join(list(found))}: expected gradients of {join(list(ask.differentiated))}"
        )
    arrays = as_arrays({path: _plain(value) for path, value in found.items()}, f"{name}: gradient")
    return Run(
        gradients={path: arrays[path] for path in ask.differentiated if path in arrays},
        absent=frozenset(known - arrays.keys()),
        loss=None if loss is None else np.asarray(_plain(loss)),
        narrowed=next(
            (
                f"its gradient of {path} is {array.dtype}"
                for path, array in arrays.items()
                if is_floating(array.dtype) and array.dtype.itemsize < 8
            ),
            "",
        ),
    )


def _plain(value: Any) -> Any:
    """Return a tensor of PyTorch as an array; what NumPy can convert is left alone."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value
