"""The network as data: widths, parameters, JSON, and what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradconform import InvalidInput, Network
from gradconform.layers import GELU, Dense, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from gradconform.losses import BinaryCrossEntropy, CrossEntropy, Huber, MeanSquaredError, SoftmaxCrossEntropy

MLP = Network(4, (Dense(8), Tanh(), Dense(3, bias=False), LeakyReLU(0.2), Dense(2)), SoftmaxCrossEntropy())
HEAD = '{"inputs": 4, "layers": '
TAIL = ', "loss": {"kind": "Huber"}}'


def test_widths_go_into_each_layer_and_out_of_the_last():
    assert MLP.widths == (4, 8, 8, 3, 3, 2)


def test_parameters_are_named_by_the_layer_and_stand_in_its_order():
    assert list(MLP.parameters().items()) == [
        ("0.weight", (4, 8)),
        ("0.bias", (8,)),
        ("2.weight", (8, 3)),
        ("4.weight", (3, 2)),
        ("4.bias", (2,)),
    ]


def test_a_network_without_dense_layers_has_no_parameters():
    assert Network(3, (Tanh(),), MeanSquaredError()).parameters() == {}


def test_a_network_is_frozen_and_hashable():
    with pytest.raises(AttributeError, match="immutable"):
        MLP.inputs = 5
    assert len({MLP, Network.from_json(MLP.to_json())}) == 1


def test_a_list_of_layers_becomes_a_tuple():
    network = Network(4, [Dense(2)], MeanSquaredError())
    assert network.layers == (Dense(2),)
    assert hash(network) == hash(Network(4, (Dense(2),), MeanSquaredError()))


def test_networks_that_differ_in_one_option_differ():
    networks = {
        MLP,
        Network(5, MLP.layers, MLP.loss),
        Network(4, MLP.layers[:-1], MLP.loss),
        Network(4, (*MLP.layers[:-1], Dense(2, bias=False)), MLP.loss),
        Network(4, MLP.layers, SoftmaxCrossEntropy("sum")),
    }
    assert len(networks) == 5


def test_printing_gives_the_notation():
    assert str(Network(4, (Dense(3), Softmax()), CrossEntropy())) == "4 -> Dense(3) -> Softmax, CrossEntropy"


def test_the_json_is_plain():
    network = Network(4, (Dense(3), GELU("tanh")), Huber(delta=2.0))
    assert network.to_json() == (
        b'{"inputs":4,"layers":[{"kind":"Dense","units":3,"bias":true},{"kind":"GELU","approximate":"tanh"}],'
        b'"loss":{"kind":"Huber","reduction":"mean","delta":2.0,"scale":1.0}}'
    )
    assert Network.from_json(network.to_json()) == Network.from_json(network.to_json().decode()) == network


def test_json_may_leave_out_what_has_a_default():
    network = Network.from_json(HEAD + '[{"kind": "Dense", "units": 3}, {"kind": "ReLU"}]' + TAIL)
    assert network == Network(4, (Dense(3), ReLU()), Huber())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (Tanh(),), Huber()), "inputs must be at least 1, got 0"),
        ((4.0, (Tanh(),), Huber()), "inputs must be an integer, got 4.0"),
        ((4, (), Huber()), "layers: a network needs at least one layer"),
        ((4, Tanh(), Huber()), "layers: must be a tuple of layers, got Tanh()"),
        ((4, (Dense(3), "Tanh"), Huber()), "layers[1]: must be a layer such as Dense(8), got 'Tanh'"),
        (
            (4, (Huber(),), Huber()),
            "layers[0]: must be a layer such as Dense(8), got Huber(reduction='mean', delta=1.0, scale=1.0)",
        ),
        ((4, (Tanh(),), "Huber"), "loss: must be a loss such as MeanSquaredError(), got 'Huber'"),
        ((4, (Tanh(),), Tanh()), "loss: must be a loss such as MeanSquaredError(), got Tanh()"),
        (
            (4, (Dense(3), ReLU()), CrossEntropy()),
            "layers[1]: CrossEntropy takes probabilities: the last layer must be Softmax, got ReLU",
        ),
        (
            (4, (Sigmoid(), Dense(1)), BinaryCrossEntropy()),
            "layers[1]: BinaryCrossEntropy takes probabilities: the last layer must be Sigmoid, got Dense",
        ),
    ],
)
def test_a_wrong_network_is_refused_by_place(arguments, message):
    with pytest.raises(ValueError) as caught:
        Network(*arguments)
    assert str(caught.value) == message


class OnTwoLines:
    def __repr__(self):
        return "[1\n 2]"


def test_a_message_stays_on_one_line_whatever_was_given():
    with pytest.raises(ValueError) as caught:
        Network(4, (OnTwoLines(),), Huber())
    assert str(caught.value) == r"layers[0]: must be a layer such as Dense(8), got [1\n 2]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
        (HEAD + "[]" + TAIL, "layers: a network needs at least one layer"),
        (
            HEAD + '[{"kind": "Tanh"}, {"kind": "Dense", "units": 0}]' + TAIL,
            "layers[1]: units must be at least 1, got 0",
        ),
        (HEAD + '[{"kind": "Dense"}]' + TAIL, "layers[0]: Object missing required field `units`"),
        (HEAD + '[{"kind": "Dense", "units": "8"}]' + TAIL, "layers[0].units: Expected `int`, got `str`"),
        (
            HEAD + '[{"kind": "Dense", "units": 8, "bais": true}]' + TAIL,
            "layers[0]: Object contains unknown field `bais`",
        ),
        (HEAD + '[{"kind": "Conv"}]' + TAIL, "layers[0].kind: Invalid value 'Conv'"),
        (HEAD + '[{"kind": "Co\\nnv"}]' + TAIL, r"layers[0].kind: Invalid value 'Co\nnv'"),
        (HEAD + '[{"units": 8}]' + TAIL, "layers[0]: Object missing required field `kind`"),
        (HEAD + '[{"kind": "ReLU"}], "loss": {"kind": "CrossEntropy"}}', "layers[0]: CrossEntropy takes probabilities"),
        ('{"in\\u001bputs": 4}', r"Object contains unknown field `in\x1bputs`"),
        ('{"inputs": 1e400}', "inputs: Number out of range"),
        (HEAD + '[{"x": ' + "[" * 100_000, "nested too deeply"),
        ("\ud800", "surrogates not allowed"),
        (b"\xff", "malformed"),
    ],
)
def test_wrong_json_is_refused_by_place_on_one_line(text, message):
    with pytest.raises(InvalidInput) as caught:
        Network.from_json(text)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Dense", "Tanh", "Huber"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["inputs", "layers", "loss", "kind", "units", "a\nb"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
@example({"inputs": 4, "layers": [{"kind": "Dense", "units": 10**30}], "loss": {"kind": "Huber"}})
def test_any_json_is_a_network_or_invalid_input(value):
    check_json(json.dumps(value))


@given(st.text() | st.binary())
def test_any_text_is_a_network_or_invalid_input(text):
    check_json(text)


def check_json(text):
    try:
        network = Network.from_json(text)
    except InvalidInput as error:
        assert len(str(error).splitlines()) == 1, error
        assert str(error).isprintable()
    else:
        assert Network.from_json(network.to_json()) == network
