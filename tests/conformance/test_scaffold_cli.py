"""Every file that `init` writes runs, and is right."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import gradconform as gc
from gradconform.conformance.cli import cli
from gradconform.conformance.scaffold_cli import SCAFFOLDS
from gradconform.errors import InvalidInput

CANDIDATES = {
    "textbook": ("", None),
    "numpy": (":gradients", "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"),
    "class": (":Network", None),
    "adapter": ("", None),
}
OPERATIONS = {"numpy-layer": "Softmax", "torch-function": "Tanh", "jax-vjp": "linear"}
MARKS = {"torch-function": pytest.mark.torch, "adapter": pytest.mark.torch, "jax-vjp": pytest.mark.jax}


def marked(kinds):
    return [pytest.param(kind, marks=MARKS.get(kind, ())) for kind in kinds]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(*arguments):
        result = CliRunner().invoke(cli, ["init", *arguments], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return write


@pytest.mark.parametrize("kind", marked(CANDIDATES))
def test_a_candidate_agrees(write, kind):
    assert write(kind, "mine.py").exit_code == 0
    suffix, networks = CANDIDATES[kind]
    result = gc.check(f"mine.py{suffix}", networks=networks, max_examples=12, seed=1)
    assert result.passed, str(result)


@pytest.mark.parametrize("kind", marked(OPERATIONS))
def test_an_operation_is_right(write, kind):
    assert write(kind, "mine.py").exit_code == 0
    result = gc.check_layer(f"mine.py:{OPERATIONS[kind]}", max_examples=2)
    assert result.passed, str(result)


def test_the_others_are_the_examples_that_are_tested_as_programs_and_as_workflows():
    others = set(SCAFFOLDS) - set(CANDIDATES) - set(OPERATIONS)
    programs = {"protocol-c", "protocol-javascript", "protocol-rust"}
    assert others == {*programs, "ci", "ci-nightly", "ci-shards", "ci-badge", "ci-gitlab"}


@pytest.mark.parametrize("kind", SCAFFOLDS)
def test_it_says_what_comes_next(write, kind, tmp_path):
    result = write(kind)
    (file,) = (path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert result.output.startswith(f"{file}: ")
    assert "gradconform " in result.output.splitlines()[1]
    assert file in result.output.splitlines()[1]


@pytest.mark.parametrize(
    ("kind", "file"), [("ci", ".github/workflows/gradconform.yml"), ("ci-gitlab", ".gitlab-ci.yml")]
)
def test_what_is_for_ci_stands_where_it_is_looked_for_and_overwrites_nothing(write, tmp_path, kind, file):
    write(kind)
    (tmp_path / file).write_text("mine", "utf-8")
    with pytest.raises(InvalidInput, match=rf"it is there already; another name: gradconform init {kind} FILE"):
        write(kind)
    assert (tmp_path / file).read_text("utf-8") == "mine"


def test_nothing_is_overwritten(write, tmp_path):
    write("numpy", "mine.py")
    (tmp_path / "mine.py").write_text("mine", "utf-8")
    with pytest.raises(InvalidInput, match=r"mine\.py: it is there already; another name: gradconform init numpy FILE"):
        write("numpy", "mine.py")
    assert (tmp_path / "mine.py").read_text("utf-8") == "mine"


def test_a_folder_that_is_not_there(write):
    with pytest.raises(InvalidInput, match="cannot be written: No such file or directory"):
        write("numpy", "none/mine.py")


def test_an_unknown_kind_names_the_known(write):
    result = write("nympy")
    assert result.exit_code == 2
    assert "textbook" in result.output
