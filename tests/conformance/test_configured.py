"""What a command takes from a file and the environment: in which order, and what it tells of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

import gradconform as gc
from gradconform.conformance import check_cli
from gradconform.conformance.cli import main

NETWORK = "2 -> Dense(2), MeanSquaredError"


class Planned(Exception):
    """Raised with the plan of a run, instead of running it."""


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """Return what writes a file and gives the plan that a command makes of it, without running it."""
    monkeypatch.chdir(tmp_path)

    def instead(plan, training, kept):
        raise Planned(plan)

    monkeypatch.setattr(check_cli, "_run", instead)

    def plan_of(table, *arguments, **environment):
        Path("pyproject.toml").write_text(f"[tool.gradconform]\n{table}", "utf-8")
        for name, value in environment.items():
            monkeypatch.setenv(f"GRADCONFORM_{name}", value)
        monkeypatch.setattr(sys, "argv", ["gradconform", "check", *arguments])
        try:
            with pytest.raises(Planned) as planned:
                main(["check", *arguments])
        finally:
            for name in environment:
                monkeypatch.delenv(f"GRADCONFORM_{name}")
        return planned.value.args[0]

    return plan_of


@pytest.fixture
def refused(monkeypatch, tmp_path, capsys):
    """Return what writes a file and gives the one line with which a command refuses it."""
    monkeypatch.chdir(tmp_path)

    def line(content, *arguments):
        Path("pyproject.toml").write_text(content, "utf-8")
        with pytest.raises(SystemExit) as left:
            main(list(arguments) or ["check"])
        told = capsys.readouterr()
        assert (left.value.code, told.out) == (4, "")
        assert told.err.startswith("gradconform: ")
        assert told.err.count("\n") == 1
        return told.err.removeprefix("gradconform: ").removesuffix("\n")

    return line


def named(plan):
    return [entry.name for entry in plan.implementations]


def test_command_line_before_environment_before_file_before_profile_before_default(planned):
    own = 'profile = "mine"\n{}[profiles.mine]\nmax-examples = 5\n'.replace("[profiles", "[tool.gradconform.profiles")
    table = own.format("max-examples = 4\n")
    assert planned(table, "reference", "--max-examples", "2", MAX_EXAMPLES="3").max_examples == 2
    assert planned(table, "reference", MAX_EXAMPLES="3").max_examples == 3
    assert planned(table, "reference").max_examples == 4
    assert planned(own.format(""), "reference").max_examples == 5
    assert planned("", "reference").max_examples == 100
    assert planned(table, "reference", MAX_EXAMPLES="").max_examples == 4


def test_every_kind_of_value_is_taken(planned):
    plan = planned(
        f'targets = ["reference"]\nnetwork = "{NETWORK}"\ndtype = ["float32"]\nonly = ["loss", "input"]\n'
        "exclude = ['input']\naffine = true\ntimeout = 3\nmax-memory = 100\nmax-time = 2.5\nseed = 7\n"
    )
    assert named(plan) == ["reference"]
    assert [check.id for check in plan.checks] == ["loss"]
    assert (list(plan.dtypes), plan.affine, plan.timeout, plan.max_memory) == (["float32"], True, 3.0, 100 << 20)
    assert (plan.max_time, plan.seed) == (2.5, 7)
    plan = planned("", TARGETS="reference", ONLY="loss, input", AFFINE="yes", TIMEOUT="4", DTYPE="float32,float64")
    assert [check.id for check in plan.checks] == ["loss", "input"]
    assert (plan.affine, plan.timeout, list(plan.dtypes)) == (True, 4.0, ["float32", "float64"])
    assert planned("affine = true\n", "reference", AFFINE="0").affine is False


def test_what_is_named_by_hand_takes_the_place_of_all_that_is_configured(planned):
    assert named(planned('targets = ["none.py:f"]\n', "reference")) == ["reference"]
    assert planned('dtype = ["float32"]\n', "reference", "--dtype", "float64").dtypes == ("float64",)


def test_a_program_takes_the_place_of_configured_targets(planned):
    plan = planned(
        'targets = ["none.py:f"]\n', "--", sys.executable, "-m", "gradconform.conformance.serve", "reference"
    )
    assert len(plan.implementations) == 1


def test_cases_that_are_asked_for_by_hand_are_written(planned, monkeypatch):
    seen = []

    def instead(plan, training, kept):
        seen.append(kept.cases)
        raise Planned(plan)

    monkeypatch.setattr(check_cli, "_run", instead)
    planned("no-cases = true\n", "reference")
    planned("no-cases = true\n", "reference", "--cases", "mine")
    assert seen == [None, "mine"]


def test_targets_and_files_are_relative_to_the_file_and_found_from_a_folder_in_it(planned, monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "mine.py").write_text("def gradients(network, parameters, batch):\n    return {}\n", "utf-8")
    (tmp_path / "one.txt").write_text(NETWORK, "utf-8")
    table = 'targets = ["mine.py:gradients"]\nnetwork = "one.txt"\n'
    assert named(planned(table)) == ["mine.py:gradients"]
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(Planned) as run:
        main(["check"])
    assert named(run.value.args[0]) == [str(Path("..", "mine.py:gradients"))]
    assert str(run.value.args[0].networks.templates[0].network) == NETWORK


def test_what_was_taken_is_told_in_one_line_and_nothing_where_nothing_was(planned, capsys):
    planned('profile = "ci"\nseed = 3\n', "reference", "--seed", "4", TIMEOUT="9")
    assert capsys.readouterr().err == (
        "gradconform: configuration: pyproject.toml: profile=ci; environment: GRADCONFORM_TIMEOUT=9.0\n"
    )
    planned("seed = 3\n", "reference", "--seed", "4")
    planned("seed = 3\n", "reference", "--no-config", SEED="5")
    assert capsys.readouterr().err == ""


def test_what_is_told_is_one_line_whatever_stands_there(planned, capsys):
    planned('cases = "a\\u001b[31m\\n::error::x"\n', "reference")
    planned(f'cases = "{"x" * 10_000}"\n', "reference")
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert told.count("\n") == 2
    assert len(told) < 400


def test_nothing_is_taken_where_nothing_is_to_be(planned):
    plan = planned("max-examples = 3\n", "reference", "--no-config", MAX_EXAMPLES="4")
    assert plan.max_examples == 100


def test_a_variable_that_nothing_reads_is_told_with_the_nearest_name(planned, capsys):
    planned("", "reference", MAX_EXAMPLE="3", XYZZY="")
    assert capsys.readouterr().err == (
        "gradconform: GRADCONFORM_MAX_EXAMPLE is read by nothing; did you mean GRADCONFORM_MAX_EXAMPLES?\n"
        "gradconform: GRADCONFORM_XYZZY is read by nothing\n"
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("max-example = 3", "max-example is unknown; did you mean max-examples?"),
        ("max_examples = 3", "max_examples is unknown; did you mean max-examples?"),
        ("write-manifest = 'x'", "write-manifest is unknown; did you mean manifest?"),
        ("max-examples = '3'", "max-examples: expected an integer, got '3'"),
        ("max-examples = true", "max-examples: expected an integer, got True"),
        ("max-examples = 0", "max-examples: 0 is not in the range x>=1"),
        ("timeout = nan", "timeout: expected a number, got nan"),
        ("affine = 1", "affine: expected true or false, got 1"),
        ("dtype = 'float64'", "dtype: expected a list of strings, as in [...], got 'float64'"),
        ("targets = ['reference', 1]", "targets: expected a list of strings, got ['reference', 1]"),
        ("network = ['x']", "network: expected a string, got ['x']"),
        ("fuzz = 3", "fuzz: expected a table, [tool.gradconform.fuzz]"),
    ],
)
def test_a_wrong_word_or_value_is_one_line_with_file_and_word(refused, table, told):
    assert refused(f"[tool.gradconform]\n{table}\n") == f"pyproject.toml: [tool.gradconform] {told}"


def test_the_words_of_check_stand_in_the_table_itself(refused):
    told = "pyproject.toml: [tool.gradconform.check]: its words stand in [tool.gradconform] itself"
    assert refused("[tool.gradconform.check]\nseed = 1\n") == told


def test_a_wrong_word_in_any_table_is_told_by_every_command(refused):
    for line, told in (
        ("worker = 3", "worker is unknown; did you mean workers?"),
        ("workers = '3'", "workers: expected an integer, got '3'"),
    ):
        for command in (["check"], ["fuzz"], ["layer", "x.py:y"]):
            assert refused(f"[tool.gradconform.fuzz]\n{line}\n", *command) == (
                f"pyproject.toml: [tool.gradconform.fuzz] {told}"
            )


def test_what_a_file_says_is_short_and_printable_wherever_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = "a\\u001b[31m\\n::error::" + "x" * 100_000
    Path("pyproject.toml").write_text(f'[tool.gradconform]\nprofile = "ci"\nmanifest = "{path}"\n', "utf-8")
    with pytest.raises(SystemExit) as left:
        main(["check", "reference"])
    lines = capsys.readouterr().err.splitlines()
    assert (left.value.code, len(lines)) == (4, 2)
    assert all(line.startswith("gradconform: ") and line.isprintable() and len(line) < 1100 for line in lines)


def test_a_wrong_variable_is_one_line(refused, monkeypatch):
    monkeypatch.setenv("GRADCONFORM_SEED", "x")
    assert refused("") == "GRADCONFORM_SEED: 'x' is not a valid integer"
    monkeypatch.setenv("GRADCONFORM_SEED", "-1")
    assert refused("") == "GRADCONFORM_SEED: -1 is not in the range x>=0"
    monkeypatch.setenv("GRADCONFORM_SEED", "")
    monkeypatch.setenv("GRADCONFORM_AFFINE", "maybe")
    assert refused("") == "GRADCONFORM_AFFINE: expected true or false, got 'maybe'"


def test_an_unknown_profile_has_a_nearest_name(refused):
    mine = "[tool.gradconform.profiles.weekly]\n"
    assert refused(mine, "check", "--profile", "weekli") == "no profile 'weekli'; did you mean weekly?"
    assert refused("", "check", "--config", "x.toml", "--no-config") == "--config or --no-config: one of the two"


# the command that does the same again


def test_the_same_again_has_all_that_was_taken_and_takes_nothing_else(planned):
    table = (
        f'targets = ["reference"]\nnetwork = "{NETWORK}"\ndtype = ["float32", "float64"]\naffine = true\n'
        'profile = "ci"\ntimeout = 3\njson = "out.json"\n'
    )
    again = shlex.split(planned(table, "--only", "loss").command)
    assert again == [
        "gradconform", "check", "--no-config", "--only", "loss", "reference", "--network", NETWORK, "--profile", "ci",
        "--dtype", "float32", "--dtype", "float64", "--affine", "--timeout", "3", "--seed", "1",
    ]  # fmt: skip
    plan = planned("seed = 99\n", *again[2:])
    assert (named(plan), plan.affine, plan.max_examples, plan.seed) == (["reference"], True, 300, 1)


def test_the_same_again_is_as_it_was_typed_where_nothing_was_taken(planned):
    assert planned("", "reference", "--seed=5", "--affine").command == "gradconform check reference --affine --seed 5"


def test_the_same_again_with_a_profile_of_ones_own_names_the_file(planned):
    table = 'profile = "mine"\n[tool.gradconform.profiles.mine]\nextends = "ci"\n'
    command = planned(table, "reference").command
    assert command == "gradconform check --config pyproject.toml reference --profile mine --seed 1"


def test_the_same_again_names_the_file_of_a_profile_that_was_typed(planned, monkeypatch, tmp_path):
    own = "[tool.gradconform.profiles.mine]\nextends = 'ci'\n"
    (tmp_path / "other.toml").write_text(own, "utf-8")
    typed = ("reference", "--profile", "mine")
    again = planned("", *typed, CONFIG="other.toml").command
    assert again == "gradconform check --config other.toml reference --profile mine --seed 1"
    assert planned("", *shlex.split(again)[2:]).max_examples == 300
    assert planned("", *typed, "--config", "other.toml").command == again
    assert planned(own, *typed).command == again.replace("other.toml", "pyproject.toml")


def test_the_same_again_has_the_seed_before_the_program(planned):
    words = ["--", sys.executable, "-m", "gradconform.conformance.serve", "reference"]
    assert shlex.split(planned("", "--seed", "4", *words).command) == ["gradconform", "check", "--seed", "4", *words]


# other commands


def test_fuzz_takes_what_means_the_same_and_its_own_table(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text(
        "[tool.gradconform]\ntargets = ['reference']\nmax-examples = 1000\ndtype = ['float32']\ntimeout = 5\n"
        f"network = '{NETWORK}'\n"
        "[tool.gradconform.fuzz]\nmax-examples = 32\nworkers = 1\ntimeout = 6\n",
        "utf-8",
    )
    with pytest.raises(SystemExit) as left:
        main(["fuzz", "--seed", "1"])
    told = capsys.readouterr()
    assert left.value.code == 0, told.err
    assert "32 networks" in told.out
    assert "timeout=6.0, workers=1" not in told.err
    line = next(line for line in told.err.splitlines() if "configuration" in line)
    assert {"targets=reference", "max-examples=32", "workers=1", "timeout=6.0"} <= set(line.split(": ")[3].split(", "))
    with pytest.raises(SystemExit) as left:
        main(["fuzz", "--resume", "--max-examples", "64"])
    assert left.value.code == 0, capsys.readouterr().err


def test_doctor_tells_what_check_would_take_and_what_is_wrong(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    waits = "`gradconform check` will not run until the configuration can be used."

    def told():
        main(["doctor"])
        lines = capsys.readouterr().out.splitlines()
        configuration = [line for line in lines if line.startswith("configuration")]
        wrong = any("is unknown" in line for line in configuration)
        assert (lines[-1] == waits) == wrong
        assert not (wrong and any("Everything is here" in line for line in lines))
        return configuration

    assert told() == ["configuration  none: no pyproject.toml with [tool.gradconform], no variable GRADCONFORM_OPTION"]
    Path("pyproject.toml").write_text(
        "[tool.gradconform]\nprofile = 'mine'\n[tool.gradconform.profiles.mine]\nextends = 'ci'\n", "utf-8"
    )
    assert told() == ["configuration  pyproject.toml: profile=mine", "configuration  profile mine: ci, changed"]
    Path("pyproject.toml").write_text("[tool.gradconform]\nprofil = 'mine'\n", "utf-8")
    assert told() == ["configuration  pyproject.toml: [tool.gradconform] profil is unknown; did you mean profile?"]


def test_what_a_file_names_is_run_by_nothing_but_a_check(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "open('ran', 'w').close()\ndef gradients(*given):\n    raise NotImplementedError\n", "utf-8"
    )
    Path("pyproject.toml").write_text("[tool.gradconform]\ntargets = ['mine.py:gradients']\nseed = 1\n", "utf-8")
    main(["doctor"])
    main(["check", "--help"])
    assert not Path("ran").exists()
    with pytest.raises(SystemExit) as left:
        main(["check", "--max-examples", "1"])
    assert (left.value.code, Path("ran").exists()) == (5, True), capsys.readouterr()


def test_the_function_takes_nothing_from_a_file_or_a_variable(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("[tool.gradconform]\nseed = 7\nmax-examples = 3\n", "utf-8")
    monkeypatch.setenv("GRADCONFORM_SEED", "8")
    result = gc.check("reference", max_examples=1)
    assert (result.seed, result.networks) == (0, 1)
