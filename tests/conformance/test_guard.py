"""Whatever a candidate does, it is a finding or nothing, the run goes on, and nobody else notices."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import gradconform as gc
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.guard import Guard
from gradconform.errors import CandidateFailed
from gradconform.reference.backpropagation import gradients

# an alarm that rings in a callback of the garbage collector is lost, and rings again
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NETWORK = gc.parse("2 -> Dense(3) -> Tanh -> Dense(2), SoftmaxCrossEntropy")


CASE = Example(NETWORK, 3, (Draw("ordinary", 1),)).case(Draw("ordinary", 1), "float64")


def right(network, parameters, batch):
    return dict(gradients(network, parameters, batch).parameters)


def result_of(function, **more):
    options = {"networks": NETWORK, "max_examples": 4, "timeout": 0.2, **more}
    return gc.check(function, **options)


def finding_of(function, **more):
    result = result_of(function, **more)
    assert (result.verdict, result.exit_code) == ("failed", 1)
    (finding,) = result.findings
    assert len(str(result).splitlines()[0]) <= 100
    return finding


# Time


def endless(*_):
    while True:
        pass


def waiting(*_):
    threading.Event().wait()


def swallowing(*_):
    while True:
        try:
            endless()
        except Exception:
            continue


def printing(*_):
    while True:
        print("y" * 1000)


@pytest.mark.parametrize("function", [endless, waiting, swallowing, printing])
def test_what_does_not_end_is_ended_and_not_asked_for_ever(function, capsys):
    finding = finding_of(function)
    assert (finding.kind, finding.sentence) == ("TIMEOUT", "took too long: no result within 0.2 s")
    assert len(capsys.readouterr().err) < 5000


def test_the_others_are_asked_all_the_same():
    result = gc.check(endless, right, networks=NETWORK, max_examples=4, timeout=0.2)
    hanging, working = result.implementations
    assert (hanging.cases, working.cases) == (2, 4)
    assert "endless took too long 2 times, and was not asked any more" in result.notes


def test_a_run_ends_in_time():
    def slow(*arguments):
        time.sleep(0.01)
        return right(*arguments)

    result = result_of(slow, max_examples=100_000, max_time=0.3)
    assert result.passed
    assert 0 < result.networks < 1000
    assert any("of 100,000 networks were drawn within 0.3 s" in note for note in result.notes)


@pytest.mark.parametrize("name", ["timeout", "max_time"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1"])
def test_a_time_must_be_one(name, value):
    with pytest.raises(gc.InvalidInput, match=f"{name}: expected a number of seconds above 0, or None"):
        gc.check(right, **{name: value})


def test_the_alarm_is_off_afterwards():
    before = signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGINT)
    assert result_of(right).passed
    assert (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGINT)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


# Raising


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


def deep(*arguments):
    return deep(*arguments)


def raising(error):
    def function(*_):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raising(ValueError("z" * 1_000_000 + "\n\x1b[31m::error::")), "ValueError: zzz"),
        (raising(SystemExit(0)), "SystemExit: 0"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(BaseException("base")), "BaseException: base"),
        (raising(GeneratorExit()), "GeneratorExit"),
        (raising(MemoryError("no room")), "MemoryError: no room"),
        (raising(Unspeakable()), "Unspeakable"),
        (deep, "RecursionError: maximum recursion depth exceeded"),
        (lambda: None, "TypeError: "),
    ],
)
def test_whatever_is_raised_is_a_crash(function, words):
    finding = finding_of(function)
    assert finding.kind == "CRASHED"
    assert finding.detail.startswith(words)
    assert finding.sentence.isprintable()
    assert len(finding.sentence) < 500


def test_ctrl_c_keeps_what_was_found():
    calls = []

    def function(*arguments):
        calls.append(None)
        if len(calls) > 1:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    result = result_of(function)
    assert (result.verdict, [finding.kind for finding in result.findings]) == ("failed", ["NAME"])


def test_ctrl_c_cannot_be_swallowed():
    def function(*arguments):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        except KeyboardInterrupt:
            return right(*arguments)

    assert result_of(function).verdict == "interrupted"


# Returning


class Lazy:
    def __array__(self, *_, **__):
        raise OSError("not now")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (3, "NAME"),
        (iter(()), "NAME"),
        ({0: 1}, "NAME"),
        ({("0", object): 1}, "NAME"),
        ({"x" * 1_000_000: 1}, "NAME"),
        ({"0.weight": Lazy()}, "DTYPE"),
        ({"0.weight": [[1], [1, 2]]}, "SHAPE"),
        ({"0.weight": np.zeros((2, 3), object)}, "DTYPE"),
        ({**dict.fromkeys(NETWORK.parameters(), np.zeros(6))}, "SHAPE"),
        ({**dict.fromkeys(NETWORK.parameters(), np.zeros(10**6))}, "SHAPE"),
        (gc.Gradients(None), "NAME"),
        (gc.Gradients({}, deltas=3), "NAME"),
    ],
)
def test_whatever_is_returned_is_told(given, kind):
    result = result_of(lambda *_: given, timeout=None)
    assert kind in {finding.kind for finding in result.findings}
    assert all(len(line) < 500 for line in str(result).splitlines())


def test_lists_and_numbers_are_arrays():
    assert result_of(lambda *arguments: {path: array.tolist() for path, array in right(*arguments).items()}).passed


# Memory


def test_what_is_written_is_put_back():
    weights = {"0.weight": np.ones((2, 3))}
    before = weights["0.weight"].copy()

    def function(network, parameters, batch):
        parameters["0.weight"][...] = 7
        return {}

    with pytest.raises(CandidateFailed, match=r"0\.weight\[0, 0\] was 1\.0 and is 7\.0 after the call") as caught:
        Guard().call(function, NETWORK, weights, gc.Batch(np.ones((1, 2)), np.zeros(1, int)))
    assert caught.value.kind == "MUTATED"
    assert np.array_equal(weights["0.weight"], before)


@pytest.mark.parametrize("change", [lambda p: p.clear(), lambda p: p.update(more=1), lambda p: p.pop("0.bias")])
def test_the_dictionary_belongs_to_the_caller(change):
    def function(network, parameters, batch):
        found = right(network, parameters, batch)
        change(parameters)
        return found

    assert finding_of(function).kind == "MUTATED"


def test_read_only_is_no_way_out():
    def function(network, parameters, batch):
        owner = batch.inputs if batch.inputs.base is None else batch.inputs.base
        owner.flags.writeable = batch.inputs.flags.writeable = True
        batch.inputs[...] = 0
        return right(network, parameters, batch)

    assert finding_of(function).kind == "MUTATED"


def test_a_view_of_an_input_is_no_result():
    def function(network, parameters, batch):
        return {**right(network, parameters, batch), "0.weight": parameters["0.weight"][:]}

    finding = finding_of(function)
    assert (finding.kind, finding.detail) == ("ALIASED", "it is memory of 0.weight, not an array of its own")


def test_what_was_returned_before_does_not_change():
    buffer = np.zeros((2, 3))

    def function(*arguments):
        found = right(*arguments)
        buffer[...] = found["0.weight"]
        return {**found, "0.weight": buffer}

    assert finding_of(function).kind == "ALIASED"


def test_a_result_that_is_kept_and_left_alone_is_fine():
    kept = []

    def function(*arguments):
        kept.append(right(*arguments))
        return kept[-1]

    assert result_of(function).passed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux'")
def test_memory_is_limited():
    guard = Guard(memory=64 << 20)
    batch = gc.Batch(np.ones((1, 2)), np.zeros(1, int))
    with pytest.raises(CandidateFailed, match="MemoryError"):
        guard.call(lambda *_: np.ones(1 << 27), NETWORK, {}, batch)
    np.ones(1 << 24)  # ours is not


# What belongs to everybody


def test_global_state_is_put_back_and_told(tmp_path):
    def function(*arguments):
        np.seterr(all="raise")
        os.chdir(tmp_path)
        os.environ["GRADCONFORM_LEFT_BEHIND"] = "1"
        warnings.simplefilter("error")
        np.random.seed(0)
        sys.setrecursionlimit(5000)
        return right(*arguments)

    before = np.geterr(), os.getcwd(), list(warnings.filters), sys.getrecursionlimit()
    drawn = np.random.get_state()[1].copy()
    result = result_of(function)
    assert result.passed
    assert (np.geterr(), os.getcwd(), list(warnings.filters), sys.getrecursionlimit()) == before
    assert np.array_equal(np.random.get_state()[1], drawn)
    assert "GRADCONFORM_LEFT_BEHIND" not in os.environ
    said = "\n".join(result.notes)
    for name in ("NumPy's error state", "the working directory", "the warning filters", "the environment"):
        assert name in said


@pytest.mark.torch
def test_the_state_of_pytorch_is_put_back():
    import torch

    def function(*arguments):
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(False)
        return right(*arguments)

    result = result_of(function)
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert any("PyTorch's default dtype, PyTorch's gradient mode" in note for note in result.notes)


@pytest.mark.jax
def test_the_state_of_jax_is_put_back():
    import jax

    def function(*arguments):
        jax.config.update("jax_debug_nans", True)
        return right(*arguments)

    result = result_of(function)
    assert not jax.config.jax_debug_nans
    assert any("jax.config.jax_debug_nans" in note for note in result.notes)


def test_warnings_are_told_once_with_their_number():
    def function(*arguments):
        np.exp(np.float64(1000))
        return right(*arguments)

    (note,) = result_of(function).notes
    assert note.startswith("function warns ")
    assert note.endswith(": RuntimeWarning: overflow encountered in exp")


def test_prints_go_to_standard_error(capfd):
    def function(*arguments):
        print("seen")
        return right(*arguments)

    assert result_of(function).passed
    out, err = capfd.readouterr()
    assert "seen" not in out
    assert "seen" in err


def test_a_closed_output_is_opened_again(capfd):
    def function(*arguments):
        os.close(1)
        sys.stdout.close()
        return right(*arguments)

    assert result_of(function).passed
    os.write(1, b"still there\n")
    assert "still there" in capfd.readouterr().out


def test_a_fork_runs_nothing_of_ours():
    children = []

    def function(*arguments):
        child = os.fork()
        children.append(child)
        return right(*arguments)

    result = result_of(function, timeout=5)
    assert result.passed
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {0}


def test_not_implemented_is_no_failure():
    def function(*_):
        raise NotImplementedError("not yet")

    assert result_of(function).verdict == "nothing compared"


# A series of calls


def test_a_series_of_calls_of_ours_is_put_right_once_and_each_call_has_its_time():
    def careless(network, parameters, batch):
        states.append(np.geterr()["over"])
        np.seterr(over="ignore" if states[-1] == "warn" else "warn")
        return right(network, parameters, batch)

    states, guard = [], Guard(timeout=5.0, ours=True)
    case = CASE
    with np.errstate(over="warn"), guard.series():
        for _ in range(3):
            guard.call(careless, case.network, case.parameters, case.batch)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert states == ["warn", "ignore", "warn"]
    assert guard.changed == {"NumPy's error state"}
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_what_is_not_ours_is_put_right_after_each_call():
    def careless(network, parameters, batch):
        states.append(np.geterr()["over"])
        np.seterr(over="ignore")
        return right(network, parameters, batch)

    states, guard = [], Guard()
    case = CASE
    with np.errstate(over="warn"), guard.series():
        for _ in range(2):
            guard.call(careless, case.network, case.parameters, case.batch)
    assert states == ["warn", "warn"]


def test_a_call_in_a_series_is_ended_when_its_time_is_up():
    guard = Guard(timeout=0.1, ours=True)
    case = CASE
    with guard.series():
        with pytest.raises(CandidateFailed, match=r"no result within 0\.1 s"):
            guard.call(endless, case.network, case.parameters, case.batch)
        assert guard.call(right, case.network, case.parameters, case.batch).parameters
