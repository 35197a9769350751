"""Naming the bug: which mistake explains everything that a candidate computed, and what to do about it.

What says itself what is wrong (a shape, a name, a call that crashed) gets its advice; memory of earlier calls is told
by calling in turn; everything else is a theory (`gradconform.conformance.theories`) that explains the failing case and
fresh ones like it. Where none does, nothing is named, and what is known of the pattern is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gradconform.conformance.advice import advice
from gradconform.conformance.compare import Kind
from gradconform.conformance.fresh import (
    Evidence,
    cases_like,
    evidence_of,
    failing_first,
    filled_like,
    networks_like,
)
from gradconform.conformance.judge import UNSTEADY
from gradconform.conformance.memory import remembered
from gradconform.conformance.patterns import known, located
from gradconform.conformance.plan import GivenNetworks
from gradconform.conformance.situation import Situation
from gradconform.conformance.theories import Answer, Search, Theory, asked
from gradconform.network import Network
from gradconform.templates import parse_template

if TYPE_CHECKING:
    from gradconform.conformance.findings import Failure
    from gradconform.conformance.plan import Plan

TRIED = 7000
"""So many theories of several mistakes at once are looked at, where no single one explains what is wrong: the number,
and not the time, so that the same failure has the same name on a slow machine."""
AND, OR = "; and ", "; or: "
"""What stands between several mistakes, and between what cannot be told apart."""
COUNTS = {2: "two", 3: "three"}
ALTERNATIVES = 2
"""So many explanations that cannot be told apart are told."""
SLACK = 1
"""An explanation that claims so much more than another is told beside it."""
NAMED = {Kind.WRONG, Kind.NONFINITE}
"""What may come of a wrong formula. The other kinds say themselves what is wrong."""


@dataclass(frozen=True)
class Diagnosis:
    """What is known of the cause of a failure.

    `symptom`: the id of the mistake, of several at once with ` + ` between them, and of several that cannot be told
    apart with ` or `; empty where none explains what was computed. `likely` says what it is and what to do, `mend`
    which line, `evidence` what it rests on; `facts` are what is known of the pattern of the error, whatever its cause.
    """

    symptom: str = ""
    likely: str = ""
    mend: str = ""
    evidence: str = ""
    facts: tuple[str, ...] = ()
    theory: Theory | None = field(default=None, compare=False)


UNKNOWN = Diagnosis()
UNNAMED = Diagnosis(
    likely="unknown: no mistake that has a name gives these numbers, nor do combinations of two or three"
)


def diagnose(failure: Failure, plan: Plan) -> Diagnosis:
    """Return what is known of the cause of a failure; the implementation is asked for fresh cases."""
    kind, implementation = failure.root.kind, failure.implementation
    bodies = bodies_of(plan, failure)
    own = plan.networks is None
    if kind in UNSTEADY:
        return _named(*(remembered(implementation, failure.case, own=own) or advice(failure, bodies)))
    if kind not in NAMED:
        return _named(*advice(failure, bodies))
    evidence = gather(failure, bodies)
    if not any(entry.fails for entry in evidence):
        told = remembered(implementation, failure.case, own=own)
        return UNKNOWN if told is None else _named(*told)
    search = Search(evidence, TRIED)
    diagnosis = concluded(search.single(), evidence)
    if diagnosis.symptom:
        return diagnosis
    # what depends on earlier calls is none of several mistakes, which it may look like
    told = remembered(implementation, failure.case, own=own)
    if told is None:
        diagnosis = concluded(search.several(), evidence)
        told = None if diagnosis.symptom else located(evidence)
    if diagnosis.symptom:
        return diagnosis
    diagnosis = UNNAMED if told is None else _named(*told)
    return replace(diagnosis, facts=known(evidence, failure.root, failure.judgement.comparisons))


def bodies_of(plan: Plan, failure: Failure) -> list[Network]:
    """Return other networks than the failing one that show the same, of those that may be drawn."""
    given, network = plan.networks, failure.case.network
    if isinstance(given, GivenNetworks):
        return [filled for template in given.templates if template.fits(network) for filled in filled_like(template)]
    templates = [parse_template(text) for text in failure.implementation.capabilities.networks]
    if templates:
        return [filled for template in templates if template.fits(network) for filled in filled_like(template)]
    return list(networks_like(network)) if given is None else []


def gather(failure: Failure, bodies: Sequence[Network]) -> list[Evidence]:
    """Return what the implementation gives in the failing case and in fresh ones, most telling first.

    bodies: other networks that fresh cases may be of.
    """
    implementation = failure.implementation
    regime = None if failure.origin is None else failure.origin.draw.regime
    fresh = cases_like(failure.case, implementation.capabilities, regime, bodies)
    found = [evidence_of(implementation, failure.situation, fresh=False)]
    found += [evidence_of(implementation, Situation(case)) for case in fresh]
    return failing_first([entry for entry in found if entry is not None])


def concluded(found: Sequence[Theory], evidence: Sequence[Evidence]) -> Diagnosis:
    """Return the diagnosis of the theories that remain."""
    if not found:
        return UNKNOWN
    symptoms = {theory.symptom for theory in found}
    found = [theory for theory in found if not any(less in symptoms for less in theory.implied)]
    least = min(theory.claims for theory in found)
    found = [theory for theory in found if theory.claims <= least + SLACK]
    if len(found) > ALTERNATIVES:
        return UNKNOWN
    mends = dict.fromkeys(AND.join(one.mend for one in theory.mistakes if one.mend) for theory in found)
    failing = sum(entry.fails for entry in evidence)
    others = len(evidence) - failing
    right = (
        f" and {'the one' if others == 1 else f'all {others}'} that {'does' if others == 1 else 'do'} not"
        if others
        else ""
    )
    cases = f"all {failing} cases that fail{right}" if failing > 1 else f"the one case that fails{right}"
    one = all(len(theory.mistakes) == 1 for theory in found)
    what = "this mistake" if one else "these mistakes together"
    return Diagnosis(
        symptom=" or ".join(theory.symptom for theory in found),
        likely=OR.join(said(theory, evidence[0]) for theory in found),
        mend=OR.join(mends),
        evidence=f"putting {what} into the reference reproduces your numbers, within rounding, in {cases}",
        theory=found[0],
    )


def said(theory: Theory, evidence: Evidence) -> str:
    """Return the sentence of a theory."""
    kinds = dict.fromkeys(type(layer) for layer in evidence.case.network.layers)
    sentences = []
    for mistake in theory.mistakes:
        about = [kind.__name__ for kind in kinds if kind in mistake.kinds]
        where = mistake.scope or (f" of {' and '.join(about)}" if about else "")
        sentences.append(mistake.likely.replace("{where}", where))
    if len(sentences) == 1:
        return sentences[0]
    numbered = AND.join(f"({number}) {sentence}" for number, sentence in enumerate(sentences, 1))
    return f"{COUNTS[len(sentences)]} mistakes at once: {numbered}"


def explains(diagnosis: Diagnosis, failure: Failure) -> bool:
    """Return whether what was diagnosed earlier is the cause of another failure of the same implementation too."""
    if diagnosis.theory is None:
        return False
    evidence = evidence_of(failure.implementation, failure.situation, fresh=False)
    return evidence is not None and asked(diagnosis.theory, evidence) is Answer.EXPLAINED


def _named(symptom: str, likely: str, mend: str = "", evidence: str = "") -> Diagnosis:
    return Diagnosis(symptom, likely, mend, evidence)
