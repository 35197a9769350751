"""The manifest: how much a run compares, pinned in the user's repository, so that green cannot silently shrink.

It holds the comparisons of each implementation, dtype and check, and what was met, of a run that passed, with its
profile, number of networks and seed. A run that compares less is not covered; one that compares more says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from gradconform.conformance.configuration import relative
from gradconform.conformance.parts import drawn_by
from gradconform.conformance.results import Held, Result, Tally
from gradconform.errors import InvalidInput, one_line

FORMAT = 1
FEW = 4
"""Of more checks than this that compare less, the sum is told."""
HALF, SOME = 0.5, 10
"""Other releases draw other networks: this share of what is pinned has to be there, and every check that has so many
comparisons. Of six runs from six seeds, the smallest had 0.90 times the comparisons of the largest where they
had 300 networks, and 0.55 times where they had 24."""


class Counts(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What was compared of one implementation in one dtype."""

    networks: int
    comparisons: int
    checks: dict[str, int]
    unsupported: int = 0


class Manifest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """What a run compared. `profile`: None where it is not known, of a run that was put together from shards."""

    manifest: int = FORMAT
    profile: str | None
    max_examples: int
    seed: int
    drawn_by: dict[str, str]
    implementations: dict[str, dict[str, Counts]]
    met: dict[str, dict[str, list[str]]]
    """By implementation: the regimes, layers, losses, reductions and dtypes in which something could be told."""

    def to_json(self) -> bytes:
        """Return the manifest as JSON, sorted, a number on each line: what changed shows in a diff."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def manifest_of(result: Result, profile: str | None, max_examples: int, folder: Path) -> Manifest:
    """Return what a run compared; files among the names are told from `folder`, where the manifest is to stand."""
    counted: dict[str, dict[str, Counts]] = {}
    for tally in result.implementations:
        counted.setdefault(name_in(tally.name, folder), {})[tally.dtype] = _counts(tally)
    return Manifest(
        profile=profile,
        max_examples=max_examples,
        seed=result.seed,
        drawn_by=drawn_by(),
        implementations=counted,
        met={
            name_in(entry.implementation, folder): {
                axis: sorted(value for value, cases in values.items() if cases) for axis, values in entry.values.items()
            }
            for entry in result.coverage
        },
    )


def read_manifest(place: str) -> Manifest:
    """Return the manifest in a file; raises `InvalidInput`, one line with the file, for what is none."""
    try:
        content = Path(place).read_bytes()
    except FileNotFoundError:
        raise InvalidInput(f"{place}: no such file; write it with --write-manifest") from None
    except OSError as error:
        raise InvalidInput(f"{place}: cannot be read: {error.strerror}") from None
    try:
        format_ = msgspec.json.decode(content, type=_Format).manifest
        if format_ != FORMAT:
            raise InvalidInput(f"{place}: a manifest of format {format_}, and this release reads {FORMAT}")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"{place}: not a manifest of gradconform: {one_line(str(error))}") from None


class _Format(msgspec.Struct):
    manifest: int


def misfit(
    manifest: Manifest, profile: str | None, max_examples: int | None, seed: int | None, *, merged: bool = False
) -> str | None:
    """Return what a run does otherwise than that which was pinned, and what to do; None: it is the same run.

    `merged`: it was put together from shards, which cannot be other ones any more.
    """
    for word, pinned, own in (
        ("profile", manifest.profile, profile),
        ("max-examples", manifest.max_examples, max_examples),
        ("seed", manifest.seed, seed),
    ):
        if pinned != own and None not in {pinned, own}:
            if merged:
                remedy = "merge those of the pinned run, or pin anew with --write-manifest"
                return f"pinned with {word} {pinned}, and these shards have {own}: {remedy}"
            return f"pinned with {word} {pinned}, and this run has {own}: add --{word} {pinned}, or pin anew"
    return None


def hold(result: Result, manifest: Manifest, place: str) -> Held:
    """Return what a run compared less, and more, than is pinned in the manifest of a file."""
    now = manifest_of(result, manifest.profile, manifest.max_examples, Path(place).absolute().parent)
    others = _others(manifest, now)
    fewer = [*_gone(manifest, now), *_shrunk(manifest, now, loosely=bool(others))]
    return Held(file=one_line(place), fewer=fewer, more=list(_more(manifest, now, loosely=bool(others))), others=others)


def name_in(name: str, folder: Path) -> str:
    """Return the name of an implementation as it is from a folder, wherever the run was started: a file's is a path."""
    place, ending, rest = name.partition(".py")
    file = Path(f"{place}{ending}")
    if ending and rest[:1] in {"", ":"} and file.is_file():
        return Path(relative(file.absolute(), folder)).as_posix() + rest
    return name


def _others(manifest: Manifest, now: Manifest) -> str:
    """Return why a run draws other networks than the one that was pinned; nothing where it draws the same."""
    if now.drawn_by != manifest.drawn_by:
        return f"it was pinned with {_releases(manifest)}, and this is {_releases(now)}"
    if now.implementations.keys() != manifest.implementations.keys():
        return f"it was pinned for {', '.join(manifest.implementations)}"
    return ""


def _releases(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(manifest.drawn_by.items()))


def _gone(manifest: Manifest, now: Manifest) -> Iterator[str]:
    """Yield the implementations and dtypes that are not compared any more, a sentence each."""
    for name, pinned in manifest.implementations.items():
        own = now.implementations.get(name, {})
        gone = {dtype: counts for dtype, counts in pinned.items() if dtype not in own}
        if not own:
            gone = {"": Counts(networks=0, comparisons=sum(one.comparisons for one in pinned.values()), checks={})}
        for dtype, counts in gone.items():
            title = f"{name} {dtype}".rstrip()
            yield f"{title} is not compared any more: {counts.comparisons:,} comparisons are pinned"


def _shrunk(manifest: Manifest, now: Manifest, *, loosely: bool) -> Iterator[str]:
    """Yield what is compared less of an implementation and dtype that is there, a sentence each with both numbers."""
    share = HALF if loosely else 1.0
    for name, dtypes in manifest.implementations.items():
        own = now.implementations.get(name, {})
        for dtype in [dtype for dtype in dtypes if dtype in own]:
            pinned, counts, title = dtypes[dtype], own[dtype], f"{name} {dtype}"
            if counts.networks < share * pinned.networks:
                yield (
                    f"{title}: {counts.networks:,} networks, {pinned.networks:,} are pinned; not supported: "
                    f"{counts.unsupported:,}, pinned {pinned.unsupported:,}"
                )
            yield from _checks(title, pinned, counts, loosely=loosely)
        lost = [
            f"{axis} {value}"
            for axis, values in manifest.met.get(name, {}).items()
            for value in values
            if axis != "dtype" and value not in now.met.get(name, {}).get(axis, [])
        ]
        if lost and own and not loosely:
            yield f"{name}: nothing could be told any more of {', '.join(lost)}"


def _checks(title: str, pinned: Counts, own: Counts, *, loosely: bool) -> Iterator[str]:
    """Yield the checks that are gone, and those that compare less."""
    gone = [check for check, count in pinned.checks.items() if count and not own.checks.get(check)]
    for check in gone:
        if not loosely or pinned.checks[check] >= SOME:
            yield f"{title}: {check} is not checked any more: {pinned.checks[check]:,} comparisons are pinned"
    less = [check for check, count in pinned.checks.items() if check not in gone and own.checks.get(check, 0) < count]
    total = f"{title}: {own.comparisons:,} comparisons, {pinned.comparisons:,} are pinned"
    if loosely:
        if own.comparisons < HALF * pinned.comparisons:
            yield total
    elif len(less) > FEW:
        yield f"{total}: fewer of {', '.join(less)}"
    else:
        for check in less:
            yield f"{title}: {own.checks[check]:,} comparisons of {check}, {pinned.checks[check]:,} are pinned"


def _more(manifest: Manifest, now: Manifest, *, loosely: bool) -> Iterator[str]:
    """Yield what is compared beyond what is pinned."""
    for name, dtypes in now.implementations.items():
        pinned = manifest.implementations.get(name, {})
        for dtype, own in dtypes.items():
            known = pinned.get(dtype)
            title = f"{name} {dtype}" if pinned else name
            if known is None:
                yield f"{title} is new: {own.comparisons:,} comparisons"
            elif own.comparisons > known.comparisons and not loosely:
                yield f"{name} {dtype}: {own.comparisons:,} comparisons, {known.comparisons:,} are pinned"


def _counts(tally: Tally) -> Counts:
    return Counts(
        networks=tally.cases,
        comparisons=tally.comparisons,
        checks=dict(tally.checks),
        unsupported=tally.unsupported,
    )


def told(held: Held) -> list[str]:
    """Return the notes of what a run compared less or more than is pinned."""
    anew = f"to pin what this run compares: the same with --write-manifest {held.file}"
    less = f"less was compared than {held.file} pins; {anew}"
    more = f"more was compared than {held.file} pins: {'; '.join(held.more)}; {anew}"
    others = f"other networks are drawn than {held.file} pins, and held to half of it: {held.others}; {anew}"
    return [
        *held.fewer,
        *([less] if held.fewer else []),
        *([more] if held.more else []),
        *([others] if held.others else []),
    ]
