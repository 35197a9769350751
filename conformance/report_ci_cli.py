"""`gradconform report annotate` and `badge`: a result for the pages of a CI system."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gradconform.conformance.help import Command
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput


@click.command(
    cls=Command,
    examples=[
        ("gradconform report annotate result.json", "after gradconform check --json result.json"),
        ('gradconform report annotate result.json --outputs "$GITHUB_OUTPUT"', "in a step that others ask"),
    ],
)
@click.argument("file", metavar="FILE")
@click.option(
    "--outputs",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Append verdict, comparisons and findings to this file, each as a line NAME=VALUE.",
)
def annotate(file: str, outputs: str | None) -> None:
    """Print the findings of a run as annotations for GitHub Actions, each on its line of your source.

    FILE is what check wrote with --json or --record. Run it where check was run: targets are looked up from there, and
    named from GITHUB_WORKSPACE, the top of the repository. There are at most ten annotations: the last one counts all
    that there is no room for. No source is run. Exit codes: 0, whatever was found; 4 for what is no result.
    """
    from gradconform.conformance.annotations import annotations_of
    from gradconform.conformance.report_reading import result_in

    result = result_in(file)
    if outputs is not None:
        values = {"verdict": result.verdict, "comparisons": result.comparisons, "findings": len(result.findings)}
        _append(outputs, "".join(f"{name}={value}\n" for name, value in values.items()))
    for command in annotations_of(result, Path(os.environ.get("GITHUB_WORKSPACE") or "."), Path()):
        click.echo(command)


@click.command(
    cls=Command,
    examples=[
        ("gradconform report badge result.json --output badge.json", "after gradconform check --json result.json")
    ],
)
@click.argument("file", metavar="FILE")
@click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write it into this file instead of to stdout."
)
@click.option(
    "--label",
    metavar="WORDS",
    default="gradients",
    show_default=True,
    help="What stands in the left half of the badge.",
)
def badge(file: str, output: str | None, label: str) -> None:
    """Write the verdict of a run as a badge: JSON for the endpoint of shields.io.

    FILE is what check wrote with --json or --record; of a run in shards, the merged one. Exit codes: 0, whatever was
    found; 4 for what is no result.
    """
    from gradconform.conformance import badge as badges
    from gradconform.conformance.report_reading import result_in
    from gradconform.conformance.terminal import write

    require_folder(output)
    result = result_in(file)
    try:
        content = badges.badge(result, label)
    except InvalidInput as error:
        raise InvalidInput(f"{file}: {error}") from None
    if output is None:
        click.echo(content.decode(), nl=False)
    else:
        write(output, content)


def _append(place: str, text: str) -> None:
    """Append to a file; raises `InvalidInput` that names it."""
    try:
        with Path(place).open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InvalidInput(f"{place}: cannot be written: {error.strerror}") from None
