"""The regimes: each has the property that it names, in every dtype."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import Batch, parse
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.regimes import OF_THE_DTYPE, REGIMES, Numbers
from gradconform.dtypes import DTYPES, dtype_of, finfo
from gradconform.reference import backpropagation

NETWORK = parse("4 -> Dense(6) -> Tanh -> Dense(5), SoftmaxCrossEntropy")
PROBABILITIES = parse("4 -> Dense(6) -> ReLU -> Dense(5) -> Softmax, CrossEntropy")
SEEDS = range(5)


def make(regime, seed=0, dtype="float64", network=NETWORK, rows=7, **more):
    draw = Draw(regime, seed)
    return Example(network, rows, (draw,), **more).case(draw, dtype)


def outputs(case):
    """Return the outputs of all layers in float64, for the numbers of the case in whatever dtype."""
    parameters = {path: array.astype(float) for path, array in case.parameters.items()}
    batch = Batch(case.batch.inputs.astype(float), case.batch.targets)
    return backpropagation.gradients(case.network, parameters, batch).outputs


def logits(case):
    return outputs(case)[max(i for i, layer in enumerate(case.network.layers) if type(layer).__name__ == "Dense")]


def spans(case):
    values = logits(case)
    return values.max(axis=1) - values.min(axis=1)


def numbers(case):
    return np.concatenate([case.batch.inputs.ravel(), *(array.ravel() for array in case.parameters.values())])


def test_the_regimes_are_those_that_are_tested_here():
    assert set(REGIMES) == {
        "integers", "ordinary", "large", "saturated", "logit-gap-20", "logit-gap-100", "logit-gap-2000",
        "extreme-logits", "rows-far-apart", "zero-weights", "tied-logits", "one-label", "duplicated-rows", "zero-rows",
        "near-kinks", "cancelling", "constant", "mixed-magnitudes", "tiny", "subnormal",
    }  # fmt: skip


def test_hypothesis_shrinks_to_small_integers():
    assert next(iter(REGIMES)) == "integers"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_is_finite_on_every_kind_of_network(regime, dtype):
    dense = ["1 -> Dense(1), MeanSquaredError(reduction=none)", "3 -> Dense(2, bias=False), Huber"]
    for network in [*dense, "2 -> Tanh, MeanSquaredError", "2 -> Softmax, CrossEntropy"]:
        for rows in (1, 3):
            case = make(regime, network=parse(network), rows=rows, dtype=dtype)
            assert case.dtype == dtype_of(dtype)
            assert np.isfinite(numbers(case)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_takes_soft_labels_and_class_weights(regime, dtype):
    for classes in (1, 2, 16):
        for seed in range(20):
            network = parse(f"2 -> Dense(2) -> ReLU -> Dense({classes}), SoftmaxCrossEntropy")
            case = make(regime, seed, dtype, network, labels="soft", class_weights=True)
            assert np.isfinite(numbers(case)).all()
            assert (case.batch.targets.dtype, case.batch.targets.shape) == (dtype_of(dtype), (7, classes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_too_large_is_clipped_so_that_sixteen_can_be_added_up(monkeypatch, dtype):
    largest = float(finfo(dtype_of(dtype)).max)

    def huge(numbers, _dtype, _rng):
        numbers.inputs = np.sign(numbers.inputs) * largest
        numbers.parameters["0.bias"][:] = -np.inf

    network = parse("16 -> Dense(2), Huber")
    plain = make("ordinary", 0, dtype, network)
    monkeypatch.setitem(REGIMES, "huge", huge)
    case = make("huge", 0, dtype, network)
    np.testing.assert_array_equal(case.batch.inputs, np.sign(plain.batch.inputs) * case.dtype.type(largest / 16))
    assert np.isfinite(np.abs(case.batch.inputs[0]).sum(dtype=case.dtype))
    np.testing.assert_array_equal(case.parameters["0.bias"], case.dtype.type(-largest / 16))
    np.testing.assert_array_equal(case.parameters["0.weight"], plain.parameters["0.weight"])


@pytest.mark.parametrize("regime", REGIMES)
def test_the_numbers_of_a_regime_depend_on_the_dtype_where_that_is_said(regime):
    drawn = []
    for dtype in ("float64", "float32"):
        rng = np.random.default_rng(3)
        numbers = Numbers.ordinary(parse("5 -> Dense(4) -> ReLU -> Dense(3), SoftmaxCrossEntropy"), 4, rng)
        REGIMES[regime](numbers, dtype_of(dtype), rng)
        drawn.append([numbers.inputs, *numbers.parameters.values(), rng.random()])
    same = all(np.array_equal(one, other) for one, other in zip(*drawn, strict=True))
    assert same == (regime not in OF_THE_DTYPE)


@pytest.mark.parametrize("seed", SEEDS)
def test_integers(seed):
    found = numbers(make("integers", seed))
    assert np.array_equal(found, np.round(found))
    assert np.abs(found).max() <= 3
    assert 0 in found


@pytest.mark.parametrize("seed", SEEDS)
def test_ordinary_keeps_pre_activations_near_1(seed):
    case = make("ordinary", seed, rows=200)
    hidden = outputs(case)[0]
    assert 0.3 < hidden.std() < 3


@pytest.mark.parametrize(("regime", "factor"), [("large", 3), ("saturated", 20)])
def test_scaled_parameters(regime, factor):
    plain, scaled = make("ordinary"), make(regime)
    for path, array in plain.parameters.items():
        np.testing.assert_allclose(scaled.parameters[path], factor * array)
    assert np.array_equal(plain.batch.inputs, scaled.batch.inputs)


def test_saturated_units_saturate():
    case = make("saturated", rows=50)
    activations = np.abs(outputs(case)[1])
    assert np.mean(activations > 0.999) > 0.7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("network", [NETWORK, PROBABILITIES])
@pytest.mark.parametrize("gap", [20, 100, 2000])
def test_logit_gaps(gap, network, seed):
    assert spans(make(f"logit-gap-{gap}", seed, network=network)).max() == pytest.approx(gap, rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_logit_gap_of_2000_overflows_a_naive_softmax(dtype):
    values = logits(make("logit-gap-2000", dtype=dtype)).astype(dtype_of(dtype))
    with np.errstate(over="ignore"):
        assert any(np.isinf(np.exp(row)).any() or not np.exp(row).all() for row in values)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits(seed, dtype):
    values = logits(make("extreme-logits", seed, dtype))
    assert set(np.abs(values.ravel())) == {1000.0}


def test_extreme_logits_are_of_both_signs():
    assert {-1000.0, 1000.0} == {value for seed in SEEDS for value in logits(make("extreme-logits", seed)).ravel()}


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_far_apart(seed):
    sizes = np.abs(make("rows-far-apart", seed).batch.inputs).max(axis=1)
    assert sizes.max() / sizes.min() > 50


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_weights(dtype):
    case = make("zero-weights", dtype=dtype)
    assert not any(array.any() for array in case.parameters.values())
    assert not logits(case).any()
    assert case.batch.inputs.all()


@pytest.mark.parametrize("seed", SEEDS)
def test_tied_logits(seed):
    case = make("tied-logits", seed)
    assert (case.parameters["2.weight"] == case.parameters["2.weight"][:, :1]).all()
    assert len(set(case.parameters["2.bias"])) == 1
    assert len(set(case.parameters["0.bias"])) == 6
    assert spans(case).max() < 1e-14
    assert np.abs(logits(case)).max() > 0.01


def test_one_label():
    labels = [make("one-label", seed, rows=20).batch.targets for seed in range(20)]
    assert all(len(set(targets)) == 1 for targets in labels)
    assert len({targets[0] for targets in labels}) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_duplicated_rows(seed):
    inputs = make("duplicated-rows", seed).batch.inputs
    assert (inputs == inputs[:1]).all()
    assert len(set(inputs[0])) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_zero_rows_reach_kinks_exactly(seed):
    case = make("zero-rows", seed, network=PROBABILITIES)
    zero = ~case.batch.inputs.any(axis=1)
    assert zero.any()
    assert not any(array.any() for path, array in case.parameters.items() if path.endswith("bias"))
    assert all(array.any() for path, array in case.parameters.items() if path.endswith("weight"))
    pre_activations = outputs(case)[0]
    assert (pre_activations[zero] == 0).all()


def test_zero_rows_are_sparse_elsewhere():
    inputs = np.concatenate([make("zero-rows", seed).batch.inputs for seed in range(10)])
    assert 0.4 < np.mean(inputs == 0) < 0.8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_near_kinks_are_within_rounding_of_0_in_one_sample(seed, dtype):
    case = make("near-kinks", seed, dtype, PROBABILITIES)
    inputs, weight, bias = (
        np.abs(array.astype(float))
        for array in (case.batch.inputs, case.parameters["0.weight"], case.parameters["0.bias"])
    )
    # the bias was rounded once to the dtype, and what it cancels was computed in float64
    near = np.abs(outputs(case)[0]) <= float(finfo(case.dtype).eps) * (inputs @ weight + bias)
    assert near.sum(axis=1).max() >= 2
    assert near.mean() < 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelling_sums_are_smaller_than_their_terms(seed):
    case = make("cancelling", seed)
    weight = case.parameters["0.weight"]
    assert (weight[2:] == -weight[:2]).all()
    assert (weight[:, 3:] == weight[:, :3]).all()
    products = case.batch.inputs @ weight
    assert (np.abs(products) < 1e-5 * (np.abs(case.batch.inputs) @ np.abs(weight))).all()
    assert products.all()


@pytest.mark.parametrize("seed", SEEDS)
def test_constant_arrays(seed):
    case = make("constant", seed)
    values = [set(array.ravel()) for array in (case.batch.inputs, *case.parameters.values())]
    assert [len(value) for value in values] == [1] * 5
    assert len(set.union(*values)) == 5


def test_mixed_magnitudes():
    sizes = np.abs(np.concatenate([numbers(make("mixed-magnitudes", seed)) for seed in range(5)]))
    assert sizes.max() / sizes.min() > 1e5


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_numbers_are_normal_and_products_of_three_come_near_the_smallest(dtype):
    case = make("tiny", dtype=dtype)
    normal = float(finfo(dtype_of(dtype)).smallest_normal)
    assert np.abs(numbers(case)).max() < 10 * normal**0.25
    assert np.abs(numbers(case)).min() > normal
    assert 0 < np.abs(outputs(case)[0]).max() < 100 * normal**0.25


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_inputs(dtype):
    inputs = np.abs(make("subnormal", dtype=dtype).batch.inputs)
    # bfloat16 has 127 subnormal numbers: the smallest of what is drawn is rounded to 0
    assert np.mean(inputs > 0) > 0.9
    assert inputs.max() < finfo(inputs.dtype).smallest_normal


def test_numbers_know_the_last_parameters():
    numbers = Numbers.ordinary(PROBABILITIES, 2, np.random.default_rng(0))
    assert numbers.last_dense == ["2.weight", "2.bias"]
    assert Numbers.ordinary(parse("2 -> Tanh, Huber"), 2, np.random.default_rng(0)).last_dense == []


def test_logits_of_numbers_stop_before_a_final_softmax_only():
    numbers = Numbers.ordinary(PROBABILITIES, 3, np.random.default_rng(0))
    assert not np.allclose(numbers.logits().sum(axis=1), 1)
    inner = Numbers.ordinary(parse("2 -> Softmax -> Tanh, Huber"), 3, np.random.default_rng(0))
    assert inner.logits().shape == (3, 2)
    assert (np.abs(inner.logits()) < 1).all()
