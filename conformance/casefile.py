"""Case files: a failure as JSON that a person can read, every number exact."""

from __future__ import annotations

import json
import math
import platform
import re
import sys
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

import gradconform
from gradconform.case import Array, Case
from gradconform.conformance.compare import Look
from gradconform.conformance.examples import Layout
from gradconform.conformance.results import Finding, Number

VERSION = 1
LARGEST = 64 << 20
"""Bytes that a case file may have."""
WIDTH = 100
SURROGATE = re.compile("[\ud800-\udfff]")


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the failure was judged: by which checks, within which limits, and after how many calls.

    `kinks`: what was known by then of the derivatives at kinks. `isolated`: in a process of its own.
    """

    checks: list[str]
    relations: bool = True
    affine: bool = False
    isolated: bool = False
    timeout: float | None = None
    max_memory: int | None = None
    kinks: dict[str, float] = {}
    calls: int = 0


class Found(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was found: fields of a finding, of the same names.

    Those that cannot be known from the one case, such as in how many cases it failed, are told again in a replay.
    """

    check: str
    kind: str
    path: str
    key: str
    sentence: str
    index: list[int] = []
    actual: Number | None = None
    expected: Number | None = None
    error: Number | None = None
    bound: Number | None = None
    ratio: Number | None = None
    factor: float | None = None
    look: Look = "global"
    wrong: list[str] = []
    right: list[str] = []
    place: str = ""
    detail: str = ""
    numbers: str = ""
    factor_name: str = ""
    failing_cases: int = 1
    agreeing: list[str] = []
    disagreeing: list[str] = []
    symptom: str = ""
    likely: str = ""
    mend: str = ""
    evidence: str = ""
    facts: list[str] = []
    only_where: list[str] = []
    does_not_matter: list[str] = []
    also: list[str] = []


AGAIN = (
    "numbers",
    "factor_name",
    "failing_cases",
    "agreeing",
    "disagreeing",
    "symptom",
    "likely",
    "mend",
    "evidence",
    "facts",
    "only_where",
    "does_not_matter",
    "also",
)
"""The fields of `Found` that rest on the whole run, or on what was installed there."""


@dataclass(frozen=True, kw_only=True)
class CaseFile:
    """A failure, its case, and all that it takes to see it again.

    `program`: the words of the command, where the implementation is one. `before`: earlier calls of the same network,
    on which a failure may depend. `versions`: of what was there when it was found.
    """

    id: str
    implementation: str
    case: Case
    conditions: Conditions
    found: Found
    program: tuple[str, ...] = ()
    seed: int = 0
    versions: dict[str, str]
    before: tuple[Case, ...] = ()


def found_of(finding: Finding) -> Found:
    """Return what a case file says of a finding."""
    fields = {name: getattr(finding, name) for name in Found.__struct_fields__}
    if finding.factor is not None and not math.isfinite(finding.factor):
        fields["factor"] = None
    return Found(**fields)


def finding_from(file: CaseFile, place: str = "", command: str = "") -> Finding:
    """Return the finding as it was; `command` judges the case again."""
    case = file.case
    return Finding(
        id=file.id,
        implementation=file.implementation,
        dtype=case.dtype.name,
        network=case.network,
        notation=str(case.network),
        rows=case.batch.rows,
        replay=command,
        file=place,
        **msgspec.structs.asdict(file.found),
    )


def encode(file: CaseFile) -> bytes:
    """Return a case file as JSON: short entries and the rows of arrays on one line each."""
    entries: dict[str, Any] = {
        "gradconform": "case",
        "version": VERSION,
        "id": file.id,
        "implementation": file.implementation,
        **({"program": list(file.program)} if file.program else {}),
        "dtype": file.case.dtype.name,
        "network": msgspec.to_builtins(file.case.network),
        **_arrays(file.case),
        "conditions": msgspec.to_builtins(file.conditions),
        "found": msgspec.to_builtins(file.found),
        "seed": file.seed,
        "versions": file.versions,
        **({"before": [_arrays(case) for case in file.before]} if file.before else {}),
    }
    # what is no text, such as the name of a file in another encoding, is spelled out
    content = SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", _text(entries, ""))
    return f"{content}\n".encode()


def _arrays(case: Case) -> dict[str, Any]:
    batch = {name: array for name, array in vars(case.batch).items() if array is not None}
    layouts = {
        name: layout
        for name, array in [*case.parameters.items(), *batch.items()]
        if (layout := layout_of(array)) != "C"
    }
    return {"parameters": dict(case.parameters), **batch, **({"layouts": layouts} if layouts else {})}


def layout_of(array: Array) -> Layout:
    """Return the memory order of an array, as `gradconform.conformance.examples.lay_out` makes it."""
    if array.flags.c_contiguous:
        return "C"
    if array.flags.f_contiguous:
        return "F"
    return "reversed" if array.strides[0] < 0 else "strided"


def _text(value: Any, indent: str) -> str:
    """Return a value as JSON: on one line if it is short, else each entry on a line of its own."""
    inner = f"{indent}  "
    if isinstance(value, np.ndarray):
        if value.ndim < 2:
            return f"[{_numbers(value)}]"
        rows = [f"{inner}[{_numbers(row)}]" for row in value]
        return "\n".join(["[", ",\n".join(rows), f"{indent}]"])
    if isinstance(value, dict | list) and value:
        short = None if _holds_arrays(value) else json.dumps(value, ensure_ascii=False, allow_nan=False)
        if short is not None and len(short) + len(indent) <= WIDTH:
            return short
        if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        if isinstance(value, dict):
            lines = [f"{inner}{json.dumps(key)}: {_text(entry, inner)}" for key, entry in value.items()]
            return "\n".join(["{", ",\n".join(lines), f"{indent}}}"])
        return "\n".join(["[", ",\n".join(f"{inner}{_text(entry, inner)}" for entry in value), f"{indent}]"])
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _holds_arrays(value: Any) -> bool:
    entries = value.values() if isinstance(value, dict) else value
    return any(isinstance(entry, np.ndarray) or (isinstance(entry, dict) and _holds_arrays(entry)) for entry in entries)


def _numbers(row: Array) -> str:
    """Return numbers with no more digits than give the same ones of the same type again, bit for bit."""
    if row.dtype.kind in "iu" or row.dtype == np.float64:
        return ", ".join(map(repr, row.tolist()))
    return ", ".join(map(_short, row))


def _short(number: Any) -> str:
    short = str(number)
    if short.lstrip("-").isdecimal():
        short += ".0"  # as bfloat16 spells -0, which as an integer has no sign
    return short if np.float64(short).astype(number.dtype).tobytes() == number.tobytes() else repr(float(number))


def versions() -> dict[str, str]:
    """Return the versions of what is loaded."""
    told = {"gradconform": gradconform.__version__, "python": platform.python_version()}
    for name in ("numpy", "torch", "jax"):
        if name in sys.modules:
            told[name] = str(getattr(sys.modules[name], "__version__", ""))
    return told
