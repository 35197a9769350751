"""The nearest name of those that there are: what was probably meant by one that is unknown."""

from __future__ import annotations

from collections.abc import Iterable

CUTOFF = 0.5
"""How much alike two words are, from 0 to 1, of which one may be meant by the other."""


def closest(word: str, known: Iterable[str], count: int = 1, cutoff: float = CUTOFF) -> list[str]:
    """Return at most so many names that were probably meant, the nearest first."""
    import difflib  # which --help goes without

    return difflib.get_close_matches(word, list(known), count, cutoff)


def near(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant, as the end of a sentence; nothing where no name is near."""
    close = closest(word, known)
    return f"; did you mean {close[0]}?" if close else ""


def hint(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant, or everything that there is."""
    names = list(known)
    return near(word, names).removeprefix("; ") or f"known: {', '.join(names)}"
