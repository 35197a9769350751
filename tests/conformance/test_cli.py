"""The command line as a person meets it: real processes, their output and their exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradconform.conformance.cli import main
from gradconform.conformance.regimes import REGIMES

ROOT = Path(__file__).parents[2]
IRIS = ROOT / "examples" / "iris.csv"
NOTATION = "4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy"

BIAS_MEAN = """
from gradconform.reference.backpropagation import gradients as right

def gradients(network, parameters, batch):
    found = dict(right(network, parameters, batch).parameters)
    found["0.bias"] = found["0.bias"] / batch.rows
    return found
"""

BLOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def run(*arguments, folder=None, **environment):
    """Run `gradconform` in a process of its own, without a terminal."""
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "FORCE_COLOR", "NO_COLOR"}}
    script = Path(sys.executable).parent / "gradconform"
    return subprocess.run(
        [script, *map(str, arguments)],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture
def without(tmp_path):
    """Return the environment of a process in which some modules cannot be imported."""

    def environment(*blocked):
        folder = tmp_path / "blocker"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(BLOCKER.format(blocked=set(blocked)), "utf-8")
        return {"PYTHONPATH": str(folder)}

    return environment


def one_line(text):
    """Assert that `text` is one line of an error, and return it."""
    assert text.startswith("gradconform: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text.removeprefix("gradconform: ").rstrip("\n")


@pytest.mark.parametrize("command", [(), ("check",), ("trace",), ("doctor",)])
def test_help_names_the_commands_and_options(command):
    done = run(*command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    wanted = {(): "doctor", ("check",): "--max-examples", ("trace",): "--rows", ("doctor",): "installed"}
    assert wanted[command] in done.stdout


BAD_INPUT = {
    "malformed notation": (["check", "--network", "4 -> Dense(8"], "column 13"),
    "unknown layer": (["check", "--network", "4 -> Dens(8), Huber"], "unknown layer 'Dens'; did you mean Dense?"),
    "negative units": (["check", "--network", "4 -> Dense(-8), Huber"], "layers[0]: units must be at least 1, got -8"),
    "no probabilities": (["check", "--network", "4 -> Dense(8), CrossEntropy"], "layers[0]: CrossEntropy takes"),
    "missing network file": (["check", "--network", "no.json"], "no.json: no such file"),
    "network file": (["check", "--network", "bad.json"], "bad.json: layers[0]: units must be at least 1, got 0"),
    "missing data": (["check", "reference", "--data", "no.csv"], "no.csv: no such file"),
    "NaN in the data": (["check", "reference", "--data", "nan.csv"], "nan.csv:3: b: nan is not finite"),
    "ragged data": (["check", "reference", "--data", "ragged.csv"], "ragged.csv:3: expected 3 values, got 2"),
    "labels out of range": (
        ["check", "reference", "--data", "labels.csv", "--network", "2 -> Dense(2), SoftmaxCrossEntropy"],
        "labels.csv: targets[1]: label 2 is not in 0..1",
    ),
    "network and data": (
        ["check", "reference", "--data", "labels.csv", "--network", NOTATION],
        "labels.csv: the network takes 4 inputs, the data has 2 columns",
    ),
    "unknown target": (["check", "tensorflaw"], "target 'tensorflaw': expected reference"),
    "missing file": (["check", "no.py:gradients"], "no.py: no such file"),
    "no function": (["check", "empty.py"], "Write it as empty.py:gradients"),
    "missing function": (["check", "candidate.py:gradient"], "did you mean gradients?"),
    "not a function": (["check", "candidate.py:number"], "expected a function"),
    "syntax error": (["check", "syntax.py:gradients"], "syntax.py:2: SyntaxError"),
    "raises at import": (["check", "raises.py:gradients"], "raises.py:2: RuntimeError: no"),
    "unknown check": (["check", "reference", "--only", "everything"], "check 'everything' is unknown; the checks are"),
    "unknown dtype": (["check", "reference", "--dtype", "int8"], "dtype 'int8' is not supported"),
    "no examples": (["check", "reference", "--max-examples", "0"], "--max-examples"),
    "learning rate": (["check", "reference", "--data", "labels.csv", "--learning-rate", "nan"], "--learning-rate must"),
    "unknown option": (["check", "--everything"], "No such option"),
    "unknown command": (["chek"], "No such command"),
    "json folder": (["check", "reference", "--json", "no/where.json"], "no/where.json: no such folder"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_4(case, tmp_path, monkeypatch, capsys):
    files = {
        "bad.json": '{"inputs": 4, "layers": [{"kind": "Dense", "units": 0}], "loss": {"kind": "Huber"}}',
        "nan.csv": "a,b,c\n1,2,0\n1,nan,0\n",
        "ragged.csv": "a,b,c\n1,2,0\n1,2\n",
        "labels.csv": "a,b,c\n1,2,0\n3,4,2\n",
        "candidate.py": BIAS_MEAN + "\nnumber = 3\n",
        "empty.py": "number = 3\n",
        "syntax.py": "\ndef gradients(:\n",
        "raises.py": "\nraise RuntimeError('no')\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    arguments, sentence = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradconform", *arguments])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as exit_:
        main()
    said = capsys.readouterr()
    assert exit_.value.code == 4, said.err
    assert said.out == ""
    assert sentence in one_line(said.err)


def test_bad_input_in_a_process_of_its_own(tmp_path):
    done = run("check", "--network", "4 -> Dens(8), Huber", folder=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert "unknown layer 'Dens'" in one_line(done.stderr)


def test_the_reference_agrees_with_itself_and_the_json_says_so(tmp_path):
    done = run("check", "reference", "--max-examples", 20, "--seed", 5, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("PASSED  reference agrees within rounding: 20 networks, ")
    assert "seed 5" in last
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert (result["schema"], result["verdict"], result["seed"], result["findings"]) == (1, "passed", 5, [])
    counts = {(entry["name"], entry["dtype"]): entry for entry in result["implementations"]}
    assert set(counts) == {("reference", "float64"), ("reference", "float32")}
    assert all(entry["cases"] == 20 and entry["comparisons"] > 100 for entry in counts.values())
    assert sum(result["regimes"][name]["cases"] for name in REGIMES if name in result["regimes"]) == 20


def test_a_wrong_bias_gradient_is_named_in_the_first_line(tmp_path, without):
    (tmp_path / "my_mlp.py").write_text(BIAS_MEAN, "utf-8")
    arguments = ["check", "my_mlp.py:gradients", "--network", NOTATION, "--max-examples", "30", "--seed", "1"]
    done = run(*arguments, folder=tmp_path, COLUMNS="60", **without("torch", "jax"))
    assert done.returncode == 1, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith("FAILED  my_mlp.py:gradients   0.bias is wrong: ")
    assert first.endswith(" x what rounding can explain; likely bias-mean")
    text = " ".join(" ".join(lines).split())
    assert "yours / expected 0.500000 = 1/batch" in text
    assert "right 2.weight, 2.bias, 0.weight" in text
    assert re.search(r" again gradconform replay [0-9a-f]{8}( |$)", text)
    assert all(len(line) <= 60 for line in lines if not line.startswith("  again"))
    assert "FAILED  1 finding" in done.stdout
    assert "first failing case, being made smaller: my_mlp.py:gradients" in done.stderr


def test_colour_only_where_it_is_wanted(tmp_path):
    plain = run("check", "reference", "--max-examples", 1, "--dtype", "float64")
    coloured = run("check", "reference", "--max-examples", 1, "--dtype", "float64", FORCE_COLOR="1")
    assert "\x1b" not in plain.stdout
    assert "\x1b[1;32mPASSED" in coloured.stdout


def test_nothing_compared_is_exit_5(tmp_path):
    (tmp_path / "none.py").write_text("def gradients(*case):\n    raise NotImplementedError('not yet')\n", "utf-8")
    done = run("check", "none.py:gradients", "--max-examples", 3, folder=tmp_path)
    assert done.returncode == 5
    assert "NOTHING COMPARED" in done.stdout
    assert "none.py:gradients does not support everything that was drawn: not yet" in done.stdout
    assert "gradconform: next: gradconform doctor   # what is installed" in done.stderr


@pytest.mark.parametrize("command", ["check", "fuzz"])
def test_without_any_framework_there_is_nothing_to_compare(command, without, tmp_path):
    done = run(command, folder=tmp_path, **without("torch", "jax"))
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "gradconform: torch is not installed and not compared: pip install 'gradconform[torch]'",
        "gradconform: jax is not installed and not compared: pip install 'gradconform[jax]'",
        "gradconform: nothing to compare: no framework is installed. Try: pip install 'gradconform[all]'",
    ]


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_asked_for_by_name_and_not_there(name, without):
    done = run("check", name, **without(name))
    assert done.returncode == 5
    assert one_line(done.stderr) == f"{name} cannot be used: pip install 'gradconform[{name}]'"


@pytest.mark.torch
def test_without_jax_torch_is_compared_alone(without):
    done = run("check", "--max-examples", 4, "--seed", 1, **without("jax"))
    assert done.returncode == 0, done.stderr
    assert one_line(done.stderr) == "jax is not installed and not compared: pip install 'gradconform[jax]'"
    assert "PASSED  reference and torch agree within rounding" in done.stdout


@pytest.mark.jax
def test_without_torch_jax_is_compared_alone(without):
    done = run("check", "--max-examples", 4, "--seed", 1, **without("torch"))
    assert done.returncode == 0, done.stderr
    assert one_line(done.stderr) == "torch is not installed and not compared: pip install 'gradconform[torch]'"
    assert "PASSED  reference and jax agree within rounding" in done.stdout


@pytest.mark.torch
@pytest.mark.jax
def test_all_installed_frameworks_agree_on_iris():
    done = run("check", "--data", IRIS, "--steps", 3, "--seed", 1)
    assert done.returncode == 0, done.stderr
    assert "on 150 samples: cost" in done.stdout
    assert "PASSED  reference, torch and jax agree within rounding: 3 networks" in done.stdout


def test_a_wrong_gradient_on_real_data_names_the_step_and_the_sample(tmp_path, without):
    (tmp_path / "my_mlp.py").write_text(BIAS_MEAN, "utf-8")
    arguments = ["check", "my_mlp.py:gradients", "--data", IRIS, "--steps", "2", "--seed", "1"]
    done = run(*arguments, folder=tmp_path, **without("torch", "jax"))
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAILED  my_mlp.py:gradients   0.bias is wrong: ")
    assert "batch 2, float64, step 0, samples 0 and 1" in " ".join(done.stdout.split())


INTERRUPTED = """
import os, signal
from gradconform.reference.backpropagation import gradients as right

calls = []

def gradients(network, parameters, batch):
    calls.append(1)
    if len(calls) == 40:
        os.kill(os.getpid(), signal.SIGINT)
    return right(network, parameters, batch)
"""


def test_ctrl_c_tells_what_was_found_so_far(tmp_path):
    (tmp_path / "slow.py").write_text(INTERRUPTED, "utf-8")
    done = run("check", "slow.py:gradients", "--max-examples", 10000, folder=tmp_path)
    assert done.returncode == 2
    assert "INTERRUPTED  what was compared so far agrees" in done.stdout
    assert "Traceback" not in done.stderr


def test_nothing_but_a_record_is_left_in_the_folder(tmp_path):
    assert run("check", "reference", "--max-examples", 2, "--no-cases", folder=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert run("check", "reference", "--max-examples", 2, folder=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [".gradconform"]
    assert {path.name for path in (tmp_path / ".gradconform").iterdir()} == {".gitignore", "last-run.jsonl"}


def test_trace_shows_the_textbooks_quantities(without):
    done = run(
        "trace", "--network", "2 -> Dense(2) -> Sigmoid -> Dense(1), MeanSquaredError", **without("torch", "jax")
    )
    assert done.returncode == 0, done.stderr
    for name in ("incoming activation dz/dw", "pre-activation z", "delta dC/dz", "dC/dw", "dC/db", "activation a"):
        assert f"  {name}" in done.stdout
    assert "sigma'(z)" in done.stdout
    assert "layer 2  Dense(1)" in done.stdout


@pytest.mark.torch
@pytest.mark.jax
def test_trace_puts_every_implementation_beside_the_reference():
    done = run("trace")
    assert done.returncode == 0, done.stderr
    header = next(line for line in done.stdout.splitlines() if line.startswith("layer 0"))
    assert header.split()[-4:] == ["reference", "torch", "jax", "error/bound"]


def test_doctor_tells_what_is_missing_and_how_to_get_it(without):
    done = run("doctor", **without("jax"))
    assert done.returncode == 0
    assert "not installed: pip install 'gradconform[jax]'" in done.stdout
    assert "numpy" in done.stdout


@pytest.mark.torch
@pytest.mark.jax
def test_doctor_says_that_all_is_well_only_where_it_is(tmp_path):
    well = "Everything is here: try `gradconform check`."
    assert run("doctor", folder=tmp_path).stdout.splitlines()[-1] == well
    (tmp_path / "torch.py").write_text("raise ImportError('no libtorch.so\\nhere')\n", "utf-8")
    (tmp_path / "jax.py").write_text("raise OSError('no libjax.so')\n", "utf-8")
    done = run("doctor", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "torch         cannot be used: importing it says: no libtorch.so\\nhere\n" in done.stdout
    assert "jax           cannot be used: importing it says: no libjax.so\n" in done.stdout
    said = "`gradconform check` without a TARGET will not run until torch and jax can be used."
    assert done.stdout.splitlines()[-1] == said


@pytest.mark.jax
def test_doctor_tells_where_compiled_programs_are_kept(tmp_path):
    assert "compiled      not kept: GRADCONFORM_CACHE is off\n" in run("doctor").stdout
    words = run("doctor", GRADCONFORM_CACHE=str(tmp_path)).stdout.split()
    assert " ".join(["compiled", f"{tmp_path}:", "0", "programs,"]) in " ".join(words)


def test_without_a_command_the_help_is_shown():
    done = run()
    assert (done.returncode, done.stdout) == (4, "")
    assert "gradconform doctor" in done.stderr
    assert done.stderr.startswith("Usage: ")


def test_a_name_that_the_terminal_cannot_show(tmp_path):
    (tmp_path / "mein_netz_ü.py").write_text(BIAS_MEAN.replace("/ batch.rows", ""), "utf-8")
    arguments = ["check", "mein_netz_ü.py:gradients", "--network", NOTATION, "--max-examples", "2"]
    done = run(*arguments, folder=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "mein_netz_\\xfc.py" in done.stdout
