"""What a command takes from `[tool.gradconform]` and the environment, where its command line says nothing.

The command line goes before the environment, that before the file, the file before the profile.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from gradconform.conformance.command_words import without_options
from gradconform.conformance.configuration import FILE, OWN, PREFIX, TABLE, Configuration, read_configuration
from gradconform.conformance.configuration_words import TABLES, TOP, Word, Words, variable_of
from gradconform.conformance.program_words import PROGRAM
from gradconform.conformance.untrusted import shown
from gradconform.errors import InvalidInput
from gradconform.nearest import hint, near

if TYPE_CHECKING:
    from gradconform.conformance.profiles import Profile

KEPT = "gradconform.settings"
"""Where a command keeps what it took."""
CONFIG_OPTION = "--config"
NO_CONFIG_OPTION = "--no-config"
WITHOUT = {"no-cases": "cases"}
"""A word, and the option that goes before it where it is given by hand."""
LONGEST = 60
"""Characters of a value that are told."""


class Taken(NamedTuple):
    """A value that was taken, and the variable that it comes from; empty: from the file."""

    word: Word
    value: Any
    variable: str


@dataclass(frozen=True)
class Settings:
    """What is said to a command by a file and by the environment: by the key under which the command knows it."""

    file: Configuration = field(default_factory=Configuration)
    taken: Mapping[str, Taken] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """Variables with our prefix that nothing reads, each with what was probably meant."""

    def without(self, given: set[str]) -> Settings:
        """Return the same without what was given otherwise."""
        kept = {key: taken for key, taken in self.taken.items() if key not in given}
        return Settings(self.file, kept, self.unknown)

    @property
    def profiles(self) -> dict[str, Profile]:
        """The profiles that there are, with those of the file."""
        from gradconform.conformance.own_profiles import profiles_of

        return profiles_of(self.file)

    @property
    def lines(self) -> list[str]:
        """What to tell of it: what was taken from where, and what is read by nothing."""
        from_file = [f"{taken.word.name}={_shown(taken)}" for taken in self.taken.values() if not taken.variable]
        named = [f"{taken.variable}={_shown(taken)}" for taken in self.taken.values() if taken.variable]
        parts = [f"{self.file.file}: {', '.join(from_file)}"] if from_file else []
        parts += [f"environment: {', '.join(named)}"] if named else []
        return [*([f"configuration: {'; '.join(parts)}"] if parts else []), *self.unknown]


def settings_for(command: str, words: Words, file: Configuration, environment: Mapping[str, str]) -> Settings:
    """Return what is said to a command. Raises `InvalidInput`, one line with the place, for a word or value unknown."""
    values = _read(file, words)
    taken: dict[str, Taken] = {}
    for table, word in words.tables_for(command):
        if (table, word.name) in values:
            taken[word.name] = Taken(word, _placed(word, values[table, word.name], file), "")
    for table, word in words.tables_for(command):
        variable = variable_of(table, word.name)
        if text := environment.get(variable):
            taken[word.name] = Taken(word, word.read_text(text, variable), variable)
    return Settings(file, {one.word.key: one for one in taken.values()}, _unknown(words, environment))


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate the function of a command, which then takes what its command line leaves open from a file.

    It also gets the options that name a file, or none.
    """

    @functools.wraps(command)
    def with_settings(**parameters: Any) -> None:
        ctx = click.get_current_context()
        named, off = parameters.pop("config"), parameters.pop("no_config")
        if named is not None and off:
            raise InvalidInput(f"{CONFIG_OPTION} or {NO_CONFIG_OPTION}: one of the two")
        if not off:
            settings = _settings(ctx, named)
            ctx.meta[KEPT] = settings
            parameters |= {key: taken.value for key, taken in settings.taken.items()}
            for line in settings.lines:
                click.echo(f"gradconform: {line}", err=True)
        command(**parameters)

    for option in (
        click.option(
            NO_CONFIG_OPTION, is_flag=True, help=f"Take nothing from a file, nor from variables {PREFIX}OPTION."
        ),
        click.option(
            CONFIG_OPTION,
            metavar="FILE",
            help=f"Take what is not given here from [{TABLE}] of this file. Default: the nearest {FILE} that has the "
            "table, up to the root of the repository.",
        ),
    ):
        with_settings = option(with_settings)
    return with_settings


def settings_of(ctx: click.Context) -> Settings:
    """Return what a command took."""
    kept = ctx.meta.get(KEPT)
    return kept if isinstance(kept, Settings) else Settings()


def settings_for_pytest(file: Configuration, environment: Mapping[str, str]) -> Settings:
    """Return what is said to pytest."""
    return settings_for("pytest", all_words(), file, environment)


def settings_here() -> Settings:
    """Return what is said to `gradconform check` in the current folder; raises `InvalidInput` as that does."""
    return settings_for(TOP, all_words(), read_configuration(), os.environ)


def all_words() -> Words:
    """Return the words of the command line."""
    from gradconform.conformance.cli import cli  # which imports the commands that are configured

    return Words(cli.commands)


def again(seed: int, pin: str | None = None) -> str:
    """Return the command that does the same again, wherever it is run: with all that was taken from elsewhere.

    `pin`: the file of a manifest that it is to write, instead of being held against one.
    """
    ctx = click.get_current_context()
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    settings = settings_of(ctx)
    kept = without_options(words[:cut], {"--seed"})
    own = _names_own_profile(settings, ctx)
    if settings.taken or own:
        kept = without_options(kept, {CONFIG_OPTION})
        source = [CONFIG_OPTION, settings.file.file] if own else [NO_CONFIG_OPTION]
        said = [taken for key, taken in settings.taken.items() if key != "seed" and not taken.word.written]
        kept = [*kept[:1], *source, *kept[1:], *(part for taken in said for part in taken.word.options(taken.value))]
    kept = [*kept, "--seed", str(seed)]
    if pin is not None:
        kept = [*without_options(kept, {"--manifest"}), "--write-manifest", pin]
    return shlex.join(["gradconform", *kept, *words[cut:]])


def _settings(ctx: click.Context, named: str | None) -> Settings:
    """Return what a command takes: what its command line does not say."""
    settings = settings_for(str(ctx.command.name), all_words(), read_configuration(named), os.environ)
    given = {
        str(parameter.name)
        for parameter in ctx.command.params
        if parameter.name and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }
    given = {key for key in given if ctx.params[key] != ()}
    if ctx.meta.get(PROGRAM) or ctx.params.get("resume"):
        # a campaign that is gone on with has its own
        given.add("targets")
    return settings.without(given | {key for key, one in settings.taken.items() if WITHOUT.get(one.word.name) in given})


def _names_own_profile(settings: Settings, ctx: click.Context) -> bool:
    from gradconform.conformance.profiles import PROFILES

    taken = settings.taken.get("profile")
    name = taken.value if taken is not None else ctx.params.get("profile")
    return name is not None and name not in PROFILES


def _placed(word: Word, value: Any, file: Configuration) -> Any:
    """Return a value of a file with its paths as they are from the current folder."""
    if isinstance(value, tuple):
        return tuple(_path(word, entry, file) for entry in value)
    return _path(word, value, file)


def _path(word: Word, value: Any, file: Configuration) -> Any:
    if not isinstance(value, str) or not word.is_path(value):
        return value
    # on Windows, a drive has a colon too
    place, colon, name = value.rpartition(":") if ".py:" in value else (value, "", "")
    return file.place(place) + colon + name


def _read(file: Configuration, words: Words) -> dict[tuple[str, str], Any]:
    """Return the values of a file by table and word. Raises `InvalidInput` for what is wrong, in whatever table."""
    from gradconform.conformance.own_profiles import PART, profiles_of

    profiles_of(file)
    tables = {name: value for name, value in file.table.items() if name in TABLES}
    tables[""] = {name: value for name, value in file.table.items() if name not in {*TABLES, PART}}
    values = {}
    for table, inside in tables.items():
        known = words.by_table[table]
        where = f"{file.file}: [{f'{TABLE}.{table}'.rstrip('.')}]"
        if not isinstance(inside, dict):
            raise InvalidInput(f"{file.file}: [{TABLE}] {table}: expected a table, [{TABLE}.{table}]")
        for name, value in inside.items():
            if name == TOP and not table:
                raise InvalidInput(f"{file.file}: [{TABLE}.{name}]: its words stand in [{TABLE}] itself")
            if name not in known:
                others = [] if table else [*TABLES, PART]
                raise InvalidInput(f"{where} {shown(name, LONGEST)} is unknown; {hint(name, [*known, *others])}")
            values[table, name] = known[name].read(value, f"{where} {name}")
    return values


def _unknown(words: Words, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each variable with our prefix that nothing reads: it may be somebody else's."""
    known = [*words.variables(), *sorted(OWN)]
    bare = [name.removeprefix(PREFIX) for name in known]
    unknown = [name for name in sorted(environment) if name.startswith(PREFIX) and name not in known]
    return tuple(
        f"{shown(name, LONGEST)} is read by nothing"
        + near(name.removeprefix(PREFIX), bare).replace("mean ", f"mean {PREFIX}")
        for name in unknown
    )


def _shown(taken: Taken) -> str:
    value = taken.value
    if isinstance(value, tuple):
        return shown(",".join(map(str, value)), LONGEST)
    return str(value).lower() if isinstance(value, bool) else shown(str(value), LONGEST)
