"""Checking one operation: examples are drawn, every check is run on each, and failures become findings."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import PLAIN_NUMPY, Operation, framework_of, load, operation_of
from gradconform.conformance.operation_checks import CHECKS, OperationCheck
from gradconform.conformance.operation_inputs import NUMBERS, Example, Given, Source
from gradconform.conformance.operation_report import CheckTally, OperationFinding, OperationResult, finding_of, merged
from gradconform.conformance.operation_subject import CallFailed, Subject, restored_randomness
from gradconform.conformance.operation_symptoms import COTANGENT_CHECKS, likely
from gradconform.conformance.operation_trial import Failure, Outcome, Trial
from gradconform.conformance.operation_use import UNREPEATABLE, repeatable
from gradconform.conformance.results import Verdict
from gradconform.errors import InvalidInput, Unsupported

DTYPES = ("float64", "float32")
ROOTS = ("call", "returned", "finite", "repeat", *COTANGENT_CHECKS, "gradient")
"""Checks of a gradient itself, the first that fails being the cause of the others."""
DIAGNOSED = {*COTANGENT_CHECKS, "gradient"}
"""Checks whose failures have a probable cause in the arithmetic."""
CONSEQUENCES = {*ROOTS, "second-order", "forward-mode", "vmap", "jit", "cotangent-layout"}
"""Checks that fail where a gradient is wrong already, and tell nothing new then."""
UNSTABLE = {*CONSEQUENCES, "input-layout", "needs-input-grad", "interleave", "keep"}
"""What fails where the same call gives something else each time."""


def check_layer(
    op: object,
    *,
    inputs: Given | None = None,
    reference: object | None = None,
    arguments: Mapping[str, Any] | None = None,
    dtypes: Sequence[str] | str | None = None,
    max_examples: int = 10,
    seed: int = 0,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    framework: str | None = None,
) -> OperationResult:
    """Check the backward pass of a layer or an operation alone.

    `op`: a `torch.autograd.Function`, an `nn.Module`, a `jax.custom_vjp` or `jax.custom_jvp` function, a function of
    PyTorch or JAX, a NumPy class, object, module or tuple with a forward and a backward pass, or the TARGET of the
    command line. `inputs`: shapes, arrays, or a function that draws a list of arrays from a `numpy.random.Generator`;
    by default shapes are tried. A module's parameters are further inputs. `arguments`: what is no array, by name.
    `reference`: another operation, or a function of NumPy, which the outputs and gradients must agree with; without
    it, gradients are held against the derivative of the operation's own forward pass. `dtypes`: float64, float32 or
    both; by default float64, or float32 where float64 is refused. `framework` decides for a plain function.

    Raises `InvalidInput` for what cannot be used, one line that says what to do.
    """
    started = time.perf_counter()
    candidate, name = (load(op), op) if isinstance(op, str) else (op, None)
    operation = operation_of(candidate, name, arguments, framework)
    if operation.backward is None and framework is None and framework_of(candidate) is None:
        operation = _in_a_framework(operation, candidate, arguments, inputs, seed)
    if operation.backward is None:
        raise InvalidInput(
            f"{operation.name} is {PLAIN_NUMPY} without a backward pass: give FILE.py:FORWARD,BACKWARD, a class with "
            "both, or the framework whose function it is"
        )
    truth = None if reference is None else operation_of(reference, default=operation.framework)
    checks = _chosen(only, exclude)
    if max_examples < 1:
        raise InvalidInput("max_examples must be at least 1")
    run = _Run(operation, truth, checks, seed)
    with restored_randomness():
        for dtype in _dtypes(operation, inputs, dtypes, seed):
            run.check(dtype, Source(operation, inputs, dtype, seed), max_examples)
    return run.result(time.perf_counter() - started)


def _in_a_framework(
    operation: Operation, op: object, arguments: Mapping[str, Any] | None, inputs: Given | None, seed: int
) -> Operation:
    """Return a function that names no framework, as `lambda x: x.sum()` does, in the first one loaded that it takes."""
    for family in ("torch", "jax"):
        if family in sys.modules:
            other = operation_of(op, operation.name, arguments, family)
            try:
                Subject(other).forward(next(Source(other, inputs, "float64", seed).examples(1)).inputs)
            except (InvalidInput, CallFailed, Unsupported):
                continue
            return other
    return operation


def _chosen(only: Sequence[str], exclude: Sequence[str]) -> list[OperationCheck]:
    for name in (*only, *exclude):
        if name not in CHECKS:
            raise InvalidInput(f"check {name!r} is unknown; known: {', '.join(CHECKS)}")
    chosen = [check for name, check in CHECKS.items() if (not only or name in only) and name not in exclude]
    if not chosen:
        raise InvalidInput("no check is left: --only and --exclude name the same")
    return chosen


def _dtypes(operation: Operation, inputs: Given | None, asked: Sequence[str] | str | None, seed: int) -> list[str]:
    """Return in which types to check."""
    if asked:
        words = [asked] if isinstance(asked, str) else list(dict.fromkeys(asked))
        for word in words:
            if word not in DTYPES:
                raise InvalidInput(f"dtype {word!r} cannot be checked alone; use {' or '.join(DTYPES)}")
        return words
    try:
        example = next(Source(operation, inputs, "float64", seed).examples(1))
        Subject(operation).forward(example.inputs)
    except (InvalidInput, CallFailed, Unsupported):
        try:
            Source(operation, inputs, "float32", seed)
        except InvalidInput:
            return ["float64"]  # its refusal is told
        return ["float32"]
    return ["float64"]


@dataclass
class _Run:
    operation: Operation
    truth: Operation | None
    checks: Sequence[OperationCheck]
    seed: int
    tallies: dict[str, CheckTally] = field(default_factory=dict)
    findings: list[OperationFinding] = field(default_factory=list)
    unsupported: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shapes: dict[str, None] = field(default_factory=dict)
    dtypes: list[str] = field(default_factory=list)
    examples: int = 0
    unrepeatable: bool = False
    """Whether no two calls agree: then nothing can be told."""

    def check(self, dtype: str, source: Source, count: int) -> None:
        """Run all checks on `count` examples."""
        subject = Subject(self.operation)
        truth = None if self.truth is None else Subject(self.truth)
        failures: dict[tuple[str, int | None], tuple[Failure, Example, str]] = {}
        self.dtypes.append(dtype)
        for number, example in enumerate(source.examples(count)):
            generator = np.random.default_rng([self.seed, number, 1])
            self.examples += 1
            self.shapes[example.shapes] = None
            for outcome, cause in self._outcomes(subject, truth, example, dtype, generator, failures):
                self.tallies.setdefault(outcome.check, CheckTally()).count(outcome.state)
                if outcome.failure is not None:
                    failures.setdefault((outcome.check, outcome.failure.index), (outcome.failure, example, cause))
                if outcome.why:
                    self.unsupported.setdefault(outcome.check, outcome.why)
        self.notes = list(dict.fromkeys([*self.notes, *self.operation.notes()]))
        if not self.unrepeatable:
            self.findings += self._findings(failures, dtype)

    def _outcomes(
        self,
        subject: Subject,
        truth: Subject | None,
        example: Example,
        dtype: str,
        generator: np.random.Generator,
        known: Mapping[tuple[str, int | None], object],
    ) -> Iterator[tuple[Outcome, str]]:
        """Yield the outcome of every check on one example, each failure with its probable cause."""
        trial = _begun(subject, example, dtype, generator, truth, known)
        if isinstance(trial, Outcome):
            yield trial, ""
            return
        yield Outcome("call", "passed"), ""
        if not repeatable(trial):
            self.unrepeatable = True
            yield Outcome("gradient", "unsupported", why=UNREPEATABLE), ""
            return
        for check in self.checks:
            if self.operation.framework not in check.frameworks:
                continue
            for outcome in self._guarded(check, trial):
                if outcome.failure is not None:
                    trial.failing.add(outcome.check)
                    if outcome.failure.check == "value" and outcome.failure.kind is Kind.SHAPE:
                        trial.truth = None
                seen = outcome.failure is not None and (outcome.check, outcome.failure.index) in known
                yield outcome, "" if outcome.failure is None or seen else likely(trial, outcome.failure)

    @staticmethod
    def _guarded(check: OperationCheck, trial: Trial) -> Iterator[Outcome]:
        """Yield a check's outcomes; what the operation raises in it is its failure."""
        try:
            yield from check.run(trial)
        except CallFailed as error:
            yield Outcome(check.name, "failed", Failure(check.name, error.kind, str(error)))
        except Unsupported as error:
            yield Outcome(check.name, "unsupported", why=str(error))

    def _findings(
        self, failures: Mapping[tuple[str, int | None], tuple[Failure, Example, str]], dtype: str
    ) -> list[OperationFinding]:
        """Return findings, one for each cause."""
        order = {name: place for place, name in enumerate([*ROOTS, *(n for n in CHECKS if n not in ROOTS)])}
        ranked = sorted(failures.items(), key=lambda item: order.get(item[0][0], len(order)))
        swallowed, overwritten = _explained(failures)
        findings: dict[int | None, OperationFinding] = {}
        others: list[OperationFinding] = []
        for (check, index), (failure, example, cause) in ranked:
            if check in overwritten:
                continue
            root = findings.get(index)
            if root is None and (index is None or check not in ROOTS):
                root = next(iter(findings.values()), None)
            if root is not None and check in swallowed:
                root.also = list(dict.fromkeys([*root.also, *({check} - {root.check})]))
                root.likely = root.likely or (cause if root.check in DIAGNOSED else "")
                continue
            finding = finding_of(
                failure,
                operation=self.operation.name,
                path="" if index is None else self._path(failure, index),
                dtype=dtype,
                shapes=example.shapes,
                numbers=example.numbers,
                cause=cause,
            )
            if check in ROOTS:
                findings[index] = finding
            else:
                others.append(finding)
        found = merged([*findings.values(), *others])
        self._tell_what_is_right(found, failures)
        if self.truth is not None and "value" in self.tallies:
            self._tell_apart(found, failures)
        return found

    def _tell_what_is_right(
        self,
        found: Sequence[OperationFinding],
        failures: Mapping[tuple[str, int | None], tuple[Failure, Example, str]],
    ) -> None:
        """Name the inputs whose gradients are right, where others are wrong."""
        if not self.tallies.get("gradient", CheckTally()).passed:
            return
        wrong = {index for check, index in failures if check in CONSEQUENCES and index is not None}
        inputs = max((len(example.inputs) for _, example, _ in failures.values()), default=0)
        for finding in found:
            if finding.check in DIAGNOSED:
                finding.right = [self.operation.input_name(index) for index in range(inputs) if index not in wrong]

    def _path(self, failure: Failure, index: int) -> str:
        return "second derivative" if failure.check == "second-order" else self.operation.input_name(index)

    def _tell_apart(self, found: Sequence[OperationFinding], failures: Mapping[tuple[str, int | None], object]) -> None:
        """Say whether the forward or the backward pass is wrong, or both."""
        failed = {check for check, _ in failures}
        for finding in found:
            if finding.check == "gradient" and "value" not in failed:
                finding.detail = "the forward pass agrees with the reference: the backward pass is wrong"
            elif finding.check == "gradient":
                finding.detail = "the forward pass is wrong too, and this is no derivative of it either"
            elif finding.check == "value" and not failed & set(ROOTS):
                finding.detail = "the backward pass is right, for this forward pass or for the reference's"

    def result(self, seconds: float) -> OperationResult:
        """Return the result of all that was run."""
        compared = sum(tally.passed + tally.failed for name, tally in self.tallies.items() if name != "call")
        gradient = self.tallies.get("gradient")
        told = gradient is None or gradient.passed + gradient.failed > 0
        verdict: Verdict = "passed" if compared and told and not self.unrepeatable else "nothing compared"
        return OperationResult(
            verdict="failed" if self.findings else verdict,
            operation=self.operation.name,
            kind=self.operation.kind,
            framework=self.operation.framework,
            dtypes=self.dtypes,
            seed=self.seed,
            seconds=seconds,
            examples=self.examples,
            shapes=list(self.shapes),
            checks={name: tally for name, tally in self.tallies.items() if name != "call"},
            findings=self.findings,
            unsupported=self.unsupported,
            notes=self.notes,
        )


def _begun(
    subject: Subject,
    example: Example,
    dtype: str,
    generator: np.random.Generator,
    truth: Subject | None,
    known: Mapping[tuple[str, int | None], object],
) -> Trial | Outcome:
    """Return an example with its outputs and gradients, or how it ended where there are none."""
    try:
        trial = Trial(subject, example, dtype, generator, truth, known=known)
    except CallFailed as error:
        if example.numbers in NUMBERS:  # it need not take all that is drawn
            return Outcome("call", "unsupported")
        return Outcome("call", "failed", Failure("call", error.kind, str(error)))
    if truth is not None:
        try:
            truth.forward(example.inputs)
        except CallFailed as error:
            raise InvalidInput(f"the reference refuses inputs {example.shapes}: {error}") from error
    if any(output.dtype.itemsize < np.dtype(dtype).itemsize for output in trial.outputs):
        trial.dtype = "float32"
    try:
        _ = trial.gradients, trial.allowance
    except CallFailed as error:
        return Outcome("call", "failed", Failure("call", error.kind, str(error)))
    return trial


def _explained(failures: Mapping[tuple[str, int | None], object]) -> tuple[set[str], set[str]]:
    """Return the checks that fail with a wrong gradient, and those that fail for what else was found."""
    failed = {check for check, _ in failures}
    overwritten: set[str] = set()
    if failed & {"mutation", "interleave"}:
        overwritten |= {"second-order"}  # no graph knows what is kept aside
    if "mutation" in failed:
        overwritten |= {"cotangent-layout", "input-layout"}  # a repeated element is written more than once
    return (UNSTABLE if "repeat" in failed else CONSEQUENCES), overwritten
