"""The table of the textbook's quantities."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from gradconform import parse
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import Implementation, resolve
from gradconform.conformance.tracing import MOST_ELEMENTS, NETWORK, trace_text
from gradconform.reference.backpropagation import gradients
from gradconform.reference.trace import trace


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def case_of(network, seed=0, rows=1, dtype="float64"):
    entry = Draw("ordinary", seed)
    return Example(network, rows, (entry,)).case(entry, dtype)


def table(*implementations, network=NETWORK, seed=0, rows=1, dtype="float64"):
    return trace_text(network, implementations, seed, rows, dtype)


def rows_of(text):
    """Return the table as {(layer, quantity): {index: cells}}."""
    found, layer, quantity = {}, "", ""
    for line in text.splitlines():
        if match := re.match(r"(layer \d+|cost)", line):
            layer, quantity = match[1], ""
        elif re.match(r"  \S", line) and layer:
            quantity = line.strip()
            found[layer, quantity] = {}
        elif quantity and (match := re.match(r"    (\[.*?\]| {8}) *((?:\S+ *)+)$", line)):
            found[layer, quantity][match[1].strip()] = match[2].split()
    return found


def test_all_names_of_the_textbook_are_there():
    assert list(rows_of(table())) == [
        ("layer 0", "incoming activation dz/dw"),
        ("layer 0", "pre-activation z"),
        ("layer 0", "delta dC/dz"),
        ("layer 0", "dC/dw"),
        ("layer 0", "dC/db"),
        ("layer 1", "activation a"),
        ("layer 1", "sigma'(z)"),
        ("layer 1", "dC/da"),
        ("layer 2", "incoming activation dz/dw"),
        ("layer 2", "pre-activation z"),
        ("layer 2", "delta dC/dz"),
        ("layer 2", "dC/dw"),
        ("layer 2", "dC/db"),
        ("cost", "C"),
    ]


def test_the_head_tells_the_case():
    lines = table(seed=3, rows=2, dtype="float32").splitlines()
    assert lines[0] == "2 -> Dense(3) -> Sigmoid -> Dense(2), SoftmaxCrossEntropy"
    targets = case_of(NETWORK, 3, 2).batch.targets
    assert lines[1] == f"batch 2, float32, seed 3; targets [{targets[0]}, {targets[1]}]"
    assert lines[3].split() == ["layer", "0", "Dense(3)", "reference"]


@pytest.mark.parametrize("rows", [1, 3])
def test_the_values_are_those_of_the_reference(rows):
    found = rows_of(table(rows=rows, seed=5))
    case = case_of(NETWORK, 5, rows)
    compared = 0
    for layer in trace(case.network, case.parameters, case.batch):
        for name, values in layer.quantities():
            cells = found[f"layer {layer.index}", name]
            assert len(cells) == values.size
            numbers = [float(cell) for (cell,) in cells.values()]
            np.testing.assert_allclose(numbers, values.ravel(), rtol=1e-9)
            compared += values.size
    assert compared == (2 + 3 + 3) * rows + 6 + 3 + 3 * 3 * rows + (3 + 2 + 2) * rows + 6 + 2
    ((cost,),) = found["cost", "C"].values()
    assert float(cost) == pytest.approx(float(gradients(case.network, case.parameters, case.batch).loss), rel=1e-9)


def test_the_chain_rule_can_be_checked_by_hand():
    found = rows_of(table(seed=2))

    def vector(layer, name):
        return np.array([float(cell) for (cell,) in found[layer, name].values()])

    slope, above = vector("layer 1", "sigma'(z)"), vector("layer 1", "dC/da")
    np.testing.assert_allclose(vector("layer 0", "delta dC/dz"), slope * above, rtol=1e-9)
    incoming, delta = vector("layer 2", "incoming activation dz/dw"), vector("layer 2", "delta dC/dz")
    np.testing.assert_allclose(vector("layer 2", "dC/dw"), np.outer(incoming, delta).ravel(), rtol=1e-9)
    np.testing.assert_allclose(vector("layer 2", "dC/db"), delta)


def test_indices_leave_a_single_sample_out():
    assert list(rows_of(table())["layer 0", "pre-activation z"]) == ["[0]", "[1]", "[2]"]
    assert list(rows_of(table(rows=2))["layer 0", "pre-activation z"])[3] == "[1, 0]"
    assert list(rows_of(table())["layer 0", "dC/dw"])[-1] == "[1, 2]"


def test_a_large_array_is_cut():
    text = table(network=parse("5 -> Dense(7), Huber"))
    assert f"    ... and {35 - MOST_ELEMENTS} more" in text.splitlines()
    assert len(rows_of(text)["layer 0", "dC/dw"]) == MOST_ELEMENTS


def full(*arguments):
    return gradients(*arguments)


def test_an_implementation_stands_beside_the_reference_with_its_error():
    text = table(Implementation("mine", full))
    assert text.splitlines()[3].split()[-3:] == ["reference", "mine", "error/bound"]
    for (_, name), cells in rows_of(text).items():
        for values in cells.values():
            assert values[0] == values[1], name
            # what the reference gives the implementation has no error of its own
            assert len(values) == 2 or float(values[2]) < 1, name


def test_a_wrong_value_shows_a_large_ratio():
    def compute(*arguments):
        found = gradients(*arguments)
        return replace(found, parameters={**found.parameters, "0.bias": 2 * found.parameters["0.bias"]})

    found = rows_of(table(Implementation("mine", compute)))
    wrong = {name for name, cells in found.items() for cell in cells.values() if len(cell) == 3 and float(cell[2]) > 1}
    assert wrong == {("layer 0", "dC/db")}


def test_what_an_implementation_lacks_is_a_dash():
    found = rows_of(table(Implementation("mine", lambda *arguments: gradients(*arguments).parameters)))
    for name in ("pre-activation z", "delta dC/dz"):
        assert all(cells[1:] == ["-"] for cells in found["layer 2", name].values())
    assert all(cells[1] == cells[0] for cells in found["layer 2", "dC/dw"].values())
    ((_, cost),) = found["cost", "C"].values()
    assert cost == "-"


def test_an_array_of_the_wrong_shape_is_told_and_not_shown():
    def compute(*arguments):
        return {path: array.T for path, array in gradients(*arguments).parameters.items()}

    text = table(Implementation("mine", compute))
    assert "    mine: shape (3, 2) where (2, 3) is expected" in text.splitlines()
    assert all(cells[1] == "-" for cells in rows_of(text)["layer 0", "dC/dw"].values())
    assert all(cells[1] == cells[0] for cells in rows_of(text)["layer 0", "dC/db"].values())


def test_an_implementation_that_gives_nothing_is_told():
    def unsupported(*arguments):
        raise NotImplementedError("no Sigmoid yet")

    def crashing(*arguments):
        raise ValueError("too late")

    text = table(Implementation("a", unsupported), Implementation("b", crashing), Implementation("c", lambda *_: None))
    lines = text.splitlines()
    assert lines[2] == "a: not supported: no Sigmoid yet"
    assert lines[3].startswith("b: ValueError: too late (test_tracing.py:")
    assert lines[4].startswith("c: expected a dictionary of arrays with 0.weight, ")
    assert rows_of(text).keys() == rows_of(table()).keys()


def test_the_reference_is_not_shown_twice():
    assert table(resolve("reference")) == table()


LONG = parse(
    "3 -> Dense(4) -> GELU(approximate=tanh) -> Dense(3, bias=False) -> LeakyReLU(slope=0.25) -> Softmax, CrossEntropy"
)


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_line_fits(monkeypatch, columns, count):
    monkeypatch.setenv("COLUMNS", str(columns))
    others = [Implementation(name, full) for name in ("torch", "a_very_long_name.py:gradients")[:count]]
    lines = table(*others, network=LONG, rows=12).splitlines()
    assert [line for line in lines if len(line) > columns] == []
    assert len(rows_of("\n".join(lines))) == 18


@pytest.mark.parametrize("columns", [60, 100])
def test_columns_stand_below_their_names(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = table(Implementation("mine", full), network=LONG, rows=2).splitlines()
    ends = {match.end() for line in lines for match in re.finditer(r"\b(reference|mine|error/bound)(?=\s|$)", line)}
    assert len(ends) == 3
    for line in lines:
        if re.match(r"    \[", line):
            numbers = re.sub(r"^    \[.*?\]", lambda match: " " * len(match[0]), line)
            assert {match.end() for match in re.finditer(r"\S+", numbers)} <= ends


@pytest.mark.torch
@pytest.mark.jax
def test_the_frameworks_side_by_side():
    found = rows_of(table(resolve("torch"), resolve("jax"), network=LONG, rows=2))
    cells = [cell for entries in found.values() for cell in entries.values()]
    assert {len(cell) for cell in cells} <= {1, 3, 4}
    assert all(float(cell[3]) <= 1 for cell in cells if len(cell) == 4)
    assert sum(len(cell) == 4 for cell in cells) > 50
