"""Where the command line keeps what JAX has compiled, so that a later run does not compile it again.

It is JAX's own persistent cache, whose keys are the traced program, the options and the versions of JAX and XLA: an
edited adapter or another release compiles anew. Nothing here imports JAX, and no module sets this up by being imported.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import sys
import warnings
import zlib
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

VARIABLE = "GRADCONFORM_CACHE"
"""The variable of the environment that names another folder, or turns the cache off: `off`, or empty."""
JAX_FOLDER = "JAX_COMPILATION_CACHE_DIR"
SETTINGS = {
    # JAX keeps what took a second to compile; here nothing does
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
}
MOST = 64 << 20
"""Bytes, above which the programs that were not used for longest are removed: those of some 2,500 structures. JAX's own
limit needs a package more, and looks at every file whenever it writes one."""
BROKEN = "Error (reading|writing) persistent compilation cache"
"""How JAX's warnings begin where an entry is no good. It then compiles as if there were none."""


class Usage(NamedTuple):
    """What is in a folder."""

    programs: int
    size: int


def folder(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Return the folder that the environment tells, which need not exist; None: no cache is kept.

    It is $GRADCONFORM_CACHE, $XDG_CACHE_HOME/gradconform or ~/.cache/gradconform.
    """
    named = environment.get(VARIABLE)
    if named is not None:
        return None if named in {"", "off"} else Path(named).absolute()
    with contextlib.suppress(RuntimeError):  # nobody's home is known
        home = environment.get("XDG_CACHE_HOME")
        return (Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache") / "gradconform"
    return None


def enable(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let JAX, which is to be imported after this, keep what it compiles in the folder, if that can be used.

    A folder or settings that the user has given to JAX stay as they are.
    """
    kept = folder(environment)
    if kept is None or JAX_FOLDER in environment:
        return
    place = _usable(kept)
    if place is None:
        return
    environment[JAX_FOLDER] = str(place)
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
    warnings.filterwarnings("ignore", message=BROKEN)
    atexit.register(_trim_after_use, kept)


def told(environment: MutableMapping[str, str] = os.environ) -> str:
    """Return where compiled programs are kept and how much there is of them, or why none are."""
    kept, given = folder(environment), environment.get(JAX_FOLDER)
    if given is not None and (kept is None or not Path(given).is_relative_to(kept)):
        return f"{given}, by {JAX_FOLDER}"
    if kept is None:
        return f"not kept: {VARIABLE} is off" if VARIABLE in environment else "not kept: there is no home"
    if _usable(kept) is None:
        return f"not kept: {kept} cannot be written; {VARIABLE} may name another folder"
    programs, size = usage(kept)
    return f"{kept}: {programs:,} programs, {size / 2**20:.1f} of at most {MOST >> 20} MiB"


def usage(kept: Path) -> Usage:
    """Return how many programs are in the folder, and how many bytes they take."""
    entries = _entries(kept)
    return Usage(len(entries), sum(size for _, size, _ in entries))


def trim(kept: Path, most: int = MOST) -> None:
    """Remove what cannot be of use, and above `most` bytes the entries that were not used for longest."""
    left = 0
    for _, size, path in sorted(_entries(kept), reverse=True):
        left += size
        if left > most or size == 0:
            with contextlib.suppress(OSError):  # another process was faster
                path.unlink()


def _trim_after_use(kept: Path) -> None:
    if "jax" in sys.modules:
        trim(kept)


def _entries(kept: Path) -> list[tuple[float, int, Path]]:
    """Return when each entry was last used, its size and its path."""
    found = []
    for path in kept.glob("jax/*/*-cache"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    return found


def _usable(kept: Path) -> Path | None:
    """Return where in the folder this machine's programs are, which is made; None where that cannot be."""
    # a home may be shared by machines of which one has not what another's programs use
    place = kept / "jax" / _processor()
    with contextlib.suppress(OSError):
        # as JAX says of its own: who writes here decides what is run
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(place, os.W_OK | os.X_OK):
            return place
    return None


def _processor() -> str:
    """Return a name that processors share whose instructions are the same."""
    known = platform.machine()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open("r", encoding="utf-8", errors="replace") as lines:
        known += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{zlib.crc32(known.encode()):08x}"
