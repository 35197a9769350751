"""A case with its variations, and what is expected of each: computed once, shared by all implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gradconform.case import Case, Gradients
from gradconform.conformance.candidates import allowing
from gradconform.conformance.compare import Comparison, Kind
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.kinks import as_shown
from gradconform.conformance.looks import View, resolved, shown_steps, views
from gradconform.conformance.stack import Stack, member
from gradconform.errors import CandidateFailed, Unsupported
from gradconform.network import Network
from gradconform.reference.bounds import Expected, expected


class Situation:
    """A case, the expected gradients of it, and the variations of it that relations ask for.

    `affine`: from the inputs on, bounds are the tighter and costlier affine ones. `stack`: cases of the same structure,
    of which this one is the `index`-th, whose bounds are computed together.
    """

    def __init__(self, case: Case, *, affine: bool = False, stack: Stack | None = None, index: int = 0) -> None:
        self.case = case
        self.affine = affine
        self.stack = stack
        self.index = index
        for array in [*case.parameters.values(), *vars(case.batch).values()]:
            if array is not None:
                # one implementation's writes are not to reach the next
                array.flags.writeable = False
        self._expected: dict[tuple[Network, str], Expected] = {}
        self._variations: dict[str, Situation | None] = {}

    def expected(self, implementation: Implementation) -> Expected:
        """Return what the implementation, by its documented design, is to compute, with all kinks left open."""
        key = implementation.described(self.case.network), implementation.arithmetic
        if key not in self._expected:
            together = None if self.stack is None else self.stack.expected(implementation)
            found = self.evaluate(implementation) if together is None else member(together, self.index)
            self._expected[key] = found
        return self._expected[key]

    def kinks(self, implementation: Implementation) -> int:
        """Return how many pre-activations lie so close to a kink that either one-sided derivative is right."""
        if self.stack is not None:
            return self.stack.kinks(implementation)[self.index]
        return self.expected(implementation).kinks

    @property
    def certified(self) -> bool:
        """Whether it is measured in this case how small an error would have been found."""
        return self.stack is None or self.stack.certified(self.index)

    def evaluate(self, implementation: Implementation, **options: Any) -> Expected:
        """Return the same with options of `gradconform.reference.bounds.expected`."""
        network, arithmetic = implementation.described(self.case.network), implementation.arithmetic
        affine = self.affine and options.get("shown") is None
        return expected(network, self.case.parameters, self.case.batch, arithmetic=arithmetic, affine=affine, **options)

    def vary_together(self, makes: Mapping[str, Callable[[Case], Case]]) -> list[Situation]:
        """Return variations of one structure by their names, made once, whose bounds are computed together."""
        if not all(name in self._variations for name in makes):
            made = situations_of([make(self.case) for make in makes.values()], affine=self.affine)
            self._variations.update(zip(makes, made, strict=True))
        return [found for name in makes if (found := self._variations[name]) is not None]

    def vary(self, name: str, make: Callable[[Case], Case | None]) -> Situation | None:
        """Return the variation `name`, made once; None where the case has none."""
        if name not in self._variations:
            case = make(self.case)
            self._variations[name] = None if case is None else Situation(case, affine=self.affine)
        return self._variations[name]


def situations_of(cases: Sequence[Case], *, affine: bool = False) -> list[Situation]:
    """Return the situations of cases of one structure in one dtype, whose bounds are computed together."""
    if affine or len(cases) == 1:
        return [Situation(case, affine=affine) for case in cases]
    stack = Stack(cases)
    return [Situation(case, stack=stack, index=index) for index, case in enumerate(cases)]


class CallFailed(Exception):
    """An implementation did not give gradients; `comparison` tells how."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.detail)
        self.comparison = comparison


class Subject:
    """One implementation in one situation. Each variation is computed once, when a check asks for it.

    `given`: what it gave for the case itself, where it was called with several cases at once; `at_once`: what is told
    of it where that is the only call in which it fails.
    """

    def __init__(
        self,
        implementation: Implementation,
        situation: Situation,
        given: Callable[[], Gradients[Any]] | None = None,
        at_once: str = "",
    ) -> None:
        self.implementation = implementation
        self.situation = situation
        self._given, self.at_once = given, at_once
        self.history = implementation.guard.history(situation.case.network)
        """What went before it."""
        self._computed: dict[int, Gradients[Any] | CallFailed | NotImplementedError] = {}
        self.taken: list[View] = []
        """The views that checks asked for."""

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.situation.case

    def expected(self, situation: Situation | None = None) -> Gradients[Any]:
        """Return the bounded gradients of the case or of a variation."""
        gradients = (situation or self.situation).expected(self.implementation).gradients
        return allowing(gradients, self.actual(situation))

    @property
    def views(self) -> list[View]:
        """Return the case as each look sees it, the sharpest first. Raises what `actual` raises."""
        if not self.taken:
            implementation, situation = self.implementation, self.situation

            def evaluate(**options: Any) -> Expected:
                given = any(value is not None for value in options.values())
                found = situation.evaluate(implementation, **options) if given else situation.expected(implementation)
                return replace(found, gradients=allowing(found.gradients, self.actual()))

            outputs = shown_steps(self.case, self.actual()).outputs
            sides = partial(as_shown, implementation.described(self.case.network), self.case.batch.inputs, outputs)
            against = partial(resolved, implementation.kinks, sides if outputs else None)
            self.taken = views(self.case, self.actual(), evaluate, against)
        return self.taken

    def actual(self, situation: Situation | None = None) -> Gradients[Any]:
        """Return what the implementation computes for the case or for a variation.

        Raises `CallFailed` where it raises, and `NotImplementedError` where it says that it does not support it.
        """
        situation = situation or self.situation
        if id(situation) not in self._computed:
            self._computed[id(situation)] = self._called(situation)
        found = self._computed[id(situation)]
        if isinstance(found, Gradients):
            return found
        raise found

    def _called(self, situation: Situation) -> Gradients[Any] | CallFailed | NotImplementedError:
        """Return what a call gives, or what it raises, which then is raised again without another call."""
        try:
            if situation is self.situation and self._given is not None:
                return self._given()
            gradients = self._call(situation.case)
            if situation is not self.situation:
                require_shapes(situation.case, gradients)
        except (CallFailed, NotImplementedError) as failure:
            return failure
        return gradients

    def called(self) -> bool:
        """Call the implementation with the case, unless it was; return whether it gave gradients."""
        try:
            self.actual()
        except (CallFailed, NotImplementedError):
            return False
        return True

    @property
    def timed_out(self) -> bool:
        """Whether the call with the case took too long."""
        found = self._computed.get(id(self.situation))
        return isinstance(found, CallFailed) and found.comparison.kind is Kind.TIMEOUT

    def again(self, situation: Situation | None = None) -> Gradients[Any]:
        """Return the same from another call. Raises what `actual` raises."""
        situation = situation or self.situation
        gradients = self._call(situation.case)
        require_shapes(situation.case, gradients)
        return gradients

    def _call(self, case: Case) -> Gradients[Any]:
        implementation = self.implementation
        lacking = implementation.capabilities.lacks(case.network, case.batch)
        if lacking is not None:
            raise Unsupported(lacking)
        compute = implementation.gradients
        if implementation.bare is not None and case.batch.rows != self.case.batch.rows:
            compute = implementation.bare
        try:
            return implementation.guard.call(compute, case.network, case.parameters, case.batch)
        except CandidateFailed as failure:
            raise call_failed(failure) from failure


def call_failed(failure: CandidateFailed) -> CallFailed:
    """Return the failure of a call as a comparison that failed."""
    return CallFailed(Comparison("call", failure.what, Kind[failure.kind], detail=failure.detail))


def require_shapes(case: Case, gradients: Gradients[Any]) -> None:
    """Raise `CallFailed` where gradients cannot be held against those of a variation."""
    for path, shape in case.network.parameters().items():
        given = gradients.parameters.get(path)
        found = None if given is None else given.shape
        if found != shape:
            detail = f"expected shape {shape} for a batch of {case.batch.rows}, got {found}"
            raise CallFailed(Comparison("call", path, Kind.SHAPE, detail=detail))
