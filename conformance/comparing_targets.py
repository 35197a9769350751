"""What a user calls a model: `file.py:object`, `package.module:object`, or the object itself."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from gradconform.conformance import implementations
from gradconform.conformance.comparing_functions import NumpyFunction
from gradconform.conformance.comparing_jax import JaxFunction
from gradconform.conformance.comparing_models import Model
from gradconform.conformance.comparing_torch import TorchFunction, TorchModule
from gradconform.errors import InvalidInput, first_line
from gradconform.nearest import near

FRAMEWORKS = {
    "torch": "torch",
    "jax": "jax",
    "flax": "jax",
    "haiku": "jax",
    "equinox": "jax",
    "optax": "jax",
    "numpy": "numpy",
}
"""Modules that a function refers to, and the framework that it is written in then."""
EXPECTED = (
    "expected an nn.Module, a function model(parameters, inputs) in JAX or PyTorch, or a function "
    "gradients(parameters, inputs, targets) that returns {name: gradient}"
)


def model_of(target: object, name: str | None = None, seed: int = 0) -> Model:
    """Return what the user calls a model.

    A string is loaded. A class and a function without required arguments are called first, with PyTorch's and NumPy's
    random numbers seeded. A pair `(function, parameters)`, and an attribute `parameters` of the function, give it the
    values to start from. Raises `InvalidInput`, one line, for everything else.
    """
    if isinstance(target, str):
        name, target = target, _load(target)
    named = target[0] if isinstance(target, tuple) and target else target
    name = name or str(getattr(named, "__name__", type(named).__name__))
    for _ in range(2):
        if _is_module(target):
            return TorchModule(name, target)
        if not _is_factory(target):
            break
        target = _made(target, name, seed)
    template: Any = None
    if isinstance(target, tuple) and len(target) == 2 and callable(target[0]):
        target, template = target
    function = target if callable(target) else getattr(target, "gradients", None)
    if not callable(function) or inspect.isclass(function):
        raise InvalidInput(f"{name} is {_an(type(target).__name__)}: {EXPECTED}")
    if template is None:
        template = getattr(target, "parameters", None)
        template = template() if callable(template) else template
    if template is not None and not isinstance(template, Mapping | list | tuple):
        raise InvalidInput(f"{name}: its parameters are {_an(type(template).__name__)}: expected {{name: array}}")
    framework = _framework(name, function)
    kinds: dict[str, Callable[..., Model]] = {"torch": TorchFunction, "jax": JaxFunction, "numpy": NumpyFunction}
    return kinds[framework](name, function, template)


def _load(target: str) -> object:
    place, colon, name = target.rpartition(":")
    if target.endswith(".py") and Path(target).is_file():
        raise InvalidInput(f"target {target!r}: which object? Write it as {target}:model")
    if not colon or not place or not name:
        raise InvalidInput(f"target {target!r}: expected FILE.py:OBJECT or MODULE:OBJECT")
    module = implementations._load_file(place) if place.endswith(".py") else implementations._load_module(place, target)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            hint = near(part, [known for known in vars(found) if not known.startswith("_")])
            raise InvalidInput(f"target {target!r}: {place} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def _is_module(target: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(target, torch.nn.Module)


def _is_factory(target: object) -> bool:
    """Return whether a target is to be called without arguments to get the model."""
    if inspect.isclass(target):
        return True
    if not callable(target):
        return False
    try:
        arguments = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(
        argument.default is argument.empty or argument.kind is argument.VAR_POSITIONAL
        for argument in arguments
        if argument.kind is not argument.VAR_KEYWORD
    )


def _made(target: Any, name: str, seed: int) -> object:
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for whatever the user's code draws from it
    try:
        return target()
    except (Exception, SystemExit) as error:
        hint = "; give an instance instead of the class" if inspect.isclass(target) else ""
        raise InvalidInput(f"{name}(): {type(error).__name__}: {first_line(error)}{hint}") from error


def _framework(name: str, function: Any) -> str:
    """Return what a function is written in: as it declares, or the framework that its code refers to.

    Names that the code mentions are looked up in its module, and functions of the same module that it calls likewise.
    Of several frameworks the one that is not NumPy; with both, or none to be found, it has to say which.
    """
    declared = getattr(function, "framework", None)
    if declared is not None:
        if declared not in {"torch", "jax", "numpy"}:
            raise InvalidInput(f"{name}: framework declares {declared!r}; known: torch, jax, numpy")
        return str(declared)
    if type(function).__module__.partition(".")[0] in {"jax", "jaxlib"}:
        return "jax"
    seen = set(_referred(inspect.unwrap(function) if not inspect.ismethod(function) else function, set()))
    frameworks = {FRAMEWORKS[word] for word in seen if word in FRAMEWORKS} or {"numpy"}
    if len(frameworks) > 1:
        frameworks.discard("numpy")
    if len(frameworks) > 1:
        raise InvalidInput(
            f"{name} refers to PyTorch and to JAX: say which one it is written in, as in {name.rpartition(':')[2]}"
            '.framework = "jax"'
        )
    return frameworks.pop()


def _referred(function: Any, visited: set[int]) -> Iterator[str]:
    """Yield the top-level packages that the code of a function refers to."""
    if id(function) in visited:
        return
    visited.add(id(function))
    if hasattr(function, "func") and callable(function.func):  # functools.partial
        yield from _referred(function.func, visited)
        return
    if not hasattr(function, "__code__") and not inspect.ismethod(function):
        function = vars(type(function)).get("__call__")
    code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if not isinstance(code, CodeType):
        return
    captured = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    for word in _names(code):
        if word.startswith("import "):
            yield word.removeprefix("import ")
            continue
        value = captured.get(word, names.get(word))
        if isinstance(value, ModuleType):
            yield value.__name__.partition(".")[0]
        elif value is not None:
            home = str(getattr(value, "__module__", "") or "").partition(".")[0]
            if home in FRAMEWORKS:
                yield home
            elif getattr(value, "__globals__", None) is names:
                yield from _referred(value, visited)
            elif hasattr(value, "__wrapped__"):  # a jitted function
                yield from [type(value).__module__.partition(".")[0], *_referred(value.__wrapped__, visited)]


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global and captured names that a code object reads, and `import PACKAGE` for what it imports."""
    for step in dis.get_instructions(code):
        # not all of co_names, which has attributes too: the nn of jax.nn is no torch.nn
        if step.opname in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}:
            yield str(step.argval)
        elif step.opname == "IMPORT_NAME":
            yield f"import {str(step.argval).partition('.')[0]}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _an(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
