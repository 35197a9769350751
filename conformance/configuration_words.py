"""The words of `[tool.gradconform]` and of the environment: those of the command line, without their dashes.

What stands in the table itself is said to `gradconform check`, and what means the same elsewhere is said there too. A
command whose words mean something of their own has a table of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from gradconform.conformance.configuration import PREFIX
from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput

TOP = "check"
"""The command whose words stand in the table itself."""
SHARED: Mapping[str, frozenset[str]] = {
    "fuzz": frozenset(
        "targets network dtype only exclude affine isolate timeout max-memory cases no-cases".split()  # noqa: SIM905
    ),
    "merge": frozenset({"manifest"}),
    "pytest": frozenset({"targets", "network", "dtype", "profile", "seed"}),
}
"""Which of them are said to other commands as well."""
TABLES = ("fuzz", "layer", "pytest")
"""Which have a table of their own."""
NEVER = {"help", "config", "no-config", "write-manifest", "resume", "name", "input", "argument", "reference"}
"""Options that are for the command line alone: they are about one run, or one target."""
OF_PYTEST = ("targets", "network", "dtype", "profile", "max-examples", "seed")
"""The words that pytest knows, as `--gradconform-WORD` but for the first and the third."""


@dataclass(frozen=True)
class Word:
    """A word, and the option or argument whose value it is."""

    name: str
    parameter: click.Parameter

    @property
    def key(self) -> str:
        """Under which its command knows it."""
        return str(self.parameter.name)

    @property
    def several(self) -> bool:
        """Whether it is a list."""
        return self.parameter.multiple or self.parameter.nargs == -1

    @property
    def flag(self) -> bool:
        """Whether it is either given or not."""
        return isinstance(self.parameter, click.Option) and self.parameter.is_flag

    @property
    def type(self) -> str:
        """What its value is, in words."""
        if self.flag:
            return "true or false"
        if isinstance(self.parameter.type, click.types.IntParamType):
            return "an integer"
        if isinstance(self.parameter.type, click.types.FloatParamType):
            return "a number"
        return "a list of strings" if self.several else "a string"

    @property
    def written(self) -> bool:
        """Whether it is a file that is written or held against a run: no part of what the run does."""
        kind = self.parameter.type
        return isinstance(kind, click.Path) and kind.file_okay

    def is_path(self, value: str) -> bool:
        """Return whether a value is relative to the file in which it stands."""
        if self.name == "targets":
            return value.endswith(".py") or ".py:" in value
        if self.name == "network":
            return "->" not in value
        return self.name == "data" or isinstance(self.parameter.type, click.Path)

    def read(self, value: Any, where: str) -> Any:
        """Return a value of TOML as the command takes it; raises `InvalidInput` with `where` it stands."""
        fits = {
            "true or false": lambda: isinstance(value, bool),
            "an integer": lambda: type(value) is int,
            "a number": lambda: type(value) in {int, float} and math.isfinite(value),
            "a list of strings": lambda: isinstance(value, list) and all(isinstance(entry, str) for entry in value),
            "a string": lambda: isinstance(value, str),
        }[self.type]()
        if not fits:
            such = ", as in [...]" if self.several and isinstance(value, str) else ""
            raise InvalidInput(f"{where}: expected {self.type}{such}, got {shown(repr(value), 60)}")
        return tuple(self._one(entry, where) for entry in value) if self.several else self._one(value, where)

    def read_text(self, text: str, variable: str) -> Any:
        """Return the value of a variable as the command takes it: of a list with commas between."""
        if self.several:
            return tuple(self._one(part.strip(), variable) for part in text.split(",") if part.strip())
        return self._one(text, variable)

    def _one(self, value: Any, where: str) -> Any:
        kind: click.ParamType[Any] = click.BOOL if self.flag else self.parameter.type
        try:
            return kind.convert(value, None, None)
        except click.BadParameter as error:
            if self.flag:
                raise InvalidInput(f"{where}: expected {self.type}, got {shown(repr(value), 60)}") from None
            raise InvalidInput(f"{where}: {shown(error.message).rstrip('.').removesuffix(' range')}") from None

    def options(self, value: Any) -> list[str]:
        """Return the words of a command line that say the same."""
        if isinstance(self.parameter, click.Argument):
            return list(value)
        option = f"--{self.name}"
        if self.flag:
            return [option] if value else []
        number = isinstance(value, float) and value.is_integer()
        values = value if self.several else (int(value) if number else value,)
        return [part for one in values for part in (option, str(one))]


def words_of(command: click.Command) -> dict[str, Word]:
    """Return the words of a command by their names."""
    words = {}
    for parameter in command.params:
        name = max(parameter.opts, key=len).lstrip("-") if isinstance(parameter, click.Option) else "targets"
        # a single argument is what the command is about
        if name not in NEVER and (parameter.nargs == -1 or isinstance(parameter, click.Option)):
            words[name] = Word(name, parameter)
    return words


class Words:
    """All words, by the table in which they stand; the empty name is the table itself."""

    def __init__(self, commands: Mapping[str, click.Command]) -> None:
        self.by_table = {"": words_of(commands[TOP])}
        for name in TABLES:
            own = commands.get(name)
            self.by_table[name] = words_of(own) if own is not None else self._of_pytest()

    def _of_pytest(self) -> dict[str, Word]:
        return {name: word for name, word in self.by_table[""].items() if name in OF_PYTEST}

    def variables(self) -> dict[str, tuple[str, Word]]:
        """Return the variables, each with the table and the word that it goes before."""
        return {
            variable_of(table, name): (table, word)
            for table, words in self.by_table.items()
            for name, word in words.items()
        }

    def tables_for(self, command: str) -> list[tuple[str, Word]]:
        """Return what is said to a command, as tables and words: what goes before others comes last."""
        top = self.by_table[""]
        shared = [("", word) for name, word in top.items() if command == TOP or name in SHARED.get(command, ())]
        return shared + [(command, word) for word in self.by_table.get(command, {}).values()]


def variable_of(table: str, word: str) -> str:
    """Return the variable that says a word of a table."""
    return PREFIX + "_".join([table, word] if table else [word]).upper().replace("-", "_")
