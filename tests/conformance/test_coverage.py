"""Coverage: what counts as met, of whom it is asked, and a run that met too little is not green."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from gradconform.capabilities import EVERYTHING, Capabilities
from gradconform.conformance.compare import Comparison, Outcomes
from gradconform.conformance.coverage import AXES, Coverage, missing_texts, told
from gradconform.conformance.engine import run
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.rotation import Rotation, rotation_of
from gradconform.conformance.summary import summary_of
from gradconform.layers import Softplus
from gradconform.losses import Huber
from gradconform.notation import parse
from gradconform.reference.backpropagation import gradients

NETWORK = parse("3 -> Dense(2) -> Tanh -> Dense(2) -> Softplus, Huber")
TELLING, VACUOUS = Outcomes(passed=2, vacuous=1), Outcomes(vacuous=3)


def comparison(path, look="global", outcomes=TELLING):
    return Comparison("any", path, outcomes=outcomes, look=look)


def told_by(*comparisons):
    summary = summary_of(comparisons, NETWORK)
    return told(NETWORK, tuple(itertools.compress(summary.arrays, summary.telling)))


def count(coverage, network, regime, *comparisons):
    coverage.count(network, regime, "float64", summary_of(comparisons, network))


@pytest.mark.parametrize(
    ("path", "look", "layers", "loss"),
    [
        ("0.weight", "global", {0, 1, 2, 3}, True),
        ("2.bias", "global", {2, 3}, True),
        ("input", "global", {0, 1, 2, 3}, True),
        ("delta 0", "global", {1, 2, 3}, True),
        ("output delta", "global", set(), True),
        ("2.bias", "local", {2}, False),
        ("delta 0", "local", {1}, False),
        ("input", "local", {0}, False),
        ("output delta", "local", set(), True),
        ("loss", "global", set(), True),
        ("output 1", "global", set(), False),
        ("anything else", "global", set(), False),
    ],
)
def test_a_gradient_has_come_back_through_the_layers_behind_its_place(path, look, layers, loss):
    assert told_by(comparison(path, look)) == (layers, True, loss)
    assert told_by(comparison(path, look, VACUOUS)) == (set(), False, False)


def test_several_gradients_tell_together():
    many = [comparison("2.weight"), comparison("delta 0", "local"), comparison("0.weight", outcomes=VACUOUS)]
    assert told_by(*many) == ({1, 2, 3}, True, True)


def covered(coverage, required=(), dtypes=("float64",), rotation=None):
    return coverage.covered("mine", rotation or Rotation(tuple(REGIMES)), dtypes, required)


def test_values_and_pairs_are_counted_by_cases():
    coverage = Coverage()
    for regime in ("tiny", "tiny", "large"):
        count(coverage, NETWORK, regime, comparison("0.weight"), comparison("2.bias"))
    found = covered(coverage)
    assert found.values["layer"] == {"Dense": 3, "Tanh": 3, "Softplus": 3}
    assert (found.values["regime"]["tiny"], found.values["regime"]["large"]) == (2, 1)
    assert found.values["regime"]["constant"] == 0
    assert list(found.values["regime"]) == list(REGIMES)
    assert found.pairs["layer x regime"]["Tanh"] == dict.fromkeys(REGIMES, 0) | {"tiny": 2, "large": 1}
    assert found.pairs["loss x reduction"] == {"Huber": {"mean": 3}}
    assert found.cells["layer", "Tanh", "regime", "tiny"] == 2
    assert found.cells["dtype", "float64"] == 3


def test_what_cannot_tell_does_not_count():
    coverage = Coverage()
    count(coverage, NETWORK, "tiny", comparison("0.weight", outcomes=VACUOUS), comparison("delta 2"))
    found = covered(coverage)
    assert found.values["layer"] == {"Dense": 0, "Tanh": 0, "Softplus": 1}
    assert found.pairs["layer x loss"] == {"Dense": {"Huber": 0}, "Tanh": {"Huber": 0}, "Softplus": {"Huber": 1}}


def test_what_is_refused_is_nobodys_to_meet():
    coverage = Coverage()
    count(coverage, parse("3 -> Dense(2) -> Tanh, Huber"), "tiny", comparison("0.weight"))
    coverage.refuse(parse("3 -> Dense(2) -> GELU, Huber"), "large", "float64")
    rotation = rotation_of(
        Capabilities(layers=("Tanh", "GELU", "SiLU"), losses=("Huber",)), 1, list(REGIMES), given=False
    )
    found = covered(coverage, AXES, rotation=rotation)
    assert set(found.values["layer"]) == {"Dense", "Tanh", "SiLU"}
    assert "GELU" not in found.pairs["layer x regime"]
    assert "large" not in found.values["regime"]
    assert "layer SiLU" in found.missing
    assert not {"layer GELU", "regime large", "layer Dense", "regime tiny"} & set(found.missing)


def test_real_data_have_no_regimes():
    coverage = Coverage()
    count(coverage, NETWORK, "", comparison("0.weight"))
    found = covered(coverage)
    assert "regime" not in found.values
    assert set(found.pairs) == {"layer x loss", "layer x dtype", "loss x reduction", "loss x dtype"}


def test_of_given_networks_only_the_pairs_that_are_there_are_asked():
    coverage = Coverage()
    for network in ("3 -> Dense(2) -> Tanh, Huber", "3 -> Dense(2), MeanSquaredError(reduction=sum)"):
        count(coverage, parse(network), "tiny", comparison("0.weight"))
    found = covered(coverage)
    assert found.pairs["layer x loss"] == {"Dense": {"MeanSquaredError": 1, "Huber": 1}, "Tanh": {"Huber": 1}}
    assert found.pairs["loss x reduction"] == {"MeanSquaredError": {"sum": 1}, "Huber": {"mean": 1}}


def test_an_extreme_regime_has_to_be_compared_where_it_may_tell_nothing():
    coverage = Coverage()
    count(coverage, NETWORK, "tiny", comparison("0.weight", outcomes=VACUOUS))
    missing = covered(coverage, ["regime"]).missing
    assert "regime tiny" not in missing
    assert "regime large" in missing
    # one that shows its steps is looked at closely enough
    count(coverage, NETWORK, "tiny", comparison("0.weight", "local", VACUOUS))
    assert "regime tiny" in covered(coverage, ["regime"]).missing


def test_what_is_missing_is_said_once_for_all_and_counted_where_it_is_much():
    found = [covered(Coverage()) for _ in range(3)]
    for entry, name in zip(found, "abc", strict=True):
        entry.implementation = name
    found[0].missing = found[1].missing = ["regime tiny", "layer ELU"]
    assert missing_texts(found) == ["a, b: nothing could be told of regime tiny, layer ELU"]
    found[2].missing = [f"regime {name}" for name in "uvwxy"] + ["loss Huber"]
    assert missing_texts(found)[1] == "c: nothing could be told of 5 regimes, 1 loss"


# runs


def covering(max_examples, implementation=None, required=AXES, networks=None, **more):
    options = {"witnesses": False, "networks": network_strategy(networks), "required": required, **more}
    return run(Plan([implementation or reference()], max_examples, 1, **options))


def test_a_run_of_six_structures_meets_everything_that_is_drawn():
    result = covering(24, draws=4)
    assert result.verdict == "passed"
    (found,) = result.coverage
    assert [len(found.values[axis]) for axis in AXES] == [len(REGIMES), 10, 6, 3, 2]
    assert all(found.cells[axis, value] > 0 for axis in AXES for value in found.values[axis])


def test_a_run_that_meets_too_little_is_not_covered():
    result = covering(4)
    assert (result.verdict, result.exit_code, result.passed) == ("not covered", 5, False)
    said = "NOT COVERED  what was compared agrees, but not everything was met that has to be: 4 networks"
    assert said in " ".join(str(result).split()).replace("NOT COVERED ", "NOT COVERED  ")
    assert any(note.endswith("; raise --max-examples or --max-time") for note in result.notes)
    assert covering(4, required=()).verdict == "passed"
    assert covering(4, required=["dtype"]).verdict == "passed"


def test_a_finding_matters_more_than_what_was_not_met():
    def wrong(*arguments):
        found = gradients(*arguments).parameters
        return {path: 2 * array for path, array in found.items()}

    assert covering(4, Implementation("mine", wrong), shrink_seconds=0, diagnose=False).verdict == "failed"


def test_what_an_implementation_refuses_does_not_make_a_run_red():
    def picky(network, parameters, batch):
        if any(isinstance(layer, Softplus) for layer in network.layers) or isinstance(network.loss, Huber):
            raise NotImplementedError("not yet")
        return gradients(network, parameters, batch)

    result = covering(48, Implementation("mine", picky, capabilities=EVERYTHING), draws=4)
    assert result.verdict == "passed"
    (found,) = result.coverage
    assert "Softplus" not in found.values["layer"]
    assert "Huber" not in found.values["loss"]


def test_given_networks_are_told_with_what_was_met():
    (found,) = covering(20, networks="3 -> Dense(2) -> Tanh -> Dense(2), Huber", required=()).coverage
    assert set(found.values["layer"]) == {"Dense", "Tanh"}
    assert set(found.values["regime"]) == set(REGIMES)


def test_the_table_is_in_the_json():
    result = msgspec.json.decode(covering(8, required=()).to_json())
    (found,) = result["coverage"]
    assert found["implementation"] == "reference"
    assert set(found["values"]) == set(AXES)
    assert set(found["pairs"]["layer x regime"]) == set(found["values"]["layer"])
