"""The checks: each passes the reference, and each is violated by an implementation that breaks just its property."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase

from gradconform import Gradients, parse
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Kind
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.judge import judge
from gradconform.conformance.plan import Chunk, Enough, Plan, draw_examples
from gradconform.conformance.situation import Situation, Subject
from gradconform.reference.backpropagation import gradients

AGREEMENT = ["outputs", "loss", "output-delta", "deltas", "parameters", "input"]
RELATIONS = [
    "delta-rows", "batch-permutation", "class-permutation", "sum-of-samples", "sample-twice", "cotangent-linearity",
    "repeatable", "stateless",
]  # fmt: skip


@pytest.mark.parametrize("first", ["checks", "contract", "relations", "diagnosis"])
def test_their_order_does_not_depend_on_what_is_imported_first(first):
    program = (
        f"import gradconform.conformance.{first}\nfrom gradconform.conformance.checks import CHECKS\nprint(*CHECKS)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [*AGREEMENT, *RELATIONS]


@pytest.fixture(scope="module")
def drawn():
    """Return the first five dozen examples of a run."""
    examples = []

    def take(example):
        if len(examples) == 60:
            raise Enough
        examples.append(example)

    with contextlib.suppress(Enough):
        for start in itertools.count():
            draw_examples(Plan([], seed=2), Chunk(start=start), [Phase.generate], take)
    return examples


def situation(text, rows=5, labels="integer", regime="ordinary", seed=3, dtype="float64", **more):
    entry = Draw(regime, seed)
    return Situation(Example(parse(text), rows, (entry,), labels=labels, **more).case(entry, dtype))


def run(check, function, where):
    return CHECKS[check].run(Subject(Implementation("mine", function), where))


def violated(function, where, **more):
    """Return the ids of the checks that fail, and the number of comparisons."""
    judgement = judge(Implementation("mine", function), where, list(CHECKS.values()), **more)
    assert judgement.comparisons
    return {failure.check for failure in judgement.failures}


def test_the_checks_stand_in_the_order_of_causes():
    assert list(CHECKS) == AGREEMENT + RELATIONS
    assert [name for name, check in CHECKS.items() if check.relation] == RELATIONS
    assert all(name == check.id for name, check in CHECKS.items())
    assert all(check.sentence.endswith(".") for check in CHECKS.values())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("check", CHECKS)
def test_the_reference_passes(check, dtype, drawn):
    compared = 0
    for example in drawn:
        for entry in example.draws[:1]:
            found = CHECKS[check].run(Subject(reference(), Situation(example.case(entry, dtype))))
            assert [entry for entry in found if not entry.passed] == [], example
            assert all(entry.check == check for entry in found)
            compared += len(found)
    assert compared > 5


CLASSES = "4 -> Dense(5) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
UNREDUCED = "4 -> Dense(5) -> Tanh -> Dense(3), SoftmaxCrossEntropy(reduction=none)"
SQUARES = "4 -> Dense(5) -> Tanh -> Dense(3), MeanSquaredError"


def changed(**changes):
    """Return the reference with one field of its gradients changed: `name=lambda gradients, batch: ...`."""

    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        return replace(found, **{name: change(found, batch) for name, change in changes.items()})

    return compute


def off(arrays, key, factor=1 + 1e-9):
    return {**arrays, key: factor * arrays[key]}


@pytest.mark.parametrize(
    ("check", "function", "path"),
    [
        ("outputs", changed(outputs=lambda found, batch: off(found.outputs, 1)), "output 1"),
        ("loss", changed(loss=lambda found, batch: found.loss * (1 + 1e-9)), "loss"),
        ("output-delta", changed(deltas=lambda found, batch: off(found.deltas, 2)), "output delta"),
        ("deltas", changed(deltas=lambda found, batch: off(found.deltas, 0)), "delta 0"),
        ("deltas", changed(deltas=lambda found, batch: off(found.deltas, 1)), "delta 1"),
        ("parameters", changed(parameters=lambda found, batch: off(found.parameters, "0.weight")), "0.weight"),
        ("parameters", changed(parameters=lambda found, batch: off(found.parameters, "2.bias")), "2.bias"),
        ("input", changed(input=lambda found, batch: found.input * (1 + 1e-9)), "input"),
    ],
)
def test_a_small_error_in_one_place_violates_one_agreement(check, function, path):
    where = situation(SQUARES)
    judgement = judge(Implementation("mine", function), where, list(CHECKS.values()))
    # a wrong gradient that is wrong in every sample alike breaks no relation
    failures = [entry for entry in judgement.failures if entry.look == "global"]
    assert [(entry.check, entry.path, entry.kind) for entry in failures] == [(check, path, Kind.WRONG)]
    assert failures[0].factor.may_be(1 + 1e-9)
    # the steps that go on from a wrong value are not its steps; they are told after it
    root = judgement.root
    assert (root.check, root.path, root.kind, root.look) == (check, path, Kind.WRONG, "local")
    assert root.factor.may_be(1 + 1e-9)


@pytest.mark.parametrize(
    ("function", "suspects"),
    [
        (changed(loss=lambda found, batch: found.loss * (1 + 1e-9)), {"loss"}),
        (changed(parameters=lambda found, batch: off(found.parameters, "0.weight")), {"0.weight"}),
        (changed(outputs=lambda found, batch: off(found.outputs, 0)), {"output 0", "output 1", "delta 0"}),
        (changed(outputs=lambda found, batch: off(found.outputs, 1)), {"output 1", "output 2", "2.weight"}),
        (changed(deltas=lambda found, batch: off(found.deltas, 2)), {"output delta", "delta 1", "2.weight", "2.bias"}),
        (changed(deltas=lambda found, batch: off(found.deltas, 0)), {"delta 0", "input", "0.weight", "0.bias"}),
    ],
    ids=["loss", "0.weight", "output 0", "output 1", "output delta", "delta 0"],
)
def test_step_by_step_a_wrong_value_is_met_by_its_neighbours_alone(function, suspects):
    judgement = judge(Implementation("mine", function), situation(SQUARES), list(CHECKS.values()))
    local = [entry for entry in judgement.comparisons if entry.look == "local" and entry.check in AGREEMENT]
    assert {entry.path for entry in local if not entry.passed} == suspects
    assert len(local) == 12


def test_deltas_are_told_from_the_last_to_the_first():
    found = CHECKS["deltas"].run(Subject(reference(), situation("2 -> Tanh -> Dense(3) -> Tanh -> Dense(2), Huber")))
    assert [entry.path for entry in found if entry.look == "local"] == ["delta 2", "delta 1", "delta 0"]
    assert [entry.path for entry in found if entry.look == "global"] == ["delta 2", "delta 1", "delta 0"]


def test_parameters_are_told_from_the_last_layer_to_the_first():
    found = CHECKS["parameters"].run(Subject(reference(), situation(SQUARES)))
    upwards = ["2.weight", "2.bias", "0.weight", "0.bias"]
    assert [entry.path for entry in found] == upwards * 2
    # the sharper look is told first
    assert [entry.look for entry in found] == ["local"] * 4 + ["global"] * 4


@pytest.mark.parametrize("check", ["outputs", "loss", "output-delta", "deltas", "input"])
def test_what_an_implementation_does_not_return_is_not_compared(check):
    assert run(check, lambda *arguments: gradients(*arguments).parameters, situation(SQUARES)) == []


def test_parameters_are_required():
    found = run("parameters", lambda *arguments: {}, situation(SQUARES))
    assert [entry.kind for entry in found] == [Kind.NAME] * 4


def test_an_unknown_layer_of_outputs_or_deltas_is_not_compared():
    more = changed(outputs=lambda found, batch: {**found.outputs, 9: 1}, deltas=lambda found, batch: {9: 1})
    assert violated(more, situation(SQUARES)) == set()
    assert run("deltas", more, situation(SQUARES)) == []


# Relations. Every wrong implementation below is wrong in a way that only the relation tells by itself.


def scaled_rows(weights):
    """Return gradients of the parameters in which samples count by `weights(batch)`, which add up to their number."""

    def compute(network, parameters, batch):
        total = {path: np.zeros(shape) for path, shape in network.parameters().items()}
        for row, weight in enumerate(weights(batch)):
            single = gradients(network, parameters, batch.take(slice(row, row + 1))).parameters
            for path, array in single.items():
                total[path] = total[path] + weight / batch.rows * array
        return total

    return compute


def by_position(batch):
    weights = np.linspace(0.5, 1.5, batch.rows)
    return weights / weights.mean()


def by_size(batch):
    weights = 1 + np.abs(batch.inputs[:, 0])
    return weights / weights.mean()


def only(check, function, where):
    """Assert that of all relations just `check` is violated."""
    assert violated_relations(function, where) == {check}


def test_weighted_by_position_breaks_the_order_of_samples():
    broken = [entry.kind for entry in run("batch-permutation", scaled_rows(by_position), situation(CLASSES))]
    assert broken == [Kind.WRONG] * 4
    # nothing else is treated differently, but the batch is no longer the sum of its samples
    assert not any(not entry.passed for entry in run("class-permutation", scaled_rows(by_position), situation(CLASSES)))


def test_the_order_of_samples_alone_is_broken_by_what_depends_on_the_first_sample_only():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        # 0 for a single sample and for cotangents of any size: sum-of-samples compares with the whole batch only
        tilt = 1 if batch.rows == 1 or batch.inputs[0, 0] <= batch.inputs[-1, 0] else 1 + 1e-9
        return {path: tilt * array for path, array in found.items()}

    where = next(
        place
        for place in (situation(SQUARES, seed=seed) for seed in range(50))
        if run_order(place.case.batch) == (True, False)
    )
    only("batch-permutation", compute, where)


def run_order(batch):
    """Return whether the first sample is below the last, in the batch's order and in the permuted one."""
    order = np.roll(np.arange(batch.rows)[::-1], 1)
    inputs = batch.inputs[:, 0]
    return bool(inputs[0] <= inputs[-1]), bool(inputs[order][0] <= inputs[order][-1])


def test_a_special_class_breaks_the_order_of_classes_alone():
    where = next(
        place
        for place in (situation(CLASSES, seed=seed) for seed in range(50))
        if {0, 1, 2} == set(place.case.batch.targets)
    )

    def compute(network, parameters, batch):
        # the gradient of each sample of class 0 is doubled, in the batch and alone
        total = {path: np.zeros(shape) for path, shape in network.parameters().items()}
        for row, label in enumerate(batch.targets):
            single = gradients(network, parameters, batch.take(slice(row, row + 1))).parameters
            for path, array in single.items():
                total[path] = total[path] + (2 if label == 0 else 1) * array / batch.rows
        return total

    only("class-permutation", compute, where)


@pytest.mark.parametrize("labels", ["integer", "one-hot", "soft"])
def test_a_swapped_class_is_found_with_every_kind_of_labels(labels):
    def compute(network, parameters, batch):
        found = dict(gradients(network, parameters, batch).parameters)
        found["2.weight"] = found["2.weight"] * np.array([1 + 1e-9, 1, 1])
        return found

    broken = [
        entry.path for entry in run("class-permutation", compute, situation(CLASSES, labels=labels)) if not entry.passed
    ]
    assert broken == ["2.weight"]


def test_wrong_weights_of_the_samples_break_their_sum_alone():
    only("sum-of-samples", scaled_rows(by_size), situation(SQUARES))


def test_a_mean_over_the_wrong_number_of_samples_breaks_their_sum_alone():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        return {path: array * batch.rows / (batch.rows + 1) for path, array in found.items()}

    only("sum-of-samples", compute, situation(SQUARES))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_sum_knows_class_weights_and_ignored_rows(reduction):
    text = f"4 -> Dense(3), SoftmaxCrossEntropy(reduction={reduction}, ignore_index=-100)"
    for seed in range(6):
        where = situation(text, 7, seed=seed, class_weights=True)
        found = run("sum-of-samples", gradients, where)
        assert [entry.kind for entry in found] == [Kind.PASS] * 2


def test_the_sum_computes_no_ignored_sample():
    text = "4 -> Dense(3), SoftmaxCrossEntropy(ignore_index=-100)"
    where = next(
        place
        for place in (situation(text, 7, seed=seed) for seed in range(50))
        if (place.case.batch.targets == -100).sum() == 3
    )
    sizes = []

    def compute(network, parameters, batch):
        sizes.append(batch.rows)
        return gradients(network, parameters, batch)

    assert len(run("sum-of-samples", compute, where)) == 2
    assert sorted(sizes) == [1, 1, 1, 1, 7]


@pytest.mark.parametrize(
    "change",
    [np.abs, np.square, np.ones_like, lambda cotangent: cotangent + 1],
    ids=["sign", "square", "ignored", "affine"],
)
@pytest.mark.parametrize("text", [UNREDUCED, "4 -> Dense(3), MeanSquaredError(reduction=none)"])
def test_a_changed_cotangent_breaks_linearity_alone(text, change):
    def compute(network, parameters, batch):
        return gradients(network, parameters, replace(batch, cotangent=change(batch.cotangent))).parameters

    where = situation(text)
    assert any(not entry.passed for entry in run("cotangent-linearity", compute, where))
    assert violated_relations(compute, where) == {"cotangent-linearity"}


def violated_relations(function, where):
    return {name for name in RELATIONS if any(not entry.passed for entry in run(name, function, where))}


def test_an_absolute_value_in_the_middle_is_found_by_scaling_with_a_negative_number():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        sign = np.sign(found["2.bias"][0])
        return {path: sign * array for path, array in found.items()}

    found = run("cotangent-linearity", compute, situation(UNREDUCED))
    assert not all(entry.passed for entry in found[:4])


def test_one_sample_and_one_output_have_a_cotangent_that_is_scaled_only():
    found = run("cotangent-linearity", gradients, situation("4 -> Dense(1), Huber(reduction=none)", rows=1))
    assert [(entry.path, entry.kind) for entry in found] == [("0.weight", Kind.PASS), ("0.bias", Kind.PASS)]


def test_a_delta_whose_rows_do_not_add_up_breaks_their_sum_alone():
    function = changed(deltas=lambda found, batch: {**found.deltas, 2: found.deltas[2] + 1e-9})
    where = situation(CLASSES)
    assert violated_relations(function, where) == {"delta-rows"}
    (found,) = run("delta-rows", function, where)
    assert (found.path, found.kind, found.outcomes.elements) == ("output delta", Kind.WRONG, 5)


def test_without_deltas_the_last_bias_adds_up():
    where = situation(CLASSES)
    (right,) = run("delta-rows", lambda *given: gradients(*given).parameters, where)
    assert (right.path, right.kind, right.outcomes.elements) == ("2.bias", Kind.PASS, 1)

    def compute(*given):
        found = gradients(*given).parameters
        return {**found, "2.bias": found["2.bias"] + 1e-9}

    (wrong,) = run("delta-rows", compute, where)
    assert wrong.kind is Kind.WRONG


def test_without_deltas_and_bias_there_is_nothing_to_add_up():
    text = "4 -> Dense(3, bias=False), SoftmaxCrossEntropy"
    assert run("delta-rows", lambda *given: gradients(*given).parameters, situation(text)) == []


def test_a_delta_of_the_wrong_shape_is_told_and_not_added_up():
    function = changed(deltas=lambda found, batch: {2: found.deltas[2].T})
    (found,) = run("delta-rows", function, situation(CLASSES))
    assert (found.kind, found.detail) == (Kind.SHAPE, "expected shape (5, 3), got (3, 5)")


@pytest.mark.parametrize(
    ("check", "text", "rows"),
    [
        ("delta-rows", SQUARES, 5),
        ("delta-rows", "4 -> Dense(3) -> Softmax, CrossEntropy", 5),
        ("batch-permutation", CLASSES, 1),
        ("sum-of-samples", CLASSES, 1),
        ("class-permutation", "4 -> Dense(1), MeanSquaredError", 5),
        ("class-permutation", "4 -> Tanh, MeanSquaredError", 5),
        ("class-permutation", "4 -> Dense(3), SoftmaxCrossEntropy(ignore_index=0)", 5),
        ("cotangent-linearity", CLASSES, 5),
        ("cotangent-linearity", "4 -> Dense(3), MeanSquaredError(reduction=sum)", 5),
    ],
)
def test_a_check_that_does_not_apply_compares_nothing(check, text, rows):
    assert run(check, gradients, situation(text, rows)) == []


def test_an_ignored_label_that_is_no_class_does_not_hinder_the_order_of_classes():
    text = "4 -> Dense(3), SoftmaxCrossEntropy(ignore_index=-100)"
    for seed in range(5):
        assert [entry.kind for entry in run("class-permutation", gradients, situation(text, 7, seed=seed))] == [
            Kind.PASS
        ] * 2


def test_what_is_not_finite_is_left_to_agreement():
    def compute(*given):
        return {path: np.full_like(array, np.nan) for path, array in gradients(*given).parameters.items()}

    where = situation(UNREDUCED)
    for name in RELATIONS:
        assert all(entry.passed for entry in run(name, compute, where)), name
    assert violated(compute, where) == {"parameters"}


def test_relations_are_not_tried_on_unusable_arrays():
    calls = []

    def compute(network, parameters, batch):
        calls.append(batch.rows)
        return {path: array.T for path, array in gradients(network, parameters, batch).parameters.items()}

    assert violated(compute, situation(SQUARES)) == {"parameters"}
    assert calls == [5]


@pytest.mark.parametrize("check", RELATIONS)
@pytest.mark.parametrize(
    "given",
    [{}, {"0.weight": [[1], [1, 2]]}, {"0.weight": "text"}, Gradients({"0.weight": np.ones(2)}, deltas={0: 1.0})],
    ids=["nothing", "ragged", "text", "shape"],
)
def test_a_relation_alone_does_not_break_on_unusable_arrays(check, given):
    where = situation("4 -> Dense(3), SoftmaxCrossEntropy(reduction=none)")
    judgement = judge(Implementation("mine", lambda *arguments: given), where, [CHECKS[check]])
    assert judgement.root.kind in {Kind.SHAPE, Kind.DTYPE}


def test_relations_can_be_left_out():
    judgement = judge(reference(), situation(CLASSES), list(CHECKS.values()), relations=False)
    assert {entry.check for entry in judgement.comparisons} == set(AGREEMENT)
