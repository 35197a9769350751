"""Shrinking: the smallest case is what a person would call so, and it shows the same bug."""

import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

import gradconform as gc
from gradconform.case import Batch
from gradconform.conformance import shrinking
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, of
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.training import Training, check_training
from gradconform.losses import MeanSquaredError
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients
from gradconform.templates import parse_template


def first(candidate, given=None, max_examples=60, seed=2, **more):
    """Return the first finding of a candidate that fails."""
    implementation = candidate if isinstance(candidate, Implementation) else Implementation("mine", candidate)
    options = {"witnesses": False, "dtypes": ["float64"], "diagnose": False, "max_findings": 1, "seed": seed, **more}
    return run(Plan([implementation], max_examples, networks=network_strategy(given), **options)).findings[0]


def numbers(finding):
    """Return all numbers of a finding's case."""
    arrays = [*finding.case["parameters"].values(), *finding.case["batch"].values()]
    return np.concatenate([np.ravel(array) for array in arrays])


def only_small_integers(finding):
    return bool(np.all(numbers(finding) == np.rint(numbers(finding))) and np.abs(numbers(finding)).max() <= 3)


def changed(change):
    """Return the reference with `change(path, array, network, batch)` in place of each parameter's gradient."""

    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        return {path: change(path, array, network, batch) for path, array in found.items()}

    return compute


# What a person would call smallest


@pytest.mark.parametrize(
    ("fault", "notation", "rows"),
    [
        ("bias-mean", "1 -> Dense(1), MeanSquaredError", 2),
        ("bias-first-row", "1 -> Dense(1), MeanSquaredError", 2),
        ("bias-missing", "1 -> Dense(1), MeanSquaredError", 1),
        ("bias-scalar", "1 -> Dense(2), MeanSquaredError", 1),
        ("no-mean", "1 -> Dense(1), MeanSquaredError", 2),
        ("mean-twice", "1 -> Dense(1), MeanSquaredError", 2),
        ("half-mse", "1 -> Dense(1), MeanSquaredError", 1),
        ("minus-lost", "1 -> Dense(1), MeanSquaredError", 1),
        ("loss-scale", "1 -> Dense(1), MeanSquaredError", 1),
        ("wrong-names", "1 -> Dense(1), MeanSquaredError", 1),
        ("transposed", "2 -> Dense(2), MeanSquaredError", 1),
        ("gelu-mixed", "1 -> Dense(1) -> GELU, MeanSquaredError", 1),
        ("mask-from-output", "1 -> Dense(1) -> LeakyReLU, MeanSquaredError", 1),
        ("softmax-diagonal", "1 -> Dense(2) -> Softmax, MeanSquaredError", 1),
        ("smoothing-ignored", "1 -> Dense(2), SoftmaxCrossEntropy(label_smoothing=0.5)", 1),
        ("inputs-mutated", "1 -> Dense(1), MeanSquaredError", 1),
    ],
)
def test_the_smallest_case_of_a_fault(fault, notation, rows):
    # the seed is one whose first failing case is no other one of the smallest
    finding = first(FAULTS[fault].implementation(), seed=7 if fault == "smoothing-ignored" else 2)
    assert (finding.notation, finding.rows, finding.numbers) == (notation, rows, "small integers")
    assert only_small_integers(finding)


@pytest.mark.parametrize("fault", ["derivative-missing", "derivative-at-output", "upstream-squared"])
def test_an_activation_is_shown_behind_one_dense_layer(fault):
    finding = first(FAULTS[fault].implementation())
    assert finding.network.layers[0] == gc.Dense(1)
    assert (len(finding.network.layers), finding.network.widths, finding.rows) == (2, (1, 1, 1), 1)
    assert only_small_integers(finding)


@pytest.mark.parametrize("fault", ["ignored-rows-counted", "sum-divides", "first-cotangent-only", "upstream-ignored"])
def test_an_option_that_matters_stays_and_others_go(fault):
    seed = {"ignored-rows-counted": 10, "sum-divides": 7}.get(fault, 5)
    finding = first(FAULTS[fault].implementation(), seed=seed, max_examples=200)
    kept = {
        "ignored-rows-counted": {"ignore_index"},
        "sum-divides": {"reduction"},
        "first-cotangent-only": {"reduction"},
        "upstream-ignored": {"reduction"},
    }[fault]
    default = type(finding.network.loss)()
    options = finding.network.loss.__struct_fields__
    assert {name for name in options if getattr(finding.network.loss, name) != getattr(default, name)} == kept
    assert finding.rows == (1 if fault == "upstream-ignored" else 2)
    assert len(finding.network.layers) == 1


def test_layers_that_do_not_matter_are_left_out_of_a_black_box():
    wrong = changed(lambda path, array, network, batch: 2 * array if gc.Tanh() in network.layers else array)
    finding = first(wrong, max_examples=120)
    assert {type(layer).__name__ for layer in finding.network.layers} == {"Dense", "Tanh"}
    assert (len(finding.network.layers), max(finding.network.widths), finding.rows) == (2, 1, 1)


def test_a_width_that_matters_stays():
    wrong = changed(lambda path, array, network, batch: 2 * array if array.shape[-1] == 5 else array)
    finding = first(wrong, max_examples=120)
    assert finding.network.layers == (gc.Dense(5),)
    assert (finding.network.inputs, finding.rows) == (1, 1)


def test_numbers_that_matter_stay_with_few_digits():
    def wrong(network, parameters, batch):
        large = np.abs(batch.inputs).max() > 100
        found = gradients(network, parameters, batch).parameters
        return {path: 2 * array if large and array.ndim == 2 else array for path, array in found.items()}

    finding = first(wrong, max_examples=100)
    (value,) = np.ravel(finding.case["batch"]["inputs"])
    assert abs(value) > 100
    assert float(f"{value:.2e}") == value
    assert finding.numbers.startswith("made simpler from regime ")


def test_arrays_end_in_c_order_where_their_order_does_not_matter():
    seen = []

    def wrong(network, parameters, batch):
        seen.append(all(array.flags.c_contiguous for array in (batch.inputs, *parameters.values())))
        return {path: -array for path, array in gradients(network, parameters, batch).parameters.items()}

    first(wrong)
    assert seen[-1]
    ordered = changed(lambda path, array, network, batch: array if batch.inputs.flags.c_contiguous else -array)
    assert first(ordered, max_examples=120).path.endswith("weight")


# The same bug


def both(network, parameters, batch):
    """Biases are divided by the batch size in every network; weights are doubled where there are several layers."""
    found = gradients(network, parameters, batch).parameters
    several = len(network.layers) > 1
    return {
        path: (2 * array if several else array) if array.ndim == 2 else array / batch.rows
        for path, array in found.items()
    }


def test_of_two_faults_in_one_candidate_the_first_stays_the_first():
    plan = Plan([Implementation("mine", both)], 60, seed=2, witnesses=False, dtypes=["float64"], diagnose=False)
    findings = {finding.path.split(".")[1]: finding for finding in run(plan).findings}
    assert set(findings) == {"weight", "bias"}
    assert len(findings["weight"].network.layers) == 2
    assert findings["weight"].factor == pytest.approx(2)
    assert (findings["bias"].rows, findings["bias"].factor) == (2, pytest.approx(0.5))


def test_what_is_not_finite_does_not_become_what_is_wrong():
    def wrong(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        bad = np.nan if max(network.widths) > 2 else 2
        return {path: bad * array for path, array in found.items()}

    result = run(Plan([Implementation("mine", wrong)], 60, seed=2, witnesses=False, dtypes=["float64"], diagnose=False))
    for finding in result.findings:
        assert (finding.kind == "NONFINITE") == (max(finding.network.widths) > 2)
    assert {finding.kind for finding in result.findings} == {"NONFINITE", "WRONG"}


def test_a_crash_does_not_become_another_crash():
    def wrong(network, parameters, batch):
        if len(network.layers) > 2:
            raise KeyError("deep")
        raise ValueError("flat")

    result = run(Plan([Implementation("mine", wrong)], 30, seed=2, witnesses=False, dtypes=["float64"], diagnose=False))
    (finding,) = result.findings
    assert finding.detail.startswith("KeyError" if len(finding.network.layers) > 2 else "ValueError")


def test_a_named_factor_stays_the_bugs_own():
    wrong = changed(
        lambda path, array, network, batch: array / batch.rows if batch.rows > 2 else array * (1 + (batch.rows == 2))
    )
    plan = Plan([Implementation("mine", wrong)], 60, seed=1, witnesses=False, dtypes=["float64"], max_findings=1)
    (finding,) = run(plan).findings
    assert (finding.factor == pytest.approx(2)) == (finding.rows == 2)


# Limits


def test_the_candidate_is_called_about_150_times_at_most():
    calls = []

    def wrong(network, parameters, batch):
        calls.append(None)
        # rough numbers that cannot become simple: everything is tried
        rough = (np.abs(batch.inputs) % 1 > 0.2).any() and len(network.layers) > 2
        found = gradients(network, parameters, batch).parameters
        return {path: 2 * array if rough else array for path, array in found.items()}

    told = []
    first(wrong, notify=lambda line: told.append(len(calls)), found=lambda finding: told.append(len(calls)))
    assert told[1] - told[0] < shrinking.LOOKS + 60
    assert shrinking.LOOKS == 150


def test_no_time_leaves_the_first_failing_case():
    finding = first(FAULTS["bias-mean"].implementation(), shrink_seconds=0)
    assert finding.numbers == "regime integers"


def test_the_time_limit_keeps_the_best_so_far():
    now = [0.0]

    def slow(network, parameters, batch):
        now[0] += 1
        factor = 2 if network.inputs > 4 else 1
        return {path: factor * array for path, array in gradients(network, parameters, batch).parameters.items()}

    def after(seconds):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: now[0])
            now[0] = 0.0
            return first(slow, "* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError", seed=4, shrink_seconds=seconds)

    untouched, short, long = after(0), after(20), after(1000)
    assert sum(untouched.network.widths) > sum(short.network.widths) > sum(long.network.widths) == 5 + 3
    assert only_small_integers(long)


def test_an_interruption_keeps_the_best_so_far():
    calls = []

    def wrong(*arguments):
        calls.append(None)
        if told and len(calls) - told[0] == 12:
            signal.raise_signal(signal.SIGINT)
        return {path: 2 * array for path, array in gradients(*arguments).parameters.items()}

    told = []
    plan = Plan([Implementation("mine", wrong)], 1000, seed=5, witnesses=False, dtypes=["float64"], diagnose=False)
    plan.notify = lambda line: told.append(len(calls))
    result = run(plan)
    assert (result.verdict, result.exit_code) == ("failed", 1)
    finding = result.findings[0]
    assert finding.network.layers == (gc.Dense(1),)
    assert "interrupted: not everything was drawn or made as small as it could be" in result.notes


def test_the_time_of_a_call_is_limited_as_before_afterwards():
    fault = FAULTS["bias-mean"].implementation()
    first(fault, timeout=7.0, shrink_seconds=3)
    assert fault.guard.timeout == 7.0


def test_what_is_found_out_about_kinks_on_the_way_does_not_change_the_run():
    fault = FAULTS["relu-slope-negative"].implementation()
    before = run(Plan([fault], 40, seed=2, witnesses=False, dtypes=["float64"], shrink_seconds=0)).implementations
    again = FAULTS["relu-slope-negative"].implementation()
    after = run(Plan([again], 40, seed=2, witnesses=False, dtypes=["float64"], diagnose=False)).implementations
    assert before == after


@pytest.mark.parametrize("fault", ["bias-mean", "softmax-diagonal", "unstable-softmax"])
def test_the_same_seed_gives_the_same_smallest_case(fault):
    one, two = (first(FAULTS[fault].implementation(), max_examples=100) for _ in range(2))
    assert one == two


# What may be


def test_an_explicit_network_stays():
    text = "3 -> Dense(4) -> Tanh -> Dense(2), SoftmaxCrossEntropy(label_smoothing=0.1)"
    finding = first(FAULTS["bias-mean"].implementation(), given=text)
    assert (finding.notation, finding.rows) == (text, 2)
    assert only_small_integers(finding)


def test_a_template_keeps_its_layers_and_its_loss():
    text = "* -> Dense(*) -> Tanh -> Dense(3), SoftmaxCrossEntropy(reduction=sum)"
    finding = first(FAULTS["bias-missing"].implementation(), given=text)
    assert parse_template(text).fits(finding.network)
    assert finding.notation == "1 -> Dense(1) -> Tanh -> Dense(3), SoftmaxCrossEntropy(reduction=sum)"


def test_only_what_is_declared_is_asked():
    asked = []

    @gc.supports(layers=("ReLU",), losses="SoftmaxCrossEntropy", reductions=("sum",), bias=False, labels=("one-hot",))
    def wrong(network, parameters, batch):
        asked.append((network, batch))
        return {path: 2 * array for path, array in gradients(network, parameters, batch).parameters.items()}

    implementation = of(wrong)
    finding = first(implementation)
    assert finding.notation == "1 -> Dense(2, bias=False), SoftmaxCrossEntropy(reduction=sum)"
    assert all(implementation.capabilities.lacks(network, batch) is None for network, batch in asked)


def test_single_samples_stay_single():
    rows = []

    @gc.supports(samples="single")
    def wrong(network, parameters, batch):
        rows.append(batch.inputs.ndim)
        whole = Batch(batch.inputs[None], np.asarray(batch.targets)[None], batch.class_weights, batch.cotangent)
        return {path: 2 * array for path, array in gradients(network, parameters, whole).parameters.items()}

    reduced = first(of(wrong), "2 -> Dense(2) -> Tanh -> Dense(1), MeanSquaredError")
    assert (reduced.rows, set(rows)) == (1, {1})


def test_a_strategy_of_somebodys_own_is_shrunk_by_hypothesis_and_its_numbers_after_it():
    @st.composite
    def pairs(draw):
        width = draw(st.integers(2, 9))
        return gc.Network(width, (gc.Dense(width), gc.Tanh(), gc.Dense(2 * width)), MeanSquaredError())

    plan = Plan([FAULTS["bias-mean"].implementation()], 30, seed=2, witnesses=False, networks=pairs(), max_findings=1)
    (finding,) = run(plan).findings
    assert finding.notation == "2 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError"
    assert (finding.rows, finding.numbers) == (2, "small integers")
    drawn = []
    run(replace_plan(plan, networks=pairs().map(lambda network: drawn.append(network) or network)))
    assert len(drawn) > 10


def replace_plan(plan, **changes):
    return replace(plan, implementations=[FAULTS["bias-mean"].implementation()], **changes)


def test_the_run_goes_on_as_if_nothing_had_been_shrunk_in_between():
    def networks_of(**more):
        seen = []

        def wrong(network, parameters, batch):
            seen.append(str(network))
            return {path: 2 * array for path, array in gradients(network, parameters, batch).parameters.items()}

        strategy = network_strategy(["2 -> Dense(3), Huber", "4 -> Dense(2) -> Tanh, MeanSquaredError"]).strategy()
        plan = Plan([Implementation("mine", wrong)], 30, seed=7, witnesses=False, networks=strategy, **more)
        result = run(plan)
        return result.networks, result.regimes, [tally.comparisons for tally in result.implementations]

    assert networks_of() == networks_of(shrink_seconds=0)


# Given data


def test_given_data_is_reduced_to_a_sample_and_its_numbers_made_simpler():
    rng = np.random.default_rng(3)
    network = parse("2 -> Dense(3) -> Tanh -> Dense(1), MeanSquaredError")
    training = Training(network, Batch(rng.normal(size=(40, 2)), rng.normal(size=(40, 1))))
    plan = Plan([FAULTS["bias-missing"].implementation()], 3, witnesses=False, dtypes=["float64"], diagnose=False)
    (finding,) = check_training(plan, training).findings
    assert (finding.network, finding.rows, finding.numbers) == (network, 1, "step 0, sample 0, made simpler")
    assert only_small_integers(finding)


def test_the_sample_that_matters_is_found_in_many():
    inputs = np.arange(200.0).reshape(100, 2)
    network = parse("2 -> Dense(1), MeanSquaredError")
    training = Training(network, Batch(inputs, np.zeros((100, 1))), learning_rate=1e-9)

    def wrong(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        return {path: array + (batch.inputs[:, 0] == 74).any() for path, array in found.items()}

    plan = Plan([Implementation("mine", wrong)], 1, witnesses=False, dtypes=["float64"], diagnose=False)
    (finding,) = check_training(plan, training).findings
    assert finding.numbers.startswith("step 0, sample 37")
    assert finding.case["batch"]["inputs"][0][0] == 74
