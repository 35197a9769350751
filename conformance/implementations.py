"""Who computes gradients: the reference, the adapters that are installed, and what a user names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import msgspec

from gradconform.adapters.process import STARTUP, TIMEOUT, ProcessClient
from gradconform.capabilities import ARITHMETICS, CONVENTIONS, EVERYTHING, Capabilities, Labels
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.conformance.adapter_names import ENTRY_POINTS, VMAP, adapter_names, vmap_names
from gradconform.conformance.candidates import Compute, compute_of, declared_by, of_module
from gradconform.conformance.conventions import adapted, described
from gradconform.conformance.guard import Guard
from gradconform.conformance.several import by_vmap
from gradconform.dtypes import DTYPES
from gradconform.errors import CandidateFailed, InvalidInput, NotInstalled, Unsupported, first_line
from gradconform.nearest import near
from gradconform.network import Network

__all__ = [
    "Compute",
    "Implementation",
    "adapter",
    "adapter_names",
    "everything",
    "installed",
    "is_installed",
    "isolated",
    "of",
    "of_command",
    "reference",
    "resolve",
]

CHECKED_DTYPES = ("float64", "float32")
"""What an implementation is checked in by default, of the dtypes that it declares."""
REFERENCE = "reference"

T = TypeVar("T")
Word = TypeVar("Word", bound=str)


class Prepare(Protocol):
    """Compiles in the background what gradients of a network, or with `alone` only its bare ones, need for a batch."""

    def __call__(self, network: Network, batch: Batch, *, alone: bool) -> None: ...


@dataclass(frozen=True)
class Implementation:
    """Something that computes gradients, under the name by which the user knows it.

    `gradients(network, parameters, batch)` returns `{path: array}` or `gradconform.Gradients`, and raises
    `NotImplementedError` for what it does not support. What its `capabilities` declare is all that is drawn for it and
    handed to it: the dtypes in which it is checked, of all those `supported`, unless others are asked for, and all
    the rest. `guard` holds the calls of what is not ours: within limits, and without a trace.

    `bare`, if there is one, is called as `gradients` is where the parameters' gradients alone are asked for, of a batch
    whose shape may never come again: it takes less time to compile. `prepare`, if there is one, is told what is called
    next, to compile it in the background.

    `several`, if there is one, is called as `gradients` is with cases of one structure at once: all arrays have one
    more axis before. `by_vmap`: the same framework's implementation that has it.
    """

    name: str
    gradients: Compute
    version: str | None = None
    capabilities: Capabilities = EVERYTHING
    supported: tuple[str, ...] = DTYPES
    bare: Compute | None = None
    prepare: Prepare | None = None
    several: Compute | None = None
    by_vmap: Implementation | None = None
    kinks: dict[str, float] = field(default_factory=dict, compare=False)
    """What was found out: the share of the right-sided derivative that is taken at exactly 0, by the layer's name."""
    guard: Guard = field(default_factory=Guard, compare=False)

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}" if self.version else self.name

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes in which it is checked where no others are asked for."""
        return self.capabilities.dtypes

    @property
    def labels(self) -> tuple[Labels, ...]:
        """The kinds of labels that its cross entropies take."""
        return self.capabilities.labels

    @property
    def class_weights(self) -> bool:
        """Whether its cross entropies take class weights."""
        return self.capabilities.class_weights

    @property
    def layouts(self) -> bool:
        """Whether it takes arrays in any memory order."""
        return self.capabilities.layouts

    @property
    def arithmetic(self) -> str:
        """The rounding model of `gradconform.reference.precision` that its kernels obey."""
        return self.capabilities.arithmetic

    def fresh(self) -> Implementation:
        """Return the same, of which nothing is known yet."""
        guard = Guard(ours=self.guard.ours, outside=self.guard.outside)
        other = None if self.by_vmap is None else self.by_vmap.fresh()
        return replace(self, by_vmap=other, kinks={}, guard=guard)

    def asked(self, dtypes: Sequence[str] | None) -> Sequence[str]:
        """Return the dtypes in which to check: those asked for that are supported, else those it declares."""
        return self.dtypes if dtypes is None else [dtype for dtype in dtypes if dtype in self.supported]

    def described(self, network: Network) -> Network:
        """Return the network that the implementation computes by its documented design."""
        return described(self.capabilities.conventions or (self.name,), network)


def is_installed(name: str) -> bool:
    """Return whether an adapter's framework, which shares its name, can be imported; nothing is imported."""
    if name in {point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # blocked by an import hook, or by an entry of sys.modules
        return False


def installed() -> list[Implementation]:
    """Return the adapters whose frameworks are installed."""
    return [adapter(name) for name in _installed_names()]


def adapter(name: str) -> Implementation:
    """Return the adapter of a framework; raises `NotInstalled` with the command that installs it.

    Its module may declare `DTYPES`, all that it supports, `ARITHMETIC` and `COMPILED`; one of ours may have functions
    `bare`, `prepare` and `vmapped`. Raises `InvalidInput` for a word in them that is unknown.
    """
    points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    try:
        module = points[name].load() if name in points else importlib.import_module(f"gradconform.adapters.{name}")
    except ImportError as error:
        hint = f"pip install 'gradconform[{name}]'" if name not in points else f"its adapter says: {error}"
        if name not in points and is_installed(name):
            hint = f"importing it says: {error}"
        raise NotInstalled(f"{name} cannot be used: {hint}") from error
    version = module.version() if hasattr(module, "version") else None
    declared = _declared(name, module, "DTYPES", DTYPES, default=CHECKED_DTYPES)
    checked = [dtype for dtype in declared if dtype in CHECKED_DTYPES]
    arithmetic = _declared(name, module, "ARITHMETIC", ARITHMETICS, default=("any",))[0]
    default = msgspec.structs.replace(
        EVERYTHING,
        dtypes=tuple(checked or declared),
        arithmetic=arithmetic,
        conventions=(name,) if name in CONVENTIONS else (),
        compiled=bool(getattr(module, "COMPILED", False)),
    )
    if name not in points:
        bare, prepare = getattr(module, "bare", None), getattr(module, "prepare", None)
        guard = Guard(ours=True)
        found = Implementation(name, module.gradients, version, default, tuple(declared), bare, prepare, guard=guard)
        return replace(found, by_vmap=by_vmap(found, module.vmapped)) if hasattr(module, "vmapped") else found
    own = declared_by(module, name, default)
    return Implementation(name, adapted(compute_of(module, name), own), version, own, tuple(declared), guard=Guard())


def reference() -> Implementation:
    """Return the NumPy reference as an implementation like any other."""
    import numpy as np

    capabilities = msgspec.structs.replace(EVERYTHING, arithmetic="numpy")
    version = f"numpy {np.__version__}"
    return Implementation(
        REFERENCE, _reference_gradients, version, capabilities, CHECKED_DTYPES, guard=Guard(ours=True)
    )


def _reference_gradients(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return the reference's gradients; raises `Unsupported` in the 16-bit types, for which it has no arithmetic."""
    from gradconform.reference.backpropagation import gradients

    dtype = batch.inputs.dtype
    if dtype.name in {"bfloat16", "float16"}:
        raise Unsupported(f"reference: no rule for {dtype.name}")
    return gradients(network, parameters, batch)


def everything() -> list[Implementation]:
    """Return what is checked where nothing is named: the reference's NumPy, and the frameworks that are installed.

    Raises `NotInstalled` where there is none: NumPy alone agrees with itself.
    """
    return [reference(), *_some(installed())]


def everything_named() -> list[str]:
    """Return the names of all that, without importing a framework; raises `NotInstalled` where there is none."""
    return [REFERENCE, *_some(_installed_names())]


def _installed_names() -> list[str]:
    return [name for name in adapter_names() if is_installed(name)]


def _some(frameworks: list[T]) -> list[T]:
    if not frameworks:
        raise NotInstalled("nothing to compare: no framework is installed. Try: pip install 'gradconform[all]'")
    return frameworks


def resolve(target: str) -> Implementation:
    """Return what the user calls `target`: `reference`, an adapter, one by vmap, `file.py:object` or
    `package.module:object`.

    A file or module alone will do if it has a function `gradients`.

    Raises `InvalidInput` or `NotInstalled`, one line that names the target.
    """
    if target == REFERENCE:
        return reference()
    if target in adapter_names():
        return adapter(target)
    if target in vmap_names() and (found := adapter(target.removesuffix(VMAP)).by_vmap) is not None:
        return found
    place, colon, name = target.rpartition(":")
    if target.endswith(".py") and Path(target).is_file():
        module = _load_file(target)
        if not hasattr(module, "gradients"):
            raise InvalidInput(f"target {target!r}: which function? Write it as {target}:gradients")
        return of(module, target)
    ours = target.removesuffix(VMAP) in {REFERENCE, *adapter_names()}
    if not colon and not ours and _is_module(target) and hasattr(module := _load_module(target, target), "gradients"):
        return of(module, target)
    if target.endswith(".py"):
        raise InvalidInput(f"{target}: no such file")
    if not colon or not place or not name:
        known = ", ".join([REFERENCE, *adapter_names(), *vmap_names()])
        raise InvalidInput(f"target {target!r}: expected {known}, FILE.py:FUNCTION or MODULE:FUNCTION")
    module = _load_file(place) if place.endswith(".py") else _load_module(place, target)
    if not hasattr(module, name):
        hint = near(name, [known for known in vars(module) if not known.startswith("_")])
        raise InvalidInput(f"target {target!r}: {place} has no {name!r}{hint}")
    return of(getattr(module, name), target)


def of(candidate: object, name: str | None = None) -> Implementation:
    """Return a candidate as an implementation: a function, or a module or an object with `gradients`, or with
    `forward` and `backward`; or a class of such objects, which is built once, or once for each network.

    Its `capabilities`, as `gradconform.supports` sets them, or its attributes of the names of their fields declare
    what it takes. Without them that is float64 and integer labels without class weights, in C order, as a network
    written by hand has them. Raises `InvalidInput` for what is no candidate, and for an unknown word.
    """
    if isinstance(candidate, Implementation):
        return candidate
    if isinstance(candidate, str):
        return resolve(candidate)
    name = name or str(getattr(candidate, "__name__", type(candidate).__name__))
    from gradconform.conformance.operation import PAIR, kind_of

    kind = kind_of(candidate)
    if kind not in {None, PAIR}:
        raise InvalidInput(f"target {name!r} is {kind}: check it alone, with: gradconform layer {name}")
    if isinstance(candidate, ModuleType) and hasattr(candidate, "gradients"):
        compute, capabilities = of_module(candidate, name)
    else:
        compute, capabilities = compute_of(candidate, name), declared_by(candidate, name)
    return Implementation(name, adapted(compute, capabilities), capabilities=capabilities, guard=Guard())


def of_command(
    command: Sequence[str],
    timeout: float | None = TIMEOUT,
    memory: int | None = None,
    *,
    startup: float = STARTUP,
    name: str | None = None,
    isolated: bool = False,
) -> Implementation:
    """Return a program of any language that speaks the protocol of `gradconform.adapters.process`; it is started.

    `timeout`: seconds that a call may take, None: as long as it takes; `startup`: seconds until it must have answered;
    `memory`: bytes that it may have. What it takes is what it declares in its first answer. `isolated`: it is a target
    of our own in another process, which hands over single samples and transposed weights itself.

    Raises `InvalidInput` for no command, for what the program declares that is unknown, and where it does not start.
    """
    client = ProcessClient(command, timeout=timeout, startup=startup, memory=memory)
    name = name or shlex.join(command)
    try:
        capabilities = client.capabilities
    except CandidateFailed as failure:
        raise InvalidInput(f"{name}: {failure.detail}") from None
    return Implementation(
        name,
        client.gradients if isolated else adapted(client.gradients, capabilities),
        client.started.version,
        capabilities,
        supported=DTYPES if isolated else capabilities.dtypes,
        guard=Guard(outside=True),
    )


def isolated(target: str, timeout: float | None = TIMEOUT, memory: int | None = None) -> Implementation:
    """Return the target in a Python process of its own; raises what `resolve` and `of_command` raise."""
    command = [sys.executable, "-m", "gradconform.conformance.serve", target]
    return of_command(command, timeout=timeout, memory=memory, name=target, isolated=True)


def _declared(
    target: str, candidate: object, attribute: str, known: Sequence[Word], default: Sequence[Word]
) -> list[Word]:
    """Return what a candidate declares of what is known."""
    declared = getattr(candidate, attribute, default)
    words = (declared,) if isinstance(declared, str) else tuple(declared)
    for word in words:
        if word not in known:
            raise InvalidInput(f"target {target!r}: {attribute} declares {word!r}; known: {', '.join(known)}")
    return [word for word in known if word in words]


def _load_file(place: str) -> Any:
    path = Path(place).resolve()
    if not path.is_file():
        raise InvalidInput(f"{place}: no such file")
    spec = importlib.util.spec_from_file_location(f"_gradconform_target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{place}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = _line_of(error, path)
        raise InvalidInput(f"{place}{line}: {type(error).__name__}: {first_line(error)}") from error
    return module


def _load_module(place: str, target: str) -> Any:
    try:
        with _importable(Path.cwd()):
            return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"target {target!r}: {type(error).__name__}: {first_line(error)}") from error


def _is_module(name: str) -> bool:
    """Return whether a module of this name can be found; nothing is imported but the packages around it."""
    try:
        with _importable(Path.cwd()):
            return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False
    except (Exception, SystemExit):
        return True  # a package around it raises, which loading it tells


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a target import what lies beside it, as when Python runs it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _line_of(error: BaseException, path: Path) -> str:
    """Return `:LINE`, where in the user's file an exception came from."""
    if isinstance(error, SyntaxError) and error.lineno and error.filename == str(path.resolve()):
        return f":{error.lineno}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path.resolve():
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
