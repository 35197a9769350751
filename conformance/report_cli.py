"""`gradconform report`: what is made from the results of runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gradconform.conformance.configured import configured
from gradconform.conformance.help import Commands
from gradconform.conformance.manifest_cli import manifest_options, pinning_of_parts
from gradconform.conformance.report_ci_cli import annotate, badge
from gradconform.conformance.report_options import Reports, report_options
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.results import Result


@click.group(cls=Commands)
def report() -> None:
    """Make reports of runs that were made, and one result of several."""


report.add_command(annotate)
report.add_command(badge)


@report.command(
    examples=[
        ("gradconform check --seed 1 --shard 1/4 --json 1.json", "on one machine"),
        ("gradconform check --seed 1 --shard 2/4 --json 2.json", "on another, and so on"),
        ("gradconform report merge 1.json 2.json 3.json 4.json", "the whole of it"),
    ]
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@configured
@report_options
@manifest_options
def merge(files: tuple[str, ...], reports: Reports, manifest: str | None, write_manifest: str | None) -> None:
    """Put the results of all shards of a run together, and print them as the run would have.

    The totals are those of the run in one piece. Exit codes: those of check; 4 also where a shard is missing, is there
    twice, was interrupted or is of another run.
    """
    from gradconform.conformance.report_reading import result_in
    from gradconform.conformance.shards import whole_of

    reports.require_folders(write_manifest=write_manifest)
    shards = {}
    for place in files:
        if place in shards:
            raise InvalidInput(f"{place} is named twice")
        shards[place] = result_in(place)
    result = whole_of(shards)
    pinning = pinning_of_parts(manifest, write_manifest, result)
    pinning.hold(result)
    _tell(result, reports)
    pinning.pin(result)
    sys.exit(result.exit_code)


@report.command(
    examples=[
        ("gradconform report render", "the last run in this folder"),
        ("gradconform report render run.jsonl --html run.html", "one that was made with --record run.jsonl"),
    ]
)
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--coverage", is_flag=True, help="Show the whole table of what was met together.")
@report_options
def render(file: str | None, coverage: bool, reports: Reports) -> None:
    """Make the reports of a run from its record, or from a file of --json, and print what it printed.

    A run that was ended from outside, by the system or the CI, leaves a record of what it had done until then. Exit
    codes: those of check; 2 where the run has no end and no finding; 4 for a file that is neither.
    """
    from gradconform.conformance.report_reading import last_result, result_in

    reports.require_folders()
    result = last_result() if file is None else result_in(file)
    _tell(result, reports, coverage=coverage)
    sys.exit(result.exit_code)


def _tell(result: Result, reports: Reports, *, coverage: bool = False) -> None:
    """Print a result and write its reports."""
    from gradconform.conformance.message import result_text
    from gradconform.conformance.terminal import say

    say(result_text(result, coverage=coverage))
    reports.write(result)
