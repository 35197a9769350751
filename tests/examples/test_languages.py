"""The example programs in other languages: each is short, right, and found out when one sign or factor is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gradconform as gc
from gradconform.conformance.implementations import of_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="programs need a POSIX system")

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = 249


@dataclass(frozen=True)
class Language:
    """How a source is built and run, and mistakes in it: what is replaced by what, and what the finding is about."""

    source: str
    tool: str
    build: tuple[str, ...]
    run: tuple[str, ...]
    mistakes: tuple[tuple[str, str, str], ...]


LANGUAGES = {
    "c": Language(
        source="c/backprop.c",
        tool="cc",
        build=("cc", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "{source}", "-o", "{program}", "-lm"),
        run=("{program}",),
        mistakes=(
            ("return 1 - a * a;", "return 1 - a;", "delta"),
            ("l->d_bias[j] += delta;", "l->d_bias[j] += delta / (double)rows;", "bias"),
        ),
    ),
    "javascript": Language(
        source="javascript/backprop.mjs",
        tool="node",
        build=(),
        run=("node", "{source}"),
        mistakes=(
            ("slope: (z, a) => 1 - a * a", "slope: (z, a) => 1 - a", "delta"),
            ("(a, y) => 2 * (a - y)", "(a, y) => a - y", "delta"),
        ),
    ),
    "rust": Language(
        source="rust/backprop.rs",
        tool="rustc",
        build=("rustc", "-O", "-D", "warnings", "{source}", "-o", "{program}"),
        run=("{program}",),
        mistakes=(
            ("|a| 1.0 - a * a", "|a| 1.0 - a", "delta"),
            ("map(|column| column.iter().sum())", "map(|column| -column.iter().sum::<f64>())", "bias"),
        ),
    ),
}
EXPECTED_FINDING = [
    pytest.param(name, mistake, id=f"{name}-{number}")
    for name, language in LANGUAGES.items()
    for number, mistake in enumerate(language.mistakes)
]


def build(language: Language, source: Path, folder: Path) -> list[str]:
    """Return the command that runs a source, once it is built; where its compiler is missing, skip, but not in CI."""
    if shutil.which(language.tool) is None:
        reason = f"{language.tool} is not installed"
        if "CI" in os.environ:
            pytest.fail(f"{reason}, and CI is to test every language")
        pytest.skip(reason)
    places = {"source": str(source), "program": str(folder / "backprop")}
    if language.build:
        subprocess.run([word.format(**places) for word in language.build], check=True)
    return [word.format(**places) for word in language.run]


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Return a function that gives the command of a language, built at most once."""
    built: dict[str, list[str]] = {}

    def command(name: str) -> list[str]:
        if name not in built:
            language = LANGUAGES[name]
            built[name] = build(language, EXAMPLES / language.source, tmp_path_factory.mktemp(name))
        return built[name]

    return command


@pytest.fixture(params=LANGUAGES)
def command(request, commands) -> list[str]:
    return commands(request.param)


def talk(command: Sequence[str], *lines: str | bytes, ends: bool = True) -> list[dict[str, Any]]:
    """Return what a program answers to these lines; it must end by itself, with code 0, and not complain."""
    raw = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    done = subprocess.run(list(command), input=raw, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


def tensor(shape: list[int], data: list[float], dtype: str = "float64") -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "data": data}


def a_run(**changes: Any) -> dict[str, Any]:
    """Return a run of 1 -> Dense(2), SoftmaxCrossEntropy, in which all logits are 0."""
    message = {
        "type": "run",
        "id": 7,
        "network": {
            "inputs": 1,
            "layers": [{"kind": "Dense", "units": 2, "bias": False}],
            "loss": {
                "kind": "SoftmaxCrossEntropy",
                "reduction": "sum",
                "label_smoothing": 0.0,
                "ignore_index": None,
            },
        },
        "dtype": "float64",
        "parameters": {"0.weight": tensor([1, 2], [0.0, 0.0])},
        "batch": {"inputs": tensor([1, 1], [3.0]), "targets": tensor([1], [1], "int64"), "class_weights": None},
    }
    return {**message, **changes}


def with_loss(**changes: Any) -> dict[str, Any]:
    network = a_run()["network"]
    return a_run(network={**network, "loss": {**network["loss"], **changes}})


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_program_has_less_than_250_lines(name):
    lines = (EXAMPLES / LANGUAGES[name].source).read_text().splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 120


def test_a_program_agrees_with_the_reference(command):
    implementation = of_command(command)
    result = gc.check(implementation, max_examples=40, seed=4)
    assert result.verdict == "passed", str(result)
    tally = result.implementations[0]
    assert result.networks == 40
    assert tally.comparisons > 15 * 40
    # nothing that is drawn for what a program declares is skipped by it
    assert not [note for note in result.notes if "does not support" in note]


@pytest.mark.parametrize(
    "network",
    [
        "1 -> Dense(1), MeanSquaredError",
        "1 -> Dense(1) -> Tanh -> Dense(1) -> Sigmoid, MeanSquaredError(reduction=sum)",
        "1 -> Dense(1, bias=False) -> ReLU -> Dense(1), SoftmaxCrossEntropy",
    ],
)
def test_a_program_agrees_with_the_reference_where_everything_is_1_wide(command, network):
    result = gc.check(of_command(command), networks=network, max_examples=20, seed=4)
    assert result.verdict == "passed", str(result)


@pytest.mark.parametrize(("name", "mistake"), EXPECTED_FINDING)
def test_a_mistake_in_a_program_is_found(name, mistake, tmp_path):
    language = LANGUAGES[name]
    right, wrong, about = mistake
    text = (EXAMPLES / language.source).read_text()
    assert right in text
    source = tmp_path / Path(language.source).name
    source.write_text(text.replace(right, wrong))
    networks = ["2 -> Dense(3) -> Tanh -> Dense(2), SoftmaxCrossEntropy", "2 -> Dense(3), MeanSquaredError"]
    result = gc.check(of_command(build(language, source, tmp_path)), networks=networks, max_examples=8, seed=4)
    assert result.verdict == "failed"
    assert {finding.kind for finding in result.findings} == {"WRONG"}
    assert any(about in finding.path for finding in result.findings), str(result)


def test_a_program_gives_the_textbooks_numbers(command):
    # p = (1/2, 1/2), the label is 1: dC/dz = (1/2, -1/2), dC/dW = x dC/dz, and C = log 2
    _, result = talk(command, '{"type":"start","protocol":1}', json.dumps(a_run()))
    assert (result["type"], result["id"]) == ("result", 7)
    assert result["deltas"]["0"] == {"shape": [1, 2], "data": [0.5, -0.5]}
    assert result["outputs"]["0"]["data"] == [0, 0]
    assert result["parameters"] == {"0.weight": {"shape": [1, 2], "data": [1.5, -1.5]}}
    assert result["input"] == {"shape": [1, 1], "data": [0]}
    assert result["loss"] == {"shape": [], "data": [pytest.approx(0.6931471805599453, rel=1e-15)]}


def test_a_program_reads_and_writes_numbers_exactly(command):
    values = [0.1, 5e-324, -1.7976931348623157e308, 2.2250738585072014e-308, 1 / 3]
    copy = {
        "inputs": 1,
        "layers": [{"kind": "Dense", "units": 1, "bias": True}],
        "loss": {"kind": "MeanSquaredError", "reduction": "sum"},
    }
    run = a_run(
        network=copy,
        parameters={"0.weight": tensor([1, 1], [1.0]), "0.bias": tensor([1], [0.0])},
        batch={"inputs": tensor([5, 1], values), "targets": tensor([5, 1], [0.0] * 5)},
    )
    (result,) = talk(command, json.dumps(run))
    assert result["outputs"]["0"]["data"] == values


def test_a_program_spells_out_what_is_not_finite(command):
    run = a_run(
        network={
            "inputs": 1,
            "layers": [{"kind": "Dense", "units": 2, "bias": False}, {"kind": "Dense", "units": 1, "bias": False}],
            "loss": {"kind": "MeanSquaredError", "reduction": "sum"},
        },
        parameters={"0.weight": tensor([1, 2], [1e200, -1e200]), "1.weight": tensor([2, 1], [1.0, 1.0])},
        batch={"inputs": tensor([1, 1], [1e200]), "targets": tensor([1, 1], [0.0])},
    )
    (result,) = talk(command, json.dumps(run))
    assert result["outputs"]["0"]["data"] == ["Infinity", "-Infinity"]
    assert result["outputs"]["1"]["data"] == ["NaN"]


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (a_run(dtype="float32"), "float"),
        (a_run(network={**a_run()["network"], "layers": [{"kind": "GELU"}]}), "GELU"),
        (with_loss(kind="Hinge"), "Hinge"),
        (with_loss(reduction="none"), "none"),
        (with_loss(label_smoothing=0.1), "label"),
        (with_loss(ignore_index=1), "label"),
        (a_run(batch={**a_run()["batch"], "class_weights": tensor([2], [1.0, 2.0])}), "weights"),
        (a_run(batch={**a_run()["batch"], "targets": tensor([1, 2], [0.5, 0.5])}), "labels"),
    ],
)
def test_a_program_skips_what_it_has_no_rule_for(command, run, reason):
    skipped, result = talk(command, json.dumps(run), json.dumps(a_run(id=8)))
    assert (skipped["type"], skipped["id"], result["type"], result["id"]) == ("skipped", 7, "result", 8)
    assert reason in skipped["reason"]


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("this is no JSON", (None,)),
        ("", (None,)),
        ('{"type":"run","id":7,"network":{', (None, 7)),
        ("[" * 10_000, (None,)),
        (b"\xff\xfe", (None,)),
        ("null", (None,)),
        ('{"type":"dance"}', (None,)),
        ('{"type":"start","protocol":2}', (None,)),
        (json.dumps({"type": "run", "id": 7}), (7,)),
        (json.dumps(a_run(parameters={})), (7,)),
        (json.dumps(a_run(parameters={"0.weight": tensor([1, 2], [1.0])})), (7,)),
        (json.dumps(a_run(parameters={"0.weight": tensor([1, 2], [1.0, 2.0, 3.0])})), (7,)),
        (json.dumps(a_run(batch={**a_run()["batch"], "targets": tensor([1], [2], "int64")})), (7,)),
        (json.dumps(a_run(batch={**a_run()["batch"], "targets": tensor([1], [-1], "int64")})), (7,)),
    ],
)
def test_a_program_reports_malformed_input_and_goes_on(command, line, numbers):
    errored, result = talk(command, line, json.dumps(a_run(id=8)))
    assert errored["type"] == "errored"
    assert errored.get("id") in numbers
    assert errored["message"]
    assert (result["type"], result["id"]) == ("result", 8)


def test_a_program_ignores_unknown_fields(command):
    run = a_run(colour={"red": [1, {"a": "}]"}], "text": 'a "quoted" \\ text'}, batch=None)
    run["batch"] = {**a_run()["batch"], "weather": None}
    (result,) = talk(command, json.dumps(run))
    assert result["type"] == "result"


def test_a_program_ends_with_its_input(command):
    assert talk(command) == []


def test_a_program_ends_on_stop_while_its_input_is_open(command):
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        program.stdin.write(b'{"type":"start","protocol":1}\n')
        program.stdin.flush()
        assert json.loads(program.stdout.readline())["type"] == "started"
        program.stdin.write(b'{"type":"stop"}\n')
        program.stdin.flush()
        assert program.wait(timeout=10) == 0
