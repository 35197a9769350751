"""Batches and parameter values from files: as they are, in float32, and refused in one line."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from gradconform import InvalidInput
from gradconform.conformance.comparing_data import read_batch, read_values


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_safetensors(place, arrays):
    names = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "int64": "I64"}
    header, content = {"__metadata__": {"format": "np"}}, b""
    for name, array in arrays.items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    place.write_bytes(len(text).to_bytes(8, "little") + text + content)


def test_named_arrays_of_an_npz_file(folder):
    np.savez(folder / "b.npz", inputs=np.full((5, 2, 2), 0.1), targets=np.arange(5), mask=np.ones((2, 2), bool))
    batch = read_batch("b.npz", rows=3)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "inputs": ((3, 2, 2), "float32"),
        "targets": ((3,), "int64"),
        "mask": ((2, 2), "bool"),
    }


def test_a_csv_file_has_inputs_and_targets(folder):
    (folder / "b.csv").write_text("x,y,label\n1,2,a\n3,4,b\n", "utf-8")
    batch = read_batch("b.csv")
    assert batch["inputs"].tolist() == [[1, 2], [3, 4]]
    assert batch["targets"].tolist() == [0, 1]
    (folder / "v.csv").write_text("1,0.5\n3,4.25\n", "utf-8")
    assert read_batch("v.csv")["targets"].tolist() == [[0.5], [4.25]]


def test_values_of_any_file(folder):
    arrays = {"a.w": np.full((2, 3), 0.1), "b": np.ones(2, ml_dtypes.bfloat16), "n": np.array(3)}
    write_safetensors(folder / "v.safetensors", arrays)
    np.savez(folder / "v.npz", **{"a.w": arrays["a.w"], "n": arrays["n"]})
    found = read_values("v.safetensors")
    assert {name: array.dtype.name for name, array in found.items()} == {"a.w": "float32", "b": "float32", "n": "int64"}
    assert (found["a.w"] == np.float32(0.1)).all()
    assert read_values("v.npz")["a.w"].tolist() == found["a.w"].tolist()
    assert list(read_values({"a": {"w": 1.0}, "b": [2.0]})) == ["a/w", "b/0"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "data: there is no array in it"),
        ({"inputs": np.array(["x"])}, "data: inputs: expected numbers, got <U1"),
        ({"inputs": np.array([[1.0, np.nan]])}, "data: inputs[0, 1]: nan is not a finite number of float32"),
        ({"inputs": np.array([1e39])}, "data: inputs[0]: 1e+39 is not a finite number of float32"),
        ({"x": np.ones(3)}, "data: rows were asked for, but there is no array 'inputs' to count them by"),
    ],
)
def test_what_is_refused_of_a_batch(arrays, message):
    with pytest.raises(InvalidInput) as caught:
        read_batch(arrays, rows=2)
    assert str(caught.value) == message


def safetensors_header(header, content=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, "none.npz: no such file"),
        ("b.txt", b"1", "b.txt: expected a .npz or .safetensors file"),
        ("b.npz", b"1", "b.npz: not an NPZ file, which np.savez writes"),
        ("b.safetensors", b"1234567890", "b.safetensors: not a safetensors file: it ends within its header"),
        ("b.safetensors", (2).to_bytes(8, "little") + b"[]", "b.safetensors: not a safetensors file: 'list' object"),
        ("e.safetensors", safetensors_header({}), "e.safetensors: there is no array in it"),
        (
            "b.safetensors",
            safetensors_header({"w": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
            "b.safetensors: not a safetensors file: w has the type F8_E5M2",
        ),
        (
            "b.safetensors",
            safetensors_header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
            "b.safetensors: not a safetensors file: w has 4 bytes for the shape (2,) of float32",
        ),
    ],
)
def test_what_is_refused_of_a_file(folder, name, content, message):
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_values(name)
    assert str(caught.value).startswith(message)


def test_what_is_refused_of_a_batch_file(folder):
    with pytest.raises(InvalidInput, match=r"b\.npz: no such file"):
        read_batch("b.npz")
    (folder / "b.txt").write_text("1", "utf-8")
    with pytest.raises(InvalidInput, match=r"b\.txt: expected a \.csv or \.npz file"):
        read_batch("b.txt")
    np.savez(folder / "o.npz", inputs=np.array([{}]))
    with pytest.raises(InvalidInput, match=r"o\.npz: not an NPZ file of plain arrays"):
        read_batch("o.npz")
