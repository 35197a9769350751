"""Reading what a run has written, for the reports that are made of it."""

from __future__ import annotations

from pathlib import Path

from gradconform.conformance.results import Result
from gradconform.conformance.run_record import LAST, pointed_to
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
    """Return the result of the last run in the current folder; raises `InvalidInput` where there is no record of it."""
    try:
        content = LAST.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        said = "there is no record of a last run in this folder, as after --no-cases: name a file of --record or --json"
        raise InvalidInput(f"{LAST}: {said}") from None
    except OSError:
        content = b""
    elsewhere = None if is_record(content) else pointed_to(content)
    return result_in(elsewhere or str(LAST))
