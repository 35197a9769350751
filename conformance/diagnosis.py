"""Naming the bug: which mistake explains everything that a candidate computed, and what to do about it.

A mistake is made in the reference (`gradconform.conformance.mistake`), for the failing case and for fresh ones like it.
It is named only where it explains all that the candidate gave in all of them, what is wrong and what is right, within
rounding. Where no single mistake does, two and three at once are tried; where none do, nothing is named.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradconform.case import Array
from gradconform.conformance import (
    mistakes_activation,
    mistakes_linear,
    mistakes_loss,
    mistakes_numbers,
    mistakes_scale,
)
from gradconform.conformance.compare import Kind
from gradconform.conformance.fresh import Evidence, cases_like, evidence_of, failing_first
from gradconform.conformance.mistake import Mistake, bounded, plain, scoped
from gradconform.conformance.situation import Situation
from gradconform.reference.losses import fused

if TYPE_CHECKING:
    from gradconform.conformance.findings import Failure
    from gradconform.conformance.plan import Plan

MOST = 3
"""So many mistakes at once are told apart."""
BEAM = 10
"""So many incomplete explanations are followed further."""
SECONDS = 4.0
"""How long mistakes are looked for, all in all."""
LEFT = 1e-2
"""What a quick look may leave of an error that is explained: the bounds decide."""
SHARP = 1e-3
"""A bound explains an error that is so much larger."""


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


@cache
def table() -> tuple[Mistake, ...]:
    """Return all mistakes that are known, without those whose numbers are read off a case."""
    modules = (mistakes_loss, mistakes_scale, mistakes_linear, mistakes_activation, mistakes_numbers)
    return tuple(mistake for module in modules for mistake in module.table())


@dataclass(frozen=True, eq=False)
class Theory:
    """What somebody may have done: mistakes, in order, and whether a softmax and its cross entropy are done as one."""

    mistakes: tuple[Mistake, ...]
    fuse: bool = False

    @property
    def symptom(self) -> str:
        """The ids of the mistakes."""
        return " + ".join(dict.fromkeys(mistake.id for mistake in self.mistakes))

    @property
    def claims(self) -> int:
        """How much is claimed."""
        return sum(mistake.claims for mistake in self.mistakes)

    @property
    def inexact(self) -> bool:
        """Whether what it gives depends on how it is rounded."""
        return any(mistake.inexact for mistake in self.mistakes)

    @property
    def plausible(self) -> bool:
        """Whether all are different mistakes, of which one alone has a rounding of its own."""
        ids = [mistake.id for mistake in self.mistakes]
        return len(set(ids)) == len(ids) and not self.inexact

    def with_another(self, mistake: Mistake) -> Theory:
        """Return the theory that this mistake was made as well."""
        return Theory((*self.mistakes, mistake), self.fuse)


def explained(theory: Theory, evidence: Evidence) -> Array:
    """Return of each array that a candidate gave whether a quick look finds it explained."""
    try:
        found = plain(
            theory.mistakes, evidence.case, evidence.case.dtype if theory.inexact else np.float64, fuse=theory.fuse
        )
        predicted = evidence.vector(found)
    except Exception:  # mistakes that do not fit the shapes of this case, or not each other
        return np.zeros(len(evidence.names), bool)
    if predicted.shape != evidence.given.shape:
        return np.zeros(len(evidence.names), bool)
    with np.errstate(all="ignore"):
        room = LEFT * np.where(np.isfinite(evidence.off), evidence.off, 0) + 100 * evidence.bound
        near = np.abs(evidence.given - predicted) <= room
        near |= ~np.isfinite(evidence.given) & ~np.isfinite(predicted)
        near |= ~np.isfinite(evidence.bound) & ~evidence.wrong
    return np.array([bool(part.all()) for _, part in evidence.by_name(near)])


def accounts_for(theory: Theory, evidence: Evidence) -> bool:
    """Return whether a theory explains, within rounding, all that a candidate gave in a case."""
    try:
        if theory.inexact:
            return _explains_inexactly(theory, evidence)
        arithmetic = evidence.implementation.arithmetic
        found = bounded(theory.mistakes, evidence.case, arithmetic, fuse=theory.fuse)
        ratio = evidence.ratio_of(found)
    except Exception:  # as above
        return False
    with np.errstate(all="ignore"):
        # a bound that is as large as the error itself would explain anything
        blunt = evidence.wrong & ~(evidence.bound_of(found) <= SHARP * evidence.off)
    return bool((ratio <= 1).all() and not _many(blunt, evidence.wrong))


def _many(some: Array, of: Array) -> bool:
    return bool(np.count_nonzero(some) > np.count_nonzero(of) // 4)


def _explains_inexactly(theory: Theory, evidence: Evidence) -> bool:
    predicted = evidence.vector(plain(theory.mistakes, evidence.case, evidence.case.dtype, fuse=theory.fuse))
    lost = ~np.isfinite(evidence.given)
    with np.errstate(all="ignore"):
        room = SHARP * np.where(np.isfinite(evidence.off), evidence.off, 0) + evidence.bound
        near = (np.abs(evidence.given - predicted) <= room) | ~(np.isfinite(evidence.bound) | evidence.wrong)
    return bool(np.array_equal(lost, ~np.isfinite(predicted)) and near[~lost].all())


@dataclass
class Search:
    """The search for the theories that explain all the evidence, most telling evidence first."""

    evidence: Sequence[Evidence]
    until: float

    def theories(self) -> list[Theory]:
        """Return the theories with the fewest mistakes that account for everything, of each symptom the least."""
        singles = list(self._singles())
        scores = [(self._score(theory), theory) for theory in singles]
        found = self._confirmed(theory for score, theory in scores if score is None)
        if found:
            return found
        network = self.evidence[0].case.network
        narrowed = [
            replace(theory, mistakes=(narrow,)) for theory in singles for narrow in scoped(theory.mistakes[0], network)
        ]
        more = [(self._score(theory), theory) for theory in narrowed]
        found = self._confirmed(theory for score, theory in more if score is None)
        if found:
            return found
        beam = _best([*scores, *more])
        for _ in range(MOST - 1):
            longer = [
                (self._score(theory), theory)
                for base in beam
                for other in singles
                if other.fuse == base.fuse
                and not self._late()
                and (theory := base.with_another(other.mistakes[0])).plausible
            ]
            found = self._confirmed(theory for score, theory in longer if score is None)
            if found:
                return found
            beam = _best(longer)
        return []

    def _singles(self) -> Iterator[Theory]:
        """Yield every mistake on its own, also with softmax and cross entropy as one where that is another thing."""
        first = self.evidence[0]
        fits = fused(first.case.network) is not None
        right, given = first.reference.parameters, first.actual.parameters
        numbers = mistakes_scale.fitted(
            first.case,
            {path: np.asarray(bound.value, np.float64) for path, bound in right.items()},
            {path: np.asarray(array, np.float64) for path, array in given.items()},
        )
        for mistake in [*table(), *numbers]:
            if mistake.concerns(first.case.network):
                for fuse in (False, True) if fits else (False,):
                    yield Theory((mistake,), fuse)

    def _score(self, theory: Theory) -> float | None:
        """Return how much of the most telling evidence a theory explains at a quick look; None: all of all."""
        total = 0.0
        whole = True
        for number, evidence in enumerate(self.evidence):
            parts = explained(theory, evidence)
            total += float(parts.mean())
            whole = whole and bool((parts == 1).all())
            if not whole and number >= 1:
                break
        return None if whole else total

    def _confirmed(self, theories: Iterable[Theory]) -> list[Theory]:
        """Return the theories that account for all the evidence, the least that is claimed of each symptom."""
        found: dict[str, Theory] = {}
        for theory in sorted(theories, key=lambda theory: theory.claims):
            if theory.symptom not in found and all(accounts_for(theory, entry) for entry in self.evidence):
                found[theory.symptom] = theory
        return list(found.values())

    def _late(self) -> bool:
        return time.monotonic() > self.until


def _best(scored: Sequence[tuple[float | None, Theory]]) -> list[Theory]:
    """Return the theories that explain most, of each symptom one."""
    best: dict[tuple[str, float], Theory] = {}
    for score, theory in sorted(scored, key=lambda pair: (-(pair[0] or 0), pair[1].claims)):
        best.setdefault((theory.symptom, round(score or 0, 6)), theory)
        if len(best) == BEAM:
            break
    return list(best.values())


NAMED = {Kind.WRONG, Kind.NONFINITE}
"""What may come of a wrong formula. The other kinds say themselves what is wrong."""


def diagnose(failure: Failure, plan: Plan) -> Diagnosis:
    """Return what is known of the cause of a failure; the implementation is asked for fresh cases."""
    if failure.root.kind not in NAMED:
        return UNKNOWN
    evidence = gather(failure, plan)
    if not any(entry.fails for entry in evidence):
        return UNKNOWN
    found = Search(evidence, time.monotonic() + SECONDS).theories()
    return concluded(found, evidence)


def gather(failure: Failure, plan: Plan) -> list[Evidence]:
    """Return what the implementation gives in the failing case and in fresh ones, most telling first."""
    implementation = failure.implementation
    regime = None if failure.origin is None else failure.origin.draw.regime
    bodies = plan.networks is None and not implementation.capabilities.networks
    fresh = cases_like(failure.case, implementation.capabilities, regime, bodies=bodies)
    found = [evidence_of(implementation, failure.situation, fresh=False)]
    found += [evidence_of(implementation, Situation(case)) for case in fresh]
    return failing_first([entry for entry in found if entry is not None])


def concluded(found: Sequence[Theory], evidence: Sequence[Evidence]) -> Diagnosis:
    """Return the diagnosis of the theories that remain."""
    if not found:
        return UNKNOWN
    fewest = min(len(theory.mistakes) for theory in found)
    left = [theory for theory in found if len(theory.mistakes) == fewest]
    weaker = {identifier for theory in left for mistake in theory.mistakes for identifier in mistake.implies}
    if any(theory.symptom in weaker for theory in left):
        left = [theory for theory in left if not any(set(mistake.implies) for mistake in theory.mistakes)]
    first = left[0]
    failing = sum(entry.fails for entry in evidence if entry.fresh)
    others = sum(not entry.fails for entry in evidence)
    return Diagnosis(
        symptom=" or ".join(theory.symptom for theory in left),
        likely="; or: ".join(said(theory, evidence[0]) for theory in left),
        mend="; or: ".join(
            dict.fromkeys(mistake.mend for theory in left for mistake in theory.mistakes if mistake.mend)
        ),
        evidence=f"{failing} fresh cases that fail, {others} that do not: with this mistake the reference gives your values",
        theory=first,
    )


def said(theory: Theory, evidence: Evidence) -> str:
    """Return the sentence of a theory."""
    kinds = dict.fromkeys(type(layer).__name__ for layer in evidence.case.network.layers)
    sentences = []
    for mistake in theory.mistakes:
        about = [name for name in kinds if name in {kind.__name__ for kind in mistake.kinds}]
        where = mistake.scope or (f" of {' and '.join(about)}" if about else "")
        sentences.append(mistake.likely.replace("{where}", where))
    return "; and ".join(sentences)


def explains(diagnosis: Diagnosis, failure: Failure) -> bool:
    """Return whether what was diagnosed earlier is the cause of another failure of the same implementation too."""
    if diagnosis.theory is None:
        return False
    evidence = evidence_of(failure.implementation, failure.situation, fresh=False)
    return evidence is not None and evidence.fails and accounts_for(diagnosis.theory, evidence)
