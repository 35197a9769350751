"""Lines are as wide as the output, and no name is cut or broken, however narrow it is."""

from __future__ import annotations

import re

import pytest

import gradconform as gc
from gradconform.conformance.coverage import Covered
from gradconform.conformance.doctor import diagnosis
from gradconform.conformance.implementations import of, reference
from gradconform.conformance.killing import Kill, Killing
from gradconform.conformance.killing_report import killing_text
from gradconform.conformance.message import coverage_table, finding_text, result_text
from gradconform.conformance.tracing import NETWORK, trace_text
from gradconform.conformance.wrapping import columns, filled, labelled

WIDTHS = [40, 60, 80, 100]
PATHS = [f"{index}.{name}" for index in range(0, 40, 2) for name in ("weight", "bias")]


@pytest.fixture(params=WIDTHS)
def width(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


@pytest.mark.parametrize(("asked", "given"), [("7", 40), ("60", 60), ("1000", 100), ("", 100), ("many", 100)])
def test_columns(asked, given, monkeypatch):
    monkeypatch.setenv("COLUMNS", asked)
    monkeypatch.setattr("os.get_terminal_size", lambda fd: (_ for _ in ()).throw(OSError()))
    assert columns() == given


def test_no_path_is_broken(width):
    lines = labelled("also wrong", ", ".join(PATHS))
    assert max(map(len, lines)) <= width
    words = re.split(r",?\s+", " ".join(lines).strip())
    assert [word for word in words if "." in word] == PATHS


def test_an_element_is_one_word(width):
    lines = labelled("worst element", "12.weight[13, 24]     yours 0.12345678     expected 0.87654321")
    assert any("12.weight[13, 24]" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_a_name_that_is_wider_than_the_output_is_whole(width):
    name = "a-very-long-name/of_somebody's/file.py:" + "x" * 120
    assert name in filled(f"FAILED  {name}   is wrong")[1].strip() or name in "".join(
        filled(f"FAILED  {name}   is wrong")
    )


def test_a_narrow_output_has_labels_above_their_texts(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert labelled("right", "0.weight") == ["  right", "    0.weight"]
    monkeypatch.setenv("COLUMNS", "60")
    assert labelled("right", "0.weight") == ["  right                0.weight"]


@pytest.fixture(scope="module")
def failed():
    def halved(network, parameters, batch):
        from gradconform.reference.backpropagation import gradients

        found = dict(gradients(network, parameters, batch).parameters)
        return {path: array / 2 if path == "4.weight" else array for path, array in found.items()}

    network = gc.parse("3 -> Dense(4) -> Tanh -> Dense(4) -> Tanh -> Dense(2), MeanSquaredError")
    return gc.check(halved, networks=[network], max_examples=3, seed=1, dtypes=["float64"])


def test_the_message_of_a_finding(failed, width):
    text = finding_text(failed.findings[0])
    first, *rest = text.splitlines()
    assert "4.weight is wrong" in first
    assert all(len(line) <= width or "gradconform " in line for line in rest)
    for path in ("0.weight", "0.bias", "2.weight", "2.bias", "4.bias"):
        assert path in re.split(r"[,\s]+", text)


def test_the_text_of_a_result(failed, width):
    tally = result_text(failed).split(finding_text(failed.findings[0]))[-1]
    assert all(len(line) <= width for line in tally.splitlines())


def test_the_table_of_coverage(width):
    names = ["SoftmaxCrossEntropy", "BinaryCrossEntropy", "extreme-logits"]
    covered = Covered(
        implementation="torch",
        values={"loss": dict.fromkeys(names, 3)},
        pairs={"layer x regime": {name: dict.fromkeys(("tiny", "subnormal"), 0) for name in names}},
    )
    text = coverage_table([covered])
    assert all(name in re.split(r"[,:;\s]+", text) for name in names)
    assert max(map(len, text.splitlines())) <= width


def test_the_kill_matrix(width):
    name = "label-smoothing-over-the-other-classes"
    kill = Kill(fault=name, sentence="", checks=["loss"], named="right", held_out=False, detected=0.1, found=0.2)
    text = killing_text(Killing(kills=[kill], correct=[], max_examples=1, seed=1, seconds=1.0))
    assert re.search(rf"^{name}( |$)", text, re.M)


def test_the_trace(width):
    def somebody(network, parameters, batch):
        from gradconform.reference.backpropagation import gradients

        return gradients(network, parameters, batch)

    name = "a_long_folder/my_network.py:gradients"
    text = trace_text(NETWORK, [reference(), of(somebody, name)], 0, 1, "float64")
    assert f"(b)  {name}" in text
    table = text[text.index("layer 0") :]
    assert max(map(len, table.splitlines())) <= width
    assert "my_net" not in table


def test_the_doctor(width):
    text = diagnosis()
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"^hypothesis +\d", text, re.M)
