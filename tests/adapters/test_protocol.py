"""The messages of the protocol: they come back as they were, and what is none is told by its message and field."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gradconform.adapters import protocol
from gradconform.adapters.protocol import (
    BrokenMessage,
    batch_of,
    decode_answer,
    decode_request,
    encode,
    gradients_of,
    result_message,
    run_message,
)
from gradconform.adapters.tensors import Inbox, Outbox, Tensor
from gradconform.case import Batch, Gradients
from gradconform.errors import CandidateFailed, Unsupported
from gradconform.network import Network
from gradconform.notation import parse

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
NETWORK = parse("2 -> Dense(3) -> GELU(approximate=tanh) -> Dense(2), SoftmaxCrossEntropy(ignore_index=-7)")
SCHEMA = Path(__file__).parents[2] / "docs" / "protocol.schema.json"


def case(dtype, seed=0):
    rng = np.random.default_rng(seed)
    # in an order of memory that is not that of the message
    parameters = {
        p: np.asarray(rng.standard_normal(s).astype(dtype), order="F") for p, s in NETWORK.parameters().items()
    }
    weights = np.array([1, 3]).astype(dtype)
    return parameters, Batch(rng.standard_normal((4, 2)).astype(dtype), np.array([0, -7, 1, 0]), weights)


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_case_comes_back_bit_by_bit(tmp_path, dtype, in_files):
    parameters, batch = case(dtype)
    line = run_message(7, NETWORK, parameters, batch, Outbox(tmp_path, "run", large=0) if in_files else Outbox())
    run = decode_request(line)
    assert (run.id, run.network, run.dtype) == (7, NETWORK, np.dtype(dtype).name)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert (b".safetensors" in line) is in_files
    found, again = batch_of(run, Inbox(tmp_path))
    assert list(found) == list(parameters)
    assert all(same(found[path], parameters[path]) for path in parameters)
    assert all(same(getattr(again, name), getattr(batch, name)) for name in ("inputs", "targets", "class_weights"))
    assert again.cotangent is None


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_result_comes_back_bit_by_bit(tmp_path, dtype, in_files):
    parameters, batch = case(dtype)
    loss = np.array([np.nan, np.inf, -np.inf, -0.0], dtype)
    captured = Gradients(parameters, np.array(2, dtype), deltas={0: batch.inputs})
    slack = {"0.bias": np.array([1e-9, 0, 2])}
    mine = Gradients(parameters, loss, batch.inputs, {0: batch.inputs, 11: loss}, {2: loss}, captured, slack)
    line = result_message(3, mine, Outbox(tmp_path, "result", large=0) if in_files else Outbox())
    found = gradients_of(decode_answer(line), np.dtype(dtype).name, Inbox(tmp_path))
    assert all(same(found.parameters[path], parameters[path]) for path in parameters)
    np.testing.assert_array_equal(found.loss.astype(float), loss.astype(float))
    assert math.copysign(1, found.loss[3]) == -1
    assert same(found.input, batch.inputs)
    assert list(found.deltas) == [0, 11]
    assert same(found.deltas[11][3:], loss[3:])
    assert list(found.outputs) == [2]
    assert same(found.captured.loss, captured.loss)
    assert same(found.captured.deltas[0], batch.inputs)
    assert same(found.slack["0.bias"], slack["0.bias"])


@pytest.mark.parametrize(
    "number", [0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2**53 + 1, np.nextafter(1, 2), -0.0]
)
def test_every_double_reads_back_the_same(number):
    line = encode(protocol.Result(id=1, parameters={"p": Outbox().tensor("p", np.array([number], float))}))
    assert json.loads(line)["parameters"]["p"]["data"][0].hex() == float(number).hex()
    found = gradients_of(decode_answer(line), "float64", Inbox()).parameters["p"]
    assert float(found[0]).hex() == float(number).hex()


def test_what_is_not_finite_is_spelled_out():
    line = encode(protocol.Result(id=1, parameters={"p": Outbox().tensor("p", np.array([np.nan, np.inf, -np.inf, 1]))}))
    assert json.loads(line)["parameters"]["p"]["data"] == ["NaN", "Infinity", "-Infinity", 1.0]


def test_nine_digits_are_enough_for_float32_and_layouts_are_row_by_row():
    value = np.float32(1) / np.float32(3)
    tensor = Tensor(shape=[1], data=[float(f"{value:.9g}")])
    assert Inbox().array("p", tensor, "float32")[0] == value
    array = np.arange(6.0).reshape(2, 3)
    assert Outbox().tensor("p", array.T).data == [0, 3, 1, 4, 2, 5]
    assert Outbox().tensor("p", np.broadcast_to(np.array(2.0), (3,))).data == [2, 2, 2]


def test_what_overflows_the_dtype_is_infinite_without_a_warning():
    assert Inbox().array("p", Tensor(shape=[1], data=[1e300]), "float32")[0] == np.inf


def test_arrays_up_to_the_limit_stay_in_the_message(tmp_path):
    small, large = np.zeros(protocol_large()), np.zeros(protocol_large() + 1)
    outbox = Outbox(tmp_path, "run")
    assert outbox.tensor("small", small).file is None
    assert outbox.tensor("large", large).file == str(tmp_path / "run.safetensors")
    assert Outbox().tensor("large", large).file is None


def protocol_large():
    from gradconform.adapters.tensors import LARGE

    assert LARGE == 65_536
    return LARGE


def test_a_dtype_that_the_protocol_does_not_have_is_unsupported():
    with pytest.raises(Unsupported) as caught:
        Outbox().tensor("p", np.zeros(1, np.longdouble))
    assert "longdouble" in str(caught.value) or "float128" in str(caught.value)


RESULT = '{"type":"result","id":1,"parameters":{"0.bias":{"shape":[1],"data":[1]},"0.weight":%s}}'
NUMBER = 'expected a number, "NaN", "Infinity" or "-Infinity"'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello", "expected one JSON object, got 'hello'; print all else to standard error"),
        ("", "expected one JSON object, got an empty line; print all else to standard error"),
        ("[1]", "expected one JSON object, got '[1]'; print all else to standard error"),
        ("x" * 99, f"expected one JSON object, got '{'x' * 77}...'; print all else to standard error"),
        ("{}", "type: missing; known: started, result, skipped, errored"),
        ('{"type":"done"}', "type: unknown message 'done'; known: started, result, skipped, errored"),
        ('{"type":"result"}', "result: object missing required field parameters"),
        ('{"type":"result","id":"a","parameters":{}}', "result.id: expected int, got str"),
        ('{"type":"errored","message":"x","kind":"BAD"}', "errored.kind: unknown word 'BAD'"),
        (RESULT % "3", 'result.parameters["0.weight"]: expected object, got int'),
        (RESULT % '{"shape":[1]}', 'result.parameters["0.weight"]: expected shape and data, or file and name'),
        (RESULT % '{"shape":[-1],"data":[]}', 'result.parameters["0.weight"].shape[0]: expected int >= 0'),
        (RESULT % '{"shape":[1],"data":[1,null]}', f'result.parameters["0.weight"].data[1]: {NUMBER}, got null'),
        (RESULT % '{"shape":[1],"data":["nan"]}', f'result.parameters["0.weight"].data[0]: {NUMBER}, got "nan"'),
        (RESULT % '{"shape":[1],"data":[true]}', f'result.parameters["0.weight"].data[0]: {NUMBER}, got true'),
        (RESULT % '{"shape":[1],"data":[[1]]}', f'result.parameters["0.weight"].data[0]: {NUMBER}, got [1]'),
        (
            RESULT % '{"shape":[1],"data":[1e999]}',
            'result.parameters["0.weight"].data[0]: larger than any double: write "Infinity" or "-Infinity", '
            "with the quotes",
        ),
        (
            RESULT % '{"shape":[1],"data":[1],"dtype":"float8"}',
            'result.parameters["0.weight"].dtype: unknown dtype "float8"; '
            "known: float64, float32, bfloat16, float16, int64",
        ),
        (RESULT % '{"shape":[1],"data":[NaN]}', 'column 105: NaN is no JSON: write "NaN", with the quotes'),
        (RESULT % '{"shape":[1],"data":[-inf]}', 'column 106: -inf is no JSON: write "-Infinity", with the quotes'),
        (RESULT % '{"shape":[1],"data":[-nan]}', 'column 106: -nan is no JSON: write "NaN", with the quotes'),
        (RESULT % '{"shape":[1,"data":[1]}', "column 102: no JSON from ':[1]}}}' on"),
        (RESULT % '{"shape":[1],"data":[1,]}', "column 107: no JSON from ']}}}' on"),
        ('{"type":"result",', "column 18: the line ends inside the JSON: a message is one whole line"),
        ('{"type":"stopped"} {}', "column 20: no JSON from '{}' on"),
        (
            '{"type":"started","protocol":1,"name":"x","capabilities":{"dtype":["float32"]}}',
            "started.capabilities: object contains unknown field dtype",
        ),
    ],
)
def test_what_is_no_message_is_told_by_its_place(line, message):
    with pytest.raises(BrokenMessage) as caught:
        decode_answer(line.encode())
    assert str(caught.value) == message


def test_text_that_is_not_utf8_and_nesting_without_end_are_told():
    for line, message in (
        (b'{"type":"st\xff"}', "column 12: the text is not UTF-8"),
        (b'{"a":' * 9999, "the JSON is nested too deeply"),
    ):
        with pytest.raises(BrokenMessage) as caught:
            decode_answer(line)
        assert str(caught.value) == message


def test_unknown_words_of_capabilities_are_told_and_other_unknown_fields_ignored():
    with pytest.raises(BrokenMessage) as caught:
        decode_answer(b'{"type":"started","protocol":1,"name":"x","capabilities":{"losses":["Hubber"]}}')
    assert str(caught.value).startswith("started.capabilities")
    assert "Hubber" in str(caught.value)
    answer = decode_answer(b'{"type":"skipped","id":1,"reason":"x","later":[{}]}')
    assert (answer.id, answer.reason) == (1, "x")


@pytest.mark.parametrize(
    ("tensor", "kind", "detail"),
    [
        (
            {"shape": [10**9, 10**9], "data": [1]},
            "SHAPE",
            "1 numbers do not fill an array of shape [1000000000, 1000000000]",
        ),
        ({"shape": [0, 2**62, 2**62], "data": []}, "SHAPE", ""),
        ({"shape": [1] * 40, "data": [1]}, "SHAPE", "1 numbers do not fill an array of shape"),
        ({"shape": [], "data": []}, "SHAPE", "0 numbers do not fill an array of shape []"),
        ({"shape": [1], "data": [1.5], "dtype": "int64"}, "DTYPE", "1.5 is no int64"),
        ({"shape": [1], "data": [2**63], "dtype": "int64"}, "DTYPE", "9223372036854775808 is no int64"),
        ({"shape": [1], "data": [10**400]}, "CRASHED", "a number is larger than any double"),
        ({"file": "/etc/passwd", "name": "p"}, "CRASHED", "'/etc/passwd' is not read: files were not agreed on"),
    ],
)
def test_an_array_that_cannot_be_is_a_failure_that_names_it(tensor, kind, detail):
    with pytest.raises(CandidateFailed) as caught:
        Inbox().array("0.weight", Tensor(**tensor), "float64")
    assert (caught.value.kind, caught.value.what) == (kind, "0.weight")
    assert caught.value.detail.startswith(detail)


def test_the_folder_of_files_is_not_left(tmp_path):
    folder, secret = tmp_path / "folder", tmp_path / "secret.safetensors"
    folder.mkdir()
    outbox = Outbox(tmp_path, "secret", large=0)
    tensor = outbox.tensor("p", np.ones(3))
    outbox.write()
    assert Inbox(tmp_path).array("p", tensor, "float64").tolist() == [1, 1, 1]
    (folder / "link.safetensors").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    for path in (secret, folder / "link.safetensors", folder / ".." / secret.name, folder / "away" / secret.name):
        with pytest.raises(CandidateFailed) as caught:
            Inbox(folder).array("p", Tensor(file=str(path), name="p"), "float64")
        assert caught.value.kind == "CRASHED"
    with pytest.raises(CandidateFailed) as caught:
        Inbox(tmp_path, most_bytes=50).array("p", tensor, "float64")
    assert "bytes; the whole answer has at most 50" in caught.value.detail


def test_the_published_schema_is_that_of_the_records():
    published = json.loads(SCHEMA.read_text("utf-8"))
    # if it is not: gradconform protocol --schema > docs/protocol.schema.json
    assert published == json.loads(json.dumps(protocol.schema()))


def test_the_schema_names_every_layer_and_every_message():
    definitions = protocol.schema()["$defs"]
    assert {"Start", "Run", "Stop", "Started", "Result", "Skipped", "Errored", "Dense", "GELU", "Huber"} < set(
        definitions
    )
    assert {entry["$ref"] for entry in definitions["Tensor"]["oneOf"]} == {"#/$defs/Inline", "#/$defs/InFile"}
    references = set()

    def visit(value):
        if isinstance(value, dict):
            references.update([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        for entry in value if isinstance(value, list) else ():
            visit(entry)

    visit(protocol.schema())
    assert references <= {f"#/$defs/{name}" for name in definitions}


def test_the_words_of_failures_are_those_of_findings():
    from typing import get_args

    from gradconform.conformance.compare import Kind

    assert set(get_args(protocol.FailureKind)) == {kind.name for kind in Kind} - {"PASS", "WRONG"} - {"KINK"}


def test_a_network_with_all_its_options_is_in_the_message():
    line = run_message(1, NETWORK, *case(np.float64), Outbox())
    network = json.loads(line)["network"]
    assert network["layers"][0] == {"kind": "Dense", "units": 3, "bias": True}
    assert network["loss"]["label_smoothing"] == 0.0
    assert network["loss"]["ignore_index"] == -7
    assert Network.from_json(json.dumps(network)) == NETWORK
