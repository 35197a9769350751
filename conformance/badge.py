"""The verdict of a run as a badge: what the endpoint of shields.io reads."""

from __future__ import annotations

import json

from gradconform.conformance.results import Result, Verdict
from gradconform.errors import InvalidInput, one_line

COLOURS: dict[Verdict, str] = {"passed": "brightgreen", "failed": "red", "broken": "red"}
OTHERWISE = "yellow"
LONGEST = 60
"""Characters of a label."""


def badge(result: Result, label: str = "gradients") -> bytes:
    """Return the JSON of a badge; raises `InvalidInput` for a shard, which says nothing of the whole run."""
    if result.part is not None and result.part.shard:
        raise InvalidInput(
            f"it is shard {result.part.shard} of a run, and a badge tells of all: merge them first, with "
            "gradconform report merge"
        )
    content = {
        "schemaVersion": 1,
        "label": one_line(label, LONGEST),
        "message": _message(result),
        "color": COLOURS.get(result.verdict, OTHERWISE),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def _message(result: Result) -> str:
    """Return the few words that tell the verdict."""
    if result.passed:
        return f"{result.comparisons:,} comparisons agree"
    if result.verdict == "failed":
        return f"{len(result.findings):,} finding{'s' if len(result.findings) != 1 else ''}"
    return result.verdict
