"""The profiles: what each run does, what it promises, and what the user narrows."""

from __future__ import annotations

import msgspec
import pytest

import gradconform as gc
from gradconform.conformance import check_cli
from gradconform.conformance.cli import main
from gradconform.conformance.coverage import AXES
from gradconform.conformance.engine import run
from gradconform.conformance.implementations import reference
from gradconform.conformance.plan import UNLIMITED, Plan
from gradconform.conformance.profiles import CI_SEED, PROFILES
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.training import Training, check_training


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """Return the plan that a command makes, without running it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("a,b,y\n0,1,2\n1,0,1\n2,1,0\n", "utf-8")

    class Planned(Exception):
        pass

    def plan_of(*arguments):
        plans = []

        def instead(plan, training, kept):
            plans.append(plan)
            raise Planned

        monkeypatch.setattr(check_cli, "_run", instead)
        with pytest.raises(Planned):
            main(["check", "reference", *arguments])
        return plans[0]

    return plan_of


def test_each_profile_has_its_networks_time_seed_and_promises(planned):
    plans = {name: planned("--profile", name) for name in PROFILES}
    assert {name: plan.max_examples for name, plan in plans.items()} == {
        "smoke": 24, "default": 100, "ci": 300, "nightly": UNLIMITED,
    }  # fmt: skip
    assert {name: plan.max_time for name, plan in plans.items()} == {
        "smoke": 60, "default": None, "ci": None, "nightly": 1800,
    }  # fmt: skip
    assert plans["ci"].seed == CI_SEED
    assert len({plan.seed for plan in plans.values()}) == 4
    assert plans["smoke"].required == ("loss", "reduction", "dtype")
    assert {tuple(plans[name].required) for name in ("default", "ci", "nightly")} == {AXES}
    assert len(REGIMES) <= 24


def test_options_go_before_the_profile(planned):
    plan = planned("--profile", "ci", "--max-examples", "7", "--seed", "5", "--max-time", "3")
    assert (plan.max_examples, plan.seed, plan.max_time) == (7, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "promised"),
    [
        (["--max-examples", "99"], False),
        (["--max-examples", "100"], True),
        (["--max-time", "60"], False),
        (["--profile", "smoke", "--max-time", "90"], True),
        (["--profile", "nightly", "--max-examples", "100000"], False),
        (["--network", "2 -> Dense(2), Huber"], False),
        (["--only", "parameters"], False),
        (["--exclude", "stateless"], False),
        (["--data", "data.csv"], False),
        (["--dtype", "float64"], True),
        (["--seed", "3"], True),
    ],
)
def test_a_run_that_the_user_narrows_promises_nothing(planned, arguments, promised):
    assert bool(planned(*arguments).required) is promised


def test_a_run_without_end_tells_its_seed_at_the_start(planned, capsys):
    plan = planned("--profile", "nightly")
    assert capsys.readouterr().err == f"gradconform: seed {plan.seed}\n"
    planned("--profile", "nightly", "--seed", "3")
    planned("--profile", "smoke")
    assert capsys.readouterr().err == ""


def test_smoke_keeps_its_promise_and_the_table_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["check", "reference", "--profile", "smoke", "--seed", "4", "--coverage", "--max-time", "1000",
              "--json", "out.json"])  # fmt: skip
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert " layers, 6 of 6 losses, 3 of 3 reductions, 2 of 2 dtypes; " in out
    assert "coverage of reference: cases in which a wrong value could have been told from rounding" in out
    result = msgspec.json.decode((tmp_path / "out.json").read_bytes())
    assert (result["verdict"], result["networks"]) == ("passed", 24)


# time


class Clock:
    """A clock that goes on by a step each time somebody looks."""

    def __init__(self, step=1.0):
        self.now, self.step = 100.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def timed(max_examples=50, max_time=10.0, **more):
    options = {"witnesses": False, "dtypes": ["float64"], "max_time": max_time, "clock": Clock(), **more}
    return run(Plan([reference()], max_examples, 1, **options))


def test_when_the_time_is_up_nothing_more_is_drawn_and_the_result_says_so():
    result = timed()
    assert 0 < result.networks <= 10
    assert f"{result.networks} of 50 networks were drawn within 10 s" in result.notes
    assert result.passed


def test_a_run_that_ends_before_its_time_says_nothing_of_it():
    result = timed(max_examples=3, max_time=1e6)
    assert (result.networks, result.notes) == (3, [])


def test_the_time_is_counted_from_when_the_command_was_started():
    assert timed(started=95.0).networks < timed(started=100.0).networks
    assert timed(started=1.0).verdict == "nothing compared"


def test_a_run_without_a_limit_of_networks_ends_by_its_time():
    seen = []
    result = timed(UNLIMITED, progress=lambda done, total: seen.append(total))
    assert set(seen) == {None}
    assert f"{result.networks} networks were drawn within 10 s" in result.notes


def test_a_run_that_its_time_cuts_short_is_not_covered():
    result = timed(required=AXES)
    assert result.verdict == "not covered"
    assert any("; raise --max-examples or --max-time" in note for note in result.notes)


def test_the_steps_of_a_training_end_in_time_too():
    network = gc.Network(inputs=2, layers=(gc.Dense(1),), loss=gc.Huber())
    import numpy as np

    training = Training(network, gc.Batch(np.ones((3, 2)), np.ones((3, 1))))
    plan = Plan([reference()], 50, witnesses=False, dtypes=["float64"], max_time=5.0, clock=Clock())
    result = check_training(plan, training)
    assert 0 < result.networks < 6
    assert f"{result.networks} of 50 steps were drawn within 5 s" in result.notes
