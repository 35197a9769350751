"""Memory between calls: what of an earlier call a candidate still uses, told by calling it in turn.

Cases of a network are computed one after the other. Where what comes of the later ones is what the reference gives with
something of an earlier case in place of its own, that is what is remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from gradconform.case import Batch, Case, Gradients, Parameters
from gradconform.conformance.examples import Draw
from gradconform.conformance.fresh import SEED, Evidence, evidence_of, example_of, networks_like
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.mistake import Given, Mistake, Step
from gradconform.conformance.situation import Situation
from gradconform.conformance.theories import Answer, Theory, asked
from gradconform.errors import InvalidInput
from gradconform.layers import Dense
from gradconform.network import Network
from gradconform.reference.arithmetic import Value
from gradconform.reference.backpropagation import gradients
from gradconform.reference.layers import Arithmetic

ROWS = (3, 3, 5, 5, 2, 3)
"""The batches of the calls that are made in turn."""
WIDEST = (17, 23)
"""The same of an architecture that is declared: widths from these numbers on."""
UNKNOWN_TO_IT = ((5, 2, 3), (2, 6, 5))
"""Widths of networks that no other fresh case has: of their first calls nothing is remembered."""
FRESH = 77
"""Seeds of these are other ones than those of other fresh cases."""


@dataclass(frozen=True)
class Memory:
    """Something of an earlier case that may be remembered. `make(earlier)`: the mistake of still using it.

    `first`: of the first call for a network, and not of the one before.
    """

    id: str
    likely: str
    mend: str
    make: Callable[[Sequence[Evidence]], Mistake | None]


def remembered(implementation: Implementation, case: Case, *, own: bool) -> tuple[str, str, str, str] | None:
    """Return the name of what is remembered of earlier calls, if that explains what is wrong; else None.

    `own`: whether a network may be asked for that was not computed yet.
    """
    found = _called(implementation, case, own=own)
    failing = [number for number, (entry, _) in enumerate(found) if entry.fails]
    if len(failing) < 2:
        return None
    for memory in MEMORIES:
        answers = []
        for entry, earlier in found:
            mistake = memory.make(earlier)
            if mistake is not None:
                answers.append(asked(Theory((mistake,)), entry))
            elif earlier or not entry.fails:
                # what is left of the calls before the first one is not known
                answers.append(Answer.REFUTED if entry.fails else Answer.CONSISTENT)
        if Answer.REFUTED not in answers and answers.count(Answer.EXPLAINED) >= 2:
            cases = f"all of {len(found)} calls one after the other"
            return (
                memory.id,
                memory.likely,
                memory.mend,
                f"putting this memory into the reference reproduces your numbers in {cases}",
            )
    return None


def _called(implementation: Implementation, case: Case, *, own: bool) -> list[tuple[Evidence, list[Evidence]]]:
    """Return what an implementation gives in calls in turn, each with the cases of the calls before it."""
    # where its architecture is declared, others do not fit it, and other widths may
    fresh = (networks_like(case.network, UNKNOWN_TO_IT), _widened(case.network)) if own else ()
    for networks in (*fresh, (case.network,)):
        if found := [entry for network in networks for entry in _in_turn(implementation, case, network)]:
            return found
    return []


def _widened(network: Network) -> Iterator[Network]:
    """Yield the network with widths that no other fresh case has."""
    for least in WIDEST:
        widths = itertools.count(least)
        inputs = next(widths)
        layers = [
            msgspec.structs.replace(layer, units=next(widths)) if isinstance(layer, Dense) else layer
            for layer in network.layers
        ]
        yield Network(inputs=inputs, layers=tuple(layers), loss=network.loss)


def _in_turn(implementation: Implementation, case: Case, network: Network) -> Iterator[tuple[Evidence, list[Evidence]]]:
    single = implementation.capabilities.samples == "single"
    earlier: list[Evidence] = []
    for number, rows in enumerate(ROWS):
        example = replace(example_of(case, 1 if single else rows), network=network)
        try:
            made = example.case(Draw("ordinary", SEED + FRESH + number), case.dtype)
        except InvalidInput:
            return
        if implementation.capabilities.lacks(network, made.batch) is not None:
            return
        entry = evidence_of(implementation, Situation(made))
        if entry is not None:
            yield entry, list(earlier)
            earlier.append(entry)


def _given(
    change: Callable[[Case, Network, Parameters, Batch], Given | None], pick: int
) -> Callable[..., Mistake | None]:
    def make(earlier: Sequence[Evidence]) -> Mistake | None:
        if not earlier:
            return None
        old = earlier[pick].case
        return Mistake("", "", given=lambda network, parameters, batch: change(old, network, parameters, batch))

    return make


def _old_parameters(old: Case, network: Network, _parameters: Parameters, batch: Batch) -> Given:
    return network, old.parameters, batch


def _old_batch(old: Case, network: Network, parameters: Parameters, batch: Batch) -> Given | None:
    return (network, parameters, old.batch) if old.batch.rows == batch.rows else None


def _old_targets(old: Case, network: Network, parameters: Parameters, batch: Batch) -> Given | None:
    if old.batch.rows != batch.rows:
        return None
    return network, parameters, replace(batch, targets=old.batch.targets)


def _old_size(old: Case, network: Network, parameters: Parameters, batch: Batch) -> Given | None:
    return (network, parameters, batch.take(slice(0, old.batch.rows))) if old.batch.rows < batch.rows else None


def _everything_old(old: Case, network: Network, _parameters: Parameters, batch: Batch) -> Given | None:
    return (network, old.parameters, old.batch) if old.batch.rows == batch.rows else None


def _incoming(first_only: bool) -> Callable[[Sequence[Evidence]], Mistake | None]:
    """Return the gradients of weights with the incoming activations of the last call that was as large."""

    def make(earlier: Sequence[Evidence]) -> Mistake | None:
        def step(s: Step) -> tuple[Value, dict[str, Value]] | None:
            old = next((one.case for one in reversed(earlier) if one.case.batch.rows == s.x.shape[0]), None)
            if not isinstance(s.layer, Dense) or old is None or (first_only and s.index):
                return None
            given = (
                old.batch.inputs
                if not s.index
                else gradients(old.network, old.parameters, old.batch).outputs[s.index - 1]
            )
            return s.own(weight=s.k.lift(given).mT @ s.delta)

        return Mistake("", "", step=step) if earlier else None

    return make


def _added(share: float) -> Callable[[Sequence[Evidence]], Mistake | None]:
    """Return gradients to which a share of what was returned by the call before is added."""

    def make(earlier: Sequence[Evidence]) -> Mistake | None:
        if not earlier:
            return None
        before = earlier[-1].actual.parameters

        def finish(_case: Case, found: Gradients[Value], k: Arithmetic) -> Gradients[Value] | None:
            if any(path not in before or before[path].shape != value.shape for path, value in found.parameters.items()):
                return None  # of what was not returned nothing can be added
            summed = {path: value + k.lift(before[path]) * share for path, value in found.parameters.items()}
            return replace(found, parameters=summed)

        return Mistake("", "", finish=finish)

    return make


def _first_of_its_size(earlier: Sequence[Evidence], rows: int) -> Case | None:
    return next((one.case for one in earlier if one.case.batch.rows == rows), None)


def _cached(earlier: Sequence[Evidence]) -> Mistake | None:
    """Return the result of the first call with a batch as large."""

    def given(network: Network, _parameters: Parameters, batch: Batch) -> Given | None:
        old = _first_of_its_size(earlier, batch.rows)
        return None if old is None else (network, old.parameters, old.batch)

    return Mistake("", "", given=given) if earlier else None


def _divided_by_the_last(earlier: Sequence[Evidence]) -> Mistake | None:
    """Return gradients that are divided by the size of the batch before."""

    def finish(case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value] | None:
        factor = case.batch.rows / earlier[-1].case.batch.rows
        if not case.network.loss.averages:
            return None
        return replace(found, parameters={path: value * factor for path, value in found.parameters.items()})

    return Mistake("", "", finish=finish) if earlier else None


def _cold(earlier: Sequence[Evidence]) -> Mistake | None:
    """Return zeros in the first call."""

    def finish(_case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value]:
        return replace(found, parameters={path: value * 0.0 for path, value in found.parameters.items()})

    return None if earlier else Mistake("", "", finish=finish)


MEMORIES = (
    Memory(
        "accumulates",
        "gradients add up over the calls: each returns the sum of its own and all earlier ones; set them to 0 first",
        "dw = np.zeros_like(w) at the start of every call (zero_grad), not dw += ... into a kept array",
        _added(1.0),
    ),
    Memory(
        "momentum",
        "0.9 times what was returned before is added to each call's gradients: momentum belongs into the update",
        "return the gradient; keep the velocity in the optimiser",
        _added(0.9),
    ),
    Memory(
        "stale-parameters",
        "the parameters of the first call are used in later ones: read what is handed over in each call",
        "w = parameters['0.weight'] in every call, not kept from the first",
        _given(_old_parameters, 0),
    ),
    Memory(
        "stale-parameters",
        "the parameters of the call before are used: read what is handed over first",
        "w = parameters['0.weight'] before the forward pass",
        _given(_old_parameters, -1),
    ),
    Memory(
        "cold-start",
        "the first call for a network returns zeros: it sets something up and does not compute",
        "return what is computed in the first call too",
        _cold,
    ),
    Memory(
        "stale-batch-size",
        "the mean divides by the size of the batch before: take the size of the batch that is handed over",
        "/ len(batch.inputs) in every call, not a kept n",
        _divided_by_the_last,
    ),
    Memory(
        "stale-result",
        "the result of the first call is returned for every batch of the same size: a cache that does not see numbers",
        "compute anew, or make the numbers part of the cache's key",
        _cached,
    ),
    Memory(
        "stale-result",
        "the result of the call before is returned for a batch of the same size: a cache that does not see new numbers",
        "compute anew, or make the numbers part of the cache's key",
        _given(_everything_old, -1),
    ),
    Memory(
        "stale-batch",
        "the batch of the call before is used: take the inputs and targets that are handed over",
        "x, y = batch.inputs, batch.targets in every call",
        _given(_old_batch, -1),
    ),
    Memory(
        "stale-targets",
        "the targets of the call before are used",
        "y = batch.targets in every call",
        _given(_old_targets, -1),
    ),
    Memory(
        "stale-activations",
        "the gradient of the first weight takes the inputs of the call before: the cache is filled after it is read",
        "keep x in the forward pass of the same call, before dw = x.T @ delta",
        _incoming(first_only=True),
    ),
    Memory(
        "stale-activations",
        "the gradients of the weights take the activations of the call before: the cache is filled after it is read",
        "keep the activations in the forward pass of the same call, before dw = x.T @ delta",
        _incoming(first_only=False),
    ),
    Memory(
        "stale-shape",
        "buffers have the size of the first batch: samples of a larger one beyond it are left out",
        "np.empty(x.shape) in every call, not a buffer of the first call's size",
        _given(_old_size, 0),
    ),
)
"""What may be remembered."""
