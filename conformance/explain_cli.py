"""`gradconform explain`: what a word of a message means, and what to do about it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from gradconform.conformance import completing
from gradconform.conformance.explained_texts import FRAMEWORKS, Framework
from gradconform.conformance.help import Command
from gradconform.errors import InvalidInput, one_line

if TYPE_CHECKING:
    from gradconform.conformance.casefile import CaseFile

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
    no bug. A finding is named by the id of its case, which is kept in .gradconform/cases, or by its file.
    """
    from gradconform.conformance.explanations import program_of, table_text, text_of

    word = " ".join(words)
    if language is not None or right:
        if not words or language is None:
            raise InvalidInput(
                "--as prints the program of one symptom, as in: gradconform explain bias-mean --as numpy"
            )
        if _is_finding(word):
            word = _symptom_of(word, language)
        click.echo(program_of(word, language, wrong=not right), nl=False)
    elif not words:
        click.echo(f"{table_text()}\n\ngradconform explain WORD tells more of each")
    elif _is_finding(word):
        _explain_finding(word)
    else:
        click.echo(text_of(word))


def _is_finding(word: str) -> bool:
    return ID.fullmatch(word) is not None or word.endswith(".json")


def _case_of(word: str) -> CaseFile:
    """Return the case of an id or a file."""
    from gradconform.conformance.casefile_reading import read_case
    from gradconform.conformance.casefolder import places_of

    places = places_of(word)
    if len(places) != 1:
        raise InvalidInput(f"{word}: one finding is explained, by its id or its file")
    return read_case(places[0])


def _words_of(file: CaseFile) -> list[str]:
    """Return the symptoms of a finding of which something is known; of a nameless one, its verdict."""
    from gradconform.conformance.explanations import every
    from gradconform.conformance.message import symptoms_of

    return [word for word in symptoms_of(file.found.symptom) if word in every()] or [file.found.kind]


def _symptom_of(word: str, language: Framework) -> str:
    """Return the one symptom of a finding. Raises `InvalidInput` where it has several."""
    first, *others = _words_of(_case_of(word))
    if others:
        named = " and ".join([first, *others])
        raise InvalidInput(f"the finding names {named}: gradconform explain {first} --as {language}")
    return first


def _explain_finding(word: str) -> None:
    """Print the first line of a kept finding, and what is known of its symptoms; of a nameless one, its verdict."""
    from gradconform.conformance.casefile import finding_from
    from gradconform.conformance.explanations import text_of
    from gradconform.conformance.message import finding_text

    file = _case_of(word)
    click.echo(one_line(finding_text(finding_from(file)).splitlines()[0]))
    for symptom in _words_of(file):
        click.echo(f"\n{text_of(symptom, shlex.quote(word))}")
