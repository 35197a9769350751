"""Fuzzing: a campaign that chooses its rounds by what came back, for as long as it may."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gradconform.conformance.campaign import Campaign, Crew, Total, require_done
from gradconform.conformance.campaign_work import Described, Done, Unit, memory, result_of
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.casefolder import replay_command, write_content
from gradconform.conformance.fuzz_log import Entry, Log
from gradconform.conformance.fuzz_screen import Picture, Screen
from gradconform.conformance.fuzz_targeting import Targeting
from gradconform.conformance.plan import LATE
from gradconform.conformance.record import MAX_FINDINGS
from gradconform.conformance.results import Finding, Result
from gradconform.errors import InvalidInput

GRACE = 60.0
"""Seconds that a round may go on at least when time is up, and has been started before."""


class Fuzzing:
    """One campaign.

    `log`: where each unit is written, and what was done before; `max_time`: seconds; `max_examples`: networks, with
    those of the log; `cases`: the folder of case files, None for none.
    """

    def __init__(
        self,
        log: Log,
        crew: Crew,
        described: Described,
        screen: Screen,
        *,
        max_time: float,
        max_examples: int | None = None,
        cases: Path | None = None,
    ) -> None:
        self.log, self.crew, self.screen = log, crew, screen
        self.max_time, self.max_examples, self.cases = max_time, max_examples, cases
        self.targeting = Targeting(log.job, described)
        self.total = Total(log.job)
        self._number = LATE  # rounds before are smaller: those of a campaign are all alike
        self._drawn = 0
        """Networks of all units that were handed over or logged."""
        self._before = 0.0
        """Seconds of the campaign until this run of it."""
        self._compared = 0
        """Comparisons of the log."""
        self._started = time.monotonic()
        self._longest = 0.0
        self._running: dict[int, Unit] = {}
        self._memory: Counter[str] = Counter()

    def read(self) -> None:
        """Take in the log."""
        units = 0
        for entry in self.log.entries():
            units += 1
            self._take_in(entry)
        if self.log.torn:
            self.screen.tell("the last line of the log was cut off, and is left out")
        if units:
            self._compared = self.total.result.comparisons if self.total.result is not None else 0
            self.screen.tell(f"{units:,} rounds are in {self.log.folder}: going on after them")

    def _take_in(self, entry: Entry) -> None:
        self._number = max(self._number, entry.unit.number + 1)
        self._drawn += entry.unit.networks
        self._before = max(self._before, entry.at)
        if entry.lost:
            self.total.give_up(entry.unit, entry.lost, entry.bad)
            return
        result = entry.read()
        for finding in result.findings:
            self._place(finding)
        self.total.add(result)
        self.targeting.learn(entry.signals)

    def run(self) -> Result:
        """Run units until time is up; Ctrl-C ends it with what was done so far.

        Raises `InvalidInput` for what the user named, and `CrewGone` where nobody is left to run units.
        """
        self._started = time.monotonic()
        campaign = Campaign(
            self.log.job,
            self.crew,
            self._draw,
            self._done,
            self._lost,
            tick=self._tick,
            until=lambda: self._started + self.max_time + max(GRACE, 2 * self._longest),
        )
        try:
            campaign.run()
        except KeyboardInterrupt:
            self.total.interrupted = True
        finally:
            self.crew.close()
        whole = self.total.whole()
        whole.seconds = round(self._elapsed, 3)
        return whole

    @property
    def _elapsed(self) -> float:
        return self._before + time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Comparisons a second of this run."""
        compared = self.total.result.comparisons if self.total.result is not None else 0
        return (compared - self._compared) / max(1e-9, time.monotonic() - self._started)

    def _draw(self) -> Unit | None:
        if time.monotonic() - self._started > self.max_time:
            return None
        if self.max_examples is not None and self._drawn >= self.max_examples:
            return None
        findings = self.total.result.findings if self.total.result is not None else []
        known = {
            name: sorted({key for finding in findings if finding.implementation == name for key in finding.keys})
            for name in sorted({finding.implementation for finding in findings})
        }
        # what comes after so many is counted and told, and neither made small nor named
        unit = self.targeting.unit(self._number, known, settle=len(findings) < MAX_FINDINGS)
        if self.max_examples is not None:
            unit = msgspec.structs.replace(unit, networks=min(unit.networks, self.max_examples - self._drawn))
        self._number += 1
        self._drawn += unit.networks
        self._running[unit.number] = unit
        return unit

    def _done(self, done: Done) -> None:
        self._running.pop(done.unit.number, None)
        result = result_of(require_done(done))
        self.log.add(done, self._elapsed, memory())
        self._longest = max(self._longest, done.seconds)
        self._memory[done.worker] = done.memory
        before = {finding.id for finding in self.total.result.findings} if self.total.result is not None else set()
        for finding in result.findings:
            if finding.id in done.files:
                self._write(finding, done.files[finding.id])
        whole = self.total.add(result)
        for finding in whole.findings:
            if finding.id not in before and finding.id in done.files:
                likely = f"; likely {finding.likely}" if finding.likely else ""
                self.screen.tell(f"{finding.implementation}   {finding.sentence}: {finding.notation}{likely}")
        self.targeting.learn(done.signals)

    def _write(self, finding: Finding, content: bytes) -> None:
        """Keep the case of a finding."""
        if self.cases is None:
            return
        try:
            write_content(self.cases, finding.id, content)
        except OSError as error:
            self.cases = None
            self.total.lost.append(f"cases cannot be kept: {error.strerror}")
        self._place(finding)

    def _place(self, finding: Finding) -> None:
        """Tell where the case of a finding is kept, if it is."""
        place = None if self.cases is None else self.cases / f"{finding.id}.json"
        if place is None or not place.exists():
            return
        try:
            finding.replay = replay_command(place, read_case(place))
        except InvalidInput:  # somebody wrote into it
            return
        finding.file = str(place)

    def _lost(self, unit: Unit, why: str, bad: bool) -> None:
        self._running.pop(unit.number, None)
        self.log.give_up(unit, why, bad, self._elapsed)
        self.total.give_up(unit, why, bad)
        self.screen.tell(f"round {unit.number} is given up: {why}")

    def _tick(self) -> None:
        if self.screen.due:
            self.screen.show(self.picture())

    def picture(self) -> Picture:
        """Return how far it is."""
        return Picture(
            result=self.total.result,
            left=self.max_time - (time.monotonic() - self._started),
            rate=self.rate,
            pairs=(self.targeting.met, len(self.targeting.wanted)),
            workers=self.crew.size,
            running=_looking(list(self._running.values())),
            memory=max(self._memory.values(), default=0),
        )


def _looking(units: Sequence[Unit]) -> str:
    """Return what units are for, in words."""
    counts = Counter(unit.focus.why for unit in units)
    return ", ".join(f"{count} {why}" if count > 1 else why for why, count in sorted(counts.items()))
