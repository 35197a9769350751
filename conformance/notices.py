"""What a run noticed of implementations beside their gradients: records that add up, and the notes of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from gradconform.conformance.sums import added

MAX_TIMEOUTS = 2
"""So often may a candidate take too long; then it is not asked any more."""
MAX_WARNINGS = 5
"""So many different warnings of a candidate are told."""
KEPT = 50
"""So many different reasons and warnings of an implementation are kept."""


class Noticed(msgspec.Struct, omit_defaults=True):
    """What was noticed of one implementation.

    `unsupported`: why it does not support what was drawn, each reason with its number of cases; `without`: the dtypes
    that it supports, where none of them is among those that are checked; `changed`: the global state that it left
    changed, and that was put back; `warnings`: with the number of each; `given_up`: in how many parts of the run it
    took too long so often that it was not asked any more.
    """

    unsupported: dict[str, int] = {}
    without: list[str] = []
    changed: list[str] = []
    warnings: dict[str, int] = {}
    given_up: int = 0

    def __add__(self, other: Noticed) -> Noticed:
        return Noticed(
            unsupported=_kept(added(self.unsupported, other.unsupported)),
            without=self.without if other.without else [],
            changed=sorted({*self.changed, *other.changed}),
            warnings=_kept(added(self.warnings, other.warnings)),
            given_up=self.given_up + other.given_up,
        )


def _kept(counts: Mapping[str, int]) -> dict[str, int]:
    """Return as many as are kept, most frequent first."""
    return dict(_frequent(counts)[:KEPT])


def _frequent(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def notes_of(noticed: Mapping[str, Noticed], changed: Sequence[str]) -> list[str]:
    """Return the notes of what was noticed of implementations by name, and of what the whole run left changed."""
    notes = [
        f"{name} does not support everything that was drawn: {_frequent(own.unsupported)[0][0]}"
        for name, own in noticed.items()
        if own.unsupported
    ]
    notes += [
        f"{name} is not checked: it supports {' and '.join(own.without)} alone"
        for name, own in noticed.items()
        if own.without
    ]
    notes += [note for name, own in noticed.items() for note in _notes(name, own)]
    return notes + [f"{name} was changed during the run, and put back" for name in changed]


def _notes(name: str, own: Noticed) -> Iterator[str]:
    if own.changed:
        yield f"{name} leaves changed what others use, which was put back: {', '.join(own.changed)}"
    for line, times in _frequent(own.warnings)[:MAX_WARNINGS]:
        yield f"{name} warns{f' {times:,} times' if times > 1 else ''}: {line}"
    if len(own.warnings) > MAX_WARNINGS:
        yield f"{name} gives {len(own.warnings) - MAX_WARNINGS:,} other warnings"
    if own.given_up:
        parts = f", in {own.given_up:,} parts of the run" if own.given_up > 1 else ""
        yield f"{name} took too long {MAX_TIMEOUTS} times, and was not asked any more{parts}"
