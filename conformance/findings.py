"""From a failure to a finding: the smallest case put into words, with what else is known of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gradconform.case import Case
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.circumstances import NOTHING_KNOWN, Circumstances
from gradconform.conformance.compare import Comparison, Factor, Kind
from gradconform.conformance.diagnosis import UNKNOWN, Diagnosis
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.expected import key_text
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import UNSTEADY, Judgement, judge, key_of, key_words
from gradconform.conformance.plan import Chunk
from gradconform.conformance.results import Finding, spelled
from gradconform.conformance.situation import Situation
from gradconform.conformance.steps import steps_of
from gradconform.network import Network

Evidence = tuple[Factor | None, int, int]
"""For one failing case: yours / expected if it is constant, the number of samples and of outputs."""


@dataclass(frozen=True)
class Origin:
    """Where a generated case came from: an example of one of the run's chunks, and which of its draws."""

    chunk: Chunk
    example: Example
    draw: Draw


@dataclass
class Failure:
    """One implementation that failed on one case; `numbers` says in words where the case's numbers came from."""

    implementation: Implementation
    dtype: str
    situation: Situation
    judgement: Judgement
    numbers: str
    origin: Origin | None = None
    evidence: list[Evidence] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    """Where else the same mistake showed."""
    diagnosis: Diagnosis = UNKNOWN
    id: str = ""
    """What names the finding, from its first failing case on, however much smaller it becomes."""
    replay: str = ""
    """The command that judges the case again, where it is kept in a file."""
    file: str = ""

    def __post_init__(self) -> None:
        self.id = self.id or _identity(self)

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.situation.case

    @property
    def root(self) -> Comparison:
        """The failed comparison that is closest to the cause."""
        assert self.judgement.root is not None  # noqa: S101 - a failure has one
        return self.judgement.root

    @property
    def headline(self) -> str:
        """The one sentence that a summary shows."""
        return f"{self.implementation.name}   {sentence(self.root)}"


WHOLE = {Kind.CRASHED, Kind.TIMEOUT, Kind.MUTATED}
"""What happens to a call, and to none of its results."""


def sentence(root: Comparison) -> str:
    """Return what is wrong, in one sentence."""
    check = CHECKS.get(root.check)
    if root.kind is Kind.WRONG and root.worst is not None:
        if check is not None and check.relation:
            return f"{root.path} breaks {root.check}: {root.worst.ratio:.1e} x what rounding can explain"
        if np.isinf(root.worst.ratio):
            return f"{root.path} is wrong: nothing is rounded there, it must be exact"
        return f"{root.path} is wrong: {root.worst.ratio:.1e} x what rounding can explain"
    if root.kind is Kind.NONFINITE and root.worst is not None:
        return f"{root.path} is not finite: {root.worst.actual} where {root.worst.expected:.6g} is expected"
    if root.kind in WHOLE:
        return f"{root.kind.value}: {root.detail}"
    if root.kind in UNSTEADY:
        return f"{root.path} {root.kind.value}"
    if root.check == "call" and root.kind is Kind.NAME:
        return f"{root.path}: {root.detail}"
    return f"{root.path} {root.kind.value}: {root.detail}"


def finding_of(
    failure: Failure,
    command: str,
    witnesses: Sequence[Implementation],
    cases: int = 0,
    circumstances: Circumstances = NOTHING_KNOWN,
) -> Finding:
    """Return the finding of a failure; witnesses are asked for the same case, and their agreement is reported.

    `cases`: in how many it failed, 0 for those in its evidence.
    """
    root, case = failure.root, failure.case
    failed = list(dict.fromkeys(entry.path for entry in failure.judgement.failures if not _relation(entry)))
    # what is 0, or lost in rounding, in this case is not known to be right
    agreed = [entry for entry in failure.judgement.comparisons if entry.passed and entry.tells]
    passed = [entry.path for entry in agreed if not _relation(entry)]
    agreeing, disagreeing = _votes(failure, witnesses)
    finding = Finding(
        id=failure.id,
        implementation=failure.implementation.name,
        check=root.check,
        kind=root.kind.name,
        path=root.path,
        key=key_text(case.network, root.check, root.kind.name, root.path),
        failing=failing_keys(failure),
        sentence=sentence(root),
        dtype=failure.dtype,
        network=case.network,
        notation=str(case.network),
        rows=case.batch.rows,
        numbers=failure.numbers,
        factor=None if root.factor is None else root.factor.value,
        factor_name=factor_name(failure.evidence),
        failing_cases=cases or max(1, len(failure.evidence)),
        wrong=failed,
        right=[path for path in dict.fromkeys(passed) if path not in failed],
        agreeing=agreeing,
        disagreeing=disagreeing,
        place=place_of(root, case.network, failure.judgement.comparisons),
        symptom=failure.diagnosis.symptom,
        likely=failure.diagnosis.likely,
        mend=failure.diagnosis.mend,
        evidence=failure.diagnosis.evidence,
        facts=list(failure.diagnosis.facts),
        only_where=list(circumstances.only_where),
        does_not_matter=list(circumstances.does_not_matter),
        also=list(failure.also),
        detail=root.detail,
        look=root.look,
        command=command,
        replay=failure.replay,
        file=failure.file,
        steps=steps_of(failure.judgement.views, failure.judgement.comparisons, root.look, case.network),
        case=_arrays(case),
    )
    if root.worst is not None:
        finding.index = list(root.worst.index)
        finding.actual, finding.expected = spelled(root.worst.actual), spelled(root.worst.expected)
        finding.error, finding.bound = spelled(root.worst.error), spelled(root.worst.bound)
        finding.ratio = spelled(root.worst.ratio)
    return finding


def failing_keys(failure: Failure) -> list[str]:
    """Return what each of the failures in a case is recognised by."""
    network, implementation = failure.case.network, failure.implementation
    return list(
        dict.fromkeys(key_words(key_of(implementation, network, entry)) for entry in failure.judgement.failures)
    )


def place_of(root: Comparison, network: Network, comparisons: Sequence[Comparison]) -> str:
    """Return which pass of which layer the error enters in, as far as what is right around it tells; else nothing."""
    wrong = {comparison.path for comparison in comparisons if not comparison.passed}
    right = {comparison.path for comparison in comparisons} - wrong
    own = root.look == "local"  # the step was held against the reference on the values that it got
    last = len(network.layers) - 1

    def layer(index: int) -> str:
        return layer_name(index, network)

    def delta(index: int) -> str:
        return "output delta" if index == last else f"delta {index}"

    if root.check == "outputs":
        return f"the forward pass of {layer(int(root.path.split()[-1]))}"
    if root.check == "loss":
        return f"the cost, {type(network.loss).__name__}" + (
            ": its input is right" if f"output {last}" in right else ""
        )
    if root.check == "output-delta" and (own or "loss" in right):
        cost = ": the cost itself is right" if "loss" in right else ""
        return f"the gradient of the cost, {type(network.loss).__name__}{cost}"
    if root.check in {"deltas", "input"}:
        below = -1 if root.check == "input" else int(root.path.split()[-1])
        if delta(below + 1) in right:
            return f"the backward pass of {layer(below + 1)}: {delta(below + 1)} above it is right"
        if own:
            return f"the backward pass of {layer(below + 1)}"
    if root.check == "parameters" and root.path.partition(".")[0].isdecimal():
        index = int(root.path.partition(".")[0])
        if index > last:
            return ""
        if delta(index) in right:
            return f"the backward pass of {layer(index)}: {delta(index)}, which it gets, is right"
        if own:
            return f"the backward pass of {layer(index)}"
        if delta(index) not in wrong:
            return _between(root.path, index, network, right)
    return ""


ANYWHERE = "what is above"
"""How a place begins that says less than the name of a mistake does."""


def layer_name(index: int, network: Network) -> str:
    """Return a layer by its index and its kind."""
    return f"layers[{index}], {type(network.layers[index]).__name__}"


def _between(path: str, index: int, network: Network, right: set[str]) -> str:
    """Return where an error enters, as far as the gradients of the parameters alone tell it for sure."""
    layers = [int(name.partition(".")[0]) for name in network.parameters()]
    beside = [name for name in network.parameters() if name.startswith(f"{index}.") and name != path]
    if beside and set(beside) <= right and set(network.parameters()) - right == {path}:
        return f"{path} itself: {' and '.join(beside)}, from the same delta, is right"
    if set(beside) & right:
        return ""
    above = min((other for other in layers if other > index), default=None)
    if above is None:
        return f"{ANYWHERE} {layer_name(index, network)}: the forward pass, the cost, or the delta on its way down"
    own = {name for name in network.parameters() if name.startswith(f"{above}.")}
    if own <= right:
        return f"the delta between layers[{above}] and layers[{index}]: {' and '.join(sorted(own))} are right"
    return ""


NAMES: dict[str, Callable[[int, int], float]] = {
    "batch": lambda rows, outputs: rows,
    "1/batch": lambda rows, outputs: 1 / rows,
    "outputs": lambda rows, outputs: outputs,
    "1/outputs": lambda rows, outputs: 1 / outputs,
    "batch x outputs": lambda rows, outputs: rows * outputs,
    "1/(batch x outputs)": lambda rows, outputs: 1 / (rows * outputs),
    "2": lambda rows, outputs: 2,
    "1/2": lambda rows, outputs: 1 / 2,
    "-1": lambda rows, outputs: -1,
    "0": lambda rows, outputs: 0,
}
"""What yours / expected may be called, by the number of samples and of outputs."""


def factor_name(evidence: Sequence[Evidence]) -> str:
    """Return the name of the factor between yours and expected, if it explains every failing case and no other does.

    With one size of batch alone, 1/2 and 1/batch cannot be told apart: then it has no name.
    """
    fitting = factor_names(evidence)
    return fitting[0] if len(fitting) == 1 else ""


def factor_names(evidence: Sequence[Evidence]) -> list[str]:
    """Return all names that explain every failing case."""
    return [
        name
        for name, value in NAMES.items()
        if all(factor is not None and factor.may_be(value(rows, outputs)) for factor, rows, outputs in evidence)
    ]


def _relation(comparison: Comparison) -> bool:
    check = CHECKS.get(comparison.check)
    return check is not None and check.relation


def _votes(failure: Failure, witnesses: Sequence[Implementation]) -> tuple[list[str], list[str]]:
    """Return the witnesses that agree with the reference in this case, and those that do not."""
    agreeing: list[str] = []
    disagreeing: list[str] = []
    agreement = [check for check in CHECKS.values() if not check.relation]
    for witness in witnesses:
        judgement = judge(witness, failure.situation, agreement)
        if judgement.unsupported is None:
            (disagreeing if judgement.failures else agreeing).append(witness.name)
    return agreeing, disagreeing


def _identity(failure: Failure) -> str:
    case = failure.case
    text = [failure.implementation.name, failure.root.check, failure.root.path, str(case.network)]
    digest = hashlib.sha256("\n".join(text).encode(errors="backslashreplace"))
    for array in [*case.parameters.values(), case.batch.inputs, case.batch.targets]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:8]


def _arrays(case: Case) -> dict[str, object]:
    """Return the numbers of a case as nested lists."""
    batch = {
        name: array.tolist()
        for name in ("inputs", "targets", "class_weights", "cotangent")
        if (array := getattr(case.batch, name)) is not None
    }
    return {"parameters": {path: array.tolist() for path, array in case.parameters.items()}, "batch": batch}
