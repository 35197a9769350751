"""Judging one implementation in one situation: which checks ran, what they compared, and what failed first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gradconform.case import Array, Gradients
from gradconform.conformance.checks import CHECKS, Check
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.contract import AGAIN
from gradconform.conformance.guard import History
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.looks import View
from gradconform.conformance.screening import Screened, alike, screen
from gradconform.conformance.several import require_all
from gradconform.conformance.situation import CallFailed, Situation, Subject, call_failed, require_shapes
from gradconform.conformance.stack import members
from gradconform.conformance.summary import subject_of, summary_of
from gradconform.errors import CandidateFailed, first_line
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
    subject: Subject | None = None,
    related: Mapping[str, list[Comparison]] | None = None,
) -> Judgement:
    """Return the judgement of `checks`, in their order. Relations need arrays of the right names and shapes.

    `until_failed`: the checks behind the first one that fails are left out. `subject`: the implementation in the
    situation, where it was called already; `related`: what its relations came to, where they were checked already.
    """
    subject = subject or Subject(implementation, situation)
    judgement = Judgement(relations=relations, history=subject.history, kinks=dict(implementation.kinks))
    try:
        for check in checks:
            if until_failed and judgement.failures:
                break
            if check.relation and (not relations or any(_unusable(failure) for failure in judgement.failures)):
                continue
            if check.relation:
                require_shapes(subject.case, subject.actual())
                judgement.comparisons += related[check.id] if related is not None else _related(check, subject)
            else:
                judgement.comparisons += check.run(subject)
        if not subject.at_once and _may_be_unsteady(judgement, checks):
            judgement.comparisons += [entry for entry in CHECKS["repeatable"].run(subject) if not entry.passed]
        if CHECKS["repeatable"] in checks:
            judgement.comparisons = _steady(judgement, subject)
        judgement.views = subject.taken
    except CallFailed as failure:
        judgement.comparisons.append(failure.comparison)
    except NotImplementedError as error:
        judgement.unsupported = first_line(error) or "it raised NotImplementedError"
    return judgement


def judge_together(
    implementation: Implementation,
    situations: Sequence[Situation],
    checks: Sequence[Check],
    *,
    relations: bool = True,
    patience: int = 1,
    go_on: Callable[[], bool] = lambda: True,
) -> Iterator[Judgement | Screened]:
    """Yield the judgements of situations that make up a stack; relations, where asked for, are in that of the first.

    All are called one after the other, or at once by what can, and then judged together as far as all agrees; but first
    the first one by itself, unless what is called is ours: what is found in it does not wait for others. After
    `patience` calls that took too long, or once `go_on` says no, nothing more is called: then fewer judgements are
    yielded.
    """
    first = Subject(implementation, situations[0])
    subjects, related, given = [first], None, None
    if not implementation.guard.ours or len(situations) == 1:
        yield judge(implementation, first.situation, checks, relations=relations, subject=first)
        subjects = []
    with implementation.guard.series():
        if subjects:
            subjects, given = _at_once(first, situations)
            first = subjects[0]
        if subjects and relations:
            related = _relations(first, checks)
        late = int(first.timed_out)
        for situation in situations[len(subjects) or 1 :]:
            if late >= patience or not go_on():
                break
            subjects.append(Subject(implementation, situation))
            subjects[-1].called()
            late += subjects[-1].timed_out
    for subject, screened in zip(subjects, _screened(subjects, given, checks), strict=True):
        asked = relations and subject is first
        more = [entry for own in (related or {}).values() for entry in own] if asked else []
        if screened is not None and (related is not None or not asked) and all(entry.passed for entry in more):
            yield screened.with_more(summary_of(more, subject.case.network)) if more else screened
        else:
            own = related if asked else None
            told = judge(implementation, subject.situation, checks, relations=asked, subject=subject, related=own)
            yield _by_itself(told, subject, checks) if subject.at_once and told.root is not None else told


def _by_itself(told: Judgement, subject: Subject, checks: Sequence[Check]) -> Judgement:
    """Return the judgement of a case that failed in a call with others from a call of its own, if it fails there too.

    Else it is what that one call gave for it, which no call of its own shows again.
    """
    alone = judge(subject.implementation, subject.situation, checks, relations=told.relations)
    if alone.root is not None:
        return alone
    judgement = judge(subject.implementation, subject.situation, checks, relations=False, subject=subject)
    if judgement.root is None:
        return told
    judgement.comparisons = [
        entry if entry.passed else replace(entry, detail="; ".join(filter(None, (entry.detail, subject.at_once))))
        for entry in judgement.comparisons
    ]
    return judgement


def _at_once(first: Subject, situations: Sequence[Situation]) -> tuple[list[Subject], Gradients[Array] | None]:
    """Return the subjects of all members of a stack that one call serves, and what it gives, side by side.

    Where there is no such call, or it says that it does not support one of them, that is the first one and nothing;
    where it fails, the failure is that of the first one.
    """
    implementation, stack, case = first.implementation, first.situation.stack, first.case
    if implementation.several is None or stack is None or implementation.capabilities.lacks(case.network, case.batch):
        return [first], None
    at_once = f"so in one call for {len(stack.cases)} cases, and not in a call for this one between two others"
    try:
        given = implementation.guard.call(
            implementation.several, case.network, stack.parameters, stack.batch, several=True
        )
        require_all(given, len(stack.cases))
    except NotImplementedError:
        return [first], None
    except CandidateFailed as failure:
        return [Subject(implementation, first.situation, partial(_failing, call_failed(failure)), at_once)], None
    several = partial(members, given)
    return [Subject(implementation, one, partial(several, one.index), at_once) for one in situations], given


def _failing(failure: CallFailed) -> Gradients[Any]:
    raise failure


def _screened(
    subjects: Sequence[Subject], given: Gradients[Array] | None, checks: Sequence[Check]
) -> Sequence[Screened | None]:
    """Return for members of a stack, one after the other, whether all agrees; `given`: what one call gave for all."""
    stack = subjects[0].situation.stack if subjects else None
    if stack is not None and (given is not None or all(subject.called() for subject in subjects)):
        given = given or alike([subject.actual() for subject in subjects])
        first = subjects[0].situation.index
        asked = range(first, first + len(subjects))
        if given is not None:
            with contextlib.suppress(NotImplementedError):
                return screen(subjects[0].implementation, stack, asked, given, checks)
    return [None] * len(subjects)


def _relations(subject: Subject, checks: Sequence[Check]) -> dict[str, list[Comparison]] | None:
    """Return what the relations of a case come to; None where a call fails, which is told as what it is."""
    try:
        require_shapes(subject.case, subject.actual())
        return {check.id: _related(check, subject) for check in checks if check.relation}
    except (CallFailed, NotImplementedError):
        return None


def _related(check: Check, subject: Subject) -> list[Comparison]:
    """Return the comparisons of a relation: none where a variation of the case is not supported."""
    try:
        return check.run(subject)
    except NotImplementedError:
        return []


def _steady(judgement: Judgement, subject: Subject) -> list[Comparison]:
    """Return the comparisons, with a relation that fails alone, and holds with other calls, as what it then is."""
    comparisons, root = judgement.comparisons, judgement.root
    if root is None or root.kind is not Kind.WRONG or not CHECKS[root.check].relation:
        return comparisons
    again = _related(CHECKS[root.check], Subject(subject.implementation, subject.situation))
    if not again or any(not entry.passed for entry in again):
        return comparisons
    detail = f"{AGAIN}: {root.check} held with other calls"
    unsteady = replace(root, check="repeatable", kind=Kind.NONDETERMINISTIC, detail=detail)
    return [unsteady if entry is root else entry for entry in comparisons]


def _may_be_unsteady(judgement: Judgement, checks: Sequence[Check]) -> bool:
    """Return whether what failed may be right in the next call, which was not asked for yet."""
    asked = any(comparison.check == "repeatable" for comparison in judgement.comparisons)
    wrong = judgement.root is not None and judgement.root.kind in {Kind.WRONG, Kind.NONFINITE}
    return wrong and not asked and CHECKS["repeatable"] in checks


def key_of(implementation: Implementation, network: Network, root: Comparison) -> tuple[str, ...]:
    """Return what makes two failures the same bug: who, which check, which kind, which parameter of which layer."""
    if root.kind in UNSTEADY:
        return (implementation.name, "repeatable")
    return (implementation.name, root.check, root.kind.name, subject_of(network, root.check, root.path))


def key_words(key: tuple[str, ...]) -> str:
    """Return what `key_of` returns as words, without the implementation."""
    return " ".join(key[1:])


def _unusable(failure: Comparison) -> bool:
    return failure.kind not in {Kind.PASS, Kind.WRONG}
