"""An operation: a forward and a backward pass, whoever wrote them, as two functions of NumPy arrays."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from gradconform.conformance.implementations import _load_file, _load_module, is_installed
from gradconform.errors import InvalidInput, NotInstalled
from gradconform.nearest import near

AnyArray = NDArray[Any]
Arrays = list[AnyArray]
Gradients = list[AnyArray | None]
"""One for every input; None where there is none."""
Call = tuple[Arrays, Arrays]
"""Inputs and cotangents."""

FUNCTION, MODULE, PLAIN_TORCH = "a torch.autograd.Function", "an nn.Module", "a function of PyTorch"
CUSTOM_VJP, CUSTOM_JVP, PLAIN_JAX = "a jax.custom_vjp function", "a jax.custom_jvp function", "a function of JAX"
PAIR, PLAIN_NUMPY = "a NumPy forward and backward pair", "a function of NumPy"


@dataclass(frozen=True)
class Operation:
    """What a user calls by `name`, as functions of NumPy arrays; they neither copy nor guard what they are given.

    `forward(inputs)` returns the floating-point outputs that may have a gradient. `backward(inputs, cotangents)` runs
    both passes and returns one gradient for every input. `names` are the inputs' as far as they are known: first those
    that the user gives, then `parameters`, which the operation holds itself, with their values. `arity` is the number
    of inputs that must be given, None where it cannot be told.

    What not every framework can is None, or raises `Unsupported`:

    - `raw(inputs, cotangents)`: what the user's backward returned, before a framework cast, summed or filled it.
    - `interleaved(calls)`: all forward passes first, then all backward passes, in the same order.
    - `subset(inputs, cotangents, wanted)`: the gradients of some inputs alone.
    - `jvp(inputs, tangents)`: the outputs' tangents, by forward mode.
    - `variants`: other ways to the same gradients, such as `jit`; `batched(calls)`: several calls of the same shapes
      in one, by vmap.
    - `double(cotangents)`: the backward pass as an operation, whose inputs are the inputs and the cotangents.
    """

    name: str
    framework: str
    kind: str
    forward: Callable[[Arrays], Arrays]
    backward: Callable[[Arrays, Arrays], Gradients] | None
    arity: int | None = None
    names: tuple[str, ...] = ()
    parameters: Mapping[str, AnyArray] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    """Widths that an input may need to have, told by the parameters' shapes."""
    analytic: bool = False
    """Whether the forward pass may be tried on complex arguments."""
    raw: Callable[[Arrays, Arrays], list[Any]] | None = None
    interleaved: Callable[[Sequence[Call]], list[Gradients]] | None = None
    subset: Callable[..., Gradients] | None = None
    jvp: Callable[[Arrays, Arrays], Arrays] | None = None
    variants: Mapping[str, Callable[[Arrays, Arrays], Gradients]] = field(default_factory=dict)
    batched: Callable[[Sequence[Call]], list[Gradients]] | None = None
    double: Callable[[int], Operation] | None = None
    random: Callable[[], bool] = bool
    """Whether a call so far has drawn random numbers. Every call sees the same ones."""
    notes: Callable[[], list[str]] = list
    """What was found out on the way and is worth telling."""

    def input_name(self, index: int) -> str:
        """Return what an input is called in messages."""
        return self.names[index] if index < len(self.names) else f"input {index}"


def load(target: str) -> object:
    """Return the object called FILE.py:OBJECT, MODULE:OBJECT, FILE.py, or FILE.py:FORWARD,BACKWARD.

    Raises `InvalidInput`, one line that names the target.
    """
    place, colon, name = target.rpartition(":")
    if not colon and target.endswith(".py"):
        return _load_file(target)
    if not colon or not place or not name:
        raise InvalidInput(f"target {target!r}: expected FILE.py:OBJECT or MODULE:OBJECT")
    module = _load_file(place) if place.endswith(".py") else _load_module(place, target)
    found = []
    for part in name.split(","):
        value: Any = module
        for attribute in part.strip().split("."):
            if not hasattr(value, attribute):
                hint = near(attribute, [known for known in dir(value) if known[0] != "_"])
                raise InvalidInput(f"target {target!r}: {place} has no {part.strip()!r}{hint}")
            value = getattr(value, attribute)
        found.append(value)
    return tuple(found) if len(found) > 1 else found[0]


def operation_of(
    candidate: object,
    name: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    framework: str | None = None,
    default: str = "numpy",
) -> Operation:
    """Return whatever a user has as an operation.

    `arguments` are the arguments that are no arrays, by name. `framework` decides for a plain function, and `default`
    where its source does not tell. Raises `InvalidInput` for what is no operation.
    """
    if isinstance(candidate, Operation):
        return candidate
    if isinstance(candidate, str):
        name, candidate = name or candidate, load(candidate)
    name = name or _name(candidate)
    family = framework or framework_of(candidate) or default
    if family not in {"numpy", "torch", "jax"}:
        raise InvalidInput(f"framework {family!r} is unknown; use numpy, torch or jax")
    if family != "numpy" and not is_installed(family):
        raise NotInstalled(f"{name} needs {family}: pip install 'gradconform[{family}]'")
    if family == "jax" and is_installed("torch") and "jax" not in sys.modules:
        importlib.import_module("torch")  # it must come first where both are used
    home = importlib.import_module(f"gradconform.conformance.operation_{family}")
    made: Operation = home.operation(candidate, name, dict(arguments or {}))
    return made


def kind_of(candidate: object) -> str | None:
    """Return what kind of operation an object is, None if it is none or a plain function; no framework is imported."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "autograd"):
        if isinstance(candidate, type) and issubclass(candidate, torch.autograd.Function):
            return FUNCTION
        module = torch.nn.Module
        if isinstance(candidate, module) or (isinstance(candidate, type) and issubclass(candidate, module)):
            return MODULE
    jax = sys.modules.get("jax")
    if jax is not None and hasattr(jax, "custom_vjp"):
        if isinstance(candidate, jax.custom_vjp):
            return CUSTOM_VJP
        if isinstance(candidate, jax.custom_jvp):
            return CUSTOM_JVP
    if callable(getattr(candidate, "forward", None)) and callable(getattr(candidate, "backward", None)):
        return PAIR
    if isinstance(candidate, tuple) and len(candidate) == 2 and all(map(callable, candidate)):
        return PAIR
    return None


def framework_of(candidate: object) -> str | None:
    """Return numpy, torch or jax by the kind of object, else by what the function's source refers to, if to any."""
    kind = kind_of(candidate)
    if kind is not None:
        return {FUNCTION: "torch", MODULE: "torch", PAIR: "numpy"}.get(kind, "jax")
    seen = _referred(candidate, set())
    return next((family for family in ("torch", "jax", "numpy") if family in seen), None)


def _referred(candidate: object, known: set[int]) -> set[str]:
    """Return the top-level packages that a function, or what it calls of its own module, refers to."""
    if id(candidate) in known or len(known) > 200:
        return set()
    known.add(id(candidate))
    if isinstance(candidate, ModuleType):
        return {candidate.__name__.partition(".")[0]}
    seen = {str(getattr(candidate, "__module__", None) or type(candidate).__module__).partition(".")[0].lstrip("_")}
    if type(candidate).__module__ != "builtins":
        seen.add(type(candidate).__module__.partition(".")[0])
    function = inspect.unwrap(candidate) if callable(candidate) else candidate
    function = getattr(function, "func", function)  # functools.partial
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        call = type(function).__dict__.get("__call__")
        return seen | (_referred(call, known) if inspect.isfunction(call) else set())
    inner = inspect.getclosurevars(function)
    for value in (*inner.globals.values(), *inner.nonlocals.values()):
        seen.add(type(value).__module__.partition(".")[0])
        if isinstance(value, ModuleType) or callable(value):
            seen |= _referred(value, known)
    # inside a function, `import torch` is a name of its code
    return seen | ({"torch", "jax", "numpy"} & set(function.__code__.co_names))


def _name(candidate: object) -> str:
    if isinstance(candidate, tuple):
        return ", ".join(map(_name, candidate))
    name = getattr(candidate, "__name__", None) or type(candidate).__name__
    return Path(name).name


@dataclass(frozen=True)
class Binding:
    """How arrays and fixed arguments become a call."""

    names: tuple[str, ...]
    """Of the arguments that are arrays; empty where the signature does not tell."""
    arity: int | None
    assemble: Callable[[Sequence[Any]], tuple[list[Any], dict[str, Any]]]


def bind(function: Callable[..., Any], name: str, arguments: Mapping[str, Any], *, skip: int = 0) -> Binding:
    """Return how to call a function whose required arguments are arrays, but for those in `arguments`.

    The first `skip` parameters are not the user's. All that can be is passed by position, which is what
    `torch.autograd.Function.apply` takes. Raises `InvalidInput` for an argument that does not exist.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):  # a function of C without a signature
        return Binding((), None, lambda arrays: (list(arrays), dict(arguments)))
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    keywords = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    plain = [p for p in parameters if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    known = [parameter.name for parameter in plain]
    for argument in arguments:
        if argument not in known and not keywords:
            raise InvalidInput(f"{name} has no argument {argument!r}; it has {', '.join(known) or 'none'}")
    required = [p.name for p in plain if p.default is p.empty and p.name not in arguments]
    places = [place for place, p in enumerate(plain) if p.name in arguments and p.kind is not p.KEYWORD_ONLY]
    last = max(places, default=-1)

    def assemble(given: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        rest, spare = list(given), len(given) - len(required)
        before: list[Any] = []
        after = {key: value for key, value in arguments.items() if key not in known}
        for index, parameter in enumerate(plain):
            needed = parameter.name in required
            if parameter.name in arguments:
                value = arguments[parameter.name]
            elif rest and (needed or spare > 0):
                value, spare = rest.pop(0), spare - (not needed)
            elif index < last and not needed:
                value = parameter.default
            else:
                continue
            if parameter.kind is parameter.KEYWORD_ONLY:
                after[parameter.name] = value
            else:
                before.append(value)
        return [*before, *rest], after

    return Binding(tuple(required), None if variadic else len(required), assemble)
