"""What a run asks for, beside what the file does that names a manifest: whether it is the run that was pinned."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gradconform.conformance.configuration_words import TOP
from gradconform.conformance.configured import Settings, all_words, settings_for, settings_of
from gradconform.conformance.program_words import PROGRAM

if TYPE_CHECKING:
    from gradconform.conformance.manifest import Manifest

WORDS = ("targets", "profile", "max_examples", "seed", "network", "dtypes", "only", "exclude", "data", "shard")
"""What decides which run it is."""


class Draw(NamedTuple):
    """How much is drawn, and from what; None where that is left open."""

    profile: str
    max_examples: int | None
    seed: int | None


class Request(NamedTuple):
    """What is asked for. `targets`: as a manifest names them; `elsewhere`: the network, the data and the shard."""

    draw: Draw
    targets: frozenset[str]
    dtypes: frozenset[str]
    checks: frozenset[str]
    elsewhere: tuple[Any, ...]

    def covers(self, other: Request, manifest: Manifest | None) -> bool:
        """Return whether it asks for what the other does, or for all that is pinned, whoever says it."""
        pinned = {} if manifest is None else manifest.implementations
        counts = [(dtype, counted) for dtypes in pinned.values() for dtype, counted in dtypes.items()]
        checks = {check for _, counted in counts for check, count in counted.checks.items() if count}
        return (
            self.elsewhere == other.elsewhere
            and self.targets in {other.targets, frozenset(pinned)}
            and self.dtypes in {other.dtypes, frozenset(dtype for dtype, _ in counts)}
            and (self.checks == other.checks or (bool(checks) and checks <= self.checks))
        )


def request_of_run(ctx: click.Context, folder: Path) -> Request:
    """Return what the running command asks for; `folder`: where the manifest stands."""
    return _request({name: value_of(ctx, name) for name in WORDS}, settings_of(ctx), folder, ctx.meta.get(PROGRAM, ()))


def value_of(ctx: click.Context, name: str) -> Any:
    """Return the value of an option of the running command, from wherever it is."""
    taken = settings_of(ctx).taken.get(name)
    return ctx.params.get(name) if taken is None else taken.value


def request_of_file(ctx: click.Context, folder: Path) -> Request:
    """Return what `gradconform check` would be asked for by the file alone."""
    settings = settings_of(ctx)
    said = settings_for(TOP, all_words(), settings.file, {}).taken
    return _request({name: said[name].value for name in WORDS if name in said}, settings, folder)


def _request(values: Mapping[str, Any], settings: Settings, folder: Path, program: tuple[str, ...] = ()) -> Request:
    from gradconform.conformance.manifest import name_in
    from gradconform.conformance.plan import choose_checks
    from gradconform.conformance.profiles import profile_named

    name = values.get("profile") or "default"
    profile = profile_named(name, settings.profiles)
    seed = values.get("seed")
    targets = [*(values.get("targets") or ()), *([shlex.join(program)] if program else [])]
    return Request(
        draw=Draw(name, values.get("max_examples") or profile.networks, profile.seed if seed is None else seed),
        targets=frozenset(name_in(target, folder) for target in targets),
        dtypes=frozenset(values.get("dtypes") or ()),
        checks=frozenset(check.id for check in choose_checks(values.get("only") or (), values.get("exclude") or ())),
        elsewhere=tuple(values.get(word) for word in ("network", "data", "shard")),
    )
