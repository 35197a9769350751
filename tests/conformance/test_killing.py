"""The kill matrix: what it runs, what it counts, and what it says."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from gradconform.conformance import faults_cli, killing
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.cli import main
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.killing import COLUMNS, Killing, correct_code, kill, kill_all, naming
from gradconform.conformance.killing_report import killing_markdown, killing_text, totals_text
from gradconform.conformance.plan import MAX_EXAMPLES
from gradconform.conformance.planting import Fault
from gradconform.conformance.record import Record
from gradconform.conformance.results import Result
from gradconform.reference.backpropagation import gradients

HARMLESS = Fault("harmless", "nothing is wrong", lambda: gradients, symptoms=("harmless",))


@pytest.fixture(autouse=True)
def without_shrinking(monkeypatch):
    """Leave findings as they are met: how small they become is not what is tested here."""
    whole = killing.plan_for
    monkeypatch.setattr(killing, "plan_for", lambda *given: replace(whole(*given), shrink_seconds=0))


@pytest.fixture(scope="module")
def met():
    """Run one fault, once."""
    whole = killing.plan_for
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(killing, "plan_for", lambda *given: replace(whole(*given), shrink_seconds=0))
        return kill(FAULTS["bias-mean"])


def matrix(*kills, correct=()):
    return Killing(seed=1, max_examples=100, seconds=2.5, kills=list(kills), correct=list(correct))


def named(met, symptom, fault="bias-mean"):
    return msgspec.structs.replace(
        met,
        fault=fault,
        finding=msgspec.structs.replace(met.finding, symptom=symptom),
        named=naming(FAULTS[fault], msgspec.structs.replace(met.finding, symptom=symptom)),
    )


def test_a_fault_is_run_until_its_first_finding(met):
    assert met.caught
    assert met.networks < 10
    assert (met.finding.check, met.finding.path) == ("parameters", "0.bias")
    assert 0 < met.detected <= met.found
    assert met.sentence == FAULTS["bias-mean"].sentence


def test_all_checks_that_fire_are_told_relations_included(met):
    # the mean over two equal halves of a batch is not the mean of their sum
    assert met.checks == ["parameters", "sum-of-samples"]


def test_a_fault_of_the_call_fires_there_alone():
    assert kill(FAULTS["aliased-result"]).checks == ["call"]


def test_a_fault_that_is_met_once_in_a_hundred_calls_shows_at_least_where_it_was_found():
    found = kill(FAULTS["now-and-then"])
    assert found.finding.check in found.checks


def test_columns_are_the_checks_and_the_call():
    assert (*CHECKS, "call") == COLUMNS


def test_what_computes_right_gradients_survives():
    survivor = kill(HARMLESS, 3)
    assert not survivor.caught
    assert (survivor.named, survivor.checks, survivor.found) == ("not caught", [], None)
    assert (matrix(survivor).survivors, matrix(survivor).exit_code) == ([survivor], 1)
    assert "0 of 1; not caught: harmless" in totals_text(matrix(survivor))


@pytest.mark.parametrize(
    ("symptom", "expected"),
    [
        ("", "unknown"),
        ("bias-mean", "right"),
        ("bias-missing", "WRONG NAME"),
        ("bias-mean + transposed", "WRONG NAME"),
        ("bias-missing or bias-mean", "right"),
        ("bias-missing or bias-mean + transposed", "WRONG NAME"),
    ],
)
def test_a_symptom_is_right_if_the_fault_has_all_of_it(met, symptom, expected):
    assert named(met, symptom).named == expected
    assert matrix(named(met, symptom)).exit_code == (expected == "WRONG NAME")


def test_a_wrong_name_is_told_with_the_fault_that_it_was_given_to(met):
    text = totals_text(matrix(named(met, "transposed")))
    assert "wrong names          1: bias-mean called transposed" in text
    assert text.splitlines()[-1].startswith("FAILED  1 fault, 100 networks each, seed 1")


def test_a_fault_that_is_held_out_is_rightly_unknown(met):
    held_out = next(fault for fault in FAULTS if FAULTS[fault].held_out)
    unknown = msgspec.structs.replace(named(met, "", held_out), held_out=True)
    guessed = msgspec.structs.replace(named(met, "bias-mean", held_out), held_out=True)
    assert "1 of 1 are called unknown" in totals_text(matrix(unknown))
    assert guessed.named == "WRONG NAME"


def test_rightly_named_faults_are_a_share_of_those_that_have_a_name(met):
    told = totals_text(matrix(named(met, "bias-mean"), named(met, "")))
    assert "named rightly        1 of 2 (50%)" in told
    assert told.splitlines()[-1].startswith("PASSED")


def test_correct_code_raises_no_alarm(monkeypatch):
    monkeypatch.setattr(killing.known, "installed", list)
    (told,) = correct_code(max_examples=3)
    assert (told.name, told.networks, told.alarms) == ("reference", 3, [])
    assert told.comparisons > 0


def test_an_alarm_in_correct_code_fails_the_matrix(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lava = Implementation("lava", FAULTS["bias-missing"].make(), "1.0")
    monkeypatch.setattr(killing.known, "installed", lambda: [lava])
    result = kill_all([], max_examples=2)
    assert [alarm.partition(" is wrong")[0] for alarm in result.alarms] == ["lava: 0.bias"]
    assert result.exit_code == 1
    assert "1 in reference (2 networks), lava (2 networks): lava: 0.bias is wrong" in totals_text(result)


def test_the_text_fits_and_has_a_letter_for_each_check(met):
    text = killing_text(matrix(met, msgspec.structs.replace(met, fault="second-call-accumulates")))
    assert max(map(len, text.splitlines())) <= 100
    assert "a outputs, b loss, c output-delta" in text
    row = next(line for line in text.splitlines() if line.startswith("bias-mean"))
    assert row.split()[1:4] == ["....e....j.....", "parameters", "WRONG"]


def test_markdown_has_one_row_a_fault(met):
    lines = killing_markdown(matrix(met)).splitlines()
    assert lines[2:4] == [
        "| fault | what is wrong | fired | found first as | named |",
        "| --- | --- | --- | --- | --- |",
    ]
    assert lines[4].startswith(f"| bias-mean | {FAULTS['bias-mean'].sentence} | `....e....j.....` | parameters WRONG |")
    assert lines[6] == "- caught: 1 of 1"


# The command.


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["faults", *arguments])
    return ended.value.code, *capsys.readouterr()


def test_the_command_runs_the_faults_that_are_named(capsys, tmp_path):
    place, page = tmp_path / "matrix.json", tmp_path / "matrix.html"
    code, out, _err = command(capsys, "bias-mean", "aliased-result", "--json", str(place), "--html", str(page))
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if " WRONG" in line or " ALIASED" in line] == [
        "bias-mean",
        "aliased-result",
    ]
    assert "caught               2 of 2" in out
    assert "named rightly        2 of 2 (100%)" in out
    assert "false alarms" not in out  # correct code is run where all faults are
    told = json.loads(place.read_text("utf-8"))
    assert [(entry["fault"], entry["checks"]) for entry in told["kills"]] == [
        ("bias-mean", ["parameters", "sum-of-samples"]),
        ("aliased-result", ["call"]),
    ]
    assert told["kills"][0]["finding"]["path"] == "0.bias"
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_fault_that_survives_ends_in_exit_code_1(capsys):
    code, out, _ = command(capsys, "now-and-then", "--max-examples", "1")
    assert code == 1
    assert "not caught: now-and-then" in out


def test_the_command_lists_the_faults(capsys):
    main(["faults", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)
    assert lines[0].endswith(FAULTS[lines[0].split()[0]].sentence)


def test_an_unknown_fault_is_told(capsys):
    code, out, err = command(capsys, "bias-men")
    assert (code, out, err) == (4, "", "gradconform: fault 'bias-men' is unknown; did you mean bias-mean?\n")


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_folder_that_is_missing_is_told_before_anything_is_run(capsys, tmp_path, option):
    code, _, err = command(capsys, "bias-mean", option, str(tmp_path / "none" / "x"))
    assert (code, err.endswith("x: no such folder\n")) == (4, True)


def test_the_command_has_the_defaults_of_the_work():
    assert (faults_cli.SEED, faults_cli.MAX_EXAMPLES) == (killing.SEED, MAX_EXAMPLES)


def test_a_user_may_end_it(monkeypatch):
    interrupted = Result(
        verdict="interrupted",
        seed=1,
        seconds=0.0,
        networks=0,
        structures=0,
        implementations=[],
        findings=[],
        interrupted=True,
    )
    monkeypatch.setattr(Record, "over", lambda self, explore: interrupted)
    with pytest.raises(KeyboardInterrupt):
        kill(FAULTS["bias-mean"])
    monkeypatch.setattr(killing, "run", lambda plan: interrupted)
    with pytest.raises(KeyboardInterrupt):
        correct_code(max_examples=1)
