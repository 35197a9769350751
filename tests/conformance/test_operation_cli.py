"""`gradconform layer` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradconform.conformance.operation_cli import layer
from gradconform.errors import InvalidInput

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = """
import numpy as np

class Scaled:
    def forward(self, x, factor):
        self.factor = factor
        return factor * x

    def backward(self, cotangent):
        return self.factor * cotangent * WRONG

def scaled(x):
    return 2.0 * x

WRONG = 1
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE, "utf-8")
    return path


def run(*arguments):
    return CliRunner().invoke(layer, [str(argument) for argument in arguments])


def refused(*arguments):
    error = run(*arguments).exception
    assert isinstance(error, InvalidInput)
    assert "\n" not in str(error)
    return str(error)


def test_help():
    done = run("--help")
    assert done.exit_code == 0
    for word in ("--input", "--reference", "--argument", "--dtype", "--max-examples", "--seed", "--only", "--exclude"):
        assert word in done.output


def test_success(file, tmp_path):
    target = f"{file}:Scaled"
    done = run(target, "--argument", "factor=2.0", "--input", "3,4", "--seed", 1, "--json", tmp_path / "result.json")
    assert done.exit_code == 0, done.output
    # where lines are wrapped depends on the folder's name
    assert f"PASSED {target} has the right backward pass" in " ".join(done.output.split())
    content = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert (content["operation"], content["verdict"], content["shapes"]) == (target, "passed", ["(3, 4)"])


def test_a_finding(file, monkeypatch):
    file.write_text(FILE.replace("WRONG = 1", "WRONG = -1"), "utf-8")
    words = ["layer", f"{file}:Scaled", "--argument", "factor=2.0", "--seed=1", "--max-examples", "2"]
    monkeypatch.setattr("sys.argv", ["gradconform", *words])
    done = run(*words[1:])
    assert done.exit_code == 1
    assert "yours / expected is -1: the sign is wrong" in " ".join(done.output.split())
    again = f"gradconform layer {file}:Scaled --argument factor=2.0 --max-examples 2 --seed 1"
    assert f"  again                {again}\n" in done.output


def test_a_reference(file):
    target = f"{file}:Scaled"
    assert run(target, "--argument", "factor=2.0", "--reference", f"{file}:scaled").exit_code == 0
    done = run(target, "--argument", "factor=3.0", "--reference", f"{file}:scaled", "--seed", 1)
    assert done.exit_code == 1
    assert "the forward pass is wrong: the output differs from the reference's" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "3,x"], "--input '3,x' is no shape: write it as 3,4"),
        (["--input", "0,3"], "--input '0,3': sizes must be at least 1"),
        (["--argument", "factor"], "--argument 'factor': write it as NAME=VALUE"),
        (["--argument", "facto=1"], "has no argument 'facto'; it has x, factor"),
        (["--dtype", "bfloat16", "--argument", "factor=1"], "dtype 'bfloat16' cannot be checked alone; use float64 or"),
        (["--only", "gradients", "--argument", "factor=1"], "check 'gradients' is unknown; known: "),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at/all.json: no such folder"),
    ],
)
def test_wrong_words(file, words, message):
    assert message in refused(f"{file}:Scaled", *words)


def test_a_target_that_is_not_there(file):
    assert "has no 'Scale'" in refused(f"{file}:Scale")
    assert run().exit_code == 2


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("torch_function.py:Tanh", marks=pytest.mark.torch),
        pytest.param("jax_vjp.py:linear", marks=pytest.mark.jax),
        "numpy_layer.py:Softmax",
    ],
)
def test_the_starting_points_are_green(target):
    if target.startswith("torch"):
        pytest.importorskip("torch")
    if target.startswith("jax"):
        pytest.importorskip("jax")
    done = run(EXAMPLES / target, "--seed", 1, "--max-examples", 3)
    assert done.exit_code == 0, done.output
    assert "PASSED" in done.output


@pytest.mark.parametrize(
    ("target", "right", "wrong", "words"),
    [
        pytest.param(
            "torch_function.py:Tanh",
            "(1 - y**2)",
            "(1 - y)",
            "1 - y stands where 1 - y**2 belongs",
            marks=pytest.mark.torch,
        ),
        pytest.param("jax_vjp.py:linear", "x.T @ cotangent", "x.T @ abs(cotangent)", "absolute", marks=pytest.mark.jax),
        ("numpy_layer.py:Softmax", "self.y * (cotangent - (cotangent * self.y).sum(axis=-1, keepdims=True))",
         "cotangent * self.y * (1 - self.y)", "the gradient of x is wrong"),
    ],
)  # fmt: skip
def test_the_usual_mistake_in_a_starting_point_is_found(tmp_path, target, right, wrong, words):
    name, _, member = target.partition(":")
    if name.startswith("torch"):
        pytest.importorskip("torch")
    if name.startswith("jax"):
        pytest.importorskip("jax")
    source = (EXAMPLES / name).read_text("utf-8")
    assert source.count(right) == 1
    cut = source.rindex(right)
    (tmp_path / name).write_text(source[:cut] + wrong + source[cut + len(right) :], "utf-8")
    done = run(f"{tmp_path / name}:{member}", "--seed", 1, "--max-examples", 2)
    assert done.exit_code == 1
    assert words in " ".join(done.output.split())
