"""Which findings of a run's parts are the same bug, and what the one finding says that stands for them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Kind
from gradconform.conformance.judge import UNSTEADY
from gradconform.conformance.results import Finding

OTHERS = re.compile(r"^(?P<what>.*) \(0 of (?P<cases>\d+) (?P<others>.*)\)$")
"""How a finding says outside of which condition it was never seen."""


@dataclass
class _Bug:
    """The findings that are one bug; the first one stands for them."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        return {key for finding in self.findings for key in finding.keys}


def joined(findings: Sequence[Finding]) -> list[Finding]:
    """Return one finding for each bug, in an order that depends on nothing but what they are.

    Of an implementation, findings are one bug that have the same name; one without a name belongs to a bug with a key
    of its own, or else to one without a name whose failure fails in its case too. Each is told on its smallest case.
    """
    bugs: list[_Bug] = []
    for name in sorted({finding.implementation for finding in findings}):
        bugs += _bugs([finding for finding in findings if finding.implementation == name])
    return [_told(bug.findings) for bug in bugs]


def _bugs(findings: Sequence[Finding]) -> list[_Bug]:
    """Return the bugs of one implementation."""
    nearest = min(map(_rank, findings))
    # smallest cases first: by them the rest is recognised, in whatever order the parts come
    ordered = sorted((finding for finding in findings if _rank(finding) == nearest), key=_size)
    named: dict[str, _Bug] = {}
    for finding in ordered:
        if finding.symptom:
            named.setdefault(finding.symptom, _Bug()).findings.append(finding)
    bugs = list(named.values())
    for finding in ordered:
        if not finding.symptom:
            bug = _own(bugs, finding)
            if bug is None:
                bug = _Bug()
                bugs.append(bug)
            bug.findings.append(finding)
    return bugs


def _own(bugs: Iterable[_Bug], finding: Finding) -> _Bug | None:
    """Return the bug that a finding without a name belongs to."""
    for bug in bugs:
        if bug.keys & set(finding.keys):
            return bug
    for bug in bugs:
        first = bug.findings[0]
        if not first.symptom and first.keys[:1] and first.keys[0] in finding.failing:
            return bug
    return None


def _rank(finding: Finding) -> int:
    """Return how far a finding is from its cause: as in one run, only the nearest are told."""
    if Kind[finding.kind] in UNSTEADY:
        return 0
    check = CHECKS.get(finding.check)
    return 2 if check is not None and check.relation else 1


def _size(finding: Finding) -> tuple[bool, bool, int, int, str, str]:
    """Return what findings of one bug are ordered by: the one that is told comes first."""
    numbers = finding.rows * finding.network.inputs
    numbers += sum(map(math.prod, finding.network.parameters().values()))
    return not finding.symptom, not finding.file, len(finding.network.layers), numbers, finding.notation, finding.id


def _told(findings: Sequence[Finding]) -> Finding:
    """Return the finding of a bug: the smallest one, with what all of them say."""
    first = findings[0]
    if len(findings) == 1:
        return first
    return msgspec.structs.replace(
        first,
        failing_cases=sum(finding.failing_cases for finding in findings),
        keys=list(dict.fromkeys(key for finding in findings for key in finding.keys)),
        also=list(dict.fromkeys(place for finding in findings for place in finding.also)),
        only_where=_conditions(findings),
        does_not_matter=[
            what for what in first.does_not_matter if all(what in finding.does_not_matter for finding in findings)
        ],
    )


def _conditions(findings: Sequence[Finding]) -> list[str]:
    """Return the conditions of which every part says that outside of them it was never seen, with all cases counted."""
    several = [
        {found["what"]: found for text in finding.only_where if (found := OTHERS.match(text)) is not None}
        for finding in findings
    ]
    return [
        f"{what} (0 of {sum(int(own[what]['cases']) for own in several)} {found['others']})"
        for what, found in several[0].items()
        if all(what in own for own in several)
    ]
