"""`gradconform report`: what is made from the results of runs."""

from __future__ import annotations

import sys

import click

from gradconform.conformance.configured import configured
from gradconform.conformance.manifest_cli import manifest_options, pinning_of_parts
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput


@click.group()
def report() -> None:
    """Make one result of several."""


@report.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the machine-readable result here.")
@manifest_options
@configured
def merge(files: tuple[str, ...], json_file: str | None, manifest: str | None, write_manifest: str | None) -> None:
    """Put the results of all shards of a run together, and print them as the run would have.

    \b
    gradconform check --seed 1 --max-examples 1000 --shard 1/4 --json 1.json      on one machine
    gradconform check --seed 1 --max-examples 1000 --shard 2/4 --json 2.json      on another, and so on
    gradconform report merge 1.json 2.json 3.json 4.json

    The totals are those of the run in one piece. Exit codes: those of check; 4 also where a shard is missing, is there
    twice, was interrupted or is of another run.
    """
    from gradconform.conformance.report_reading import result_in
    from gradconform.conformance.shards import whole_of
    from gradconform.conformance.terminal import say, write

    require_folder(json_file)
    shards = {}
    for place in files:
        if place in shards:
            raise InvalidInput(f"{place} is named twice")
        shards[place] = result_in(place)
    result = whole_of(shards)
    pinning = pinning_of_parts(manifest, write_manifest, result)
    pinning.hold(result)
    say(str(result))
    if json_file is not None:
        write(json_file, result.to_json())
    pinning.pin(result)
    sys.exit(result.exit_code)
