"""`gradconform explain`: what a word of a message means, and what to do about it."""

from __future__ import annotations

import re

import click

from gradconform.conformance import completing
from gradconform.conformance.explained_programs import FRAMEWORKS, Framework
from gradconform.conformance.help import Command
from gradconform.errors import InvalidInput

ID = re.compile(r"[0-9a-f]{8}")
"""The id of a case, as `gradconform.conformance.casefile_reading` has it, which is not imported for `--help`."""


@click.command(
    cls=Command,
    examples=[
        ("gradconform explain", "all that can be explained"),
        ("gradconform explain bias-mean", "a symptom: the line that is wrong, and the right one"),
        ("gradconform explain NONFINITE", "a verdict word"),
        ("gradconform explain sum-of-samples", "a check"),
        ("gradconform explain 5412b217", "a finding that a run here has kept"),
        ("gradconform explain bias-mean --as torch > wrong.py", "a program with this mistake"),
    ],
)
@click.argument("words", nargs=-1, metavar="[WORD]", shell_complete=completing.words)
@click.option(
    "--as",
    "language",
    type=click.Choice(FRAMEWORKS),
    help="Print a small program with this mistake instead, in this framework: a TARGET for gradconform check.",
)
@click.option("--right", is_flag=True, help="With --as: the same program without the mistake.")
def explain(words: tuple[str, ...], language: Framework | None, right: bool) -> None:
    """Explain a symptom, a verdict word, a check or a finding; without a word, list all that can be explained.

    A symptom is what stands behind "likely" in the first line of a finding, such as bias-mean: what it means, why it
    gives these numbers, the usual wrong line and the right one in NumPy, PyTorch and JAX, and what looks like it and is
    no bug. ID is that of a finding that is kept in .gradconform/cases.
    """
    from gradconform.conformance.explanations import program_of, table_text, text_of

    word = " ".join(words)
    if language is not None or right:
        if not words or language is None:
            raise InvalidInput(
                "--as prints the program of one symptom, as in: gradconform explain bias-mean --as numpy"
            )
        click.echo(program_of(word, language, wrong=not right), nl=False)
    elif not words:
        click.echo(f"{table_text()}\n\ngradconform explain WORD tells more of each")
    elif ID.fullmatch(word):
        _explain_finding(word)
    else:
        click.echo(text_of(word))


def _explain_finding(identifier: str) -> None:
    """Print the first line of a kept finding, and what is known of its symptoms; of a nameless one, its verdict."""
    from gradconform.conformance.casefile import finding_from
    from gradconform.conformance.casefile_reading import read_case
    from gradconform.conformance.casefolder import places_of
    from gradconform.conformance.explanations import every, text_of
    from gradconform.conformance.message import finding_text, symptoms_of
    from gradconform.errors import one_line

    (place,) = places_of(identifier)
    file = read_case(place)
    click.echo(one_line(finding_text(finding_from(file)).splitlines()[0]))
    symptoms = [word for word in symptoms_of(file.found.symptom) if word in every()]
    for word in symptoms or [file.found.kind]:
        click.echo(f"\n{text_of(word, identifier)}")
