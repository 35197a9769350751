"""A situation and its subjects: everything is computed once, and every way to fail has its verdict."""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest

from gradconform import BinaryCrossEntropy, Gradients, Unsupported, parse
from gradconform.conformance import situation as module
from gradconform.conformance import stack
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Kind
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.judge import judge, key_of
from gradconform.conformance.situation import CallFailed, Situation, Subject
from gradconform.reference.backpropagation import gradients

TEXT = "3 -> Dense(4) -> Tanh -> Dense(2), SoftmaxCrossEntropy"


def make(text=TEXT, rows=3, **more):
    entry = Draw("ordinary", 1)
    return Situation(Example(parse(text), rows, (entry,), **more).case(entry, "float64"))


def judged(function, where=None, checks=None, **more):
    chosen = list(CHECKS.values()) if checks is None else [CHECKS[name] for name in checks]
    return judge(Implementation("mine", function), where or make(), chosen, **more)


def root(function, **more):
    found = judged(function, **more).root
    return found.check, found.path, found.kind, found.detail


@pytest.fixture
def counted(monkeypatch):
    """Return the batch sizes for which the expected gradients were computed, from the inputs and step by step."""
    sizes, local = [], []

    def expected(network, parameters, batch, *, shown=None, **options):
        (sizes if shown is None else local).append(batch.rows)
        return original(network, parameters, batch, shown=shown, **options)

    original = module.expected
    monkeypatch.setattr(module, "expected", expected)
    monkeypatch.setattr(stack, "expected", expected)
    return sizes, local


def test_results_and_expectations_are_computed_once(counted):
    calls = []

    def compute(network, parameters, batch):
        calls.append(batch.rows)
        return gradients(network, parameters, batch)

    where = make()
    assert judged(compute, where).root is None
    # the case, for whose permutations the same bounds hold, and its single samples together
    sizes, local = counted
    assert sorted(sizes) == [1, 3]
    # the case once more, and once more after a single sample and other values
    assert sorted(calls) == [1, 1, 1, 1, 3, 3, 3, 3, 3, 3]
    # of its own values no other can be asked
    assert local == [3]
    assert judged(compute, where).root is None
    # another subject computes its own results, and takes the expectations that are there
    assert (len(calls), len(sizes), len(local)) == (20, 2, 2)


def test_a_subject_keeps_its_results():
    calls = []

    def compute(*arguments):
        calls.append(None)
        return gradients(*arguments)

    subject = Subject(Implementation("mine", compute), make())
    assert subject.actual() is subject.actual()
    assert len(calls) == 1


def test_a_variation_is_made_once_and_may_not_be():
    where, made = make(), []

    def vary(case):
        made.append(case)

    assert where.vary("none", vary) is None
    assert where.vary("none", vary) is None
    assert made == [where.case]


def test_expectations_are_those_of_what_the_implementation_describes(counted):
    where = make("2 -> Sigmoid, BinaryCrossEntropy")
    plain = where.expected(reference())
    assert where.expected(reference()) is plain
    limited = where.expected(Implementation("torch", gradients))
    assert limited is not plain
    assert where.expected(Implementation("torch", gradients)) is limited
    assert counted == ([3, 3], [])
    assert Implementation("torch", gradients).described(where.case.network).loss != BinaryCrossEntropy()


def test_an_exception_is_a_crash_with_its_sentence_and_line():
    def compute(network, parameters, batch):
        helper = None
        return helper.shape

    line = compute.__code__.co_firstlineno + 2
    detail = f"AttributeError: 'NoneType' object has no attribute 'shape' (test_situation.py:{line} in compute)"
    assert root(compute) == ("call", "gradients", Kind.CRASHED, detail)


def test_of_a_long_exception_the_first_line_is_told():
    def compute(network, parameters, batch):
        raise RuntimeError("first\nsecond")

    line = compute.__code__.co_firstlineno + 1
    assert root(compute)[3] == f"RuntimeError: first (test_situation.py:{line} in compute)"


def test_an_exception_without_words_is_told_by_its_name():
    def compute(network, parameters, batch):
        raise KeyError

    assert root(compute)[3].startswith("KeyError (test_situation.py:")


def test_the_line_is_the_innermost_of_the_candidates_file():
    def inner(network):
        return np.linalg.inv(np.zeros((2, 2)))

    def outer(network, parameters, batch):
        return inner(network)

    place = f"test_situation.py:{inner.__code__.co_firstlineno + 1} in inner"
    assert root(outer)[3] == f"LinAlgError: Singular matrix ({place})"


def test_a_function_with_other_arguments_crashes_in_words():
    kind, detail = root(lambda network: {})[2:]
    assert kind is Kind.CRASHED
    assert "takes 1 positional argument but 3 were given" in detail


def test_leaving_the_program_is_a_crash():
    assert root(lambda *arguments: sys.exit(0))[2] is Kind.CRASHED


def test_an_interruption_is_none():
    def compute(*arguments):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        judged(compute)


def write(target):
    def compute(network, parameters, batch):
        array = target(parameters, batch)
        array[...] = 0
        return gradients(network, parameters, batch)

    return compute


@pytest.mark.parametrize(
    "target",
    [
        lambda parameters, batch: batch.inputs,
        lambda parameters, batch: batch.targets,
        lambda parameters, batch: batch.class_weights,
        lambda parameters, batch: batch.cotangent,
        lambda parameters, batch: parameters["0.weight"],
        lambda parameters, batch: parameters["2.bias"].T,
    ],
    ids=["inputs", "targets", "class weights", "cotangent", "weight", "view of a bias"],
)
def test_writing_into_what_was_given_is_told(target):
    where = make(TEXT + "(reduction=none)", class_weights=True)
    check, path, kind, detail = root(write(target), where=where)
    assert (check, path, kind) == ("call", "gradients", Kind.MUTATED)
    assert "read-only" in detail
    assert "in compute)" in detail


@pytest.mark.parametrize("operation", ["in place", "out", "sort", "augmented"])
def test_every_way_of_writing_is_told(operation):
    def compute(network, parameters, batch):
        inputs = batch.inputs
        if operation == "in place":
            inputs[0, 0] = 1
        elif operation == "out":
            np.add(inputs, 1, out=inputs)
        elif operation == "sort":
            inputs.sort()
        else:
            inputs -= 1
        return gradients(network, parameters, batch)

    assert root(compute)[2] is Kind.MUTATED


def test_writing_into_a_variation_is_told_and_reaches_nobody_else():
    where = make()

    def compute(network, parameters, batch):
        if batch.rows == 1:
            batch.inputs[...] = 0
        return gradients(network, parameters, batch)

    def permuted(network, parameters, batch):
        if not np.array_equal(batch.inputs, where.case.batch.inputs):
            batch.targets[...] = 0
        return gradients(network, parameters, batch)

    assert root(compute, where=where)[2] is Kind.MUTATED
    assert root(permuted, where=where)[2] is Kind.MUTATED
    assert judged(gradients, where).root is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NotImplementedError("no Huber\nyet"), "no Huber"),
        (NotImplementedError(), "it raised NotImplementedError"),
        (Unsupported("mine: no rule for ELU"), "mine: no rule for ELU"),
    ],
)
def test_what_is_not_implemented_is_unsupported_and_no_failure(error, sentence):
    def compute(*arguments):
        raise error

    judgement = judged(compute)
    assert (judgement.unsupported, judgement.comparisons, judgement.root) == (sentence, [], None)


@pytest.mark.parametrize("given", [None, 3, [1, 2], "text", np.ones(3), (1, {})])
def test_what_is_returned_must_be_a_dictionary_or_gradients(given):
    detail = f"expected a dictionary of arrays with 0.weight, 0.bias, 2.weight, 2.bias; got {type(given).__name__}"
    assert root(lambda *arguments: given) == ("call", "what was returned", Kind.NAME, detail)


@pytest.mark.parametrize("given", [None, 3, [1, 2]])
@pytest.mark.parametrize("name", ["parameters", "deltas", "outputs"])
def test_the_fields_of_gradients_must_be_dictionaries(name, given):
    def compute(*arguments):
        return Gradients(**{"parameters": gradients(*arguments).parameters, name: given})

    check, path, kind, detail = root(compute)
    assert (check, path, kind) == ("call", name, Kind.NAME)
    assert detail.endswith(f"; got {type(given).__name__}")


def test_a_dictionary_of_the_right_gradients_is_enough():
    judgement = judged(lambda *arguments: dict(gradients(*arguments).parameters))
    assert judgement.root is None
    assert {entry.check for entry in judgement.comparisons} == {
        "parameters", "delta-rows", "batch-permutation", "class-permutation", "sum-of-samples",
        "repeatable", "stateless",
    }  # fmt: skip


def test_the_wrong_shape_in_variations_only_is_told():
    def compute(network, parameters, batch):
        found = dict(gradients(network, parameters, batch).parameters)
        if batch.rows == 1:
            found["0.bias"] = found["0.bias"][:2]
        return found

    detail = "expected shape (4,) for a batch of 1, got (2,)"
    assert root(compute) == ("call", "0.bias", Kind.SHAPE, detail)


@pytest.mark.parametrize(
    ("given", "kind", "found"),
    [
        (None, Kind.SHAPE, "for a batch of 1, got None"),
        ("text", Kind.DTYPE, "expected float64 numbers, got <U4"),
        ([[1], [1, 2]], Kind.SHAPE, "expected an array: "),
        (np.ones((1, 4)), Kind.SHAPE, "for a batch of 1, got (1, 4)"),
    ],
)
def test_something_else_in_variations_only_is_told(given, kind, found):
    def compute(network, parameters, batch):
        right = dict(gradients(network, parameters, batch).parameters)
        return {**right, "0.bias": given} if batch.rows == 1 else right

    check, path, told, detail = root(compute)
    assert (check, path, told) == ("call", "0.bias", kind)
    assert found in detail


def test_what_was_compared_before_a_crash_is_kept():
    def compute(network, parameters, batch):
        if batch.rows == 1:
            raise ZeroDivisionError
        return gradients(network, parameters, batch)

    judgement = judged(compute)
    assert judgement.root.kind is Kind.CRASHED
    assert len(judgement.comparisons) > 10


def test_a_failed_call_carries_its_comparison():
    subject = Subject(Implementation("mine", lambda *arguments: None), make())
    with pytest.raises(CallFailed) as caught:
        subject.actual()
    assert caught.value.comparison.kind is Kind.NAME
    assert str(caught.value) == caught.value.comparison.detail


def key(function, text=TEXT):
    where = make(text)
    return key_of(Implementation("mine", function), where.case.network, judged(function, where).root)


def scaled(*paths):
    def compute(*arguments):
        found = gradients(*arguments).parameters
        return {path: 2 * array if path in paths else array for path, array in found.items()}

    return compute


def test_the_same_parameter_of_the_same_kind_of_layer_is_the_same_bug():
    assert key(scaled("2.bias")) == ("mine", "parameters", "WRONG", "Dense.bias")
    assert key(scaled("2.bias")) == key(scaled("0.bias"))
    assert key(scaled("2.bias")) != key(scaled("2.weight"))


def test_different_verdicts_are_different_bugs():
    assert key(lambda *arguments: {}) != key(scaled("2.weight"))
    assert key(lambda *arguments: {}) == ("mine", "parameters", "NAME", "Dense.weight")


def test_deltas_are_told_apart_by_the_layer_that_gives_them():
    def compute(*arguments):
        found = gradients(*arguments)
        return Gradients(found.parameters, deltas={**found.deltas, 0: 2 * found.deltas[0]})

    assert key(compute) == ("mine", "deltas", "WRONG", "deltas Tanh")
    assert key(compute, TEXT.replace("Tanh", "ReLU")) == ("mine", "deltas", "WRONG", "deltas ReLU")


def test_losses_are_told_apart():
    def compute(*arguments):
        found = gradients(*arguments)
        return Gradients(found.parameters, loss=2 * found.loss)

    assert key(compute) == ("mine", "loss", "WRONG", "loss SoftmaxCrossEntropy")


@pytest.mark.parametrize("name", ["99.weight", "layer0.weight", "x", "", "0.1.2", 5, ("a", 1)])
def test_any_name_makes_a_key(name):
    def compute(*arguments):
        return {**gradients(*arguments).parameters, name: np.ones(2)}

    assert key(compute)[:3] == ("mine", "parameters", "NAME")


def test_a_relation_that_fails_alone_and_holds_with_other_calls_is_unsteady():
    calls = []

    def compute(network, parameters, batch):
        calls.append(batch.rows)
        found = dict(gradients(network, parameters, batch).parameters)
        # one of the single samples alone, and that once
        return {path: 2 * array for path, array in found.items()} if calls.count(1) == 1 and batch.rows == 1 else found

    judgement = judged(compute)
    assert judgement.root is not None
    assert (judgement.root.check, judgement.root.kind) == ("repeatable", Kind.NONDETERMINISTIC)
    assert judgement.root.detail.endswith("sum-of-samples held with other calls")


def test_a_relation_that_fails_each_time_is_what_it_is():
    def compute(network, parameters, batch):
        found = dict(gradients(network, parameters, batch).parameters)
        return {path: 2 * array for path, array in found.items()} if batch.rows == 1 else found

    judgement = judged(compute)
    assert judgement.root is not None
    assert (judgement.root.check, judgement.root.kind) == ("sum-of-samples", Kind.WRONG)
