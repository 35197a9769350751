"""The layout: every module is installed, imports run one way, and importing costs no framework."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gradconform

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "gradconform": ROOT / "src" / "gradconform",
    "gradconform.reference": ROOT / "reference",
    "gradconform.adapters": ROOT / "adapters",
    "gradconform.conformance": ROOT / "conformance",
    "gradconform.examples": ROOT / "examples",
}
PARTS = ("gradconform.reference", "gradconform.adapters", "gradconform.conformance")
BARE = ("reference", "adapters", "conformance")
FRAMEWORKS = ("torch", "jax")


def files(folder):
    """Return the files of a folder, nested ones included, without what Python and hidden tools write."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in paths if not any(part == "__pycache__" or part.startswith(".") for part in p.parts))


SOURCES = {
    f"{package}.{file.with_suffix('').as_posix().replace('/', '.')}".removesuffix(".__init__"): folder / file
    for package, folder in FOLDERS.items()
    for file in files(folder)
    if file.suffix == ".py"
}


def test_every_folder_with_modules_is_a_listed_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {package: folder.relative_to(ROOT).as_posix() for package, folder in FOLDERS.items()}
    assert settings["package-dir"] == folders
    nested = {
        ".".join((package, *file.parent.parts))
        for package, folder in FOLDERS.items()
        for file in files(folder)
        if file.suffix == ".py"
    }
    assert set(settings["packages"]) == nested


def test_the_wheel_holds_every_file_and_no_other():
    installed = {path.as_posix() for path in importlib.metadata.files("gradconform") or ()}
    if "gradconform/__init__.py" not in installed:
        pytest.skip("an editable installation lists no modules; tox installs the wheel")
    sources = {
        (Path(*package.split(".")) / file).as_posix() for package, folder in FOLDERS.items() for file in files(folder)
    }
    modules = {path for path in installed if path.startswith("gradconform/") and "__pycache__" not in path}
    assert modules == sources


def imports(module, source):
    """Yield each module that `source` imports, at its top or in a function, and the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: a relative import"
            yield node.module, node.lineno
            for name in node.names:
                yield f"{node.module}.{name.name}", node.lineno


def inside(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden(module, name):
    """Return whether `module` may not import `name`."""
    if inside(name, *BARE):
        return True
    if inside(module, "gradconform.reference"):
        third = name.split(".")[0] not in {*sys.stdlib_module_names, "numpy", "gradconform"}
        return third or inside(name, "gradconform.adapters", "gradconform.conformance")
    if inside(module, "gradconform.adapters"):
        # what serves the adapter of a framework begins with its name
        own = module.rpartition(".")[2].partition("_")[0]
        others = [framework for framework in FRAMEWORKS if framework != own]
        adapters = [f"gradconform.adapters.{framework}" for framework in others]
        return inside(name, *others, *adapters, "gradconform.reference", "gradconform.conformance")
    if inside(module, "gradconform.conformance", "gradconform.examples"):
        return False
    return inside(name, *PARTS, *FRAMEWORKS)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_run_one_way(module):
    source = SOURCES[module].read_text("utf-8")
    if module == "gradconform":
        source = ast.unparse([node for node in ast.parse(source).body if not isinstance(node, ast.If)])
    assert [f"line {line}: {name}" for name, line in imports(module, source) if forbidden(module, name)] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("gradconform.network", "gradconform.reference.rules"),
        ("gradconform.case", "torch"),
        ("gradconform.reference.rules", "gradconform.adapters"),
        ("gradconform.reference.rules", "gradconform.conformance.engine"),
        ("gradconform.reference.rules", "scipy.special"),
        ("gradconform.reference", "torch"),
        ("gradconform.adapters.torch", "gradconform.adapters.jax"),
        ("gradconform.adapters.torch", "jax.numpy"),
        ("gradconform.adapters.jax", "gradconform.adapters.torch"),
        ("gradconform.adapters.jax", "gradconform.reference.rules"),
        ("gradconform.adapters", "torch"),
        ("gradconform.adapters.function", "jax"),
        ("gradconform.adapters.jax_programs", "gradconform.adapters.torch"),
        ("gradconform.conformance.engine", "reference"),
        ("gradconform.conformance.engine", "adapters.torch"),
    ],
)
def test_the_rule_forbids(module, name):
    assert forbidden(module, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("gradconform.case", "numpy"),
        ("gradconform.reference.rules", "gradconform.layers"),
        ("gradconform.reference.rules", "gradconform.reference.arithmetic"),
        ("gradconform.adapters.torch", "torch.func"),
        ("gradconform.adapters.jax", "jax"),
        ("gradconform.adapters.jax_programs", "jax"),
        ("gradconform.conformance.engine", "gradconform.adapters"),
    ],
)
def test_the_rule_allows(module, name):
    assert not forbidden(module, name)


def test_imports_are_found_wherever_they_stand():
    source = "import a.b\ndef f():\n    from c import d\n    if f:\n        import e as g\n"
    assert list(imports("x", source)) == [("a.b", 1), ("c", 3), ("c.d", 3), ("e", 5)]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("gradconform", ("numpy", "torch", "jax", "hypothesis", "pytest", "msgspec")),
        ("gradconform.adapters", ("torch", "jax")),
        ("gradconform.conformance", ("torch", "jax")),
        ("gradconform.conformance.cli", ("numpy", "torch", "jax", "hypothesis")),
        ("gradconform.conformance.plugin", ("numpy", "torch", "jax", "hypothesis")),
        ("gradconform.conformance.engine", ("torch", "jax")),
    ],
)
def test_importing_costs_no_framework(module, absent):
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & {set(absent)!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_every_public_name_can_be_imported_and_listed():
    assert len(set(gradconform.__all__)) == len(gradconform.__all__)
    assert set(dir(gradconform)) == set(gradconform.__all__)
    for name in gradconform.__all__:
        value = getattr(gradconform, name)
        assert getattr(value, "__name__", name) == name


def test_the_names_for_type_checkers_are_the_table():
    tree = ast.parse(Path(gradconform.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {(node.module, name.name, name.asname) for node in block.body for name in node.names}
    table = gradconform._HOMES.items()
    assert seen == {(f"gradconform.{module}", name, name) for module, names in table for name in names}


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gradconform' has no attribute 'Conv2d'"):
        _ = gradconform.Conv2d


def test_the_version_is_that_of_the_distribution():
    assert importlib.metadata.version("gradconform") == gradconform.__version__
