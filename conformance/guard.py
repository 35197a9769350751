"""Calling a candidate so that it hurts neither the run nor the next one, and taking what it returns as plain arrays.

Whatever stands behind the call may hang, raise anything, print, write into its inputs, hand out memory that it goes on
using, change global state, fork or return nonsense. Each of these ends as gradients, as `Unsupported`, or as
`CandidateFailed` with the verdict word. What ends the process itself needs a process of its own: `--isolate`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

import numpy as np

from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.conformance.limits import TimeIsUp, interrupted, limited_memory, limited_time, signals_heard
from gradconform.conformance.state import kept, warnings_kept
from gradconform.dtypes import is_floating
from gradconform.errors import CandidateFailed, first_line, one_line
from gradconform.network import Network

Compute = Callable[[Network, Parameters, Batch], Any]

OUTPUT = 2_000
"""Characters of what a candidate prints that are shown."""
HERE = os.path.dirname(__file__)  # noqa: PTH120 - as quick as can be
REMEMBERED = 256
"""Of so many networks the calls are remembered."""
LAST = 2
"""So many of a network's last calls are remembered, beside the first one."""

Call = tuple[Network, Parameters, Batch]


@dataclass(frozen=True, eq=False)
class History:
    """What went before a judgement, on which it may depend where a candidate keeps state.

    `calls`: how many calls were made before it; `before`: of those for the same network the first and the last ones.
    """

    calls: int = 0
    before: tuple[Call, ...] = ()


@dataclass
class Guard:
    """What a candidate may use, and what was noticed of it. One for each candidate, for all its calls.

    `timeout`: seconds a call may take. In the main thread of a POSIX system it is held by a signal, which ends Python
    code and waiting, and not a loop in C. `memory`: bytes that a call may allocate, where the system has such a limit.
    """

    timeout: float | None = None
    memory: int | None = None
    ours: bool = False
    """Whether what is called is ours and changes nothing of what belongs to everybody: a series is watched as one."""
    outside: bool = False
    """Whether what is called is a process of its own, which has these limits itself."""
    changed: set[str] = field(default_factory=set)
    """The global state that it left changed, and that was put back."""
    heard: Counter[str] = field(default_factory=Counter)
    """The warnings that it gave rise to, each with its number of calls."""
    calls: int = 0
    """How many calls were made."""
    _remembered: dict[Network, list[Call]] = field(default_factory=dict)
    _earlier: list[tuple[str, Array, bytes]] = field(default_factory=list)
    """The arrays of the result before, and what was in them."""
    _printed: int = 0
    _in_series: bool = False

    @contextlib.contextmanager
    def series(self) -> Iterator[None]:
        """Let the calls of the block, where they are ours, be watched as one, but for the time that each takes."""
        if not self.ours or self._in_series:
            yield
            return
        with self._watched():
            self._in_series = True
            try:
                yield
            finally:
                self._in_series = False

    def call(
        self, compute: Compute, network: Network, parameters: Parameters, batch: Batch, *, several: bool = False
    ) -> Gradients[Array]:
        """Return what `compute` returns, as arrays of our own. `several`: it is given cases side by side, not a case.

        Raises `NotImplementedError` where the candidate does, and `CandidateFailed` for all else that goes wrong.
        """
        given = {**parameters, **{f"batch.{name}": a for name, a in vars(batch).items() if a is not None}}
        before = {name: array.tobytes() for name, array in given.items()}
        handed, process = dict(parameters), os.getpid()
        if not several:
            self._remember(network, parameters, batch)
        with contextlib.nullcontext() if self._in_series else self._watched(), self._timed():
            try:
                found, raw = self._received(compute(network, handed, replace(batch)), network, batch)
            except TimeIsUp:
                raise CandidateFailed("TIMEOUT", "gradients", f"no result within {self.timeout:g} s") from None
            except (NotImplementedError, CandidateFailed):
                raise
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and interrupted():
                    raise
                raise _crashed(error) from error
            finally:
                if os.getpid() != process:
                    os._exit(0)  # a child that the candidate forked: the run is its parent's
                written = self._written(given, before)
        self._unshared(raw, given)
        if written or not _same_items(handed, parameters):
            raise CandidateFailed("MUTATED", "gradients", written or "the dictionary of the parameters was changed")
        return found

    def history(self, network: Network) -> History:
        """Return what went before a judgement that begins now."""
        return History(self.calls, tuple(self._remembered.get(network, ())))

    def _remember(self, network: Network, parameters: Parameters, batch: Batch) -> None:
        self.calls += 1
        calls = self._remembered.setdefault(network, [])
        calls.append((network, parameters, batch))
        if len(calls) > 1 + LAST:
            del calls[1]
        if len(self._remembered) > REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Keep a call within its limits, and what belongs to everybody as it was."""
        with (
            kept(self.changed.add),
            warnings_kept(self._hear, self.changed.add),
            contextlib.redirect_stdout(_Aside(self, sys.stderr)),
            _descriptors_kept(),
            limited_memory(None if self.outside else self.memory),
            signals_heard(),
        ):
            yield

    def _timed(self) -> contextlib.AbstractContextManager[None]:
        return limited_time(None if self.outside else self.timeout)

    def _hear(self, line: str) -> None:
        self.heard[one_line(line, 200)] += 1

    def _received(self, result: object, network: Network, batch: Batch) -> tuple[Gradients[Array], dict[str, Array]]:
        """Return a result as gradients of plain arrays of our own, and the arrays themselves, by name."""
        raw: dict[str, Array] = {}

        def run(found: Any, what: str) -> Gradients[Array]:
            if isinstance(found, Mapping):
                found = Gradients(found)
            if not isinstance(found, Gradients):
                names = ", ".join(network.parameters()) or "no parameters"
                got = _kind_of(found)
                raise CandidateFailed("NAME", what, f"expected a dictionary of arrays with {names}; got {got}")
            captured = None if found.captured is None else run(found.captured, "captured")
            return Gradients(
                _arrays(found.parameters, "parameters", "{}", batch, raw),
                _array(found.loss, "loss", batch, raw),
                _array(found.input, "input", batch, raw),
                _arrays(found.deltas, "deltas", "delta {}", batch, raw),
                _arrays(found.outputs, "outputs", "output {}", batch, raw),
                captured,
                _arrays(found.slack, "slack", "slack of {}", batch, {}),
            )

        return run(result, "what was returned"), raw

    def _written(self, given: Mapping[str, Array], before: Mapping[str, bytes]) -> str:
        """Return which input was written into, and put it back."""
        said = ""
        for name, array in given.items():
            if array.tobytes() != before[name]:
                was = np.frombuffer(before[name], array.dtype).reshape(array.shape)
                index = tuple(int(i) for i in np.argwhere(np.asarray(array != was))[0])
                said = said or f"{name}{list(index)} was {was[index]} and is {array[index]} after the call"
                # the owner of the memory alone can be made writeable
                owner = array if array.base is None else array.base
                for part in (owner, array):
                    part.flags.writeable = True
                array[...] = was
                for part in (owner, array):
                    part.flags.writeable = False
        return said

    def _unshared(self, raw: dict[str, Array], given: Mapping[str, Array]) -> None:
        """Raise where the result is memory of the inputs, or where this call wrote into the result before."""
        overwritten = [name for name, array, content in self._earlier if array.tobytes() != content]
        self._earlier = [(name, array, array.tobytes()) for name, array in raw.items()]
        if overwritten:
            detail = f"{overwritten[0]} of the result before was overwritten by this call: return a copy"
            raise CandidateFailed("ALIASED", overwritten[0], detail)
        theirs = {id(one) for source in given.values() for one in (source, source.base)}
        for name, array in raw.items():
            if array.flags.owndata and id(array) not in theirs:
                continue
            for other, source in given.items():
                # the output of a layer that does nothing may be its input
                if not name.startswith("output ") and _share(array, source):
                    raise CandidateFailed("ALIASED", name, f"it is memory of {other}, not an array of its own")


class _Aside:
    """Where a candidate prints to: standard error, and no more than a page of it."""

    def __init__(self, guard: Guard, stream: TextIO) -> None:
        self._guard, self._stream = guard, stream
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        left = OUTPUT - self._guard._printed
        self._guard._printed += len(text)
        if left > 0:
            self._stream.write(text[:left])
            if len(text) >= left:
                self._stream.write("\n... what it prints is not shown any more\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Stay open: it is ours."""


def _kind_of(thing: object) -> str:
    return one_line(type(thing).__name__, 60)


def _crashed(error: BaseException) -> CandidateFailed:
    """Return the failure of a call that raised."""
    if isinstance(error, ValueError) and "read-only" in first_line(error):
        return CandidateFailed("MUTATED", "gradients", f"{first_line(error)}{_place(error)}")
    text = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    return CandidateFailed("CRASHED", "gradients", one_line(text) + _place(error))


def _place(error: BaseException) -> str:
    """Return the line that raised in the candidate's own file: the innermost there."""
    trace = error.__traceback__
    # what is between the guard and the candidate is ours
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == HERE:  # noqa: PTH120
        trace = trace.tb_next
    if trace is None:
        return ""
    own, place = trace.tb_frame.f_code.co_filename, trace
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == own:
            place = trace
        trace = trace.tb_next
    file, function = os.path.basename(own), place.tb_frame.f_code.co_name  # noqa: PTH119
    return f" ({one_line(file, 100)}:{place.tb_lineno} in {one_line(function, 100)})"


def _arrays(found: object, what: str, name: str, batch: Batch, raw: dict[str, Array]) -> dict[Any, Array]:
    """Return arrays by name."""
    if not isinstance(found, Mapping):
        keys = "the parameters' paths" if what == "parameters" else "layer indices"
        raise CandidateFailed("NAME", what, f"expected a dictionary of arrays with {keys}; got {_kind_of(found)}")
    arrays = {}
    for key, value in dict(found).items():
        plain = key if type(key) in {int, str} else f"{_kind_of(key)} {one_line(repr(key), 60)}"
        plain = one_line(plain, 100) if isinstance(plain, str) else plain
        array = _array(value, name.format(plain), batch, raw)
        if array is not None:
            arrays[plain] = array
    return arrays


def _array(value: Any, name: str, batch: Batch, raw: dict[str, Array]) -> Array | None:
    """Return one array of a result as an array of our own; None stays None."""
    if value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise CandidateFailed("SHAPE", name, f"expected an array: {one_line(first_line(error))}") from None
    except Exception as error:  # a tensor that cannot be converted says why in its framework's words
        detail = f"expected {batch.inputs.dtype} numbers, got {_kind_of(value)}: {one_line(first_line(error))}"
        raise CandidateFailed("DTYPE", name, detail) from None
    if not is_floating(array.dtype) and array.dtype.kind not in "iu":
        raise CandidateFailed("DTYPE", name, f"expected {batch.inputs.dtype} numbers, got {array.dtype}")
    raw[name] = array
    if not hasattr(value, "dtype"):
        # lists and numbers of Python have no type of their own
        return array.astype(batch.inputs.dtype)
    return np.array(array)


def _share(one: Array, other: Array) -> bool:
    # the second question is exact, and costs more
    return np.may_share_memory(one, other) and np.shares_memory(one, other)


def _same_items(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in other)


@contextlib.contextmanager
def _descriptors_kept() -> Iterator[None]:
    """Open standard output and error again if a candidate closed or moved them."""
    copies = [(number, os.dup(number)) for number in (1, 2) if _identity(number) is not None]
    identities = {number: _identity(number) for number, _ in copies}
    try:
        yield
    finally:
        for number, copy in copies:
            if _identity(number) != identities[number]:
                os.dup2(copy, number)
            os.close(copy)


def _identity(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
