"""A finding belongs to a line of the user's own source, which is read and never run."""

from __future__ import annotations

import pytest

from gradconform.conformance.results import Finding
from gradconform.conformance.source_lines import Place, place_of
from gradconform.network import Network

NETWORK = Network.from_json('{"inputs":1,"layers":[{"kind":"Dense","units":1}],"loss":{"kind":"MeanSquaredError"}}')

SOURCE = '''raise SystemExit("it was run")
from elsewhere import imported
import os as operating


def gradients(network, parameters, batch):
    """Later: the one that holds."""


def outer():
    def inner():
        pass


async def later(network, parameters, batch): ...


if operating:
    def gradients(network, parameters, batch):
        return {}
else:
    assigned: object = None

both = also = lambda *_: {}


@decorated
class Whole:
    def forward(self): ...
    def backward(self): ...


class Plain:
    pass
'''


def finding(implementation, detail=""):
    return Finding(
        id="0", implementation=implementation, check="loss", kind="WRONG", path="loss", sentence="loss is wrong",
        dtype="float64", network=NETWORK, notation=str(NETWORK), rows=2, numbers="ordinary", detail=detail,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("gradients", 19),
        ("later", 15),
        ("imported", 2),
        ("operating", 3),
        ("assigned", 22),
        ("also", 24),
        ("Whole", 30),
        ("Plain", 33),
        ("inner", None),
        ("nothing", None),
    ],
)
def test_the_line_that_defines_the_function(folder, function, line):
    expected = None if line is None else Place("mine.py", line)
    assert place_of(finding(f"mine.py:{function}"), folder, folder) == expected


def test_a_file_alone_is_its_function_gradients(folder):
    assert place_of(finding("mine.py"), folder, folder) == Place("mine.py", 19)


@pytest.mark.parametrize("file", ["package/part.py", "package/part/__init__.py", "src/package/part.py"])
def test_a_module_is_found_by_its_name(tmp_path, file):
    place = tmp_path / file
    place.parent.mkdir(parents=True)
    place.write_text("def f(): ...", "utf-8")
    assert place_of(finding("package.part:f"), tmp_path, tmp_path) == Place(file, 1)


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        ("RuntimeError: no (mine.py:24 in <lambda>)", 24),
        ("RuntimeError: (mine.py:1 in f) (mine.py:24 in <lambda>)", 24),
        ("RuntimeError: no (theirs.py:24 in f)", 19),
        ("RuntimeError: (mine.py:24 in f) was said", 19),
        ("RuntimeError: no (mine.py:" + "9" * 350 + " in f)", 19),
        ("x" * 1_000_000 + "(mine.py:24 in f)", 24),
    ],
)
def test_the_line_that_raised_where_it_is_in_that_file(folder, detail, line):
    assert place_of(finding("mine.py:gradients", detail), folder, folder) == Place("mine.py", line)


def test_from_a_folder_below_the_root(folder):
    (folder / "below").mkdir()
    assert place_of(finding("../mine.py"), folder, folder / "below") == Place("mine.py", 19)


@pytest.mark.parametrize(
    "name",
    [
        "torch",
        "./my_backprop --fast",
        "none.py:gradients",
        "../outside.py:gradients",
        "link.py:gradients",
        "broken.py:gradients",
        "deep.py:gradients",
        "large.py:gradients",
        "folder.py:gradients",
        "..:gradients",
        ":gradients",
        "\0.py:gradients",
        "\ud800.py:gradients",
        "x" * 1_000_000 + ".py:gradients",
        "a." * 1_000_000 + ":gradients",
    ],
)
def test_what_is_no_source_of_the_repository_has_no_line(tmp_path, name):
    outside, root = tmp_path / "outside.py", tmp_path / "root"
    outside.write_text("def gradients(): ...", "utf-8")
    root.mkdir()
    (root / "folder.py").mkdir()
    (root / "link.py").symlink_to(outside)
    (root / "broken.py").write_text("def gradients(:", "utf-8")
    (root / "deep.py").write_text("(" * 100_000 + ")" * 100_000 + "\ndef gradients(): ...", "utf-8")
    (root / "large.py").write_text("#" * (1 << 20) + "\ndef gradients(): ...", "utf-8")
    assert place_of(finding(name), root, root) is None


def test_a_warning_of_the_source_is_not_ours(folder):
    (folder / "odd.py").write_text("x = '\\d'\n\n\ndef gradients(): ...\n", "utf-8")
    assert place_of(finding("odd.py"), folder, folder) == Place("odd.py", 4)
