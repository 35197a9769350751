"""What of an earlier call is still used is told by calling in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradconform.conformance import implementations
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.memory import MEMORIES, ROWS, remembered
from gradconform.errors import Unsupported
from gradconform.reference.backpropagation import gradients
from gradconform.templates import parse_template

VALUES = "4 -> Dense(6) -> Tanh -> Dense(3), MeanSquaredError"


def case_of(text=VALUES, rows=3):
    return Example(parse_template(text).network, rows, ()).case(Draw("ordinary", 3), "float64")


def right(network, parameters, batch):
    return dict(gradients(network, parameters, batch).parameters)


class State:
    """What is kept of earlier calls for the same network."""

    def __init__(self):
        self.kept = {}

    def calls(self, network):
        """Return the earlier calls for a network, and make room for this one."""
        return self.kept.setdefault(str(network), [])


def remembering(change):
    """Return candidates that keep every call, and use of them what `change` says."""

    def make():
        state = State()

        def compute(network, parameters, batch):
            earlier = state.calls(network)
            found = change(earlier, network, parameters, batch)
            earlier.append((parameters, batch, {path: array.copy() for path, array in found.items()}))
            return found

        return compute

    return make


def accumulating(share):
    def change(earlier, network, parameters, batch):
        found = right(network, parameters, batch)
        return {path: array + share * earlier[-1][2][path] for path, array in found.items()} if earlier else found

    return change


def first_parameters(earlier, network, parameters, batch):
    return right(network, earlier[0][0] if earlier else parameters, batch)


def last_parameters(earlier, network, parameters, batch):
    return right(network, earlier[-1][0] if earlier else parameters, batch)


def zeros_at_first(earlier, network, parameters, batch):
    found = right(network, parameters, batch)
    return found if earlier else {path: np.zeros_like(array) for path, array in found.items()}


def last_size(earlier, network, parameters, batch):
    rows = earlier[-1][1].rows if earlier else batch.rows
    return {path: array * batch.rows / rows for path, array in right(network, parameters, batch).items()}


def first_result(earlier, network, parameters, batch):
    same = [found for _, old, found in earlier if old.rows == batch.rows]
    return same[0] if same else right(network, parameters, batch)


def last_result(earlier, network, parameters, batch):
    if earlier and earlier[-1][1].rows == batch.rows:
        return right(network, *earlier[-1][:2])
    return right(network, parameters, batch)


def last_batch(earlier, network, parameters, batch):
    old = earlier[-1][1] if earlier and earlier[-1][1].rows == batch.rows else batch
    return right(network, parameters, old)


def last_targets(earlier, network, parameters, batch):
    old = earlier[-1][1] if earlier and earlier[-1][1].rows == batch.rows else batch
    return right(network, parameters, replace(batch, targets=old.targets))


def activations(first_only):
    def change(earlier, network, parameters, batch):
        found = gradients(network, parameters, batch)
        own = dict(found.parameters)
        old = next((call for call in reversed(earlier) if call[1].rows == batch.rows), None)
        if old is not None:
            outputs = gradients(network, *old[:2]).outputs
            for path in own:
                index = int(path.partition(".")[0])
                if path.endswith("weight") and not (index and first_only):
                    x = outputs[index - 1] if index else old[1].inputs
                    own[path] = x.T @ found.deltas[index]
        return own

    return change


def first_size(earlier, network, parameters, batch):
    rows = min(earlier[0][1].rows if earlier else batch.rows, batch.rows)
    return right(network, parameters, batch.take(slice(0, rows)))


MADE = [
    ("accumulates", accumulating(1.0)),
    ("momentum", accumulating(0.9)),
    ("stale-parameters", first_parameters),
    ("stale-parameters", last_parameters),
    ("cold-start", zeros_at_first),
    ("stale-batch-size", last_size),
    ("stale-result", first_result),
    ("stale-result", last_result),
    ("stale-batch", last_batch),
    ("stale-targets", last_targets),
    ("stale-activations", activations(first_only=True)),
    ("stale-activations", activations(first_only=False)),
    ("stale-shape", first_size),
]
"""One candidate for each memory, in the order in which they are tried."""


def test_there_is_a_candidate_for_every_memory():
    assert [name for name, _ in MADE] == [memory.id for memory in MEMORIES]


@pytest.mark.parametrize(("memory", "change"), list(zip(MEMORIES, (change for _, change in MADE), strict=True)))
def test_what_is_remembered_is_named(memory, change):
    implementation = Implementation("mine", remembering(change)())
    symptom, likely, mend, evidence = remembered(implementation, case_of(), own=True)
    assert (symptom, likely, mend) == (memory.id, memory.likely, memory.mend)
    assert "calls one after the other" in evidence


@pytest.mark.parametrize("change", [accumulating(1.0), first_parameters, last_size])
def test_a_network_that_was_called_before_will_do_where_no_other_may_be_asked_for(change):
    compute = remembering(change)()
    case = case_of()
    fixed = Implementation("mine", compute)
    told = remembered(fixed, case, own=False)
    assert told is not None
    # what was left before the first call is not known, so that a first call that fails refutes nothing
    again = remembered(fixed, case, own=False)
    assert again is None or again[0] == told[0]


def test_nothing_is_remembered_by_correct_code():
    assert remembered(Implementation("right", right), case_of(), own=True) is None


def test_nothing_is_remembered_where_every_call_is_wrong_alike():
    def half(network, parameters, batch):
        return {path: array / 2 for path, array in right(network, parameters, batch).items()}

    assert remembered(Implementation("half", half), case_of(), own=True) is None


def test_what_follows_no_rule_has_no_name():
    def change(earlier, network, parameters, batch):
        found = right(network, parameters, batch)
        return {path: array * (1 + 0.1 * len(earlier) ** 2) for path, array in found.items()}

    assert remembered(Implementation("mine", remembering(change)()), case_of(), own=True) is None


class Kept:
    """A class with state: it adds up what it returns."""

    def __init__(self):
        self.total = {}

    def gradients(self, network, parameters, batch):
        total = self.total.setdefault(str(network), {})
        for path, array in right(network, parameters, batch).items():
            total[path] = total.get(path, 0) + array
        return dict(total)


class KeptByNetwork(Kept):
    """The same, built for each network."""

    def __init__(self, network):
        super().__init__()


@pytest.mark.parametrize("kind", [Kept, KeptByNetwork])
def test_a_class_with_state_is_told(kind):
    symptom, *_ = remembered(implementations.of(kind, "mine"), case_of(), own=True)
    assert symptom == "accumulates"


class Single(Kept):
    """The same for one sample at a time."""

    samples = "single"

    def gradients(self, network, parameters, batch):
        return super().gradients(network, parameters, batch_of(batch))


def batch_of(sample):
    return replace(sample, inputs=sample.inputs[None], targets=np.asarray(sample.targets)[None])


def test_single_samples_are_called_in_turn_too():
    symptom, *_ = remembered(implementations.of(Single(), "mine"), case_of(rows=1), own=True)
    assert symptom == "accumulates"


@pytest.mark.parametrize("error", [Unsupported("no"), NotImplementedError(), ZeroDivisionError()])
def test_whoever_refuses_fresh_networks_remembers_nothing(error):
    def compute(network, parameters, batch):
        raise error

    assert remembered(Implementation("mine", compute), case_of(), own=True) is None


def test_calls_in_turn_have_batches_as_large_as_the_one_before_and_others():
    seen = []

    def compute(network, parameters, batch):
        seen.append((network, batch.rows))
        return right(network, parameters, batch)

    remembered(Implementation("mine", compute), case_of(), own=False)
    assert [rows for _, rows in seen] == list(ROWS)
    assert {network for network, _ in seen} == {case_of().network}
    seen.clear()
    remembered(Implementation("mine", compute), case_of(), own=True)
    assert case_of().network not in {network for network, _ in seen}
    assert len({network for network, _ in seen}) == 2


def test_of_gradients_that_are_missing_nothing_is_remembered():
    def part(network, parameters, batch):
        return {"0.weight": 1.1 * right(network, parameters, batch)["0.weight"]}

    assert remembered(Implementation("part", part), case_of(), own=True) is None
