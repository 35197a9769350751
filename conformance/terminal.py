"""Writing to the terminal: results on stdout, progress on stderr, colour and movement only where they are wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from gradconform.conformance.message import finding_text, smallest_text
from gradconform.conformance.results import Finding
from gradconform.conformance.supervisor import silence
from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput

COLOURS = {
    "PASSED": "bold green",
    "FAILED": "bold red",
    "BROKEN": "bold red",
    "NOTHING COMPARED": "bold yellow",
    "NOT COVERED": "bold yellow",
    "INTERRUPTED": "bold yellow",
}
EVERY_SECONDS = 10.0
"""How often a line of progress is written where there is no terminal."""


class _Output(Console):
    """Standard output. Where nobody reads it any more, nothing is left to say, and the exit code still tells."""

    def on_broken_pipe(self) -> None:
        """Go on in silence, also at exit."""
        self.quiet = True
        silence()


def say(text: str) -> None:
    """Print a text to stdout as it is, its verdict words coloured where colour is shown."""
    console = _Output(highlight=False, markup=False, emoji=False)
    for line in text.splitlines():
        coloured = Text(line)
        for word, style in COLOURS.items():
            if line.startswith(word):
                coloured.stylize(style, 0, len(word))
        console.print(coloured, soft_wrap=True)


def write(place: str, content: bytes) -> None:
    """Write a file; raises `InvalidInput` that names it."""
    try:
        Path(place).write_bytes(content)
    except OSError as error:
        raise InvalidInput(f"{place}: cannot be written: {error.strerror}") from None


def tell(line: str, moving: Console | None) -> None:
    """Write one line to stderr, which stays: above what moves on that console, if anything does."""
    line = shown(line)
    if moving is not None:
        moving.print(line, markup=False, soft_wrap=True)
    else:
        print(f"gradconform: {line}", file=sys.stderr, flush=True)  # noqa: T201 - progress goes to stderr


class _Bar(Bar):
    """A bar below the findings so far, which goes when the run ends: then they are told in full."""

    findings: tuple[str, ...] = ()

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the last finding and the bar."""
        if self.findings:
            yield Text(self.findings[-1])
        yield from super().get_renderables()


class Progress:
    """How far a run is: a bar on a terminal, a line now and then elsewhere. `what` is counted."""

    def __init__(self, what: str = "networks compared") -> None:
        self._what = what
        console = Console(stderr=True, highlight=False)
        self._bar: _Bar | None = None
        if console.is_terminal and console.is_interactive:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn(what))
            self._bar = _Bar(*columns, TimeElapsedColumn(), console=console, transient=True)
            self._task = self._bar.add_task(what, total=None)
        self._said = time.monotonic()

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done; None: of as many as there is time for."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._said > EVERY_SECONDS:
            self._said = time.monotonic()
            of = "" if total is None else f"of {total:,} "
            self.tell(f"{done:,} {of}{self._what}")

    def found(self, finding: Finding) -> None:
        """Show a finding as soon as it is small: on a terminal all of it, while the run goes on; else a line."""
        if self._bar is not None:
            self._bar.findings += (finding_text(finding),)
        else:
            likely = f"; likely {finding.likely}" if finding.likely else ""
            self.tell(f"{finding.implementation}   {finding.sentence}: {smallest_text(finding)}{likely}")

    def tell(self, line: str) -> None:
        """Write one line between the progress."""
        tell(line, None if self._bar is None else self._bar.console)
