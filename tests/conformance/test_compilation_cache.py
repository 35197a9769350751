"""Where compiled programs are kept: whose word counts, that no harm comes of it, and that it stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradconform.conformance import compilation_cache
from gradconform.conformance.compilation_cache import JAX_FOLDER, SETTINGS, enable, folder, told, trim, usage

HOME = Path.home() / ".cache" / "gradconform"


@pytest.fixture(autouse=True)
def at_exit(monkeypatch):
    """What was to be done at exit, and is not."""
    asked = []
    monkeypatch.setattr(compilation_cache.atexit, "register", lambda *call: asked.append(call))
    monkeypatch.setattr(compilation_cache.warnings, "filterwarnings", lambda *_, **__: None)
    return asked


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, HOME),
        ({"XDG_CACHE_HOME": ""}, HOME),
        ({"XDG_CACHE_HOME": "relative"}, HOME),
        ({"XDG_CACHE_HOME": "/some/where"}, Path("/some/where/gradconform")),
        ({"XDG_CACHE_HOME": "/some/where", "GRADCONFORM_CACHE": "/else"}, Path("/else")),
        ({"GRADCONFORM_CACHE": "here"}, Path("here").absolute()),
        ({"GRADCONFORM_CACHE": "off"}, None),
        ({"GRADCONFORM_CACHE": ""}, None),
    ],
)
def test_the_environment_tells_the_folder(environment, expected):
    assert folder(environment) == expected


def test_nobody_has_a_home(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert folder({}) is None
    assert told({}) == "not kept: there is no home"


def test_jax_is_told_of_a_folder_of_the_users_own(tmp_path, at_exit):
    environment = {"GRADCONFORM_CACHE": str(tmp_path / "new")}
    enable(environment)
    place = Path(environment.pop(JAX_FOLDER))
    assert place.is_relative_to(tmp_path / "new")
    assert place.stat().st_mode & 0o777 == 0o700
    assert {name: environment[name] for name in SETTINGS} == SETTINGS
    assert [call[1] for call in at_exit] == [tmp_path / "new"]


@pytest.mark.parametrize("more", [{"GRADCONFORM_CACHE": "off"}, {JAX_FOLDER: "/mine"}, {JAX_FOLDER: ""}])
def test_what_the_user_says_is_left_alone(tmp_path, more, at_exit):
    environment = {"GRADCONFORM_CACHE": str(tmp_path / "new"), **more}
    before = dict(environment)
    enable(environment)
    assert environment == before
    assert list(tmp_path.iterdir()) == at_exit == []


def test_settings_of_the_user_stay(tmp_path):
    name = next(iter(SETTINGS))
    environment = {"GRADCONFORM_CACHE": str(tmp_path), name: "5"}
    enable(environment)
    assert environment[name] == "5"


def test_a_folder_that_cannot_be_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", "utf-8")
    environment = {"GRADCONFORM_CACHE": str(tmp_path / "file" / "new")}
    enable(environment)
    assert JAX_FOLDER not in environment
    assert told(environment).startswith(f"not kept: {tmp_path / 'file' / 'new'} cannot be written")
    monkeypatch.setattr(os, "access", lambda *_: False)
    environment = {"GRADCONFORM_CACHE": str(tmp_path)}
    enable(environment)
    assert JAX_FOLDER not in environment


def filled(kept, *sizes):
    """Write entries, the first of which was not used for longest."""
    environment = {"GRADCONFORM_CACHE": str(kept)}
    enable(environment)
    paths = [Path(environment[JAX_FOLDER]) / f"jit_plain-{index}-cache" for index in range(len(sizes))]
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        path.write_bytes(bytes(size))
        os.utime(path, (1000 + index, 1000 + index))
    return paths


def test_what_was_not_used_for_longest_is_removed_first(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("mine", "utf-8")
    paths = filled(tmp_path, 50, 50, 50, 0, 50)
    assert usage(tmp_path) == (5, 200)
    trim(tmp_path, most=120)
    assert [path.exists() for path in paths] == [False, False, True, False, True]
    assert other.exists()
    assert usage(tmp_path) == (2, 100)
    assert told({"GRADCONFORM_CACHE": str(tmp_path)}) == f"{tmp_path}: 2 programs, 0.0 of at most 64 MiB"


def test_a_folder_that_is_gone_is_empty(tmp_path):
    trim(tmp_path / "none")
    assert usage(tmp_path / "none") == (0, 0)


def test_what_another_process_removes_meanwhile_is_no_matter(tmp_path, monkeypatch):
    (path,) = filled(tmp_path, 50)
    entries = compilation_cache._entries(tmp_path)
    path.unlink()
    monkeypatch.setattr(compilation_cache, "_entries", lambda _: entries)
    trim(tmp_path, most=10)


def test_it_is_looked_after_where_jax_was_used(tmp_path, at_exit, monkeypatch):
    (path,) = filled(tmp_path, 0)
    ((function, argument),) = at_exit
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    function(argument)
    assert path.exists()
    monkeypatch.setitem(sys.modules, "jax", object())
    function(argument)
    assert not path.exists()


def test_the_users_own_folder_for_jax_is_told():
    assert told({JAX_FOLDER: "/mine"}) == "/mine, by JAX_COMPILATION_CACHE_DIR"


PROGRAM = """
import hashlib, sys
import numpy as np
from gradconform.conformance import compilation_cache
compilation_cache.enable()
import jax
from gradconform import Batch, parse
from gradconform.adapters.jax import gradients
from gradconform.conformance.state import warnings_kept

hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if "cache_hits" in event else None)
digest = hashlib.sha256()
for dtype in ("float64", "float32"):
    rng = np.random.default_rng(1)
    network = parse("3 -> Dense(5) -> SiLU -> Dense(4) -> GELU -> Dense(2), SoftmaxCrossEntropy")
    parameters = {path: rng.normal(size=shape).astype(dtype) for path, shape in network.parameters().items()}
    batch = Batch(rng.normal(size=(7, 3)).astype(dtype), np.arange(7) % 2)
    with warnings_kept(print, print):
        found = gradients(network, parameters, batch)
    for run in (found, found.captured):
        for array in (run.loss, run.input, *run.parameters.values(), *run.deltas.values(), *run.outputs.values()):
            digest.update(array.tobytes())
print(len(hits), digest.hexdigest())
"""


@pytest.mark.jax
def test_what_was_kept_gives_the_same_numbers_bit_for_bit_and_what_is_broken_is_compiled_again(tmp_path):
    def run():
        environment = {name: value for name, value in os.environ.items() if name != JAX_FOLDER}
        environment["GRADCONFORM_CACHE"] = str(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        hits, digest = done.stdout.split()
        return int(hits), digest

    hits, cold = run()
    assert hits == 0
    assert run() == (4, cold)
    entries = sorted(tmp_path.rglob("*-cache"))
    assert len(entries) == 4
    for index, entry in enumerate(entries):
        content = entry.read_bytes()
        entry.write_bytes((content[: len(content) // 2], b"", b"nonsense", content[:-1])[index])
    assert run() == (0, cold)
