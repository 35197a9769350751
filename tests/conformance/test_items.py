"""Pytest items for anybody's own repository, in processes of their own, and which items an implementation has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from gradconform import Dense, Huber, Network
from gradconform.capabilities import Capabilities
from gradconform.conformance import implementations as known
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.items import GROUPS, conformance_tests, items
from gradconform.conformance.plan import COMPILED_DRAWS
from gradconform.conformance.plugin import JUDGED, asked
from gradconform.conformance.strategies import DRAWS
from gradconform.errors import InvalidInput
from gradconform.reference.backpropagation import gradients as right

CANDIDATES = """
from collections import Counter
from dataclasses import replace
from gradconform.reference.backpropagation import gradients as right

def fine(network, parameters, batch):
    return right(network, parameters, batch).parameters

def bias_mean(network, parameters, batch):
    found = dict(right(network, parameters, batch).parameters)
    return {path: value / batch.rows if path.endswith("bias") else value for path, value in found.items()}

def both_wrong(network, parameters, batch):
    found = bias_mean(network, parameters, batch)
    return {path: value * 1.5 if path.endswith("weight") else value for path, value in found.items()}

def crashes(network, parameters, batch):
    raise ValueError("no")

def unsupported(network, parameters, batch):
    raise NotImplementedError("not yet")
"""

MODULE = """
import candidates
from gradconform.conformance.items import conformance_tests

def checked(candidate, **more):
    network = "3 -> Dense(4) -> Tanh -> Dense(2), MeanSquaredError"
    return conformance_tests(candidate, networks=network, max_examples=2, **more)

BIAS = {"parameters WRONG Dense.bias": "issue 12"}

@checked(candidates.fine, dtypes=["float64", "float32"])
def test_fine(check):
    check()

@checked(candidates.bias_mean)
def test_found(check):
    check()

@checked(candidates.bias_mean, expected_failures={**BIAS, "sum-of-samples": "issue 12", "sample-twice": "issue 12"})
def test_expected(check):
    check()

@checked(candidates.both_wrong, expected_failures=BIAS)
def test_beside(check):
    check()

@checked(candidates.fine, expected_failures={"parameters": "issue 12"})
def test_passes(check):
    check()

@checked(candidates.crashes, expected_failures={"call CRASHED": "not yet"})
def test_crashes(check):
    check()

@checked(candidates.unsupported)
def test_unsupported(check):
    check()

@checked(candidates.fine)
def test_uncalled(check):
    pass
"""


def run(folder, *arguments):
    (folder / "candidates.py").write_text(CANDIDATES, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_mine.py").write_text(MODULE, "utf-8")
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """What pytest says of all tests of the module."""
    return run(folder).stdout


def section(told, test, item="agreement-float64"):
    """Return what pytest says of one failing item."""
    return told.split(f"_ {test}[{item}] _", 1)[1].split("\n____", 1)[0].split("\n====", 1)[0]


def outcomes(told, test):
    """Return the outcomes of a test's items, by id, from the summary."""
    lines = [line.split(f" test_mine.py::{test}[") for line in told.splitlines()]
    return {name.split("]")[0]: outcome for outcome, name in (line for line in lines if len(line) == 2)}


def test_right_gradients_pass_one_item_a_check_and_dtype(told):
    found = outcomes(told, "test_fine")
    assert set(found.values()) == {"PASSED"}
    assert {"agreement-float64", "agreement-float32", "batch-permutation-float64", "sample-twice-float32"} <= set(found)
    assert "delta-rows-float64" not in found
    assert "fine float64: " in told


def test_a_finding_is_told_without_frames_and_with_its_key(told):
    text = section(told, "test_found")
    assert text.splitlines()[1].startswith("FAILED  bias_mean   2.bias is wrong: ")
    assert "  check                parameters WRONG Dense.bias" in text
    assert outcomes(told, "test_found")["sum-of-samples-float64"] == "FAILED"
    assert "/conformance/" not in told
    assert "Traceback" not in told


def test_an_expected_failure_is_shown_with_its_reason(told):
    found = outcomes(told, "test_expected")
    failing = {"agreement-float64", "sum-of-samples-float64", "sample-twice-float64"}
    assert {item for item, outcome in found.items() if outcome == "XFAIL"} == failing
    assert {outcome for item, outcome in found.items() if item not in failing} == {"PASSED"}
    assert "test_expected[agreement-float64] - parameters WRONG Dense.bias: issue 12" in told


def test_another_failure_beside_the_expected_one_is_told(told):
    text = section(told, "test_beside")
    assert "FAILED  both_wrong   2.weight is wrong: " in text
    assert "bias is wrong" not in text


def test_an_expected_failure_that_passes_fails(told):
    text = section(told, "test_passes")
    assert "UNEXPECTED PASS  fine   'parameters' failed in none of 8 networks: remove it from" in text


def test_an_expected_crash_is_expected_in_every_item(told):
    assert set(outcomes(told, "test_crashes").values()) == {"XFAIL"}


def test_comparing_nothing_fails(told):
    text = section(told, "test_unsupported")
    assert "nothing was compared: the implementation supports none of the networks that were drawn" in text


def test_not_calling_the_check_fails(told):
    assert "nothing was compared: the test does not call check()" in section(told, "test_uncalled")


def test_it_runs_under_xdist_with_the_same_counts(folder):
    def counted(*more):
        text = run(folder, "-k", "test_fine and float64", *more).stdout
        return [line for line in text.splitlines() if line.endswith(" comparisons")]

    alone = counted()
    assert alone
    assert counted("-n", "2") == alone


ERRORS = [
    ("candidates.fine, expected_failures={'batch-permutaton': 'x'}", "did you mean batch-permutation?"),
    (
        "candidates.fine, networks='3 -> Dense(1), MeanSquaredError', expected_failures={'delta-rows': 'x'}",
        "'delta-rows' matches no item: delta-rows is not checked here",
    ),
    ("candidates.fine, expected_failures={'input float16': 'x'}", "matches no item: checked are float64"),
    ("candidates.fine, dtypes=['int8']", "dtype 'int8' is not supported"),
    ("'nowhere.py:f'", "gradconform: nowhere.py: no such file"),
    ("candidates.fine, max_examples=0", "max_examples: expected an integer of at least 1, got 0"),
    ("candidates.fine, networks=3", "networks: expected networks, notation or a strategy, got 3"),
]


def test_what_cannot_be_used_is_an_error_at_collection(tmp_path):
    for index, (arguments, _) in enumerate(ERRORS):
        (tmp_path / f"test_{index}.py").write_text(
            "import candidates\nfrom gradconform.conformance.items import conformance_tests\n\n"
            f"@conformance_tests({arguments})\ndef test(check):\n    check()\n",
            "utf-8",
        )
    done = run(tmp_path)
    assert done.returncode == 2
    for _, sentence in ERRORS:
        assert sentence in done.stdout
    assert f"{len(ERRORS)} errors" in done.stdout
    assert "Traceback" not in done.stdout
    assert "items.py" not in done.stdout


def mine(network, parameters, batch):
    return right(network, parameters, batch).parameters


def groups(**more):
    return [item.group for item in items(known.of(mine), **more)]


def test_there_is_an_item_for_every_group_that_applies():
    assert groups() == list(GROUPS)
    assert set(GROUPS) - set(groups(networks="3 -> Dense(2), MeanSquaredError")) == {
        "delta-rows",
        "cotangent-linearity",
    }
    assert "class-permutation" not in groups(networks="3 -> Dense(1), MeanSquaredError")
    assert "class-permutation" in groups(networks="* -> Dense(*), MeanSquaredError")
    assert "cotangent-linearity" in groups(networks="3 -> Dense(1), MeanSquaredError(reduction=none)")


@pytest.mark.parametrize(
    ("declared", "missing"),
    [
        ({"losses": ("MeanSquaredError",)}, {"delta-rows"}),
        ({"reductions": ("mean",)}, {"cotangent-linearity"}),
        ({"samples": "single"}, {"batch-permutation", "sum-of-samples", "sample-twice", "stateless"}),
        (
            {"networks": ("3 -> Dense(1), MeanSquaredError",)},
            {"delta-rows", "class-permutation", "cotangent-linearity"},
        ),
    ],
)
def test_what_is_declared_decides_which_groups_apply(declared, missing):
    def own(network, parameters, batch):
        return mine(network, parameters, batch)

    vars(own).update(declared)
    assert set(GROUPS) - {item.group for item in items(known.of(own))} == missing


def test_the_items_check_what_is_asked():
    (item, *_) = items(known.of(mine), "3 -> Dense(2), MeanSquaredError", ["float32"], max_examples=5, seed=7)
    assert (item.plan.max_examples, item.plan.seed, item.plan.dtypes) == (5 * DRAWS, 7, ["float32"])


def test_items_for_which_the_same_shapes_are_compiled_are_for_one_worker():
    compiled = replace(known.of(mine), capabilities=Capabilities(compiled=True))
    marks = {item.group: [mark.args for mark in item.parameter("any").marks] for item in items(compiled)}
    assert marks["agreement"] == marks["stateless"] == [("mine-float64-batches",)]
    assert marks["sample-twice"] == marks["sum-of-samples"] == [("mine-float64-samples",)]
    assert marks["delta-rows"] == [("mine-float64-delta-rows",)]
    assert not any(item.parameter("any").marks for item in items(known.of(mine)))


@pytest.mark.parametrize(("asked", "structures"), [(1, 1), (3, 3), (4, 4), (10, 8), (100, 80)])
def test_where_each_shape_is_compiled_fewer_have_more_cases(asked, structures):
    compiled = replace(known.of(mine), capabilities=Capabilities(compiled=True))
    (item, *_) = items(compiled, max_examples=asked)
    assert (item.structures, item.draws, item.plan.draws) == (structures, COMPILED_DRAWS, COMPILED_DRAWS)
    (item, *_) = items(known.of(mine), max_examples=asked)
    assert (item.structures, item.draws) == (asked, DRAWS)


def test_no_more_is_examined_than_the_item_wants():
    network = Network(inputs=2, layers=(Dense(2),), loss=Huber())
    (item, *_) = items(known.of(mine), max_examples=2)
    counts = Counter()
    for seed in range(4):
        assert item.examine(Example(network, 2, (Draw("integers", seed),)), counts) is None
    assert counts[JUDGED] == 2


def test_what_is_not_given_is_what_the_profile_says(monkeypatch):
    def drawn(**more):
        mark = conformance_tests(mine, networks="3 -> Dense(2), MeanSquaredError", **more)
        item = mark.args[1][0].values[0]
        return item.max_examples, item.seed

    monkeypatch.setattr(asked, "max_examples", 33)
    assert drawn() == (33, 0)
    monkeypatch.setattr(asked, "seed", 8)
    assert drawn() == (33, 8)
    assert drawn(max_examples=2, seed=1) == (2, 1)


def test_a_dtype_that_is_not_supported_is_told():
    with pytest.raises(InvalidInput) as caught:
        items(known.reference(), dtypes=["float16"])
    assert str(caught.value) == "reference is not checked in float16: it supports float64 and float32"


def test_the_decorator_leaves_the_test_as_it_is():
    def test(check):
        check()

    decorated = conformance_tests(mine, networks="3 -> Dense(2), MeanSquaredError")(test)
    assert decorated is test
    (mark,) = decorated.pytestmark
    assert [parameter.id for parameter in mark.args[1]][:2] == ["agreement-float64", "batch-permutation-float64"]
