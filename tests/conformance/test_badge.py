"""The badge tells the verdict, by what shields.io asks of an endpoint."""

from __future__ import annotations

import json

import pytest

from gradconform.conformance.badge import badge
from gradconform.conformance.parts import Part
from gradconform.conformance.results import EXIT_CODES, Result, Tally
from gradconform.errors import InvalidInput

COMPARED = [Tally("torch", "2", "float64", comparisons=4000), Tally("jax", "0", "float64", comparisons=632)]


def result(verdict="passed", **more):
    return Result(
        verdict=verdict, seed=1, seconds=0.1, networks=1, structures=1, implementations=COMPARED,
        **{"findings": [], **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "message", "colour"),
    [
        ("passed", "4,632 comparisons agree", "brightgreen"),
        ("failed", "2 findings", "red"),
        ("broken", "broken", "red"),
        ("not covered", "not covered", "yellow"),
        ("nothing compared", "nothing compared", "yellow"),
        ("interrupted", "interrupted", "yellow"),
    ],
)
def test_each_verdict(verdict, message, colour):
    content = badge(result(verdict, findings=[None, None] if verdict == "failed" else []))
    assert json.loads(content) == {"schemaVersion": 1, "label": "gradients", "message": message, "color": colour}
    assert content.endswith(b"}\n")


def test_every_verdict_has_a_message():
    assert all(json.loads(badge(result(verdict)))["message"] for verdict in EXIT_CODES)


def test_one_finding_is_one():
    assert json.loads(badge(result("failed", findings=[None])))["message"] == "1 finding"


def test_the_label_is_one_short_line():
    label = json.loads(badge(result(), "mine\n" + "x" * 1000))["label"]
    assert label.startswith("mine\\nxxx")
    assert len(label) == 60


def test_a_shard_has_no_badge_and_a_merged_run_has():
    part = Part(run={}, rounds=[0], of=1)
    assert badge(result(part=part))
    part.shard = "1/2"
    with pytest.raises(InvalidInput, match=r"it is shard 1/2 of a run, .* gradconform report merge"):
        badge(result(part=part))
