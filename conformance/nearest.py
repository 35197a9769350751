"""The nearest name of those that there are: what was probably meant by one that is unknown."""

from __future__ import annotations

from collections.abc import Iterable


def near(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant, as the end of a sentence; nothing where no name is near."""
    import difflib  # which --help goes without

    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""


def hint(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant, or everything that there is."""
    names = list(known)
    return near(word, names).removeprefix("; ") or f"known: {', '.join(names)}"
