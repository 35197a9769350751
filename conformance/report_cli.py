"""`gradconform report`: what is made from the results of runs."""

from __future__ import annotations

import sys

import click

from gradconform.conformance.help import Commands
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput


@click.group(cls=Commands)
def report() -> None:
    """Make one result of several."""


@report.command(
    examples=[
        ("gradconform check --seed 1 --shard 1/4 --json 1.json", "on one machine"),
        ("gradconform check --seed 1 --shard 2/4 --json 2.json", "on another, and so on"),
        ("gradconform report merge 1.json 2.json 3.json 4.json", "the whole of it"),
    ]
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the result as JSON into this file.")
def merge(files: tuple[str, ...], json_file: str | None) -> None:
    """Put the results of all shards of a run together, and print them as the run would have.

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
    say(str(result))
    if json_file is not None:
        write(json_file, result.to_json())
    sys.exit(result.exit_code)
