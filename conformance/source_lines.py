"""Where in the user's own source a finding belongs: a file and a line, found by reading it and never by running it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gradconform.conformance.results import Finding

RAISED = re.compile(r"\((?P<file>[^()]+):(?P<line>\d{1,9}) in [^()]+\)$")
"""The end of a detail that tells which line raised."""
METHODS = ("gradients", "backward")
"""What an object is called by, and where it computes gradients."""
ENOUGH = 400
"""Characters of a detail in which that stands."""
LONGEST = 4096
"""Characters of a target that can be one of a file."""
LARGEST = 1 << 20
"""Bytes of a source that is read."""


class Place(NamedTuple):
    """A line of a file, counted from 1; the file relative to the root of the user's repository, with slashes."""

    file: str
    line: int


def place_of(finding: Finding, root: Path, folder: Path) -> Place | None:
    """Return the line that a finding belongs to, or None where that is not known.

    That is the line that raised, where it stands in the target's own file; else the one on which the target's function
    is defined. `folder`: where the check ran, from which the target is named; no file outside `root` is looked at.
    """
    name, _, function = finding.implementation.rpartition(":")
    if finding.implementation.endswith(".py") or not name:
        name, function = finding.implementation, METHODS[0]
    if len(name) > LONGEST:
        return None
    try:
        file = _file(name, folder)
        if file is None or not file.is_relative_to(root) or file.stat().st_size > LARGEST:
            return None
        line = _raised(finding.detail, file) or _defined(_tree(file.read_bytes()), function)
    except (OSError, ValueError):  # a name that no file can have
        return None
    return None if line is None else Place(file.relative_to(root).as_posix(), line)


def _file(name: str, folder: Path) -> Path | None:
    """Return the file that a target names by its path or as a module, its links followed; nothing is imported."""
    stem = Path(*name.split("."))
    paths = (
        [Path(name)]
        if name.endswith(".py")
        else [base / path for base in (Path(), Path("src")) for path in (stem.with_suffix(".py"), stem / "__init__.py")]
    )
    return next((file.resolve() for path in paths if (file := folder / path).is_file()), None)


def _raised(detail: str, file: Path) -> int | None:
    """Return the line that the detail of a crash tells, if it is one of this file."""
    told = RAISED.search(detail[-ENOUGH:])
    return int(told["line"]) if told is not None and told["file"] == file.name else None


def _tree(source: bytes) -> ast.Module:
    """Return a source as a syntax tree; raises `ValueError` for what is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their strings: not ours to say
        try:
            return ast.parse(source)
        except (SyntaxError, RecursionError, MemoryError):
            raise ValueError("not a source of Python") from None


def _defined(tree: ast.Module, function: str) -> int | None:
    """Return the line that defines a name, or of a class the method that computes gradients; the last one holds."""
    found = [(line, node) for line, node in _definitions(tree.body) if function in _names(node)]
    if not found:
        return None
    line, node = found[-1]
    if isinstance(node, ast.ClassDef):
        methods = {method.name: method.lineno for method in node.body if isinstance(method, ast.FunctionDef)}
        return next((methods[name] for name in METHODS if name in methods), line)
    return line


def _definitions(body: Sequence[ast.stmt]) -> Iterator[tuple[int, ast.stmt]]:
    """Yield the statements of a module with their lines, those under its conditions too."""
    for node in body:
        yield node.lineno, node
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _definitions([each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)])


def _names(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
