"""The words: they are those of the options, and docs/configuration.md has all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from gradconform.conformance.cli import cli
from gradconform.conformance.configuration import OWN, Configuration
from gradconform.conformance.configuration_words import SHARED, TABLES, TOP, Word, Words, variable_of
from gradconform.conformance.configured import settings_for
from gradconform.conformance.own_profiles import EXTENDS, FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
WORDS = Words(cli.commands)
PYTEST = {"targets": "--gradconform-implementations", "dtype": "--gradconform-dtypes"}


def default_of(table, word):
    """Return the default as the page has it; nothing where there is none."""
    command = cli.commands.get(table or TOP)
    if command is None:
        return ""
    value = word.parameter.get_default(click.Context(command), call=False)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if isinstance(value, str | int) else ""


def row(table, word):
    """Return the line of the page for a word."""
    option = "TARGET" if isinstance(word.parameter, click.Argument) else f"`--{word.name}`"
    if table == "pytest":
        option = f"`{PYTEST.get(word.name, f'--gradconform-{word.name}')}`"
    cells = (f"`{word.name}`", word.type, option, f"`{variable_of(table, word.name)}`", default_of(table, word))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


@pytest.mark.parametrize("table", ["", *TABLES])
def test_the_page_has_exactly_the_words_that_there_are(table):
    rows = [row(table, word) for word in WORDS.by_table[table].values()]
    prefix = variable_of(table, "")
    others = tuple(variable_of(name, "") for name in TABLES if name != table)
    variable = re.compile(r"^\| `[a-z-]+` \| [^|]* \| [^|]* \| `(GRADCONFORM_\w+)` \|.*$", re.MULTILINE)
    found = [
        line.group()
        for line in variable.finditer(PAGE)
        if line.group(1).startswith(prefix) and not line.group(1).startswith(others)
    ]
    assert "\n".join(found) == "\n".join(rows)


def test_the_page_has_what_other_commands_share():
    for command, words in SHARED.items():
        said = [f"`{word}`" for word in WORDS.by_table[""] if word in words]
        assert words <= WORDS.by_table[""].keys()
        name = {"merge": "`gradconform report merge`", "pytest": "pytest"}.get(command, f"`gradconform {command}`")
        assert f"| {name} | {', '.join(said)} |\n" in PAGE


def test_the_page_has_the_words_of_a_profile_and_the_other_variables():
    for name in (EXTENDS, *FIELDS):
        assert f"\n| `{name}` | " in PAGE
    assert all(f"`{name}`" in PAGE for name in OWN)


def test_every_example_is_accepted():
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 1
    for block in blocks:
        table = tomllib.loads(block)["tool"]["gradconform"]
        file = Configuration("pyproject.toml", Path.cwd(), table)
        for command in (TOP, *TABLES):
            settings = settings_for(command, WORDS, file, {})
            assert settings.taken or command in {"layer", "fuzz"}
            assert set(table.get("profiles", {})) <= set(settings.profiles)


def test_the_options_of_pytest_are_those_of_the_page(pytestconfig):
    for name in WORDS.by_table["pytest"]:
        option = PYTEST.get(name, f"--gradconform-{name}").removeprefix("--").replace("-", "_")
        assert pytestconfig.getoption(option, default="missing") != "missing"


def test_a_word_means_a_path_where_its_value_is_one():
    words = WORDS.by_table[""]
    paths = {
        "targets": ["mine.py", "a/mine.py:f", "C:\\a\\mine.py:f"],
        "network": ["network.txt"],
        "data": ["iris.csv"],
        "cases": ["kept"],
        "manifest": ["pin.json"],
    }
    others = {
        "targets": ["torch", "package.module:f", "package.py_module:f"],
        "network": ["2 -> Dense(2), Huber"],
        "dtype": ["float64"],
        "shard": ["1/2"],
    }
    assert all(words[name].is_path(value) for name, values in paths.items() for value in values)
    assert not any(words[name].is_path(value) for name, values in others.items() for value in values)


def test_a_value_is_written_as_the_options_that_say_it():
    words = WORDS.by_table[""]
    said = {"targets": ("a", "b"), "dtype": ("float32", "float64"), "affine": True, "raw": False, "timeout": 2.5}
    assert [words[name].options(value) for name, value in said.items()] == [
        ["a", "b"], ["--dtype", "float32", "--dtype", "float64"], ["--affine"], [], ["--timeout", "2.5"],
    ]  # fmt: skip
    assert words["max-time"].options(60.0) == ["--max-time", "60"]


def test_what_is_about_one_run_or_one_target_is_no_word():
    everywhere = {name for words in WORDS.by_table.values() for name in words}
    assert everywhere.isdisjoint({"help", "config", "no-config", "write-manifest", "resume", "name", "input"})
    assert all(isinstance(word, Word) for words in WORDS.by_table.values() for word in words.values())
