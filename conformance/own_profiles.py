"""Profiles of one's own: `[tool.gradconform.profiles.NAME]`, each of which extends another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gradconform.conformance.configuration import TABLE, Configuration
from gradconform.conformance.profiles import PROFILES, Profile
from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput
from gradconform.nearest import hint

PART = "profiles"
"""The name of their table."""
FIELDS = {
    "max-examples": "networks",
    "structures": "structures",
    "seed": "seed",
    "max-time": "max_time",
    "draws": "draws",
    "required": "required",
    "summary": "summary",
}
"""The words of a profile, and the fields that they set."""
EXTENDS = "extends"
AXES = PROFILES["default"].required


def profiles_of(configuration: Configuration) -> dict[str, Profile]:
    """Return the profiles that there are and those of a file; raises `InvalidInput`, one line, for what is none."""
    where = f"{configuration.file}: [{TABLE}] {PART}"
    tables = configuration.table.get(PART, {})
    if not isinstance(tables, dict):
        raise InvalidInput(f"{where}: expected a table for each profile, [{TABLE}.{PART}.NAME]")
    for name, table in tables.items():
        if name in PROFILES:
            raise InvalidInput(
                f"{where}: {name} is always the same: give yours another name, with {EXTENDS} = {name!r}"
            )
        if not isinstance(table, dict):
            raise InvalidInput(f"{where}: expected a table [{TABLE}.{PART}.{shown(name, 60)}]")
    return {**PROFILES, **{name: _profile(name, tables, configuration.file, ()) for name in tables}}


def _profile(name: str, tables: Mapping[str, Any], file: str, within: tuple[str, ...]) -> Profile:
    """Return the profile of a name, one that there is or of the file; `within`: those that extend it."""
    if name in PROFILES:
        return PROFILES[name]
    where = f"{file}: [{TABLE}.{PART}.{shown(name, 60)}]"
    if name in within:
        raise InvalidInput(f"{where} {EXTENDS} itself")
    table = tables[name]
    extended = table.get(EXTENDS, "default")
    if not isinstance(extended, str) or not (extended in PROFILES or extended in tables):
        known = hint(str(extended), [*PROFILES, *(other for other in tables if other != name)])
        raise InvalidInput(f"{where} {EXTENDS}: no profile {shown(repr(extended), 60)}; {known}")
    base = _profile(extended, tables, file, (*within, name))
    changes = {}
    for word, value in table.items():
        if word != EXTENDS:
            if word not in FIELDS:
                raise InvalidInput(f"{where} {shown(word, 60)} is unknown; {hint(word, [EXTENDS, *FIELDS])}")
            changes[FIELDS[word]] = _value(word, value, where)
    return replace(base, **{"summary": f"{extended}, changed", **changes})


def _value(word: str, value: Any, where: str) -> Any:
    """Return the value of a field; raises `InvalidInput` where it is no such."""
    if word == "max-time":
        expected, fits = "a number of seconds above 0", type(value) in {int, float} and 0 < value < math.inf
    elif word == "required":
        expected = f"a list of some of {', '.join(AXES)}"
        fits = isinstance(value, list) and all(entry in AXES for entry in value)
    elif word == "summary":
        expected, fits = "a string", isinstance(value, str)
    else:
        least = 0 if word == "seed" else 1
        expected, fits = f"an integer of at least {least}", type(value) is int and value >= least
    if not fits:
        raise InvalidInput(f"{where} {word}: expected {expected}, got {shown(repr(value), 60)}")
    if word == "required":
        return tuple(axis for axis in AXES if axis in value)
    return float(value) if word == "max-time" else value
