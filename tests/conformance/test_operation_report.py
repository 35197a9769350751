"""The message of an operation's result, and its JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gradconform.conformance.operation_run import check_layer


class MyTanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, cotangent):
        return cotangent * (1 - self.y)


class Right(MyTanh):
    def backward(self, cotangent):
        return cotangent * (1 - self.y**2)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_a_failure():
    lines = str(check_layer(MyTanh, max_examples=2, seed=1)).splitlines()
    assert lines[0].startswith("FAILED  MyTanh   the gradient of x is wrong: ")
    assert lines[0].endswith(" x what rounding can explain")
    labels = [line[:23].strip() for line in lines[1:] if line[2].strip()]
    assert labels == [
        "case",
        "worst element",
        "error / bound",
        "expected is",
        "likely",
        "check",
        "MyTanh  a NumPy forward",
        "inputs",
        "compared",
        "FAILED  1 finding: 2 ex",
    ]
    text = " ".join(" ".join(lines).split())
    assert "likely 1 - y stands where 1 - y**2 belongs: expected / yours is 1 + y, with y the output" in text
    assert "expected is the derivative of your own forward pass" in text
    assert all(len(line) <= 100 for line in lines)
    assert lines[-1].startswith("FAILED  1 finding: 2 examples, ")


def test_a_success():
    lines = str(check_layer(Right, max_examples=2, seed=1)).splitlines()
    assert lines[0] == "Right  a NumPy forward and backward pair, float64"
    assert lines[1] == "  inputs               (3, 4); (1, 1)"
    assert lines[-1].startswith("PASSED  Right has the right backward pass: 2 examples, ")


def test_nothing_compared():
    step = (lambda x: np.where(np.random.default_rng().random() > 0.5, 1.0, 2.0) * x, lambda c, x: c)
    text = str(check_layer(step, max_examples=1))
    assert "\nNOTHING COMPARED  no gradient of <lambda>, <lambda> could be told from rounding: 1 examples" in text


def test_json():
    result = check_layer(MyTanh, max_examples=2, seed=1)
    content = json.loads(result.to_json())
    assert content["schema"] == 1
    assert (content["verdict"], content["framework"], content["seed"]) == ("failed", "numpy", 1)
    assert content["checks"]["gradient"] == {"passed": 0, "failed": 1, "kink": 0, "unsupported": 0}
    (finding,) = content["findings"]
    assert (finding["check"], finding["kind"], finding["path"]) == ("gradient", "WRONG", "x")
    assert len(finding["id"]) == 8
    assert finding["error"] == pytest.approx(abs(finding["actual"] - finding["expected"]))
    assert finding["ratio"] == pytest.approx(finding["error"] / finding["bound"])
    again = check_layer(MyTanh, max_examples=2, seed=1)
    assert [finding.id for finding in again.findings] == [finding["id"]]


def test_numbers_that_are_not_finite_are_spelled_out():
    pair = (np.exp, lambda c, x: np.full(x.shape, np.inf))
    (finding,) = json.loads(check_layer(pair, max_examples=1).to_json())["findings"]
    assert (finding["kind"], finding["actual"]) == ("NONFINITE", "Infinity")


def test_inputs_with_the_same_mistake_are_one_finding():
    pair = (lambda a, b: a * b, lambda c, a, b: (2 * c * b, 2 * c * a))
    (finding,) = check_layer(pair, max_examples=2).findings
    assert (finding.path, finding.wrong) == ("a", ["b"])
    text = str(finding)
    assert "\n  also wrong           b\n" in text
