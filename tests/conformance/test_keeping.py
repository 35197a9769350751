"""A run with pinned cases: they come first, fail as findings do, and are quiet when they pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import gradconform as gc
from gradconform.case import Batch
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.casefolder import case_files
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, resolve
from gradconform.conformance.keeping import run_kept
from gradconform.conformance.plan import Plan, choose_checks, network_strategy
from gradconform.conformance.report_reading import result_in
from gradconform.conformance.run_record import RunRecord, header_of
from gradconform.conformance.several import by_vmap
from gradconform.conformance.stack import stacked
from gradconform.errors import InvalidInput
from gradconform.reference.backpropagation import gradients as right

NETWORK = "2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"


def bias_mean(calls=None):
    def compute(network, parameters, batch):
        if calls is not None:
            calls.append(batch)
        found = right(network, parameters, batch).parameters
        return {path: a / batch.rows if path == "0.bias" else a for path, a in found.items()}

    return Implementation("mine", compute)


def right_one():
    return Implementation("mine", right)


def plan_of(implementation, *, max_examples=6, checks=None, **more):
    return Plan(
        [implementation],
        max_examples=max_examples,
        seed=1,
        networks=network_strategy(NETWORK),
        dtypes=("float64",),
        checks=checks or choose_checks(["parameters"], []),
        witnesses=False,
        shrink_seconds=0,
        **more,
    )


def checked(implementation, *, max_examples=6, checks=None, log=lambda so_far, at_once: None, **more):
    lines = []
    plan = plan_of(implementation, max_examples=max_examples, checks=checks, notify=lines.append, log=log)
    return run_kept(plan, run, **more), lines


@pytest.fixture
def pins(tmp_path):
    result, _ = checked(bias_mean(), cases=tmp_path / "pins")
    assert len(result.findings) == len(case_files(tmp_path / "pins")) == 1
    return tmp_path / "pins"


def test_what_passes_is_a_count(pins):
    result, lines = checked(right_one(), pins=pins)
    assert (result.verdict, result.findings, lines) == ("passed", [], [])
    assert (result.pinned.cases, result.pinned.failing) == (1, 0)
    assert "pinned  1 case replayed first\n" in str(result)
    assert b'"pinned": {' in result.to_json()


def test_what_fails_is_a_finding_and_is_told_first(pins):
    loss_alone = choose_checks(["delta-rows"], [])
    calls = []
    result, lines = checked(bias_mean(calls), pins=pins, checks=loss_alone)
    (finding,), (place,) = result.findings, case_files(pins)
    file = read_case(place)
    assert (result.verdict, result.exit_code) == ("failed", 1)
    assert (finding.id, finding.file, finding.replay) == (
        file.id,
        str(place),
        f"gradconform replay {place} mine",
    )
    assert calls[0].inputs.tobytes() == file.case.batch.inputs.tobytes()
    assert lines == [f"pinned case {file.id} fails: mine   {finding.sentence}"]
    assert "pinned  1 case replayed first, 1 fails\n" in str(result)


def test_what_was_done_so_far_has_the_pins_from_the_beginning(pins):
    told = []
    checked(
        bias_mean(),
        pins=pins,
        checks=choose_checks(["delta-rows"], []),
        log=lambda so_far, at_once: told.append(so_far()),
    )
    assert told[0].networks == 0
    for result in told:
        assert (result.verdict, len(result.findings), result.pinned.failing) == ("failed", 1, 1)


def test_a_pinned_case_that_fails_is_in_the_record_before_it_is_told(pins, tmp_path):
    place = tmp_path / "run.jsonl"
    asked = []

    def told(line):
        # as where the run is killed at this moment
        asked.append((line, result_in(str(place))))

    plan = plan_of(bias_mean(), notify=told)
    with RunRecord(place, header_of(plan)) as record:
        plan.log = record.log
        run_kept(plan, run, pins=pins)
    line, result = asked[0]
    (finding,) = result.findings
    assert line == f"pinned case {finding.id} fails: mine   {finding.sentence}"
    assert (result.verdict, result.exit_code, result.networks) == ("failed", 1, 0)
    assert (result.pinned.cases, result.pinned.failing, result.interrupted) == (1, 1, True)


def test_each_pinned_case_is_in_the_record_as_soon_as_it_is_replayed(pins):
    (place,) = case_files(pins)
    (pins / "00000000.json").write_bytes(place.read_bytes())
    told = []
    checked(right_one(), pins=pins, log=lambda so_far, at_once: told.append((so_far().pinned.cases, at_once)))
    assert told[:3] == [(1, True), (2, True), (2, True)]


def test_a_bug_that_the_run_finds_too_is_one_finding(pins):
    result, _ = checked(bias_mean(), pins=pins)
    assert len(result.findings) == result.pinned.failing == 1


def test_pins_of_others_are_left_alone(pins):
    result, _ = checked(Implementation("another", bias_mean().gradients), pins=pins, max_examples=1)
    assert result.pinned is None


def test_what_is_not_supported_any_more_is_told(pins):
    def refuses(network, parameters, batch):
        raise NotImplementedError

    result, _ = checked(Implementation("mine", refuses), pins=pins)
    assert result.verdict == "nothing compared"
    assert "pinned  1 case replayed first, 1 not supported any more\n" in str(result)


def test_what_was_learnt_of_kinks_in_a_pin_does_not_reach_the_run(pins):
    implementation = bias_mean()
    checked(implementation, pins=pins, checks=choose_checks(["delta-rows"], []))
    assert implementation.kinks == {}


def test_a_broken_pin_is_named(pins):
    (pins / "5412b217.json").write_text("{", "utf-8")
    with pytest.raises(InvalidInput, match=r"5412b217\.json: "):
        checked(right_one(), pins=pins)


def test_from_python_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"networks": NETWORK, "max_examples": 3, "seed": 1, "only": ["parameters"]}
    assert gc.check(right, **options).pinned is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="cases: expected a folder, or None, got True"):
        gc.check(right, **options, cases=True)


def test_the_file_knows_in_the_end_what_the_run_knows(tmp_path):
    result, _ = checked(FAULTS["bias-mean"].implementation(), cases=tmp_path)
    (finding,) = result.findings
    assert finding.failing_cases > 1
    assert read_case(finding.file).found.failing_cases == finding.failing_cases


def test_a_folder_that_cannot_be_written_is_one_note(tmp_path):
    (tmp_path / "cases").write_text("", "utf-8")
    result, _ = checked(bias_mean(), cases=tmp_path / "cases")
    assert [note for note in result.notes if "cannot be kept" in note] == [
        f"{tmp_path / 'cases'}: cases cannot be kept there: File exists"
    ]


def test_a_folder_of_pins_need_not_exist(tmp_path):
    result, _ = checked(right_one(), pins=Path(tmp_path / "none"), max_examples=1)
    assert (result.verdict, result.pinned) == ("passed", None)


def test_pins_of_the_same_frameworks_vmap_are_replayed_though_nothing_else_is_judged_of_it(tmp_path):
    def wrong(*arguments):
        found = side_by_side_of_reference(*arguments)
        found.parameters["0.bias"][...] *= 2
        return found

    def framework(several):
        entry = replace(resolve("reference"), name="own")
        return replace(entry, by_vmap=by_vmap(entry, several))

    run_kept(plan_of(framework(wrong).by_vmap), run, cases=tmp_path / "pins")
    for several, failing in ((wrong, 1), (side_by_side_of_reference, 0)):
        result, _ = checked(framework(several), pins=tmp_path / "pins")
        assert (result.pinned.cases, result.pinned.failing) == (1, failing)
        assert [finding.implementation for finding in result.findings] == ["own.vmap"] * failing
        assert [tally.name for tally in result.implementations] == ["own"]


def side_by_side_of_reference(network, parameters, batch):
    cases = range(len(batch.inputs))
    parts = [[None if array is None else array[case] for array in vars(batch).values()] for case in cases]
    own = [{path: array[case] for path, array in parameters.items()} for case in cases]
    return stacked([right(network, one, Batch(*other)) for one, other in zip(own, parts, strict=True)])
