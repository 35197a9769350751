"""The record of a run: lines of JSON, written as the run goes, of which its reports can be made if it dies.

The first line says what is run. Each of the others has what has changed in the result since the line before, as a JSON
merge patch (RFC 7396), and the last one the whole result.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

from gradconform.conformance.casefile import versions
from gradconform.conformance.casefolder import CASES, ignore
from gradconform.conformance.parts import Part
from gradconform.conformance.plan import UNLIMITED, Plan
from gradconform.conformance.results import Result
from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput

VERSION = 1
LAST = CASES.parent / "last-run.jsonl"
"""Where the command line keeps the record of its last run, in the current folder."""
POINTER = "last_run"
"""There, the one field of a line that names the record of a run that was written elsewhere."""
EVERY_SECONDS = 1.0
"""So long at least after a line the next one is written, unless something was found."""
SHARE = 0.01
"""Of a long run this share at least lies between two lines, so that its record stays small."""
COST = 0.002
"""No more than this share of the time is spent on lines, unless they cost so much that they would come too seldom."""
OLDEST_SECONDS = 10.0
"""What a line has cost keeps back the next one for no longer than so."""
LISTS = ("implementations", "findings", "coverage")
"""The lists of a result that are objects by position in a patch, so that it has only what has changed in them."""


class Header(msgspec.Struct, kw_only=True):
    """The first line: the version of the format, who checks what, and when it began."""

    record: int = VERSION
    gradconform: str
    command: str
    started: str
    seed: int
    versions: dict[str, str]
    plan: dict[str, Any]


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Another line. `at`: seconds since the start; `result`: what has changed; `end`: the whole result, once."""

    at: float
    result: dict[str, Any] | None = None
    end: dict[str, Any] | None = None


class RunRecord:
    """Writes the record of one run. A run goes on where its record cannot be written: `note` then says so."""

    def __init__(self, place: Path | str, header: Header, part: Part | None = None) -> None:
        """Open a file for the record and write its first line; raises `InvalidInput` where that cannot be done."""
        self.place, self.part, self.note = Path(place), part, ""
        self._started = time.monotonic()
        self._due = 0.0
        self._written: dict[str, Any] = {}
        self._stream: IO[bytes] | None = None
        try:
            # unbuffered: a line is in the file as a whole as soon as it is written
            self._stream = self.place.open("wb", buffering=0)
        except OSError as error:
            raise InvalidInput(f"{place}: cannot be written: {error.strerror}") from None
        self._write(header)

    @classmethod
    def of_the_last_run(cls, header: Header, part: Part | None = None) -> RunRecord:
        """Return the record that is kept of each run. One that is still being written goes on in a file without name.

        Raises `InvalidInput` where it cannot be written.
        """
        _make_room()
        return cls(LAST, header, part)

    def log(self, so_far: Callable[[], Result], at_once: bool) -> None:
        """Write what has changed in the result: at once, or where the last line is long enough ago."""
        began = time.monotonic()
        if self._stream is None or (not at_once and began < self._due):
            return
        result = so_far()
        result.part = self.part
        now = keyed(result.to_builtins())
        self._write(Line(at=self._at, result=changes(self._written, now)))
        self._written = now
        ended = time.monotonic()
        affordable = min((ended - began) / COST, OLDEST_SECONDS)
        self._due = ended + max(EVERY_SECONDS, SHARE * (ended - self._started), affordable)

    def end(self, result: Result) -> None:
        """Write the result of the run, which has come to its end; what kept the record from it is a note there."""
        self._write(Line(at=self._at, end=result.to_builtins()))
        result.notes += [self.note] if self.note else []

    def close(self) -> None:
        """Write nothing more."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def __enter__(self) -> RunRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _at(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _write(self, line: Header | Line) -> None:
        if self._stream is None:
            return
        content = msgspec.json.encode(line) + b"\n"
        try:
            if self._stream.write(content) == len(content):
                return
            reason = "the disk is full"
        except OSError as error:
            reason = str(error.strerror)
        self.close()
        self.note = f"{self.place}: the record of the run has no end: {reason}"


def forget_last() -> None:
    """Remove the record of the last run; raises `InvalidInput` where it stays, for it is that of an older one then."""
    try:
        LAST.unlink(missing_ok=True)
    except NotADirectoryError:
        return
    except OSError as error:
        said = "gradconform report render shows an older run"
        raise InvalidInput(f"{LAST}: cannot be removed: {error.strerror}: {said}") from None


def point_to(place: str) -> None:
    """Have another file, from the current folder on, be found as the record of the last run.

    Raises `InvalidInput` where that cannot be written.
    """
    if os.path.realpath(place) == os.path.realpath(LAST):
        return
    _make_room()
    try:
        # not every name of a file is text, and JSON in ASCII has the others too
        LAST.write_text(json.dumps({POINTER: place}) + "\n", "ascii")
    except OSError as error:
        raise InvalidInput(f"{LAST}: cannot be written: {error.strerror}") from None


def pointed_to(content: bytes) -> str | None:
    """Return the file that was named in place of the record of the last run; None: it is no such name."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    place = found.get(POINTER) if isinstance(found, dict) else None
    return place if isinstance(place, str) and "\0" not in place else None


def _make_room() -> None:
    """Make the folder of the last run's record, without one in it: another run may still write into that."""
    try:
        LAST.parent.mkdir(parents=True, exist_ok=True)
        ignore(LAST.parent)
        LAST.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"{LAST}: cannot be written: {error.strerror}") from None


def header_of(plan: Plan, shard: str | None = None) -> Header:
    """Return the first line of the record of a plan."""
    return Header(
        gradconform=versions()["gradconform"],
        command=shown(plan.command),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=plan.seed,
        versions=versions(),
        plan={
            "implementations": [
                {
                    "name": shown(entry.name),
                    "version": None if entry.version is None else shown(entry.version),
                    "dtypes": list(plan.dtypes_of(entry)),
                }
                for entry in plan.everyone
            ],
            "checks": [check.id for check in plan.checks],
            "max_examples": None if plan.max_examples == UNLIMITED else plan.max_examples,
            "max_time": plan.max_time,
            "shard": shard,
        },
    )


def keyed(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result, as JSON has it, with objects in place of its lists of records, and without what is null."""
    objects = {name: {str(number): entry for number, entry in enumerate(result[name])} for name in LISTS}
    found: dict[str, Any] = _without_null({**result, **objects})
    return found


def unkeyed(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of which `keyed` has made this."""
    lists = {name: [entry for _, entry in sorted(result[name].items(), key=_number)] for name in LISTS}
    for tally in lists["implementations"]:
        tally.setdefault("version", None)
    return {**result, **lists}


def _number(entry: tuple[str, Any]) -> int:
    return int(entry[0])


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(entry) for key, entry in value.items() if entry is not None}
    return value


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes one object another; neither has a null."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        known = before.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            if inner := changes(known, value):
                patch[key] = inner
        elif known != value:
            patch[key] = value
    return patch


def patched(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with a merge patch applied."""
    after = dict(before)
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        elif isinstance(value, dict):
            known = after.get(key)
            after[key] = patched(known if isinstance(known, dict) else {}, value)
        else:
            after[key] = value
    return after
