"""Results of a run's parts put together: the totals are those of the run in one piece, however it was split."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from gradconform.conformance.coverage import Covered
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import of, reference
from gradconform.conformance.job import Job
from gradconform.conformance.merging import merged
from gradconform.conformance.merging_findings import joined
from gradconform.conformance.parts import Part
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.results import Canaries, Pinned, Result
from gradconform.errors import InvalidInput

NETWORKS = ["* -> Dense(*) -> ReLU -> Dense(*), SoftmaxCrossEntropy", "* -> Dense(*), MeanSquaredError"]
ROUNDS = 3
SEED = 2


def plan(rounds, implementations=None, **options):
    return Plan(
        implementations or [reference(), of(no_relu)],
        max_examples=80,
        seed=SEED,
        networks=network_strategy(NETWORKS),
        dtypes=["float64"],
        witnesses=False,
        rounds=rounds,
        **options,
    )


def no_relu(network, parameters, batch):
    from gradconform.reference.backpropagation import gradients

    if "ReLU" in str(network) and network.inputs % 2:
        raise NotImplementedError(f"no ReLU after {network.inputs % 4}")
    return gradients(network, parameters, batch)


def marked(result, rounds):
    result.part = Job(targets=("reference",), seed=SEED, max_examples=80).part(rounds)
    return result


@pytest.fixture(scope="module")
def parts():
    return [marked(run(plan([number])), [number]) for number in range(ROUNDS)]


@pytest.fixture(scope="module")
def whole():
    return marked(run(plan(None)), range(ROUNDS))


def totals(result):
    """Return all of a result but the seconds, with nothing left of the order in which it came about."""
    built = msgspec.to_builtins(result)
    del built["seconds"]
    built["implementations"] = {(one["name"], one["dtype"]): one for one in built["implementations"]}
    built["notes"] = sorted(built["notes"])
    return built


@pytest.mark.parametrize("order", list(itertools.permutations(range(ROUNDS))))
def test_the_rounds_in_any_order_are_the_run_in_one_piece(parts, whole, order):
    assert totals(merged([parts[number] for number in order])) == totals(whole)


def test_parts_of_parts_are_the_same_however_they_are_grouped(parts, whole):
    one, two, three = parts
    assert totals(merged([merged([one, two]), three])) == totals(whole)
    assert totals(merged([one, merged([three, two])])) == totals(whole)


def test_something_was_counted_that_could_differ(whole):
    assert whole.networks == 80
    assert whole.noticed["no_relu"].unsupported
    assert any(tally.at_kinks and tally.kinks for tally in whole.implementations)
    assert len(whole.regimes) > 20


def test_a_part_comes_back_from_its_json(parts):
    for part in parts:
        assert totals(Result.from_json(part.to_json())) == totals(part)
        assert Result.from_json(part.to_json(-1)).to_json() == part.to_json()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"implementations": 3}', b"\xff"])
def test_what_is_no_result_is_an_error_of_one_line(content):
    with pytest.raises(InvalidInput) as error:
        Result.from_json(content)
    assert str(error.value).startswith("not a result of gradconform")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"3", b"null", b'{"implementations": {}}'])
def test_json_of_something_else_is_told_in_plain_words(content):
    with pytest.raises(InvalidInput) as error:
        Result.from_json(content)
    assert str(error.value) == "not a result of gradconform: it has no implementations"


def test_a_finding_of_an_unknown_kind_is_refused_by_name():
    plan = Plan([FAULTS["bias-mean"].implementation()], 2, seed=1, witnesses=False, dtypes=("float64",), diagnose=False)
    content = run(plan).to_json().replace(b'"kind": "WRONG"', b'"kind": "ODD"')
    with pytest.raises(InvalidInput, match="not a result of gradconform: kind 'ODD' is unknown"):
        Result.from_json(content)


def test_nothing_is_nothing_to_merge():
    with pytest.raises(InvalidInput, match="nothing to merge"):
        merged([])


def test_a_round_that_is_there_twice_is_refused(parts):
    with pytest.raises(InvalidInput) as error:
        merged([parts[0], parts[1], parts[1]])
    assert str(error.value) == "round 1 is in two of them: it would be counted twice"


def changed(record, /, **fields):
    return msgspec.structs.replace(record, **fields)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda part: changed(part, seed=3), "seed 2 in one and seed 3 in the other"),
        (
            lambda part: changed(part, part=Part(run={**part.part.run, "affine": True}, rounds=[1], of=3)),
            "affine is not given in one and True in the other",
        ),
        (
            lambda part: changed(part, part=Part(run={**part.part.run, "numpy": "1"}, rounds=[1], of=3)),
            "numpy is {numpy} in one and 1 in the other",
        ),
        (
            lambda part: changed(
                part, implementations=[changed(part.implementations[0], version="2"), *part.implementations[1:]]
            ),
            "reference is {reference} in one and 2 in the other",
        ),
    ],
)
def test_parts_of_different_runs_are_refused(parts, change, said):
    known = {"numpy": parts[0].part.run["numpy"], "reference": parts[0].implementations[0].version}
    with pytest.raises(InvalidInput) as error:
        merged([parts[0], change(parts[1])])
    assert str(error.value) == f"they are not of one run: {said.format(**known)}"


def test_a_verdict_follows_from_what_is_there(parts):
    one, two, _ = parts
    assert merged([one, two]).verdict == "passed"
    assert merged([one, changed(two, interrupted=True)]).verdict == "interrupted"
    rang = Canaries(["nan"], [], ["nan: loss", "nan: parameters"])
    broken = merged([changed(one, canaries=rang), changed(two, canaries=Canaries(["nan"], ["nan: loss"]))])
    assert (broken.verdict, broken.canaries) == ("broken", Canaries(["nan"], ["nan: loss"], ["nan: parameters"]))
    nothing = changed(one, implementations=[], part=None)
    assert merged([nothing]).verdict == "nothing compared"


def test_pinned_cases_add_up(parts):
    one, two, _ = parts
    both = merged([changed(one, pinned=Pinned(cases=2, failing=1)), changed(two, pinned=Pinned(cases=3))])
    assert both.pinned == Pinned(cases=5, failing=1)


@pytest.fixture(scope="module")
def failed():
    faulty = [FAULTS["bias-mean"].implementation()]
    quick = {"shrink_seconds": 5.0}
    return [marked(run(plan([number], faulty, **quick)), [number]) for number in range(ROUNDS)]


def test_a_fault_that_is_met_in_every_part_is_one_finding(failed):
    assert all(len(part.findings) == 1 for part in failed)
    one = merged(failed)
    (finding,) = one.findings
    assert (one.verdict, finding.symptom) == ("failed", "bias-mean")
    assert finding.failing_cases == sum(part.findings[0].failing_cases for part in failed)
    assert finding.id in {part.findings[0].id for part in failed}
    assert [merged(several).findings for several in itertools.permutations(failed)] == [[finding]] * 6


@pytest.fixture
def finding(failed):
    found = changed(failed[0].findings[0], symptom="", likely="", keys=["parameters WRONG Dense.bias"], failing=[])
    return changed(found, only_where=[], does_not_matter=[])


def test_without_a_name_the_key_says_what_is_the_same(finding):
    other = changed(finding, id="1", keys=["parameters WRONG Dense.weight"])
    again = changed(finding, id="2", failing_cases=3)
    assert [len(joined(several)) for several in ([finding, again], [finding, other], [other, again, finding])] == [
        1,
        2,
        2,
    ]


def test_what_fails_in_its_case_too_is_the_same_bug(finding):
    """As in one run: a failure below, in whose case the first one fails as well, says nothing new."""
    below = changed(finding, id="1", rows=9, keys=["input WRONG input"], failing=[*finding.keys, "input WRONG input"])
    assert [found.id for found in joined([below, finding])] == [finding.id]
    assert len(joined([changed(below, failing=below.keys), finding])) == 2


def test_a_name_takes_what_has_a_key_of_its_own_and_keeps_another_name_apart(finding):
    named = changed(finding, id="1", symptom="bias-mean")
    assert [found.id for found in joined([finding, named])] == ["1"]
    assert len(joined([named, changed(named, symptom="bias-sum", keys=["loss WRONG loss"])])) == 2


def test_two_implementations_have_two_bugs(finding):
    assert len(joined([finding, changed(finding, implementation="other")])) == 2


def test_relations_are_told_only_where_nothing_disagrees_with_the_reference(finding):
    relation = changed(finding, id="1", check="sum-of-samples", keys=["sum-of-samples WRONG 0.bias"])
    assert [found.id for found in joined([relation, finding])] == [finding.id]
    assert [found.id for found in joined([relation])] == ["1"]
    unsteady = changed(finding, id="2", check="repeatable", kind="NONDETERMINISTIC", keys=["repeatable"])
    assert [found.id for found in joined([relation, finding, unsteady])] == ["2"]


def test_a_condition_is_told_where_every_part_says_it(finding):
    first = changed(
        finding,
        only_where=["batch > 1 (0 of 12 cases with batch 1)", "biases (0 of 9 cases with no biases)"],
        does_not_matter=["the loss", "the dtype"],
    )
    second = changed(
        finding, id="z", only_where=["batch > 1 (0 of 30 cases with batch 1)"], does_not_matter=["the dtype"]
    )
    (found,) = joined([first, second])
    assert found.only_where == ["batch > 1 (0 of 42 cases with batch 1)"]
    assert found.does_not_matter == ["the dtype"]


def test_what_has_a_case_file_is_told_before_what_has_none(finding):
    small, kept = changed(finding, id="1", rows=1), changed(finding, id="2", rows=9, file="cases/2.json")
    assert [found.id for found in joined([small, kept])] == ["2"]


def covered(elu, **more):
    values = {} if elu is None else {"ELU": elu}
    pairs = {"layer x regime": {"Tanh": {"tiny": 1}, **{name: {"tiny": count} for name, count in values.items()}}}
    return Covered(implementation="x", values={"layer": {"Tanh": 1, **values}}, pairs=pairs, **more)


def test_what_is_refused_in_every_case_of_all_parts_is_left_out():
    never, refused = covered(0, missing=["layer ELU"]), covered(None, refused=["layer ELU", "layer ELU regime tiny"])
    for both in (never + refused, refused + never):
        assert both.values == {"layer": {"Tanh": 2}}
        assert both.pairs == {"layer x regime": {"Tanh": {"tiny": 2}}}
        assert (both.missing, both.refused) == ([], ["layer ELU", "layer ELU regime tiny"])
        assert (both + covered(3)).values == {"layer": {"Tanh": 3, "ELU": 3}}
        assert (both + covered(3)).refused == []


def test_what_was_compared_somewhere_is_not_refused():
    untold = covered(0, untold=["layer ELU", "layer ELU regime tiny"])
    refused = covered(None, refused=["layer ELU", "layer ELU regime tiny"])
    assert (untold + refused).values == (refused + untold).values == {"layer": {"Tanh": 2, "ELU": 0}}
    assert (untold + refused + covered(0)).untold == ["layer ELU", "layer ELU regime tiny"]


def test_what_is_missing_in_all_parts_is_missing():
    never = covered(0, missing=["layer ELU"])
    assert (never + never).missing == ["layer ELU"]
    assert (never + covered(1)).missing == (covered(1) + never).missing == []
