"""The conditions of a case: each is met by one case and not by another, and what is drawn meets them all."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter

import pytest
from hypothesis import Phase

from gradconform.conformance.conditions import CONDITIONS, conditions
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import reference
from gradconform.conformance.plan import Chunk, Enough, Plan, draw_examples, network_strategy
from gradconform.notation import parse

CLASSES = "4 -> Dense(3), SoftmaxCrossEntropy"
SQUARES = "4 -> Dense(3), MeanSquaredError"
IGNORING = "4 -> Dense(2), SoftmaxCrossEntropy(ignore_index=-100)"


def case(text, rows=3, seed=1, regime="ordinary", **more):
    draw = Draw(regime, seed)
    return Example(parse(text), rows, (draw,), **more).case(draw, "float64")


def labelled(text, *labels):
    """Return a case with the given integer labels."""
    where = case(text, len(labels))
    where.batch.targets.flags.writeable = True
    where.batch.targets[:] = labels
    return where


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("one sample", case(CLASSES, 1), case(CLASSES, 2)),
        ("several samples", case(CLASSES, 2), case(CLASSES, 1)),
        ("width 1", case("1 -> Dense(3), Huber"), case("2 -> Dense(3), Huber")),
        ("width 1", case("2 -> Dense(1) -> Tanh -> Dense(3), Huber"), case("2 -> Dense(3), Huber")),
        ("one class", case("4 -> Dense(1), SoftmaxCrossEntropy"), case("4 -> Dense(1), MeanSquaredError")),
        ("distinct widths", case("4 -> Dense(3) -> Dense(2), Huber"), case("4 -> Dense(3) -> Dense(4), Huber")),
        ("square layer", case("4 -> Dense(3) -> Tanh -> Dense(3), Huber"), case("4 -> Dense(3) -> Tanh, Huber")),
        ("several dense layers", case("4 -> Dense(3) -> Dense(3), Huber"), case("4 -> Dense(3) -> Tanh, Huber")),
        ("repeated labels", labelled(CLASSES, 1, 0, 1), labelled(CLASSES, 1, 0, 2)),
        ("repeated labels", labelled(IGNORING, 1, 1), labelled(IGNORING, 1, -100, -100)),
        ("absent labels", labelled(CLASSES, 1, 0, 1), labelled(CLASSES, 1, 0, 2)),
        ("absent labels", labelled(IGNORING, 1, -100), labelled(IGNORING, 1, -100, 0)),
        ("ignored labels", labelled(IGNORING, 1, -100), labelled(IGNORING, 1, 0)),
        ("ignored labels", labelled(CLASSES.replace("py", "py(ignore_index=0)"), 1, 0), labelled(CLASSES, 1, 0)),
        ("soft labels", case(CLASSES, labels="soft"), case(CLASSES, labels="one-hot")),
        ("soft labels", case(CLASSES, labels="soft"), case(SQUARES)),
        ("class weights", case(CLASSES, class_weights=True), case(CLASSES)),
        ("cotangent", case(SQUARES + "(reduction=none)"), case(SQUARES)),
        ("other memory order", case(CLASSES, layout="F"), case(CLASSES)),
        ("other memory order", case(CLASSES, layout="reversed"), case(CLASSES)),
    ],
)
def test_a_condition_is_met_by_one_case_and_not_by_another(name, one, other):
    assert name in conditions(one)
    assert name not in conditions(other)


@pytest.mark.parametrize("text", [SQUARES, "4 -> Dense(2), SigmoidCrossEntropy", "4 -> Tanh, Huber"])
def test_what_has_no_classes_has_no_labels(text):
    assert not {name for name in conditions(case(text)) if "label" in name or "class" in name}


def test_the_default_strategies_meet_all_of_them():
    met = Counter()
    drawn = []

    def count(example):
        if len(drawn) == 300:
            raise Enough
        drawn.append(example)
        met.update(conditions(example.case(example.draws[0], "float64")))

    with contextlib.suppress(Enough):
        for start in itertools.count():
            draw_examples(Plan([], seed=3), Chunk(start=start), [Phase.generate], count)
    assert set(met) == set(CONDITIONS)
    assert min(met.values()) > 3


def test_a_run_counts_what_it_met_in_each_look():
    networks = network_strategy("4 -> Dense(3) -> Tanh -> Dense(3), MeanSquaredError(reduction=none)")
    result = run(Plan([reference()], 24, 1, networks, dtypes=["float64"], witnesses=False))
    square = result.regimes["square layer"]
    assert square.cases == 24
    (tally,) = result.implementations
    assert sum(square.comparisons.values()) == tally.comparisons
    assert set(square.comparisons) == {"global", "local"}
    assert result.regimes["one sample"].cases + result.regimes["several samples"].cases == 24
    assert not {"width 1", "soft labels", "class weights"} & set(result.regimes)
