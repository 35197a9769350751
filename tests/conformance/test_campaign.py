"""Campaigns: each round is counted once, whatever becomes of workers; the crews of these tests are made up."""

from __future__ import annotations

import random
from concurrent.futures import CancelledError, Future

import pytest

from gradconform.conformance.campaign import DEATHS, MEMORY, TRIES, Campaign, Total, run_job
from gradconform.conformance.campaign_work import Done, Unit, describe, result_of, work
from gradconform.conformance.engine import run
from gradconform.conformance.focus import Focus
from gradconform.conformance.implementations import reference
from gradconform.conformance.job import Job
from gradconform.conformance.merging import merged
from gradconform.conformance.plan import BROAD
from gradconform.errors import InvalidInput

JOB = Job(
    targets=("reference",), seed=1, max_examples=100, network="* -> Dense(*), MeanSquaredError", only=("parameters",)
)


class Died(Exception):
    """A worker died."""


class FakeCrew:
    """Gives every unit to `plan`, which returns what becomes of it: a Done, or an exception.

    Where `alone`, new units run together, as many as `size`, and all are lost when a worker dies.
    """

    def __init__(self, plan, size=1, alone=True):
        self.plan, self.size, self.alone = plan, size, alone
        self.renewed = self.closed = 0
        self.given = []
        self._running = []

    def submit(self, function, job, unit):
        future = Future()
        again = unit.number in self.given
        assert not (again and self.alone and self._running), "a suspect is run alone"
        self.given.append(unit.number)
        self._running.append((future, job, unit))
        if len(self._running) == self.size or again or not self.alone:
            self._finish()
        return future

    def _finish(self):
        running, self._running = self._running, []
        outcomes = [self.plan(job, unit) for _, job, unit in running]
        died = self.alone and any(isinstance(outcome, Died) for outcome in outcomes)
        for (future, _, _), outcome in zip(running, outcomes, strict=True):
            if died or isinstance(outcome, BaseException):
                future.set_exception(Died("a process") if died else outcome)
            else:
                future.set_result(outcome)

    def deadly(self, error):
        return isinstance(error, Died)

    def renew(self):
        self.renewed += 1

    def close(self):
        self.closed += 1


def campaign(crew, count=6, job=JOB, **options):
    """Run units, and return the numbers of those that are done, and of those that are lost with the reason."""
    units = iter([Unit(number=number) for number in range(count)])
    done, lost = [], {}

    def give_up(unit, why, bad):
        lost[unit.number] = (why, bad)

    running = Campaign(
        job, crew, lambda: next(units, None), lambda one: done.append(one.unit.number), give_up, **options
    )
    running.run()
    return done, lost, running


def fine(job, unit):
    return Done(unit=unit)


def test_each_unit_is_done_once():
    done, lost, _ = campaign(FakeCrew(fine, size=3))
    assert (sorted(done), lost) == (list(range(6)), {})


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_lost_with_a_worker_is_run_again(alone):
    died = []

    def once(job, unit):
        if unit.number == 2 and not died:
            died.append(unit.number)
            return Died()
        return Done(unit=unit)

    crew = FakeCrew(once, size=3, alone=alone)
    done, lost, running = campaign(crew, 6)
    assert (sorted(done), lost, running.job.isolate) == (list(range(6)), {}, False)
    assert crew.renewed == alone
    assert crew.given.count(2) == 2


def test_of_units_that_died_together_each_is_run_alone():
    def deadly(job, unit):
        return Died() if unit.number == 1 and not job.isolate else Done(unit=unit)

    crew = FakeCrew(deadly, size=3)
    done, lost, running = campaign(crew, 3)
    assert (sorted(done), lost) == ([0, 1, 2], {})
    assert crew.given == [0, 1, 2, 0, 1, 2, 1]
    assert running.job.isolate


def test_what_ends_its_worker_is_run_in_a_process_of_its_own_and_then_given_up():
    isolated = []

    def deadly(job, unit):
        isolated.append(job.isolate)
        return Died() if unit.number == 0 else Done(unit=unit)

    crew = FakeCrew(deadly)
    done, lost, _ = campaign(crew, 2)
    assert done == [1]
    assert lost == {0: ("its worker ended each time", True)}
    assert crew.given == [0] * (DEATHS + 1) + [1]
    assert isolated == [False] * DEATHS + [True, True]


def test_what_is_cancelled_is_handed_over_again_but_not_for_ever():
    crew = FakeCrew(lambda job, unit: CancelledError() if unit.number == 0 else Done(unit=unit))
    done, lost, running = campaign(crew, 2)
    assert done == [1]
    assert lost == {0: (f"it was lost {TRIES} times: CancelledError", True)}
    assert crew.given.count(0) == TRIES
    assert not running.job.isolate


def test_when_time_is_up_what_still_runs_is_given_up_and_is_no_failure():
    class Stuck(FakeCrew):
        def submit(self, function, job, unit):
            return Future() if unit.number == 1 else super().submit(function, job, unit)

    ticks = []
    done, lost, _ = campaign(
        Stuck(fine, size=2, alone=False), 2, tick=lambda: ticks.append(1), until=lambda: 0.0 if ticks else None
    )
    assert done == [0]
    assert lost == {1: ("it was still running when time was up", False)}


@pytest.mark.parametrize(("alone", "renewed"), [(True, 3), (False, 0)])
def test_workers_that_have_taken_too_much_memory_are_replaced(alone, renewed):
    def greedy(job, unit):
        return Done(unit=unit, memory=MEMORY + 1 if unit.number in {0, 2, 5} else MEMORY)

    crew = FakeCrew(greedy, alone=alone)
    done, lost, _ = campaign(crew)
    assert (done, lost, crew.renewed) == (list(range(6)), {}, renewed)


class Local(FakeCrew):
    """Runs units in this process, some of them only the second time."""

    def __init__(self, seed):
        rng = random.Random(seed)
        self.lucky = set()

        def plan(job, unit):
            if rng.random() < 0.5 and unit.number not in self.lucky:
                self.lucky.add(unit.number)
                return Died()
            return work(job, unit)

        super().__init__(plan, alone=rng.random() < 0.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_job_is_the_run_in_one_piece_however_often_workers_die(seed):
    crew = Local(seed)
    told = []
    result = run_job(JOB, crew, progress=lambda done, rounds: told.append((done, rounds)))
    whole = run(JOB.plan(JOB.implementations(), range(4)))
    assert crew.lucky
    assert crew.closed
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name in ("implementations", "regimes", "networks", "structures", "findings", "verdict", "seed"):
        assert getattr(result, name) == getattr(whole, name)


def test_a_job_without_end_is_no_job_to_be_done_as_a_whole():
    with pytest.raises(InvalidInput, match="max_examples"):
        run_job(Job(seed=1), FakeCrew(fine))


def test_what_the_user_named_wrongly_is_an_error_and_ends_the_crew():
    crew = FakeCrew(work)
    with pytest.raises(InvalidInput, match="'nope': expected reference"):
        run_job(Job(targets=("nope",), seed=1, max_examples=1), crew)
    assert crew.closed == 1


def test_a_failure_of_the_harness_is_told_with_its_trace(monkeypatch):
    monkeypatch.setattr("gradconform.conformance.campaign_work.run", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"round 0 failed in the harness(.|\n)*ZeroDivisionError"):
        run_job(JOB, FakeCrew(work))


def test_ctrl_c_ends_a_job_with_what_was_done():
    def interrupted(job, unit):
        if unit.number == 2:
            raise KeyboardInterrupt
        return work(job, unit)

    crew = FakeCrew(interrupted)
    result = run_job(JOB, crew)
    assert (result.verdict, result.exit_code, result.networks, crew.closed) == ("interrupted", 2, 64, 1)


def test_a_unit_that_is_given_up_leaves_no_green():
    total = Total(JOB)
    total.add(result_of(work(JOB, Unit(number=0))))
    total.give_up(Unit(number=1), "its worker ended each time", True)
    result = total.whole()
    assert (result.verdict, result.notes) == ("interrupted", ["round 1 was given up: its worker ended each time"])


def test_without_any_unit_nothing_was_compared():
    result = Total(JOB).whole()
    assert (result.verdict, result.exit_code) == ("nothing compared", 5)


def test_the_same_unit_is_the_same_wherever_and_after_whatever_it_is_run():
    unit = Unit(number=7, networks=8, focus=Focus(layers=("Tanh",), regimes=("tiny", "large"), draws=4))
    job = Job(targets=("reference",), seed=3, only=("parameters",))
    first = work(job, unit)
    work(job, Unit(number=8))
    again = work(job, unit)
    one, other = result_of(first), result_of(again)
    one.seconds = other.seconds = 0
    assert one == other
    assert first.signals == again.signals
    assert set(one.regimes) & {"tiny", "large", "ordinary"} == {"tiny", "large"}
    assert (one.networks, one.part.rounds, one.part.of) == (8, [7], None)


def test_a_bug_that_is_known_is_counted_and_neither_made_small_nor_named(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from gradconform.reference.backpropagation import gradients as right\n"
        "def gradients(network, parameters, batch):\n"
        "    return {path: 2 * array for path, array in right(network, parameters, batch).parameters.items()}\n",
        "utf-8",
    )
    job = Job(targets=(f"{tmp_path / 'mine.py'}:gradients",), seed=1, network=JOB.network, only=("parameters",))
    first = work(job, Unit(number=0))
    (finding,) = result_of(first).findings
    assert finding.symptom
    assert list(first.files) == [finding.id]
    known = work(job, Unit(number=1, known={finding.implementation: finding.keys}))
    again = result_of(known).findings
    assert again
    assert {(found.symptom, found.keys[0] in finding.keys) for found in again} == {("", True)}
    assert known.files == {}
    (both,) = merged([result_of(first), result_of(known)]).findings
    assert (both.id, both.symptom) == (finding.id, finding.symptom)
    assert both.failing_cases == finding.failing_cases + sum(found.failing_cases for found in again)


def test_a_worker_says_who_is_checked():
    described = describe(JOB)
    assert (described.names, described.dtypes, described.narrow) == (
        ["reference"],
        {"reference": ["float64", "float32"]},
        [],
    )
    assert described.shared == reference().capabilities
    assert describe(Job(targets=("nope",), seed=1)).error.startswith("target 'nope'")


@pytest.mark.torch
def test_16_bit_types_are_for_frameworks_and_for_nobody_who_did_not_declare_them(tmp_path):
    (tmp_path / "mine.py").write_text("from gradconform.reference.backpropagation import gradients\n", "utf-8")
    for targets in (("reference", "torch"), ("torch.vmap",)):
        assert describe(Job(targets=targets, seed=1)).narrow == ["bfloat16", "float16"]
    assert describe(Job(targets=("torch", str(tmp_path / "mine.py:gradients")), seed=1)).narrow == []


@pytest.mark.torch
def test_a_round_of_many_cases_is_the_same_whatever_the_worker_did_before():
    job, unit = Job(targets=("torch",), seed=1, dtypes=("float64",)), Unit(number=BROAD, networks=64)
    first, again = (result_of(work(job, unit)) for _ in range(2))
    assert [tally.name for tally in first.implementations] == ["torch", "torch.vmap"]
    assert first.implementations == again.implementations
    assert first.implementations[1].cases == 64
