"""Where the table is found, and what is told where it cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradconform.conformance.configuration import has_configuration, read_configuration
from gradconform.errors import InvalidInput

TABLE = "[tool.gradconform]\nseed = {}\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return a folder inside of a repository inside of another folder, each with a table; the innermost is current."""
    inner = tmp_path / "repository" / "package" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    (tmp_path / "pyproject.toml").write_text(TABLE.format(1), "utf-8")
    (tmp_path / "repository" / "pyproject.toml").write_text(TABLE.format(2), "utf-8")
    monkeypatch.chdir(inner)
    return inner


def test_the_nearest_file_with_the_table_is_read_up_to_the_root_of_the_repository(tree):
    found = read_configuration()
    assert (found.file, found.table) == (os.path.join("..", "..", "pyproject.toml"), {"seed": 2})  # noqa: PTH118
    assert found.folder == tree.parents[1].resolve()
    (tree.parent / "pyproject.toml").write_text("[project]\nname = 'gradconform-user'\n", "utf-8")
    assert read_configuration().table == {"seed": 2}
    (tree.parent / "pyproject.toml").write_text(TABLE.format(3), "utf-8")
    assert read_configuration().table == {"seed": 3}


def test_what_is_above_the_repository_is_not_read(tree):
    (tree.parents[1] / "pyproject.toml").unlink()
    assert read_configuration().file == ""


def test_outside_of_a_repository_the_current_folder_alone_is_looked_at(tree):
    (tree.parents[1] / ".git").rmdir()
    assert read_configuration().file == ""
    (tree / "pyproject.toml").write_text(TABLE.format(4), "utf-8")
    assert read_configuration().table == {"seed": 4}


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no such owner here")
@pytest.mark.parametrize("name", [".git", "pyproject.toml"])
def test_what_belongs_to_somebody_else_above_the_current_folder_is_not_taken(tree, monkeypatch, name):
    """As where anyone may write: /tmp/.git and /tmp/pyproject.toml."""
    theirs = os.getuid() + 1
    real = Path.stat

    def stat(place, **more):
        found = real(place, **more)
        fields = list(found)
        fields[4] = theirs if place.name == name else found.st_uid
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)
    assert read_configuration().file == ""
    theirs = 0
    assert read_configuration().table == {"seed": 2}
    theirs = os.getuid() + 1
    (tree / "pyproject.toml").write_text(TABLE.format(4), "utf-8")
    assert read_configuration().table == {"seed": 4}, "of the current folder, as that of any command"


def test_another_file_is_named_by_option_before_the_variable(tree, monkeypatch):
    for number, name in ((5, "option.toml"), (6, "variable.toml")):
        (tree / name).write_text(TABLE.format(number), "utf-8")
    monkeypatch.setenv("GRADCONFORM_CONFIG", "variable.toml")
    assert read_configuration().table == {"seed": 6}
    assert read_configuration("option.toml").table == {"seed": 5}
    monkeypatch.setenv("GRADCONFORM_CONFIG", "off")
    assert read_configuration().file == ""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[tool.gradconform\n", "pyproject.toml: not TOML: "),
        ("tool.gradconform = 3\n", "pyproject.toml: tool.gradconform is not a table: write [tool.gradconform]"),
        (b"# gradconform \xff\n", "pyproject.toml: not TOML: "),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path, monkeypatch, content, told):
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput) as error:
        read_configuration()
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_a_broken_file_that_does_not_name_us_is_somebody_elses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("[tool.other\n", "utf-8")
    assert read_configuration().file == ""


def test_a_file_that_is_named_has_to_have_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("other.toml").write_text("[tool.other]\n", "utf-8")
    for name, told in (("other.toml", "there is no table [tool.gradconform] in it"), ("none.toml", "no such file")):
        with pytest.raises(InvalidInput) as error:
            read_configuration(name)
        assert str(error.value) == f"{name}: {told}"


def test_paths_are_relative_to_the_file(tree):
    found = read_configuration()
    assert found.place("build/result.json") == os.path.join("..", "..", "build", "result.json")  # noqa: PTH118
    assert found.place(str(tree)) == str(tree)
    os.chdir(found.folder)
    assert read_configuration().place("./mine.py") == "./mine.py"


def test_whether_a_run_may_read_a_file_is_known_before_it_whatever_stands_in_it(tree, monkeypatch):
    assert has_configuration(["check"])
    assert not has_configuration(["check", "--no-config"])
    (tree / "pyproject.toml").write_text("[tool.gradconform\n", "utf-8")
    assert not has_configuration(["check"])
    assert has_configuration(["check", "--config=other.toml"])
    monkeypatch.setenv("GRADCONFORM_TARGETS", "mine.py:gradients")
    assert has_configuration(["check"])
