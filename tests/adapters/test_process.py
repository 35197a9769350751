"""Programs behind the protocol: whatever they do, a call ends, the next finds a fresh program, and nothing stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gradconform.adapters import process
from gradconform.adapters.process import ProcessClient
from gradconform.case import Batch
from gradconform.errors import CandidateFailed, InvalidInput, Unsupported
from gradconform.notation import parse

pytestmark = pytest.mark.skipif(os.name != "posix", reason="programs need a POSIX system")

NETWORK = parse("1 -> Dense(1), MeanSquaredError")
PARAMETERS = {"0.weight": np.array([[1.5]]), "0.bias": np.array([0.25])}
BATCH = Batch(np.array([[2.0], [-1.0]]), np.array([[1.0], [0.5]]))
RUN = (NETWORK, PARAMETERS, BATCH)

PRELUDE = """
import json, os, signal, sys, time
def say(**message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
def ask():
    line = sys.stdin.readline()
    if not line: sys.exit()
    message = json.loads(line)
    if message["type"] == "stop": sys.exit()
    return message
def start(**more):
    first = ask()
    say(type="started", protocol=1, name="x", **more)
    return first
def answer(run, **more):
    echo = {path: {"shape": t["shape"], "data": t["data"]} for path, t in run["parameters"].items()}
    say(**{"type": "result", "id": run["id"], "parameters": echo, **more})
"""
ECHO = "start()\nwhile True: answer(ask())"


@pytest.fixture
def client(monkeypatch):
    """Return a function that makes clients; at the end none has left a process."""
    made, pids, original = [], [], subprocess.Popen

    def started(*arguments, **options):
        child = original(*arguments, **options)
        pids.append(child.pid)
        return child

    monkeypatch.setattr("gradconform.adapters.program.subprocess.Popen", started)

    def make(program, **options):
        made.append(ProcessClient([sys.executable, "-I", "-S", "-c", PRELUDE + program], **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    for pid in pids:
        with pytest.raises(ChildProcessError):  # neither running nor a zombie: it was waited for
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def failure(client, *run):
    with pytest.raises(CandidateFailed) as caught:
        client.gradients(*(run or RUN))
    return caught.value.kind, caught.value.detail


def alive(pid):
    """Return whether a process runs; a zombie, which waits for somebody else's parent, does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return state.rpartition(")")[2].split()[0] != "Z"


def test_a_program_answers_with_plain_arrays(client):
    found = client(ECHO).gradients(*RUN)
    assert type(found.parameters["0.weight"]) is np.ndarray
    assert found.parameters["0.weight"].tolist() == [[1.5]]
    assert found.parameters["0.bias"].dtype == np.float64
    assert (found.loss, found.input, found.deltas, found.outputs) == (None, None, {}, {})


def test_one_process_serves_many_calls_and_ends_with_the_client(client):
    program = client("start()\nwhile True: answer(ask(), loss={'shape': [], 'data': [os.getpid()]})")
    pids = {int(program.gradients(*RUN).loss) for _ in range(3)}
    assert len(pids) == 1
    assert alive(*pids)
    program.close()
    assert not alive(*pids)


def test_it_says_what_it_can_do(client):
    program = client("start(version='2', capabilities={'dtypes': ['float32'], 'losses': ['Huber']}, more=1)")
    assert program.capabilities.dtypes == ("float32",)
    assert program.capabilities.losses == ("Huber",)
    assert program.started.version == "2"


def test_all_quantities_come_back_in_the_dtype_of_the_run(client):
    tensor = "{'shape': [2, 1], 'data': [1, 'NaN']}"
    program = client(f"start()\nanswer(ask(), input={tensor}, deltas={{'0': {tensor}}}, outputs={{'0': {tensor}}})")
    parameters = {path: array.astype(np.float32) for path, array in PARAMETERS.items()}
    found = program.gradients(
        NETWORK, parameters, Batch(*(a.astype(np.float32) for a in (BATCH.inputs, BATCH.targets)))
    )
    for array in (found.input, found.deltas[0], found.outputs[0]):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, [[1], [np.nan]])


def test_what_it_skips_is_unsupported_and_the_process_goes_on(client):
    program = client(
        "start()\nsay(type='skipped', id=ask()['id'], reason='no rule for GELU')\nwhile True: answer(ask())"
    )
    with pytest.raises(Unsupported) as caught:
        program.gradients(*RUN)
    assert str(caught.value) == "no rule for GELU"
    assert program.gradients(*RUN).parameters


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", ("CRASHED", "gradients", "no memory")),
        (", kind='MUTATED', what='0.weight'", ("MUTATED", "0.weight", "no memory")),
    ],
)
def test_what_it_reports_keeps_its_kind(client, more, expected):
    program = client(
        f"start()\nsay(type='errored', id=ask()['id'], message='no memory'{more})\nwhile True: answer(ask())"
    )
    with pytest.raises(CandidateFailed) as caught:
        program.gradients(*RUN)
    assert (caught.value.kind, caught.value.what, caught.value.detail) == expected
    assert program.gradients(*RUN).parameters


HOSTILE = {
    "hangs": ("ask()\ntime.sleep(99)", "TIMEOUT", "no answer within 0.5 s"),
    "spins": ("ask()\nwhile True: pass", "TIMEOUT", "no answer within 0.5 s"),
    "segfaults": ("ask()\nos.kill(os.getpid(), signal.SIGSEGV)", "CRASHED", "killed by SIGSEGV"),
    "aborts": (
        "ask()\nprint('assertion failed', file=sys.stderr)\nos.abort()",
        "CRASHED",
        "killed by SIGABRT; its last words: 'assertion failed'",
    ),
    "exits": ("ask()\nos._exit(0)", "CRASHED", "exited with code 0"),
    "exits with a code": ("ask()\nsys.exit(3)", "CRASHED", "exited with code 3"),
    "raises": ("ask()\n1 / 0", "CRASHED", "exited with code 1; its last words: 'ZeroDivisionError: division by zero'"),
    "prints": (
        "ask()\nprint('loss = 0.5', flush=True)\ntime.sleep(99)",
        "CRASHED",
        "expected one JSON object, got 'loss = 0.5'; print all else to standard error",
    ),
    "prints bytes": (
        "ask()\nos.write(1, bytes([0, 255, 27]) + b'[31m' + bytes([10]))\ntime.sleep(99)",
        "CRASHED",
        r"expected one JSON object, got '\x00\\xff\x1b[31m'; print all else to standard error",
    ),
    "half a JSON": (
        'ask()\nprint(\'{"type": "result",\', flush=True)\ntime.sleep(99)',
        "CRASHED",
        "column 19: the line ends inside the JSON: a message is one whole line",
    ),
    "dies in a line": (
        'ask()\nsys.stdout.write(\'{"type": "re\')\nsys.stdout.flush()\nos._exit(1)',
        "CRASHED",
        'exited with code 1 in the middle of the line \'{"type": "re\'',
    ),
    "wrong id": ("answer({**ask(), 'id': 7})", "CRASHED", "expected an answer to run 1, got result with id 7"),
    "wrong message": ("ask()\nsay(type='finished')", "CRASHED", "type: unknown message 'finished'; "),
    "starts again": (
        "ask()\nsay(type='started', protocol=1, name='x')",
        "CRASHED",
        "expected an answer to run 1, got started",
    ),
    "a bare NaN": (
        "answer(ask(), loss={'shape': [], 'data': [float('nan')]})",
        "CRASHED",
        'NaN is no JSON: write "NaN", with the quotes',
    ),
    "closes its output": ("ask()\nos.close(1)\ntime.sleep(99)", "CRASHED", "closed its standard output"),
    "closes its output and dies": ("ask()\nos.close(1)\nos._exit(5)", "CRASHED", "exited with code 5"),
    "an endless line": (
        "ask()\nwhile True: os.write(1, b'x' * 65536)",
        "CRASHED",
        "wrote more than 1 MiB without the end of a line",
    ),
    "endless lines": ("ask()\nwhile True: os.write(1, b'{}\\n' * 9999)", "CRASHED", "type: missing; known: started"),
    "endless errors": ("ask()\nwhile True: os.write(2, b'x' * 65536)", "TIMEOUT", "no answer within 0.5 s"),
    "a huge shape": (
        "answer(ask(), loss={'shape': [10**12, 10**12], 'data': [1]})",
        "SHAPE",
        "1 numbers do not fill an array of shape [1000000000000, 1000000000000]",
    ),
    "an absurd number of axes": (
        "answer(ask(), loss={'shape': [1] * 99, 'data': [1]})",
        "SHAPE",
        "1 numbers do not fill",
    ),
    "an absurd number": (
        "answer(ask(), loss={'shape': [], 'data': [10**400]})",
        "CRASHED",
        "a number is larger than any double: ",
    ),
    "not enough numbers": (
        "answer(ask(), loss={'shape': [2], 'data': [1]})",
        "SHAPE",
        "1 numbers do not fill an array of shape [2]",
    ),
    "a named layer": ("answer(ask(), deltas={'Dense': {'shape': [], 'data': [1]}})", "NAME", "'Dense' is no layer: "),
    "null": (
        "answer(ask(), parameters={'0.weight': None})",
        "CRASHED",
        'result.parameters["0.weight"]: expected object, got null',
    ),
    "a file without files": (
        "answer(ask(), loss={'file': '/etc/passwd', 'name': 'x'})",
        "CRASHED",
        "'/etc/passwd' is not read: files were not agreed on",
    ),
}


@pytest.mark.parametrize("program", HOSTILE)
def test_a_hostile_program_is_a_failure_with_its_kind(client, monkeypatch, program):
    monkeypatch.setattr("gradconform.adapters.program.LONGEST_LINE", 1 << 20)
    code, kind, detail = HOSTILE[program]
    hostile = client(f"start()\n{code}\n", timeout=0.5 if kind == "TIMEOUT" else 30)
    found = failure(hostile)
    assert found[0] == kind
    assert detail in found[1]
    assert "\n" not in found[1]


@pytest.mark.parametrize(
    ("code", "kind", "detail"),
    [
        ("time.sleep(99)", "TIMEOUT", "does not start: no answer within 0.3 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "CRASHED", "does not start: killed by SIGSEGV"),
        ("sys.exit()", "CRASHED", "does not start: exited with code 0"),
        ("import nonexistent", "CRASHED", "its last words: \"ModuleNotFoundError: No module named 'nonexistent'\""),
        ("print('Welcome!', flush=True)\ntime.sleep(99)", "CRASHED", "'Welcome!'"),
        ("ask(); say(type='skipped', id=1, reason='')", "CRASHED", "does not start: expected started, got skipped"),
    ],
)
def test_a_program_that_does_not_start_is_started_once(client, tmp_path, code, kind, detail):
    trace = tmp_path / "trace"
    startup = 0.3 if kind == "TIMEOUT" else 60
    environment = {"TRACE": str(trace)}
    hostile = client(f"open(os.environ['TRACE'], 'a').write('x')\n{code}", startup=startup, environment=environment)
    first, second = failure(hostile), failure(hostile)
    assert first == second
    assert first[0] == kind
    assert detail in first[1]
    # one that hangs before it can say so has left no trace
    assert trace.read_text() == "x" if trace.exists() else kind == "TIMEOUT"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ask(); say(type='errored', message='I speak protocol 2')", "I speak protocol 2"),
        ("ask(); say(type='started', protocol=2, name='x')", "it speaks protocol 2, gradconform 1"),
    ],
)
def test_a_program_that_cannot_be_used_is_an_error_of_the_user(client, code, message):
    with pytest.raises(InvalidInput) as caught:
        client(code).gradients(*RUN)
    assert str(caught.value).endswith(message)


def test_a_command_that_cannot_be_run_is_an_error_of_the_user(tmp_path):
    plain, script = tmp_path / "plain", tmp_path / "script"
    plain.write_text("hello")
    script.write_text("hello")
    script.chmod(0o755)
    for command, message in (
        ([], "no command: write it after --, as in: gradconform check -- ./my_backprop"),
        (["./nowhere"], "./nowhere: no such program"),
        ([str(plain)], f"{plain}: cannot be run: permission denied; try: chmod +x {plain}"),
        ([str(script)], f"{script}: neither a program for this machine nor a script whose first line is #!"),
        (["a\0b"], r"'a\x00b' cannot be run: embedded null byte"),
    ):
        with pytest.raises(InvalidInput) as caught:
            _ = ProcessClient(command).capabilities
        assert str(caught.value) == message


def test_after_a_crash_the_next_call_finds_a_fresh_program(client):
    program = client("start()\nanswer(ask())\nask()\nos._exit(4)")
    for _ in range(8):
        assert program.gradients(*RUN).parameters
        assert failure(program) == ("CRASHED", "exited with code 4")


def test_a_program_whose_first_calls_all_fail_is_not_called_again(client):
    program = client("start()\nask()\nos._exit(4)")
    for _ in range(process.PATIENCE):
        assert failure(program) == ("CRASHED", "exited with code 4")
    assert program._state.program is None
    assert failure(program) == ("CRASHED", "exited with code 4 (so did its first 5 calls: it is not called again)")
    assert program._state.program is None


def test_a_line_that_nobody_asked_for_is_not_taken_for_the_next_answer(client):
    two = 'os.write(1, b\'{"type":"skipped","id":1,"reason":"x"}\' + bytes([10]) + b\'bye\' + bytes([10]))'
    program = client(f"start()\nask()\n{two}\nwhile True: answer(ask())")
    with pytest.raises(Unsupported):
        program.gradients(*RUN)
    detail = "wrote what nobody asked for: 'bye'; one line answers one request"
    assert failure(program) == ("CRASHED", detail)


def test_a_program_that_does_not_start_again_is_not_tried_for_ever(client, tmp_path):
    trace = tmp_path / "trace"
    program = client(
        f"file = open({str(trace)!r}, 'a')\nfile.write('x')\nfile.close()\n"
        f"if os.path.getsize({str(trace)!r}) > 1: sys.exit(5)\nstart()\nanswer(ask())\nos._exit(4)"
    )
    assert program.gradients(*RUN).parameters
    assert failure(program) == ("CRASHED", "exited with code 4")
    for _ in range(5):
        assert failure(program) == ("CRASHED", "does not start: exited with code 5")
    assert trace.read_text() == "x" * (1 + process.RESTARTS)


def test_a_program_that_does_not_read_cannot_block_a_large_request(client):
    width = 400
    network = parse(f"{width} -> Dense({width}), MeanSquaredError")
    parameters = {path: np.full(shape, 1 / 3) for path, shape in network.parameters().items()}
    batch = Batch(np.ones((1, width)), np.ones((1, width)))
    program = client("start()\ntime.sleep(99)", timeout=0.5)
    detail = "no answer within 0.5 s; it did not read the whole request"
    assert failure(program, network, parameters, batch) == ("TIMEOUT", detail)


def test_large_messages_pass_in_both_directions(client):
    width = 300
    network = parse(f"{width} -> Dense({width}), MeanSquaredError")
    parameters = {path: np.random.default_rng(0).standard_normal(s) for path, s in network.parameters().items()}
    found = client(ECHO).gradients(network, parameters, Batch(np.ones((1, width)), np.ones((1, width))))
    np.testing.assert_array_equal(found.parameters["0.weight"], parameters["0.weight"])


def test_what_a_program_writes_to_standard_error_neither_blocks_it_nor_stays(client):
    program = client("start()\nwhile True:\n run = ask()\n os.write(2, b'x' * 2_000_000)\n answer(run)")
    for _ in range(3):
        assert program.gradients(*RUN).parameters
    assert len(program._state.program._errors) <= 4096


def test_a_grandchild_that_holds_the_pipes_dies_with_its_parent(client, tmp_path):
    file = tmp_path / "pid"
    program = client(
        f"file = {str(file)!r}\nstart()\nrun = ask()\n"
        "if os.fork() == 0:\n open(file, 'w').write(str(os.getpid()))\n time.sleep(99)\n"
        "while not os.path.exists(file) or not open(file).read(): time.sleep(0.01)\nos._exit(2)"
    )
    assert failure(program) == ("CRASHED", "exited with code 2")
    grandchild = int(file.read_text())
    deadline = time.monotonic() + 30  # an orphan is waited for by the system, in its own time
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits the data of a process")
def test_a_program_that_fills_the_memory_meets_its_limit(client):
    hog = "start()\nrun = ask()\nwhole = bytearray(1 << 30)\nanswer(run)"
    kind, detail = failure(client(hog, memory=200 << 20))
    assert (kind, detail) == ("CRASHED", "exited with code 1; its last words: 'MemoryError'")
    modest = client("start()\nrun = ask()\nwhole = bytearray(1 << 20)\nanswer(run)", memory=200 << 20)
    assert modest.gradients(*RUN).parameters


def test_an_interrupt_ends_the_program_and_propagates(client):
    # the program itself presses Ctrl-C while it is waited for
    program = client("start()\nask()\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(99)")
    assert program.capabilities
    pid = program._state.program.pid
    with pytest.raises(KeyboardInterrupt):
        program.gradients(*RUN)
    assert not alive(pid)


def test_nothing_survives_the_end_of_the_interpreter(tmp_path):
    # one that is asked to end and does not, and nobody has closed its client
    code = PRELUDE + "start()\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(99)"
    main = (
        "import sys\nfrom gradconform.adapters.process import ProcessClient\n"
        f"client = ProcessClient([sys.executable, '-I', '-S', '-c', {code!r}])\nclient.capabilities\n"
        "print(client._state.program.pid, client._state.folder)"
    )
    done = subprocess.run([sys.executable, "-c", main], capture_output=True, text=True, check=True, timeout=60)
    pid, folder = done.stdout.split()
    assert not alive(int(pid))
    assert not Path(folder).exists()


def test_a_program_that_does_not_stop_is_killed(client, monkeypatch):
    monkeypatch.setattr(process, "STOPPING", 0.2)
    program = client("start()\nwhile True: time.sleep(99)")
    assert program.capabilities
    pid = program._state.program.pid
    program.close()
    program.close()
    assert not alive(pid)


FILES = """
import struct
def store(path, name, numbers, shape=None, dtype="F64"):
    data = struct.pack(f"<{len(numbers)}d", *numbers)
    shape = [len(numbers)] if shape is None else shape
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    with open(path, "wb") as file: file.write(struct.pack("<Q", len(header)) + header + data)
folder = start(files=True)["folder"]
mine = os.path.join(folder, "mine.safetensors")
"""


def test_arrays_come_in_files_and_the_folder_is_emptied(client):
    program = client(
        FILES + "while True:\n run = ask()\n store(mine, 'w', [2.5])\n answer(run, loss={'file': mine, 'name': 'w'})"
    )
    for _ in range(2):
        assert program.gradients(*RUN).loss.tolist() == [2.5]
        assert list(program._state.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "kind", "detail"),
    [
        ("mine = '/etc/passwd'", "CRASHED", "is not directly in"),
        ("mine = folder + '/../x'", "CRASHED", "is not directly in"),
        ("mine = 'mine.safetensors'", "CRASHED", "is not directly in"),
        ("os.symlink('/etc/passwd', mine)", "CRASHED", "cannot be read: Too many levels of symbolic links"),
        ("os.mkfifo(mine)", "CRASHED", "it is no plain file"),
        ("os.mkdir(mine)", "CRASHED", "cannot be read: Is a directory"),
        ("pass", "CRASHED", "cannot be read: No such file or directory"),
        ("open(mine, 'w').write('hello')", "CRASHED", "no safetensors file"),
        ("store(mine, 'v', [1.0])", "NAME", "has no 'w'; it has v"),
        ("store(mine, 'w', [1.0], [10**6, 10**6])", "CRASHED", "no safetensors file"),
        ("store(mine, 'w', [1.0], [2], 'F32')", "ok", ""),
        ("store(mine, 'w', [1.0], [8], 'U8')", "DTYPE", "has U8; known: F64"),
        ("open(mine, 'w').truncate(10**12)", "SHAPE", "it has 1,000,000,000,000 bytes; the whole answer has at most"),
    ],
)
def test_files_are_read_with_care(client, code, kind, detail):
    program = client(f"{FILES}{code}\nanswer(ask(), loss={{'file': mine, 'name': 'w'}})\nask()")
    if kind == "ok":
        assert program.gradients(*RUN).loss.dtype == np.float32
        return
    found = failure(program)
    assert found[0] == kind
    assert detail in found[1]


def test_large_arrays_go_to_a_program_that_reads_files(client):
    width = 300
    network = parse(f"{width} -> Dense({width}), MeanSquaredError")
    parameters = {path: np.ones(shape) for path, shape in network.parameters().items()}
    program = client(
        FILES + "run = ask()\nt = run['parameters']['0.weight']\n"
        "size = os.path.getsize(t['file'])\nassert os.path.dirname(t['file']) == folder\n"
        "say(type='result', id=run['id'], parameters={}, loss={'shape': [], 'data': [size]})"
    )
    found = program.gradients(network, parameters, Batch(np.ones((1, width)), np.ones((1, width))))
    assert width * width * 8 < found.loss < width * width * 8 + 1000


def test_the_command_is_the_name():
    assert ProcessClient(["./my backprop", "--flag"]).name == "'./my backprop' --flag"
    assert json.dumps(ProcessClient(["x"]).command) == '["x"]'
