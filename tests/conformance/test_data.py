"""Reading real data: what a CSV or NPZ file means, and what is said of one that means nothing."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gradconform import InvalidInput, parse
from gradconform.conformance import data as module
from gradconform.conformance.data import Data, read_data

IRIS = Path(__file__).parents[2] / "examples" / "iris.csv"


@pytest.fixture
def csv_file(tmp_path, monkeypatch):
    """Write a CSV file into the current folder and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(content, name="data.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(content.encode(encoding))
        return name

    return write


@pytest.fixture
def npz_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return "data.npz"

    return write


def refused(place):
    with pytest.raises(InvalidInput) as caught:
        read_data(place)
    message = str(caught.value)
    assert "\n" not in message
    return message


def same(found, expected):
    assert found.dtype == np.asarray(expected).dtype
    assert np.array_equal(found, expected)


WORDS = "width,height,kind\n1.5,2,cat\n-3e2, 4 ,dog\n0,0,cat\n"


def test_a_header_and_words(csv_file):
    data = read_data(csv_file(WORDS))
    same(data.inputs, np.array([[1.5, 2.0], [-300.0, 4.0], [0.0, 0.0]]))
    same(data.labels, np.array([0, 1, 0]))
    assert (data.values, data.classes, data.outputs) == (None, ("cat", "dog"), 2)


def test_without_a_header(csv_file):
    data = read_data(csv_file("1,2,b\n3,4,a\n"))
    same(data.inputs, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert (list(data.labels), data.classes) == ([1, 0], ("a", "b"))


def test_integer_labels_include_the_absent_ones(csv_file):
    data = read_data(csv_file("x,y\n1,3\n2,0\n"))
    same(data.labels, np.array([3, 0]))
    assert data.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("targets", ["1.5,2", "-1.5,0", "50,1", "1e3,2"])
def test_other_numbers_are_values(csv_file, targets):
    first, second = targets.split(",")
    data = read_data(csv_file(f"x,y\n1,{first}\n2,{second}\n"))
    same(data.values, np.array([[float(first)], [float(second)]]))
    assert (data.labels, data.outputs) == (None, 1)


def test_a_byte_order_mark_is_no_part_of_the_header(csv_file):
    data = read_data(csv_file("1,a\n2,b\n", encoding="utf-8-sig"))
    same(data.inputs, np.array([[1.0], [2.0]]))


def test_quoted_cells_and_line_ends(csv_file):
    data = read_data(csv_file('"the, width",kind\r\n"1.5","a ""b"""\r\n2,"c,d"\r\n'))
    same(data.inputs, np.array([[1.5], [2.0]]))
    assert data.classes == ('a "b"', "c,d")


def test_blank_lines_are_no_samples_and_count_as_lines(csv_file):
    same(read_data(csv_file("\nx,y\n\n1,a\n  \n , \n2,b\n\n")).inputs, np.array([[1.0], [2.0]]))
    assert refused(csv_file("x,y\n\n1,a\n\nz,b\n")) == "data.csv:5: x: 'z' is not a number"


def test_a_line_break_in_a_cell_counts_as_a_line(csv_file):
    assert refused(csv_file('x,"the\nkind"\n1,a\nz,b\n')) == "data.csv:4: x: 'z' is not a number"


def test_an_upper_case_suffix(csv_file):
    assert read_data(csv_file(WORDS, "DATA.CSV")).outputs == 2


def test_the_example_that_is_shipped():
    data = read_data(str(IRIS))
    assert data.inputs.shape == (150, 4)
    assert data.classes == ("setosa", "versicolor", "virginica")
    assert list(np.bincount(data.labels)) == [50, 50, 50]
    assert str(data.network()) == "4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.csv: the file is empty"),
        ("\n \n,,\n", "data.csv: the file is empty"),
        ("x,y\n", "data.csv: there is a header and no data"),
        ("1\n2\n", "data.csv: expected at least one input column and, last, the target"),
        ("x,y\n1,a\n1,2,b\n", "data.csv:3: expected 2 values, got 3"),
        ("x,y,z\n1,2,a\n1,b\n", "data.csv:3: expected 3 values, got 2"),
        ("1,2,a\n1,b\n", "data.csv:2: expected 3 values, got 2"),
        ("x,y\n1,a\noops,b\n", "data.csv:3: x: 'oops' is not a number"),
        ("1,2,a\n1,,b\n", "data.csv:2: column 2: '' is not a number"),
        ("x,y\nnan,a\n", "data.csv:2: x: nan is not finite"),
        ("x,y\n1,a\n-inf,b\n", "data.csv:3: x: -inf is not finite"),
        ("x,y\n1,1.5\n2,nan\n", "data.csv:3: y: nan is not finite"),
    ],
)
def test_a_csv_file_that_cannot_be_used(csv_file, content, message):
    assert refused(csv_file(content)) == message


def test_a_target_of_many_different_words_is_no_target(csv_file):
    rows = "\n".join(f"{index},name{index}" for index in range(51))
    assert (
        refused(csv_file(f"x,who\n{rows}\n")) == "data.csv: the last column, who, has 51 different words: not a target"
    )


def test_another_encoding(csv_file):
    assert refused(csv_file("x,y\n1,é\n", encoding="latin-1")).startswith("data.csv: not a CSV file in UTF-8: ")


def test_a_cell_without_end(csv_file):
    content = "x,y\n1," + "a" * (csv.field_size_limit() + 1) + "\n"
    assert refused(csv_file(content)).startswith("data.csv: not a CSV file in UTF-8: field larger than")


def test_a_file_that_cannot_be_read(csv_file, monkeypatch):
    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    name = csv_file(WORDS)
    monkeypatch.setattr(Path, "open", denied)
    assert refused(name) == "data.csv: cannot be read: Permission denied"


def test_a_missing_file_a_folder_and_another_suffix(csv_file, tmp_path):
    assert refused("nowhere.csv") == "nowhere.csv: no such file"
    assert refused(".") == ".: a folder; expected a .csv or .npz file"
    (tmp_path / "folder.csv").mkdir()
    assert refused("folder.csv") == "folder.csv: a folder; expected a .csv or .npz file"
    assert refused(csv_file(WORDS, "data.txt")) == "data.txt: expected a .csv or .npz file"


def test_arrays_of_labels(npz_file):
    data = read_data(npz_file(inputs=np.array([[1, 2], [3, 4]]), targets=np.array([2, 0], np.uint8), more=np.ones(3)))
    same(data.inputs, np.array([[1.0, 2.0], [3.0, 4.0]]))
    same(data.labels, np.array([2, 0]))
    assert data.classes == ("0", "1", "2")


def test_arrays_of_whole_floats_are_labels_and_others_values(npz_file):
    inputs = np.ones((2, 1), np.float32)
    same(read_data(npz_file(inputs=inputs, targets=np.array([1.0, 0.0]))).labels, np.array([1, 0]))
    same(read_data(npz_file(inputs=inputs, targets=np.array([1.5, -2.0]))).values, np.array([[1.5], [-2.0]]))
    same(read_data(npz_file(inputs=inputs, targets=np.array([-1.0, 0.0]))).values, np.array([[-1.0], [0.0]]))


def test_arrays_of_several_values(npz_file):
    data = read_data(npz_file(inputs=np.ones((2, 3)), targets=np.array([[1, 2], [3, 4]])))
    same(data.values, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert str(data.network()) == "3 -> Dense(8) -> Tanh -> Dense(2), MeanSquaredError"


ONES = np.ones((2, 3))
ROWS = "data.npz: targets: expected 2 rows as the inputs, got shape"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "data.npz: no array 'inputs'; the file has nothing"),
        ({"x": ONES, "y": ONES}, "data.npz: no array 'inputs'; the file has x, y"),
        ({"inputs": ONES}, "data.npz: no array 'targets'; the file has inputs"),
        ({"inputs": np.array([["a"]]), "targets": np.ones(1)}, "data.npz: inputs: expected numbers, got <U1"),
        ({"inputs": ONES, "targets": np.ones(2, complex)}, "data.npz: targets: expected numbers, got complex128"),
        ({"inputs": ONES, "targets": np.ones(2, bool)}, "data.npz: targets: expected numbers, got bool"),
        ({"inputs": np.array([[1, np.nan]]), "targets": np.ones(1)}, "data.npz: inputs[0, 1] is not finite"),
        ({"inputs": ONES, "targets": np.array([1, np.inf])}, "data.npz: targets[1] is not finite"),
        ({"inputs": np.ones(3), "targets": np.ones(3)}, "data.npz: inputs: expected shape (N, width), got (3,)"),
        ({"inputs": np.ones((0, 3)), "targets": np.ones(0)}, "data.npz: inputs: expected shape (N, width), got (0, 3)"),
        ({"inputs": ONES, "targets": np.ones(3)}, f"{ROWS} (3,)"),
        ({"inputs": ONES, "targets": np.float64(1)}, f"{ROWS} ()"),
        ({"inputs": ONES, "targets": ONES[:, :0]}, f"{ROWS} (2, 0)"),
        ({"inputs": ONES, "targets": np.array([1, -1])}, "data.npz: targets[1]: label -1 is below 0"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_used(npz_file, arrays, message):
    assert refused(npz_file(**arrays)) == message


def test_object_arrays_are_not_unpickled(npz_file):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    place = npz_file(inputs=np.array([[Bomb()]], dtype=object), targets=np.ones(1))
    message = refused(place)
    assert message.startswith("data.npz: not an NPZ file of plain arrays: Object arrays cannot be loaded")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 half a zip", b"\x93NUMPY"])
def test_what_is_no_zip_file(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.npz").write_bytes(content)
    assert refused("data.npz") == "data.npz: not an NPZ file, which np.savez writes"


def test_a_single_array_under_the_wrong_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "data.npz").open("wb") as file:
        np.save(file, np.ones(3))
    assert refused("data.npz") == "data.npz: not an NPZ file, which np.savez writes"


def test_a_damaged_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez_compressed("data.npz", inputs=np.ones((300, 2)), targets=np.ones(300))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[60:90] = b"x" * 30
    (tmp_path / "data.npz").write_bytes(content)
    assert refused("data.npz").startswith("data.npz: not an NPZ file of plain arrays: ")


def test_a_zip_file_of_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("data.npz", "w") as file:
        file.writestr("readme.txt", "hello")
    assert refused("data.npz") == "data.npz: no array 'inputs'; the file has readme.txt"


LABELS = Data(np.arange(8.0).reshape(4, 2), np.array([0, 2, 1, 0]), None, ("a", "b", "c"))
PAIR = Data(np.arange(6.0).reshape(3, 2), np.array([0, 1, 1]), None, ("no", "yes"))
VALUES = Data(np.arange(6.0).reshape(3, 2), None, np.array([[1.5], [2.5], [3.5]]))


@pytest.mark.parametrize(
    ("data", "network", "targets"),
    [
        (LABELS, "2 -> Dense(3), SoftmaxCrossEntropy", LABELS.labels),
        (LABELS, "2 -> Dense(3) -> Softmax, CrossEntropy", LABELS.labels),
        (LABELS, "2 -> Dense(3), MeanSquaredError", np.eye(3)[[0, 2, 1, 0]]),
        (LABELS, "2 -> Dense(4), SigmoidCrossEntropy", np.eye(4)[[0, 2, 1, 0]]),
        (PAIR, "2 -> Dense(1), SigmoidCrossEntropy", np.array([[0.0], [1.0], [1.0]])),
        (PAIR, "2 -> Dense(1), MeanSquaredError", np.array([[0.0], [1.0], [1.0]])),
        (PAIR, "2 -> Dense(2), MeanSquaredError", np.eye(2)[[0, 1, 1]]),
        (VALUES, "2 -> Dense(1), MeanSquaredError", VALUES.values),
    ],
)
def test_targets_suit_the_loss(data, network, targets):
    batch = data.batch(parse(network))
    same(batch.targets, targets)
    same(batch.inputs, data.inputs)


def test_a_network_for_other_inputs():
    with pytest.raises(InvalidInput) as caught:
        LABELS.batch(parse("3 -> Dense(3), SoftmaxCrossEntropy"))
    assert str(caught.value) == "the network takes 3 inputs, the data has 2 columns"


def test_a_cross_entropy_of_a_value():
    with pytest.raises(InvalidInput) as caught:
        VALUES.batch(parse("2 -> Dense(2), SoftmaxCrossEntropy"))
    assert str(caught.value) == "SoftmaxCrossEntropy takes labels, the data's target is a value"


def test_standardised_columns_have_mean_0_and_deviation_1():
    data = read_data(str(IRIS)).standardised()
    np.testing.assert_allclose(data.inputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(data.inputs.std(axis=0), 1)
    assert data.classes == ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3e9])
def test_a_constant_column_becomes_0_and_is_not_blown_up(constant):
    inputs = np.column_stack([np.full(150, constant), np.arange(150.0)])
    found = Data(inputs, np.zeros(150, int), None, ("a",)).standardised().inputs
    assert not found[:, 0].any()
    assert found[:, 1].std() == pytest.approx(1)
    assert inputs[0, 0] == constant


def test_a_single_sample_can_be_standardised():
    assert not Data(np.array([[3.0, 4.0]]), np.array([0]), None, ("a",)).standardised().inputs.any()


def test_a_sample_is_drawn_without_replacement_and_kept_in_order():
    data = read_data(str(IRIS))
    small = data.sample(40, 1)
    assert (small.inputs.shape, small.labels.shape, small.classes) == ((40, 4), (40,), data.classes)
    places = [int(np.flatnonzero((data.inputs == row).all(axis=1))[0]) for row in small.inputs]
    assert places == sorted(places)
    numbered = Data(np.arange(100.0)[:, None], None, np.arange(100.0)[:, None]).sample(30, 2)
    assert len(set(numbered.inputs[:, 0])) == 30
    assert (np.diff(numbered.inputs[:, 0]) > 0).all()
    same(numbered.values, numbered.inputs)


def test_the_same_seed_draws_the_same_sample():
    data = read_data(str(IRIS))
    same(data.sample(10, 3).inputs, data.sample(10, 3).inputs)
    assert not np.array_equal(data.sample(10, 3).inputs, data.sample(10, 4).inputs)


def test_a_small_file_is_taken_whole():
    assert LABELS.sample(4, 0) is LABELS


def test_the_network_that_suits_the_data():
    assert str(LABELS.network()) == "2 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
    assert str(VALUES.network()) == "2 -> Dense(8) -> Tanh -> Dense(1), MeanSquaredError"
    assert module.HIDDEN_UNITS == 8
