"""`gradconform show`: kept cases, to read and as scripts. Nothing that a case names is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gradconform.conformance import completing
from gradconform.conformance.help import Command
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from gradconform.conformance.casefile import CaseFile

LANGUAGES = ("numpy", "torch", "jax", "c")


@click.command(
    cls=Command,
    examples=[
        ("gradconform show", "what is kept here"),
        ("gradconform show 5412b217", "one case"),
        ("gradconform show 5412b217 --as numpy > case.py", "a script, with a place for your own gradients"),
        ("gradconform show 5412b217 --as c > case.c", "the same in C"),
    ],
)
@click.argument("case", metavar="[ID|FILE|FOLDER]", required=False, shell_complete=completing.cases)
@click.option("--as", "language", type=click.Choice(LANGUAGES), help="Print a self-contained script of the case.")
def show(case: str | None, language: str | None) -> None:
    """Show a kept case: what was found, and all its numbers; or a script that computes what is expected.

    A script needs NumPy, PyTorch, JAX or a C compiler alone, and nothing of gradconform. Nothing that the case file
    names is run.
    """
    from gradconform.conformance.casefile_reading import read_case
    from gradconform.conformance.casefolder import CASES, PINS, case_files, places_of, replay_command
    from gradconform.conformance.showing import case_text, line_of
    from gradconform.conformance.terminal import say

    kept = (place for folder in (PINS, CASES) for place in case_files(folder))
    places = list(kept) if case is None else places_of(case)
    files: list[tuple[Path, CaseFile]] = [(place, read_case(place)) for place in places]
    if language is not None:
        from gradconform.conformance.reproducer import script

        if len(files) != 1:
            raise InvalidInput(f"--as {language}: for one case, by its id or its file")
        click.echo(script(files[0][1], language), nl=False)
    elif len(files) == 1 and case is not None:
        place, file = files[0]
        say(case_text(file, str(place), replay_command(place, file)))
    else:
        say("\n".join(line_of(place, file) for place, file in files) or "no cases are kept here")
