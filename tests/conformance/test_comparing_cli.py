"""`gradconform compare` as a person meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gradconform import InvalidInput
from gradconform.conformance.comparing_cli import compare

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "compare"
BY_HAND = """
import numpy as np

def right(parameters, inputs, targets):
    error = inputs @ parameters["weight"] + parameters["bias"] - targets
    delta = 2 * error / error.size
    return (error**2).mean(), {"weight": inputs.T @ delta, "bias": delta.sum(0)}

def wrong(parameters, inputs, targets):
    loss, found = right(parameters, inputs, targets)
    return loss, {**found, "bias": found["bias"] / len(inputs)}

def other_names(parameters, inputs, targets):
    loss, found = right({"weight": parameters["v"], "bias": parameters["c"]}, inputs, targets)
    return loss, {"v": found["weight"], "c": found["bias"]}

right.parameters = {"weight": np.ones((3, 2)), "bias": np.zeros(2)}
other_names.parameters = {"v": np.ones((3, 2)), "c": np.zeros(2), "spare": np.zeros(7)}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "mine.py").write_text(BY_HAND, "utf-8")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "batch.npz", inputs=rng.normal(size=(8, 3)), targets=rng.normal(size=(8, 2)))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(compare, [str(argument) for argument in arguments])


def test_agreement(folder):
    done = run("mine.py:right", "mine.py:wrong", "--data", "batch.npz", "--rows", 1, "--json", "result.json")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("AGREE  mine.py:right and mine.py:wrong: 2 gradients, 8 elements; rounding: at most 0")
    assert json.loads((folder / "result.json").read_bytes())["verdict"] == "agree"
    assert all(len(line) <= 100 for line in lines)


def test_a_difference(folder):
    done = run("mine.py:right", "mine.py:wrong", "--data", "batch.npz")
    assert done.exit_code == 1
    text = " ".join(done.output.split())
    assert text.startswith("DIFFER mine.py:right and mine.py:wrong: 1 of 2 gradients differs, first at bias: ")
    assert "explained by the gradient of bias is in mine.py:wrong 0.125 (1/batch) times that in mine.py:right" in text
    assert re.search(r"gradient of weight +\S+ +\S+ +0 +0 +0 +equal", done.output)


def test_names_that_do_not_tell_are_proposed(folder):
    done = run("mine.py:right", "mine.py:other_names", "--data", "batch.npz")
    assert isinstance(done.exception, InvalidInput)
    (folder / "map.toml").write_text(done.output, "utf-8")
    again = run("mine.py:right", "mine.py:other_names", "--data", "batch.npz", "--parameters", "map.toml")
    assert again.exit_code == 0, again.output


def test_what_is_refused(folder):
    done = run("mine.py:right", "mine.py:wrong", "--data", "batch.npz", "--json", "nowhere/result.json")
    assert str(done.exception) == "nowhere/result.json: no such folder"
    done = run("mine.py:right", "mine.py:wrong")
    assert done.exit_code == 2
    assert "Missing option '--data'" in done.output


def test_help_names_the_options():
    done = run("--help")
    for option in ("--data", "--parameters", "--loss", "--values", "--rows", "--seed", "--json"):
        assert option in done.output


@pytest.mark.parametrize("width", ["40", "60", "100"])
def test_names_are_never_cut(folder, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    done = run("mine.py:right", "mine.py:wrong", "--data", "batch.npz")
    assert "gradient of weight" in done.output
    assert "DIFFERS" in done.output


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize(("port", "code"), [("model", 0), ("first_port", 1)])
def test_the_example(port, code):
    done = run(
        f"{FOLDER / 'torch_mlp.py'}:model",
        f"{FOLDER / 'jax_mlp.py'}:{port}",
        "--parameters",
        FOLDER / "map.toml",
        "--data",
        ROOT / "examples" / "iris.csv",
        "--loss",
        "SoftmaxCrossEntropy",
    )
    assert done.exit_code == code, done.output
    if code:
        # where lines are wrapped depends on the folder's name
        assert "with LayerNorm(eps=1e-06) and with GELU(approximate='tanh')," in " ".join(done.output.split())
