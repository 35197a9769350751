"""Theories of what somebody did: mistakes, held against what a candidate gave.

A mistake is made in the reference (`gradconform.conformance.mistake`), for the failing case and for fresh ones like it.
It is named only where it explains all that the candidate gave in all of them, what is wrong and what is right, within
rounding. Where no single mistake does, two and three at once are tried; where none do, nothing is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache

import numpy as np

from gradconform.case import Array, Gradients
from gradconform.conformance import (
    mistakes_activation,
    mistakes_delta,
    mistakes_fitted,
    mistakes_function,
    mistakes_linear,
    mistakes_numbers,
    mistakes_options,
    mistakes_reduction,
    mistakes_scale,
)
from gradconform.conformance.fresh import Evidence
from gradconform.conformance.kinks import CONVENTIONS
from gradconform.conformance.mistake import Mistake, bounded, finished, plain, scoped
from gradconform.conformance.mistakes_numbers import through
from gradconform.dtypes import finfo
from gradconform.reference.arithmetic import Plain
from gradconform.reference.losses import fused
from gradconform.reference.precision import Precision, precision

MOST = 3
"""So many mistakes at once are told apart."""
PLAIN = 2
"""A mistake that claims no more is looked for in all layers alike."""
BEAM = 8
"""So many incomplete explanations are followed further."""
BY_ROWS = {"no-mean", "mean-twice", "weight-no-mean", "weight-mean", "bias-no-mean", "bias-mean"}
"""Mistakes of which two can always be said in another way: the factor is what is known."""
KEPT = 2000
"""So many predictions of a case are kept."""
ALIKE = 1e-9
"""How much two arrays that differ by a constant may differ otherwise, at a quick look."""
OTHERWISE = 4.0
"""So many bounds a mistaken formula may be off that is written otherwise than here."""
REST = 1e-6
"""Or it leaves so little of the error: a millionth."""
LEFT = 1e-2
"""What a quick look may leave of an error that is explained: the bounds decide."""
ROUNDINGS = 1e4
"""How many units of the largest element of an array a prediction without bounds may be off."""
NOISE = 100.0
"""So many units of the largest element of all may be left where terms cancel."""
SEVERAL = 3
"""So many failing cases have to be explained, where there are so many."""
SHARP = 1e-3
"""A bound explains an error that is so much larger."""


@cache
def table() -> tuple[Mistake, ...]:
    """Return all mistakes that are known, without those whose numbers are read off a case."""
    modules = (
        mistakes_reduction,
        mistakes_delta,
        mistakes_options,
        mistakes_scale,
        mistakes_linear,
        mistakes_activation,
        mistakes_function,
        mistakes_numbers,
    )
    return tuple(mistake for module in modules for mistake in module.table())


@dataclass(frozen=True, eq=False)
class Theory:
    """What somebody may have done: mistakes, in order, and whether a softmax and its cross entropy are done as one."""

    mistakes: tuple[Mistake, ...]
    fuse: bool = False

    @property
    def symptom(self) -> str:
        """The ids of the mistakes."""
        return " + ".join(sorted({mistake.id for mistake in self.mistakes}))

    @property
    def implied(self) -> Iterator[str]:
        """The symptoms that say less of the same."""
        for mistake in self.mistakes:
            for less in mistake.implies:
                yield " + ".join(sorted({less if other is mistake else other.id for other in self.mistakes}))

    @property
    def claims(self) -> int:
        """How much is claimed."""
        return sum(mistake.claims for mistake in self.mistakes)

    @property
    def short(self) -> type[np.generic] | None:
        """The shorter type in which all is computed, if that is what it says."""
        return next((mistake.short for mistake in self.mistakes if mistake.short is not None), None)

    @property
    def inexact(self) -> bool:
        """Whether what it gives depends on how it is rounded."""
        return any(mistake.inexact for mistake in self.mistakes)

    @property
    def plausible(self) -> bool:
        """Whether all are different mistakes, of which at most one is a factor of the batch, and none rounds freely."""
        ids = [mistake.id for mistake in self.mistakes]
        whole = sum(mistake.finish is not None and mistake.id in BY_ROWS for mistake in self.mistakes)
        return len(set(ids)) == len(ids) and whole <= 1 and not self.inexact and self.short is None

    def with_another(self, mistake: Mistake) -> Theory:
        """Return the theory that this mistake was made as well."""
        return Theory((*self.mistakes, mistake), self.fuse)


def explained(theory: Theory, evidence: Evidence) -> Array:
    """Return of each array that a candidate gave how far a quick look finds it explained: 1, 0, or half.

    Half is explained what is off by a constant alone, which another mistake may be.
    """
    unexplained = np.zeros(len(evidence.names))
    case = evidence.case
    if theory.short is not None:
        if finfo(theory.short).eps <= finfo(case.dtype).eps:
            return unexplained
        with np.errstate(all="ignore"):
            # 0 is a number of every type
            near = ((evidence.given == through(evidence.given, theory.short)) & (evidence.given != 0)) | ~evidence.wrong
        return np.array([float(part.all()) for _, part in evidence.by_name(near)])
    try:
        predicted = evidence.vector(_predicted(theory, evidence))
    except (ValueError, IndexError):  # mistakes that do not fit the shapes of this case, or not each other
        return unexplained
    if predicted.shape != evidence.given.shape:
        return unexplained
    eps = float(finfo(case.dtype).eps)
    with np.errstate(all="ignore"):
        room = LEFT * np.where(np.isfinite(evidence.off), evidence.off, 0) + 100 * evidence.bound
        far = np.abs(evidence.given - predicted)
        near = far <= room + ROUNDINGS * eps * evidence.largest
        # what is wrong is not explained by what gives the right result, however wide its bound is
        near &= ~evidence.wrong | (far <= evidence.off / 2)
        # what is left where large terms cancel is noise, which the bounds know
        near |= np.maximum(far, evidence.off) <= NOISE * eps * evidence.largest.max(initial=0.0)
        near |= ~np.isfinite(evidence.given) & ~np.isfinite(predicted)
        near |= ~np.isfinite(evidence.bound) & ~evidence.wrong
        if near.all():
            return unexplained + 1
        parts = zip(*map(evidence.by_name, (near, evidence.given, predicted, evidence.wrong)), strict=True)
        return np.array(
            [
                1.0 if close.all() else 0.5 * (wrong.any() and _proportional(given, other))
                for (_, close), (_, given), (_, other), (_, wrong) in parts
            ]
        )


def _predicted(theory: Theory, evidence: Evidence) -> Gradients[Array]:
    """Return what a theory gives, without bounds. What is done at the end alone needs no computation of its own."""
    case = evidence.case
    if theory.inexact:
        return plain(theory.mistakes, case, case.dtype, fuse=theory.fuse, shown=evidence.shown)
    body = tuple(mistake for mistake in theory.mistakes if mistake.finish is None)
    key = (theory.fuse, *map(id, body))
    if key not in evidence.predictions:
        if len(evidence.predictions) > KEPT:
            evidence.predictions.clear()
        evidence.predictions[key] = body, plain(body, case, fuse=theory.fuse, shown=evidence.shown)
    with np.errstate(all="ignore"):
        return finished(theory.mistakes, case, evidence.predictions[key][1], Plain(np.float64))


def _proportional(given: Array, predicted: Array) -> bool:
    """Return whether two arrays of several elements differ by a constant alone."""
    if given.size < 2 or not np.isfinite(given).all():
        return False
    at = int(np.argmax(np.abs(predicted)))
    factor = given[at] / predicted[at]
    return bool(factor != 0 and (np.abs(given - factor * predicted) <= ALIKE * np.abs(given).max()).all())


class Answer(Enum):
    """What one case says of a theory."""

    REFUTED = "it does not give what the candidate gave"
    CONSISTENT = "it gives that, as far as can be told here"
    EXPLAINED = "it gives that where what is right would not"


def asked(theory: Theory, evidence: Evidence) -> Answer:
    """Return whether a theory gives, within rounding, all that a candidate gave in a case."""
    try:
        if theory.inexact:
            return _inexact(theory, evidence)
        if theory.short is not None and not (explained(theory, evidence) == 1).all():
            return Answer.REFUTED
        answers = [_within(theory, evidence, share) for share in _choices(theory, evidence)]
    except (ValueError, IndexError):  # mistakes that do not fit the shapes of this case, or not each other
        return Answer.REFUTED
    return next((answer for answer in (Answer.EXPLAINED, Answer.CONSISTENT) if answer in answers), Answer.REFUTED)


def _choices(theory: Theory, evidence: Evidence) -> Iterator[float | None]:
    """Yield the derivatives at kinks to try: any, and where one is met each convention."""
    yield None
    if bounded(theory.mistakes, evidence.case, _model(theory, evidence), fuse=theory.fuse, shown=evidence.shown)[1]:
        yield from CONVENTIONS


def _model(theory: Theory, evidence: Evidence) -> Precision:
    if theory.short is not None:
        return precision(np.dtype(theory.short))
    return precision(evidence.case.dtype, evidence.implementation.arithmetic)


def _within(theory: Theory, evidence: Evidence, share: float | None) -> Answer:
    found, _ = bounded(
        theory.mistakes,
        evidence.case,
        _model(theory, evidence),
        fuse=theory.fuse,
        shown=evidence.shown,
        share=share,
    )
    with np.errstate(all="ignore"):
        # a mistaken formula may be written, and so rounded, in another way than ours
        left = np.abs(evidence.given - evidence.vector(found)) <= REST * evidence.off
    if not ((evidence.ratio_of(found) <= OTHERWISE) | left).all():
        return Answer.REFUTED
    if theory.short is not None:
        # what is a number of the shorter type anyway says nothing
        telling = evidence.wrong & (through(evidence.right, theory.short) != evidence.right)
        enough = np.count_nonzero(telling) > np.count_nonzero(evidence.wrong) // 2
        return Answer.EXPLAINED if enough else Answer.CONSISTENT
    with np.errstate(all="ignore"):
        # a bound that is as large as the error itself would explain anything
        sharp = evidence.wrong & (evidence.bound_of(found) <= SHARP * evidence.off)
    enough = np.count_nonzero(sharp) > np.count_nonzero(evidence.wrong) // 2
    return Answer.EXPLAINED if evidence.fails and enough else Answer.CONSISTENT


def _inexact(theory: Theory, evidence: Evidence) -> Answer:
    case = evidence.case
    predicted = evidence.vector(plain(theory.mistakes, case, case.dtype, fuse=theory.fuse, shown=evidence.shown))
    lost = ~np.isfinite(evidence.given)
    with np.errstate(all="ignore"):
        room = SHARP * np.where(np.isfinite(evidence.off), evidence.off, 0) + evidence.bound
        near = (np.abs(evidence.given - predicted) <= room) | ~(np.isfinite(evidence.bound) | evidence.wrong)
    if not np.array_equal(lost, ~np.isfinite(predicted)) or not near[~lost].all():
        return Answer.REFUTED
    return Answer.EXPLAINED if evidence.fails else Answer.CONSISTENT


@dataclass
class Search:
    """The search for the theories that explain all the evidence, most telling evidence first.

    `most`: so many theories of several mistakes at once are looked at.
    """

    evidence: Sequence[Evidence]
    most: int
    _steps: list[Theory] = field(default_factory=list)
    _scored: list[tuple[float | None, Theory]] = field(default_factory=list)

    def single(self) -> list[Theory]:
        """Return the theories of one mistake that account for everything, of each symptom the one that claims least."""
        self._steps = list(self._singles())
        self._scored = [(self._score(theory), theory) for theory in self._steps]
        found = self._confirmed(theory for score, theory in self._scored if score is None)
        if found and min(theory.claims for theory in found) <= PLAIN:
            return found
        # made in some of the layers alone it may claim as little
        network = max((entry.case.network for entry in self.evidence), key=lambda network: len(network.layers))
        narrowed = [
            replace(theory, mistakes=(narrow,))
            for theory in self._steps
            for narrow in scoped(theory.mistakes[0], network)
        ]
        scored = [(self._score(theory), theory) for theory in narrowed]
        self._steps += narrowed
        self._scored += scored
        return self._confirmed(theory for score, theory in self._scored if score is None)

    def several(self) -> list[Theory]:
        """Return the same of as few mistakes at once as it takes, where no single one does (`single`)."""
        # an array that is off by a constant is half explained by what is right, too
        least = self._score(Theory(())) or 0.0
        beam = _best(self._scored, least)
        left = self.most
        for _ in range(MOST - 1):
            next_ones = [
                theory
                for base in beam
                for other in self._steps
                if other.fuse == base.fuse and (theory := base.with_another(other.mistakes[0])).plausible
            ][:left]
            left -= len(next_ones)
            longer = [(self._score(theory, looks=1), theory) for theory in next_ones]
            found = self._confirmed(theory for score, theory in longer if score is None)
            if found:
                simplest = {theory.symptom: theory for theory in map(self._simplified, found)}
                fewest = min(len(theory.mistakes) for theory in simplest.values())
                return [theory for theory in simplest.values() if len(theory.mistakes) == fewest]
            beam = _best(longer, least)
        return []

    def _simplified(self, theory: Theory) -> Theory:
        """Return a theory without the mistakes that it does not need, and with weaker ones where they will do."""
        for mistake in theory.mistakes:
            fewer = replace(theory, mistakes=tuple(other for other in theory.mistakes if other is not mistake))
            if len(theory.mistakes) > 1 and self._holds(fewer):
                return self._simplified(fewer)
            for less in self._steps:
                if less.mistakes[0].id in mistake.implies and less.fuse == theory.fuse:
                    weaker = replace(
                        theory,
                        mistakes=tuple(less.mistakes[0] if other is mistake else other for other in theory.mistakes),
                    )
                    if self._score(weaker) is None and self._holds(weaker):
                        return self._simplified(weaker)
        return theory

    def _singles(self) -> Iterator[Theory]:
        """Yield every mistake on its own, also with softmax and cross entropy as one where that is another thing."""
        first = self.evidence[0]
        fits = fused(first.case.network) is not None
        right, given = first.reference.parameters, first.actual.parameters
        numbers = mistakes_fitted.fitted(
            first.case,
            {path: np.asarray(bound.value, np.float64) for path, bound in right.items()},
            {path: np.asarray(array, np.float64) for path, array in given.items()},
        )
        for mistake in [*table(), *numbers]:
            if mistake.concerns(first.case.network):
                for fuse in (False, True) if fits else (False,):
                    yield Theory((mistake,), fuse)

    def _score(self, theory: Theory, looks: int = 2) -> float | None:
        """Return how many more arrays a theory explains than what is right does, at a quick look; None: all of them.

        looks: after so many cases an incomplete explanation is not followed further.
        """
        gained = 0.0
        whole = True
        for number, evidence in enumerate(self.evidence, 1):
            parts = explained(theory, evidence)
            wrong = np.array([part.any() for _, part in evidence.by_name(evidence.wrong)])
            gained += float(parts[wrong].sum() - (parts[~wrong] < 1).sum())
            whole = whole and bool((parts == 1).all())
            if not whole and number >= looks:
                break
        return None if whole else gained

    def _confirmed(self, theories: Iterable[Theory]) -> list[Theory]:
        """Return the theories that account for all the evidence, the least that is claimed of each symptom."""
        found: dict[str, Theory] = {}
        for theory in sorted(theories, key=lambda theory: theory.claims):
            if theory.symptom not in found and self._holds(theory):
                found[theory.symptom] = theory
        return list(found.values())

    def _holds(self, theory: Theory) -> bool:
        """Return whether no case refutes a theory, and several that fail need it."""
        failing = [entry for entry in self.evidence if entry.fails]
        missing, left = min(SEVERAL, len(failing)), len(failing)
        for evidence in failing:
            answer = asked(theory, evidence)
            left -= 1
            missing -= answer is Answer.EXPLAINED
            if answer is Answer.REFUTED or missing > left:
                return False
        passing = [entry for entry in self.evidence if not entry.fails]
        return all(asked(theory, evidence) is not Answer.REFUTED for evidence in passing)


def _best(scored: Sequence[tuple[float | None, Theory]], least: float) -> list[Theory]:
    """Return the theories that explain most, and more than the `least`, of each symptom one."""
    best: dict[tuple[str, float], Theory] = {}
    better = [(score, theory) for score, theory in scored if score is not None and score > least]
    for score, theory in sorted(better, key=lambda pair: (-pair[0], pair[1].claims)):
        best.setdefault((theory.symptom, round(score, 6)), theory)
        if len(best) == BEAM:
            break
    return list(best.values())
