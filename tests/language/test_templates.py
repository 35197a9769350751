"""Fixed architectures with free widths: what stands for a width, what fits, and every way to write it wrong."""

from __future__ import annotations

import pytest

from gradconform import InvalidInput, parse
from gradconform.templates import parse_template, with_free_widths

TEXTBOOK = "* -> Dense(*) -> Sigmoid -> Dense(*), MeanSquaredError"


def test_each_star_is_a_width_of_its_own():
    template = parse_template(TEXTBOOK)
    assert template.free == (-1, 0, 2)
    assert template.filled((3, 4, 5)) == parse("3 -> Dense(4) -> Sigmoid -> Dense(5), MeanSquaredError")


@pytest.mark.parametrize(
    ("text", "widths", "network"),
    [
        ("4 -> Dense(*, bias=False), Huber", (7,), "4 -> Dense(7, bias=False), Huber"),
        ("4 -> Dense(units=*), Huber", (7,), "4 -> Dense(7), Huber"),
        ("4 -> Dense(bias=False, units=*), Huber", (7,), "4 -> Dense(7, bias=False), Huber"),
        ("* -> Dense(2) -> Dense(*), Huber(delta=2)", (1, 1), "1 -> Dense(2) -> Dense(1), Huber(delta=2)"),
        ("*->Dense(*)->Softmax,CrossEntropy", (2, 3), "2 -> Dense(3) -> Softmax, CrossEntropy"),
    ],
)
def test_where_a_star_stands(text, widths, network):
    assert parse_template(text).filled(widths) == parse(network)


def test_a_network_is_a_template_that_only_itself_fits():
    text = "2 -> Dense(3), Huber"
    template = parse_template(text)
    assert template.free == ()
    assert template.filled(()) == parse(text)
    assert template.fits(parse(text))
    assert not template.fits(parse("3 -> Dense(3), Huber"))


@pytest.mark.parametrize(
    ("network", "fits"),
    [
        ("3 -> Dense(4) -> Sigmoid -> Dense(5), MeanSquaredError", True),
        ("1 -> Dense(1) -> Sigmoid -> Dense(1), MeanSquaredError", True),
        ("3 -> Dense(4) -> Tanh -> Dense(5), MeanSquaredError", False),
        ("3 -> Dense(4) -> Sigmoid -> Dense(5), MeanSquaredError(reduction=sum)", False),
        ("3 -> Dense(4) -> Sigmoid -> Dense(5), Huber", False),
        ("3 -> Dense(4) -> Sigmoid -> Dense(5, bias=False), MeanSquaredError", False),
        ("3 -> Dense(4) -> Sigmoid, MeanSquaredError", False),
        ("3 -> Tanh -> Sigmoid -> Dense(5), MeanSquaredError", False),
    ],
)
def test_what_fits(network, fits):
    assert parse_template(TEXTBOOK).fits(parse(network)) is fits


FREE = "a free width, '*', is the number of inputs or the units of Dense(*)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4 -> *, Huber", f"'4 -> *, Huber', column 6: {FREE}"),
        ("4 -> Dense(3), Huber(delta=*)", f"'4 -> Dense(3), Huber(delta=*)', column 28: {FREE}"),
        ("4 -> Dense(3, bias=*), Huber", f"'4 -> Dense(3, bias=*), Huber', column 20: {FREE}"),
        (
            "* -> Dens(*), Huber",
            "'* -> Dens(*), Huber', column 6: layers[0]: unknown layer 'Dens'; did you mean Dense?",
        ),
        ("* -> Dense(*)", "'* -> Dense(*)', column 14: expected '->' and a layer, or ',' and the loss"),
        ("** -> Dense(*), Huber", "'** -> Dense(*), Huber', column 1: expected the number of inputs, got '**'"),
        ("* -> Dense(*) -> Tanh, BinaryCrossEntropy", "the last layer must be Sigmoid, got Tanh"),
    ],
)
def test_a_mistake_is_told_with_its_column(text, message):
    with pytest.raises(InvalidInput) as caught:
        parse_template(text)
    assert str(caught.value).endswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "column"), [("* -> Dense(3), Huber", 1), ("4 -> Dense(*), Huber", 12)])
def test_a_network_itself_has_no_free_width(text, column):
    with pytest.raises(InvalidInput, match=rf"column {column}: a free width, '\*', stands in networks= and --network"):
        parse(text)


def test_text_with_a_free_width_stays_text():
    assert with_free_widths(TEXTBOOK) == TEXTBOOK
    assert with_free_widths("2 -> Dense(3), Huber") == parse("2 -> Dense(3), Huber")
    with pytest.raises(InvalidInput, match="column 6"):
        with_free_widths("* -> Dens(*), Huber")
