"""Reading what a run has written, for the reports that are made of it."""

from __future__ import annotations

from pathlib import Path

from gradconform.conformance.results import Result
from gradconform.errors import InvalidInput


def result_in(place: str) -> Result:
    """Return the result in a file of `--json`; raises `InvalidInput` with the place for what cannot be read."""
    try:
        return Result.from_json(Path(place).read_bytes())
    except OSError as error:
        raise InvalidInput(f"{place}: cannot be read: {error.strerror}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from None
