"""The log of a campaign: what is in it comes back, a line that was cut off does not, and nobody else writes it."""

from __future__ import annotations

import json

import pytest

from gradconform.conformance.campaign_work import Unit, work
from gradconform.conformance.fuzz_log import FOLDER, JOB, ROUNDS, Log
from gradconform.conformance.job import Job
from gradconform.conformance.results import Result
from gradconform.errors import InvalidInput

WORK = Job(targets=("reference",), seed=1, network="* -> Dense(*), Huber", only=("parameters",), isolate=True)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done():
    return work(Job(targets=("reference",), seed=1, network="* -> Dense(*), Huber"), Unit(number=4, networks=2))


@pytest.fixture
def place(done):
    """Return the place of a log with a unit that is done and one that is given up."""
    with Log.begin("one", WORK) as log:
        assert list(log.entries()) == []
        log.add(done, at=1.25, parent=5)
        log.give_up(Unit(number=5), "its worker ended each time", True, at=2.0)
    return FOLDER / "one" / ROUNDS


def test_what_was_logged_comes_back(place, done):
    with Log.resume("one") as log:
        one, other = log.entries()
        assert (log.job, log.torn) == (WORK, False)
    assert (one.unit, one.at, one.seconds, one.parent, one.lost) == (done.unit, 1.2, done.seconds, 5, "")
    assert one.read() == Result.from_json(done.result)
    assert one.signals == done.signals
    assert (other.unit.number, other.lost, other.bad) == (5, "its worker ended each time", True)
    assert place.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("cut", ['{"unit":{"num', "{"])
def test_a_line_that_was_cut_off_is_removed(place, done, cut):
    with place.open("a") as stream:
        stream.write(cut)
    with Log.resume("one") as log:
        assert [entry.unit.number for entry in log.entries()] == [4, 5]
        assert log.torn
        log.add(done, at=3, parent=0)
    assert [json.loads(line)["unit"]["number"] for line in place.read_text("utf-8").splitlines()] == [4, 5, 4]


def test_a_whole_line_that_says_nothing_is_an_error_of_one_line(place):
    place.write_bytes(b"{}\n" + place.read_bytes())
    with Log.resume("one") as log, pytest.raises(InvalidInput, match=r"rounds.jsonl:1: cannot be read: [^\n]+$"):
        list(log.entries())


def test_the_last_campaign_is_resumed_where_none_is_named(place):
    Log.begin("two", Job(seed=2)).__exit__(None, None, None)
    place.touch()
    with Log.resume(None) as log:
        assert log.folder == FOLDER / "one"


def test_two_processes_cannot_write_one_log(place):
    with Log.resume("one"), pytest.raises(InvalidInput, match="another process is writing it"):
        Log.resume("one")


def test_a_name_is_taken_once(place):
    with pytest.raises(InvalidInput, match="is there: go on with --resume --name one, or take another --name"):
        Log.begin("one", WORK)


@pytest.mark.parametrize("name", [None, "absent"])
def test_where_there_is_none_there_is_none_to_resume(name):
    with pytest.raises(InvalidInput, match="no campaign to resume"):
        Log.resume(name)


def test_a_campaign_of_another_version_is_not_gone_on_with(place):
    begun = json.loads((FOLDER / "one" / JOB).read_text("utf-8"))
    begun["part"]["run"]["numpy"] = "1.0"
    (FOLDER / "one" / JOB).write_text(json.dumps(begun), "utf-8")
    with pytest.raises(InvalidInput, match=r"cannot be gone on with: numpy is 1\.0 there and \S+ here$"):
        Log.resume("one")


def test_the_folder_is_none_of_the_repository(place, folder):
    assert (folder / ".gradconform" / ".gitignore").read_text("ascii").endswith("*\n")
