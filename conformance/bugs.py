"""The bugs of a run: failures that are the same are one, and what a named mistake explains belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.diagnosis import explains
from gradconform.conformance.findings import Failure
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import UNSTEADY, key_of

Key = tuple[str, ...]


@dataclass(eq=False)
class Bug:
    """One bug of an implementation: its failure in the smallest case so far, and in how many cases it was seen.

    `keys`: what its failures are recognised by, the first one's first. `settled`: the failure is as small as it gets,
    and diagnosed.
    """

    failure: Failure
    keys: list[Key]
    cases: int = 0
    settled: bool = False
    first: Failure = field(init=False)
    """The failure as it was first seen."""

    def __post_init__(self) -> None:
        self.first = self.failure

    def keep(self, smaller: Failure) -> None:
        """Take over the same failure in a smaller case."""
        self.failure = smaller

    def key_of(self, failure: Failure) -> Key:
        """Return what a failure is recognised by."""
        return key_of(failure.implementation, failure.case.network, failure.root)

    def count(self, failure: Failure) -> None:
        """Add a case in which it was seen. Factors are compared between failures of the same kind alone."""
        self.cases += 1
        key = self.key_of(failure)
        if key == self.keys[0]:
            network, batch = failure.case.network, failure.case.batch
            self.failure.evidence.append((failure.root.factor, batch.rows, network.widths[-1]))
        self.include(key)

    def include(self, key: Key) -> None:
        """Recognise it by one more key, which is told by the layer, the loss or the parameter in it."""
        if key in self.keys:
            return
        self.keys.append(key)
        place, own = key[-1].split()[-1], self.keys[0][-1].split()[-1]
        # weight and bias of a layer are told as what is also wrong
        if place not in {own, *self.failure.also} and place.partition(".")[0] != own.partition(".")[0]:
            self.failure.also.append(place)


@dataclass
class Bugs:
    """The bugs of a run, in the order in which they were first seen."""

    _all: list[Bug] = field(default_factory=list)
    _by_key: dict[Key, Bug] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, failure: Failure) -> tuple[Bug, bool]:
        """Count a failure with the bug that it is; return that, and whether it is new."""
        key = key_of(failure.implementation, failure.case.network, failure.root)
        bug = self._by_key.get(key) or self._explaining(failure)
        new = bug is None
        if bug is None:
            bug = Bug(failure, [key])
            self._all.append(bug)
        bug.count(failure)
        self._by_key[key] = bug
        return bug, new

    def of(self, implementation: Implementation) -> list[Bug]:
        """Return the bugs of one implementation."""
        return [bug for bug in self._all if bug.failure.implementation.name == implementation.name]

    def merged(self, bug: Bug) -> bool:
        """Make a bug part of another one that explains it; return whether there is one."""
        other = self._explaining(bug.failure)
        if other is None:
            return False
        self._join(bug, other)
        return True

    def _join(self, bug: Bug, other: Bug) -> None:
        self._all.remove(bug)
        other.cases += bug.cases
        for key in bug.keys:
            self._by_key[key] = other
            other.include(key)

    def unnamed(self, bug: Bug) -> bool:
        """Make a bug part of an earlier one without a name, if what fails in that fails in its case too."""
        failure = bug.failure
        keys = {key_of(failure.implementation, failure.case.network, one) for one in failure.judgement.failures}
        for other in self.of(failure.implementation):
            if other is bug:
                return False
            if other.settled and not other.failure.diagnosis.symptom and other.keys[0] in keys:
                self._join(bug, other)
                return True
        return False

    def told(self) -> list[Bug]:
        """Return the bugs that become findings: of each implementation the telling ones.

        Where its calls differ, nothing else is known of it; where it disagrees with the reference, relations that it
        breaks elsewhere say nothing new.
        """
        nearest: dict[str, int] = {}
        for bug in self._all:
            name = bug.failure.implementation.name
            nearest[name] = min(nearest.get(name, _rank(bug)), _rank(bug))
        return [bug for bug in self._all if nearest[bug.failure.implementation.name] == _rank(bug)]

    def _explaining(self, failure: Failure) -> Bug | None:
        """Return the bug of the same implementation whose diagnosis explains a failure too."""
        for bug in self.of(failure.implementation):
            if bug.settled and bug.failure is not failure and explains(bug.failure.diagnosis, failure):
                return bug
        return None


def _rank(bug: Bug) -> int:
    """Return how far a failure is from its cause."""
    if bug.failure.root.kind in UNSTEADY:
        return 0
    check = CHECKS.get(bug.failure.root.check)
    return 2 if check is not None and check.relation else 1
