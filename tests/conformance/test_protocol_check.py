"""The self-test of programs: each step is failed by a program that gets just that wrong, and names the line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gradconform.adapters.protocol import Result, Run, Started, batch_of, decode_answer, decode_request, gradients_of
from gradconform.adapters.tensors import Inbox
from gradconform.capabilities import Capabilities
from gradconform.case import Case
from gradconform.conformance import protocol_check
from gradconform.conformance.conversation import smallest_case
from gradconform.conformance.protocol_check import protocol_steps, step_text, verdict_text
from gradconform.conformance.protocol_cli import protocol
from gradconform.errors import InvalidInput
from gradconform.reference.backpropagation import gradients as reference

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
NAMES = [
    "starts",
    "answers start",
    "runs the smallest network",
    "runs one after the other",
    "skips an unknown layer",
    "spells out what is not finite",
    "ignores unknown fields",
    "reads arrays from files",
    "ends on stop",
    "ends at the end of its input",
]
PROGRAM = """
import json, math, os, struct, sys, time
def spelled(number):
    if math.isnan(number): return "NaN"
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"
def say(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
def tensor(t):
    if "file" in t:
        content = open(t["file"], "rb").read()
        size = struct.unpack("<Q", content[:8])[0]
        entry = json.loads(content[8:8 + size])[t["name"]]
        first, last = entry["data_offsets"]
        numbers = struct.unpack("<%dd" % ((last - first) // 8), content[8 + size + first:8 + size + last])
        return {"shape": entry["shape"], "data": list(numbers)}
    return {"shape": t["shape"], "data": t["data"]}
def started():
    say({"type": "started", "protocol": 1, "name": "mine", "version": "2", **MORE})
def run(m):
    if any(layer["kind"] != "Dense" for layer in m["network"]["layers"]):
        return say({"type": "skipped", "id": m["id"], "reason": "no rule"})
    found = {path: tensor(t) for path, t in m["parameters"].items()}
    for t in found.values(): t["data"] = [spelled(x * x) for x in t["data"]]
    answer(m, found)
def answer(m, found):
    say({"type": "result", "id": m["id"], "parameters": found})
def stop():
    sys.exit()
MORE = {"files": True}
"""
LOOP = """
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "start": started()
    elif m["type"] == "stop": stop()
    else: run(m)
"""


def command(code):
    return [sys.executable, "-I", "-S", "-c", PROGRAM + code + LOOP]


def steps_of(code, timeout=30.0):
    return list(protocol_steps(command(code), timeout))


def test_a_program_that_speaks_it_passes_every_step():
    steps = steps_of("")
    assert [step.name for step in steps] == NAMES
    assert [step.outcome for step in steps] == ["ok"] * len(NAMES), steps
    assert steps[1].detail == "mine 2: float64; all layers; all losses"
    assert "Infinity" in steps[5].detail
    assert verdict_text(["./mine"], steps).startswith("PASSED  ./mine speaks protocol 1\n")


def test_files_that_are_not_declared_are_not_asked_for():
    steps = steps_of("MORE = {}\n")
    assert [step.outcome for step in steps if step.name != "reads arrays from files"] == ["ok"] * 9
    assert steps[7].outcome == "not declared"


WRONG = {
    "greets": (
        "print('Welcome!', flush=True)\n",
        "answers start",
        "Welcome!",
    ),
    "of another version": (
        "MORE = {'protocol': 2}\n",
        "answers start",
        "line 1 of its output: started.protocol: expected 1, got 2",
    ),
    "misspelt capability": (
        "MORE = {'capabilities': {'dtype': ['float32']}}\n",
        "answers start",
        "line 1 of its output: started.capabilities: object contains unknown field dtype",
    ),
    "no name": (
        "def started(): say({'type': 'started', 'protocol': 1})\n",
        "answers start",
        "line 1 of its output: started: object missing required field name",
    ),
    "answers only once": (
        "def answer(m, found):\n say({'type': 'result', 'id': m['id'], 'parameters': found})\n sys.exit(3)\n",
        "runs one after the other",
        "exited with code 3",
    ),
    "a missing gradient": (
        "def answer(m, found):\n del found['0.bias']\n say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs the smallest network",
        "line 2 of its output: result.parameters: 0.bias is missing",
    ),
    "an unknown gradient": (
        "def answer(m, found):\n found['1.bias'] = found['0.bias']\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs the smallest network",
        "line 2 of its output: result.parameters: unknown 1.bias",
    ),
    "a flat gradient": (
        "def answer(m, found):\n found['0.weight']['shape'] = [1]\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs the smallest network",
        'line 2 of its output: result.parameters["0.weight"].shape: expected [1, 1], got [1]',
    ),
    "a shape without its numbers": (
        "def answer(m, found):\n found['0.weight']['shape'] = [2, 2]\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs the smallest network",
        'result.parameters["0.weight"]: 1 numbers do not fill an array of shape [2, 2]',
    ),
    "a delta of another shape": (
        "def answer(m, found):\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found, 'deltas': {'0': {'shape': [], 'data': [1]}}})\n",
        "runs the smallest network",
        'result.deltas["0"].shape: expected [2, 1], got []',
    ),
    "a delta of no layer": (
        "def answer(m, found):\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found, 'deltas': {'9': {'shape': [], 'data': [1]}}})\n",
        "runs the smallest network",
        'result.deltas["9"]',
    ),
    "always the same id": (
        "def answer(m, found): say({'type': 'result', 'id': 1, 'parameters': found})\n",
        "runs one after the other",
        "line 3 of its output: result.id: expected 2, got 1",
    ),
    "a batch of two alone": (
        "def answer(m, found):\n"
        " if len(m['batch']['inputs'].get('data', '..')) == 3: 1 / 0\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs one after the other",
        "ZeroDivisionError: division by zero",
    ),
    "guesses what it does not know": (
        "def run(m): answer(m, {path: tensor(t) for path, t in m['parameters'].items()})\n",
        "skips an unknown layer",
        "a layer Hyperdense: expected skipped, got result",
    ),
    "fails on what it does not know": (
        "def run(m):\n"
        " if len(m['network']['layers']) > 1: return say({'type': 'errored', 'id': m['id'], 'message': 'oh'})\n"
        " answer(m, {path: tensor(t) for path, t in m['parameters'].items()})\n",
        "skips an unknown layer",
        "a layer Hyperdense: expected skipped, got errored: oh",
    ),
    "bare infinities": (
        "def spelled(number): return number\n",
        "spells out what is not finite",
        'Infinity is no JSON: write "Infinity", with the quotes',
    ),
    "null for infinities": (
        "def spelled(number): return number if math.isfinite(number) else None\n",
        "spells out what is not finite",
        'result.parameters["0.weight"].data[0]: expected a number, "NaN", "Infinity" or "-Infinity", got null',
    ),
    "refuses overflows": (
        "def spelled(number):\n if not math.isfinite(number): raise OverflowError\n return number\n",
        "spells out what is not finite",
        "exited with code 1; its last words: 'OverflowError'",
    ),
    "strict about fields": (
        "def answer(m, found):\n if 'later' in m: return say({'type': 'errored', 'id': m['id'], 'message': 'later?'})\n"
        " say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "ignores unknown fields",
        "unknown fields: errored: later?",
    ),
    "files in name alone": (
        "def tensor(t): return {'shape': t['shape'], 'data': t['data']}\n",
        "reads arrays from files",
        "KeyError",
    ),
    "deaf": ("", "ends on stop", "it did not end within 0.3 s of stop"),
    "a code of its own": ("def stop(): sys.exit(7)\n", "ends on stop", "after stop it exited with code 7"),
    "prints": (
        "def answer(m, found):\n print('loss = 0.5')\n say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs the smallest network",
        "line 2 of its output: expected one JSON object, got 'loss = 0.5'; print all else to standard error",
    ),
    "one line too many": (
        "def answer(m, found):\n for _ in '12': say({'type': 'result', 'id': m['id'], 'parameters': found})\n",
        "runs one after the other",
        "",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_program_that_gets_one_thing_wrong_fails_that_step(name):
    code, failing, detail = WRONG[name]
    steps = deaf() if name == "deaf" else steps_of(code)
    failed = [step for step in steps if step.outcome == "failed"]
    assert failed[0].name == failing, steps
    assert detail in failed[0].detail
    assert failed[0].mend
    assert [step.name for step in steps] == NAMES
    assert verdict_text(["x"], steps) == f"FAILED  x: {len(failed)} of 10 steps of protocol 1"
    for line in step_text(failed[0]).splitlines():
        assert len(line) <= 100 or " " not in line.strip()


def deaf():
    """Return the steps of a program that ends neither on stop nor at the end of its input."""
    original, protocol_check.STOPPING = protocol_check.STOPPING, 0.3
    try:
        return steps_of("import atexit\ndef stop(): time.sleep(99)\natexit.register(time.sleep, 99)\n")
    finally:
        protocol_check.STOPPING = original


def test_startup_that_hangs_is_not_waited_for_longer_than_a_minute(monkeypatch):
    monkeypatch.setattr("gradconform.conformance.conversation.STARTUP", 0.3)
    steps = steps_of("def started(): time.sleep(99)\n", 0.3)
    assert [step.outcome for step in steps] == ["ok", "failed"] + ["not tried"] * 8
    assert steps[1].detail == "no answer within 0.3 s"


def test_the_text_of_a_failure_shows_the_line_around_its_column():
    steps = steps_of(WRONG["bare infinities"][0])
    (failed,) = (step for step in steps if step.outcome == "failed")
    text = step_text(failed)
    assert text.startswith("FAILED     spells out what is not finite\n           line ")
    assert re.search(r"column \d+: Infinity is no JSON", text)
    assert '"data": [Infinity]' in " ".join(text.split())


@pytest.mark.parametrize(
    ("declared", "notation", "dtype"),
    [
        ({}, "1 -> Dense(1), MeanSquaredError", "float64"),
        ({"losses": ["SoftmaxCrossEntropy"], "dtypes": ["float32"]}, "1 -> Dense(1), SoftmaxCrossEntropy", "float32"),
        ({"losses": ["BinaryCrossEntropy"]}, "1 -> Dense(1) -> Sigmoid, BinaryCrossEntropy", "float64"),
        ({"losses": ["Huber(delta=2)"], "bias": False}, "1 -> Dense(1, bias=False), Huber(delta=2.0)", "float64"),
        ({"losses": ["Huber"], "reductions": ["sum"]}, "1 -> Dense(1), Huber(reduction=sum)", "float64"),
        ({"reductions": ["none"]}, "1 -> Dense(1), MeanSquaredError(reduction=none)", "float64"),
        (
            {"networks": ["4 -> Dense(3), Huber", "* -> Dense(*) -> Tanh -> Dense(2), Huber"]},
            "1 -> Dense(1) -> Tanh -> Dense(2), Huber",
            "float64",
        ),
        ({"losses": ["CrossEntropy"], "labels": ["soft"]}, "1 -> Dense(1) -> Softmax, CrossEntropy", "float64"),
    ],
)
def test_the_smallest_case_is_what_is_declared(declared, notation, dtype):
    capabilities = Capabilities(**declared)
    network, parameters, batch = smallest_case(capabilities, 3)
    assert (str(network), batch.inputs.dtype.name) == (notation, dtype)
    assert Case(network, parameters, batch).batch.rows == 3
    assert capabilities.lacks(network, batch) is None


def test_the_smallest_case_of_single_samples_has_no_axis_for_them():
    network, _, batch = smallest_case(Capabilities(samples="single", losses=("SoftmaxCrossEntropy",)))
    assert batch.inputs.shape == (1,)
    assert batch.targets.shape == ()
    network, parameters, batch = smallest_case(
        Capabilities(samples="single", conventions=("transposed",), networks=("3 -> Dense(2), Huber(reduction=none)",))
    )
    assert (batch.inputs.shape, batch.targets.shape, batch.cotangent.shape) == ((3,), (2,), (2,))
    assert parameters["0.weight"].shape == (2, 3)
    assert network.widths == (3, 2)


def test_the_command_tells_the_steps_and_the_verdict():
    good = CliRunner().invoke(protocol, ["--", *command("")])
    assert good.exit_code == 0
    assert good.output.startswith("ok         starts\nok         answers start")
    assert "\nPASSED  " in good.output
    bad = CliRunner().invoke(protocol, ["--timeout", "20", "--", *command("def stop(): sys.exit(7)\n")])
    assert bad.exit_code == 1
    assert "FAILED     ends on stop\n           after stop it exited with code 7\n" in bad.output
    assert ": 1 of 10 steps of protocol 1" in bad.output


def test_the_command_without_a_program_or_with_one_that_is_not_there_says_so():
    for arguments, message in (
        ([], "which program? Write it after --, as in: gradconform protocol -- ./my_backprop"),
        (["--", "./nowhere"], "./nowhere: no such program"),
    ):
        done = CliRunner().invoke(protocol, arguments)
        assert isinstance(done.exception, InvalidInput)
        assert str(done.exception) == message


def test_the_command_writes_the_schema():
    done = CliRunner().invoke(protocol, ["--schema"])
    assert json.loads(done.output) == json.loads((PAGE.parent / "protocol.schema.json").read_text("utf-8"))


def exchange():
    """Return what each side says in the exchange of the page."""
    lines = PAGE.read_text("utf-8").splitlines()
    return [[line[3:].encode() for line in lines if line.startswith(mark)] for mark in ("-> ", "<- ")]


def test_the_exchange_of_the_page_is_right():
    requests, answers = (
        [side(line) for line in lines] for side, lines in zip((decode_request, decode_answer), exchange(), strict=True)
    )
    start, run, stop = requests
    started, result = answers
    assert (start.protocol, start.folder, type(stop).__name__) == (1, "/tmp/gradconform-x1", "Stop")
    assert isinstance(started, Started)
    assert isinstance(run, Run)
    assert isinstance(result, Result)
    parameters, batch = batch_of(run, Inbox())
    assert Case(run.network, parameters, batch)
    assert started.capabilities.lacks(run.network, batch) is None
    expected = reference(run.network, parameters, batch)
    found = gradients_of(result, run.dtype, Inbox())
    for path in expected.parameters:
        np.testing.assert_array_equal(found.parameters[path], expected.parameters[path])
    np.testing.assert_array_equal(found.loss, expected.loss)
    np.testing.assert_array_equal(found.input, expected.input)
    np.testing.assert_array_equal(found.deltas[0], expected.deltas[0])
    np.testing.assert_array_equal(found.outputs[0], expected.outputs[0])
    assert found.parameters.keys() == expected.parameters.keys()


def test_the_exchange_of_the_page_is_what_gradconform_writes():
    from gradconform.adapters.protocol import run_message
    from gradconform.adapters.tensors import Outbox

    (_, line, _), _ = exchange()
    run = decode_request(line)
    written = run_message(run.id, run.network, *batch_of(run, Inbox()), Outbox())
    assert json.loads(written) == json.loads(line)


def test_the_page_names_every_capability():
    text = PAGE.read_text("utf-8")
    for name in Capabilities.__struct_fields__:
        assert f"`{name}`" in text
