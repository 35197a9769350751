"""The record of a run: what was done can be read from it, wherever it was cut off."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconform.conformance import run_record
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import reference
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.report_reading import result_in
from gradconform.conformance.run_record import RunRecord, changes, header_of, patched
from gradconform.conformance.run_record_reading import CUT_OFF, is_record, read_record
from gradconform.errors import InvalidInput

WORDS = st.sampled_from("abc")
VALUES = st.recursive(
    st.integers(0, 2) | WORDS | st.lists(st.integers(0, 1), max_size=2), lambda inner: st.dictionaries(WORDS, inner)
)
OBJECTS = st.dictionaries(WORDS, VALUES)


@given(OBJECTS, OBJECTS)
def test_a_patch_makes_one_object_the_other_and_says_no_more_than_it_needs(before, after):
    patch = changes(before, after)
    assert patched(before, patch) == after
    assert changes(after, after) == {}
    assert all(before.get(key) != after.get(key) for key in patch)


def plan_of(*implementations, **more):
    return Plan(
        list(implementations),
        max_examples=12,
        seed=1,
        networks=network_strategy("2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"),
        dtypes=("float64",),
        witnesses=False,
        shrink_seconds=0,
        command="gradconform check mine.py:gradients --seed 1",
        **more,
    )


def recorded(place, plan, *, end=True):
    """Return the result of a plan that is recorded, to its end or as where it was killed."""
    with RunRecord(place, header_of(plan)) as record:
        plan.log = record.log
        result = run(plan)
        if end:
            record.end(result)
    return result


@pytest.fixture
def often(monkeypatch):
    """Have a line written after every network."""
    for name in ("EVERY_SECONDS", "SHARE"):
        monkeypatch.setattr(run_record, name, 0)
    monkeypatch.setattr(run_record, "COST", 1e9)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "run.jsonl"


def lines_of(place):
    return [json.loads(line) for line in place.read_bytes().splitlines()]


def test_the_record_of_a_whole_run_has_its_result(place):
    result = recorded(place, plan_of(FAULTS["bias-mean"].implementation()))
    assert result_in(str(place)).to_json() == result.to_json()
    first = lines_of(place)[0]
    assert (first["record"], first["seed"], first["plan"]["max_examples"]) == (1, 1, 12)
    assert first["plan"]["implementations"] == [{"name": "bias-mean", "version": None, "dtypes": ["float64"]}]
    assert first["command"] == "gradconform check mine.py:gradients --seed 1"
    assert {"gradconform", "python", "numpy"} <= first["versions"].keys()


def test_without_an_end_it_has_all_that_was_counted(place, often):
    fault = FAULTS["bias-mean"].implementation()
    result = recorded(place, plan_of(reference(), fault), end=False)
    found = result_in(str(place))
    assert found.notes[-1] == CUT_OFF
    assert (found.verdict, found.exit_code, found.interrupted) == ("failed", 1, True)
    for name in ("networks", "structures", "implementations", "regimes", "coverage", "seed", "versions"):
        assert msgspec.to_builtins(getattr(found, name)) == msgspec.to_builtins(getattr(result, name))
    assert [finding.id for finding in found.findings] == [finding.id for finding in result.findings]


def test_without_a_finding_it_is_that_of_an_interrupted_run(place, often):
    recorded(place, plan_of(reference()), end=False)
    found = result_in(str(place))
    assert (found.verdict, found.exit_code, found.networks) == ("interrupted", 2, 12)
    assert "INTERRUPTED  what was compared so far agrees: 12 networks" in " ".join(str(found).split("\n  "))


def test_wherever_it_is_cut_off_what_was_done_until_then_can_be_read(place, often):
    recorded(place, plan_of(reference(), FAULTS["bias-mean"].implementation()))
    content = place.read_bytes()
    first = content.index(b"\n")
    done = []
    for size in range(len(content), first, -97):
        result = read_record(content[:size])
        assert (result.notes[-1:] == [CUT_OFF]) == (size < len(content))
        done.append(result.networks)
    assert done == sorted(done, reverse=True)
    assert {0, 1, 6, 12} <= set(done)
    for size in range(len(run_record.LISTS), first + 1, 50):
        cut = content[:size]
        if is_record(cut):
            with pytest.raises(InvalidInput, match="1: the first line was cut off: nothing is known of the run"):
                read_record(cut)


def test_lines_are_as_many_as_changes_and_small(place, often):
    recorded(place, plan_of(reference()))
    written = lines_of(place)
    assert len(written) == 1 + 1 + 12 + 1
    whole = len(json.dumps(written[-1]["end"]))
    assert all(len(json.dumps(line["result"])) < whole / 2 for line in written[3:-1])
    assert all("findings" not in line["result"] for line in written[2:-1])


def test_between_lines_is_time_unless_something_was_found(place, monkeypatch):
    monkeypatch.setattr(run_record, "EVERY_SECONDS", 1e9)
    recorded(place, plan_of(FAULTS["bias-mean"].implementation()))
    first, *between, last = lines_of(place)[1:]
    assert first["result"]["networks"] == 0
    # seen, small and named
    assert [bool(line["result"]["findings"]) for line in between] == [True] * len(between)
    assert 1 <= len(between) <= 3
    assert last["end"]["networks"] == 12


class Clock:
    """A clock on which nothing takes time but what is said to."""

    def __init__(self, started):
        self.now = started

    def monotonic(self):
        return self.now


def waited(place, monkeypatch, *, after, cost):
    """Return how many seconds there are between two lines so long after the start of a run, if each costs so many."""
    clock = Clock(1000.0)
    monkeypatch.setattr(run_record, "time", clock)
    plan = plan_of(reference())
    result = run(plan)
    asked = []

    def so_far():
        asked.append(clock.now)
        clock.now += cost
        return result

    with RunRecord(place, header_of(plan)) as record:
        clock.now += after
        while len(asked) < 2:
            record.log(so_far, False)
            clock.now += 0.25
    return asked[1] - asked[0] - cost


@pytest.mark.parametrize(
    ("after", "cost", "seconds"),
    [
        (5, 0, 1),
        # a five-hundredth of the time
        (5, 2**-8, 2),
        # and yet no older than is said
        (5, 1, 10),
        (5, 300, 10),
        (500, 0, 5),
        (500, 1, 10),
        (2000, 0, 20),
        (2000, 1, 20),
    ],
)
def test_lines_cost_little_and_counts_are_not_old(place, monkeypatch, after, cost, seconds):
    assert seconds <= waited(place, monkeypatch, after=after, cost=cost) <= seconds + 0.5


def edited(content, number, text):
    lines = content.split(b"\n")
    lines[number - 1] = text
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (1, b'{"record": 2}', "1: version 2 of the record, of a later gradconform: 1 is known here"),
        (1, b'{"record":1}', "1: cannot be read: Object missing required field `gradconform`"),
        (3, b'{"at": 1.5, "result": {"netw', "3: cannot be read: Input data was truncated"),
        (3, b"\xff\xfe", "3: cannot be read: JSON is malformed"),
        (3, b"", "3: cannot be read: Input data was truncated"),
        (3, b'{"at": 1.5}', "3: cannot be read: it has neither a result nor an end"),
        (3, b'{"at": 1.5, "end": {}}', "3: not a result of gradconform: it has no implementations"),
        (4, b'{"at": 1.5, "result": {"implementations": 3}}', "4: not the result of a run: 'int' object"),
        (3, b'{"at": 1.5, "result": {"seed": "one"}}', "4: not a result of gradconform: Expected `int`, got `str`"),
        (3, b'{"at": 1.5, "result": %s}' % (b'{"a":' * 2000 + b"1" + b"}" * 2000), "3: cannot be read: "),
    ],
)
def test_other_damage_is_one_line_with_the_file_and_the_number_of_the_line(number, text, said, place, often):
    recorded(place, plan_of(reference()), end=False)
    content = b"\n".join(place.read_bytes().split(b"\n")[:4]) + b"\n"
    place.write_bytes(edited(content, number, text))
    with pytest.raises(InvalidInput) as error:
        result_in(str(place))
    assert str(error.value).startswith(f"{place}:{said}")
    assert str(error.value).isprintable()


def test_a_record_that_cannot_be_begun_is_an_error(tmp_path):
    plan = plan_of(reference())
    with pytest.raises(InvalidInput, match=r"none/run\.jsonl: cannot be written: No such file"):
        RunRecord(tmp_path / "none" / "run.jsonl", header_of(plan))


def test_a_disk_that_is_full_does_not_end_the_run(full_disk):
    result = recorded(full_disk, plan_of(reference()))
    assert (result.verdict, result.networks) == ("passed", 12)
    assert result.notes[-1] == f"{full_disk}: the record of the run has no end: No space left on device"


@pytest.fixture
def full_disk():
    place = Path("/dev/full")
    if not place.exists():
        pytest.skip("the system has no disk that is always full")
    return place


def test_two_runs_at_once_do_not_write_into_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of(reference())
    with RunRecord.of_the_last_run(header_of(plan)) as first, RunRecord.of_the_last_run(header_of(plan)) as second:
        result = run(plan)
        second.end(result)
        first.end(result)
    assert result_in(str(run_record.LAST)).to_json() == result.to_json()
    assert len(lines_of(run_record.LAST)) == 2
