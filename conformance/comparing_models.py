"""One record for every model that can be compared: in PyTorch, in JAX, or a function that returns gradients itself.

A model takes its parameters as `{name: array}` and a batch as `{name: array}`, all of NumPy, and returns a `Run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from gradconform.case import Array, Batch
from gradconform.dtypes import is_floating
from gradconform.errors import InvalidInput, first_line
from gradconform.losses import LossRecord

SEPARATOR = "/"
"""Between the names of nested parameters, as in Flax's and Haiku's flattened dictionaries."""


@dataclass(frozen=True, eq=False)
class Run:
    """What a model gave in one run, as NumPy arrays in that run's dtype."""

    gradients: dict[str, Array]
    """By the model's own names. Zeros for a parameter in `absent`."""
    absent: frozenset[str] = frozenset()
    """The parameters that the model gave no gradient for: None in PyTorch, a missing name in a dictionary."""
    loss: Array | None = None
    outputs: Array | None = None
    places: dict[str, Array] = field(default_factory=dict)
    """Intermediate values by name, in the order of the forward pass."""
    inputs: Array | None = None
    """The gradient with respect to the batch's `inputs`, where they are floating-point numbers."""
    narrowed: str = ""
    """In a float64 run: the operation by which the model rounds to a shorter type on its way, if it does."""


class Model(Protocol):
    """A model of any framework."""

    name: str
    """As the user knows it."""
    framework: str
    values: dict[str, Array] | None
    """The parameters that it holds itself, in its own order, as float32; None for a function without any."""
    constants: dict[str, Array]
    """What it holds beside them and is not differentiated, such as the running means of a batch norm."""
    frozen: list[str]
    """Those of `constants` that are parameters, but are not to be differentiated."""

    @property
    def shuffled(self) -> list[str]:
        """Parts of it that draw random numbers in the mode it is in, such as dropout in train mode."""

    def run(self, values: Mapping[str, Array], batch: Mapping[str, Array], dtype: str, ask: Ask) -> Run:
        """Return one run in `dtype`, `float32` or `float64`."""

    def variations(self) -> Iterator[tuple[str, Model]]:
        """Yield the model with one option changed each, and what was changed in words."""


@dataclass(frozen=True)
class Ask:
    """What a run is asked for: the gradients of `loss` of the outputs, or of the scalar that the model returns."""

    loss: LossRecord | None
    differentiated: tuple[str, ...]
    """The names of the parameters whose gradients are wanted."""
    inspect: bool = False
    """Whether to find out if it rounds to a shorter type on its way."""


class Pulled(NamedTuple):
    """A loss, and its gradient with respect to the outputs in the dtype of the outputs."""

    loss: Array
    delta: Array


def pull(name: str, loss: LossRecord | None, outputs: Array, batch: Mapping[str, Array]) -> Pulled:
    """Return the loss of `outputs` and the output delta, both computed by the reference's rule in float64.

    outputs: any shape (..., C); the axes before the last are rows, (N,) is (N, 1). Scalar outputs without another loss
    are the loss. Raises `InvalidInput` where the loss or the targets do not fit the outputs.
    """
    if outputs.ndim == 0:
        return Pulled(outputs, np.ones((), outputs.dtype))
    if loss is None:
        raise InvalidInput(
            f"{name} returns outputs of shape {outputs.shape} and no scalar loss: give --loss, such as "
            "--loss SoftmaxCrossEntropy"
        )
    from gradconform.reference.arithmetic import Plain
    from gradconform.reference.losses import cost

    rows = outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs.reshape(-1, outputs.shape[-1])
    targets = _targets(loss, rows.shape, outputs.shape, batch)
    exact = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        value, delta = cost(loss, Plain(np.float64), exact, Batch(exact, targets))
        return Pulled(
            np.asarray(value).astype(outputs.dtype), np.asarray(delta).reshape(outputs.shape).astype(outputs.dtype)
        )


def _targets(loss: LossRecord, rows: tuple[int, ...], shape: tuple[int, ...], batch: Mapping[str, Array]) -> Array:
    kind = type(loss).__name__
    if "targets" not in batch:
        raise InvalidInput(f"{kind} needs an array 'targets' in the data; it has {', '.join(batch)}")
    targets, count, classes = batch["targets"], rows[0], rows[1]
    if loss.labels == "classes" and targets.dtype.kind in "iu":
        if targets.size != count:
            raise InvalidInput(
                f"targets: expected {count} labels for outputs of shape {shape}, got shape {targets.shape}"
            )
        labels = targets.reshape(-1).astype(np.int64)
        ignored = getattr(loss, "ignore_index", None)
        wrong = (labels < 0) | (labels >= classes)
        wrong &= True if ignored is None else labels != ignored
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InvalidInput(f"targets[{row}]: label {labels[row]} is not in 0..{classes - 1}")
        return labels
    if targets.size != count * classes:
        raise InvalidInput(
            f"targets: expected the shape of the outputs, {shape}, for {kind}, got {targets.dtype} of shape "
            f"{targets.shape}"
        )
    return targets.reshape(count, classes).astype(np.float64)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries, lists and tuples as one dictionary, with "/" between the names."""
    entries: Iterable[tuple[Any, Any]]
    if isinstance(tree, Mapping):
        entries = tree.items()
    elif isinstance(tree, list | tuple):
        entries = enumerate(tree)
    else:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in entries:
        flat |= flatten(value, f"{prefix}{SEPARATOR}{key}" if prefix else str(key))
    return flat


def unflatten(flat: Mapping[str, Any], template: Any = None) -> Any:
    """Return the tree that `flatten` came from: in the form of `template`, or nested where a name has a "/"."""
    if template is not None:
        return _fill(template, flat, "")
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split(SEPARATOR)
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = value
    return tree


def _fill(template: Any, flat: Mapping[str, Any], prefix: str) -> Any:
    def inner(key: Any, value: Any) -> Any:
        return _fill(value, flat, f"{prefix}{SEPARATOR}{key}" if prefix else str(key))

    if isinstance(template, Mapping):
        return {key: inner(key, value) for key, value in template.items()}
    if isinstance(template, list | tuple):
        values = [inner(key, value) for key, value in enumerate(template)]
        if isinstance(template, list):
            return values
        return type(template)(*values) if hasattr(template, "_fields") else tuple(values)
    return flat[prefix]


def arguments(name: str, function: Callable[..., Any], batch: Mapping[str, Any], skip: int) -> dict[str, str]:
    """Return which array of the batch each argument of `function` gets, after the first `skip`.

    By name; arguments with other names are, in their order, `inputs` and `targets`. An argument called `batch` gets
    all. Raises `InvalidInput` where there is no array for an argument.
    """
    try:
        signature = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):  # built in, without a signature
        return {"inputs": "inputs"}
    chosen: dict[str, str] = {}
    spare = [known for known in ("inputs", "targets") if known in batch]
    for argument in signature:
        if argument.kind in {argument.VAR_POSITIONAL, argument.VAR_KEYWORD}:
            continue
        if argument.name in batch or argument.name == "batch":
            chosen[argument.name] = argument.name
            if argument.name in spare:
                spare.remove(argument.name)
        elif argument.default is argument.empty:
            if not spare:
                raise InvalidInput(
                    f"{name} takes {argument.name!r}, and the data has {', '.join(batch)}: name its arrays as the "
                    "arguments"
                )
            chosen[argument.name] = spare.pop(0)
    if not chosen and "inputs" in batch:
        return {"inputs": "inputs"}  # *args alone
    return chosen


def keywords(function: Callable[..., Any], chosen: Mapping[str, str], skip: int) -> tuple[list[str], dict[str, str]]:
    """Return which arrays are passed by position, and which by keyword: those after an argument that gets none."""
    try:
        signature = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return list(chosen.values()), {}
    positional: list[str] = []
    for argument in signature:
        if argument.kind not in {argument.POSITIONAL_ONLY, argument.POSITIONAL_OR_KEYWORD}:
            break
        if argument.name not in chosen:
            break
        positional.append(argument.name)
    if not positional and all(argument.kind is argument.VAR_POSITIONAL for argument in signature[:1]):
        return list(chosen.values()), {}
    named = {argument: array for argument, array in chosen.items() if argument not in positional}
    return [chosen[argument] for argument in positional], named


def cast(array: Array, dtype: str) -> Array:
    """Return floating-point numbers in `dtype`, others as they are."""
    return array.astype(dtype) if is_floating(array.dtype) else array


def as_arrays(tree: Mapping[str, Any], name: str) -> dict[str, Array]:
    """Return what a model holds as NumPy arrays. Raises `InvalidInput` for what is no array of numbers."""
    arrays: dict[str, Array] = {}
    for path, value in tree.items():
        try:
            array = np.asarray(value)
        except Exception as error:
            raise InvalidInput(f"{name}: parameter {path}: {first_line(error)}") from None
        if not is_floating(array.dtype) and array.dtype.kind not in "iub":
            raise InvalidInput(f"{name}: parameter {path}: expected numbers, got {type(value).__name__}")
        arrays[path] = array
    return arrays


def failed(name: str, error: BaseException, dtype: str) -> InvalidInput:
    """Return the one line that tells where in the user's code a model raised."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "site-packages" not in code.co_filename and "gradconform" not in str(
            trace.tb_frame.f_globals.get("__package__") or ""
        ):
            place = f" (line {trace.tb_lineno} of {code.co_name})"
        trace = trace.tb_next
    hint = ""
    if isinstance(error, KeyError):
        hint = ": it asks for a parameter of that name; write it into the map, nested ones with '/' between the names"
    return InvalidInput(f"{name} in {dtype}: {type(error).__name__}: {first_line(error)}{place}{hint}")


def split(name: str, returned: Any) -> tuple[Any, dict[str, Any]]:
    """Return the outputs and the intermediate values of what a model returned: outputs, or (outputs, {name: value})."""
    if isinstance(returned, tuple | list) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned[0], {str(key): value for key, value in returned[1].items()}
    if isinstance(returned, tuple | list):
        raise InvalidInput(f"{name} returns {len(returned)} values: expected outputs, or (outputs, {{name: value}})")
    return returned, {}


def join(names: Sequence[str]) -> str:
    """Return names in a sentence."""
    return ", ".join(names) or "none"
