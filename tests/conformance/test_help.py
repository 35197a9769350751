"""Help in groups: every option and command is there, whoever adds one, and no name is broken."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from gradconform.conformance.cli import cli
from gradconform.conformance.help import OTHERS, SECTIONS, Command, Commands, section_of


def commands(command, path=()):
    """Yield all commands, with the words that call them."""
    yield path, command
    if isinstance(command, click.Group):
        for name, other in command.commands.items():
            yield from commands(other, (*path, name))


TREE = dict(commands(cli))


def helped(path, width):
    done = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": str(width)}, terminal_width=width)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_command_has_its_help_in_groups(path):
    assert isinstance(TREE[path], Command | Commands)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_no_option_is_left_out_and_no_name_is_broken(path, width):
    text = helped(path, width)
    for parameter in TREE[path].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert re.search(rf"^  (-\w, )?{re.escape(parameter.opts[-1])}\b", text, re.M), parameter.opts
    for name in getattr(TREE[path], "commands", {}):
        assert re.search(rf"^  {name}\b", text, re.M)
    for example, _ in TREE[path].examples:
        assert f"\n  {example}" in text
    for word in re.findall(
        r"--[a-z]+(?:-[a-z]+)*",
        " ".join(str(option.help) for option in TREE[path].params if isinstance(option, click.Option)),
    ):
        assert word in text


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_an_option_says_what_it_does_in_a_sentence(path):
    for option in TREE[path].params:
        if isinstance(option, click.Option):
            assert option.help, option.opts
            assert option.help[0].isupper()
            assert option.help.rstrip().endswith((".", ")")), option.help
            assert option.make_metavar(click.Context(TREE[path])) not in {"TEXT", "PATH"}, option.opts


def test_an_option_of_somebody_else_stands_among_the_others():
    @click.command(cls=Command)
    @click.option("--new", help="Something new.")
    @click.option("--seed", type=click.IntRange(0), default=3, show_default=True, help="Which numbers.")
    def command():
        """Do something."""

    text = CliRunner().invoke(command, ["--help"]).output
    assert "How much, and which numbers:\n  --seed N  Which numbers. [default: 3]\n" in text
    assert f"{OTHERS}:\n  --new TEXT  Something new.\n" in text
    assert section_of(command.params[0]) == OTHERS


def test_a_command_of_somebody_else_stands_among_the_others():
    group = Commands(sections={"First": ("one",)})
    group.command("one")(lambda: None)
    group.command("two")(lambda: None)
    text = CliRunner().invoke(group, ["--help"]).output
    assert text.index("First:\n  one") < text.index("More commands:\n  two")


def test_no_option_stands_in_two_groups():
    names = [name for section in SECTIONS.values() for name in section]
    assert len(names) == len(set(names))


def test_paragraphs_that_keep_their_lines():
    text = CliRunner().invoke(Command("x", help="One.\n\n\b\na  b\nc  d\n\nTwo."), ["--help"]).output
    assert "\n  One.\n\n  a  b\n  c  d\n\n  Two.\n" in text
