"""The nearest name: told where one is near, and everything that there is where none is."""

from __future__ import annotations

from gradconform.nearest import closest, hint, near

KNOWN = ("torch", "jax", "reference")


def test_what_was_probably_meant_is_told():
    assert closest("torhc", KNOWN) == ["torch"]
    assert near("torhc", KNOWN) == "; did you mean torch?"
    assert hint("torhc", iter(KNOWN)) == "did you mean torch?"
    assert closest("maxs", ["max", "maxi", "maxis"], 2) == ["maxis", "max"]


def test_where_nothing_is_near_nothing_is_guessed():
    assert closest("xyzzy", KNOWN) == []
    assert near("xyzzy", KNOWN) == near("", []) == ""
    assert hint("xyzzy", iter(KNOWN)) == "known: torch, jax, reference"
