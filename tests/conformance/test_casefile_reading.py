"""A case file that somebody changed, cut short or made to harm is one clear line."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest

import gradconform as gc
from gradconform.case import Batch, Case
from gradconform.conformance.casefile import CaseFile, Conditions, Found, encode
from gradconform.conformance.casefile_reading import read_case
from gradconform.errors import InvalidInput

NETWORK = gc.parse("2 -> Dense(3), SoftmaxCrossEntropy")


@pytest.fixture
def text():
    parameters = {"0.weight": np.ones((2, 3)), "0.bias": np.zeros(3)}
    case = Case(NETWORK, parameters, Batch(np.ones((2, 2)), np.array([1, 2])))
    earlier = Case(NETWORK, parameters, Batch(np.ones((1, 2)), np.array([0])))
    found = Found(check="parameters", kind="WRONG", path="0.bias", key="k", sentence="0.bias is wrong")
    return encode(
        CaseFile(
            id="5412b217",
            implementation="my_mlp.py:gradients",
            case=case,
            conditions=Conditions(checks=["loss"], kinks={"ReLU": 0.0}),
            found=found,
            seed=1,
            versions={},
            before=(earlier,),
        )
    ).decode()


@pytest.fixture
def said(tmp_path):
    """Return the line that reading a content ends with, without the name of the file."""

    def line(content):
        place = tmp_path / "case.json"
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        tracemalloc.start()
        try:
            with pytest.raises(InvalidInput) as caught:
                read_case(place)
            assert tracemalloc.get_traced_memory()[1] < 5 * len(content) + 2_000_000
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert message.startswith(f"{place}: ")
        assert "\n" not in message
        assert len(message) < 500 + len(str(place))
        return message.removeprefix(f"{place}: ")

    return line


def changed(text, **fields):
    return json.dumps({**json.loads(text), **fields})


def with_parameter(text, path, value):
    entries = json.loads(text)
    entries["parameters"][path] = value
    return json.dumps(entries)


def test_a_file_cut_short_anywhere(text, said):
    for length in range(1, len(text) - 2, 37):
        said(text[:length])


def test_another_kind_of_file(said):
    assert said("hello").startswith("JSON is malformed")
    assert said("{}") == 'not a case file: expected "gradconform": "case" and "version"'
    assert said("[]") == 'not a case file: expected "gradconform": "case" and "version"'
    assert said('{"gradconform": "result", "version": 1}') == 'not a case file: "gradconform" is \'result\', not "case"'
    assert said(b"\xff\xfe{}").startswith("JSON is malformed")


def test_other_versions(text, said):
    line = said(changed(text, version=2, news={}))
    assert line == "version 2 of the format, and this gradconform reads 1: a newer gradconform wrote it: install that"
    assert said(changed(text, version=0)).endswith("there is no such version")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"extra": 1}, "Object contains unknown field `extra`"),
        ({"id": "../../x"}, "id: expected 8 hexadecimal digits, got '../../x'"),
        ({"id": "5412B217"}, "id: expected 8 hexadecimal digits"),
        ({"dtype": "float128"}, "dtype 'float128' is unknown"),
        ({"dtype": "object"}, "dtype 'object' is unknown"),
        ({"network": {"inputs": 2, "layers": [], "loss": {"kind": "Huber"}}}, "network: layers: a network needs"),
        ({"network": "2 -> Dense(3), Huber"}, "network: Expected `object`, got `str`"),
        ({"parameters": {}}, "0.weight: the parameter is missing"),
        ({"inputs": [[1, 2], [3]]}, "inputs: expected numbers of shape (2, 2)"),
        ({"inputs": [[1, 2, 3], [3]]}, "inputs: expected numbers of shape (2, 2): a row has too few or too many"),
        ({"inputs": [[1, "2"], [3, 4]]}, "inputs[0][1]: Expected `float`, got `str`"),
        ({"inputs": [[1, True], [3, 4]]}, "inputs[0][1]: Expected `float`, got `bool`"),
        ({"inputs": [[1, None], [3, 4]]}, "inputs[0][1]: Expected `float`, got `null`"),
        ({"inputs": "[[[[["}, "inputs: expected numbers of shape (4, 2)"),
        ({"inputs": []}, "inputs: expected numbers of shape (1, 2)"),
        ({"inputs": [[]]}, "inputs: expected numbers of shape (1, 2)"),
        ({"inputs": None}, "inputs: expected numbers of shape (1, 2)"),
        ({"targets": [1, 3]}, "targets[1]: label 3 is not in 0..2"),
        ({"targets": [1, 2, 0]}, "targets: expected numbers of shape (2,)"),
        ({"targets": [1.5, 2]}, "targets[0]: Expected `int`, got `float`"),
        ({"targets": [1, 10**30]}, "targets"),
        ({"targets": [[1, 0, 0], [0, 2, 0]]}, "targets[1, 1]: 2 is not between 0 and 1"),
        ({"cotangent": [1.0, 1.0]}, "cotangent: only reduction none takes one, not mean"),
        ({"class_weights": [1.0, 1.0]}, "class_weights: expected numbers of shape (3,)"),
        ({"class_weights": [1.0, 1.0, -1.0]}, "class_weights: must be at least 0, got -1"),
        ({"layouts": {"inputs": "K"}}, "layouts[...]: Invalid enum value 'K'"),
        ({"layouts": {"loss": "F"}}, "layouts: there is no array 'loss'"),
        ({"seed": -1}, "seed and conditions.calls must be at least 0"),
        ({"seed": "1"}, "seed: Expected `int`, got `str`"),
        ({"conditions": {"checks": ["los"]}}, "conditions.checks: unknown check 'los'"),
        ({"conditions": {"checks": [], "timeout": 0}}, "conditions.timeout must be above 0, got 0"),
        ({"conditions": {"checks": [], "max_memory": 0}}, "conditions.max_memory must be at least 1, got 0"),
        ({"conditions": {"checks": [], "kinks": {"ReLU": 2}}}, "conditions.kinks.ReLU: expected a share from 0 to 1"),
        ({"conditions": {"checks": [], "more": 1}}, "conditions: Object contains unknown field `more`"),
        ({"found": {"check": "loss"}}, "found: Object missing required field `kind`"),
        ({"before": [{"parameters": {}, "inputs": [[1, 2]], "targets": [1]}]}, "before[0].0.weight: the parameter is"),
        ({"before": [{"inputs": [[1, 2]], "targets": [1]}]}, "before[0]: Object missing required field `parameters`"),
        ({"before": 17 * [{"parameters": {}, "inputs": [[1]], "targets": [1]}]}, "before: at most 16 earlier calls"),
    ],
)
def test_what_was_edited(text, said, fields, line):
    assert said(changed(text, **fields)).startswith(line)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("0.bias", [1, 2], "parameters.0.bias: expected numbers of shape (3,)"),
        ("0.bias", [[1, 2, 3]], "parameters.0.bias: expected numbers of shape (3,)"),
        ("0.bias", 1.0, "parameters.0.bias: expected numbers of shape (3,)"),
        ("0.bias", {"a": 1, "b": [2, 3]}, "parameters.0.bias: Expected `array`, got `object`"),
        ("1.bias", [1, 2], "parameters: the network has no '1.bias'; it has 0.weight, 0.bias"),
        ("../../x", [1], "parameters: the network has no '../../x'"),
        ("0.weight", [[1, 2, 3, 4], [1, 2]], "parameters.0.weight: expected numbers of shape (2, 3): a row"),
    ],
)
def test_parameters_that_were_edited(text, said, path, value, line):
    assert said(with_parameter(text, path, value)).startswith(line)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "1_0", "01"])
def test_numbers_that_are_none(text, said, number):
    said(text.replace("[1.0, 1.0]", f"[1.0, {number}]", 1))


def test_a_number_too_large_for_its_type(text, said):
    entries = json.loads(changed(text, dtype="float16", inputs=[[1, 2], [70000, 1]]))
    assert said(json.dumps(entries)) == "inputs[1, 0]: inf is not finite"


@pytest.mark.parametrize("units", [2**31 - 1, 2**40])
def test_a_network_larger_than_any_machine_allocates_nothing(text, said, units):
    network = {"inputs": units, "layers": [{"kind": "Dense", "units": units}], "loss": {"kind": "Huber"}}
    line = said(changed(text, network=network))
    assert "expected numbers of shape" in line or "must be at most" in line


def test_names_that_stand_twice(text, said):
    assert said(text.replace('"seed": 1', '"seed": 1, "seed": 2')) == "'seed' stands twice"
    assert said(text.replace('"0.bias"', '"0.bias": [1.0, 1.0, 1.0], "0.bias"', 1)) == "'0.bias' stands twice"
    assert said(text.replace('"seed": 1', '"seed": 1, "s\\u0065ed": 2')) == "'seed' stands twice"


@pytest.mark.parametrize("deep", ['{"a":', "["])
def test_nested_deeply(text, said, deep):
    said(deep * 100_000)
    nested = deep * 100_000 + ("1" + "}" * 100_000 if deep != "[" else "]" * 100_000)
    said(text.replace('"seed": 1', f'"seed": {nested}'))
    said(text.replace('"targets": [1, 2]', f'"targets": {nested}'))


def test_many_lists_and_names_are_not_made(text, said):
    said(text.replace('"targets": [1, 2]', f'"targets": [{",".join(["[]"] * 300_000)}]'))
    said(text.replace('"targets": [1, 2]', f'"targets": [{",".join(["{}"] * 300_000)}]'))


def test_a_long_text_is_gone_through_once(text, said):
    said(text.replace("my_mlp.py", "\\\\a" * 3_000_000).replace('"seed": 1', '"seed": -1'))


def test_sentences_move_no_cursor(text, tmp_path):
    place = tmp_path / "case.json"
    place.write_text(text.replace("0.bias is wrong", "\\u001b[2Jwrong"), "utf-8")
    assert read_case(place).found.sentence == "\\x1b[2Jwrong"


def test_what_is_no_file(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for place, line in [
        (pipe, "not a case file: it is no regular file"),
        (tmp_path, "not a case file: it is no regular file"),
        (tmp_path / "none.json", "no such file"),
        ("/dev/zero", "not a case file: it is no regular file"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            read_case(place)
        assert str(caught.value) == f"{place}: {line}"


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    place = tmp_path / "large.json"
    with place.open("wb") as stream:
        stream.truncate(5 << 30)  # a hole, which takes no room
    with pytest.raises(InvalidInput, match="a case file has at most 67,108,864"):
        read_case(place)
