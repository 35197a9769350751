"""Fresh cases for a diagnosis: what a candidate gives in cases like the one in which it failed, and what is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradconform.capabilities import Capabilities, Labels
from gradconform.case import Array, Case, Gradients
from gradconform.conformance.candidates import allowing
from gradconform.conformance.compare import ratios
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.looks import quantities, shown_steps
from gradconform.conformance.situation import CallFailed, Situation, Subject
from gradconform.dtypes import is_floating
from gradconform.errors import InvalidInput
from gradconform.layers import Dense, Layer
from gradconform.network import Network
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounds import allowance
from gradconform.templates import Template

ROWS = (3, 5, 2, 7, 1)
"""Batch sizes of fresh cases: sizes that no number of units of theirs equals."""
WIDTHS = ((4, 6, 3), (3, 3, 3), (2, 5, 4))
"""Widths of fresh networks: of each layer its own, so that every number that may be a factor has its own value, or all
equal, so that what is transposed fits."""
FILLING = (5, 4, 6, 3, 2)
"""Widths for a template, each another one."""
JITTERED = 4
"""So many cases are near the failing one."""
JITTER = 0.03
"""How near."""
SAME = 3
"""So often each batch size is drawn in the regime of the failing case, whose bugs may show now and then alone."""
SEED = 0x6772616463


@dataclass(eq=False)
class Evidence:
    """One case: what a candidate gave, as one vector of all that it showed, beside what is right with its bound.

    `case` is the one that the candidate, by the conventions that it declares, is to compute. `shown`: the outputs and
    deltas that it showed, on which each step is then held against the right one.
    """

    case: Case
    actual: Gradients[Any]
    implementation: Implementation
    reference: Gradients[Bounded]
    shown: Gradients[Array] | None = None
    fresh: bool = True
    predictions: dict[tuple[object, ...], tuple[object, Gradients[Array]]] = field(default_factory=dict)
    """What mistakes give in this case, by what `gradconform.conformance.theories` asked, which is kept with it."""

    @cached_property
    def names(self) -> list[tuple[str, Any]]:
        """What it showed, of the right shape: kind and key."""
        given, right = quantities(self.actual), quantities(self.reference)
        return [
            name
            for name, bound in right.items()
            if (array := given.get(name)) is not None
            and np.shape(array) == bound.shape
            and is_floating(np.asarray(array).dtype)
        ]

    @cached_property
    def sizes(self) -> list[int]:
        """How many elements each of these has."""
        right = quantities(self.reference)
        return [int(right[name].value.size) for name in self.names]

    def vector(self, found: Gradients[Any]) -> Array:
        """Return the same of other gradients, which may be bounded, as one vector of float64."""
        arrays = quantities(found)
        parts = [np.asarray(getattr(arrays[name], "value", arrays[name]), np.float64).ravel() for name in self.names]
        return np.asarray(np.concatenate(parts)) if parts else np.zeros(0)

    @cached_property
    def given(self) -> Array:
        """What the candidate gave."""
        return self.vector(self.actual)

    @cached_property
    def right(self) -> Array:
        """What is right."""
        return self.vector(self.reference)

    @cached_property
    def bound(self) -> Array:
        """How far rounding may carry it."""
        return self.bound_of(self.reference)

    def bound_of(self, found: Gradients[Bounded]) -> Array:
        """Return the bounds of bounded gradients as one vector."""
        arrays = quantities(found)
        parts = [
            np.broadcast_to(arrays[name].error * allowance(arrays[name]), arrays[name].shape).ravel()
            for name in self.names
        ]
        return np.asarray(np.concatenate(parts), np.float64) if parts else np.zeros(0)

    def ratio_of(self, found: Gradients[Bounded]) -> Array:
        """Return |given - found| / bound for every element."""
        given, bounds = quantities(self.actual), quantities(found)
        parts = [ratios(bounds[name], np.asarray(given[name])).ravel() for name in self.names]
        return np.asarray(np.concatenate(parts)) if parts else np.zeros(0)

    @cached_property
    def wrong(self) -> Array:
        """Which elements rounding cannot explain."""
        return np.asarray(self.ratio_of(self.reference) > 1)

    @cached_property
    def largest(self) -> Array:
        """For each element the size of the largest finite one of its array."""
        sizes = [np.abs(part[np.isfinite(part)]).max(initial=0.0) for _, part in self.by_name(self.given)]
        return np.asarray(np.repeat(sizes, self.sizes))

    @property
    def fails(self) -> bool:
        """Whether there is any."""
        return bool(self.wrong.any())

    @cached_property
    def off(self) -> Array:
        """How far each element is from what is right."""
        with np.errstate(all="ignore"):
            return np.asarray(np.abs(self.given - self.right))

    def by_name(self, vector: Array) -> Iterator[tuple[tuple[str, Any], Array]]:
        """Yield the parts of a vector with what they are."""
        start = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            yield name, vector[start : start + size]
            start += size


def evidence_of(implementation: Implementation, situation: Situation, *, fresh: bool = True) -> Evidence | None:
    """Return what an implementation gives in a situation; None where it gives nothing."""
    subject = Subject(implementation, situation)
    try:
        actual = subject.actual()
        case = replace(situation.case, network=implementation.described(situation.case.network))
        run = actual if actual.captured is None else actual.captured
        steps = shown_steps(situation.case, run)
        shown = steps if steps.outputs or steps.deltas else None
        if shown is not None:
            reference = situation.evaluate(implementation, shown=shown).gradients
        else:
            run, reference = actual, situation.expected(implementation).gradients
    except (CallFailed, NotImplementedError, InvalidInput):
        return None
    found = Evidence(case, run, implementation, allowing(reference, actual), shown, fresh)
    return found if found.names else None


def cases_like(
    case: Case, capabilities: Capabilities, regime: str | None, bodies: Sequence[Network] = ()
) -> Iterator[Case]:
    """Yield fresh cases like the one given: the network on other batches, other networks of its parts, and near ones.

    regime: the one of the case's numbers, for more of the same. bodies: the other networks.
    """
    dtype = case.dtype
    single = capabilities.samples == "single"
    rows = (1,) if single else ROWS
    example = example_of(case, 1)

    def drawn(network: Network, count: int, name: str, number: int) -> Case | None:
        shaped = replace(example, network=network, rows=count)
        try:
            made = shaped.case(Draw(name, SEED + number), dtype)
        except InvalidInput:
            return None
        return made if capabilities.lacks(network, made.batch) is None else None

    plan: list[tuple[Network, int, str]] = [(case.network, count, "ordinary") for count in rows]
    if single:
        plan += [(case.network, 1, "ordinary")] * 3
    if regime is not None and regime != "ordinary":
        plan += [(case.network, count, regime) for count in (case.batch.rows, *rows[:3]) * SAME]
    if case.batch.rows == 1 and not single:
        # what goes wrong with a single sample alone
        plan += [(case.network, 1, "ordinary")] * SAME
    plan += [(network, rows[index % len(rows)], "ordinary") for index, network in enumerate(bodies)]
    for number, (network, count, name) in enumerate(plan):
        made = drawn(network, count, name, number)
        if made is not None:
            yield made
    for number in range(JITTERED):
        yield jittered(case, np.random.default_rng(SEED + number))


def jittered(case: Case, rng: np.random.Generator) -> Case:
    """Return a case whose numbers are off by some percent: as large, and not as round."""

    def near(array: Array) -> Array:
        return np.asarray(array * (1 + JITTER * rng.uniform(-1, 1, array.shape))).astype(array.dtype)

    batch = replace(case.batch, inputs=near(case.batch.inputs))
    return replace(case, parameters={path: near(array) for path, array in case.parameters.items()}, batch=batch)


def example_of(case: Case, rows: int) -> Example:
    """Return the example whose cases are of the kind of a case."""
    labels: Labels = "integer" if case.batch.labelled else "soft"
    return Example(case.network, rows, (), labels, class_weights=case.batch.class_weights is not None)


def networks_like(network: Network, widths: Sequence[tuple[int, int, int]] = WIDTHS) -> Iterator[Network]:
    """Yield networks with the same loss whose layers are of the same kinds, of other widths and another depth."""
    dense = next((layer for layer in network.layers if isinstance(layer, Dense)), Dense(1))
    others = list(dict.fromkeys(layer for layer in network.layers if not isinstance(layer, Dense)))
    last = network.layers[-1] if network.loss.follows else None
    inner = [layer for layer in others if layer != last] or ([last] if last in others and last is not None else [])
    for first, second, third in widths:
        layers: list[Layer] = [Dense(first, dense.bias)]
        layers += inner
        layers.append(Dense(second, dense.bias))
        layers += reversed(inner)
        layers.append(Dense(third, dense.bias))
        if last is not None:
            layers.append(last)
        elif network.layers[-1] in others:
            layers.append(network.layers[-1])
        inputs = first if first == second == third else first + 1
        yield Network(inputs=inputs, layers=tuple(layers), loss=network.loss)


def filled_like(template: Template) -> Iterator[Network]:
    """Yield the networks of a template, which has free widths, with widths of their own and with equal ones."""
    free = len(template.free)
    if free:
        yield template.filled([FILLING[index % len(FILLING)] for index in range(free)])
        yield template.filled([3] * free)


def failing_first(found: Sequence[Evidence]) -> list[Evidence]:
    """Return the evidence, most telling first: what fails, in batches of several samples, with many elements."""
    return sorted(found, key=_tells_little)


def _tells_little(entry: Evidence) -> tuple[bool, bool, bool, int]:
    return not entry.fails, not entry.fresh, entry.case.batch.rows == 1, -entry.given.size
