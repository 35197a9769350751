"""JUnit XML: as CI systems read it, and nothing of a run lost or made green on the way."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.message import finding_text, headline, tally_text
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.report_junit import junit_report
from gradconform.conformance.results import Canaries

TEXT = ({"message", "type"}, set(), set())
SCHEMA = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"name", "tests", "failures", "errors"},
        {"properties", "testcase", "system-out"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"name"}, {"skipped", "error", "failure"}),
    **dict.fromkeys(("skipped", "error", "failure"), TEXT),
    "system-out": (set(), set(), set()),
}
"""Of each element the attributes that it may have, those that it must have, and its children: junit-10, of Jenkins."""


def read(content):
    """Return the root of JUnit XML; asserts that it obeys the schema and that all its counts are right."""
    root = ET.fromstring(content)
    assert root.tag == "testsuites"
    for element in root.iter():
        allowed, required, children = SCHEMA[element.tag]
        assert required <= set(element.keys()) <= allowed | required, element.tag
        assert {child.tag for child in element} <= children, element.tag
    for outcome, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        for suite in root:
            assert int(suite.get(name)) == len(suite.findall(f"testcase/{outcome}"))
            assert int(suite.get("tests")) == len(suite.findall("testcase"))
        assert name == "skipped" or int(root.get(name)) == sum(int(suite.get(name)) for suite in root)
    assert int(root.get("tests")) == len(root.findall("testsuite/testcase"))
    assert all(len(case) <= 1 for case in root.iter("testcase"))
    return root


@pytest.fixture(scope="module")
def result():
    """Return the result of a right, a wrong, and a refusing implementation."""

    def refuses(*case):
        raise NotImplementedError("no network at all")

    return run(
        Plan(
            [reference(), FAULTS["bias-mean"].implementation(), Implementation("refuses", refuses)],
            max_examples=6,
            seed=1,
            networks=network_strategy("2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"),
            dtypes=("float64",),
            witnesses=False,
            shrink_seconds=0,
            command="gradconform check --seed 1",
        )
    )


def changed(result, **fields):
    return msgspec.structs.replace(result, **fields)


def suite(root, name):
    return root.find(f"testsuite[@name='{name}']")


def test_a_suite_for_each_implementation_and_a_case_for_each_check(result):
    root = read(junit_report(result))
    assert [one.get("name") for one in root] == [
        "gradconform", "reference float64", "bias-mean float64", "refuses float64",
    ]  # fmt: skip
    for one in root[1:]:
        assert [case.get("name") for case in one.iter("testcase")] == list(CHECKS)
        assert {case.get("classname") for case in one.iter("testcase")} == {f"gradconform.{one.get('name')}"}
    assert suite(root, "reference float64").findtext("system-out") == tally_text(result.implementations[0])
    skipped = {case.get("name") for case in suite(root, "reference float64").findall("testcase[skipped]")}
    assert skipped == CHECKS.keys() - result.implementations[0].checks.keys()
    assert suite(root, "reference float64").find("testcase[failure]") is None


def test_a_finding_is_the_failure_of_its_check(result):
    (finding,) = result.findings
    (failure,) = read(junit_report(result)).iter("failure")
    (case,) = suite(read(junit_report(result)), "bias-mean float64").findall("testcase[failure]")
    assert case.get("name") == finding.check
    assert (failure.get("message"), failure.get("type")) == (headline(finding), "WRONG")
    assert failure.text == finding_text(finding)


def test_it_can_be_read_whatever_is_in_the_texts_of_a_file_of_json(result):
    (finding,) = result.findings
    texts = {name: value for name, value in msgspec.structs.asdict(finding).items() if isinstance(value, str)}
    nasty = {name: f"{value}\x1b[31m\0 ##[error]" for name, value in texts.items() if name not in {"kind", "look"}}
    content = junit_report(changed(result, findings=[changed(finding, **nasty)]))
    read(content)
    assert "likely bias-mean\\x1b[31m\\x00 #\\x23[error]" in content.decode()
    assert "##[" not in content.decode()


def test_findings_of_one_check_are_one_failure_with_all_of_their_texts(result):
    (finding,) = result.findings
    other = changed(finding, id="0", sentence="2.bias is wrong too")
    (failure,) = read(junit_report(changed(result, findings=[finding, other]))).iter("failure")
    assert failure.get("message") == f"{headline(finding)} (and 1 more)"
    assert failure.text == f"{finding_text(finding)}\n\n{finding_text(other)}"


def test_what_was_not_compared_is_skipped_and_not_passed(result):
    refused = suite(read(junit_report(result)), "refuses float64")
    assert refused.get("skipped") == refused.get("tests")
    assert {one.get("message") for one in refused.iter("skipped")} == {"not compared: no network at all"}


def test_a_finding_of_what_was_not_counted_has_a_suite_too(result):
    (finding,) = result.findings
    pinned = changed(finding, implementation="other", check="call", dtype="float32")
    own = suite(read(junit_report(changed(result, findings=[pinned]))), "other float32")
    assert [case.get("name") for case in own.findall("testcase[failure]")] == ["call"]


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        ("passed", None),
        ("failed", "failure"),
        ("interrupted", "error"),
        ("nothing compared", "error"),
        ("not covered", "error"),
        ("broken", "error"),
    ],
)
def test_what_is_not_green_is_red_whatever_its_checks_say(result, verdict, outcome):
    canaries = Canaries(["bias-mean"], ["bias-mean: parameters"])
    root = read(
        junit_report(changed(result, verdict=verdict, findings=[], implementations=[], canaries=canaries, notes=["so"]))
    )
    (case,) = root.iter("testcase")
    assert [child.tag for child in case] == [outcome][: outcome is not None]
    if outcome is not None:
        assert case[0].get("message").startswith(verdict.upper())
        assert case[0].text.endswith("\nnote: so")


def test_seed_versions_and_amounts_are_properties(result):
    root = read(junit_report(result))
    told = {one.get("name"): one.get("value") for one in suite(root, "gradconform").iter("property")}
    assert told["seed"] == "1"
    assert told["command"] == "gradconform check --seed 1"
    assert told["comparisons"] == str(result.comparisons)
    assert told["version.numpy"] == result.versions["numpy"]
    assert float(root.get("time")) == result.seconds
    own = {one.get("name"): one.get("value") for one in suite(root, "reference float64").iter("property")}
    assert own["version"] == result.implementations[0].version


def test_it_does_not_depend_on_the_terminal(result, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    wide = junit_report(result)
    monkeypatch.setenv("COLUMNS", "40")
    assert junit_report(result) == wide
