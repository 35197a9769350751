"""How `--help` is laid out: options and commands in groups, then examples.

An option's group is found by its name in `SECTIONS`; one that is in none of them stands in the last group, so that no
option is ever left out. Neither NumPy nor Hypothesis is imported.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

Example = tuple[str, str]
"""A command, and what it does."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "What is checked": (
        "--network",
        "--data",
        "--input",
        "--argument",
        "--reference",
        "--framework",
        "--parameters",
        "--loss",
        "--values",
        "--dtype",
        "--only",
        "--exclude",
        "--affine",
    ),
    "How much, and which numbers": (
        "--profile",
        "--max-examples",
        "--max-time",
        "--seed",
        "--rows",
        "--shard",
        "--workers",
        "--dask",
        "--name",
        "--resume",
    ),
    "With --data": ("--steps", "--learning-rate", "--raw"),
    "Limits of a call": ("--isolate", "--timeout", "--max-memory"),
    "Where the rest comes from": ("--config", "--no-config"),
    "What is kept": ("--cases", "--no-cases", "--pins", "--pin", "--to", "--manifest", "--write-manifest"),
    "What is written": (
        "--coverage",
        "--as",
        "--right",
        "--list",
        "--schema",
        "--json",
        "--junit",
        "--markdown",
        "--html",
        "--record",
        "--output",
        "--outputs",
        "--label",
    ),
}
"""The options of all commands, by what they are about."""
OTHERS = "Other options"
KINDS = {"INTEGER RANGE": "N", "INTEGER": "N", "FLOAT RANGE": "X", "FLOAT": "X"}
"""What stands for a number."""
COLUMN, LONGEST = 26, 42
"""What is longer than this, of options and commands, or of examples, has a line of its own."""
LEAST = 24
"""So many columns a text has beside it, at least."""


class Command(click.Command):
    """A command whose help has its options in groups, and examples."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = tuple(examples)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as click has it
        """Write what the command does."""
        write_text(self, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group, and what can be done with the command."""
        write_options(self, ctx, formatter)
        write_examples(self.examples, formatter)


class Commands(click.Group):
    """A command of several, which its help has in groups. `sections`: their names, by what they are for."""

    command_class = Command

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        examples: Sequence[Example] = (),
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.sections = dict(sections or {})
        self.examples = tuple(examples)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as click has it
        """Write what the commands are for."""
        write_text(self, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, group by group, the options, and examples."""
        write_commands(self, ctx, formatter)
        write_options(self, ctx, formatter)
        write_examples(self.examples, formatter)


def section_of(option: click.Parameter) -> str:
    """Return the group in which an option stands."""
    return next((title for title, names in SECTIONS.items() if set(option.opts) & set(names)), OTHERS)


def write_text(command: click.Command, formatter: click.HelpFormatter) -> None:
    """Write the paragraphs of a command's help; one that begins with a backspace keeps its lines."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        lines = rest.splitlines() if first == "\b" else _wrapped(" ".join(paragraph.split()), formatter.width - 2)
        formatter.write("\n" + "".join(f"  {line}\n" for line in lines))


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command, group by group, each in the order in which the groups have them."""
    rows: dict[str, list[tuple[int, tuple[str, str]]]] = {title: [] for title in (*SECTIONS, OTHERS)}
    for option in command.get_params(ctx):
        record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
        if record is not None:
            title = section_of(option)
            names = SECTIONS.get(title, ())
            place = next((number for number, name in enumerate(names) if name in option.opts), len(names))
            rows[title].append((place, _plain(record)))
    for title, entries in rows.items():
        write_rows(title, [entry for _, entry in sorted(entries, key=lambda row: row[0])], formatter)


def _plain(record: tuple[str, str]) -> tuple[str, str]:
    """Return what click says of an option with letters for numbers, and without the limits that go without saying."""
    names, text = record
    for kind, letter in KINDS.items():
        names = names.replace(f" {kind}", f" {letter}")
    text = re.sub(r"(; |(?<=\[))x>=?[01]\b(\.0)?", "", text)
    return names, text.removesuffix("  []").replace("  [", " [")


def write_commands(group: Commands, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the commands of a group, section by section, and those that stand in none of them last."""
    names = group.list_commands(ctx)
    placed = {name for section in group.sections.values() for name in section}
    rest = [name for name in names if name not in placed]
    for title, section in (*group.sections.items(), ("More commands" if group.sections else "Commands", rest)):
        found = [(name, group.get_command(ctx, name)) for name in section]
        rows = [(name, entry.get_short_help_str(limit=1000)) for name, entry in found if entry is not None]
        write_rows(title, rows, formatter)


def write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    """Write what can be done with a command."""
    write_rows("Examples", examples, formatter, LONGEST)


def write_rows(title: str, rows: Sequence[tuple[str, str]], formatter: click.HelpFormatter, room: int = COLUMN) -> None:
    """Write a section of names and texts in two columns; a long name has its line alone, and none is ever broken."""
    if not rows:
        return
    room = min(room, max(formatter.width - 4 - LEAST, 0))
    column = max((len(name) for name, _ in rows if len(name) <= room), default=2) + 4
    lines = [line for name, text in rows for line in _row(name, text, column, formatter.width)]
    formatter.write(f"\n{title}:\n" + "".join(f"{line}\n" for line in lines))


def _row(name: str, text: str, column: int, width: int) -> Iterable[str]:
    lines = _wrapped(text, width - column)
    if len(name) + 4 <= column and lines:
        yield f"  {name:<{column - 2}}{lines.pop(0)}"
    else:
        yield f"  {name}"
    yield from (f"{'':<{column}}{line}" for line in lines)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, in which no name, option or path is broken."""
    return textwrap.wrap(text, max(width, LEAST), break_long_words=False, break_on_hyphens=False)
