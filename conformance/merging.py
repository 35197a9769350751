"""Putting the results of a run's parts together: the result of their union, in whatever order they come.

What is counted adds up: the totals are those of the run in one piece, however its rounds were split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gradconform.conformance.command_words import of_all_shards
from gradconform.conformance.coverage import Covered, uncovered
from gradconform.conformance.merging_findings import joined
from gradconform.conformance.notices import Noticed, notes_of
from gradconform.conformance.parts import Part, differing
from gradconform.conformance.results import Canaries, Met, Pinned, Result, Tally, Verdict
from gradconform.conformance.sharpness import Sharpness
from gradconform.conformance.sums import added
from gradconform.errors import InvalidInput


def merged(results: Sequence[Result]) -> Result:
    """Return the result of the union of parts of one run that share no round.

    Raises `InvalidInput`, one line, for none, for parts of different runs, and for a round that is in two of them.
    """
    if not results:
        raise InvalidInput("nothing to merge: expected the results of a run's parts")
    first = results[0]
    for other in results[1:]:
        if first.seed != other.seed:
            raise InvalidInput(f"they are not of one run: seed {first.seed} in one and seed {other.seed} in the other")
    tallies = _tallies(results)
    noticed: dict[str, Noticed] = {}
    for result in results:
        for name, more in result.noticed.items():
            noticed[name] = noticed[name] + more if name in noticed else more
    # what is not checked in one part may be in another, of other types
    checked = {tally.name for tally in tallies}
    for name in checked & noticed.keys():
        noticed[name] = msgspec.structs.replace(noticed[name], without=[])
    changed = sorted({name for result in results for name in result.changed})
    own = [note for result in results for note in result.notes if note not in _derived(result)]
    whole = Result(
        verdict="passed",
        seed=first.seed,
        seconds=round(sum(result.seconds for result in results), 3),
        networks=sum(result.networks for result in results),
        structures=sum(result.structures for result in results),
        implementations=tallies,
        findings=joined([finding for result in results for finding in result.findings]),
        regimes=_regimes(results),
        coverage=_coverage(results),
        canaries=_canaries([result.canaries for result in results if result.canaries is not None]),
        pinned=_pinned([result.pinned for result in results if result.pinned is not None]),
        noticed={name: noticed[name] for name in sorted(noticed) if noticed[name] != Noticed()},
        changed=changed,
        interrupted=any(result.interrupted for result in results),
        part=_part([result.part for result in results if result.part is not None]),
        command=of_all_shards(next((result.command for result in results if result.command), "")),
        versions={name: version for result in results for name, version in result.versions.items()},
    )
    whole.notes = [*dict.fromkeys(own), *_derived(whole)]
    whole.verdict = verdict_of(whole)
    return whole


def verdict_of(result: Result) -> Verdict:
    """Return the verdict of what a result holds."""
    if result.canaries is not None and result.canaries.missed:
        return "broken"
    if result.findings:
        return "failed"
    if result.interrupted:
        return "interrupted"
    if not any(tally.telling for tally in result.implementations):
        return "nothing compared"
    return "not covered" if uncovered(result.coverage) else "passed"


def _derived(result: Result) -> list[str]:
    """Return the notes that follow from what else a result holds."""
    vacuous = [note for tally in result.implementations if (note := tally.vacuity) is not None]
    return uncovered(result.coverage) + notes_of(result.noticed, result.changed) + vacuous


def _tallies(results: Iterable[Result]) -> list[Tally]:
    """Return what was compared of each implementation in each dtype, in the order in which they are met first."""
    found: dict[tuple[str, str], Tally] = {}
    for result in results:
        for tally in result.implementations:
            whole = found.setdefault((tally.name, tally.dtype), Tally(tally.name, tally.version, tally.dtype))
            _add(whole, tally)
    return list(found.values())


def _add(whole: Tally, tally: Tally) -> None:
    if whole.version != tally.version:
        raise InvalidInput(
            f"they are not of one run: {tally.name} is {whole.version or 'without version'} in one and "
            f"{tally.version or 'without version'} in the other"
        )
    whole.cases += tally.cases
    whole.comparisons += tally.comparisons
    whole.lost += tally.lost
    whole.at_kinks += tally.at_kinks
    whole.unsupported += tally.unsupported
    whole.checks = added(whole.checks, tally.checks)
    whole.learn(tally.kinks)
    whole.meet(tally.worst_ratio, tally.worst_at, tally.worst_network)
    whole.outcomes = added(whole.outcomes, tally.outcomes)
    whole.margins += tally.margins
    for look, sharpness in tally.sharpness.items():
        known = whole.sharpness.get(look, Sharpness())
        whole.sharpness[look] = Sharpness(added(known.caught, sharpness.caught), known.missed + sharpness.missed)


def _regimes(results: Iterable[Result]) -> dict[str, Met]:
    found: dict[str, Met] = {}
    for result in results:
        for name, met in result.regimes.items():
            known = found.get(name, Met())
            found[name] = Met(known.cases + met.cases, added(known.comparisons, met.comparisons))
    return found


def _coverage(results: Iterable[Result]) -> list[Covered]:
    """Return what each implementation met; what one part had to meet and did not, another may have met."""
    found: dict[str, Covered] = {}
    for result in results:
        for entry in result.coverage:
            known = found.get(entry.implementation)
            found[entry.implementation] = entry if known is None else known + entry
    return list(found.values())


def _canaries(several: Sequence[Canaries]) -> Canaries | None:
    if not several:
        return None
    planted = several[0].planted
    others = dict.fromkeys(fault for canaries in several for fault in canaries.planted if fault not in planted)
    missed = dict.fromkeys(fault for canaries in several for fault in canaries.missed)
    found = dict.fromkeys(fault for canaries in several for fault in canaries.found if fault not in missed)
    return Canaries([*planted, *others], list(missed), list(found))


def _pinned(several: Sequence[Pinned]) -> Pinned | None:
    if not several:
        return None
    return Pinned(
        cases=sum(pinned.cases for pinned in several),
        failing=sum(pinned.failing for pinned in several),
        unsupported=sum(pinned.unsupported for pinned in several),
    )


def _part(parts: Sequence[Part]) -> Part | None:
    """Return which rounds the parts are of together."""
    if not parts:
        return None
    first, rounds = parts[0], [number for part in parts for number in part.rounds]
    for other in parts[1:]:
        if (difference := differing(first, other)) is not None:
            raise InvalidInput(f"they are not of one run: {difference}")
    if len(set(rounds)) < len(rounds):
        twice = next(number for number in sorted(rounds) if rounds.count(number) > 1)
        raise InvalidInput(f"round {twice} is in two of them: it would be counted twice")
    return Part(run=first.run, rounds=sorted(rounds), of=first.of)
