"""Reading what a run has written, for the reports that are made of it."""

from __future__ import annotations

from pathlib import Path

from gradconform.conformance.results import Result
from gradconform.conformance.run_record import LAST
from gradconform.conformance.run_record_reading import is_record, read_record
from gradconform.errors import InvalidInput


def result_in(place: str) -> Result:
    """Return the result in a file of `--json`, or in the record of a run, whole or not.

    Raises `InvalidInput` for what cannot be read, with the place, and of a record with the number of the line.
    """
    try:
        content = Path(place).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{place}: cannot be read: {error.strerror}") from None
    try:
        return read_record(content) if is_record(content) else Result.from_json(content)
    except InvalidInput as error:
        # the number of a line belongs to the place
        raise InvalidInput(f"{place}:{'' if is_record(content) else ' '}{error}") from None


def last_result() -> Result:
    """Return the result of the last run in the current folder; raises `InvalidInput` where none was recorded."""
    if not LAST.exists():
        raise InvalidInput(f"{LAST}: no run was recorded in this folder: name a file of --record or --json")
    return result_in(str(LAST))
