"""The worker of `--isolate`: Python targets behind the protocol, hostile ones included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradconform.adapters.process import ProcessClient
from gradconform.case import Batch
from gradconform.conformance.implementations import resolve
from gradconform.errors import CandidateFailed, InvalidInput, NotInstalled, Unsupported
from gradconform.notation import parse

serve = pytest.importorskip("gradconform.conformance.serve", exc_type=ImportError)  # fcntl: POSIX alone

NETWORK = parse("2 -> Dense(3) -> Tanh -> Dense(2), SoftmaxCrossEntropy")
RNG = np.random.default_rng(0)
PARAMETERS = {path: RNG.standard_normal(shape) for path, shape in NETWORK.parameters().items()}
BATCH = Batch(RNG.standard_normal((4, 2)), np.array([0, 1, 1, 0]))
RUN = (NETWORK, PARAMETERS, BATCH)
RIGHT = """
import atexit, os, signal, sys, threading, time
import numpy as np
from gradconform.reference.backpropagation import gradients as reference
calls = 0
def right(network, parameters, batch):
    return reference(network, parameters, batch).parameters
"""


def worker(target, **options):
    return ProcessClient([sys.executable, "-m", "gradconform.conformance.serve", target], **options)


@pytest.fixture
def candidate(tmp_path):
    """Return a function that makes a client of a candidate's code; none leaves a process."""
    clients, folder = [], tmp_path

    def make(code, **options):
        file = folder / f"candidate{len(clients)}.py"
        file.write_text(RIGHT + code)
        clients.append(worker(f"{file}:gradients", **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def body(*lines):
    return "def gradients(network, parameters, batch):\n" + "".join(f"    {line}\n" for line in lines)


def failure(client):
    with pytest.raises(CandidateFailed) as caught:
        client.gradients(*RUN)
    return caught.value.kind, caught.value.detail


def test_a_target_gives_the_same_in_its_own_process():
    mine = resolve("reference").gradients(*RUN)
    with worker("reference") as client:
        found = client.gradients(*RUN)
        assert client.started.name == "reference"
        assert client.capabilities == resolve("reference").capabilities
        assert client.started.version == resolve("reference").version
    for path, array in mine.parameters.items():
        assert found.parameters[path].tobytes() == np.asarray(array).tobytes()
    assert list(found.deltas) == list(mine.deltas)
    assert list(found.outputs) == list(mine.outputs)


def test_what_a_target_declares_is_told(candidate):
    client = candidate(body("return right(network, parameters, batch)") + "gradients.dtypes = ('float32', 'float64')\n")
    assert client.capabilities.dtypes == ("float64", "float32")


FINDINGS = {
    "raises": (body("raise RuntimeError('oh no')"), "CRASHED", "RuntimeError: oh no"),
    "leaves": (body("sys.exit(3)"), "CRASHED", "SystemExit: 3"),
    "leaves at once": (body("os._exit(0)"), "CRASHED", "exited with code 0"),
    "segfaults": (body("os.kill(os.getpid(), signal.SIGSEGV)"), "CRASHED", "killed by SIGSEGV"),
    "closes everything": (
        body("os.closerange(0, 4096)", "return right(network, parameters, batch)"),
        "CRASHED",
        "exited with",
    ),
    "hangs": (body("time.sleep(99)"), "TIMEOUT", "no answer within 0.5 s"),
    "hangs in C": (body("sum(range(10**12))"), "TIMEOUT", "no answer within 0.5 s"),
    "returns nothing": (body("return None"), "NAME", "expected a dictionary of arrays"),
    "writes into its inputs": (
        body(
            "parameters['0.bias'].flags.writeable = True",
            "parameters['0.bias'][0] = 7",
            "return right(network, parameters, batch)",
        ),
        "MUTATED",
        "",
    ),
    "returns its inputs": (
        body("return {**right(network, parameters, batch), '0.bias': parameters['0.bias']}"),
        "ALIASED",
        "it is memory of 0.bias",
    ),
    "interrupts itself": (body("raise KeyboardInterrupt"), "CRASHED", "KeyboardInterrupt"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_hostile_candidate_is_a_failure_with_its_kind(candidate, name):
    code, kind, detail = FINDINGS[name]
    found = failure(candidate(code, timeout=0.5 if kind == "TIMEOUT" else 60))
    assert found[0] == kind
    assert detail in found[1]


HARMLESS = {
    "prints": body(
        "print('debug', 1 / 3)", "os.write(1, b'to the descriptor')", "return right(network, parameters, batch)"
    ),
    "prints a message": body(
        'print(\'{"type": "result", "id": 1, "parameters": {}}\', flush=True)',
        "return right(network, parameters, batch)",
    ),
    "closes its output": body("os.close(1)", "os.close(2)", "return right(network, parameters, batch)"),
    "reads its input": body("assert sys.stdin.read() == ''", "return right(network, parameters, batch)"),
    "forks": body("os.fork()", "return right(network, parameters, batch)"),
    "starts threads": body(
        "threading.Thread(target=time.sleep, args=(99,)).start()", "return right(network, parameters, batch)"
    ),
    "starts programs": body("os.system('echo hello; cat')", "return right(network, parameters, batch)"),
    "warns": body("import warnings", "warnings.warn('careful')", "return right(network, parameters, batch)"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_is_no_failure(candidate, name):
    client = candidate(HARMLESS[name])
    mine = resolve("reference").gradients(*RUN)
    for _ in range(2):
        found = client.gradients(*RUN)
        assert found.parameters.keys() == mine.parameters.keys()
        assert found.parameters["0.weight"].tobytes() == np.asarray(mine.parameters["0.weight"]).tobytes()


def test_what_a_candidate_left_running_does_not_keep_the_process(candidate):
    client = candidate(HARMLESS["starts threads"])
    assert client.gradients(*RUN).parameters
    assert client._state.program.stop(b'{"type":"stop"}\n', 30).startswith("exited with code 0")


def test_what_a_candidate_prints_at_import_is_no_message(candidate):
    client = candidate("print('loading')\n" + body("return right(network, parameters, batch)"))
    assert client.gradients(*RUN).parameters


def test_a_fork_at_import_does_not_speak(candidate):
    client = candidate("os.fork()\n" + body("return right(network, parameters, batch)"))
    assert client.gradients(*RUN).parameters
    assert client.gradients(*RUN).parameters


def test_state_in_the_process_lives_from_call_to_call(candidate):
    client = candidate(
        body("global calls", "calls += 1", "return {'0.weight': np.array(float(calls))}"),
    )
    assert [float(client.gradients(*RUN).parameters["0.weight"]) for _ in range(3)] == [1, 2, 3]


def test_a_crash_is_not_the_end(candidate):
    client = candidate(
        body("global calls", "calls += 1", "return right(network, parameters, batch) if calls % 2 else os.abort()")
    )
    for _ in range(2):
        assert client.gradients(*RUN).parameters
        assert failure(client)[1].startswith("killed by SIGABRT")


def test_what_it_does_not_support_is_unsupported(candidate):
    client = candidate(body("raise NotImplementedError('no rule for Tanh')"))
    with pytest.raises(Unsupported) as caught:
        client.gradients(*RUN)
    assert str(caught.value) == "no rule for Tanh"


@pytest.mark.parametrize(
    "code",
    ["1 / 0\n", "def gradients(:\n", "import nonexistent\n", "def gradient(a, b, c): ...\n", "raise SystemExit(3)\n"],
)
def test_an_error_at_import_is_told_in_the_same_words_as_without_isolation(candidate, tmp_path, code):
    client = candidate(code)
    with pytest.raises(InvalidInput) as isolated:
        _ = client.capabilities
    with pytest.raises(InvalidInput) as here:
        resolve(f"{tmp_path / 'candidate0.py'}:gradients")
    assert str(isolated.value) == str(here.value)


def test_a_target_that_is_not_there_is_an_error_of_the_user():
    for target in ("nowhere.py:gradients", "nowhere"):
        with pytest.raises(InvalidInput) as isolated:
            _ = worker(target).capabilities
        with pytest.raises(InvalidInput) as here:
            resolve(target)
        assert str(isolated.value) == str(here.value)


def test_a_framework_that_is_not_installed_is_not_installed_here_either(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('blocked')\n")
    client = worker("torch", environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(NotInstalled) as caught:
        _ = client.capabilities
    assert "torch cannot be used" in str(caught.value)


def test_a_crash_at_import_is_a_failure(candidate):
    with pytest.raises(CandidateFailed) as caught:
        _ = candidate("os.kill(os.getpid(), signal.SIGKILL)\n").capabilities
    assert (caught.value.kind, caught.value.detail) == ("CRASHED", "does not start: killed by SIGKILL")


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits the data of a process")
def test_a_candidate_that_fills_the_memory_meets_its_limit(candidate):
    client = candidate(
        body("whole = np.ones((1 << 17, 1 << 10))", "return right(network, parameters, batch)"), memory=1 << 29
    )
    kind, detail = failure(client)
    assert kind == "CRASHED"
    assert "MemoryError" in detail
    assert failure(client)[0] == "CRASHED"


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "jax")]
)
def test_frameworks_run_in_a_process_with_a_memory_limit(framework):
    mine = resolve("reference").gradients(*RUN)
    with worker(framework, memory=2 << 30) as client:
        found = client.gradients(*RUN)
    np.testing.assert_allclose(found.parameters["0.weight"], mine.parameters["0.weight"], rtol=1e-9)
    assert found.deltas[0].shape == (4, 3)
    assert (found.captured is not None) == (framework == "jax")


def speak(*lines):
    command = [sys.executable, "-m", "gradconform.conformance.serve", "reference"]
    text = "".join(f"{line}\n" for line in lines)
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


def test_the_end_of_its_input_and_stop_end_it():
    for lines in ((), ('{"type":"stop"}',), ('{"type":"start","protocol":1}',)):
        done = speak(*lines)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_it_cannot_read_is_answered():
    done = speak(
        "hello",
        '{"type":"run","id":3,"network":{"inputs":1,"layers":[{"kind":"Hyperdense"}]}}',
        '{"type":"run","id":4,"network":[]}',
        '{"type":"jump","id":"x"}',
    )
    first, second, third, fourth = done.stdout.splitlines()
    assert first.startswith('{"type":"errored","message":"expected one JSON object')
    assert second.startswith('{"type":"skipped","id":3,"reason":"run.network.layers[0].kind: ')
    assert third.startswith('{"type":"skipped","id":4,')
    assert fourth == '{"type":"errored","message":"type: unknown message \'jump\'; known: start, run, stop"}'


def test_it_starts_without_what_only_the_suite_needs():
    # a second of start-up for each process, and for each crash, otherwise
    code = (
        "import sys, gradconform.conformance.serve, gradconform.conformance.guard, gradconform.adapters.protocol\n"
        "from gradconform.conformance.implementations import resolve\nresolve('reference')\n"
        "print(*sorted({'hypothesis', 'pytest', 'rich', 'click', 'torch', 'jax', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == ""


def test_the_module_says_how_it_is_called():
    with pytest.raises(InvalidInput):
        serve.main([])
    assert Path(serve.__file__).name == "serve.py"
