"""Every failure shows again from its file alone: the same check, kind and place, in a fresh implementation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

import gradconform as gc
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.casefolder import Keeper
from gradconform.conformance.engine import run
from gradconform.conformance.expected import Expectations, read_expected
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.replay import Report, least, replay, to_json, verdict_text
from gradconform.conformance.strategies import LOSSES, networks
from gradconform.dtypes import dtype_of
from gradconform.errors import Unsupported
from gradconform.reference.backpropagation import gradients as right

STATE = {
    "now-and-then": 100,
    "stale-parameters": 10,
    "stale-activations": 10,
    "second-call-accumulates": 10,
    "nondeterministic": 10,
}
"""Faults that depend on earlier calls, each with the networks that it takes to meet them."""


def enough(line):
    """End the run with its first finding, as Ctrl-C does."""
    raise KeyboardInterrupt


def found(implementation, folder, drawn=None, **more):
    """Return the finding of a short run, and its file."""
    options = {"max_examples": 300, "seed": 1, "dtypes": ("float64",), "shrink_seconds": 0, "notify": enough, **more}
    plan = Plan([implementation], networks=drawn, witnesses=False, diagnose=False, **options)
    plan.keep = Keeper(folder, plan).keep
    finding = run(plan).findings[0]
    return finding, read_case(finding.file)


def drawn_for(fault):
    if fault.networks:
        return network_strategy(fault.networks)
    return networks(losses=st.one_of(*(LOSSES[loss] for loss in fault.losses))) if fault.losses else None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return a function that gives a fault's finding and file, from one run of each."""
    folder, seen = tmp_path_factory.mktemp("recorded"), {}

    def of(name):
        if name not in seen:
            fault = FAULTS[name]
            implementation = replace(fault.implementation(), name=f"faulty.py:{name}")
            seen[name] = found(implementation, folder, drawn_for(fault))
        return seen[name]

    return of


def as_found(finding):
    return finding.check, finding.kind, finding.path, finding.key, finding.id, finding.sentence, finding.case


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_replayed_by_a_fresh_instance(recorded, name):
    finding, file = recorded(name)

    def fresh():
        return replace(FAULTS[name].implementation(), name=finding.implementation)

    again = replay(file, fresh, finding.file, finding.replay, witnesses=False)
    assert again.outcome == "same"
    assert finding_text(again.finding) == finding_text(finding)
    assert as_found(again.finding) == as_found(finding)


FAULTY = """
import sys
from gradconform.capabilities import EVERYTHING
from gradconform.conformance.faults import FAULTS

class Everything:
    capabilities = EVERYTHING

    def __init__(self, fault):
        self.gradients = fault.make()

vars(sys.modules[__name__]).update({name: Everything(fault) for name, fault in FAULTS.items()})
"""


def test_every_fault_is_replayed_in_a_new_process_in_another_folder(recorded, tmp_path):
    findings = {name: recorded(name)[0] for name in FAULTS}
    cases = tmp_path / ".gradconform" / "cases"
    cases.mkdir(parents=True)
    (tmp_path / "faulty.py").write_text(FAULTY, "utf-8")
    for finding in findings.values():
        shutil.copy(finding.file, cases)
    done = subprocess.run(
        [Path(sys.executable).parent / "gradconform", "replay", ".gradconform/cases", "--json", "out.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        1,
        f"FAILED  {len(FAULTS)} cases: {len(FAULTS)} as recorded",
    )
    replayed = msgspec.json.decode((tmp_path / "out.json").read_bytes(), type=Report).cases
    again = {entry.implementation: as_found(entry.finding) for entry in replayed}
    assert again == {finding.implementation: as_found(finding) for finding in findings.values()}


@pytest.mark.parametrize(("name", "most"), STATE.items())
def test_what_depends_on_earlier_calls_is_replayed_when_it_is_small(tmp_path, name, most):
    fault = FAULTS[name]
    network = network_strategy("2 -> Dense(2) -> Tanh -> Dense(2), MeanSquaredError")
    finding, file = found(
        fault.implementation(), tmp_path, network, max_examples=most, shrink_seconds=0.5, notify=lambda line: None
    )
    again = replay(file, fault.implementation, witnesses=False)
    assert again.outcome == "same"
    assert again.finding.sentence.split(":")[0] == finding.sentence.split(":")[0]


@pytest.mark.parametrize("name", sorted(set(STATE) - {"now-and-then"}))
def test_an_instance_that_was_used_before_shows_its_state_too(recorded, name):
    _, file = recorded(name)
    implementation = FAULTS[name].implementation()
    assert replay(file, lambda: implementation, witnesses=False).outcome == "same"


def test_earlier_calls_are_left_out_where_they_do_not_matter(recorded):
    _, file = recorded("bias-mean")
    file = replace(file, conditions=msgspec.structs.replace(file.conditions, calls=50), before=(file.case,))
    shorter = least(file, FAULTS["bias-mean"].implementation)
    assert (shorter.before, shorter.conditions.calls, shorter.found) == ((), 0, file.found)
    _, file = recorded("stale-parameters")
    shorter = least(file, FAULTS["stale-parameters"].implementation)
    assert (shorter.before, shorter.conditions.calls) == (file.before, len(file.before))
    _, file = recorded("now-and-then")
    assert least(file, FAULTS["now-and-then"].implementation) is file


def test_calls_before_are_made_only_where_they_are_needed(tmp_path):
    calls = []

    def bad(network, parameters, batch):
        calls.append(batch)
        return {path: 2 * array for path, array in right(network, parameters, batch).parameters.items()}

    _, file = found(Implementation("bad", bad), tmp_path)
    calls.clear()
    assert replay(file, lambda: Implementation("bad", bad), witnesses=False).outcome == "same"
    assert len(calls) < 30


def test_a_healed_case_says_what_it_was(tmp_path):
    fault = FAULTS["bias-mean"]
    finding, file = found(fault.implementation(), tmp_path)
    again = replay(file, lambda: Implementation("bias-mean", right), witnesses=False)
    assert (again.outcome, again.finding) == ("healed", None)
    assert again.summary == (
        f"HEALED  {finding.id}  bias-mean agrees now: {finding.key} was {finding.ratio:.1e} x what rounding can explain"
    )
    crashed, file = found(Implementation("bad", lambda *_: 1 / 0), tmp_path)
    again = replay(file, lambda: Implementation("bad", right), witnesses=False)
    assert again.summary == f"HEALED  {crashed.id}  bad agrees now: call CRASHED gradients: {crashed.sentence}"


def test_another_failure_says_so(tmp_path):
    finding, file = found(FAULTS["bias-mean"].implementation(), tmp_path)
    again = replay(file, FAULTS["nan"].implementation, witnesses=False)
    assert again.outcome == "different"
    assert again.finding.kind == "NONFINITE"
    first, second, *_ = " ".join(str(again).split()).split(" FAILED ")
    assert first == f"DIFFERENT {finding.id} nan fails otherwise than recorded: {finding.sentence}"
    assert second.startswith("nan ")


def test_what_is_not_supported_any_more_is_not_healed(tmp_path):
    _, file = found(FAULTS["bias-mean"].implementation(), tmp_path)

    def refuses(network, parameters, batch):
        raise Unsupported("no Dense")

    again = replay(file, lambda: Implementation("mine", refuses), witnesses=False)
    assert (again.outcome, again.why, again.finding) == ("unsupported", "no Dense", None)
    assert "does not support this case any more: no Dense" in str(again)


def test_the_recorded_failure_counts_where_an_expected_one_stands_before_it(tmp_path):
    def two(network, parameters, batch):
        return {path: 2 * array for path, array in right(network, parameters, batch).parameters.items()}

    weights = Expectations(read_expected({"parameters WRONG Dense.weight": "known"}))
    finding, file = found(
        Implementation("two", two), tmp_path, network_strategy("2 -> Dense(2), MeanSquaredError"), expected=weights
    )
    assert finding.path == "0.bias"
    again = replay(file, lambda: Implementation("two", two), witnesses=False)
    assert (again.outcome, again.finding.path) == ("same", "0.bias")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_types(tmp_path, dtype):
    def bad(network, parameters, batch):
        def long(array):
            return array if array is None or array.dtype.kind in "iu" else array.astype(np.float32)

        batch = gc.Batch(*(long(array) for array in vars(batch).values()))
        parameters = {path: long(array) for path, array in parameters.items()}
        return {p: (2 * a).astype(dtype_of(dtype)) for p, a in right(network, parameters, batch).parameters.items()}

    finding, file = found(Implementation("bad", bad), tmp_path, dtypes=(dtype,))
    again = replay(file, lambda: Implementation("bad", bad), finding.file, finding.replay, witnesses=False)
    assert (again.outcome, again.finding.dtype) == ("same", dtype)
    assert finding_text(again.finding) == finding_text(finding)


def test_arrays_in_another_memory_order_fail_again(tmp_path):
    def contiguous(network, parameters, batch):
        x = batch.inputs
        flat = np.asarray(x.ravel(order="K").reshape(x.shape))
        return right(
            network, parameters, gc.Batch(flat, batch.targets, batch.class_weights, batch.cotangent)
        ).parameters

    finding, file = found(Implementation("mine", contiguous), tmp_path)
    assert not file.case.batch.inputs.flags.c_contiguous
    again = replay(file, lambda: Implementation("mine", contiguous), finding.file, finding.replay, witnesses=False)
    assert (again.outcome, finding_text(again.finding)) == ("same", finding_text(finding))


def test_several_cases_are_counted(tmp_path):
    _, file = found(FAULTS["bias-mean"].implementation(), tmp_path)
    same = replay(file, FAULTS["bias-mean"].implementation, "a.json", witnesses=False)
    healed = replay(file, lambda: Implementation("mine", right), "b.json", witnesses=False)
    assert verdict_text([same, healed, healed]) == "FAILED  3 cases: 1 as recorded, 2 healed"
    assert verdict_text([healed, healed]) == "PASSED  2 cases: 2 healed"
    written = json.loads(to_json([same, healed]))
    assert [entry["outcome"] for entry in written["cases"]] == ["same", "healed"]
    assert written["cases"][0]["finding"]["check"] == "parameters"
