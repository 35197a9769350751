"""Case files hold every number bit for bit, and a person can read them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import gradconform as gc
from gradconform.case import Batch, Case
from gradconform.conformance.casefile import (
    CaseFile,
    Conditions,
    Found,
    encode,
    finding_from,
    found_of,
    layout_of,
    versions,
)
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.examples import lay_out
from gradconform.dtypes import DTYPES, dtype_of

FOUND = Found(
    check="parameters", kind="WRONG", path="0.bias", key="parameters WRONG Dense.bias", sentence="0.bias is wrong"
)
CONDITIONS = Conditions(checks=["loss", "parameters"], timeout=20.0)


def file_of(case, **changed):
    fields = {
        "id": "5412b217",
        "implementation": "my_mlp.py:gradients",
        "case": case,
        "conditions": CONDITIONS,
        "found": FOUND,
        "seed": 1,
        "versions": {"gradconform": "0.1.0"},
        **changed,
    }
    return CaseFile(**fields)


def arrays(case):
    return {**case.parameters, **{name: array for name, array in vars(case.batch).items() if array is not None}}


def written_and_read(folder, file):
    place = folder / f"{file.id}.json"
    place.write_bytes(encode(file))
    return read_case(place)


def random_case(dtype, rng, layout="C"):
    """Return a case of numbers with random bits, among them subnormal ones and -0."""
    kind = dtype_of(dtype)
    bits = {8: np.uint64, 4: np.uint32, 2: np.uint16}[kind.itemsize]

    def numbers(*shape):
        drawn = rng.integers(0, np.iinfo(bits).max, 4 * int(np.prod(shape)), dtype=bits, endpoint=True).view(kind)
        with np.errstate(invalid="ignore"):  # some are signalling NaN
            drawn = drawn[np.isfinite(drawn)][: int(np.prod(shape))].copy()
        drawn[:3] = np.array([-0.0, 0.1, 1.0], np.float64).astype(kind)
        drawn[3:4] = np.array([1], bits).view(kind)  # the smallest subnormal number
        return lay_out(drawn.reshape(shape), layout)

    network = gc.Network(inputs=5, layers=(gc.Dense(7), gc.Tanh(), gc.Dense(4)), loss=gc.MeanSquaredError("none"))
    parameters = {path: numbers(*shape) for path, shape in network.parameters().items()}
    return Case(network, parameters, Batch(numbers(6, 5), numbers(6, 4), None, numbers(6, 4)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_comes_back_bit_for_bit(tmp_path, dtype):
    rng = np.random.default_rng(3)
    for _ in range(20):
        case = random_case(dtype, rng)
        back = written_and_read(tmp_path, file_of(case)).case
        assert (back.network, back.dtype) == (case.network, case.dtype)
        assert {name: array.tobytes() for name, array in arrays(back).items()} == {
            name: array.tobytes() for name, array in arrays(case).items()
        }


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
def test_the_memory_order_comes_back(tmp_path, layout):
    case = random_case("float32", np.random.default_rng(0), layout)
    back = written_and_read(tmp_path, file_of(case)).case
    assert layout_of(back.batch.inputs) == layout
    assert {name: array.strides for name, array in arrays(back).items()} == {
        name: array.strides for name, array in arrays(case).items()
    }


def test_all_else_comes_back(tmp_path):
    network = gc.parse("2 -> Dense(3), SoftmaxCrossEntropy(ignore_index=-100)")
    parameters = {"0.weight": np.ones((2, 3)), "0.bias": np.zeros(3)}
    case = Case(network, parameters, Batch(np.ones((2, 2)), np.array([1, -100]), np.array([0.5, 1.0, 2.0])))
    file = file_of(
        case,
        program=("./my_backprop", "--fast"),
        conditions=Conditions(checks=["loss"], relations=False, affine=True, isolated=True, kinks={"ReLU": 0.5}),
        found=Found(check="call", kind="CRASHED", path="gradients", key="call CRASHED", sentence="no", facts=["a"]),
        before=(case, Case(network, parameters, Batch(np.zeros((1, 2)), np.array([2])))),
    )
    back = written_and_read(tmp_path, file)
    for name in ("id", "implementation", "program", "conditions", "found", "seed", "versions"):
        assert getattr(back, name) == getattr(file, name)
    assert back.case.batch.targets.dtype == np.int64
    assert back.case.batch.targets.tolist() == [1, -100]
    assert [entry.batch.rows for entry in back.before] == [2, 1]
    assert back.before[0].batch.class_weights.tolist() == [0.5, 1.0, 2.0]


def test_a_person_can_read_it():
    network = gc.parse("2 -> Dense(2), MeanSquaredError")
    parameters = {"0.weight": np.array([[0.1, 2], [3, 4]], np.float32), "0.bias": np.zeros(2, np.float32)}
    text = encode(file_of(Case(network, parameters, Batch(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)))))
    assert text == encode(file_of(Case(network, parameters, Batch(np.ones((1, 2), np.float32), np.ones((1, 2), "f4")))))
    lines = text.decode().splitlines()
    assert lines[:4] == ["{", '  "gradconform": "case",', '  "version": 1,', '  "id": "5412b217",']
    start = lines.index('    "0.weight": [')
    # each row on a line of its own, and no more digits than tell the number from its neighbours
    assert lines[start + 1 : start + 5] == [
        "      [0.1, 2.0],",
        "      [3.0, 4.0]",
        "    ],",
        '    "0.bias": [0.0, 0.0]',
    ]
    assert json.loads(text)["dtype"] == "float32"
    assert max(map(len, lines)) <= 130


def test_what_was_found_is_any_json_can_hold(tmp_path):
    case = random_case("float64", np.random.default_rng(1))
    infinite = Found(check="loss", kind="NONFINITE", path="loss", key="k", sentence="s", actual="NaN", ratio="Infinity")
    assert written_and_read(tmp_path, file_of(case, found=infinite)).found == infinite


def test_versions_are_of_what_is_loaded():
    told = versions()
    assert told["gradconform"] == gc.__version__
    assert told["numpy"] == np.__version__
    assert ("torch" in told) == ("torch" in sys.modules)


def test_names_and_numbers_that_json_has_not(tmp_path):
    case = random_case("float64", np.random.default_rng(1))
    assert written_and_read(tmp_path, file_of(case, implementation="my\udcff.py:f")).implementation == r"my\udcff.py:f"
    finding = finding_from(file_of(case, found=Found(check="c", kind="k", path="p", key="k", sentence="s")))
    finding.factor = float("inf")
    assert found_of(finding).factor is None
    finding.factor = 0.5
    assert written_and_read(tmp_path, file_of(case, found=found_of(finding))).found.factor == 0.5
