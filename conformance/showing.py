"""The text of kept cases: the message of the finding, and the numbers of the case."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradconform.case import Array
from gradconform.conformance.casefile import CaseFile, finding_from
from gradconform.conformance.message import finding_text
from gradconform.conformance.wrapping import columns, filled

FEW = 1000
"""More numbers than this are not all shown: they are in the file."""


def case_text(file: CaseFile, place: str, command: str) -> str:
    """Return the message of the finding as it was, and the case."""
    batch = {name: array for name, array in vars(file.case.batch).items() if array is not None}
    lines = [finding_text(finding_from(file, place, command)), f"case {file.id}  {place}"]
    for name, array in [*file.case.parameters.items(), *batch.items()]:
        lines += [f"  {name}  {array.shape}", _numbers(array)]
    versions = ", ".join(f"{name} {version}" for name, version in file.versions.items())
    lines += filled(f"found with seed {file.seed}{f' by {versions}' if versions else ''}", "  ")
    return "\n".join(lines)


def line_of(place: Path, file: CaseFile) -> str:
    """Return one line for a case."""
    return f"{file.id}  {place}  {file.implementation}   {file.found.sentence}"


def _numbers(array: Array) -> str:
    shown = array if array.dtype.kind in "iu" else array.astype(np.float64)
    text = np.array2string(shown, max_line_width=columns() - 4, threshold=FEW, floatmode="maxprec", precision=17)
    return "\n".join(f"    {line}" for line in text.splitlines())
