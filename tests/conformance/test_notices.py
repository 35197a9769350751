"""What was noticed of implementations adds up, and is told."""

from __future__ import annotations

from gradconform.conformance.notices import KEPT, Noticed, notes_of


def test_what_was_noticed_adds_up_in_any_order():
    one = Noticed(unsupported={"no ELU": 2, "no GELU": 1}, changed=["a"], warnings={"x": 1}, given_up=1)
    other = Noticed(unsupported={"no GELU": 4}, without=["float16"], changed=["b"], warnings={"x": 2, "y": 1})
    both = Noticed(unsupported={"no GELU": 5, "no ELU": 2}, changed=["a", "b"], warnings={"x": 3, "y": 1}, given_up=1)
    assert one + other == other + one == both
    assert (other + other).without == ["float16"]


def test_of_many_different_warnings_the_most_frequent_are_kept():
    many = Noticed(warnings={f"{number:03}": number for number in range(1, 200)})
    assert list((many + Noticed()).warnings) == [f"{number:03}" for number in range(199, 199 - KEPT, -1)]


def test_the_notes_say_it():
    noticed = {
        "mine": Noticed(
            unsupported={"no ELU": 1, "no GELU": 2},
            changed=["the working directory"],
            warnings={f"w{number}": 1 for number in range(7)} | {"often": 1200},
            given_up=3,
        ),
        "other": Noticed(without=["bfloat16", "float16"], given_up=1),
        "silent": Noticed(),
    }
    assert notes_of(noticed, ["the environment"]) == [
        "mine does not support everything that was drawn: no GELU",
        "other is not checked: it supports bfloat16 and float16 alone",
        "mine leaves changed what others use, which was put back: the working directory",
        "mine warns 1,200 times: often",
        "mine warns: w0",
        "mine warns: w1",
        "mine warns: w2",
        "mine warns: w3",
        "mine gives 3 other warnings",
        "mine took too long 2 times, and was not asked any more, in 3 parts of the run",
        "other took too long 2 times, and was not asked any more",
        "the environment was changed during the run, and put back",
    ]
