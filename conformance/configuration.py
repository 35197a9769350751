"""`[tool.gradconform]`: where it is found, and what stands in it. Nothing is imported or run for it.

The nearest pyproject.toml that has the table is read, from the current folder up to the root of the repository; outside
of a repository that of the current folder alone: what others may have written above it is not ours. Nor is, above the
current folder, what belongs to another user: on a shared machine anyone may make /tmp a repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput

TABLE = "tool.gradconform"
FILE = "pyproject.toml"
PREFIX = "GRADCONFORM_"
"""Of every variable of ours."""
OWN = frozenset(
    f"{PREFIX}{name}" for name in ("CACHE", "CONFIG", "EXPECT", "EXPECT_BROWSER", "EXPECT_WILD", "PICTURES")
)
"""Variables that are no option's: the last four are of our own tests."""
VARIABLE = f"{PREFIX}CONFIG"
"""Names another file, or is `off`."""
OFF = "off"
ROOTS = (".git", ".hg")
"""What the root of a repository has."""


@dataclass(frozen=True)
class Configuration:
    """The table of a file. `file`: as it is told; empty: there is none. `folder`: what paths in it are relative to."""

    file: str = ""
    folder: Path = Path()
    table: Mapping[str, Any] = field(default_factory=dict)

    def place(self, path: str) -> str:
        """Return a path of the file as it is from the current folder; unchanged where that is the file's own."""
        here = Path.cwd()
        return path if self.folder == here or Path(path).is_absolute() else relative(self.folder / path, here)


def read_configuration(named: str | None = None, start: Path | None = None) -> Configuration:
    """Return the table of the file `named`, of that of `GRADCONFORM_CONFIG`, or of the nearest from `start` upwards.

    Raises `InvalidInput`, one line with the file, for one that is named and has no such table, for what cannot be read
    and for what is no TOML.
    """
    named = named or os.environ.get(VARIABLE)
    if named == OFF:
        return Configuration()
    if not named:
        return _nearest((start or Path.cwd()).resolve())
    found = _read(Path(named))
    if found is None:
        raise InvalidInput(f"{shown(named)}: there is no table [{TABLE}] in it")
    return found


def relative(path: Path, start: Path) -> str:
    """Return a path as it is from a folder."""
    try:
        return os.path.relpath(path, start)
    except ValueError:  # on another drive of Windows
        return str(path)


def has_configuration(arguments: Sequence[str]) -> bool:
    """Return whether a command may take its targets from elsewhere; what is wrong there is told by the run itself."""
    if "--no-config" in arguments:
        return False
    if os.environ.get(f"{PREFIX}TARGETS") or any(word.startswith("--config") for word in arguments):
        return True
    try:
        return bool(read_configuration().file)
    except InvalidInput:
        return False


def _nearest(start: Path) -> Configuration:
    folders = [start, *start.parents]
    root = next((folder for folder in folders if any(_ours(folder / name, start) for name in ROOTS)), start)
    for folder in folders[: folders.index(root) + 1]:
        place = folder / FILE
        if place.is_file() and _ours(place, start) and (found := _read(place)) is not None:
            return found
    return Configuration()


def _ours(place: Path, start: Path) -> bool:
    """Return whether a place is there and, above the folder of the start, belongs to this user or to root."""
    if not place.exists():
        return False
    # of a link, who made it; Windows has no such owners
    return place.parent == start or not hasattr(os, "getuid") or place.lstat().st_uid in {0, os.getuid()}


def _read(place: Path) -> Configuration | None:
    """Return the table of a file; None where it has none."""
    import tomllib

    told = shown(relative(place, Path.cwd()) if place.is_absolute() else str(place))
    try:
        content = place.read_bytes()
        # what does not even name us is not ours to complain about
        tables = tomllib.loads(content.decode()) if b"gradconform" in content else {}
    except FileNotFoundError:
        raise InvalidInput(f"{told}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"{told}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{told}: not TOML: {shown(str(error))}") from None
    tool = tables.get("tool", {})
    table = tool.get("gradconform") if isinstance(tool, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise InvalidInput(f"{told}: {TABLE} is not a table: write [{TABLE}] and the words under it")
    return Configuration(told, place.resolve().parent, table)
