"""JUnit XML of a result, which CI systems show as tests: a suite for each implementation in each dtype, its checks.

The elements and attributes are those of the schema that Jenkins knows as junit-10; GitLab, Azure and the reporters for
GitHub read them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from xml.etree import ElementTree as ET

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.message import coverage_text, finding_text, headline, tally_text, verdict_text
from gradconform.conformance.results import Finding, Result, Tally, Verdict
from gradconform.conformance.untrusted import named, shown
from gradconform.conformance.wrapping import for_a_file

RUN = "gradconform"
"""The name of the suite that stands for the whole run."""
HARNESS: set[Verdict] = {"interrupted", "nothing compared", "not covered", "broken"}
"""Verdicts that are no test's, and not green either."""
Outcome = Literal["failure", "error", "skipped"]


@dataclass
class _Suite:
    """One suite: its cases so far, and how many ended how."""

    name: str
    time: float | None = None
    cases: list[ET.Element] = field(default_factory=list)
    counts: dict[Outcome, int] = field(default_factory=lambda: {"failure": 0, "error": 0, "skipped": 0})
    properties: dict[str, str] = field(default_factory=dict)
    output: str = ""

    def add(self, name: str, outcome: Outcome | None = None, kind: str = "", message: str = "", text: str = "") -> None:
        """Add a case, and how it ended where it did not pass."""
        # Jenkins takes what is before the last full stop for a package
        classname = f"{RUN}.{self.name.replace('.', '_')}" if self.name != RUN else RUN
        case = ET.Element("testcase", name=name, classname=classname)
        if outcome is not None:
            self.counts[outcome] += 1
            told = ET.SubElement(case, outcome, message=message)
            if kind:
                told.set("type", kind)
            told.text = text or None
        self.cases.append(case)

    def element(self) -> ET.Element:
        """Return the suite as XML."""
        element = ET.Element("testsuite", name=self.name, tests=str(len(self.cases)))
        element.attrib |= {**_counted(self.counts), "skipped": str(self.counts["skipped"])}
        if self.time is not None:
            element.set("time", f"{self.time:.3f}")
        properties = ET.SubElement(element, "properties")
        for name, value in self.properties.items():
            ET.SubElement(properties, "property", name=name, value=value)
        element.extend(self.cases)
        if self.output:
            ET.SubElement(element, "system-out").text = self.output
        return element


def junit_report(result: Result) -> bytes:
    """Return the JUnit XML of a result: every check of every implementation in every dtype that was checked.

    What was not compared is skipped. A finding is a failure of its check, with its first line as the message and all of
    it as the text; a run that is green neither way is an error of the suite `gradconform`.
    """
    with for_a_file():
        suites = [_run(result), *_checked(result)]
    root = ET.Element("testsuites", name=RUN, time=f"{result.seconds:.3f}")
    root.set("tests", str(sum(len(suite.cases) for suite in suites)))
    total: dict[Outcome, int] = {"failure": 0, "error": 0}
    for suite in suites:
        for outcome in total:
            total[outcome] += suite.counts[outcome]
    root.attrib |= _counted(total)
    root.extend(suite.element() for suite in suites)
    ET.indent(root, " ")
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _counted(counts: dict[Outcome, int]) -> dict[str, str]:
    return {"failures": str(counts["failure"]), "errors": str(counts["error"])}


def _run(result: Result) -> _Suite:
    """Return the suite of the whole run: its verdict, and what is known of no implementation alone."""
    suite = _Suite(RUN, result.seconds)
    suite.properties = {
        "verdict": result.verdict,
        "seed": str(result.seed),
        "networks": str(result.networks),
        "comparisons": str(result.comparisons),
        **({"command": shown(result.command)} if result.command else {}),
        **{f"version.{named(name)}": named(version) for name, version in result.versions.items()},
    }
    covered = coverage_text(result.coverage)
    notes = [f"note: {shown(note)}" for note in result.notes]
    suite.output = "\n".join([*([f"covered  {shown(covered)}"] if covered else []), *notes])
    last = verdict_text(result)
    first = shown(" ".join(last.split()))
    text = "\n".join([last, *notes])
    if result.verdict in HARNESS:
        suite.add("verdict", "error", result.verdict, first, text)
    elif result.verdict == "failed" and not result.findings:
        # what was expected to fail does not
        suite.add("verdict", "failure", result.verdict, first, text)
    else:
        suite.add("verdict")
    return suite


def _checked(result: Result) -> list[_Suite]:
    """Return the suites of the implementations, each in each of its dtypes."""
    tallies = {(one.name, one.dtype): one for one in result.implementations}
    found: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    for finding in result.findings:
        checks = found.setdefault((finding.implementation, finding.dtype), {})
        checks.setdefault(finding.check, []).append(finding)
    suites = []
    # a pinned case may be of a dtype that was not checked otherwise
    for name, dtype in dict.fromkeys([*tallies, *found]):
        suite = _Suite(f"{named(name)} {named(dtype)}")
        tally, own = tallies.get((name, dtype)), found.get((name, dtype), {})
        if tally is not None:
            _describe(suite, tally)
        why = next(iter(noticed.unsupported), "") if (noticed := result.noticed.get(name)) is not None else ""
        for check in dict.fromkeys((*CHECKS, *own)):
            if check in own:
                _fail(suite, check, own[check])
            elif tally is not None and tally.checks.get(check):
                suite.add(check)
            else:
                suite.add(check, "skipped", message="not compared" + (f": {shown(why)}" if why else ""))
        suites.append(suite)
    return suites


def _describe(suite: _Suite, tally: Tally) -> None:
    suite.output = tally_text(tally)
    if tally.version:
        suite.properties["version"] = named(tally.version)
    suite.properties |= {"networks": str(tally.cases), "comparisons": str(tally.comparisons)}


def _fail(suite: _Suite, check: str, findings: Sequence[Finding]) -> None:
    """Add a check with its findings as one failure: more than one is not read by everybody."""
    first, *others = findings
    more = f" (and {len(others)} more)" if others else ""
    text = "\n\n".join(map(finding_text, findings))
    suite.add(named(check), "failure", named(first.kind), f"{headline(first)}{more}", text)
