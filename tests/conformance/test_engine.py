"""The engine: what a run draws, counts, shrinks, keeps and says."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

import gradconform as gc
from gradconform import Gradients, InvalidInput, Network, NotInstalled, parse
from gradconform.conformance import engine, record
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import Comparison, Element, Factor, Kind, Outcomes
from gradconform.conformance.conditions import CONDITIONS
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.findings import factor_name, place_of
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.plan import Plan, choose_checks, network_strategy
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.results import EXIT_CODES, Finding, Result, Tally, spelled
from gradconform.conformance.strategies import networks
from gradconform.conformance.summary import summary_of
from gradconform.reference.backpropagation import gradients

SMALL = "3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError"


def quick(implementation, max_examples=12, given=None, **more):
    """Run without votes, and without making anything smaller or naming it."""
    if not isinstance(implementation, Implementation):
        implementation = Implementation("mine", implementation)
    options = {"seed": 1, "witnesses": False, "shrink_seconds": 0, "diagnose": False, **more}
    return run(Plan([implementation], max_examples=max_examples, networks=network_strategy(given), **options))


def scaled(path, factor):
    """Return the reference with the gradients of the parameters of one name scaled: weight or bias."""

    def compute(*arguments):
        found = gradients(*arguments)
        changed = {key: array * factor if key.endswith(path) else array for key, array in found.parameters.items()}
        return replace(found, parameters=changed)

    return compute


# gradconform.check


def test_check_takes_functions_objects_and_targets():
    class Net:
        def gradients(self, network, parameters, batch):
            return gradients(network, parameters, batch).parameters

    def mine(network, parameters, batch):
        return dict(gradients(network, parameters, batch).parameters)

    result = gc.check(mine, Net(), "reference", networks=SMALL, max_examples=4)
    assert result.passed
    assert [(tally.name, tally.dtype) for tally in result.implementations] == [
        ("mine", "float64"), ("Net", "float64"), ("reference", "float64"), ("reference", "float32")
    ]  # fmt: skip
    assert all(tally.cases == 4 for tally in result.implementations)


def test_without_candidates_what_is_installed_is_checked(monkeypatch):
    monkeypatch.setattr(engine.known, "installed", lambda: [Implementation("lava", gradients)])
    result = gc.check(networks=SMALL, max_examples=2)
    assert {tally.name for tally in result.implementations} == {"lava", "reference"}


def test_nothing_installed_is_told(monkeypatch):
    monkeypatch.setattr(engine.known, "installed", list)
    with pytest.raises(NotInstalled, match="nothing to compare: no framework is installed"):
        gc.check(networks=SMALL, max_examples=2)


def test_a_plan_without_implementations_compares_nothing():
    result = run(Plan([], 2))
    assert (result.verdict, result.exit_code, result.networks) == ("nothing compared", 5, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["losses"]}, f"check 'losses' is unknown; the checks are {', '.join(CHECKS)}"),
        ({"exclude": ["x"]}, f"check 'x' is unknown; the checks are {', '.join(CHECKS)}"),
        ({"only": ["loss"], "exclude": ["loss"]}, "no check is left: every one that was asked for is excluded"),
        ({"exclude": list(CHECKS)}, "no check is left: every one that was asked for is excluded"),
        ({"dtypes": ["int8"]}, "dtype 'int8' is not supported; use float64, float32, bfloat16, float16"),
        ({"networks": []}, "networks: expected at least one"),
        ({"networks": [3]}, "networks: expected networks or notation, got 3"),
        ({"networks": 3}, "networks: expected networks, notation or a strategy, got 3"),
        ({"max_examples": 0}, "max_examples: expected an integer of at least 1, got 0"),
        ({"max_examples": -3}, "max_examples: expected an integer of at least 1, got -3"),
        ({"max_examples": 2.5}, "max_examples: expected an integer of at least 1, got 2.5"),
        ({"max_examples": True}, "max_examples: expected an integer of at least 1, got True"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(options, message):
    with pytest.raises(InvalidInput) as caught:
        gc.check("reference", **options)
    assert str(caught.value) == message


def test_notation_that_cannot_be_read_is_told_with_its_column():
    with pytest.raises(InvalidInput, match=r"column 6: layers\[0\]: unknown layer 'Dens'; did you mean Dense\?"):
        gc.check("reference", networks=["2 -> Dens(3), Huber"])


def test_an_unknown_candidate_is_told():
    with pytest.raises(InvalidInput, match="target 'nobody': expected reference, torch"):
        gc.check("nobody")


def test_a_missing_framework_is_told(monkeypatch):
    def adapter(name):
        raise NotInstalled(f"{name} cannot be used: pip install 'gradconform[{name}]'")

    monkeypatch.setattr(engine.known, "adapter", adapter)
    with pytest.raises(NotInstalled, match="pip install"):
        gc.check("jax")


@pytest.mark.parametrize(
    "given",
    [
        SMALL,
        parse(SMALL),
        [SMALL],
        [parse(SMALL)],
        (text for text in [SMALL]),
        st.just(parse(SMALL)),
    ],
    ids=["notation", "record", "list", "records", "generator", "strategy"],
)
def test_networks_can_be_given_in_every_way(given):
    seen = set()

    def mine(network, parameters, batch):
        seen.add(network)
        return gradients(network, parameters, batch)

    assert gc.check(mine, networks=given, max_examples=3).passed
    assert seen == {parse(SMALL)}


def test_several_networks_are_all_drawn():
    texts = ["1 -> Dense(1), Huber", "2 -> Dense(3) -> Softmax, CrossEntropy", SMALL]
    seen = set()

    def mine(network, parameters, batch):
        seen.add(str(network))
        return gradients(network, parameters, batch)

    gc.check(mine, networks=texts, max_examples=60)
    assert seen == set(texts)


def test_a_strategy_that_raises_says_what_it_raised():
    def broken(_):
        raise ZeroDivisionError("in the strategy")

    with pytest.raises(ZeroDivisionError, match="in the strategy"):
        gc.check("reference", networks=st.integers(0, 3).map(broken), max_examples=2)


def test_a_network_for_which_no_case_exists_says_why():
    with pytest.raises(InvalidInput, match="every row is ignored, so that the mean is 0/0"):
        gc.check("reference", networks="2 -> Dense(1), SoftmaxCrossEntropy(ignore_index=0)", max_examples=3)


def test_dtypes_are_those_asked_for():
    assert {tally.dtype for tally in gc.check("reference", networks=SMALL, max_examples=1).implementations} == {
        "float64", "float32"
    }  # fmt: skip
    for dtype in ("float64", "float32"):
        (tally,) = gc.check("reference", networks=SMALL, max_examples=1, dtypes=[dtype]).implementations
        assert (tally.dtype, tally.cases) == (dtype, 1)


def test_only_and_exclude_choose_checks():
    (only, *_) = gc.check("reference", networks=SMALL, max_examples=8, only=["loss", "sum-of-samples"]).implementations
    assert set(only.checks) == {"loss", "sum-of-samples"}
    (rest, *_) = gc.check(
        "reference", networks=SMALL, max_examples=32, exclude=["loss", "sum-of-samples"]
    ).implementations
    assert set(rest.checks) == {
        "outputs", "output-delta", "deltas", "parameters", "input", "batch-permutation", "class-permutation",
        "sample-twice", "repeatable", "stateless",
    }  # fmt: skip


def test_a_bug_that_only_an_excluded_check_sees_is_not_seen():
    broken = quick(
        lambda *arguments: replace(gradients(*arguments), input=0 * gradients(*arguments).input), given=SMALL
    )
    assert [finding.check for finding in broken.findings] == ["input"]
    chosen = choose_checks([], ["input"])
    assert quick(lambda *arguments: replace(gradients(*arguments), input=3.0), given=SMALL, checks=chosen).passed


# What a run draws and counts


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 41])
def test_exactly_so_many_networks_are_compared(count):
    progress = []
    result = quick(gradients, count, progress=lambda done, total: progress.append((done, total)), dtypes=["float64"])
    assert result.networks == count
    assert [tally.cases for tally in result.implementations] == [count]
    assert progress == [(done, count) for done in range(1, count + 1)]
    assert sum(result.regimes[name].cases for name in REGIMES if name in result.regimes) == count


def test_a_single_given_network_is_drawn_again_and_again():
    result = quick(gradients, 60, SMALL)
    assert result.networks == 60
    # the batch sizes are all that can vary, in each of two rounds
    assert 2 <= result.structures <= 10


def test_structures_are_not_repeated_where_there_are_others():
    result = quick(gradients, 80, dtypes=["float64"])
    assert result.structures >= 20
    assert set(result.regimes) <= {*REGIMES, *CONDITIONS}


def ledger():
    calls = []

    def compute(network, parameters, batch):
        calls.append((str(network), batch.inputs.tobytes(), b"".join(array.tobytes() for array in parameters.values())))
        return scaled("bias", 1.5)(network, parameters, batch)

    return calls, compute


def without_time(result):
    return msgspec.structs.replace(result, seconds=0.0)


def test_the_same_seed_makes_the_same_comparisons_and_findings():
    first_calls, first = ledger()
    second_calls, second = ledger()
    one, two = quick(first, 20, seed=3), quick(second, 20, seed=3)
    assert first_calls == second_calls
    assert without_time(one).to_json() == without_time(two).to_json()
    assert one.findings


def test_another_seed_makes_others():
    first_calls, first = ledger()
    second_calls, second = ledger()
    quick(first, 20, seed=3)
    quick(second, 20, seed=4)
    # both begin with the simplest network, as every start of Hypothesis does
    one, two = ({call for call in calls if call[0] != first_calls[0][0]} for calls in (first_calls, second_calls))
    assert len(one) > 20
    assert one & two == set()


def test_what_is_drawn_does_not_depend_on_who_is_checked():
    calls, compute = ledger()
    quick(compute, 15, seed=3, dtypes=["float64"])
    others, again = ledger()
    implementations = [reference(), Implementation("mine", again)]
    run(Plan(implementations, 15, seed=3, witnesses=False, shrink_seconds=0, dtypes=["float64"], diagnose=False))
    assert calls == others


def test_a_run_leaves_the_global_generators_alone():
    np.random.seed(5)  # noqa: NPY002 - the legacy state is what is looked at
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    quick(gradients, 5)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# Findings


def small(finding):
    return len(finding.network.layers) <= 2 and finding.rows <= 2 and max(finding.network.widths) <= 3


@pytest.mark.parametrize(
    ("fault", "path", "rows"),
    [("bias-mean", "0.bias", 2), ("wrong-names", "0.weight", 1), ("loss-scale", "0.weight", 1)],
)
def test_what_fails_is_made_small(fault, path, rows):
    plan = Plan([FAULTS[fault].implementation()], 12, seed=2, witnesses=False, dtypes=["float64"])
    unshrunk = run(replace_plan(plan, shrink_seconds=0)).findings[0]
    finding = run(plan).findings[0]
    assert small(finding)
    assert not small(unshrunk) or len(str(finding.network)) <= len(unshrunk.notation)
    assert (finding.path, finding.rows, finding.numbers) == (path, rows, "small integers")
    assert finding.check == unshrunk.check == "parameters"


def replace_plan(plan, **changes):
    return replace(plan, implementations=list(plan.implementations), **changes)


def test_a_large_failing_case_is_made_small():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch)
        wrong = {
            path: 2 * array if array.ndim == 1 and array.size > 1 else array for path, array in found.parameters.items()
        }
        return replace(found, parameters=wrong)

    drawn = networks(max_dense=2, max_units=4)
    plan = Plan([Implementation("mine", compute)], 30, seed=9, networks=drawn, witnesses=False, dtypes=["float64"])
    finding = run(plan).findings[0]
    assert finding.network.layers[int(finding.path.split(".")[0])] == gc.Dense(2)
    assert len(finding.network.layers) == 1


def test_the_smallest_case_is_kept_with_its_numbers():
    finding = quick(scaled("bias", 2.0), 4, "2 -> Dense(1), MeanSquaredError", shrink_seconds=20).findings[0]
    arrays = finding.case
    case = gc.Case(
        finding.network,
        {path: np.array(array) for path, array in arrays["parameters"].items()},
        gc.Batch(**{name: np.array(array) for name, array in arrays["batch"].items()}),
    )
    found = gradients(case.network, case.parameters, case.batch).parameters
    assert found["0.bias"][finding.index[0]] == pytest.approx(finding.expected)
    assert finding.actual == pytest.approx(2 * finding.expected)


def two_bugs(network, parameters, batch):
    """Weights are doubled in networks with a Tanh, biases are tripled in the others."""
    tanh = any(isinstance(layer, gc.Tanh) for layer in network.layers)
    return (scaled("weight", 2) if tanh else scaled("bias", 3))(network, parameters, batch)


def test_two_bugs_are_two_findings_and_stay_what_they_are():
    chosen = ["2 -> Dense(3), MeanSquaredError", "4 -> Dense(3) -> Tanh -> Dense(2), MeanSquaredError"]
    plan = Plan([Implementation("mine", two_bugs)], 16, seed=1, networks=network_strategy(chosen), witnesses=False)
    findings = {finding.path.split(".")[1]: finding for finding in run(plan).findings}
    assert set(findings) == {"weight", "bias"}
    assert findings["weight"].notation == chosen[1]
    assert findings["bias"].notation == chosen[0]
    assert (findings["weight"].factor, findings["bias"].factor) == (pytest.approx(2), pytest.approx(3))


def test_one_bug_in_many_layers_and_networks_is_one_finding():
    result = quick(scaled("bias", 2.0), 40, dtypes=["float64"])
    assert len(result.findings) == 1
    assert result.findings[0].failing_cases > 20


def test_more_bugs_than_can_be_told_are_counted():
    def compute(network, parameters, batch):
        raise_for = hash((len(network.layers), network.widths)) % 1000
        wrong = gradients(network, parameters, batch)
        return Gradients({f"p{raise_for}.x{len(network.layers)}{width}": 1 for width in network.widths}, wrong.loss)

    names = [f"{width} -> Tanh, MeanSquaredError" for width in range(1, 13)]
    result = quick(compute, 80, names, dtypes=["float64"])
    assert len(result.findings) == record.MAX_FINDINGS == 8
    assert any(note.endswith("different failures were seen; the first 8 are told") for note in result.notes)


def test_the_first_failing_case_is_told_at_once():
    events = []

    def compute(network, parameters, batch):
        events.append("call")
        return scaled("bias", 2.0)(network, parameters, batch)

    quick(compute, 8, SMALL, notify=events.append, dtypes=["float64"])
    told = [event for event in events if event != "call"]
    assert len(told) == 1
    assert "mine   2.bias is wrong: " in told[0]
    assert events.index(told[0]) < len(events) - 4


def test_witnesses_are_asked_on_the_smallest_case(monkeypatch):
    monkeypatch.setattr(
        engine.known,
        "installed",
        lambda: [
            Implementation("right", gradients),
            Implementation("wrong", scaled("weight", 2)),
            Implementation("mute", lambda *arguments: (_ for _ in ()).throw(NotImplementedError)),
            Implementation("mine", gradients),
        ],
    )
    (finding,) = quick(scaled("bias", 2.0), 4, SMALL, witnesses=True, dtypes=["float64"]).findings
    assert (finding.agreeing, finding.disagreeing) == (["right"], ["wrong"])


def test_what_is_right_around_a_wrong_array_is_told():
    (finding,) = quick(scaled("bias", 2.0), 4, SMALL, dtypes=["float64"]).findings
    assert (finding.path, finding.wrong) == ("2.bias", ["2.bias", "0.bias"])
    assert finding.right == [
        "output 0", "output 1", "output 2", "loss", "output delta", "delta 1", "delta 0", "2.weight", "0.weight",
        "input",
    ]  # fmt: skip
    assert finding.place == "the backward pass of layers[2], Dense: output delta, which it gets, is right"


# Factors


def factors(*evidence):
    return factor_name(
        [(None if value is None else Factor(value, 1e-12), rows, outputs) for value, rows, outputs in evidence]
    )


@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        ([(1 / 2, 2, 3), (1 / 5, 5, 3)], "1/batch"),
        ([(2, 2, 3), (5, 5, 3)], "batch"),
        ([(3, 2, 3), (4, 2, 4)], "outputs"),
        ([(1 / 3, 2, 3), (1 / 4, 2, 4)], "1/outputs"),
        ([(6, 2, 3), (20, 5, 4)], "batch x outputs"),
        ([(1 / 6, 2, 3), (1 / 20, 5, 4)], "1/(batch x outputs)"),
        ([(1 / 2, 3, 4), (1 / 2, 5, 4)], "1/2"),
        ([(2, 3, 4)], "2"),
        ([(-1, 3, 4)], "-1"),
        ([(0, 3, 4)], "0"),
        # with batches of 2 alone, 1/2 and 1/batch are the same
        ([(1 / 2, 2, 3), (1 / 2, 2, 4)], ""),
        ([(3, 3, 3)], ""),
        ([(1, 1, 1)], ""),
        ([(1024, 3, 4)], ""),
        # one case that says otherwise is enough
        ([(1 / 2, 2, 3), (1 / 5, 5, 3), (0.3, 3, 3)], ""),
        ([(1 / 2, 2, 3), (None, 5, 3)], ""),
    ],
)
def test_a_factor_is_named_if_one_name_alone_explains_every_case(evidence, name):
    assert factors(*evidence) == name


def test_an_uncertain_factor_does_not_spoil_the_name_of_the_others():
    sharp, vague = (Factor(1 / 2, 1e-15), 2, 3), (Factor(0.126, 0.05), 7, 3)
    assert factor_name([sharp, vague]) == "1/batch"
    assert factor_name([sharp, (Factor(0.126, 1e-6), 7, 3)]) == ""


def test_a_bias_that_is_averaged_has_its_factor_named_over_different_batches():
    (finding,) = quick(FAULTS["bias-mean"].implementation(), 24, SMALL, dtypes=["float64"]).findings
    assert finding.factor_name == "1/batch"
    assert finding.factor == pytest.approx(1 / finding.rows)
    assert finding.failing_cases > 10


def test_a_factor_of_batches_of_one_size_alone_has_no_wrong_name():
    def compute(network, parameters, batch):
        if batch.rows != 2:
            raise NotImplementedError
        return FAULTS["bias-mean"].implementation().gradients(network, parameters, batch)

    checks = [check for check in CHECKS.values() if not check.relation]
    (finding,) = quick(compute, 24, SMALL, dtypes=["float64"], checks=checks).findings
    assert finding.failing_cases > 3
    assert (finding.factor, finding.factor_name) == (pytest.approx(1 / 2), "")


# Places

DEEP = parse("2 -> Dense(3) -> Tanh -> Dense(2) -> Softmax, CrossEntropy")


@pytest.mark.parametrize(
    ("check", "path", "right", "place"),
    [
        ("outputs", "output 1", [], "the forward pass of layers[1], Tanh"),
        ("loss", "loss", ["output 3"], "the cost, CrossEntropy: its input is right"),
        ("loss", "loss", [], "the cost, CrossEntropy"),
        ("output-delta", "output delta", ["loss"], "the gradient of the cost, CrossEntropy: the cost itself is right"),
        ("output-delta", "output delta", [], ""),
        (
            "deltas",
            "delta 2",
            ["output delta"],
            "the backward pass of layers[3], Softmax: output delta above it is right",
        ),
        ("deltas", "delta 0", ["delta 1"], "the backward pass of layers[1], Tanh: delta 1 above it is right"),
        ("deltas", "delta 0", ["delta 2"], ""),
        ("input", "input", ["delta 0"], "the backward pass of layers[0], Dense: delta 0 above it is right"),
        ("input", "input", [], ""),
        (
            "parameters",
            "2.bias",
            ["delta 2"],
            "the backward pass of layers[2], Dense: delta 2, which it gets, is right",
        ),
        (
            "parameters",
            "2.bias",
            ["delta 0"],
            "what is above layers[2], Dense: the forward pass, the cost, or the delta on its way down",
        ),
        (
            "parameters",
            "2.bias",
            ["2.weight", "0.weight", "0.bias"],
            "2.bias itself: 2.weight, from the same delta, is right",
        ),
        ("parameters", "2.bias", ["2.weight"], ""),
        (
            "parameters",
            "0.bias",
            ["2.bias", "2.weight"],
            "the delta between layers[2] and layers[0]: 2.bias and 2.weight are right",
        ),
        ("parameters", "0.bias", ["2.weight"], ""),
        ("parameters", "99.bias", [], ""),
        ("parameters", "layer0.bias", [], ""),
        ("sum-of-samples", "2.bias", ["delta 2"], ""),
        ("call", "gradients", [], ""),
    ],
)
def test_the_place_of_the_error(check, path, right, place):
    passed = [Comparison("x", name) for name in right]
    wrong = Comparison(check, path, Kind.WRONG)
    assert place_of(wrong, DEEP, [*passed, wrong]) == place


def test_what_failed_is_not_what_is_right():
    wrong = Comparison("deltas", "delta 0", Kind.WRONG)
    above = Comparison("deltas", "delta 1", Kind.WRONG)
    assert place_of(wrong, DEEP, [wrong, above]) == ""


# Ends of a run


def interrupting(after, compute):
    calls = []

    def counted(*arguments):
        calls.append(None)
        if len(calls) == after:
            signal.raise_signal(signal.SIGINT)
        return compute(*arguments)

    return counted


def test_an_interrupted_run_keeps_what_was_compared():
    result = quick(interrupting(40, gradients), 1000, SMALL, dtypes=["float64"])
    assert (result.verdict, result.exit_code, result.passed) == ("interrupted", 2, False)
    assert 3 < result.networks < 40
    assert "\nINTERRUPTED  what was compared so far agrees: " in str(result)


def test_an_interrupted_run_keeps_its_findings_and_says_so():
    result = quick(interrupting(40, scaled("bias", 2.0)), 1000, SMALL, dtypes=["float64"])
    assert (result.verdict, result.exit_code) == ("failed", 1)
    assert [finding.path for finding in result.findings] == ["2.bias"]
    assert "interrupted: not everything was drawn or made as small as it could be" in result.notes


def test_an_interruption_while_shrinking_keeps_the_findings():
    told = []

    def compute(*arguments):
        if told and len(told) > 8:
            signal.raise_signal(signal.SIGINT)
        told.append(None)
        return {path: 2 * array for path, array in gradients(*arguments).parameters.items()}

    checks = [CHECKS["parameters"]]
    result = quick(compute, 8, SMALL, shrink_seconds=20, dtypes=["float64"], checks=checks)
    assert result.networks < 8
    assert result.findings[0].path == "2.weight"
    assert any(note.startswith("interrupted") for note in result.notes)


def test_nothing_supported_is_nothing_compared_and_says_so():
    def compute(*arguments):
        raise NotImplementedError("no Dense yet")

    result = quick(compute, 5)
    assert (result.verdict, result.exit_code, result.comparisons) == ("nothing compared", 5, 0)
    assert [tally.unsupported for tally in result.implementations] == [5, 5]
    assert result.notes == ["mine does not support everything that was drawn: no Dense yet"]
    assert "\nNOTHING COMPARED  no implementation gave anything to compare: " in str(result)


def test_a_check_that_never_applies_compares_nothing():
    result = gc.check("reference", networks=SMALL, max_examples=5, only=["delta-rows", "cotangent-linearity"])
    assert (result.verdict, result.exit_code) == ("nothing compared", 5)


def test_a_plan_may_end_with_its_first_findings():
    wrong = FAULTS["zeros"]
    whole, first = (quick(wrong.implementation(), 12, max_findings=most) for most in (None, 1))
    assert (whole.networks, first.networks, len(first.findings)) == (12, 1, 1)
    assert first.findings[0].id == whole.findings[0].id


def test_exit_codes_are_those_of_pytest():
    passing = {"passed": 0, "failed": 1, "interrupted": 2, "broken": 3, "nothing compared": 5, "not covered": 5}
    assert passing == EXIT_CODES


def flaky(every):
    calls = []

    def compute(*arguments):
        calls.append(None)
        found = gradients(*arguments).parameters
        return {path: 2 * array for path, array in found.items()} if len(calls) % every == 0 else found

    return compute


@pytest.mark.parametrize("every", [3, 7])
@pytest.mark.parametrize("checks", [["parameters"], list(CHECKS)])
def test_a_candidate_that_is_wrong_now_and_then_is_reported(every, checks):
    chosen = [CHECKS[name] for name in checks]
    result = quick(flaky(every), 12, SMALL, shrink_seconds=20, checks=chosen, dtypes=["float64"])
    assert result.verdict == "failed"
    kinds = {finding.kind for finding in result.findings}
    if "repeatable" in checks:
        # one bug is one finding, whatever it makes fail
        assert len(result.findings) == 1
        assert kinds < {"STATEFUL", "NONDETERMINISTIC"}
    else:
        assert kinds == {"WRONG"}
    assert result.networks == 12


def test_a_candidate_that_fails_only_once_is_reported():
    calls = []

    def compute(*arguments):
        calls.append(None)
        if len(calls) == 9:
            raise RuntimeError("once")
        return gradients(*arguments)

    (finding,) = quick(compute, 12, SMALL, shrink_seconds=20, dtypes=["float64"]).findings
    assert (finding.kind, finding.check) == ("CRASHED", "call")
    assert finding.detail.startswith("RuntimeError: once (test_engine.py:")


@pytest.mark.parametrize(
    "given",
    [
        None,
        Gradients(None),
        Gradients({}, deltas=[1, 2]),
        Gradients({}, outputs=None),
        {"0.weight": [[1], [1, 2]]},
        {"0.weight": object()},
        {3: 4},
        Gradients({}, loss="text", input=[[[]]], deltas={0: "x", "a": 1}, outputs={None: None}),
    ],
)
def test_whatever_is_returned_is_a_finding_and_no_crash_of_the_harness(given):
    for checks in (list(CHECKS.values()), [check for check in CHECKS.values() if check.relation]):
        result = quick(lambda *arguments: given, 4, "2 -> Dense(3), SoftmaxCrossEntropy(reduction=none)", checks=checks)
        assert result.verdict == "failed"


# The machine-readable result

KEYS = {
    "schema", "verdict", "seed", "seconds", "networks", "structures", "implementations", "findings", "regimes", "notes"
}  # fmt: skip


def test_the_result_as_json():
    result = quick(scaled("bias", 0.5), 8, SMALL)
    found = json.loads(result.to_json())
    assert set(found) >= KEYS
    assert (found["schema"], found["verdict"], found["seed"], found["networks"]) == (1, "failed", 1, 8)
    for entry, tally in zip(found["implementations"], result.implementations, strict=True):
        assert {"name", "version", "cases", "comparisons", "worst_ratio", "worst_at"} <= set(entry)
        assert (entry["name"], entry["version"], entry["cases"]) == ("mine", None, 8)
        assert entry["comparisons"] == tally.comparisons == sum(entry["checks"].values())
        assert entry["worst_ratio"] == spelled(tally.worst_ratio)
        assert tally.worst_ratio > 1
        assert entry["worst_at"].endswith("bias")
    for entry in found["findings"]:
        assert set(entry) >= {
            "id", "implementation", "check", "kind", "path", "index", "expected", "actual", "error", "bound", "ratio",
            "sentence", "network", "case", "dtype", "rows", "factor", "factor_name", "place", "right", "wrong",
        }  # fmt: skip
        assert Network.from_json(json.dumps(entry["network"])) == parse(SMALL)
        assert (entry["check"], entry["kind"], entry["path"]) == ("parameters", "WRONG", "2.bias")
        assert entry["actual"] == pytest.approx(entry["expected"] / 2)
        assert entry["ratio"] == pytest.approx(entry["error"] / entry["bound"])
        assert set(entry["case"]) == {"parameters", "batch"}
        assert len(entry["id"]) == 8
        int(entry["id"], 16)


def test_a_result_can_be_read_back():
    result = quick(scaled("bias", 0.5), 4, SMALL)
    again = msgspec.json.decode(result.to_json(), type=Result)
    assert again == result
    assert str(again) == str(result)


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(("junk", "word"), [(np.nan, "NaN"), (np.inf, "Infinity"), (-np.inf, "-Infinity")])
def test_what_is_not_finite_is_spelled_out(junk, word):
    def compute(*arguments):
        return {path: np.full_like(array, junk) for path, array in gradients(*arguments).parameters.items()}

    found = strict(quick(compute, 3, SMALL).to_json())
    (finding, *_) = found["findings"]
    assert (finding["kind"], finding["actual"], finding["ratio"]) == ("NONFINITE", word, "Infinity")
    assert finding["error"] in {"NaN", "Infinity"}
    assert {tally["worst_ratio"] for tally in found["implementations"]} == {"Infinity"}


def test_a_finding_without_an_element_has_none():
    (finding,) = strict(quick(lambda *arguments: {}, 2, SMALL, dtypes=["float64"]).to_json())["findings"]
    assert (finding["kind"], finding["index"]) == ("NAME", [])
    assert [finding[name] for name in ("actual", "expected", "error", "bound", "ratio", "factor")] == [None] * 6


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1.5, 1.5), (0.0, 0.0), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (math.nan, "NaN")],
)
def test_numbers_are_spelled_as_json_can_hold_them(number, expected):
    assert spelled(number) == expected


def test_the_id_of_a_finding_tells_cases_and_implementations_apart():
    def ids(name, path, network=SMALL):
        findings = quick(Implementation(name, scaled(path, 2)), 2, network, dtypes=["float64"]).findings
        return [finding.id for finding in findings]

    assert ids("a", "bias") == ids("a", "bias")
    others = [ids("b", "bias"), ids("a", "weight"), ids("a", "bias", SMALL.replace("Tanh", "Sigmoid"))]
    assert len({*ids("a", "bias"), *(entry for other in others for entry in other)}) == 4


def test_a_tally_adds_up():
    tally = Tally("x", None, "float64")
    worst = Element((0,), 1.0, 1.0, 0.0, 1.0, 0.5)
    comparisons = [
        Comparison("loss", "loss", outcomes=Outcomes(passed=1), worst=worst),
        Comparison("parameters", "0.bias", outcomes=Outcomes(1, 0, 0, 1, 2), lost=1, worst=replace(worst, ratio=0.7)),
        Comparison("parameters", "0.bias", outcomes=Outcomes(passed=4), look="local", worst=worst),
    ]
    tally.count([summary_of(comparisons, DEEP)], DEEP, kinks=[0])
    at_kink = replace(comparisons[0], outcomes=Outcomes(kink=1), worst=replace(worst, ratio=0.9))
    tally.count([summary_of([at_kink], DEEP)], DEEP, kinks=[3])
    assert (tally.cases, tally.comparisons, tally.elements, tally.telling, tally.lost) == (2, 4, 10, 7, 1)
    assert tally.outcomes == {"global": Outcomes(passed=2, kink=1, range=1, vacuous=2), "local": Outcomes(passed=4)}
    assert tally.checks == {"loss": 2, "parameters": 2}
    # at a kink the ratio says nothing about rounding
    assert (tally.worst_ratio, tally.worst_at, tally.worst_network, tally.at_kinks) == (0.7, "0.bias", str(DEEP), 1)


def test_a_finding_is_a_record():
    (finding,) = quick(scaled("bias", 2), 2, SMALL, dtypes=["float64"]).findings
    assert isinstance(finding, Finding)
    assert msgspec.convert(msgspec.to_builtins(finding), Finding) == finding
