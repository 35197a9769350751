"""`gradconform replay` as a person meets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIAS_MEAN = """
from gradconform.reference.backpropagation import gradients as right

def gradients(network, parameters, batch):
    found = dict(right(network, parameters, batch).parameters)
    found["0.bias"] = found["0.bias"] / batch.rows
    return found
"""
NETWORK = "2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Return a folder in which a check has found something, with the id of it and what was told."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "my_mlp.py").write_text(BIAS_MEAN, "utf-8")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules.update(torch=None, jax=None)\n", "utf-8")
    script = Path(sys.executable).parent / "gradconform"
    words = ["check", "my_mlp.py:gradients", "--network", NETWORK, "--seed", "1", "--max-examples", "8"]
    done = subprocess.run(
        [script, *words], cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    (identity,) = re.findall(r"again +gradconform replay ([0-9a-f]{8})\n", done.stdout)
    return folder, identity, done.stdout


@pytest.fixture
def case(checked, tmp_path, monkeypatch):
    """Return the id of the finding, in a copy of that folder, which is the current one."""
    folder, identity, _ = checked
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return identity


def test_a_replay_tells_the_same_as_the_run(command_line, case, checked):
    code, out, _ = command_line("replay", case)
    assert code == 1
    assert out.startswith("FAILED  my_mlp.py:gradients   0.bias is wrong")
    assert out in checked[2]


def test_a_healed_case_says_so(command_line, case):
    Path("my_mlp.py").write_text(BIAS_MEAN.replace(" / batch.rows", ""), "utf-8")
    code, out, err = command_line("replay", case)
    assert (code, err) == (0, "")
    assert " ".join(out.split()).startswith(
        f"HEALED {case} my_mlp.py:gradients agrees now: parameters WRONG Dense.bias was "
    )


def test_a_file_elsewhere_runs_nothing_that_it_names(command_line, case, tmp_path):
    marker = tmp_path / "ran"
    evil = json.loads(Path(f".gradconform/cases/{case}.json").read_text("utf-8"))
    Path("evil.py").write_text(f"open({str(marker)!r}, 'w')\ndef gradients(*a): pass\n", "utf-8")
    place = tmp_path / "mail.json"
    for named in (
        {"implementation": "evil.py:gradients"},
        {"implementation": "os:system"},
        {"implementation": "x", "program": ["touch", str(marker)]},
        {"implementation": "torch", "program": ["touch", str(marker)]},
    ):
        place.write_text(json.dumps({**evil, **named}), "utf-8")
        code, out, err = command_line("replay", str(place))
        assert (code, out) == (4, "")
        assert f"name your own, as in: gradconform replay {place} TARGET" in err
        assert len(err.splitlines()) == 1
    assert not marker.exists()
    assert command_line("replay", str(place), "my_mlp.py:gradients")[0] == 1


def test_a_name_that_the_command_line_does_not_know(command_line, case):
    place = Path(f".gradconform/cases/{case}.json")
    place.write_text(place.read_text("utf-8").replace("my_mlp.py:gradients", "gradients"), "utf-8")
    code, _, err = command_line("replay", case)
    assert code == 4
    assert err.startswith("gradconform: target 'gradients': expected reference, ")
    assert err.endswith(f"; that is what the case names: name another, as in: gradconform replay {case} TARGET\n")


def test_an_adapter_or_the_reference_may_be_named_anywhere(command_line, case, tmp_path):
    entries = json.loads(Path(f".gradconform/cases/{case}.json").read_text("utf-8"))
    place = tmp_path / "mail.json"
    place.write_text(json.dumps({**entries, "implementation": "reference"}), "utf-8")
    code, out, _ = command_line("replay", str(place))
    assert (code, out.split()[0]) == (0, "HEALED")


@pytest.mark.torch
def test_so_may_an_adapter_by_vmap(command_line, case, tmp_path):
    entries = json.loads(Path(f".gradconform/cases/{case}.json").read_text("utf-8"))
    place = tmp_path / "mail.json"
    place.write_text(json.dumps({**entries, "implementation": "torch.vmap"}), "utf-8")
    code, out, _ = command_line("replay", str(place))
    assert (code, out.split()[0]) == (0, "HEALED")
    place.write_text(json.dumps({**entries, "implementation": "reference.vmap"}), "utf-8")
    code, _, err = command_line("replay", str(place))
    assert (code, len(err.splitlines())) == (4, 1)


def test_a_case_is_pinned_and_replayed_first_by_every_check(command_line, case):
    code, out, _ = command_line("replay", case, "--pin")
    assert code == 1
    pinned = f"PINNED  {case}  gradconform-cases/{case}.json: every check of my_mlp.py:gradients replays it first"
    assert pinned in out.splitlines()
    assert f"again                gradconform replay {case}" in out
    shutil.rmtree(".gradconform")
    words = ["check", "my_mlp.py:gradients", "--network", NETWORK, "--max-examples", "1", "--only", "delta-rows"]
    code, out, err = command_line(*words)
    assert (code, "pinned  1 case replayed first, 1 fails" in out) == (1, True)
    assert f"gradconform: pinned case {case} fails: my_mlp.py:gradients   0.bias is wrong" in err
    assert not Path(".gradconform/cases").exists()
    assert command_line("replay", "gradconform-cases")[0] == 1
    assert command_line(*words, "--pins", "none")[0] == 5


def test_pinning_goes_where_a_check_looks(command_line, case):
    Path("pyproject.toml").write_text("[tool.gradconform]\npins = 'tests/pinned'\n", "utf-8")
    command_line("replay", case, "--pin")
    assert Path(f"tests/pinned/{case}.json").is_file()
    out = command_line("check", "my_mlp.py:gradients", "--only", "class-permutation", "--max-examples", "1")[1]
    assert "pinned  1 case replayed first" in out


def test_pinning_to_another_folder(command_line, case):
    command_line("replay", case, "--pin", "--to", "tests/pinned")
    assert Path(f"tests/pinned/{case}.json").is_file()
    assert command_line("replay", case, "--to", "tests")[2] == (
        "gradconform: --to names the folder of --pin, which is not given\n"
    )


def test_a_folder_is_counted_and_json_is_written(command_line, case):
    shutil.copy(f".gradconform/cases/{case}.json", ".gradconform/cases/copy.json")
    code, out, _ = command_line("replay", ".gradconform/cases", "--json", "out.json")
    cases = json.loads(Path("out.json").read_text("utf-8"))["cases"]
    assert code == 1
    assert out.splitlines()[-1] == f"FAILED  {len(cases)} cases: {len(cases)} as recorded"
    assert {entry["outcome"] for entry in cases} == {"same"}


def test_what_is_not_there(command_line, case):
    Path("empty").mkdir()
    assert command_line("replay", "empty") == (5, "", "gradconform: empty: no case files in it\n")
    other = ("0" if case[0] != "0" else "1") + case[1:]
    code, _, err = command_line("replay", other)
    assert (code, f"did you mean {case}" in err) == (4, True)
    assert command_line("replay", "nowhere.json")[0] == 4
    Path("broken.json").write_text('{"gradconform": "case", "version": 1', "utf-8")
    code, _, err = command_line("replay", "broken.json", "my_mlp.py:gradients")
    assert (code, err.startswith("gradconform: broken.json: "), len(err.splitlines())) == (4, True, 1)


def test_no_case_files_are_written_where_none_are_wanted(command_line, case):
    shutil.rmtree(".gradconform")
    words = ["check", "my_mlp.py:gradients", "--network", NETWORK, "--max-examples", "2", "--seed", "1"]
    _, out, _ = command_line(*words, "--only", "delta-rows", "--no-cases")
    assert not Path(".gradconform").exists()
    assert "gradconform replay" not in out


def test_what_ends_the_process_is_replayed_in_one_of_its_own(case):
    Path("my_mlp.py").write_text("import os\ndef gradients(*arguments):\n    os._exit(3)\n", "utf-8")
    script = Path(sys.executable).parent / "gradconform"
    environment = {"PYTHONPATH": "."}
    done = subprocess.run(
        [script, "replay", case], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "once more, with --isolate" in done.stderr
    assert done.stdout.startswith(f"DIFFERENT  {case}  my_mlp.py:gradients fails otherwise than recorded")
    assert "CRASHED" not in done.stdout.split("check ")[0] or "crashed" in done.stdout
