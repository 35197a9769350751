"""The words of a command that is told to be run again, and which of them are left out there."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

WRITES = frozenset({"--json", "--junit", "--markdown", "--html", "--record", "--write-manifest"})
"""Options that only write a file: who runs a command again wants to see it, and keep the files of the first time."""


def without_files(command: str) -> str:
    """Return a command without the options that only write files."""
    return without(command, WRITES)


def of_all_shards(command: str) -> str:
    """Return the command of a whole run from that of one of its shards."""
    return without(command, {*WRITES, "--shard"})


def without(command: str, options: Collection[str]) -> str:
    """Return a command without options and the value of each; what no shell reads as a command is left as it is.

    What stands behind `--` belongs to a program.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    cut = words.index("--") if "--" in words else len(words)
    return shlex.join([*without_options(words[:cut], options), *words[cut:]])


def without_options(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Return the words of a command line without options and the value of each."""
    given, kept = iter(words), []
    for word in given:
        if word in options:
            next(given, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept
