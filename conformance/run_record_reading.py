"""Reading the record of a run: its result, or what it had done until it was ended from outside."""

from __future__ import annotations

from typing import Any

import msgspec

from gradconform.conformance.results import Result
from gradconform.conformance.run_record import VERSION, Header, Line, patched, unkeyed
from gradconform.errors import InvalidInput, one_line

BEGINS = b'{"record":'
"""How the record of a run begins."""
CUT_OFF = "the run ended before its time; this is what it had done"


class _Version(msgspec.Struct):
    record: int


def is_record(content: bytes) -> bool:
    """Return whether the content of a file is the record of a run, whole or not."""
    return content.startswith(BEGINS)


def read_record(content: bytes) -> Result:
    """Return the result in a record; where it has no end, what was done until then, as that of an interrupted run.

    A last line that was cut off is left out. For another one that cannot be read raises `InvalidInput`, one line that
    begins with its number and a colon.
    """
    *lines, _cut = content.split(b"\n")
    if not lines:
        raise InvalidInput("1: the first line was cut off: nothing is known of the run")
    header = _header(lines[0])
    found: dict[str, Any] = {}
    for number, text in enumerate(lines[1:], 2):
        try:
            line = msgspec.json.decode(text, type=Line)
            found = patched(found, line.result or {})
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise InvalidInput(f"{number}: cannot be read: {one_line(str(error))}") from None
        if line.end is not None:
            return _result(number, line.end)
        if line.result is None:
            raise InvalidInput(f"{number}: cannot be read: it has neither a result nor an end")
    if not found:
        return Result(
            verdict="interrupted",
            seed=header.seed,
            seconds=0.0,
            networks=0,
            structures=0,
            implementations=[],
            findings=[],
            notes=[CUT_OFF],
            interrupted=True,
            command=header.command,
            versions=header.versions,
        )
    try:
        whole = unkeyed(found)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{len(lines)}: not the result of a run: {one_line(str(error))}") from None
    result = _result(len(lines), whole)
    result.notes.append(CUT_OFF)
    return result


def _header(text: bytes) -> Header:
    """Return the first line of a record; raises `InvalidInput` for one of a later version."""
    try:
        version = msgspec.json.decode(text, type=_Version).record
        if version > VERSION:
            raise InvalidInput(f"1: version {version} of the record, of a later gradconform: {VERSION} is known here")
        return msgspec.json.decode(text, type=Header)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInput(f"1: cannot be read: {one_line(str(error))}") from None


def _result(number: int, built: dict[str, Any]) -> Result:
    try:
        return Result.from_json(msgspec.json.encode(built))
    except InvalidInput as error:
        raise InvalidInput(f"{number}: {error}") from None
