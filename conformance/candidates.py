"""What a user hands over, in whatever form, as one function `gradients(network, parameters, batch)`.

A function, a module or an object with `gradients`; an object with `forward` and `backward`; a class of either, built
once, or once for each network. What each of them declares is read here too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from gradconform.capabilities import FIELDS, Capabilities, capabilities_of
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.dtypes import finfo, is_floating
from gradconform.errors import InvalidInput
from gradconform.layers import Record
from gradconform.network import Network
from gradconform.reference.bounded import Bounded

Compute = Callable[[Network, Parameters, Batch], Any]
Update = Callable[[Network, Parameters, Batch, float], Mapping[str, Any]]

BUILT = 64
"""How many networks' instances of a class are kept at a time."""

LEARNING_RATE = 2.0**20
"""So large a step leaves of the parameters' own size next to nothing in what is lost by the subtraction."""


def compute_of(candidate: object, name: str) -> Compute:
    """Return the function that computes gradients; raises `InvalidInput` for what has none."""
    if isinstance(candidate, type):
        return _class(candidate, name)
    compute = _bound(candidate)
    if compute is None:
        raise InvalidInput(f"target {name!r}: expected a function gradients(network, parameters, batch)")
    return compute


def _bound(candidate: object) -> Compute | None:
    gradients: Compute | None = getattr(candidate, "gradients", None)
    if callable(gradients):
        return gradients
    forward, backward = getattr(candidate, "forward", None), getattr(candidate, "backward", None)
    if callable(forward) and callable(backward):
        return _separately(forward, backward)
    return candidate if callable(candidate) else None


def _class(kind: type, name: str) -> Compute:
    """Return what builds the class at the first call, or at the first call for each network, and then calls it."""
    methods = {method for base in kind.__mro__ for method in vars(base)}
    if not methods & {"gradients", "__call__"} and not {"forward", "backward"} <= methods:
        raise InvalidInput(
            f"target {name!r}: the class has no method gradients(network, parameters, batch), "
            "nor forward and backward with the same arguments"
        )
    arguments = _arguments(kind, name)
    build: Callable[..., Any] = lru_cache(maxsize=BUILT)(kind)

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Any:
        method = _bound(build(network) if arguments else build())
        if method is None:
            raise InvalidInput(f"target {name!r}: what the class builds has no gradients(network, parameters, batch)")
        return method(network, parameters, batch)

    return compute


def _arguments(kind: type, name: str) -> int:
    """Return how many arguments a class is built with: none, or the network."""
    try:
        parameters = list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):  # a class written in C
        return 0
    given = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    required = [
        one for one in parameters if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    if len(required) > 1 or (required and required[0] not in given):
        asked = ", ".join(one.name for one in required)
        raise InvalidInput(
            f"target {name!r}: the class is built with {asked}; expected nothing or the network: name a function "
            "that builds it, or an object"
        )
    return int(bool(required) or bool(given and given[0].name == "network"))


def _separately(forward: Callable[..., Any], backward: Callable[..., Any]) -> Compute:
    """Return the gradients of `backward`, with what `forward` showed: outputs by layer, the last one, or the loss."""

    def compute(network: Network, parameters: Parameters, batch: Batch) -> Any:
        shown = forward(network, parameters, batch)
        found = backward(network, parameters, batch)
        if isinstance(found, Mapping):
            found = Gradients(found)
        if not isinstance(found, Gradients) or shown is None:
            return found
        more: dict[str, Any] = {}
        if isinstance(shown, Mapping):
            more["outputs"] = shown
        elif np.ndim(shown):
            more["outputs"] = {len(network.layers) - 1: shown}
        else:
            more["loss"] = shown
        known = {
            field: value
            for field, value in vars(found).items()
            if value is not None and not (isinstance(value, Mapping) and not value)
        }
        return Gradients(**{**more, **known})

    return compute


def from_update(update: Update, *, learning_rate: float = LEARNING_RATE) -> Compute:
    """Return a candidate made of one step of gradient descent: what `fit`-like code has in place of gradients.

    `update(network, parameters, batch, learning_rate)` returns the parameters after one step, by path. The gradient is
    (before - after) / learning_rate. What the subtraction loses is known for every element, half a unit in the last
    place of `after`, and is allowed for exactly (`Gradients.slack`); a large learning rate makes it little.

    Raises `InvalidInput` unless `learning_rate` is a power of two, by which multiplying and dividing loses nothing.
    """
    if not (isinstance(learning_rate, int | float) and 0 < learning_rate < np.inf) or np.frexp(learning_rate)[0] != 0.5:
        raise InvalidInput(f"learning_rate: expected a power of two, such as 2.0**20, got {learning_rate!r}")

    def gradients(network: Network, parameters: Parameters, batch: Batch) -> Any:
        stepped = update(network, parameters, batch, learning_rate)
        if not isinstance(stepped, Mapping):
            return stepped
        found: dict[str, Any] = {}
        slack: dict[str, Any] = {}
        for path, after in stepped.items():
            before = parameters.get(path)
            found[path] = after
            if before is not None and np.shape(after) == before.shape and is_floating(np.asarray(after).dtype):
                found[path], slack[path] = _difference(before, np.asarray(after), learning_rate)
        return Gradients(found, slack=slack)

    gradients.__name__ = getattr(update, "__name__", type(update).__name__)
    declared = declared_by(update, gradients.__name__)
    gradients.capabilities = declared  # type: ignore[attr-defined] # functions take attributes
    return gradients


def _difference(before: Array, after: Array, rate: float) -> tuple[Array, Array]:
    """Return (before - after) / rate in the type of `after`, and how far it may be from the step's own gradient.

    `after` is before - rate g rounded once, by at most half its spacing; a number below the smallest normal one may
    have been flushed to 0. Our own difference is rounded in a longer type, and then to the type of `after`.
    """
    limits = finfo(after.dtype)
    with np.errstate(all="ignore"):
        difference = before.astype(np.longdouble) - after.astype(np.longdouble)
        gradient = (difference / rate).astype(after.dtype)

        def half_spacing(array: Array) -> Array:
            size = np.maximum(np.abs(array.astype(np.longdouble)), float(limits.smallest_normal))
            # the spacing is at most eps times the size, and half of it at least the rounding
            return np.asarray(size * float(limits.eps) / 2)

        lost = half_spacing(after) + np.finfo(np.longdouble).eps * np.abs(difference)
        lost += np.where(
            np.abs(after.astype(np.longdouble)) < float(limits.smallest_normal), float(limits.smallest_normal), 0
        )
        return gradient, (lost / rate + half_spacing(gradient)).astype(np.float64)


def declared_by(candidate: object, name: str, default: Capabilities | None = None) -> Capabilities:
    """Return what a candidate declares: its `capabilities`, or attributes of the names of their fields.

    The attributes of a function are declarations whatever they are. Those of a module, a class or an object, which
    may have other uses for a name such as `layers`, are where they are words, flags, layers or losses.
    Raises `InvalidInput`, one line that names the target, for what is unknown.
    """
    default = default or Capabilities()
    try:
        whole = getattr(candidate, "capabilities", None)
        if isinstance(whole, Capabilities):
            return whole
        if isinstance(whole, Mapping):
            return capabilities_of(dict(whole))
        strict = inspect.isroutine(candidate)
        fields = {
            field: value
            for field in FIELDS
            if (value := getattr(candidate, field, None)) is not None and (strict or _is_declaration(value))
        }
        return msgspec.structs.replace(default, **fields) if fields else default
    except InvalidInput as error:
        raise InvalidInput(f"target {name!r}: {error}") from None


def _is_declaration(value: object) -> bool:
    words = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return all(
        isinstance(word, str | bool | Record | Network) or (isinstance(word, type) and issubclass(word, Record))
        for word in words
    )


def of_module(module: ModuleType, name: str) -> tuple[Compute, Capabilities]:
    """Return the function `gradients` of a module, with what it declares, or else what the module does."""
    compute = compute_of(module.gradients, name)
    return compute, declared_by(module.gradients, name, declared_by(module, name))


def allowing(expected: Gradients[Bounded], actual: Gradients[Any]) -> Gradients[Bounded]:
    """Return what is expected with the bounds widened by the slack of what was computed."""
    if not actual.slack:
        return expected

    def wider(path: str, bound: Bounded) -> Bounded:
        slack = np.asarray(actual.slack.get(path, 0.0), np.float64)
        if slack.shape not in {(), bound.value.shape[-slack.ndim :]}:
            return bound  # the gradient's own shape is then wrong as well
        return Bounded(bound.value, bound.error + slack, bound.m)

    return replace(expected, parameters={path: wider(path, bound) for path, bound in expected.parameters.items()})
