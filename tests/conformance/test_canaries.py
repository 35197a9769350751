"""The canaries: what is planted in every run is found, and a harness that misses it is called broken."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import gradconform as gc
from gradconform.conformance import compare, guard
from gradconform.conformance.canaries import CALL, CANARIES, proved
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.cli import main
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.plan import Plan, choose_checks, network_strategy
from gradconform.reference.backpropagation import gradients

SMALL = "3 -> Dense(2) -> Tanh -> Dense(2), MeanSquaredError"
ALL = list(CHECKS.values())


def small(implementation=None, **more):
    plan = Plan([implementation or reference()], 2, networks=network_strategy(SMALL), dtypes=["float64"], **more)
    return run(replace(plan, witnesses=False, shrink_seconds=0))


@pytest.fixture
def blind(monkeypatch):
    """Let every comparison pass."""
    monkeypatch.setattr(compare, "ratios", lambda expected, array: np.zeros(np.shape(array)))


def test_every_canary_is_caught_by_each_of_its_checks():
    assert {(canary.fault, *canary.missed(ALL)) for canary in CANARIES} == {(canary.fault,) for canary in CANARIES}


def test_what_found_which_canary_is_told():
    canaries = proved(small(), choose_checks(["parameters", "deltas"], [])).canaries
    assert canaries.missed == []
    assert canaries.found == [
        *("bias-mean: parameters", "weight-not-transposed: deltas"),
        *("aliased-result: call", "nan: parameters", "one-element: parameters"),
    ]


def test_every_check_has_a_canary():
    assert {check for canary in CANARIES for check in canary.by} == {*CHECKS, CALL}


def test_no_canary_is_caught_where_nothing_is_wrong(monkeypatch):
    right = {canary.fault: FAULTS[canary.fault] for canary in CANARIES}
    for name in right:
        monkeypatch.setitem(FAULTS, name, canaries_of(gradients))
    assert all(canary.missed(ALL) == list(order(canary.by)) for canary in CANARIES)


def canaries_of(function):
    class Harmless:
        sentence = "nothing is wrong"

        @staticmethod
        def implementation():
            return Implementation("harmless", function)

    return Harmless


def order(names):
    return [name for name in (*CHECKS, CALL) if name in names]


def test_a_run_says_which_planted_faults_proved_it():
    result = gc.check("reference", networks=SMALL, max_examples=2)
    assert result.passed
    assert result.canaries.planted == [canary.fault for canary in CANARIES]
    assert result.canaries.missed == []
    assert "canar" not in str(result)
    assert json.loads(result.to_json())["canaries"]["planted"][0] == "bias-mean"


def test_only_what_the_checks_of_the_run_can_find_is_planted():
    result = gc.check("reference", networks=SMALL, max_examples=2, only=["outputs", "stateless"])
    assert result.canaries.planted == ["forward-transposed", "stale-activations", "aliased-result"]


def test_a_plan_alone_proves_nothing_so_that_items_of_pytest_do_not_repeat_it():
    assert small().canaries is None


def test_what_compared_nothing_and_what_was_ended_are_left_as_they_are():
    def none(*arguments):
        raise NotImplementedError

    result = gc.check(none, networks=SMALL, max_examples=2)
    assert (result.verdict, result.canaries) == ("nothing compared", None)

    def stopped(done, total):
        raise KeyboardInterrupt

    ended = proved(small(progress=stopped), ALL)
    assert (ended.verdict, ended.canaries) == ("interrupted", None)


def test_comparisons_that_all_pass_are_a_broken_harness(blind):
    result = gc.check("reference", networks=SMALL, max_examples=2)
    assert (result.verdict, result.exit_code, result.passed) == ("broken", 3, False)
    assert "bias-mean: parameters" in result.canaries.missed
    assert "one-element: parameters" in result.canaries.missed
    told = str(result)
    assert "BROKEN  the checks miss planted faults, so that nothing they say can be trusted" in told
    assert f"planted fault bias-mean ({FAULTS['bias-mean'].sentence})" in " ".join(told.split())
    assert "gradconform doctor" in told


def test_bounds_that_are_infinite_are_a_broken_harness(monkeypatch):
    monkeypatch.setattr(compare, "allowance", lambda expected: np.inf)
    result = proved(small(), ALL)
    assert result.verdict == "broken"
    assert "nan: parameters" not in result.canaries.missed
    assert "one-element: parameters" in result.canaries.missed


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_that_compares_nothing_is_a_broken_harness(monkeypatch, check):
    monkeypatch.setitem(vars(CHECKS[check]), "run", lambda subject: [])
    result = proved(small(), ALL)
    assert result.verdict == "broken"
    assert {missed.partition(": ")[2] for missed in result.canaries.missed} == {check}


def test_bounds_that_are_infinite_end_the_command_line_with_exit_code_3(monkeypatch, capsys):
    monkeypatch.setattr(compare, "allowance", lambda expected: np.inf)
    with pytest.raises(SystemExit) as ended:
        main(["check", "reference", "--network", SMALL, "--max-examples", "2", "--seed", "1"])
    assert ended.value.code == 3
    assert "planted fault one-element" in capsys.readouterr().out


def test_a_guard_that_lets_memory_be_shared_is_a_broken_harness(monkeypatch):
    monkeypatch.setattr(guard.Guard, "_unshared", lambda *arguments: None)
    result = proved(small(), choose_checks(["loss"], []))
    assert (result.verdict, result.canaries.missed) == ("broken", ["aliased-result: call"])


def test_relations_that_cannot_fail_are_a_broken_harness(monkeypatch):
    # imported here, the module would register its checks before those that are closer to the cause
    silent = "gradconform.conformance.relations.compare_values"
    monkeypatch.setattr(silent, lambda check, path, *given: compare.Comparison(check, path))
    missed = {entry.partition(": ")[2] for entry in proved(small(), ALL).canaries.missed}
    assert missed == {check.id for check in ALL if check.relation}


def test_a_broken_harness_says_so_whatever_was_found(blind):
    # a finding of a broken harness is worth no more than its silence
    def flat(network, parameters, batch):
        return {path: np.zeros(3) for path in parameters}

    result = proved(small(Implementation("flat", flat)), ALL)
    assert result.findings
    assert (result.verdict, result.exit_code) == ("broken", 3)


def test_what_a_candidate_does_to_numpy_is_noticed(monkeypatch):
    def vandal(network, parameters, batch):
        monkeypatch.setattr(np, "abs", np.zeros_like)
        return dict(gradients(network, parameters, batch).parameters)

    assert gc.check(vandal, networks=SMALL, max_examples=2).verdict == "broken"


def test_the_command_line_ends_with_exit_code_3(blind, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", "reference", "--network", SMALL, "--max-examples", "2", "--seed", "1"])
    assert ended.value.code == 3
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("BROKEN  the checks miss planted faults")]


def test_training_is_proved_as_well(blind, capsys, tmp_path):
    data = tmp_path / "points.csv"
    data.write_text("x,y\n1,2.5\n2,3.25\n4,1.5\n", "utf-8")
    network = "1 -> Dense(2) -> Dense(1), MeanSquaredError"
    with pytest.raises(SystemExit) as ended:
        main(["check", "reference", "--data", str(data), "--network", network, "--steps", "2", "--seed", "1"])
    assert ended.value.code == 3
    assert "BROKEN" in capsys.readouterr().out
