"""Cases that are computed at once, by vmap: who is judged on them, and what is wrong in them alone."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from gradconform import Gradients, Unsupported, parse
from gradconform.case import Batch
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.casefolder import Keeper
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import _told_apart, check, run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.focus import Focus
from gradconform.conformance.implementations import Implementation, resolve
from gradconform.conformance.judge import Judgement, judge_together
from gradconform.conformance.merging import merged
from gradconform.conformance.message import result_text
from gradconform.conformance.parts import Part, differing
from gradconform.conformance.plan import ALONE, BROAD, DEEP, SEVERAL, Plan, networks_before
from gradconform.conformance.replay import replay
from gradconform.conformance.run_record import header_of
from gradconform.conformance.screening import Screened
from gradconform.conformance.several import by_vmap, require_all
from gradconform.conformance.shards import part_of
from gradconform.conformance.situation import situations_of
from gradconform.conformance.stack import stacked
from gradconform.errors import CandidateFailed
from gradconform.reference.backpropagation import gradients

TEXT = "3 -> Dense(2) -> Tanh -> Dense(2), SoftmaxCrossEntropy"
REGIMES = ("ordinary", "integers", "large", "zero-weights", "saturated")
MANY = networks_before(BROAD + 1)


def several_of(compute):
    """Return what computes several cases, one after the other."""

    def several(network, parameters, batch):
        found = []
        for index in range(len(batch.inputs)):
            own = {path: array[index] for path, array in parameters.items()}
            parts = [None if array is None else array[index] for array in vars(batch).values()]
            found.append(compute(network, own, Batch(*parts)))
        return stacked(found)

    return several


SEVERALLY = several_of(gradients)


def framework(compute=gradients, several=SEVERALLY, name="own"):
    """Return an implementation that is ours, with one by vmap."""
    entry = replace(resolve("reference"), name=name, gradients=compute)
    return replace(entry, by_vmap=by_vmap(entry, several))


def stack():
    example = Example(parse(TEXT), 3, tuple(Draw(name, seed) for seed, name in enumerate(REGIMES)))
    return situations_of([example.case(draw, "float64") for draw in example.draws])


def judged(several, single=gradients, **more):
    """Return what comes of cases that are computed at once."""
    entry = replace(framework().by_vmap, gradients=single, several=several)
    return list(judge_together(entry, stack(), list(CHECKS.values()), **more))


def doubled(found, path="2.weight", members=slice(None)):
    found.parameters[path][members] *= 2
    return found


# who is judged


def plan(*implementations, **more):
    return Plan(implementations or [framework()], **{"max_examples": MANY, **more})


def test_beside_a_framework_its_vmap_is_judged_where_structures_have_many_cases():
    wanted = plan()
    assert [(name, entry.name) for name, entry in wanted.beside.items()] == [("own", "own.vmap")]
    assert [entry.name for entry in wanted.everyone] == ["own", "own.vmap"]
    assert [(entry.name, count) for entry, count in wanted.calls(DEEP)] == [("own", ALONE), ("own.vmap", DEEP)]
    assert [(entry.name, count) for entry, count in wanted.calls(SEVERAL)] == [("own", ALONE), ("own.vmap", SEVERAL)]
    assert [(entry.name, count) for entry, count in wanted.calls(SEVERAL - 1)] == [("own", SEVERAL - 1)]


@pytest.mark.parametrize(
    "more",
    [
        {"max_examples": networks_before(BROAD)},
        {"rounds": range(BROAD)},
        {"affine": True},
        {"checks": [check for check in CHECKS.values() if check.relation]},
        {"draws": SEVERAL - 1},
        {"focus": Focus(draws=4)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_where_it_would_show_nothing_it_is_not_judged(more):
    assert plan(**more).beside == {}
    assert [entry.name for entry in plan(**more).everyone] == ["own"]
    assert [(entry.name, count) for entry, count in plan(**more).calls(DEEP)] == [("own", DEEP)]


@pytest.mark.parametrize(
    "more", [{"rounds": [BROAD]}, {"draws": SEVERAL, "max_examples": 40}, {"focus": Focus(draws=64)}]
)
def test_with_many_cases_of_each_structure_it_is(more):
    assert list(plan(**more).beside) == ["own"]


def test_what_is_asked_for_by_itself_is_not_judged_beside():
    entry = framework()
    assert plan(entry, entry.by_vmap).beside == {}
    assert plan(entry.by_vmap).beside == {}
    assert plan(Implementation("mine", gradients)).beside == {}


def test_what_is_fresh_knows_nothing():
    entry = framework()
    for one in (entry, entry.by_vmap):
        one.kinks["ReLU"] = 1.0
        one.guard.heard["a warning"] += 1
    for one in (entry.fresh(), entry.fresh().by_vmap):
        assert (one.kinks, one.guard.heard, one.guard.ours) == ({}, {}, True)
    assert entry.kinks


def test_two_of_one_name_are_told_apart_and_one_of_them_has_a_vmap():
    told = plan(*_told_apart([framework(), framework()]))
    assert [entry.name for entry in told.everyone] == ["own", "own.vmap", "own (2)"]


# a single case


def test_a_single_case_stands_between_two_others():
    asked = []

    def several(network, parameters, batch):
        asked.append((parameters, batch))
        return SEVERALLY(network, parameters, batch)

    draw = Draw("ordinary", 1)
    case = Example(parse(TEXT), 3, (draw,), "integer", True).case(draw, "float64")
    found = framework(several=several).by_vmap.gradients(case.network, case.parameters, case.batch)
    np.testing.assert_array_equal(found.loss, gradients(case.network, case.parameters, case.batch).loss)
    ((parameters, batch),) = asked
    for own, given in ((case.parameters, parameters), (vars(case.batch), vars(batch))):
        for name, array in own.items():
            if array is not None:
                np.testing.assert_array_equal(given[name][1], array)
                assert not np.array_equal(given[name][0], array)
                assert np.abs(given[name]).max() == np.abs(array).max()
                np.testing.assert_array_equal(given[name][0], given[name][2])


@pytest.mark.parametrize(
    ("array", "name"), [("loss", "loss"), ("input", "input"), ("deltas", "delta 0"), ("outputs", "output 0")]
)
def test_what_is_not_of_all_cases_is_named(array, name):
    draw = Draw("ordinary", 1)
    case = Example(parse("3 -> Dense(2), Huber"), 4, (draw,)).case(draw, "float64")
    one = gradients(case.network, case.parameters, case.batch)
    found = stacked([one, one])
    require_all(found, 2)
    alone = {0: getattr(one, array)[0]} if name.endswith("0") else getattr(one, array)
    with pytest.raises(CandidateFailed) as caught:
        require_all(replace(found, **{array: alone}), 2)
    assert (caught.value.kind, caught.value.what) == ("SHAPE", name)
    assert caught.value.detail.startswith("expected 2 cases side by side, got shape (")


# judging


def test_all_that_agrees_is_screened_from_one_call():
    calls = []

    def several(*arguments):
        calls.append(len(arguments[2].inputs))
        return SEVERALLY(*arguments)

    found = judged(several, lambda *_: pytest.fail("called one by one"), relations=False)
    assert all(isinstance(one, Screened) for one in found)
    assert calls == [len(REGIMES)]


@pytest.mark.parametrize("place", range(len(REGIMES)))
def test_a_wrong_member_is_judged_by_itself_and_told_of_it_alone(place):
    first = stack()[place].case.parameters["0.weight"]

    def single(network, parameters, batch):
        found = gradients(network, parameters, batch)
        found.parameters["2.bias"][...] += np.array_equal(parameters["0.weight"], first)
        return found

    found = judged(several_of(single), single)
    for index, one in enumerate(found):
        root = one.root if isinstance(one, Judgement) else None
        assert (root is not None) == (index == place), index
    assert (found[place].root.path, found[place].root.detail) == ("2.bias", "")


@pytest.mark.parametrize("relations", [True, False])
@pytest.mark.parametrize("place", [0, 2])
def test_what_is_wrong_in_that_one_call_alone_is_told_as_such(place, relations):
    found = judged(lambda *arguments: doubled(SEVERALLY(*arguments), members=place), relations=relations)
    for index, one in enumerate(found):
        root = one.root if isinstance(one, Judgement) else None
        assert (root is not None) == (index == place), index
    root = found[place].root
    assert (root.check, root.kind.name, root.path) == ("parameters", "WRONG", "2.weight")
    assert root.detail == "so in one call for 5 cases, and not in a call for this one between two others"


def test_a_call_that_crashes_is_told_of_the_first_and_the_others_are_called():
    def several(network, parameters, batch):
        raise RuntimeError("too many")

    found = judged(several)
    assert (found[0].root.kind.name, found[0].root.check) == ("CRASHED", "call")
    assert "RuntimeError: too many" in found[0].root.detail
    assert "in one call for 5 cases" in found[0].root.detail
    assert all(isinstance(one, Screened) or one.root is None for one in found[1:])


def test_what_one_case_keeps_from_being_supported_is_asked_one_by_one():
    def single(network, parameters, batch):
        if not parameters["0.weight"].any():
            raise Unsupported("own: no rule for zeros")
        return gradients(network, parameters, batch)

    found = judged(several_of(single), single)
    refused = [getattr(one, "unsupported", None) for one in found]
    assert refused == [None, None, None, "own: no rule for zeros", None]
    assert all(isinstance(one, Screened) or one.root is None for one in found)


@pytest.mark.parametrize(
    ("change", "kind", "path"),
    [
        (lambda found: replace(found, loss=found.loss.sum()), "SHAPE", "loss"),
        (lambda found: replace(found, input=found.input[:2]), "SHAPE", "input"),
        (lambda found: replace(found, input=found.input.astype(np.float32)), "DTYPE", "input"),
        (lambda found: replace(found, input=found.input[:, :, :1]), "SHAPE", "input"),
        (lambda found: Gradients({"0.weight": found.parameters["0.weight"]}), "NAME", "2.weight"),
    ],
)
def test_what_is_not_as_it_is_to_be_is_a_finding_and_no_crash_of_the_harness(change, kind, path):
    entry = framework(several=lambda *arguments: change(SEVERALLY(*arguments))).by_vmap
    found = judged(entry.several, entry.gradients)
    roots = {(one.root.kind.name, one.root.path) for one in found}
    assert roots == {(kind, path)}


def test_an_array_that_is_never_given_is_not_missed():
    found = judged(lambda *arguments: Gradients(SEVERALLY(*arguments).parameters), relations=False)
    assert all(isinstance(one, Screened) for one in found)


# runs


def result_of(entry, rounds=(BROAD,), dtypes=("float64",), **more):
    networks = networks_before(max(rounds) + 1)
    return run(Plan([entry], max_examples=networks, seed=3, rounds=rounds, dtypes=dtypes, witnesses=False, **more))


def called_with(result, name):
    """Hold that a framework was called with a few of the cases of a round, and its vmap with all of them."""
    counts = {tally.name: tally.cases for tally in result.implementations}
    assert list(counts) == [name, f"{name}.vmap"]
    # of a large network parts of them are taken together, each with its first ones
    assert counts[name] in range(ALONE, DEEP // 8 + 1, ALONE)
    assert counts[f"{name}.vmap"] == DEEP


def test_a_run_counts_both_and_says_who_was_called_with_what():
    result = result_of(framework())
    called_with(result, "own")
    assert (result.verdict, result.networks) == ("passed", DEEP)
    assert [entry.implementation for entry in result.coverage] == ["own"]
    (note,) = result.notes
    assert note.startswith("own.vmap: own's vmap, called with all cases of a structure at once")
    assert "own and own.vmap agree" in " ".join(result_text(result).split())


def test_without_such_a_structure_nothing_is_told_of_it():
    result = result_of(framework(), rounds=(0,))
    assert ([tally.name for tally in result.implementations], result.notes) == (["own"], [])
    # it is to be judged in the later rounds, which time does not allow for
    clock = iter([0.0, *[0.5] * 40, *[99.0] * 10_000])
    cut = run(Plan([framework()], max_examples=MANY, max_time=1, clock=lambda: next(clock), witnesses=False))
    assert [tally.name for tally in cut.implementations] == ["own"] * 2
    assert [entry.implementation for entry in cut.coverage] == ["own"]


def test_totals_do_not_depend_on_how_rounds_are_split():
    rounds = (BROAD - 1, BROAD, BROAD + 1)
    whole = result_of(framework(), rounds=rounds)
    parts = [result_of(framework(), rounds=(number,)) for number in rounds]
    for part, number in zip(parts, rounds, strict=True):
        part.part = Part(run={}, rounds=[number])
    together = merged(parts)
    for name in ("implementations", "regimes", "notes", "networks", "verdict"):
        assert msgspec.to_builtins(getattr(together, name)) == msgspec.to_builtins(getattr(whole, name)), name
    assert [entry.values for entry in together.coverage] == [entry.values for entry in whole.coverage]


def test_a_fault_in_one_call_alone_is_a_finding_of_it_and_not_of_the_framework(tmp_path):
    entry = framework(several=lambda *arguments: doubled(SEVERALLY(*arguments), next(iter(arguments[1]))))
    wanted = plan(entry, rounds=[BROAD], seed=3, dtypes=["float64"], witnesses=False)
    wanted.keep = Keeper(tmp_path, wanted).keep
    result = run(wanted)
    (finding,) = result.findings
    assert (finding.implementation, finding.check, finding.kind) == ("own.vmap", "parameters", "WRONG")
    assert finding.notation.count("->") == 1, "it was not made small"
    assert finding.rows == 1
    assert finding.likely
    # what is kept fails again as it did, and heals with the fault
    file = read_case(tmp_path / f"{finding.id}.json")
    assert file.implementation == "own.vmap"
    assert replay(file, lambda: entry.by_vmap, witnesses=False).outcome == "same"
    assert replay(file, lambda: framework().by_vmap, witnesses=False).outcome == "healed"
    assert replay(file, framework, witnesses=False).outcome == "healed"


def test_a_fault_that_one_call_with_many_shows_alone_is_told_with_the_case_as_it_was():
    def several(*arguments):
        found = SEVERALLY(*arguments)
        return found if len(found.loss) < SEVERAL else doubled(found, next(iter(arguments[1])), members=20)

    result = result_of(framework(several=several), shrink_seconds=5.0)
    (finding,) = result.findings
    assert finding.implementation == "own.vmap"
    assert finding.detail.startswith("so in one call for ")
    assert result.implementations[1].outcomes["local"].failed


def test_a_fault_of_the_framework_alone_is_found_in_what_is_called_one_by_one():
    def wrong(network, parameters, batch):
        return doubled(gradients(network, parameters, batch), next(iter(parameters)))

    result = result_of(framework(compute=wrong), diagnose=False, shrink_seconds=5.0)
    assert {finding.implementation for finding in result.findings} == {"own"}
    called_with(result, "own")


def test_the_record_of_a_run_names_everyone_that_it_plans():
    named = header_of(plan()).plan["implementations"]
    assert [entry["name"] for entry in named] == ["own", "own.vmap"]
    assert [entry["name"] for entry in header_of(plan(max_examples=100)).plan["implementations"]] == ["own"]


def test_shards_of_a_run_with_and_without_it_are_not_of_one_run():
    # in a process of its own a framework is called with each of the cases
    entry = framework()
    parts = [part_of(plan(one), "1/9", ()) for one in (entry, replace(entry, by_vmap=None))]
    assert differing(*parts) == "beside is own.vmap in one and not given in the other"
    assert differing(parts[0], part_of(plan(entry), "2/9", ())) is None


# the frameworks


@pytest.mark.torch
@pytest.mark.jax
def test_witnesses_say_that_the_framework_itself_is_right(monkeypatch):
    from gradconform.adapters import torch

    own = torch.vmapped
    monkeypatch.setattr(torch, "vmapped", lambda *arguments: doubled(own(*arguments), next(iter(arguments[1]))))
    (finding,) = run(plan(resolve("torch"), seed=3, rounds=[BROAD], dtypes=["float64"], diagnose=False)).findings
    assert (finding.implementation, finding.agreeing, finding.disagreeing) == ("torch.vmap", ["torch", "jax"], [])


@pytest.mark.parametrize(
    "name", [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
)
def test_a_framework_and_its_vmap_agree(name):
    result = run(Plan([resolve(name)], max_examples=MANY, seed=5, rounds=[BROAD]))
    assert (result.verdict, result.changed, result.noticed) == ("passed", [], {})
    called_with(result, name)
    assert all(re.search(rf"{name}'s vmap", note) for note in result.notes)


@pytest.mark.torch
def test_asked_for_by_itself_it_is_checked_with_everything():
    result = check("torch.vmap", max_examples=8, dtypes=["float64"])
    assert [(tally.name, tally.cases) for tally in result.implementations] == [("torch.vmap", 8)]
    relations = {check.id for check in CHECKS.values() if check.relation}
    assert relations - set(result.implementations[0].checks) <= {"cotangent-linearity"}, "drawn with every third loss"
    assert result.verdict == "passed"
