"""The notation: what it writes, reads back and refuses, and that nothing but InvalidInput comes out of a wrong text."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradconform import InvalidInput, Network, parse
from gradconform.layers import ELU, GELU, MOST_UNITS, Dense, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import (
    REDUCTIONS,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.notation import LAYERS, LOSSES, to_notation

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NOT_NEGATIVE = st.floats(0, allow_infinity=False)
REDUCTION = st.sampled_from(REDUCTIONS)
ANY_LAYER = st.one_of(
    st.builds(Dense, st.integers(1, MOST_UNITS) | st.integers(1, 20), bias=st.booleans()),
    st.builds(LeakyReLU, FINITE),
    st.builds(ELU, NOT_NEGATIVE),
    st.builds(GELU, st.sampled_from(["none", "tanh"])),
    st.sampled_from([Sigmoid(), Tanh(), ReLU(), Softplus(), SiLU(), Softmax()]),
)
ANY_LAST = st.one_of(
    st.tuples(
        ANY_LAYER,
        st.one_of(
            st.builds(
                SoftmaxCrossEntropy,
                REDUCTION,
                label_smoothing=st.floats(0, 1),
                ignore_index=st.none() | st.integers(),
            ),
            st.builds(SigmoidCrossEntropy, REDUCTION),
            st.builds(MeanSquaredError, REDUCTION),
            st.builds(Huber, REDUCTION, delta=st.floats(0, exclude_min=True, allow_infinity=False)),
        ),
    ),
    st.tuples(st.just(Softmax()), st.builds(CrossEntropy, REDUCTION)),
    st.tuples(
        st.just(Sigmoid()),
        st.builds(
            BinaryCrossEntropy,
            REDUCTION,
            log_floor=st.none() | FINITE,
            denominator_floor=st.none() | NOT_NEGATIVE,
        ),
    ),
)


@st.composite
def networks(draw):
    last, loss = draw(ANY_LAST)
    return Network(draw(st.integers(1, 50)), (*draw(st.lists(ANY_LAYER, max_size=4)), last), loss)


@given(networks())
def test_the_notation_is_read_back(network):
    text = to_notation(network)
    again = parse(text)
    assert again == network
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]
    assert to_notation(again) == text
    assert text.isprintable()


@given(networks(), st.data())
def test_spaces_do_not_matter(network, data):
    blanks = st.text(" \t\n", max_size=2)
    parts = to_notation(network).replace("->", " -> ").replace("(", " ( ").replace(")", " ) ").replace(",", " , ")
    text = "".join(part + data.draw(blanks) for part in parts.replace("=", " = ").split())
    assert parse(text) == network


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (
            Network(4, (Dense(8), Tanh(), Dense(3)), SoftmaxCrossEntropy()),
            "4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy",
        ),
        (Network(1, (Dense(2, bias=False),), MeanSquaredError()), "1 -> Dense(2, bias=False), MeanSquaredError"),
        (
            Network(3, (GELU("tanh"), ELU(0.5), LeakyReLU(-1e-05)), Huber("sum", delta=2.0)),
            "3 -> GELU(approximate=tanh) -> ELU(alpha=0.5) -> LeakyReLU(slope=-1e-05), Huber(reduction=sum, delta=2.0)",
        ),
        (
            Network(2, (Sigmoid(),), BinaryCrossEntropy(log_floor=-100.0)),
            "2 -> Sigmoid, BinaryCrossEntropy(log_floor=-100.0)",
        ),
    ],
)
def test_how_it_looks(network, text):
    assert to_notation(network) == text
    assert parse(text) == network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("4->Dense(8)->Tanh,Huber", Network(4, (Dense(8), Tanh()), Huber())),
        ("4 -> Dense(units=8), Huber()", Network(4, (Dense(8),), Huber())),
        ("4 -> Dense(8,), Huber(delta=2)", Network(4, (Dense(8),), Huber(delta=2.0))),
        ("4 -> LeakyReLU(slope=-1e-3), Huber", Network(4, (LeakyReLU(-0.001),), Huber())),
        ("4 -> GELU(approximate=none), Huber", Network(4, (GELU(),), Huber())),
        ("4 -> Tanh, SoftmaxCrossEntropy(ignore_index=None)", Network(4, (Tanh(),), SoftmaxCrossEntropy())),
    ],
)
def test_what_else_is_read(text, network):
    assert parse(text) == network


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected the number of inputs, but the text ends"),
        ("x -> Tanh, Huber", 1, "expected the number of inputs, got 'x'"),
        ("4.0 -> Tanh, Huber", 1, "expected the number of inputs, got '4.0'"),
        ("True -> Tanh, Huber", 1, "expected the number of inputs, got 'True'"),
        ("4", 2, "expected '->' and a layer, or ',' and the loss"),
        ("4 ->", 5, "expected a layer, but the text ends"),
        ("4 -> Tanh", 10, "expected '->' and a layer, or ',' and the loss"),
        ("4 Tanh, Huber", 3, "expected '->' and a layer, or ',' and the loss"),
        ("4 -> Tanh,", 11, "expected a loss, but the text ends"),
        ("4 -> Tanh, Huber -> Tanh", 18, "expected nothing after the loss"),
        ("4 -> Dens(8), Huber", 6, "layers[0]: unknown layer 'Dens'; did you mean Dense?"),
        ("4 -> Tanh -> relu, Huber", 14, "layers[1]: unknown layer 'relu'; did you mean ReLU?"),
        ("4 -> Conv, Huber", 6, "layers[0]: unknown layer 'Conv'; known: Dense, Sigmoid,"),
        ("4 -> Huber, Huber", 6, "layers[0]: unknown layer 'Huber'; known: "),
        ("4 -> Tanh, CrossEntrpy", 12, "loss: unknown loss 'CrossEntrpy'; did you mean CrossEntropy?"),
        ("4 -> Tanh, Tanh", 12, "loss: unknown loss 'Tanh'; known: SoftmaxCrossEntropy, "),
        ("4 -> Dense, Huber", 6, "layers[0]: Dense needs units, as in Dense(8)"),
        ("4 -> Dense(-2), Huber", 6, "layers[0]: units must be at least 1, got -2"),
        ("4 -> Dense(0), Huber", 6, "layers[0]: units must be at least 1, got 0"),
        ("4 -> Dense(8.5), Huber", 6, "layers[0]: units: Expected `int`, got `float`"),
        ("4 -> Dense(True), Huber", 6, "layers[0]: units: Expected `int`, got `bool`"),
        ("4 -> Dense(8, 9), Huber", 6, "layers[0]: Dense takes 1 positional value(s), write the others as name=value"),
        ("4 -> Tanh(3), Huber", 6, "layers[0]: Tanh takes 0 positional value(s)"),
        ("4 -> Dense(8, bais=False), Huber", 6, "layers[0]: Dense has no option 'bais'; known: bias, units"),
        ("4 -> Tanh(kind=ReLU), Huber", 6, "layers[0]: Tanh has no option 'kind'; known: none"),
        ("4 -> Dense(8, units=9), Huber", 6, "layers[0]: Dense has units twice"),
        ("4 -> Dense(8, bias=True, bias=False), Huber", 26, "option 'bias' stands twice"),
        ("4 -> Dense(8 bias=False), Huber", 14, "expected ',' or ')'"),
        ("4 -> Dense(8", 13, "expected ',' or ')'"),
        ("4 -> Dense(8, ->), Huber", 15, "expected an option or ')', got '->'"),
        ("4 -> Dense(units=), Huber", 18, "expected a value for 'units', got ')'"),
        ("4 -> Dense(units=", 18, "expected a value for 'units', but the text ends"),
        ("4 -> GELU(approximate=erf), Huber", 6, "layers[0]: approximate: Invalid enum value 'erf'"),
        ("4 -> ELU(alpha=nan), Huber", 6, "layers[0]: alpha must be a finite number, got nan"),
        ("4 -> ELU(alpha=1e999), Huber", 6, "layers[0]: alpha must be a finite number, got inf"),
        ("4 -> Tanh, Huber(delta=0)", 12, "loss: delta must be above 0, got 0"),
        ("4 -> Tanh, Huber(reduction=avg)", 12, "loss: reduction: Invalid enum value 'avg'"),
    ],
)
def test_a_wrong_text_is_refused_with_its_column(text, column, message):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert str(caught.value).startswith(f"{text!r}, column {column}: {message}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 -> Tanh, Huber", "inputs must be at least 1, got 0"),
        ("4, Huber", "layers: a network needs at least one layer"),
        (
            "4 -> Tanh, CrossEntropy",
            "layers[0]: CrossEntropy takes probabilities: the last layer must be Softmax, got Tanh",
        ),
    ],
)
def test_a_wrong_network_is_refused_by_place(text, message):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert str(caught.value) == f"{text!r}: {message}"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "4 -> Dense(" * 20_000,
        "4" + " -> Tanh" * 20_000,
        "a>" * 50_000,
        "a" * 200_000 + ">",
        " " * 200_000 + "x",
        "9" * 200_000,
        "4 -> Dense(" + "9" * 200_000 + "), Huber",
        "4 -> " + "Dense" * 40_000 + ", Huber",
        "4 -> Tanh(" + "a=1, " * 30_000,
    ],
    ids=lambda text: f"{text[:12]}...",
)
def test_a_huge_text_is_refused_soon_and_shortly(text):
    start = time.process_time()
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 500


def check(text):
    try:
        network = parse(text)
    except InvalidInput as error:
        message = str(error)
        assert message.isprintable(), message
        assert len(message.splitlines()) == 1
        assert len(message) < 1000
    else:
        assert parse(to_notation(network)) == network


WORDS = ["->", ",", "(", ")", "=", "units", "bias", "reduction", "alpha", "none", "None", "True"]
NUMBERS = ["1", "-1", "8", "0.5", "1e400", "nan", "1_0", "9" * 5000]
NOISE = ["-", ">", "\n", "\x1b[31m", "\x85", "\u2028", "\ud800", "\0"]
PIECES = st.sampled_from([*LAYERS, *LOSSES, *WORDS, *NUMBERS, *NOISE])


@given(st.text() | st.text("4->Dense(8), TanhHubr=\n\x1b\u2028"))
@example("4 -> Dense(\x1b=")
@example("4 -> Dense(8), Huber\u2028")
@example("4 -> Tanh, Huber(delta=\x85)")
def test_any_text_is_a_network_or_invalid_input(text):
    check(text)


@given(st.lists(PIECES, max_size=12).map(" ".join) | st.lists(PIECES, max_size=12).map("".join))
def test_any_row_of_words_is_a_network_or_invalid_input(text):
    check(text)


@given(networks(), st.data())
def test_any_edit_of_a_notation_is_a_network_or_invalid_input(network, data):
    text = to_notation(network)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    check(text[:start] + data.draw(PIECES | st.text(max_size=2)) + text[stop:])
