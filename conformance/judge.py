"""Judging one implementation in one situation: which checks ran, what they compared, and what failed first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.guard import History
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.looks import View
from gradconform.conformance.situation import CallFailed, Situation, Subject, require_shapes
from gradconform.errors import first_line
from gradconform.network import Network

UNSTEADY = {Kind.STATEFUL, Kind.NONDETERMINISTIC}


@dataclass
class Judgement:
    """What was compared. `unsupported` is the implementation's own sentence, where it does not support the case."""

    comparisons: list[Comparison] = field(default_factory=list)
    unsupported: str | None = None
    views: list[View] = field(default_factory=list)
    """The looks that were taken, where nothing failed before there was anything to look at."""
    relations: bool = True
    """Whether relations were among what was checked."""
    history: History = field(default_factory=History)
    """What went before it."""
    kinks: dict[str, float] = field(default_factory=dict)
    """What was known by then of the implementation's derivatives at kinks."""

    @property
    def failures(self) -> list[Comparison]:
        """All failed comparisons, closest to the cause first: where calls differ, nothing else is known."""
        failed = [comparison for comparison in self.comparisons if not comparison.passed]
        return sorted(failed, key=lambda comparison: comparison.kind not in UNSTEADY)

    @property
    def root(self) -> Comparison | None:
        """The failed comparison that is closest to the cause."""
        return next(iter(self.failures), None)


def judge(
    implementation: Implementation,
    situation: Situation,
    checks: Sequence[Check],
    *,
    relations: bool = True,
    until_failed: bool = False,
) -> Judgement:
    """Return the judgement of `checks`, in their order. Relations need arrays of the right names and shapes.

    `until_failed`: the checks behind the first one that fails are left out.
    """
    history = implementation.guard.history(situation.case.network)
    judgement = Judgement(relations=relations, history=history, kinks=dict(implementation.kinks))
    subject = Subject(implementation, situation)
    try:
        for check in checks:
            if until_failed and judgement.failures:
                break
            if check.relation and (not relations or any(_unusable(failure) for failure in judgement.failures)):
                continue
            if check.relation:
                require_shapes(subject.case, subject.actual())
                judgement.comparisons += _related(check, subject)
            else:
                judgement.comparisons += check.run(subject)
        if _may_be_unsteady(judgement, checks):
            judgement.comparisons += [entry for entry in CHECKS["repeatable"].run(subject) if not entry.passed]
        judgement.views = subject.taken
    except CallFailed as failure:
        judgement.comparisons.append(failure.comparison)
    except NotImplementedError as error:
        judgement.unsupported = first_line(error) or "it raised NotImplementedError"
    return judgement


def _related(check: Check, subject: Subject) -> list[Comparison]:
    """Return the comparisons of a relation: none where a variation of the case is not supported."""
    try:
        return check.run(subject)
    except NotImplementedError:
        return []


def _may_be_unsteady(judgement: Judgement, checks: Sequence[Check]) -> bool:
    """Return whether what failed may be right in the next call, which was not asked for yet."""
    asked = any(comparison.check == "repeatable" for comparison in judgement.comparisons)
    wrong = judgement.root is not None and judgement.root.kind in {Kind.WRONG, Kind.NONFINITE}
    return wrong and not asked and CHECKS["repeatable"] in checks


def key_of(implementation: Implementation, network: Network, root: Comparison) -> tuple[str, ...]:
    """Return what makes two failures the same bug: who, which check, which kind, which parameter of which layer."""
    if root.kind in UNSTEADY:
        return (implementation.name, "repeatable")
    return (implementation.name, root.check, root.kind.name, subject_of(network, root))


def key_words(key: tuple[str, ...]) -> str:
    """Return what `key_of` returns as words, without the implementation."""
    return " ".join(key[1:])


def subject_of(network: Network, comparison: Comparison) -> str:
    """Return what was compared, without its place in the network: which parameter, or which layer's output or delta."""
    place, _, name = comparison.path.rpartition(".")
    if place.isdecimal() and int(place) < len(network.layers):
        return f"{type(network.layers[int(place)]).__name__}.{name}"
    if comparison.check in {"outputs", "deltas"}:
        index = int(comparison.path.split()[-1]) + (comparison.check == "deltas")
        return f"{comparison.check} {type(network.layers[index]).__name__}"
    if comparison.check in {"loss", "output-delta"}:
        return f"{comparison.check} {type(network.loss).__name__}"
    return name


def _unusable(failure: Comparison) -> bool:
    return failure.kind not in {Kind.PASS, Kind.WRONG}
