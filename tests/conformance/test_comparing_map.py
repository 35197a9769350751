"""The map between the parameters of two models: read, guessed, proposed, and refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from gradconform import InvalidInput
from gradconform.conformance.comparing_map import (
    Link,
    NameMap,
    NoUniqueMap,
    guessed_links,
    known_links,
    proposal,
    read_map,
)

TITLES = ("a.py:model", "b.py:model")
MAP = """
[parameters]
"fc1.weight" = { name = "dense/kernel", transpose = true }
"fc1.bias" = "dense/bias"
"conv.weight" = { name = "conv/kernel", axes = [2, 3, 1, 0], reshape = [9, 2, 4] }
[outputs]
"fc1" = "hidden"
[ignore]
first = ["aux"]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "map.toml").write_text(text, encoding="utf-8")
        return "map.toml"

    return write


def test_a_map_file(file):
    names = read_map(file(MAP))
    assert names.parameters["fc1.bias"] == Link("fc1.bias", "dense/bias")
    assert names.parameters["fc1.weight"] == Link("fc1.weight", "dense/kernel", reverse=True)
    assert names.parameters["conv.weight"] == Link("conv.weight", "conv/kernel", (2, 3, 1, 0), (9, 2, 4))
    assert names.outputs == {"fc1": Link("fc1", "hidden")}
    assert names.ignore == {"first": ("aux",)}
    assert read_map(None) is None
    assert read_map({"w": "v"}).parameters == {"w": Link("w", "v")}


def test_a_proposal_is_a_map_file(file):
    links = list(read_map(file(MAP)).parameters.values())
    text = proposal(links, ["left"], ["over", "more"])
    again = read_map(file(text))
    assert list(again.parameters.values()) == links
    assert again.ignore == {"first": ("left",), "second": ("over", "more")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[parameters", "map.toml: not a TOML file: Expected ']'"),
        ("[parameter]\n", "map.toml: unknown section [parameter]; did you mean 'parameters'?"),
        ("parameters = 3", "map.toml: [parameters]: expected a table"),
        (
            "[parameters]\nfc1.weight = 'w'",
            "map.toml: [parameters] 'fc1': unknown option 'weight'; it has name, transp",
        ),
        ("[parameters]\nw = 3", 'map.toml: [parameters] \'w\': expected "name" or { name = "...", transpose = true }'),
        ("[parameters]\nw = { transpose = true }", "map.toml: [parameters] 'w': expected name = \"...\""),
        (
            "[parameters]\nw = { name = 'v', transposed = true }",
            "map.toml: [parameters] 'w': unknown option 'transposed'",
        ),
        (
            "[parameters]\nw = { name = 'v', axes = [1, -1] }",
            "map.toml: [parameters] 'w': axes: expected a list of whole",
        ),
        (
            "[parameters]\nw = { name = 'v', transpose = 1 }",
            "map.toml: [parameters] 'w': transpose: expected true or fal",
        ),
        (
            "[parameters]\nw = { name = 'v', transpose = true, axes = [1, 0] }",
            "map.toml: [parameters] 'w': give transpose or axes, not both",
        ),
        ("[parameters]\nw = 'v'\nu = 'v'", "map.toml: [parameters]: 'v' stands for two names of the first model"),
        ("[ignore]\nboth = ['w']", "map.toml: [ignore] both: expected first or second = [names]"),
        ("[ignore]\nfirst = 'w'", "map.toml: [ignore] first: expected a list of names"),
    ],
)
def test_what_is_refused(file, text, message):
    with pytest.raises(InvalidInput) as caught:
        read_map(file(text))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_file():
    with pytest.raises(InvalidInput, match=r"nowhere\.toml: no such file"):
        read_map("nowhere.toml")


@pytest.mark.parametrize(
    ("first", "second", "ignore", "message"),
    [
        (
            {"w": (2, 3)},
            {"v": (2, 3), "u": (1,)},
            {},
            "u of b.py:model: in no line of [parameters]; map what belongs tog",
        ),
        ({"w": (2, 3), "x": (1,)}, {"v": (2, 3)}, {}, "x of a.py:model: in no line of [parameters]; map what belongs"),
        ({"W": (2, 3)}, {"v": (2, 3)}, {}, "a.py:model has no parameter 'w'; it has W"),
        ({"w": (2, 3)}, {"vv": (2, 3)}, {}, "b.py:model has no parameter 'v'; did you mean 'vv'?"),
        (
            {"w": (2, 3)},
            {"v": (3, 2)},
            {},
            "w and v: shape (2, 3), but the second model has (3, 2); write transpose = true",
        ),
        ({"w": (2, 3)}, {"v": (2, 3)}, {"second": ("v",)}, "'v' is mapped and ignored"),
        ({"w": (2, 3)}, {"v": (2, 3)}, {"first": ("x",)}, "a.py:model has no parameter 'x'; it has w"),
    ],
)
def test_a_map_is_held_against_the_models(first, second, ignore, message):
    names = NameMap({"w": Link("w", "v")}, {}, ignore)
    with pytest.raises(InvalidInput) as caught:
        known_links(names, first, second, TITLES)
    assert str(caught.value).startswith(f"the map: {message}")


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (Link("w", "v", axes=(0, 2)), "axes [0, 2] are not those of shape (2, 3)"),
        (Link("w", "v", shape=(5,)), "shape (2, 3) cannot be reshaped to [5]"),
        (Link("w", "v", shape=(3, 2)), "shape (2, 3) becomes (3, 2) by the map, but the second model has (6,)"),
    ],
)
def test_a_link_that_does_not_fit(link, message):
    assert link.fits((2, 3), (6,)) == message


@pytest.mark.parametrize(
    "link",
    [
        Link("w", "v"),
        Link("w", "v", reverse=True),
        Link("w", "v", axes=(1, 2, 0)),
        Link("w", "v", shape=(6, 4)),
        Link("w", "v", axes=(2, 0, 1), shape=(8, 3)),
    ],
)
def test_what_is_carried_comes_back(link):
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(link.brought_back(link.carried(array), array.shape), array)


def test_equal_names_and_then_unique_shapes():
    first = {"fc1.weight": (5, 4), "fc1.bias": (5,), "conv": (7, 2, 3, 3), "same": (4, 4)}
    second = {"conv/kernel": (3, 3, 2, 7), "fc1/bias": (5,), "kernel": (4, 5), "same": (4, 4)}
    assert guessed_links({"w": (3, 4), "b": (3,)}, {"kernel": (4, 3), "bias": (3,)}, TITLES) == [
        Link("w", "kernel", reverse=True),
        Link("b", "bias"),
    ]
    assert guessed_links(first, second, TITLES) == [
        Link("fc1.weight", "kernel", reverse=True),
        Link("fc1.bias", "fc1/bias"),
        Link("conv", "conv/kernel", axes=(2, 3, 1, 0)),
        Link("same", "same"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": (4,), "b": (4,)}, {"x": (4,), "y": (4,)}),  # two of one shape
        ({"a": (3, 3)}, {"x": (3, 3)}),  # transposed or not
        ({"a": (3, 2)}, {"x": (3, 2), "y": (7,)}),  # one left over
        ({"a": (3, 2), "b": (1,)}, {"x": (3, 2)}),
        ({"a": (3, 2), "b": (2, 3)}, {"x": (3, 2), "y": (2, 3)}),  # each may be the other's transpose
    ],
)
def test_what_names_and_shapes_do_not_tell_is_proposed(first, second, file):
    with pytest.raises(NoUniqueMap, match="names and shapes do not tell which parameters of") as caught:
        guessed_links(first, second, TITLES)
    names = read_map(file(caught.value.proposal))
    assert known_links(names, first, second, TITLES)  # complete: it can be used as it is
