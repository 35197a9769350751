"""One bug is one finding: what a named mistake explains belongs to the finding that names it."""

import pytest

from gradconform.conformance import bugs, record
from gradconform.conformance.diagnosis import UNKNOWN, Diagnosis
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.reference.backpropagation import gradients

NAMED = Diagnosis("derivative-missing", "the derivative is left out")

ACTIVATIONS = ("Tanh", "Sigmoid", "ELU", "Softplus", "GELU", "SiLU")
SEVERAL = [f"* -> Dense(*) -> {layer}, MeanSquaredError" for layer in ACTIVATIONS]


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    """Leave every failure undiagnosed: what the diagnoses are is tested with them."""
    monkeypatch.setattr(record, "diagnose", lambda failure, plan: UNKNOWN)
    monkeypatch.setattr(bugs, "explains", lambda diagnosis, failure: False)


@pytest.fixture
def named(monkeypatch):
    """Diagnose every failure as one mistake, which explains all wrong deltas."""
    asked = []

    def name(failure, plan):
        asked.append((failure.case.network, plan))
        return NAMED

    monkeypatch.setattr(record, "diagnose", name)
    monkeypatch.setattr(bugs, "explains", lambda diagnosis, failure: failure.root.check == "deltas")
    return asked


def checked(fault="derivative-missing", max_examples=40, **more):
    options = {"seed": 2, "witnesses": False, "dtypes": ["float64"], "networks": network_strategy(SEVERAL), **more}
    return run(Plan([FAULTS[fault].implementation()], max_examples, **options))


def test_without_a_diagnosis_every_activation_is_a_finding_of_its_own():
    assert len(checked(shrink_seconds=0).findings) > 3


def test_what_a_diagnosis_explains_is_counted_with_it(named):
    apart = {}
    for finding in checked(max_examples=60, shrink_seconds=0).findings:
        apart[finding.key] = finding.failing_cases
    (finding,) = checked(max_examples=60).findings
    assert (finding.symptom, finding.likely) == ("derivative-missing", "the derivative is left out")
    assert finding.failing_cases == sum(apart.values())
    own = finding.network.layers[-1]
    assert type(own).__name__ not in finding.also
    assert {"GELU", "SiLU", "Sigmoid", "Tanh"} <= {*finding.also, type(own).__name__}
    assert f"\n  also in              {finding.also[0]}, " in finding_text(finding)
    # diagnosed once, on its smallest case
    assert [len(network.layers) for network, _ in named][-1] == 2


def test_what_a_diagnosis_does_not_explain_stays_a_finding(named, monkeypatch):
    monkeypatch.setattr(bugs, "explains", lambda diagnosis, failure: False)
    assert len(checked(shrink_seconds=0.5).findings) > 3


def test_what_was_seen_before_its_explanation_is_merged_in_the_end(monkeypatch):
    # the first failure stays unknown; the second, when it is small, explains all others
    named = iter([UNKNOWN])
    monkeypatch.setattr(record, "diagnose", lambda failure, plan: next(named, NAMED))
    monkeypatch.setattr(bugs, "explains", lambda diagnosis, failure: diagnosis is NAMED)
    (finding,) = checked(shrink_seconds=0.5).findings
    assert (finding.symptom, len(finding.also) > 2) == ("derivative-missing", True)


def test_the_line_of_a_failure_that_is_explained_is_not_told(named):
    lines = []
    checked(notify=lines.append)
    assert len(lines) == 1


def test_one_implementation_does_not_explain_another(monkeypatch):
    monkeypatch.setattr(record, "diagnose", lambda failure, plan: NAMED)
    monkeypatch.setattr(bugs, "explains", lambda diagnosis, failure: True)
    several = [FAULTS[fault].implementation() for fault in ("bias-mean", "bias-missing")]
    result = run(Plan(several, 20, seed=2, witnesses=False, dtypes=["float64"], shrink_seconds=0))
    assert [finding.implementation for finding in result.findings] == ["bias-mean", "bias-missing"]


def test_as_many_findings_as_are_wanted():
    result = checked(max_findings=1)
    assert (len(result.findings), result.networks < 40) == (1, True)
    assert len(checked(max_findings=3, shrink_seconds=0).findings) == 3
    assert checked("bias-mean", max_findings=3, shrink_seconds=0).networks == 40


def test_the_first_failure_is_small_and_told_before_the_run_goes_on():
    events = []
    plan = Plan([FAULTS["bias-mean"].implementation()], 20, seed=2, witnesses=False, dtypes=["float64"])
    plan.notify, plan.found = events.append, events.append
    plan.progress = lambda done, total: events.append(done)
    (finding,) = run(plan).findings
    line, told = (event for event in events if not isinstance(event, int))
    assert line.startswith("first failing case, being made smaller: bias-mean   ")
    assert (told.id, told.notation, told.rows, told.case) == (finding.id, finding.notation, finding.rows, finding.case)
    assert events.index(told) == events.index(line) + 1
    assert events[-1] == 20


def test_another_failure_is_told_as_such_and_small_in_the_end():
    lines, found = [], []
    findings = checked(notify=lines.append, found=found.append, networks=network_strategy(SEVERAL[:2])).findings
    assert [line.partition(":")[0] for line in lines] == [
        "first failing case, being made smaller",
        "another failure, to be made smaller in the end",
    ]
    assert [told.id for told in found] == [finding.id for finding in findings]
    assert all(finding.numbers == "small integers" for finding in findings)


def test_what_another_check_breaks_is_not_told_beside_a_wrong_value():
    lines = []
    checked("bias-mean", notify=lines.append)
    assert len(lines) == 1


def test_gradients_of_the_reference_have_no_bug():
    from gradconform.conformance.implementations import Implementation

    assert run(Plan([Implementation("right", gradients)], 8, seed=2, witnesses=False)).findings == []


def test_what_has_no_name_and_is_met_in_the_same_case_is_one_finding(monkeypatch):
    # weights and biases of a layer whose delta is wrong in a way that nobody knows
    monkeypatch.setattr(record, "diagnose", lambda failure, plan: UNKNOWN)
    (finding,) = checked("delta-offset", shrink_seconds=0.5).findings
    apart = checked("delta-offset", shrink_seconds=0.5, diagnose=False).findings
    assert finding.failing_cases == sum(one.failing_cases for one in apart)
