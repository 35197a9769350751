"""Who computes: everything that a user may call a target, and every way in which that fails, in one line."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import shlex
import sys
import types

import numpy as np
import pytest

import gradconform as gc
from gradconform import InvalidInput, NotInstalled, Unsupported, parse
from gradconform.adapters.deviations import described
from gradconform.case import Batch, Case
from gradconform.conformance import implementations
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.implementations import (
    Implementation,
    adapter_names,
    installed,
    is_installed,
    of,
    of_command,
    resolve,
)
from gradconform.conformance.judge import judge
from gradconform.conformance.situation import Situation
from gradconform.reference.backpropagation import gradients

FUNCTION = "def gradients(network, parameters, batch):\n    return {'0.weight': 1}\n"


PROGRAM = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "start":
        declared = {"dtypes": ["float32"]}
        answer = {"type": "started", "protocol": 1, "name": "p", "version": "7", "capabilities": declared}
    elif message["type"] == "run":
        answer = {"type": "skipped", "id": message["id"], "reason": "not today"}
    else:
        break
    print(json.dumps(answer), flush=True)
"""


def parts_of_a_case():
    parameters = {"0.weight": np.ones((1, 1), np.float32), "0.bias": np.ones(1, np.float32)}
    return parameters, Batch(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write a file into the current folder and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(content, name="mine.py"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return name

    yield write
    for name in [name for name in sys.modules if name.startswith("_gradconform_target_")]:
        del sys.modules[name]


def refused(target, kind=InvalidInput):
    """Return the one line with which a target is refused."""
    with pytest.raises(kind) as caught:
        resolve(target)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_reference():
    found = resolve("reference")
    assert (found.name, found.dtypes, found.title) == (
        "reference",
        ("float64", "float32"),
        f"reference numpy {np.__version__}",
    )
    entry = Draw("ordinary", 1)
    case = Example(parse("2 -> Dense(2), Huber"), 3, (entry,)).case(entry, "float64")
    assert set(found.gradients(case.network, case.parameters, case.batch).parameters) == {"0.weight", "0.bias"}
    assert found.arithmetic == "numpy"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_reference_has_no_16_bits(dtype):
    entry = Draw("ordinary", 1)
    case = Example(parse("2 -> Dense(2), Huber"), 3, (entry,)).case(entry, dtype)
    with pytest.raises(Unsupported) as caught:
        resolve("reference").gradients(case.network, case.parameters, case.batch)
    assert str(caught.value) == f"reference: no rule for {dtype}"


@pytest.mark.parametrize(
    "name", [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
)
def test_a_framework(name):
    found = resolve(name)
    assert found.name == name
    assert found.dtypes == ("float64", "float32")
    assert importlib.metadata.version(name).startswith(found.version.split("+")[0])
    assert found.title == f"{name} {found.version}"
    assert found.arithmetic == {"torch": "torch", "jax": "xla"}[name]
    assert name in [entry.name for entry in installed()]


@pytest.mark.torch
@pytest.mark.jax
def test_an_adapter_that_compiles_has_a_way_to_bare_gradients():
    jax, torch = resolve("jax"), resolve("torch")
    assert (torch.bare, resolve("reference").bare) == (None, None)
    case = Example(parse("3 -> Dense(2), MeanSquaredError"), 2, ()).case(Draw("ordinary", 1), "float64")
    found, bare = (way(case.network, case.parameters, case.batch) for way in (jax.gradients, jax.bare))
    np.testing.assert_allclose(bare.parameters["0.weight"], found.parameters["0.weight"], rtol=1e-13)


@pytest.mark.parametrize(
    "name", [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
)
def test_a_framework_by_vmap(name):
    found, plain = resolve(f"{name}.vmap"), resolve(name)
    assert (found.name, found.version, found.dtypes) == (f"{name}.vmap", plain.version, plain.dtypes)
    assert (found.bare, found.by_vmap, plain.several) == (None, None, None)
    assert plain.by_vmap.name == found.name
    assert found.guard is not plain.guard
    assert found.guard.ours
    assert found.name not in [entry.name for entry in installed()]
    entry = Draw("ordinary", 1)
    case = Example(parse("2 -> Dense(2), Huber"), 3, (entry,)).case(entry, "float64")
    own, other = (way.gradients(*vars(case).values()).parameters for way in (found, plain))
    for path, array in own.items():
        np.testing.assert_allclose(array, other[path], rtol=1e-12)


def test_the_adapters_are_named_and_torch_comes_first():
    assert adapter_names() == ["torch", "jax"]


def test_a_function_in_a_file(file):
    found = resolve(file(FUNCTION) + ":gradients")
    assert (found.name, found.version, found.dtypes) == ("mine.py:gradients", None, ("float64",))
    assert found.gradients(None, None, None) == {"0.weight": 1}
    assert found.title == "mine.py:gradients"


def test_a_file_imports_its_neighbours_and_leaves_the_path_alone(file):
    file("VALUE = 7\n", "neighbour_of_mine.py")
    name = file("from neighbour_of_mine import VALUE\n\ndef gradients(n, p, b):\n    return VALUE\n")
    before = list(sys.path)
    assert resolve(f"{name}:gradients").gradients(1, 2, 3) == 7
    assert sys.path == before
    del sys.modules["neighbour_of_mine"]


def test_a_file_in_another_folder(file, tmp_path):
    (tmp_path / "deep").mkdir()
    file(FUNCTION, "deep/mine.py")
    assert resolve("deep/mine.py:gradients").name == "deep/mine.py:gradients"
    assert resolve(f"{tmp_path}/deep/mine.py:gradients").gradients(1, 2, 3) == {"0.weight": 1}


def test_dataclasses_work_in_a_file(file):
    # they look their module up in sys.modules
    content = "from __future__ import annotations\nimport dataclasses\n\n@dataclasses.dataclass\nclass A:\n    x: int\n"
    assert resolve(file(content + FUNCTION) + ":gradients").name == "mine.py:gradients"


def test_a_function_in_a_module():
    found = resolve("gradconform.reference.backpropagation:gradients")
    assert found.name == "gradconform.reference.backpropagation:gradients"
    assert found.gradients is gradients


def test_an_object_with_the_method(file):
    content = "class Net:\n    x = 5\n\n    def gradients(self, network, parameters, batch):\n        return self.x\n"
    assert resolve(file(content + "\n\nnet = Net()\n") + ":net").gradients(1, 2, 3) == 5


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyError('x')"])
def test_a_package_that_cannot_be_imported_says_why(raised, tmp_path, monkeypatch):
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text(f"raise {raised}")
    (tmp_path / "broken_package" / "mine.py").write_text("gradients = None")
    monkeypatch.chdir(tmp_path)
    told = refused("broken_package.mine")
    assert told.startswith(f"target 'broken_package.mine': {raised.partition('(')[0]}: ")


def test_what_has_no_vmap_is_not_looked_for_in_a_package_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert refused("reference.vmap").startswith("target 'reference.vmap': expected reference, ")
    assert "reference" not in sys.modules


def test_an_unknown_target():
    expected = "expected reference, torch, jax, torch.vmap, jax.vmap, FILE.py:FUNCTION or MODULE:FUNCTION"
    for target in ("tensorflow", "", ":", "a:", ":b", "Torch", "reference.vmap", "tensorflow.vmap", "torch.vmap.vmap"):
        assert refused(target) == f"target {target!r}: {expected}"


def test_a_file_without_a_function(file):
    content = FUNCTION.replace("gradients", "backprop")
    assert refused(file(content)) == "target 'mine.py': which function? Write it as mine.py:gradients"


def test_a_missing_file(file):
    assert refused("nowhere.py:gradients") == refused("nowhere.py") == "nowhere.py: no such file"


def test_a_folder_is_no_file(file, tmp_path):
    (tmp_path / "folder.py").mkdir()
    assert refused("folder.py:gradients") == "folder.py: no such file"


def test_a_missing_object_with_a_suggestion(file):
    target = file(FUNCTION) + ":gradient"
    assert refused(target) == "target 'mine.py:gradient': mine.py has no 'gradient'; did you mean gradients?"


def test_a_missing_object_without_one(file):
    target = file(FUNCTION) + ":zzz"
    assert refused(target) == "target 'mine.py:zzz': mine.py has no 'zzz'"


def test_a_missing_object_of_a_module():
    message = refused("gradconform.reference.backpropagation:gradiens")
    assert message.endswith("has no 'gradiens'; did you mean gradients?")


def test_a_missing_module():
    message = refused("no_such_package.module:gradients")
    assert (
        message == "target 'no_such_package.module:gradients': ModuleNotFoundError: No module named 'no_such_package'"
    )


def test_something_that_cannot_be_called(file):
    target = file("gradients = 3\n") + ":gradients"
    assert refused(target) == f"target {target!r}: expected a function gradients(network, parameters, batch)"


def test_a_syntax_error_with_its_line(file):
    message = refused(file("x = 1\ndef gradients(:\n    pass\n") + ":gradients")
    assert message.startswith("mine.py:2: SyntaxError: invalid syntax")


def test_an_exception_at_import_with_its_line(file):
    name = file("import math\n\n\ndef helper():\n    return 1 / 0\n\n\nX = helper()\n")
    assert refused(f"{name}:gradients") == "mine.py:5: ZeroDivisionError: division by zero"


def test_an_exception_in_a_library_has_the_line_of_the_file(file):
    name = file("import numpy as np\n\nX = np.ones(2).reshape(3)\n")
    assert refused(f"{name}:gradients").startswith("mine.py:3: ValueError: cannot reshape array")


def test_a_syntax_error_in_a_neighbour_has_the_line_of_the_import(file):
    file("def (:\n", "broken_neighbour.py")
    message = refused(file("\n\nimport broken_neighbour\n") + ":gradients")
    assert message.startswith("mine.py:3: SyntaxError: ")
    assert "broken_neighbour.py, line 1" in message


def test_an_exception_of_many_lines_is_one(file):
    name = file("raise RuntimeError('first\\nsecond')\n")
    assert refused(f"{name}:gradients") == "mine.py:1: RuntimeError: first"


def test_a_script_that_exits_is_no_success(file):
    # sys.exit(0) would end the command with the exit code of a success
    assert refused(file("import sys\nsys.exit(0)\n") + ":gradients") == "mine.py:2: SystemExit: 0"


def test_a_module_that_raises_at_import(file, tmp_path, monkeypatch):
    file("raise RuntimeError('first\\nsecond')\n", "raising_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert refused("raising_module:f") == "target 'raising_module:f': RuntimeError: first"


def test_candidates_in_python():
    def mine(network, parameters, batch):
        return {}

    class Net:
        def gradients(self, network, parameters, batch):
            return {"x": 1}

    assert (of(mine).name, of(mine).gradients) == ("mine", mine)
    assert (of(Net()).name, of(Net()).gradients(1, 2, 3)) == ("Net", {"x": 1})
    assert of(functools.partial(mine)).name == "partial"
    assert of("reference").name == "reference"
    implementation = Implementation("x", mine)
    assert of(implementation) is implementation


def test_a_file_or_a_module_with_a_function_gradients_is_a_target(file):
    content = FUNCTION + "dtypes = ('float32',)\nlayers = 3\n"
    found = resolve(file(content))
    assert (found.name, found.dtypes, found.gradients(1, 2, 3)) == ("mine.py", ("float32",), {"0.weight": 1})
    file(content, "gradconform_test_module.py")
    found = resolve("gradconform_test_module")
    assert (found.name, found.capabilities.layers) == ("gradconform_test_module", None)
    del sys.modules["gradconform_test_module"]


def test_a_class_in_a_file_is_a_target(file):
    content = "class Network:\n    samples = 'single'\n    def gradients(self, *arguments):\n        return {'x': 1}\n"
    found = resolve(f"{file(content)}:Network")
    assert (found.name, found.capabilities.samples) == ("mine.py:Network", "single")


def test_every_implementation_has_a_guard_of_its_own():
    assert of(len).guard is not of(len).guard
    assert of(len) != of(max)


def test_a_command_is_an_implementation_with_what_it_declares(file):
    command = [sys.executable, file(PROGRAM), "--flag"]
    found = of_command(command)
    assert found.name == shlex.join(command)
    assert (found.title, found.dtypes, found.supported) == (f"{found.name} 7", ("float32",), ("float32",))
    assert found.asked(["float64"]) == []
    with pytest.raises(Unsupported, match="not today"):
        found.gradients(parse("1 -> Dense(1), Huber"), *parts_of_a_case())


def test_a_command_that_does_not_start_is_refused():
    with pytest.raises(InvalidInput, match="nowhere"):
        of_command(["./nowhere"])


@pytest.mark.parametrize("candidate", [None, 3, [], {}])
def test_what_is_no_candidate(candidate):
    with pytest.raises(InvalidInput) as caught:
        of(candidate)
    name = type(candidate).__name__
    assert str(caught.value) == f"target {name!r}: expected a function gradients(network, parameters, batch)"


def test_a_candidate_is_taken_for_what_is_written_by_hand_unless_it_declares_more():
    def mine(network, parameters, batch):
        return {}

    plain = of(mine)
    assert (plain.dtypes, plain.labels, plain.class_weights) == (("float64",), ("integer",), False)
    mine.dtypes, mine.labels, mine.class_weights = ("float32",), "soft", True
    declared = of(mine)
    assert (declared.dtypes, declared.labels, declared.class_weights) == (("float32",), ("soft",), True)
    mine.dtypes = ("float16", "bfloat16")
    assert of(mine).dtypes == ("bfloat16", "float16")


def test_how_a_candidate_rounds_is_unknown_unless_it_says():
    def mine(network, parameters, batch):
        return {}

    assert of(mine).arithmetic == "any"
    mine.arithmetic = "xla"
    assert of(mine).arithmetic == "xla"


@pytest.mark.parametrize(
    ("attribute", "value", "word", "known"),
    [
        ("dtypes", ("float64", "float8_e5m2"), "float8_e5m2", "float64, float32, bfloat16, float16"),
        ("arithmetic", "cuda", "cuda", "numpy, torch, xla, any"),
        ("labels", ("hard",), "hard", "integer, one-hot, soft"),
    ],
)
def test_a_declaration_that_is_unknown(attribute, value, word, known):
    def mine(network, parameters, batch):
        return {}

    setattr(mine, attribute, value)
    with pytest.raises(InvalidInput) as caught:
        of(mine)
    assert str(caught.value) == f"target 'mine': {attribute} declares {word!r}; known: {known}"


class Point:
    """An entry point."""

    name = "lava"

    def __init__(self, load):
        self.load = load


@pytest.fixture
def entry_point(monkeypatch):
    """Install an adapter of a third party, which `load` returns."""

    def install(load):
        original = importlib.metadata.entry_points

        def entry_points(**selection):
            return [Point(load)] if selection.get("group") == "gradconform.adapters" else original(**selection)

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    return install


def test_an_adapter_of_a_third_party_is_found(entry_point):
    module = types.SimpleNamespace(gradients=lambda *arguments: {"x": 1}, version=lambda: "9.1")
    entry_point(lambda: module)
    assert adapter_names() == ["torch", "jax", "lava"]
    assert is_installed("lava")
    found = resolve("lava")
    assert (found.title, found.gradients(1, 2, 3)) == ("lava 9.1", {"x": 1})
    assert "lava 9.1" in [entry.title for entry in installed()]


def test_an_adapter_of_a_third_party_needs_no_version(entry_point):
    entry_point(lambda: types.SimpleNamespace(gradients=len))
    found = resolve("lava")
    assert (found.title, found.dtypes, found.arithmetic) == ("lava", ("float64", "float32"), "any")


@pytest.mark.parametrize(
    ("declared", "checked"),
    [
        (("float16", "bfloat16", "float32", "float64"), ("float64", "float32")),
        (("float16", "float32"), ("float32",)),
        (("float16", "bfloat16"), ("bfloat16", "float16")),
        ("float64", ("float64",)),
    ],
)
def test_an_adapter_is_checked_in_what_it_declares_of_float64_and_float32_or_in_all(entry_point, declared, checked):
    entry_point(lambda: types.SimpleNamespace(gradients=len, DTYPES=declared, ARITHMETIC="torch"))
    found = resolve("lava")
    assert (found.dtypes, found.arithmetic) == (checked, "torch")


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("DTYPES", ("float32", "tf32"), "DTYPES declares 'tf32'; known: float64, float32, bfloat16, float16"),
        ("ARITHMETIC", "lava", "ARITHMETIC declares 'lava'; known: numpy, torch, xla, any"),
    ],
)
def test_an_adapter_that_declares_what_is_unknown(entry_point, attribute, value, message):
    entry_point(lambda: types.SimpleNamespace(**{"gradients": len, attribute: value}))
    assert refused("lava") == f"target 'lava': {message}"


def test_an_adapter_of_a_third_party_that_cannot_be_imported(entry_point):
    def load():
        raise ImportError("libLava.so is missing")

    entry_point(load)
    assert refused("lava", NotInstalled) == "lava cannot be used: its adapter says: libLava.so is missing"


@pytest.fixture
def absent(monkeypatch):
    """Make a framework look as if it were not installed."""

    def remove(name):
        original = importlib.util.find_spec

        def find_spec(module, *more):
            return None if module.split(".")[0] == name else original(module, *more)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"gradconform.adapters.{name}", raising=False)

    return remove


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_that_is_not_installed(absent, name):
    absent(name)
    assert not is_installed(name)
    assert name in adapter_names()
    assert refused(name, NotInstalled) == f"{name} cannot be used: pip install 'gradconform[{name}]'"


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_that_is_installed_and_broken_says_why(monkeypatch, name):
    def import_module(module):
        raise ImportError(f"lib{name}.so: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(implementations, "is_installed", lambda name: True)
    assert (
        refused(name, NotInstalled)
        == f"{name} cannot be used: importing it says: lib{name}.so: cannot open shared object file"
    )


def test_a_module_that_is_blocked_is_not_installed(monkeypatch):
    blocked = types.ModuleType("torch")
    blocked.__spec__ = None
    monkeypatch.setitem(sys.modules, "torch", blocked)
    assert not is_installed("torch")


def test_a_function_gets_plain_arrays_unless_it_declares_any_memory_order():
    seen = []

    def compute(network, parameters, batch):
        seen.append(batch.inputs.flags.c_contiguous and min(batch.inputs.strides) > 0)
        return gradients(network, parameters, batch)

    assert gc.check(compute, max_examples=40, seed=1).passed
    assert all(seen)
    seen.clear()
    compute.layouts = True
    assert gc.check(compute, max_examples=40, seed=1).passed
    assert not all(seen)


def test_a_function_may_share_the_deviations_of_a_framework():
    def compute(network, parameters, batch):
        return gradients(described("torch", network), parameters, batch)

    # p = 4e-18, whose p (1 - p) is below the floor of the denominator
    batch = Batch(np.array([[-40.0], [1.0]]), np.array([[1.0], [0.0]]))
    case = Case(gc.parse("1 -> Sigmoid, BinaryCrossEntropy"), {}, batch)
    agreement = [check for check in CHECKS.values() if not check.relation]
    assert judge(of(compute), Situation(case), agreement).root is not None
    compute.conventions = "torch"
    assert judge(of(compute), Situation(case), agreement).root is None


def test_comparing_only_what_cannot_be_told_from_rounding_is_comparing_nothing():
    result = gc.check("reference", networks="2 -> Dense(1), SoftmaxCrossEntropy", max_examples=4, only=["parameters"])
    assert result.comparisons > 0
    assert result.verdict == "nothing compared"
