"""The looks: step by step, an error of a few units in the last place is found where it enters, however deep."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from gradconform import Gradients
from gradconform.capabilities import EVERYTHING
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Kind
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.findings import place_of
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.judge import judge
from gradconform.conformance.situation import Situation
from gradconform.dtypes import dtype_of, finfo
from gradconform.notation import parse
from gradconform.reference.arithmetic import Plain
from gradconform.reference.backpropagation import backpropagate, gradients
from gradconform.reference.layers import layer_rule
from gradconform.reference.losses import cost

AGREEMENT = [check for check in CHECKS.values() if not check.relation]
DEEP = "6 -> " + "Dense(5) -> Tanh -> Dense(6) -> Tanh -> " * 3 + "Dense(3), MeanSquaredError"
"""13 layers: Dense where the index is even, Tanh where it is odd."""
SMALL = "3 -> Dense(4) -> Tanh -> Dense(2), SoftmaxCrossEntropy"


def case(text=DEEP, dtype="float64", seed=1, rows=3):
    draw = Draw("ordinary", seed)
    return Example(parse(text), rows, (draw,)).case(draw, dtype)


def judged(function, where, **options):
    return judge(
        Implementation("mine", function, capabilities=structs.replace(EVERYTHING, **options)),
        Situation(where),
        AGREEMENT,
    )


def off(layer, quantity, units):
    """Return gradients in which one quantity of one layer is off by `units`, and all that follows goes on from it."""

    def compute(network, parameters, batch):
        index = itertools.count()
        factor = batch.inputs.dtype.type(1 + units * float(finfo(batch.inputs.dtype).eps) / 2)

        def rule(kind, k, x, own):
            a, pullback = layer_rule(kind, k, x, own)
            if next(index) != layer:
                return a, pullback

            def wrong(delta):
                below, found = pullback(delta)
                if quantity == "delta":
                    return below * factor, found
                return below, {name: array * factor if name == quantity else array for name, array in found.items()}

            return (a * factor, pullback) if quantity == "output" else (a, wrong)

        return backpropagate(Plain(batch.inputs.dtype), network, parameters, batch, rule=rule)

    return compute


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("layer", "quantity", "path", "place"),
    [
        (5, "output", "output 5", "the forward pass of layers[5], Tanh"),
        (6, "output", "output 6", "the forward pass of layers[6], Dense"),
        (6, "delta", "delta 5", "the backward pass of layers[6], Dense: delta 6 above it is right"),
        (5, "delta", "delta 4", "the backward pass of layers[5], Tanh: delta 5 above it is right"),
        (0, "delta", "input", "the backward pass of layers[0], Dense: delta 0 above it is right"),
        (4, "weight", "4.weight", "the backward pass of layers[4], Dense: delta 4, which it gets, is right"),
        (4, "bias", "4.bias", "the backward pass of layers[4], Dense: delta 4, which it gets, is right"),
    ],
)
def test_an_error_of_a_few_units_is_found_where_it_enters(layer, quantity, path, place, dtype):
    where = case(dtype=dtype)
    judgement = judged(off(layer, quantity, 24), where)
    assert {(entry.path, entry.look) for entry in judgement.failures} == {(path, "local")}
    assert place_of(judgement.root, where.network, judgement.comparisons) == place
    # without this layer's own error, nothing is wrong
    assert judged(off(layer, quantity, 0), where).root is None


def test_the_sharper_look_is_told_first_where_both_find_the_error():
    judgement = judged(off(6, "output", 1e7), case())
    assert (judgement.root.path, judgement.root.look) == ("output 6", "local")
    assert ("output 6", "global") in {(entry.path, entry.look) for entry in judgement.failures}
    # what goes on from the wrong value is right step by step
    assert {entry.path for entry in judgement.failures if entry.look == "local"} == {"output 6"}
    assert "0.weight" in {entry.path for entry in judgement.failures if entry.look == "global"}


def showing(function, **shown):
    """Return the gradients of the parameters and of what else is shown, changed by a function of the same name."""

    def compute(*arguments):
        found = function(*arguments)
        return Gradients(found.parameters, **{name: change(getattr(found, name)) for name, change in shown.items()})

    return compute


def as_is(given):
    return given


def found_by(function, where):
    judgement = judged(function, where)
    return {(entry.path, entry.look) for entry in judgement.failures}


def test_gradients_alone_get_the_global_look_alone():
    for function in (gradients, off(6, "output", 24), off(6, "delta", 24)):
        judgement = judged(lambda *arguments, function=function: dict(function(*arguments).parameters), case())
        assert judgement.root is None
        assert {entry.look for entry in judgement.comparisons} == {"global"}
        assert [view.look for view in judgement.views] == ["global"]


def test_outputs_without_deltas_show_the_forward_pass():
    assert found_by(showing(gradients, outputs=as_is), case()) == set()
    assert found_by(showing(off(6, "output", 24), outputs=as_is), case()) == {("output 6", "local")}
    # of the backward pass they tell where it begins, and no more
    assert found_by(showing(off(12, "weight", 24), outputs=as_is), case()) == {("12.weight", "local")}
    assert found_by(showing(off(4, "weight", 24), outputs=as_is), case()) == set()


def test_deltas_without_outputs_show_the_backward_pass():
    assert found_by(showing(gradients, deltas=as_is), case()) == set()
    assert found_by(showing(off(6, "delta", 24), deltas=as_is), case()) == {("delta 5", "local")}
    # the activations that come in are known only as far as rounding lets them stray
    assert found_by(showing(off(0, "weight", 24), deltas=as_is), case()) == {("0.weight", "local")}
    assert found_by(showing(off(4, "output", 24), deltas=as_is), case()) == set()


def test_a_few_of_the_outputs_are_enough_around_them():
    some = showing(off(6, "output", 24), outputs=lambda given: {index: given[index] for index in (5, 6)})
    assert found_by(some, case()) == {("output 6", "local")}
    others = showing(off(6, "output", 24), outputs=lambda given: {index: given[index] for index in (1, 12)})
    assert found_by(others, case()) == set()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (np.transpose, Kind.SHAPE),
        (lambda array: array[0], Kind.SHAPE),
        (lambda array: array.astype(np.float32), Kind.DTYPE),
        (lambda array: "text", Kind.DTYPE),
        (lambda array: [[1], [1, 2]], Kind.SHAPE),
        (lambda array: array.astype(object), Kind.DTYPE),
        (lambda array: np.full_like(array, np.nan), Kind.NONFINITE),
        (lambda array: np.full_like(array, np.inf), Kind.NONFINITE),
    ],
    ids=["transposed", "row", "float32", "text", "ragged", "object", "nan", "inf"],
)
@pytest.mark.parametrize(("name", "path"), [("outputs", "output 1"), ("deltas", "delta 1")])
def test_what_cannot_be_gone_on_with_is_told(name, path, change, kind):
    function = showing(gradients, **{name: lambda given: {**given, 1: change(given[1])}})
    judgement = judged(function, case(SMALL))
    assert (judgement.root.path, judgement.root.kind) == (path, kind)
    assert all(entry.kind in {Kind.PASS, kind} for entry in judgement.comparisons if entry.path == path)
    # the gradients themselves are right
    assert all(entry.passed for entry in judgement.comparisons if entry.look == "global" and entry.path != path)


@pytest.mark.parametrize(
    "shown",
    [
        {"outputs": {}, "deltas": {}},
        {"outputs": {0: None}, "deltas": {2: None}},
        {"outputs": {9: np.ones(3)}, "deltas": {"a": 1, None: None}},
    ],
    ids=["empty", "none", "unknown"],
)
def test_nothing_that_can_be_gone_on_with_is_the_global_look(shown):
    judgement = judged(lambda *arguments: Gradients(gradients(*arguments).parameters, **shown), case(SMALL))
    assert judgement.root is None
    assert {entry.look for entry in judgement.comparisons} == {"global"}


def captured(main, other):
    """Return what one function gives, with the run of another one as captured."""

    def compute(*arguments):
        run = other(*arguments)
        return replace(main(*arguments), deltas=run.deltas, outputs=run.outputs, captured=run)

    return compute


def test_a_captured_run_is_looked_at_for_itself():
    where = case()
    right, wrong = gradients, off(6, "output", 24)
    assert found_by(captured(right, right), where) == set()
    assert found_by(captured(right, wrong), where) == {("output 6", "local")}
    # of the other run nothing is seen that is finer than its own bounds
    assert found_by(captured(wrong, right), where) == set()
    assert found_by(captured(off(4, "weight", 1e9), right), where) == {("4.weight", "global")}
    assert found_by(captured(right, off(4, "weight", 1e9)), where) == {("4.weight", "local")}


def test_two_runs_may_differ_by_rounding():
    def reversed_sums(network, parameters, batch):
        rolled = batch.take(np.arange(batch.rows)[::-1])
        found = gradients(network, parameters, rolled)
        return replace(found, input=found.input[::-1])

    where = case(rows=7)
    one, other = (function(where.network, where.parameters, where.batch) for function in (gradients, reversed_sums))
    assert any(not np.array_equal(one.parameters[path], other.parameters[path]) for path in one.parameters)
    judgement = judged(captured(reversed_sums, gradients), where)
    assert judgement.root is None
    assert [view.look for view in judgement.views] == ["local", "global", "global"]


def test_a_captured_run_needs_no_gradients_and_the_other_does():
    def compute(*arguments):
        found = gradients(*arguments)
        return Gradients(found.parameters, captured=Gradients({}, deltas=found.deltas, outputs=found.outputs))

    judgement = judged(compute, case(SMALL))
    assert judgement.root is None
    assert {
        entry.path for entry in judgement.comparisons if entry.look == "local" and entry.check == "parameters"
    } == set()

    missing = judged(lambda *arguments: Gradients({}, captured=gradients(*arguments)), case(SMALL))
    assert {entry.kind for entry in missing.failures} == {Kind.NAME}
    assert len(missing.failures) == 4


def stored_in_bfloat16(factor):
    """Return gradients whose every step is computed in float32 and stored in bfloat16; weight gradients are scaled."""
    short = dtype_of("bfloat16")
    k = Plain(np.float32)

    def rule(layer, _, x, own):
        wide = {name: array.astype(np.float32) for name, array in own.items()}
        a, pullback = layer_rule(layer, k, x.astype(np.float32), wide)

        def stored(delta):
            below, found = pullback(delta.astype(np.float32))
            if "weight" in found:
                found["weight"] = found["weight"] * np.float32(factor)
            return below.astype(short), {name: array.astype(short) for name, array in found.items()}

        return a.astype(short), stored

    def end(loss, _, z, batch):
        value, delta = cost(loss, k, z.astype(np.float32), batch)
        return value.astype(short), delta.astype(short)

    return lambda *arguments: backpropagate(Plain(short), *arguments, rule=rule, end=end)


def test_a_weight_gradient_in_bfloat16_that_is_off_by_one_percent_is_found_step_by_step():
    where = case(dtype="bfloat16")
    assert judged(stored_in_bfloat16(1), where, arithmetic="torch").root is None
    judgement = judged(stored_in_bfloat16(1.01), where, arithmetic="torch")
    assert {entry.look for entry in judgement.failures} == {"local"}
    assert {entry.path for entry in judgement.failures} == {f"{index}.weight" for index in range(0, 13, 2)}


def test_of_unknown_arithmetic_a_few_percent_are_needed():
    where = case(dtype="bfloat16")
    # XLA may have gone on with more digits than it shows, of both factors
    assert judged(stored_in_bfloat16(1.005), where).root is None
    assert judged(stored_in_bfloat16(1.03), where).root.look == "local"
