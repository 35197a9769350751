"""Naming the bug: which mistake explains everything that a candidate computed, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradconform.conformance.findings import Failure
    from gradconform.conformance.plan import Plan


@dataclass(frozen=True)
class Diagnosis:
    """What is known of the cause of a failure.

    `symptom`: the id of the mistake, of several at once with ` + ` between them; empty where none explains what was
    computed. `likely` says what it is and what to do, `mend` which line, `evidence` what it rests on; `facts` are what
    is known of the pattern of the error, whatever its cause.
    """

    symptom: str = ""
    likely: str = ""
    mend: str = ""
    evidence: str = ""
    facts: tuple[str, ...] = ()


UNKNOWN = Diagnosis()


def diagnose(failure: Failure, plan: Plan) -> Diagnosis:  # noqa: ARG001 - what it will go by
    """Return what is known of the cause of a failure in its smallest case."""
    return UNKNOWN


def explains(diagnosis: Diagnosis, failure: Failure) -> bool:  # noqa: ARG001 - what it will go by
    """Return whether the mistake that was named explains another failure of the same implementation too."""
    return False
