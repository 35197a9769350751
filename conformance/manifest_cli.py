"""The manifest at the command line: which one a run is held against, whether it fits, and writing one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gradconform.conformance.configured import settings_of
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.manifest import Manifest
    from gradconform.conformance.results import Result

RUN = ("profile", "max_examples", "seed")
"""What a manifest knows of the run that it pins."""
NARROWS = ("targets", "network", "dtypes", "only", "exclude", "data", "shard")
"""What makes another run of it."""
FILE, ELSEWHERE = "file", "elsewhere"
"""Where a value comes from: what is read, or the command line and the environment."""


def manifest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a manifest."""
    for option in (
        click.option(
            "--write-manifest",
            type=click.Path(dir_okay=False),
            help="Pin in this file how much was compared, if everything agrees: for --manifest.",
        ),
        click.option(
            "--manifest",
            type=click.Path(dir_okay=False),
            help="Hold the run against this file: less than is pinned there is NOT COVERED, exit code 5.",
        ),
    ):
        command = option(command)
    return command


@dataclass
class Pinning:
    """What a result is held against, and where it is to be pinned: either, or neither."""

    place: str | None = None
    manifest: Manifest | None = None
    write: str | None = None
    profile: str | None = None
    max_examples: int = 0

    def hold(self, result: Result) -> None:
        """Hold a result against the manifest: what it has less, it says, and is not green."""
        from gradconform.conformance.manifest import hold, told

        # what fails, or was ended, has less to compare
        if self.manifest is None or self.place is None or result.verdict in {"failed", "interrupted", "broken"}:
            return
        result.manifest = hold(result, self.manifest, self.place)
        result.notes += told(result.manifest)
        if result.manifest.fewer and result.verdict == "passed":
            result.verdict = "not covered"

    def pin(self, result: Result) -> None:
        """Write the manifest, if one is to be written. Raises `InvalidInput` for a run that was cut short."""
        from gradconform.conformance.manifest import manifest_of
        from gradconform.conformance.terminal import write

        if self.write is None:
            return
        if not result.passed:
            click.echo(f"gradconform: {self.write} is not written: what is pinned is a run that passed", err=True)
            return
        if result.networks < self.max_examples:
            raise InvalidInput(
                f"{self.write} is not written: {result.networks:,} of {self.max_examples:,} networks were drawn"
            )
        folder = Path(self.write).absolute().parent
        write(self.write, manifest_of(result, self.profile, self.max_examples, folder).to_json())
        click.echo(f"gradconform: pinned in {self.write}: {result.comparisons:,} comparisons", err=True)


def pinning_of_run(
    place: str | None, write: str | None, profile: str, max_examples: int | None, seed: int | None
) -> Pinning:
    """Return what the running command's result is held against, or pinned in; None: it leaves that open.

    Raises `InvalidInput`, before the run, where it cannot be pinned or is not the one that was.
    """
    from gradconform.conformance.manifest import misfit, read_manifest

    if write is None and place is None:
        return Pinning()
    ctx = click.get_current_context()
    from_file = _source(ctx, "manifest") == FILE
    _require_one(None if from_file else place, write)
    elsewhere = [name for name in (*RUN, *NARROWS) if _source(ctx, name) == ELSEWHERE]
    unfit = _unfit("--manifest" if write is None else "--write-manifest", ctx, max_examples, seed)
    pinning = Pinning(write=write, profile=profile, max_examples=max_examples or 0)
    if write is None and place is not None and unfit is None:
        pinning.place, pinning.manifest = place, read_manifest(place)
        reason = misfit(pinning.manifest, profile, max_examples, seed)
        unfit = None if reason is None else f"{place}: {reason}"
    if write is None and from_file and elsewhere and (unfit is not None or {*elsewhere} & {*NARROWS}):
        # somebody who asks for something else does not run what was pinned
        click.echo(f"gradconform: not held against {place}, which pins another run", err=True)
        return Pinning()
    if unfit is not None:
        raise InvalidInput(unfit)
    return pinning


def pinning_of_parts(place: str | None, write: str | None, result: Result) -> Pinning:
    """Return the same for a result that was put together. Raises `InvalidInput` where another run was pinned."""
    from gradconform.conformance.manifest import misfit, read_manifest

    from_file = _source(click.get_current_context(), "manifest") == FILE
    _require_one(None if from_file else place, write)
    max_examples = int((result.part.run if result.part is not None else {}).get("max_examples") or 0)
    pinning = Pinning(write=write, max_examples=max_examples)
    if write is None and place is not None:
        pinning.place, pinning.manifest = place, read_manifest(place)
        reason = misfit(pinning.manifest, None, max_examples, result.seed)
        if reason is not None:
            raise InvalidInput(f"{place}: {reason}")
    return pinning


def _require_one(place: str | None, write: str | None) -> None:
    if place is not None and write is not None:
        raise InvalidInput("--manifest or --write-manifest: one of the two")
    require_folder(write)


def _source(ctx: click.Context, name: str) -> str:
    """Return where a value comes from: a file that is read, elsewhere, or nowhere."""
    taken = settings_of(ctx).taken.get(name)
    if taken is not None:
        return ELSEWHERE if taken.variable else FILE
    given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and ctx.params.get(name) not in {None, ()}
    return ELSEWHERE if given else ""


def _unfit(option: str, ctx: click.Context, max_examples: int | None, seed: int | None) -> str | None:
    """Return why a run cannot be pinned at all."""
    if _source(ctx, "data"):
        return f"{option} is for generated networks: not with --data"
    if _source(ctx, "shard"):
        return f"{option} is for a whole run: not with --shard, but with gradconform report merge"
    if max_examples is None:
        return f"{option} is for a number of networks that is fixed: add --max-examples, or --profile ci"
    if seed is None:
        return f"{option} is for networks that are always the same: add --seed, or --profile ci"
    return None
