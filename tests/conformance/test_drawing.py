"""The same is drawn for the same seed, whatever is loaded in the process."""

from __future__ import annotations

import importlib.util
import sys

from hypothesis import Phase
from hypothesis.internal.conjecture import providers

from gradconform.conformance.drawing import without_constants_of_modules
from gradconform.conformance.implementations import reference
from gradconform.conformance.plan import Chunk, Plan, draw_examples


def drawn():
    found = []
    plan = Plan([reference()], seed=1)
    for start in range(20):
        draw_examples(plan, Chunk(0, start), [Phase.generate], found.append)
    return found


def test_constants_of_a_module_are_not_drawn(tmp_path, monkeypatch):
    before = drawn()
    (tmp_path / "somebodys.py").write_text(f"NUMBERS = {list(range(12345, 13345))}\n", "utf-8")
    spec = importlib.util.spec_from_file_location("somebodys", tmp_path / "somebodys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "somebodys", module)
    assert 12345 in providers._get_local_constants().integers
    assert drawn() == before


def test_afterwards_it_is_as_it_was():
    collect = providers._get_local_constants
    with without_constants_of_modules():
        assert len(providers._get_local_constants()) == 0
    assert providers._get_local_constants is collect


def test_a_release_without_such_constants_is_left_alone(monkeypatch):
    monkeypatch.delattr(providers, "_get_local_constants")
    with without_constants_of_modules():
        assert not hasattr(providers, "_get_local_constants")
