"""The manifest at the command line: which one a run is held against, whether it fits, and writing one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradconform.conformance.configured import again, settings_of
from gradconform.conformance.manifest_request import Request, request_of_file, request_of_run, value_of
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.manifest import Manifest
    from gradconform.conformance.results import Result


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
    lost: bool = False
    """Whether a run has less than is pinned, and nothing else against it."""

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
            self.lost = True

    def next(self, seed: int) -> str | None:
        """Return the command that pins a run anew which has lost something; None for any other."""
        return f"{again(seed, self.place)}   # only where less is meant: pins it anew" if self.lost else None

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
    from_file = _is_of_the_file(ctx)
    _require_one(None if from_file else place, write)
    pinning = Pinning(write=write, profile=profile, max_examples=max_examples or 0)
    unfit = _unfit("--manifest" if write is None else "--write-manifest", ctx, max_examples, seed)
    if write is None and place is not None:
        if unfit is None:
            pinning.place, pinning.manifest = place, read_manifest(place)
            reason = misfit(pinning.manifest, profile, max_examples, seed)
            unfit = None if reason is None else f"{place}: {reason}"
        folder = Path(place).absolute().parent
        if from_file and _is_another(
            request_of_run(ctx, folder), request_of_file(ctx, folder), pinning.manifest, unfit
        ):
            return _set_aside(place)
    if unfit is not None:
        raise InvalidInput(unfit)
    return pinning


def pinning_of_parts(place: str | None, write: str | None, result: Result) -> Pinning:
    """Return the same for a result that was put together. Raises `InvalidInput` where another run was pinned."""
    from gradconform.conformance.manifest import misfit, read_manifest

    ctx = click.get_current_context()
    from_file = _is_of_the_file(ctx)
    _require_one(None if from_file else place, write)
    max_examples = int((result.part.run if result.part is not None else {}).get("max_examples") or 0)
    pinning = Pinning(write=write, max_examples=max_examples)
    if write is None and place is not None:
        pinning.place, pinning.manifest = place, read_manifest(place)
        reason = misfit(pinning.manifest, None, max_examples, result.seed, merged=True)
        if reason is not None:
            if from_file and request_of_file(ctx, Path()).draw[1:] != (max_examples, result.seed):
                return _set_aside(place)
            raise InvalidInput(f"{place}: {reason}")
    return pinning


def _set_aside(place: str) -> Pinning:
    click.echo(f"gradconform: not held against {place}, which pins another run", err=True)
    return Pinning()


def _require_one(place: str | None, write: str | None) -> None:
    if place is not None and write is not None:
        raise InvalidInput("--manifest or --write-manifest: one of the two")
    require_folder(write)


def _is_of_the_file(ctx: click.Context) -> bool:
    """Return whether the manifest is named by a file alone, and not by the command line or a variable."""
    taken = settings_of(ctx).taken.get("manifest")
    return taken is not None and not taken.variable


def _is_another(asked: Request, file: Request, manifest: Manifest | None, unfit: str | None) -> bool:
    """Return whether somebody asks for something else than what was pinned.

    A file that itself asks for less than is pinned does not: that is to be seen.
    """
    return not asked.covers(file, manifest) or (unfit is not None and asked.draw != file.draw)


def _unfit(option: str, ctx: click.Context, max_examples: int | None, seed: int | None) -> str | None:
    """Return why a run cannot be pinned at all."""
    if value_of(ctx, "data") is not None:
        return f"{option} is for generated networks: not with --data"
    if value_of(ctx, "shard") is not None:
        return f"{option} is for a whole run: not with --shard, but with gradconform report merge"
    if max_examples is None:
        return f"{option} is for a number of networks that is fixed: add --max-examples, or --profile ci"
    if seed is None:
        return f"{option} is for networks that are always the same: add --seed, or --profile ci"
    return None
