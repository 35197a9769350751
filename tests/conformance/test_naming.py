"""No planted fault is called what it is not: every one by its name, or by none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradconform.conformance.diagnosis import UNNAMED
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.killing import naming, plan_for

NOT_TOLD = {
    "bias-down-rows",
    "crash-on-one-sample",
    "in-place-delta",
    "mask-of-layer-below",
}
"""The mistakes that are not told by what they compute on networks that are not made small."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_called_by_its_name_or_by_none(name):
    fault = FAULTS[name]
    (finding,) = run(replace(plan_for(fault), shrink_seconds=0)).findings
    expected = "unknown" if fault.held_out or name in NOT_TOLD else "right"
    assert (naming(fault, finding), finding.symptom) == (expected, finding.symptom)
    # what has no name is told to be unknown, unless the failure itself says what is wrong
    assert (finding.symptom == "") == (finding.likely in {"", UNNAMED.likely})
