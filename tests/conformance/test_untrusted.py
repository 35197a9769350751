"""What is shown of somebody's texts: one printable line that has an end and gives no orders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconform.conformance.untrusted import LONGEST, named, shown, unordered


@pytest.mark.parametrize(
    "text", ["", "0.weight", "my_mlp.py:gradients", "std::vector # 3", "mein_netz_ü", "a" * LONGEST]
)
def test_an_ordinary_text_stays_as_it_is(text):
    assert shown(text) == unordered(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x9b0m", r"\x1b[31mred\x9b0m"),
        ("nul\0 \udcff \ufffe", r"nul\x00 \udcff \ufffe"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("##[error]no", r"#\x23[error]no"),
        ("see ##vso[task.complete]", r"see #\x23vso[task.complete]"),
    ],
)
def test_what_is_not_printable_or_an_order_is_escaped(text, expected):
    assert shown(text) == expected


@given(st.text(), st.integers(10, 30))
def test_whatever_it_is_it_is_one_printable_line_of_so_many_characters(text, limit):
    line = shown(text * 4, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert "##" not in line
    assert shown(line, limit) == line
    name = named(text * 4, limit)
    assert name.isprintable()
    assert len(name) <= limit
    assert "##" not in name


def test_a_name_keeps_its_end():
    assert named("my_mlp.py:gradients") == "my_mlp.py:gradients"
    assert named(f"{'folder/' * 1000}my_mlp.py:gradients", 43) == "folder/folder/folder.../my_mlp.py:gradients"
    assert named("\n" * 10**6, 11) == r"\n\n...\n\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("::error::no", r"\x3a:error::no"),
        ("    ::set-output name=a::b", r"    \x3a:set-output name=a::b"),
        ("a ::error::no", "a ::error::no"),
        (": :", ": :"),
    ],
)
def test_a_line_does_not_begin_as_an_order_does(line, expected):
    assert unordered(line) == expected
