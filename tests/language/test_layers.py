"""The layers as data: what they hold, refuse, and turn into JSON and back."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconform.layers import (
    ELU,
    GELU,
    MOST_UNITS,
    Dense,
    Layer,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)

KINDS = get_args(Layer)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
LAYERS = st.one_of(
    st.builds(Dense, st.integers(1, MOST_UNITS), bias=st.booleans()),
    st.builds(LeakyReLU, FINITE),
    st.builds(ELU, st.floats(0, allow_infinity=False)),
    st.builds(GELU, st.sampled_from(["none", "tanh"])),
    st.sampled_from([Sigmoid(), Tanh(), ReLU(), Softplus(), SiLU(), Softmax()]),
)


def example(kind):
    return kind(8) if kind is Dense else kind()


@pytest.mark.parametrize("kind", KINDS)
def test_the_classes_are_siblings(kind):
    assert not [other for other in KINDS if other is not kind and issubclass(kind, other)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_frozen(kind):
    layer = example(kind)
    with pytest.raises(AttributeError, match="immutable"):
        layer.units = 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_another_kind_is_not_equal(kind):
    assert [other for other in KINDS if example(other) == example(kind)] == [kind]


@given(LAYERS)
def test_json_brings_the_same_layer_back(layer):
    text = msgspec.json.encode(layer)
    again = msgspec.json.decode(text, type=Layer)
    assert (again, type(again), hash(again)) == (layer, type(layer), hash(layer))
    assert msgspec.json.decode(text)["kind"] == type(layer).__name__


@given(LAYERS, st.integers(1, 50))
def test_only_dense_has_parameters_and_changes_the_width(layer, width):
    if isinstance(layer, Dense):
        shapes = {"weight": (width, layer.units), "bias": (layer.units,)}
        assert layer.parameters(width) == {name: shapes[name] for name in shapes if name == "weight" or layer.bias}
        assert next(iter(layer.parameters(width))) == "weight"
        assert layer.outputs(width) == layer.units
    else:
        assert layer.parameters(width) == {}
        assert layer.outputs(width) == width


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(0), "units must be at least 1, got 0"),
        (lambda: Dense(-3), "units must be at least 1, got -3"),
        (lambda: Dense(2.0), "units must be an integer, got 2.0"),
        (lambda: Dense(True), "units must be an integer, got True"),
        (lambda: LeakyReLU(float("nan")), "slope must be a finite number, got nan"),
        (lambda: LeakyReLU("0.1"), "slope must be a finite number, got '0.1'"),
        (lambda: ELU(float("inf")), "alpha must be a finite number, got inf"),
        (lambda: ELU(-1.0), "alpha must be at least 0, got -1"),
        (lambda: GELU("erf"), "approximate must be one of none, tanh; got 'erf'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_an_unknown_field_is_refused():
    with pytest.raises(msgspec.ValidationError, match="unknown field `unit`"):
        msgspec.json.decode(b'{"kind": "Dense", "unit": 8}', type=Layer)


def test_an_unknown_kind_is_refused():
    with pytest.raises(msgspec.ValidationError, match="'Conv2d'"):
        msgspec.json.decode(b'{"kind": "Conv2d"}', type=Layer)
