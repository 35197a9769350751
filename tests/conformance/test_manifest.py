"""The manifest: what is less than it pins is told with the numbers, and what is as much or more is left alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gradconform.conformance.coverage import Covered
from gradconform.conformance.manifest import Manifest, hold, manifest_of, misfit, read_manifest, told
from gradconform.conformance.results import Result, Tally
from gradconform.errors import InvalidInput

PLACE = "pin.json"
CHECKS = {"loss": 100, "parameters": 300, "stateless": 20, "delta-rows": 4}


def tally(name="torch", dtype="float64", networks=50, unsupported=0, **changed):
    checks = {**CHECKS, **{check.replace("_", "-"): count for check, count in changed.items()}}
    checks = {check: count for check, count in checks.items() if count}
    return Tally(
        name, "2.13", dtype, cases=networks, comparisons=sum(checks.values()), checks=checks, unsupported=unsupported
    )


def result(*tallies, met=("Tanh", "ReLU")):
    names = dict.fromkeys(entry.name for entry in tallies)
    values = {"layer": dict.fromkeys(met, 3) | {"ELU": 0}, "dtype": {"float64": 50}}
    return Result(
        verdict="passed", seed=1, seconds=1.0, networks=50, structures=10, implementations=list(tallies), findings=[],
        coverage=[Covered(implementation=name, values=values, pairs={}) for name in names],
    )  # fmt: skip


BOTH = (tally("jax"), tally(), tally(dtype="float32"))


@pytest.fixture
def pinned():
    return manifest_of(result(*BOTH), "ci", 50, Path())


def fewer(pinned, *tallies, **more):
    return hold(result(*tallies, **more), pinned, PLACE).fewer


def test_the_same_is_neither_less_nor_more(pinned):
    held = hold(result(*BOTH), pinned, PLACE)
    assert (held.fewer, held.more, held.others, told(held)) == ([], [], "", [])


def test_it_is_read_as_it_was_written_sorted_and_a_number_on_each_line(pinned, tmp_path):
    place = tmp_path / PLACE
    place.write_bytes(pinned.to_json())
    assert read_manifest(str(place)) == pinned
    again = manifest_of(result(*reversed(BOTH)), "ci", 50, Path())
    assert again.to_json() == pinned.to_json()
    assert '          "loss": 100,\n' in place.read_text("utf-8")
    assert pinned.met["torch"]["layer"] == ["ReLU", "Tanh"]


def test_an_implementation_a_dtype_and_a_check_that_vanish_are_told(pinned):
    assert fewer(pinned, tally(), tally(dtype="float32")) == [
        "jax is not compared any more: 424 comparisons are pinned"
    ]
    assert fewer(pinned, tally("jax"), tally()) == [
        "torch float32 is not compared any more: 424 comparisons are pinned"
    ]
    assert fewer(pinned, tally("jax"), tally(stateless=0), tally(dtype="float32")) == [
        "torch float64: stateless is not checked any more: 20 comparisons are pinned"
    ]
    assert fewer(pinned, tally(dtype="float32")) == [
        "jax is not compared any more: 424 comparisons are pinned",
        "torch float64 is not compared any more: 424 comparisons are pinned",
    ]


def test_fewer_comparisons_are_told_by_check_and_many_checks_in_one_line(pinned):
    assert fewer(pinned, tally("jax"), tally(loss=99, stateless=21), tally(dtype="float32")) == [
        "torch float64: 99 comparisons of loss, 100 are pinned"
    ]
    many = {f"check-{number}": 10 for number in range(6)}
    before = manifest_of(result(tally(**many)), "ci", 50, Path())
    less = dict.fromkeys(many, 9)
    assert fewer(before, tally(**less)) == [
        "torch float64: 478 comparisons, 484 are pinned: fewer of check-0, check-1, check-2, check-3, check-4, check-5"
    ]


def test_what_is_not_supported_any_more_is_told(pinned):
    assert fewer(pinned, tally("jax"), tally(networks=45, unsupported=5), tally(dtype="float32")) == [
        "torch float64: 45 networks, 50 are pinned; not supported: 5, pinned 0"
    ]


def test_what_is_not_met_any_more_is_told(pinned):
    assert fewer(pinned, *BOTH, met=("ReLU", "Softplus")) == [
        "jax: nothing could be told any more of layer Tanh",
        "torch: nothing could be told any more of layer Tanh",
    ]


def test_more_is_a_note_that_says_how_to_pin_it(pinned):
    held = hold(result(tally("jax", loss=101), *BOTH[1:], tally("jax", "float32")), pinned, PLACE)
    assert held.fewer == []
    assert told(held) == [
        "more was compared than pin.json pins: jax float64: 425 comparisons, 424 are pinned; jax float32 is new: 424 "
        "comparisons; to pin what this run compares: the same with --write-manifest pin.json"
    ]


def test_an_implementation_more_draws_other_networks_and_takes_nothing_away(pinned):
    held = hold(result(tally("jax", loss=60), *BOTH[1:], tally("mine.py:f")), pinned, PLACE)
    assert held.fewer == []
    assert told(held) == [
        "more was compared than pin.json pins: mine.py:f is new: 424 comparisons; to pin what this run compares: the "
        "same with --write-manifest pin.json",
        "other networks are drawn than pin.json pins, and held to half of it: it was pinned for jax, torch; to pin "
        "what this run compares: the same with --write-manifest pin.json",
    ]
    assert fewer(pinned, tally("jax", loss=10, parameters=100), *BOTH[1:], tally("mine.py:f")) == [
        "jax float64: 134 comparisons, 424 are pinned"
    ]


def test_other_releases_draw_other_networks_and_are_held_to_half(pinned):
    older = msgspec.structs.replace(pinned, drawn_by={**pinned.drawn_by, "hypothesis": "6.0"})
    half = {"loss": 51, "parameters": 160, "stateless": 12}
    held = hold(result(tally("jax", **half, delta_rows=0), *BOTH[1:], met=("ReLU",)), older, PLACE)
    assert (held.fewer, held.more) == ([], [])
    assert held.others.startswith("it was pinned with gradconform 0.1.0, hypothesis 6.0, numpy ")
    assert told(held)[0].startswith(
        "other networks are drawn than pin.json pins, and held to half of it: it was pinned "
    )
    assert fewer(older, tally("jax", parameters=80), *BOTH[1:]) == ["jax float64: 204 comparisons, 424 are pinned"]
    assert fewer(older, tally("jax", stateless=0), *BOTH[1:]) == [
        "jax float64: stateless is not checked any more: 20 comparisons are pinned"
    ]
    assert fewer(older, *BOTH[1:]) == ["jax is not compared any more: 424 comparisons are pinned"]


def test_a_run_that_is_not_the_one_that_was_pinned_is_told(pinned):
    assert misfit(pinned, "ci", 50, 1) is None
    assert misfit(pinned, None, 50, 1) is None
    assert misfit(pinned, "smoke", 50, 1) == (
        "pinned with profile ci, and this run has smoke: add --profile ci, or pin anew"
    )
    assert misfit(pinned, "ci", 24, 2) == (
        "pinned with max-examples 50, and this run has 24: add --max-examples 50, or pin anew"
    )
    assert misfit(pinned, "ci", 50, 2) == "pinned with seed 1, and this run has 2: add --seed 1, or pin anew"


def test_a_file_is_told_from_where_the_manifest_stands(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "mine.py").write_text("", "utf-8")
    monkeypatch.chdir(tmp_path)
    before = manifest_of(result(tally("mine.py:f")), "ci", 50, tmp_path)
    assert list(before.implementations) == list(before.met) == ["mine.py:f"]
    monkeypatch.chdir(tmp_path / "inner")
    held = hold(result(tally("../mine.py:f")), before, f"../{PLACE}")
    assert (held.fewer, held.more) == ([], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; write it with --write-manifest"),
        ("{", "not a manifest of gradconform: "),
        ("[]", "not a manifest of gradconform: "),
        ('{"schema": 1}', "not a manifest of gradconform: "),
        ('{"manifest": 2, "more": 1}', "a manifest of format 2, and this release reads 1"),
        ('{"manifest": 1, "profile": 3}', "not a manifest of gradconform: "),
        ("[" * 5000, "not a manifest of gradconform: "),
    ],
)
def test_what_is_no_manifest_is_told_in_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(PLACE).write_text(content, "utf-8")
    with pytest.raises(InvalidInput) as error:
        read_manifest(PLACE)
    assert str(error.value).startswith(f"pin.json: {message}")
    assert "\n" not in str(error.value)


def test_a_word_that_it_does_not_know_is_not_read_over(pinned, tmp_path):
    place = tmp_path / PLACE
    place.write_bytes(pinned.to_json().replace(b'"seed": 1', b'"seed": 1, "sed": 1'))
    with pytest.raises(InvalidInput):
        read_manifest(str(place))
    assert isinstance(pinned, Manifest)
