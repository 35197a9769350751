"""Comparing at every step of a training on real data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from gradconform import Batch, InvalidInput, parse
from gradconform.capabilities import EVERYTHING
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.plan import Plan
from gradconform.conformance.training import Training, check_training, in_dtype, read_training
from gradconform.reference.backpropagation import gradients

IRIS = str(Path(__file__).parents[2] / "examples" / "iris.csv")
STEPS = 12


@pytest.fixture(scope="module")
def iris():
    return read_training(IRIS, None, 0.1, raw=False, rows=60, seed=0)


def train(training, *implementations, **options):
    declared = structs.replace(EVERYTHING, dtypes=("float64",))
    chosen = [Implementation("mine", entry, capabilities=declared) for entry in implementations] or [reference()]
    options = {"max_examples": STEPS, "seed": 0, "witnesses": False, **options}
    return check_training(Plan(chosen, **options), training)


def test_the_reference_passes_at_every_step_in_both_dtypes(iris):
    result = train(iris)
    assert result.passed
    assert result.networks == STEPS
    assert [(tally.dtype, tally.cases) for tally in result.implementations] == [("float64", STEPS), ("float32", STEPS)]
    for tally in result.implementations:
        # relations are tried once, agreement at every step, in both looks
        assert tally.checks["parameters"] == 2 * 4 * STEPS
        assert tally.checks["batch-permutation"] == 4
        assert tally.checks["sum-of-samples"] == 4


def test_the_cost_falls_and_is_told(iris):
    (note,) = train(iris, max_examples=50).notes
    network = "4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
    assert note.startswith(f"{network} on 60 samples: cost ")
    assert note.endswith(" after 49 steps of 0.1")
    words = note.split()
    before, after = float(words[words.index("before,") - 1]), float(words[words.index("after") - 1])
    assert after < 0.7 * before


def test_one_step_is_told_as_one(iris):
    (note,) = train(iris, max_examples=2).notes
    assert note.endswith(" after 1 step of 0.1")


def test_the_first_cost_is_that_of_the_parameters_to_start_from(iris):
    seen = []

    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        seen.append((parameters, float(found.loss)))
        return found

    note = train(iris, compute, max_examples=1).notes[0]
    assert f"cost {seen[0][1]:.6g} before, {seen[0][1]:.6g} after 0 steps" in note
    assert not seen[0][0]["0.bias"].any()
    assert np.abs(seen[0][0]["0.weight"]).max() <= np.sqrt(6 / 12)


def test_every_step_goes_down_the_gradient_of_the_reference(iris):
    seen = []

    def compute(network, parameters, batch):
        if batch.rows == 60:
            seen.append(parameters)
        # what is returned does not matter to where the training goes
        return {path: np.zeros_like(array) for path, array in parameters.items()}

    train(iris, compute, max_examples=3, shrink_seconds=0)
    first, last = seen[0], seen[-1]
    steps = [first]
    for _ in range(2):
        found = gradients(iris.network, steps[-1], iris.batch).parameters
        steps.append({path: array - 0.1 * found[path] for path, array in steps[-1].items()})
    for path, array in steps[2].items():
        np.testing.assert_allclose(last[path], array, rtol=1e-12)


def test_the_batch_is_handed_out_read_only(iris):
    def compute(network, parameters, batch):
        batch.targets[...] = 0
        return gradients(network, parameters, batch)

    (finding,) = train(iris, compute, max_examples=2, shrink_seconds=0).findings
    assert finding.kind == "MUTATED"


def wrong_for(row, batch_of):
    """Return the reference whose 2.bias is wrong wherever a certain sample of `batch_of` is in the batch."""
    sample = batch_of.inputs[row]

    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        if (batch.inputs == sample).all(axis=1).any():
            return replace(found, parameters={**found.parameters, "2.bias": found.parameters["2.bias"] + 1e-6})
        return found

    return compute


@pytest.mark.parametrize("row", [0, 7, 59])
def test_a_wrong_gradient_of_one_sample_names_the_sample(iris, row):
    first = int(np.flatnonzero((iris.batch.inputs == iris.batch.inputs[row]).all(axis=1))[0])
    (finding,) = train(iris, wrong_for(row, iris.batch), max_examples=2).findings
    assert (finding.check, finding.kind, finding.path) == ("parameters", "WRONG", "2.bias")
    assert (finding.numbers, finding.rows, finding.failing_cases) == (f"step 0, sample {first}, made simpler", 1, 2)
    assert finding.case["batch"]["inputs"] == [iris.batch.inputs[row].tolist()]


def test_what_only_two_samples_together_show_names_both(iris):
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        return replace(found, parameters={**found.parameters, "2.bias": found.parameters["2.bias"] / batch.rows})

    (finding,) = train(iris, compute, max_examples=2).findings
    assert (finding.numbers, finding.rows) == ("step 0, samples 0 and 1, made simpler", 2)


def test_what_only_the_whole_batch_shows_stays_whole(iris):
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        wrong = {**found.parameters, "2.bias": 2 * found.parameters["2.bias"]}
        return replace(found, parameters=wrong) if batch.rows == 60 else found

    (finding,) = train(iris, compute, max_examples=2).findings
    assert (finding.numbers, finding.rows) == ("step 0, made simpler", 60)
    assert finding.factor == pytest.approx(2)


def test_a_batch_of_one_sample_is_as_small_as_it_gets():
    training = Training(parse("2 -> Dense(1), MeanSquaredError"), Batch(np.ones((1, 2)), np.zeros((1, 1))))

    def compute(*arguments):
        return {path: 3 * array for path, array in gradients(*arguments).parameters.items()}

    (finding,) = train(training, compute, max_examples=1).findings
    assert (finding.numbers, finding.rows) == ("step 0, made simpler", 1)


def test_a_training_that_diverges_ends_and_says_so():
    rng = np.random.default_rng(0)
    batch = Batch(rng.normal(size=(5, 2)), rng.normal(size=(5, 1)))
    result = train(Training(parse("2 -> Dense(1), MeanSquaredError"), batch, 1e6), max_examples=200)
    assert result.passed
    assert 2 < result.networks < 200
    ending = f"training diverged at step {result.networks}, where it ended; try a smaller learning rate"
    assert result.notes[-1] == ending


def test_reading_standardises_unless_asked_not_to():
    prepared = read_training(IRIS, None, 0.1, raw=False, rows=256, seed=0)
    raw = read_training(IRIS, None, 0.25, raw=True, rows=256, seed=0)
    assert prepared.batch.rows == raw.batch.rows == 150
    np.testing.assert_allclose(prepared.batch.inputs.std(axis=0), 1)
    assert raw.batch.inputs.max() == 7.9
    assert (prepared.learning_rate, raw.learning_rate) == (0.1, 0.25)


def test_reading_takes_a_network():
    network = parse("4 -> Dense(5) -> ReLU -> Dense(3), MeanSquaredError")
    training = read_training(IRIS, network, 0.1, raw=False, rows=20, seed=0)
    assert training.network is network
    assert training.batch.targets.shape == (20, 3)
    assert train(training).passed


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("3 -> Dense(3), SoftmaxCrossEntropy", "the network takes 3 inputs, the data has 4 columns"),
        ("4 -> Dense(2), SoftmaxCrossEntropy", "targets[100]: label 2 is not in 0..1"),
        ("4 -> Dense(2), MeanSquaredError", "targets: expected shape (150, 2), got (150, 3)"),
        (
            "4 -> Dense(3), SoftmaxCrossEntropy(reduction=none)",
            "training needs one cost: use reduction=mean or reduction=sum",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_told_with_the_file(network, message):
    with pytest.raises(InvalidInput) as caught:
        read_training(IRIS, parse(network), 0.1, raw=False, rows=256, seed=0)
    assert str(caught.value) == f"{IRIS}: {message}"


def test_a_case_in_float32_is_rounded_and_read_only(iris):
    rng = np.random.default_rng(0)
    parameters = {path: rng.normal(size=shape) for path, shape in iris.network.parameters().items()}
    case = in_dtype(iris.network, parameters, iris.batch, "float32")
    assert case.dtype == np.float32
    assert np.array_equal(case.parameters["0.weight"], parameters["0.weight"].astype(np.float32))
    arrays = [*case.parameters.values(), case.batch.inputs, case.batch.targets]
    assert not any(array.flags.writeable for array in arrays)
    assert iris.batch.inputs.flags.writeable
