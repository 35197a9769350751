"""Case files are written at once and whole, are found again, and run only what may be trusted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gradconform.conformance import casefolder
from gradconform.conformance.casefile_reading import read_case
from gradconform.conformance.casefolder import (
    CASES,
    PINS,
    Keeper,
    case_files,
    pinned_of,
    places_of,
    replay_command,
    trusted,
    write_case,
)
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.errors import InvalidInput

NETWORK = "2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plan_of(name="bias-mean", **more):
    return Plan(
        [FAULTS[name].implementation()],
        max_examples=6,
        seed=1,
        networks=network_strategy(NETWORK),
        dtypes=("float64",),
        witnesses=False,
        **{"diagnose": False, **more},
    )


def kept(folder, **more):
    """Run a plan whose failures are kept, and return the result and the keeper."""
    plan = plan_of(**more)
    keeper = Keeper(folder, plan)
    plan.keep = keeper.keep
    return run(plan), keeper


def test_a_failure_is_in_its_file_before_it_is_made_smaller():
    seen = []

    def told(line):
        seen.extend(read_case(place) for place in case_files(CASES))
        raise KeyboardInterrupt

    result, _ = kept(CASES, notify=told)
    (finding,), (file,) = result.findings, seen
    assert (finding.id, finding.file, finding.replay) == (
        file.id,
        str(CASES / f"{file.id}.json"),
        f"gradconform replay {file.id}",
    )
    assert (file.implementation, file.seed, file.found.sentence) == ("bias-mean", 1, finding.sentence)


def test_a_run_that_is_killed_leaves_what_it_found():
    program = (
        "import os, signal\n"
        "from gradconform.conformance.casefolder import Keeper\n"
        "from gradconform.conformance.engine import run\n"
        "from gradconform.conformance.faults import FAULTS\n"
        "from gradconform.conformance.plan import Plan\n"
        "plan = Plan([FAULTS['bias-mean'].implementation()], seed=1, dtypes=('float64',),\n"
        "            notify=lambda line: os.kill(os.getpid(), signal.SIGKILL))\n"
        "plan.keep = Keeper('cases', plan).keep\n"
        "run(plan)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (place,) = Path("cases").iterdir()
    assert read_case(place).implementation == "bias-mean"


def test_the_smaller_case_takes_its_place_under_the_same_id():
    sizes = []
    plan = plan_of(shrink_seconds=20)
    keeper = Keeper("cases", plan)

    def keep(failure):
        keeper.keep(failure)
        sizes.append((failure.id, read_case(failure.file).case.batch.inputs.size))

    plan.keep = keep
    finding = run(plan).findings[0]
    keeper.complete([finding])
    own = [size for identity, size in sizes if identity == finding.id]
    assert len(own) == 2
    file = read_case(finding.file)
    assert file.case.batch.inputs.size == own[-1]
    assert finding.rows == file.case.batch.rows
    assert (file.found.failing_cases, file.found.factor_name) == (finding.failing_cases, finding.factor_name)


def test_a_run_without_a_folder_writes_nothing(tmp_path):
    result = run(plan_of(shrink_seconds=0))
    assert result.findings[0].file == ""
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_none_of_the_repositorys():
    kept(CASES, shrink_seconds=0)
    ignored = CASES.parent / ".gitignore"
    assert ignored.read_text("utf-8").splitlines()[-1] == "*"
    ignored.write_text("mine", "utf-8")
    kept(CASES, shrink_seconds=0)
    assert ignored.read_text("utf-8") == "mine"
    kept(PINS, shrink_seconds=0)
    assert {place.suffix for place in PINS.iterdir()} == {".json"}


def test_a_folder_that_cannot_be_written_is_a_note_and_the_run_goes_on(tmp_path):
    (tmp_path / "cases").write_text("a file", "utf-8")
    result, keeper = kept("cases", shrink_seconds=0)
    assert result.verdict == "failed"
    assert result.findings[0].file == ""
    assert keeper.note.startswith("cases: cases cannot be kept there: ")


def test_what_is_interrupted_while_it_is_written_leaves_the_old_file(monkeypatch):
    kept("cases", shrink_seconds=0)
    (place, *_) = case_files(Path("cases"))
    before, file = place.read_bytes(), read_case(place)

    def fails(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        write_case(Path("cases"), file)
    assert place.read_bytes() == before
    assert {path.suffix for path in Path("cases").iterdir()} == {".json"}


def test_a_case_too_large_to_be_read_is_not_written(monkeypatch):
    monkeypatch.setattr(casefolder, "LARGEST", 100)
    result, keeper = kept("cases", shrink_seconds=0)
    assert (result.findings[0].file, result.findings[0].replay) == ("", "")
    assert keeper.note.endswith(" is not kept: its file would have more than 100 bytes")
    assert not Path("cases").exists()


def test_files_are_the_same_for_the_same_seed():
    kept("one", shrink_seconds=0)
    kept("two", shrink_seconds=0)
    assert [place.read_bytes() for place in case_files(Path("one"))] == [
        place.read_bytes() for place in case_files(Path("two"))
    ]


def test_a_program_is_known_by_its_words():
    plan = plan_of(shrink_seconds=0)
    plan.implementations = [FAULTS["bias-mean"].implementation()]
    keeper = Keeper("cases", plan, ["bias-mean"])
    plan.keep = keeper.keep
    finding = run(plan).findings[0]
    assert finding.replay == f"gradconform replay cases/{finding.id}.json -- bias-mean"
    assert read_case(finding.file).program == ("bias-mean",)


def test_a_case_is_named_by_its_id_its_place_or_its_folder():
    result, _ = kept(CASES, shrink_seconds=0)
    identity = result.findings[0].id
    place = CASES / f"{identity}.json"
    assert places_of(identity) == [place]
    assert places_of(str(place)) == [place]
    assert places_of(str(CASES)) == case_files(CASES)
    assert case_files(Path("nowhere")) == []
    PINS.mkdir()
    place.rename(PINS / place.name)
    assert places_of(identity) == [PINS / place.name]
    other = identity[:-1] + ("0" if identity[-1] != "0" else "1")
    with pytest.raises(InvalidInput) as caught:
        places_of(other)
    assert str(caught.value) == (
        f"no case {other} in .gradconform/cases and gradconform-cases of this folder; did you mean {identity}?"
    )
    far = "".join("0" if digit != "0" else "1" for digit in reversed(identity))
    with pytest.raises(InvalidInput, match=r"of this folder; there is 1 case$"):
        places_of(far)
    shutil.copy(PINS / place.name, PINS / "zzzzzzzz.json")
    with pytest.raises(InvalidInput, match=r"of this folder; there are 2 cases$"):
        places_of(far)
    for word in ("../../etc", "my case"):
        with pytest.raises(InvalidInput, match="no such file or folder, and no id"):
            places_of(word)


def test_only_files_in_the_two_folders_of_this_one_are_trusted(tmp_path):
    result, _ = kept(CASES, shrink_seconds=0)
    place = Path(result.findings[0].file)
    PINS.mkdir()
    strange = tmp_path / "mail" / place.name
    strange.parent.mkdir()
    strange.write_bytes(place.read_bytes())
    (PINS / "5412b217.json").symlink_to(strange)
    nested = PINS / "nested"
    nested.mkdir()
    assert trusted(place)
    assert trusted(place.absolute())
    assert trusted(PINS / place.name)
    assert not trusted(strange)
    assert not trusted(PINS / "5412b217.json")
    assert not trusted(nested / place.name)
    assert not trusted(PINS / ".." / place.name)


def test_pins_are_those_of_the_names_that_are_checked():
    result, _ = kept(PINS, shrink_seconds=0)
    identity = result.findings[0].id
    assert [file.id for _, file in pinned_of(PINS, ["bias-mean", "torch"])].count(identity) == 1
    assert pinned_of(PINS, ["torch"]) == []
    (PINS / "broken.json").write_text(json.dumps({"gradconform": "case"}), "utf-8")
    with pytest.raises(InvalidInput, match=r"gradconform-cases/broken\.json: not a case file"):
        pinned_of(PINS, ["torch"])


def test_a_command_in_another_folder_names_the_target():
    result, _ = kept("some cases", shrink_seconds=0)
    file = read_case(result.findings[0].file)
    assert replay_command(Path("some cases/a.json"), file) == "gradconform replay 'some cases/a.json' bias-mean"


def test_earlier_calls_are_kept_where_they_are_others():
    kept("cases", name="stale-parameters", shrink_seconds=0)
    (file,) = (file for file in map(read_case, case_files(Path("cases"))) if file.found.check == "outputs")
    assert file.conditions.calls > len(file.before) > 0
    numbers = {
        tuple(array.tobytes() for array in (*case.parameters.values(), *vars(case.batch).values()) if array is not None)
        for case in (file.case, *file.before)
    }
    assert len(numbers) == 1 + len(file.before)


def test_earlier_calls_of_very_many_numbers_are_not_kept(monkeypatch):
    monkeypatch.setattr(casefolder, "MOST_NUMBERS", 1)
    kept("cases", name="stale-parameters", shrink_seconds=0)
    assert all(read_case(place).before == () for place in case_files(Path("cases")))
