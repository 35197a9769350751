"""Reproducers compute what the reference computes, with nothing of gradconform, in every language."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

import gradconform as gc
from gradconform.case import Batch
from gradconform.conformance.casefile import CaseFile, Conditions, Found
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.reproducer import script
from gradconform.dtypes import dtype_of
from gradconform.layers import Layer
from gradconform.losses import Loss
from gradconform.reference.backpropagation import gradients

HIDDEN = (
    "Sigmoid -> Dense(3) -> Tanh",
    "ReLU -> Dense(2, bias=False) -> SiLU",
    "LeakyReLU(slope=0.2) -> Dense(3) -> ELU(alpha=0.7)",
    "Softplus -> Dense(4) -> GELU",
    "GELU(approximate=tanh) -> Dense(3) -> Softmax",
    "LeakyReLU -> Dense(3) -> ELU",
)
LOSSES = (
    ("SoftmaxCrossEntropy", "integer", False),
    ("SoftmaxCrossEntropy(reduction=sum, label_smoothing=0.1)", "integer", True),
    ("SoftmaxCrossEntropy(ignore_index=-100, label_smoothing=0.2)", "integer", True),
    ("SoftmaxCrossEntropy(ignore_index=1)", "integer", False),
    ("SoftmaxCrossEntropy(reduction=none, ignore_index=2, scale=3.0)", "integer", False),
    ("SoftmaxCrossEntropy(reduction=batchmean, scale=0.5)", "soft", True),
    ("SoftmaxCrossEntropy(label_smoothing=0.3)", "soft", False),
    ("CrossEntropy", "integer", False),
    ("CrossEntropy(reduction=sum, scale=2.0)", "soft", False),
    ("CrossEntropy(clip=0.2)", "integer", False),
    ("CrossEntropy(reduction=none, clip=0.3)", "soft", False),
    ("SigmoidCrossEntropy", "integer", False),
    ("SigmoidCrossEntropy(reduction=none)", "integer", False),
    ("BinaryCrossEntropy", "integer", False),
    ("BinaryCrossEntropy(reduction=batchmean, clip=0.3)", "integer", False),
    ("BinaryCrossEntropy(log_floor=-100.0, denominator_floor=1e-12)", "integer", False),
    ("MeanSquaredError(reduction=batchmean)", "integer", False),
    ("MeanSquaredError(reduction=sum, scale=0.5)", "integer", False),
    ("Huber(delta=0.4)", "integer", False),
    ("Huber(reduction=none, scale=0.25)", "integer", False),
)
SAMPLES = [
    (f"3 -> Dense(4) -> {HIDDEN[i % len(HIDDEN)]} -> Dense(3){last}, {loss}", labels, weights, "float64")
    for i, (loss, labels, weights) in enumerate(LOSSES)
    for last in [{"C": " -> Softmax", "B": " -> Sigmoid"}.get(loss[0], "")]
] + [
    ("2 -> Dense(1), Huber", "integer", False, "float64"),
    ("2 -> Softmax, CrossEntropy", "integer", False, "float64"),
    ("1 -> Tanh -> Dense(1), SoftmaxCrossEntropy", "integer", False, "float64"),
    ("3 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy", "integer", False, "float32"),
    ("3 -> Dense(2) -> SiLU -> Dense(3), MeanSquaredError", "integer", False, "bfloat16"),
    ("3 -> Dense(2) -> GELU -> Dense(3), Huber", "integer", False, "float16"),
]


def file_of(notation, labels="integer", weights=False, dtype="float64", regime="ordinary", rows=4):
    example = Example(gc.parse(notation), rows, (), labels, weights)
    case = example.case(Draw(regime, 5), dtype)
    wrong = next(iter(case.parameters), "input")
    found = Found(check="parameters", kind="WRONG", path=wrong, key="k", sentence=f"{wrong} is wrong: 2.5e+13 x it")
    return CaseFile(
        id="5412b217",
        implementation="my_mlp.py:gradients",
        case=case,
        conditions=Conditions(checks=["parameters"]),
        found=found,
        versions={},
    )


FILES = [file_of(*sample) for sample in SAMPLES]


def expected_of(file):
    """Return what the reference computes in float64, from the case's own numbers."""

    def long(array):
        return array if array is None or array.dtype.kind in "iu" else array.astype(np.float64)

    batch = Batch(*(long(array) for array in vars(file.case.batch).values()))
    found = gradients(file.case.network, {path: long(array) for path, array in file.case.parameters.items()}, batch)
    weights = np.ones_like(found.loss) if batch.cotangent is None else batch.cotangent
    return {**found.parameters, "input": found.input}, float((weights * found.loss).sum())


def printed(text):
    """Return the printed gradients as flat lists, and the cost."""
    cost, arrays, marked = None, {}, []
    for line in text.splitlines():
        if line.startswith("cost  expected "):
            cost = float(line.split()[-1])
        elif not line.startswith(" "):
            path = line.split()[0]
            marked += [path] if line.endswith("<- was found wrong") else []
            arrays[path] = []
        elif "expected" in line:
            arrays[path].append(float(re.search(r"expected (\S+)", line)[1]))
    return cost, arrays, marked


def compare(file, text, tolerance=1e-9):
    cost, arrays, marked = printed(text)
    expected, total = expected_of(file)
    assert cost == pytest.approx(total, rel=tolerance, abs=tolerance * 1e-3), file.case.network
    assert list(arrays) == list(expected)
    assert marked == [file.found.path]
    for path, array in expected.items():
        largest = abs(array).max()
        assert arrays[path] == pytest.approx(array.ravel().tolist(), rel=tolerance, abs=tolerance * largest), (
            f"{path} of {file.case.network}"
        )


def in_one_process(tmp_path, language, files):
    """Run the scripts of a framework one after the other, and return what each printed."""
    for index, file in enumerate(files):
        (tmp_path / f"case{index}.py").write_text(script(file, language), "utf-8")
    program = (
        "import runpy, sys\n"
        f"for index in range({len(files)}):\n"
        "    runpy.run_path(f'case{index}.py')\n"
        "    print('=====')\n"
        "assert not [name for name in sys.modules if name.startswith('gradconform')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    texts = done.stdout.split("=====\n")[:-1]
    assert len(texts) == len(files)
    return texts


def test_the_samples_have_every_layer_and_loss():
    kinds = {type(layer) for file in FILES for layer in file.case.network.layers}
    assert kinds == set(get_args(Layer))
    assert {type(file.case.network.loss) for file in FILES} == set(get_args(Loss))
    assert {file.case.network.loss.reduction for file in FILES} == {"mean", "sum", "none", "batchmean"}
    for name in ("label_smoothing", "ignore_index", "clip", "log_floor"):
        assert any(getattr(file.case.network.loss, name, None) for file in FILES)


def test_numpy_scripts_compute_what_the_reference_does(tmp_path):
    for file, text in zip(FILES, in_one_process(tmp_path, "numpy", FILES), strict=True):
        compare(file, text)


@pytest.mark.torch
def test_torch_scripts_compute_what_the_reference_does(tmp_path):
    for file, text in zip(FILES, in_one_process(tmp_path, "torch", FILES), strict=True):
        compare(file, text, {"float64": 1e-9, "float32": 1e-5}.get(file.case.dtype.name, 0.1))


@pytest.mark.jax
def test_jax_scripts_compute_what_the_reference_does(tmp_path):
    for file, text in zip(FILES, in_one_process(tmp_path, "jax", FILES), strict=True):
        compare(file, text, {"float64": 1e-9, "float32": 1e-5}.get(file.case.dtype.name, 0.1))


def beside(file, text, tolerance):
    """Hold what a script of vmap gives against what is expected beside it."""
    compare(file, text, tolerance)
    _, arrays, _ = printed(text)
    yours = [float(number) for number in re.findall(r"yours (\S+)$", text, re.MULTILINE)]
    expected = [number for array in arrays.values() for number in array]
    assert yours == pytest.approx(expected, rel=tolerance, abs=tolerance * max(map(abs, expected)))


BY_VMAP = [file for file in FILES if file.case.dtype.name == "float64"]


@pytest.mark.parametrize(
    "framework", [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
)
def test_scripts_of_what_was_found_in_a_vmap_compute_it_by_vmap(tmp_path, framework):
    # JAX compiles each twice
    chosen = BY_VMAP[:: 2 if framework == "jax" else 1]
    files = [replace(file, implementation=f"{framework}.vmap") for file in chosen]
    for file in files:
        text = script(file, framework)
        assert "vmap(" in text
        assert "yours = None" not in text
        # another language has a place for one's own
        assert "yours = None" in script(file, "numpy")
    for file, text in zip(files, in_one_process(tmp_path, framework, files), strict=True):
        beside(file, text, 1e-9)


def compiled(tmp_path, text):
    source, program = tmp_path / "case.c", tmp_path / "case"
    source.write_text(text, "utf-8")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(
        ["cc", *flags, "-o", program, source, "-lm"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), text
    return subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("file", FILES, ids=[str(file.case.network) for file in FILES])
def test_c_programs_compute_what_the_reference_does(tmp_path, file):
    compare(file, compiled(tmp_path, script(file, "c")))


@pytest.mark.parametrize("regime", ["saturated", "extreme-logits", "integers"])
def test_saturated_units_and_logits_far_apart_keep_their_digits(tmp_path, regime):
    notations = (
        "3 -> Dense(4) -> Tanh -> Dense(3), SoftmaxCrossEntropy",
        "3 -> Dense(4) -> Sigmoid -> Dense(3) -> Softmax, CrossEntropy",
        "3 -> Dense(4) -> Softplus -> Dense(2) -> Sigmoid, BinaryCrossEntropy",
    )
    files = [file_of(notation, regime=regime) for notation in notations]
    for file, text in zip(files, in_one_process(tmp_path, "numpy", files), strict=True):
        compare(file, text)
        compare(file, compiled(tmp_path, script(file, "c")))


def test_every_number_of_the_case_stands_in_the_script(tmp_path):
    file = file_of("3 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy", dtype="float32")
    for language in ("numpy", "torch", "jax", "c"):
        text = script(file, language)
        assert all(repr(float(number)) in text for number in file.case.parameters["0.weight"].flat)
        assert "gradconform" not in text.replace("my_mlp.py:gradients", "")
        assert max(len(line) for line in text.splitlines() if line.count(", ") < 3) <= 120


def test_ones_own_gradients_stand_beside_what_is_expected(tmp_path):
    file = file_of("2 -> Dense(1), MeanSquaredError")
    expected, _ = expected_of(file)
    own = {"0.weight": (2 * expected["0.weight"]).tolist(), "0.bias": expected["0.bias"].tolist()}
    text = script(file, "numpy")
    place = next(line for line in text.splitlines() if line.startswith("yours = None"))
    filled = f"yours = {{path: np.array(a) for path, a in {own!r}.items()}}"
    program = tmp_path / "case.py"
    program.write_text(text.replace(place, filled), "utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=60).stdout
    differences = [float(line.split()[-1]) for line in done.splitlines() if "largest difference" in line]
    assert differences == pytest.approx([abs(expected["0.weight"]).max(), 0], rel=1e-2)
    assert done.count("yours") == 3

    text = script(file, "c")
    body = " ".join(f"dw0[{i}][0] = {row[0]!r};" for i, row in enumerate(own["0.weight"]))
    filled = text.replace("    (void)dw0; (void)db0;\n    return 0;", f"    {body} (void)db0;\n    return 1;")
    assert filled != text
    done = compiled(tmp_path, filled)
    assert done.count("yours") == 3
    assert done.count("largest difference") == 2


def test_a_hostile_name_stays_in_its_comment(tmp_path):
    file = replace(
        file_of("2 -> Dense(1), MeanSquaredError"), implementation='"""\nimport os\n*/ #error \\', found=Found(
            check="call", kind="NAME", path="'); evil(('", key="k", sentence='""" */')
    )  # fmt: skip
    (text,) = in_one_process(tmp_path, "numpy", [file])
    assert "0.weight" in text
    assert "0.weight" in compiled(tmp_path, script(file, "c"))


def test_types_are_those_of_the_case():
    for dtype in ("float32", "bfloat16", "float16"):
        file = file_of("2 -> Dense(1), MeanSquaredError", dtype=dtype)
        assert file.case.dtype == dtype_of(dtype)
        assert f"The case is in {dtype}" in script(file, "numpy")
        assert f"The case is in {dtype}" in script(file, "c")
        assert f"dtype = torch.{dtype}\n" in script(file, "torch")
        assert f"dtype = jnp.{dtype}\n" in script(file, "jax")
