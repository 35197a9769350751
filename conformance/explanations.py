"""Every explanation by its word, as text for the terminal and as Markdown. No NumPy, no framework is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache

import click

from gradconform.conformance import (
    explanations_activations,
    explanations_checks,
    explanations_contract,
    explanations_delta,
    explanations_linear,
    explanations_memory,
    explanations_numbers,
    explanations_options,
    explanations_reduction,
    explanations_verdicts,
    explanations_whole,
)
from gradconform.conformance.explained_programs import ELSEWHERE, PROGRAMS, script_with
from gradconform.conformance.explained_texts import Framework
from gradconform.conformance.explanation import Explanation
from gradconform.conformance.wrapping import filled, labelled
from gradconform.errors import InvalidInput, one_line
from gradconform.nearest import closest

MODULES = (
    explanations_reduction,
    explanations_delta,
    explanations_options,
    explanations_whole,
    explanations_linear,
    explanations_activations,
    explanations_numbers,
    explanations_memory,
    explanations_contract,
    explanations_verdicts,
    explanations_checks,
)
TITLES: dict[Framework, str] = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}
COLUMN = 16
"""Columns of the labels."""
WORD = 60
"""Characters of an unknown word that are shown."""
CLOSE = 3


@cache
def every() -> Mapping[str, Explanation]:
    """Return what is known of every word, by the word: symptoms, verdicts and checks."""
    return {entry.id: entry for module in MODULES for entry in module.explanations()}


def explained(word: str) -> Explanation:
    """Return what is known of a word, in whatever case it is written.

    Raises `InvalidInput` with the nearest words where nothing is.
    """
    known = every()
    for spelling in (word, word.lower(), word.upper().replace("-", " ")):
        if spelling in known:
            return known[spelling]
    said = one_line(word, WORD)
    by_spelling = {name.lower(): name for name in known}
    wanted = said.lower()
    parts = [name for name in by_spelling if wanted in name] if len(wanted) > 2 else []
    near = sorted(parts, key=lambda name: not name.startswith(wanted))[:CLOSE]
    near = near or closest(wanted, by_spelling, CLOSE)
    hint = f"did you mean {' or '.join(by_spelling[name] for name in near)}?" if near else "its words are listed by"
    raise InvalidInput(f"nothing is known of {said!r}; {hint}{'' if near else ' gradconform explain'}")


def frameworks_of(entry: Explanation) -> Iterator[tuple[str, str, str]]:
    """Yield the frameworks in which a line is the same, and the right and the wrong one."""
    by_lines: dict[tuple[str, str], list[str]] = {}
    for framework, lines in entry.lines.items():
        by_lines.setdefault((lines.right, lines.wrong), []).append(TITLES[framework])
    for (right, wrong), names in by_lines.items():
        yield ", ".join(names), _shown(right), _shown(wrong)


def _shown(lines: str) -> str:
    """Return lines of several places as one block."""
    return lines.replace(ELSEWHERE, "\n...\n")


def text_of(word: str, finding: str = "ID") -> str:
    """Return the explanation of a word for the terminal, as wide as it is; `finding`: the id of one, for commands.

    Raises `InvalidInput` where nothing is known of the word.
    """
    entry = explained(word)
    lines = [*filled(f"{entry.id}   {entry.family}"), "", *filled(entry.meaning, "  "), ""]
    lines += labelled("why", entry.why, COLUMN)
    for names, right, wrong in frameworks_of(entry):
        lines += ["", f"  {names}", *_code("right", right), *_code("not", wrong)]
    if entry.lines:
        lines.append("")
    lines += labelled("see it", entry.see, COLUMN)
    lines += labelled("looks like it", entry.alike, COLUMN)
    if entry.lines:
        file = f"{entry.id.replace('-', '_')}.py"
        lines += ["  try it", f"    gradconform explain {entry.id} --as numpy > {file}"]
        lines.append(f"    gradconform check {file}")
    # not wrapped: a command is copied as one line
    lines += ["  next", f"    {entry.next.replace(' ID', f' {finding}')}"]
    return "\n".join(lines)


def _code(label: str, lines: str) -> Iterator[str]:
    """Yield lines of code, as they are, behind their label."""
    for number, line in enumerate(lines.splitlines()):
        yield f"    {label if not number else '':<6}{line}".rstrip()


def table_text() -> str:
    """Return all words with what they mean, by family."""
    lines: list[str] = []
    family = ""
    for entry in every().values():
        if entry.family != family:
            family = entry.family
            lines += ["", *filled(family)] if lines else [*filled(family)]
        lines += labelled(entry.id, entry.meaning, max(len(name) for name in every()) + 4)
    return "\n".join(lines)


def markdown_of(symptom: str) -> str:
    """Return the explanation of a word as a page of Markdown.

    Raises `InvalidInput` where nothing is known of the word.
    """
    entry = explained(symptom)
    parts = [f"# {entry.id}", f"*{entry.family}*", entry.meaning, "## Why these numbers", entry.why]
    if entry.lines:
        parts.append("## The line")
    for names, right, wrong in frameworks_of(entry):
        parts += [f"**{names}**", f"right:\n\n```python\n{right}\n```", f"wrong:\n\n```python\n{wrong}\n```"]
    parts += ["## See it", entry.see]
    if entry.lines:
        file = f"{entry.id.replace('-', '_')}.py"
        parts.append(
            f"```sh\ngradconform explain {entry.id} --as numpy > {file}   # a small network with the wrong line\n"
            f"gradconform check {file}\n```"
        )
    parts += ["## What looks like it", entry.alike, "## Next", f"```sh\n{entry.next}\n```"]
    return "\n\n".join(parts) + "\n"


def tell_next(verdict: str, known: str | None = None) -> None:
    """Tell on stderr what comes after a run: the command that is known, or that of its verdict.

    After one with findings, each of them tells it itself; after one that passed, only people want to know.
    """
    if verdict != "failed" and (verdict != "passed" or sys.stderr.isatty()):
        click.echo(f"gradconform: next: {known or every()[verdict.upper()].next}", err=True)


def program_of(word: str, framework: Framework, *, wrong: bool) -> str:
    """Return a small program with the wrong line of a symptom, or with the right one: a candidate for check.

    Raises `InvalidInput` where nothing is known of the word, or there is no such line.
    """
    entry = explained(word)
    if framework not in entry.lines:
        there = " or ".join(entry.lines) or "no program: it is no mistake with a line of its own"
        raise InvalidInput(f"{entry.id} in {TITLES[framework]}: there is {there}")
    text = script_with(PROGRAMS[entry.program], framework, entry.lines[framework], wrong=wrong)
    head = entry.meaning if wrong else "This is right: without --right it has the mistake."
    return "\n".join(f"# {line}" for line in filled(f"{entry.id}. {head}")) + f"\n{text}"
