"""What is drawn of a finding: the layer that its words name, units as far as they fit, numbers below their layers."""

from __future__ import annotations

import re

import pytest

from gradconform.conformance.report_network import MOST_LAYERS, Mark, finding_picture, mark_of
from gradconform.conformance.results import Finding, Step
from gradconform.notation import parse

NETWORK = "3 -> Dense(2) -> Tanh -> Dense(7), SoftmaxCrossEntropy"


def finding(path="0.bias", place="", steps=(), notation=NETWORK):
    return Finding(
        id="5412b217",
        implementation="mine",
        check="parameters",
        kind="WRONG",
        path=path,
        sentence=f"{path} is wrong",
        dtype="float64",
        network=parse(notation),
        notation=notation,
        rows=2,
        numbers="small integers",
        place=place,
        steps=list(steps),
    )


@pytest.mark.parametrize(
    ("path", "place", "mark"),
    [
        ("delta 0", "the backward pass of layers[1], Tanh: delta 1 above it is right", (1, 1, "backward")),
        ("output 2", "the forward pass of layers[2], Dense", (2, 2, "forward")),
        ("0.weight", "the delta between layers[2] and layers[0]: 2.bias and 2.weight are right", (1, 2, "enters here")),
        ("loss", "the cost, SoftmaxCrossEntropy: its input is right", (3, 3, "enters here")),
        ("output delta", "the gradient of the cost, SoftmaxCrossEntropy", (3, 3, "enters here")),
        ("0.bias", "0.bias itself: 0.weight, from the same delta, is right", (0, 0, "enters in 0.bias")),
        ("2.bias", "what is above layers[2], Dense: the forward pass, the cost, or ...", (2, 2, "wrong here")),
        ("2.bias", "", (2, 2, "wrong here")),
        ("delta 1", "", (1, 1, "wrong here")),
        ("loss", "", (3, 3, "wrong here")),
    ],
)
def test_the_mark_is_where_the_words_say(path, place, mark):
    first, last, words = mark
    found = mark_of(finding(path, place))
    assert found[:2] == (first, last)
    assert words in found.words


@pytest.mark.parametrize("path", ["gradients", "input", "9.bias", "delta 99999999999", "x.bias", "output 7"])
@pytest.mark.parametrize("place", ["", "the backward pass of layers[7], Tanh", "the delta between layers[0]"])
def test_what_names_no_layer_has_no_mark(path, place):
    assert mark_of(finding(path, place)) is None


def test_a_mark_is_a_place_and_words():
    assert mark_of(finding("loss")) == Mark(3, 3, "wrong here")


def test_units_that_do_not_fit_are_dots():
    picture = finding_picture(finding(), "network-1")
    assert picture.count("<circle") == 3 + 2 + 2 + 4
    assert picture.count(">⋮<") == 1
    assert "7 units" in picture


def test_numbers_stand_below_their_layers_and_say_without_colour_what_is_wrong():
    steps = [
        Step("0.weight", "parameters", 2.0, 2.0, 0.25),
        Step("0.bias", "parameters", 2.0, 1.0, 1e13, passed=False),
        Step("delta 1", "deltas", 3.0),
        Step("2.bias", "parameters", 2.0, "NaN", "Infinity", passed=False),
    ]
    picture = finding_picture(finding(steps=steps), "network-1")
    assert re.findall(r">([✓✗][^<]*)<", picture) == ["✓ 0.25", "✗ 1.0e+13", "✗ ∞"]
    assert "Beyond the bound: 0.bias, 2.bias." in picture
    assert "not returned" not in picture
    assert "nan" not in picture.lower()


def test_what_was_given_is_drawn_beside_what_is_expected():
    steps = [
        Step("output delta", "output-delta", 1.0, 1.0, 0.1),
        Step("delta 1", "deltas", 0.1, 10.0, 1e9, passed=False),
        Step("delta 0", "deltas", 0.01),
    ]
    picture = finding_picture(finding(steps=steps), "network-1")
    points = {
        kind: re.search(rf'<polyline points="([^"]*)" class="{kind}-line"', picture)[1]
        for kind in ("expected", "yours")
    }
    assert [len(line.split()) for line in points.values()] == [3, 2]
    assert "largest of the deltas dC/dz" in picture
    heights = [float(point.split(",")[1]) for point in points["expected"].split()]
    assert heights == sorted(heights, reverse=True)  # the larger, the higher


def test_a_network_that_is_too_deep_is_not_drawn():
    deep = f"1 -> Dense(1){' -> Tanh' * MOST_LAYERS}, MeanSquaredError"
    assert finding_picture(finding(notation=deep), "network-1") is None
