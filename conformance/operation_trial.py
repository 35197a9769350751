"""One example of an operation with what all checks need of it: outputs, a cotangent, gradients, and their noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gradconform.conformance.compare import Kind
from gradconform.conformance.operation import AnyArray, Arrays, Gradients
from gradconform.conformance.operation_inputs import Example
from gradconform.conformance.operation_numerics import UNIT, Along, Slope, Vector, power_of_two, slope
from gradconform.conformance.operation_subject import CallFailed, Subject, complex_arguments
from gradconform.dtypes import is_floating
from gradconform.errors import GradconformError

NOISE_MARGIN = 32
"""How many times the noise that a few perturbed calls show may be exceeded by another call."""
PERTURBATIONS = 3


@dataclass(frozen=True)
class Element:
    """One element of a gradient: what was returned, what is expected, and how far rounding leaves that open."""

    index: tuple[int, ...]
    actual: float
    expected: float
    bound: float

    @property
    def error(self) -> float:
        """The distance."""
        return abs(self.actual - self.expected)

    @property
    def ratio(self) -> float:
        """Error over bound."""
        if self.bound > 0:
            return self.error / self.bound
        return 0.0 if self.error == 0 else np.inf


@dataclass(frozen=True)
class Failure:
    """A check that failed: `index` is the input's, None where it is none's in particular."""

    check: str
    kind: Kind
    sentence: str
    index: int | None = None
    element: Element | None = None
    elements: Sequence[Element] = ()
    """All that were looked at, for what they have in common."""
    rest: str = ""
    """What is known of the other elements."""
    cotangents: Sequence[AnyArray] = ()
    """For which the gradient was computed."""
    basis: str = ""
    """What the expected value rests on."""
    detail: str = ""


@dataclass
class Outcome:
    """How one comparison of a check ended."""

    check: str
    state: str
    """passed, failed, kink or unsupported."""
    failure: Failure | None = None
    why: str = ""


@dataclass
class Trial:
    """An operation and one example; `truth` is what its gradients are held against, if it is not itself."""

    subject: Subject
    example: Example
    dtype: str
    generator: np.random.Generator
    truth: Subject | None = None
    outputs: Arrays = field(default_factory=list)
    known: Mapping[tuple[str, int | None], object] = field(default_factory=dict)
    """What failed in the run so far, by check and input: it need not be searched for again."""
    failing: set[str] = field(default_factory=set)
    """The checks that failed on this example so far."""

    def __post_init__(self) -> None:
        self.outputs = self.subject.forward(self.example.inputs)

    @property
    def inputs(self) -> Arrays:
        """All inputs, the operation's own parameters included."""
        return self.example.inputs

    @cached_property
    def differentiable(self) -> list[int]:
        """Which inputs may have a gradient."""
        return [index for index, x in enumerate(self.inputs) if is_floating(x.dtype) and x.size]

    @cached_property
    def cotangents(self) -> Arrays:
        """A cotangent for every output, of random signs and sizes, 0 where the output is not finite."""
        return self.drawn_cotangents()

    @cached_property
    def gradients(self) -> Gradients:
        """The gradients for `cotangents`."""
        return self.subject.backward(self.inputs, self.cotangents)

    @cached_property
    def allowance(self) -> list[AnyArray]:
        """How far each gradient may be from that of an equivalent call: by the noise of backward in the cotangent."""
        others = [
            self.subject.backward(self.inputs, [self._nudged(c) for c in self.cotangents]) for _ in range(PERTURBATIONS)
        ]
        return [
            limit + self.floor(index, self.cotangents)
            for index, limit in enumerate(allowances(self.gradients, others, self.dtype))
        ]

    def floor(self, index: int, cotangents: Sequence[AnyArray]) -> float:
        """Return what rounding leaves of terms that cancel, as large as the cotangent or as the average slope."""
        size = max((float(np.max(np.abs(c), initial=0)) for c in cotangents), default=0.0)
        height = max((_largest(output) for output in self.outputs), default=0.0)
        steepness = max(1.0, height / power_of_two(self.inputs[index])) if self.inputs[index].size else 1.0
        return NOISE_MARGIN * UNIT[self.dtype] * size * steepness

    @property
    def finite(self) -> bool:
        """Whether all outputs are."""
        return all(bool(np.isfinite(output).all()) for output in self.outputs)

    def drawn_cotangents(self, mask: Sequence[AnyArray] | None = None) -> Arrays:
        """Draw a cotangent for every output; it is 0 where `mask` says so."""
        drawn = []
        for position, output in enumerate(self.outputs):
            keep = np.isfinite(output) if mask is None else mask[position] & np.isfinite(output)
            drawn.append(np.where(keep, random_signs(self.generator, output.shape), 0).astype(output.dtype))
        return drawn

    def nudged_inputs(self) -> Arrays:
        """Return the inputs, every number changed in its last bits."""
        return [self._nudged(x) if is_floating(x.dtype) else x for x in self.inputs]

    def _nudged(self, array: AnyArray) -> AnyArray:
        step = self.generator.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], array.shape) * 2 * UNIT[self.dtype]
        return np.asarray(array * (1 + step), array.dtype)

    def direction(self, index: int) -> Vector:
        """Draw a direction in one input, of a power of two of its size, 0 where the input is not finite."""
        x = self.inputs[index]
        signs = random_signs(self.generator, x.shape).reshape(-1) * power_of_two(x)
        return np.where(np.isfinite(x).reshape(-1), signs, 0)

    def slope(self, index: int, direction: Vector, scale: float = 1.0) -> Slope:
        """Return the derivative of all outputs, in one vector, along a direction in one input."""
        subject = self.truth or self.subject
        imaginary = self._imaginary(subject, index, direction) if subject.operation.analytic else None
        return slope(self._along(subject, index, direction), self.dtype, scale, imaginary)

    def _along(self, subject: Subject, index: int, direction: Vector) -> Along:
        x = self.inputs[index]
        move = direction.reshape(x.shape)

        def along(t: float) -> Vector:
            moved = list(self.inputs)
            moved[index] = (x.astype(np.float64) + t * move).astype(x.dtype)
            try:
                return flat(subject.forward(moved))
            except CallFailed:  # it refuses what lies outside its domain
                return np.full(sum(output.size for output in self.outputs), np.nan)

        return along

    def _imaginary(self, subject: Subject, index: int, direction: Vector) -> Along:
        x = self.inputs[index]
        size = sum(output.size for output in self.outputs)

        def imaginary(h: float) -> Vector:
            moved: Arrays = list(self.inputs)
            moved[index] = x.astype(np.float64) + 1j * (h * direction.reshape(x.shape))

            def forward() -> Arrays:
                with complex_arguments():
                    return subject.operation.forward(moved)

            try:
                return flat([np.imag(output) for output in subject.call("forward", forward)])
            except (CallFailed, GradconformError):  # it is no function of complex numbers
                return np.full(size, np.nan)

        return imaginary

    def split(self, values: AnyArray) -> Arrays:
        """Return one vector of all outputs as an array for each."""
        ends = np.cumsum([output.size for output in self.outputs])[:-1]
        return [part.reshape(output.shape) for part, output in zip(np.split(values, ends), self.outputs, strict=True)]


def allowances(gradients: Gradients, others: Sequence[Gradients], dtype: str) -> list[AnyArray]:
    """Return for every gradient how far rounding may carry it, by how far calls with nudged numbers are from it."""
    allowed = []
    for index, gradient in enumerate(gradients):
        if gradient is None:
            allowed.append(np.zeros(()))
            continue
        with np.errstate(all="ignore"):
            apart = [
                np.abs(_wide(found) - _wide(gradient))
                for other in others
                if (found := other[index]) is not None and found.shape == gradient.shape
            ]
            noise = max((float(np.max(a, initial=0, where=np.isfinite(a))) for a in apart), default=0.0)
            allowed.append(NOISE_MARGIN * (noise + UNIT[dtype] * np.abs(_wide(gradient))))
    return allowed


def differing(actual: AnyArray, expected: AnyArray, allowed: AnyArray) -> Element | None:
    """Return the element of an array that is farthest beyond what is allowed, None where there is none."""
    with np.errstate(all="ignore"):
        error = np.abs(_wide(actual) - _wide(expected))
        same = (_wide(actual) == _wide(expected)) | (np.isnan(actual) & np.isnan(expected))
        excess = np.where(same | (error <= allowed), 0, np.where(np.isnan(error), np.inf, error))
    if not excess.any():
        return None
    index = np.unravel_index(int(np.argmax(excess)), excess.shape)
    bound = float(np.broadcast_to(allowed, excess.shape)[index])
    return Element(tuple(map(int, index)), float(actual[index]), float(expected[index]), bound)


def flat(arrays: Sequence[AnyArray]) -> Vector:
    """Return all arrays as one vector."""
    parts = [np.asarray(array, np.float64).reshape(-1) for array in arrays]
    return np.concatenate(parts) if parts else np.zeros(0)


def random_signs(generator: np.random.Generator, shape: tuple[int, ...]) -> Vector:
    """Draw multiples of 1/8 between 1/2 and 3/2, of independent random signs."""
    return generator.choice([-1.0, 1.0], shape) * generator.integers(4, 13, shape) / 8


def _largest(array: AnyArray) -> float:
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))


def _wide(array: Any) -> AnyArray:
    return np.asarray(array, np.float64)


def same(
    trial: Trial,
    check: str,
    found: Gradients,
    expected: Gradients,
    words: str,
    allowed: Sequence[AnyArray] | None = None,
) -> Iterator[Outcome]:
    """Compare gradients that must be the same; `words` says in which call they are not, after the input's name."""
    limits = trial.allowance if allowed is None else allowed
    for index in trial.differentiable:
        one, other = found[index], expected[index]
        name = trial.subject.operation.input_name(index)
        if other is None or (one is None and not np.any(other)):
            yield Outcome(check, "passed")
            continue
        if one is None:
            x = trial.inputs[index]
            sentence = f"{name} gets no gradient (None) {words}"
            element = differing(np.zeros(x.shape), other, np.zeros(x.shape)) if other.shape == x.shape else None
            yield Outcome(check, "failed", Failure(check, Kind.WRONG, sentence, index, element))
            continue
        if one.shape != other.shape:
            sentence = f"the gradient of {name} has shape {one.shape} {words}, and {other.shape} without"
            yield Outcome(check, "failed", Failure(check, Kind.SHAPE, sentence, index))
            continue
        element = differing(one, other, limits[index])
        if element is None:
            yield Outcome(check, "passed")
            continue
        failure = Failure(check, Kind.WRONG, f"the gradient of {name} {words}", index, element, basis="the other call")
        yield Outcome(check, "failed", failure)


def rounding(trial: Trial, array: AnyArray) -> AnyArray:
    """Return a rounding allowance for an array of gradients alone."""
    return allowances([array], [], trial.dtype)[0]


def path_allowance(trial: Trial, others: Gradients | None = None) -> list[AnyArray]:
    """Return an allowance for gradients that are computed on another way: another order of a sum, say."""
    limits = [limit + level(trial, g) for limit, g in zip(trial.allowance, trial.gradients, strict=True)]
    return [limit + level(trial, g) for limit, g in zip(limits, others or [None] * len(limits), strict=True)]


def level(trial: Trial, gradient: AnyArray | None) -> float:
    """Return a rounding error of the gradient's largest element."""
    if gradient is None or not gradient.size:
        return 0.0
    limit = rounding(trial, gradient)
    return float(np.max(limit, initial=0, where=np.isfinite(limit)))
