"""The running picture of a fuzzing campaign: on a terminal one that changes in place, a line now and then elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import Result
from gradconform.conformance.terminal import EVERY_SECONDS, tell

REDRAWN = 0.5
"""How often the picture is drawn where there is one."""
HEADLINES = 8
"""So many findings are in the picture."""


@dataclass(frozen=True)
class Picture:
    """How far a campaign is. `left`: seconds; `rate`: comparisons a second; `pairs`: how many were met, of how many.

    `running`: units that workers have; `memory`: bytes of the largest worker.
    """

    result: Result | None
    left: float
    rate: float
    pairs: tuple[int, int]
    workers: int
    running: str
    memory: int = 0

    @property
    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{_clock(self.left)} left", *self.counts]
        if (worst := self.worst) is not None:
            parts.append(worst)
        return "  ".join([*parts, self.findings])

    @property
    def counts(self) -> list[str]:
        """What was compared, and what was met."""
        networks, comparisons = (self.result.networks, self.result.comparisons) if self.result else (0, 0)
        met = sum(name in self.result.regimes for name in REGIMES) if self.result else 0
        counts = [f"{networks:,} networks", f"{comparisons:,} comparisons", f"{self.rate:,.0f}/s"]
        counts.append(f"{met}/{len(REGIMES)} regimes")
        return [*counts, f"{self.pairs[0]}/{self.pairs[1]} pairs"] if self.pairs[1] else counts

    @property
    def worst(self) -> str | None:
        """The closest call of all."""
        tallies = [tally for tally in self.result.implementations if tally.worst_at] if self.result else []
        if not tallies:
            return None
        tally = max(tallies, key=lambda one: one.worst_ratio)
        return f"worst {tally.worst_ratio:.4g} ({tally.name} {tally.dtype})"

    @property
    def findings(self) -> str:
        """How many findings there are."""
        count = len(self.result.findings) if self.result else 0
        return f"{count} finding{'s' if count != 1 else ''}"

    def table(self) -> RenderableType:
        """All of it for a terminal, a line for each implementation and type."""
        workers = f"{self.workers} worker{'s' if self.workers != 1 else ''}"
        first = Text("  ".join([f"{_clock(self.left)} left", *self.counts, workers]))
        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        for name in ("who", "type", "ratio", "where"):
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "where" else None)
        for tally in self.result.implementations if self.result else ():
            where = f"{tally.worst_at} of {tally.worst_network}" if tally.worst_at else ""
            table.add_row(tally.name, tally.dtype, f"{tally.worst_ratio:.4g}", Text(where))
        found = [
            Text(
                f"FAILED  {finding.implementation}   {finding.sentence}",
                style="bold red",
                overflow="ellipsis",
                no_wrap=True,
            )
            for finding in (self.result.findings[:HEADLINES] if self.result else ())
        ]
        running = Text(f"{self.findings}  looking at {self.running}" if self.running else self.findings, no_wrap=True)
        return Group(first, table, *found, running)


class Screen:
    """Shows pictures on stderr."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        if console.is_terminal and console.is_interactive:
            self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown = time.monotonic()

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def due(self) -> bool:
        """Whether it is time for another picture."""
        return time.monotonic() - self._shown > (EVERY_SECONDS if self._live is None else REDRAWN)

    def show(self, picture: Picture) -> None:
        """Show a picture in place of the one before."""
        self._shown = time.monotonic()
        if self._live is None:
            self.tell(picture.line)
        else:
            self._live.update(picture.table(), refresh=True)

    def tell(self, line: str) -> None:
        """Write one line that stays."""
        tell(line, None if self._live is None else self._live.console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
