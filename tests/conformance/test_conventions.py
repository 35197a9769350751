"""Conventions: who follows one and says so passes, who follows it silently is a finding."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import gradconform as gc
from gradconform import InvalidInput, parse
from gradconform.capabilities import CONVENTIONS as NAMES
from gradconform.capabilities import Capabilities
from gradconform.case import Batch, Case
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.conventions import CONVENTIONS, adapted, described
from gradconform.conformance.engine import run
from gradconform.conformance.implementations import of
from gradconform.conformance.judge import judge
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.situation import Situation
from gradconform.reference.backpropagation import gradients as right

SQUARES = "* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError"
CLASSES = "* -> Dense(*) -> Softmax, CrossEntropy"
BINARY = "* -> Dense(*) -> Sigmoid, BinaryCrossEntropy"
LOGITS = "* -> Dense(*), SoftmaxCrossEntropy"


def sigmoid(z):
    return np.where(z > 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def squares(factor, transposed=False):
    """Return a two-layer network by hand; `factor(batch)`: what 2 (a - y) is multiplied with."""

    def backprop(network, parameters, batch):
        w0, b0, w2, b2 = (parameters[path] for path in ("0.weight", "0.bias", "2.weight", "2.bias"))
        if transposed:
            a = np.tanh(batch.inputs @ w0.T + b0)
            delta2 = 2 * (a @ w2.T + b2 - batch.targets) * factor(batch)
            delta0 = (1 - a**2) * (delta2 @ w2)
            found = {"0.weight": delta0.T @ batch.inputs, "2.weight": delta2.T @ a}
        else:
            a = np.tanh(batch.inputs @ w0 + b0)
            delta2 = 2 * (a @ w2 + b2 - batch.targets) * factor(batch)
            delta0 = (1 - a**2) * (delta2 @ w2.T)
            found = {"0.weight": batch.inputs.T @ delta0, "2.weight": a.T @ delta2}
        return {**found, "0.bias": delta0.sum(axis=0), "2.bias": delta2.sum(axis=0)}

    return backprop


def mean(batch):
    return 1 / batch.targets.size


def clipped_classes(eps):
    def backprop(network, parameters, batch):
        p = softmax(batch.inputs @ parameters["0.weight"] + parameters["0.bias"])
        limited = np.clip(p, eps, 1 - eps)
        y = np.eye(p.shape[1])[batch.targets]
        delta1 = np.where((p >= eps) & (p <= 1 - eps), -y / limited, 0) / len(p)
        delta0 = p * (delta1 - (p * delta1).sum(axis=1, keepdims=True))
        return {"0.weight": batch.inputs.T @ delta0, "0.bias": delta0.sum(axis=0)}

    return backprop


def clipped_binary(eps):
    def backprop(network, parameters, batch):
        p, y = sigmoid(batch.inputs @ parameters["0.weight"] + parameters["0.bias"]), batch.targets
        limited = np.clip(p, eps, 1 - eps)
        loss = -(y * np.log(limited) + (1 - y) * np.log(1 - limited)).mean()
        delta1 = np.where((p >= eps) & (p <= 1 - eps), (1 - y) / (1 - limited) - y / limited, 0) / p.size
        delta0 = delta1 * p * (1 - p)
        return gc.Gradients({"0.weight": batch.inputs.T @ delta0, "0.bias": delta0.sum(axis=0)}, loss)

    return backprop


def summed_classes(network, parameters, batch):
    delta = softmax(batch.inputs @ parameters["0.weight"] + parameters["0.bias"])
    delta[np.arange(len(delta)), batch.targets] -= 1
    return {"0.weight": batch.inputs.T @ delta, "0.bias": delta.sum(axis=0)}


FOLLOWERS = {
    "sum": (SQUARES, squares(lambda batch: 1)),
    "sum of a cross entropy": (LOGITS, summed_classes),
    "batchmean": (SQUARES, squares(lambda batch: 1 / batch.rows)),
    "half": (SQUARES, squares(lambda batch: 0.5 * mean(batch))),
    "half batchmean": (SQUARES, squares(lambda batch: 0.5 / batch.rows)),
    "transposed": (SQUARES, squares(mean, transposed=True)),
    "clip=0.125": (CLASSES, clipped_classes(0.125)),
    "clip=1e-07": (BINARY, clipped_binary(1e-7)),
}


def checked(candidate, networks=None, max_examples=20):
    chosen = network_strategy(networks)
    plan = Plan([of(candidate)], max_examples, seed=2, networks=chosen, witnesses=False, shrink_seconds=0)
    return run(plan)


def declared(name):
    return tuple(word for word in name.split() if word.partition("=")[0] in NAMES)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_convention_that_is_declared_passes(name):
    network, backprop = FOLLOWERS[name]
    backprop = gc.supports(conventions=declared(name))(partial(backprop))
    result = checked(backprop, network)
    assert result.passed, str(result)
    assert result.networks == 20


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_convention_that_is_not_declared_is_a_finding(name):
    network, backprop = FOLLOWERS[name]
    result = checked(backprop, network)
    assert result.verdict == "failed"


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_convention_that_is_declared_and_not_followed_is_a_finding(name):
    network, _ = FOLLOWERS[name]
    honest = gc.supports(conventions=declared(name))(lambda *arguments: right(*arguments).parameters)
    result = checked(honest, network)
    assert result.verdict == "failed"


@pytest.mark.parametrize(
    ("conventions", "text", "loss"),
    [
        (("sum",), "MeanSquaredError", "MeanSquaredError(reduction=sum)"),
        (("sum",), "MeanSquaredError(reduction=none)", "MeanSquaredError(reduction=none)"),
        (("sum",), "Huber(reduction=batchmean)", "Huber(reduction=sum)"),
        (("batchmean",), "Huber", "Huber(reduction=batchmean)"),
        (("batchmean",), "SoftmaxCrossEntropy", "SoftmaxCrossEntropy"),
        (("half",), "MeanSquaredError(reduction=sum)", "MeanSquaredError(reduction=sum, scale=0.5)"),
        (("half",), "Huber", "Huber"),
        (("half", "batchmean"), "MeanSquaredError", "MeanSquaredError(reduction=batchmean, scale=0.5)"),
        (("transposed",), "MeanSquaredError", "MeanSquaredError"),
        (("clip=1e-07",), "Softmax, CrossEntropy", "Softmax, CrossEntropy(clip=1e-07)"),
        (("clip=1e-07",), "SoftmaxCrossEntropy", "SoftmaxCrossEntropy"),
        (("nobody",), "MeanSquaredError", "MeanSquaredError"),
    ],
)
def test_what_a_convention_makes_of_a_network(conventions, text, loss):
    before, after = (f"2 -> Dense(3){' -> ' if part.startswith('Softmax,') else ', '}{part}" for part in (text, loss))
    assert described(conventions, parse(before)) == parse(after)


def test_the_table_is_what_can_be_declared():
    assert tuple(CONVENTIONS) == NAMES
    assert all(row.sentence.endswith(".") for row in CONVENTIONS.values())


def test_the_torch_convention_is_its_table_of_deviations():
    floors = described(("torch",), parse("2 -> Sigmoid, BinaryCrossEntropy")).loss
    assert (floors.log_floor, floors.denominator_floor > 0) == (-100, True)


def test_what_needs_no_rewriting_is_called_as_it_is():
    def mine(network, parameters, batch):
        return {}

    assert adapted(mine, Capabilities(conventions=("sum", "clip=0.1"))) is mine


def test_a_transposed_weight_comes_in_c_order_and_cannot_be_written():
    seen = {}

    def mine(network, parameters, batch):
        seen.update(parameters)
        return gc.Gradients({path: array.copy() for path, array in parameters.items()}, slack=dict(parameters))

    network = parse("3 -> Dense(2), MeanSquaredError")
    weight = np.arange(6.0).reshape(3, 2)
    weight.flags.writeable = False
    parameters = {"0.weight": weight, "0.bias": np.ones(2)}
    batch = Batch(np.ones((1, 3)), np.ones((1, 2)))
    found = adapted(mine, Capabilities(conventions=("transposed",)))(network, parameters, batch)
    assert seen["0.weight"].tolist() == weight.T.tolist()
    assert seen["0.weight"].flags.c_contiguous
    assert not seen["0.weight"].flags.writeable
    assert seen["0.bias"] is parameters["0.bias"]
    assert found.parameters["0.weight"].tolist() == weight.tolist()
    assert found.slack["0.weight"].tolist() == weight.tolist()


def test_lists_are_transposed_and_nonsense_is_passed_on():
    network = parse("3 -> Dense(2), MeanSquaredError")
    parameters = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(2)}
    batch = Batch(np.ones((1, 3)), np.ones((1, 2)))

    def back(result):
        return adapted(lambda *_: result, Capabilities(conventions=("transposed",)))(network, parameters, batch)

    assert back({"0.weight": [[1, 2, 3], [4, 5, 6]]}) == {"0.weight": [[1, 4], [2, 5], [3, 6]]}
    for nonsense in (None, 3, {"0.weight": None}, {"0.weight": "text"}, {"0.weight": [1, 2]}, [1]):
        assert back(nonsense) == nonsense
    assert back(gc.Gradients(None)).parameters is None


# the textbook's own case: one training example, vectors in and out


def textbook(network, parameters, batch):
    """A two-layer network of vectors, as textbooks have it."""
    assert batch.inputs.ndim == batch.targets.ndim == 1
    w0, b0, w2, b2 = (parameters[path] for path in ("0.weight", "0.bias", "2.weight", "2.bias"))
    z0 = batch.inputs @ w0 + b0
    a1 = sigmoid(z0)
    z2 = a1 @ w2 + b2
    delta2 = 2 * (z2 - batch.targets) / z2.size
    delta1 = w2 @ delta2
    delta0 = delta1 * a1 * (1 - a1)
    return gc.Gradients(
        {
            "0.weight": np.outer(batch.inputs, delta0),
            "0.bias": delta0,
            "2.weight": np.outer(a1, delta2),
            "2.bias": delta2.copy(),
        },
        loss=((z2 - batch.targets) ** 2).mean(),
        input=w0 @ delta0,
        deltas={0: delta0.copy(), 1: delta1, 2: delta2},
        outputs={0: z0, 1: a1, 2: z2},
    )


VECTORS = "* -> Dense(*) -> Sigmoid -> Dense(*), MeanSquaredError"


def test_single_samples_are_vectors():
    mine = gc.supports(samples="single")(partial(textbook))
    result = checked(mine, VECTORS)
    assert result.passed, str(result)
    assert {"outputs", "deltas", "input", "loss", "parameters"} <= set(result.implementations[0].checks)


def test_a_wrong_sign_in_single_samples_is_a_finding():
    @gc.supports(samples="single")
    def wrong(network, parameters, batch):
        found = textbook(network, parameters, batch)
        return {**found.parameters, "0.bias": -found.parameters["0.bias"]}

    result = checked(wrong, VECTORS)
    assert [finding.path for finding in result.findings] == ["0.bias"]


def test_what_a_single_sample_is_handed_as():
    seen = []

    @gc.supports(samples="single", labels=("integer", "one-hot", "soft"), class_weights=True)
    def mine(network, parameters, batch):
        seen.append(batch)
        rows = Batch(
            batch.inputs[None],
            np.asarray(batch.targets)[None],
            batch.class_weights,
            None if batch.cotangent is None else np.asarray(batch.cotangent)[None],
        )
        found = right(network, parameters, rows)
        loss = found.loss if batch.cotangent is None else found.loss[0]
        outputs = {index: array[0] for index, array in found.outputs.items()}
        return gc.Gradients(found.parameters, loss, found.input[0], outputs=outputs)

    result = checked(mine, max_examples=60)
    assert result.passed, str(result)
    assert {batch.inputs.ndim for batch in seen} == {1}
    assert {batch.rows for batch in seen} == {1}
    labels = [batch.targets for batch in seen if batch.labelled]
    assert labels
    assert all(isinstance(label, np.integer) and np.ndim(label) == 0 for label in labels)
    assert {batch.targets.ndim for batch in seen if not batch.labelled} == {1}
    assert {np.ndim(batch.cotangent) for batch in seen if batch.cotangent is not None} == {0, 1}


def test_conventions_that_exclude_one_another():
    with pytest.raises(InvalidInput, match="sum and batchmean"):
        Capabilities(conventions=("sum", "batchmean"))


def test_a_whole_batch_is_not_for_who_takes_single_samples():
    mine = of(Single())
    network = parse("2 -> Dense(1), MeanSquaredError")
    batch = Batch(np.ones((2, 2)), np.ones((2, 1)))
    assert mine.capabilities.lacks(network, batch) == "it takes single samples alone"
    case = Case(network, {"0.weight": np.ones((2, 1)), "0.bias": np.ones(1)}, batch)
    assert judge(mine, Situation(case), list(CHECKS.values())).unsupported == "it takes single samples alone"


class Single:
    samples = "single"

    def gradients(self, network, parameters, batch):
        raise AssertionError
