"""The report of a result as a page: one file that needs nothing else, for people and for browsers of every kind.

Nothing that comes from the user's code is taken for markup: whatever a template shows is made one line, shortened and
escaped on its way, and the page forbids its own scripts and all that would have to be fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

import gradconform
from gradconform.conformance.compare import LOOKS
from gradconform.conformance.message import (
    COMMANDS,
    FEW,
    LOOK_NAMES,
    finding_rows,
    pinned_text,
    tally_details,
    verdict_words,
    what_failed,
)
from gradconform.conformance.report_charts import histogram, sharpness_bar, spread_rows, spread_text
from gradconform.conformance.report_network import finding_picture, step_text
from gradconform.conformance.report_tables import (
    MOST_TALLIES,
    QUANTITIES,
    alarms,
    heat_map,
    matrix,
    met,
    met_pairs,
    relations,
)
from gradconform.conformance.report_words import breakable, humps, name, number, short, title
from gradconform.conformance.results import Finding, Result
from gradconform.conformance.sharpness import QUANTILES
from gradconform.conformance.untrusted import shown

LONGEST = 1000
"""Characters of a text that are shown."""
MOST_FINDINGS, MOST_LINES = 100, 200
"""Findings that are told in full, and those behind them of which a line is; the others are counted."""
LINE = 400
"""Characters of the line of a finding, and of an entry of a list."""
MOST_NOTES, MOST_VERSIONS = 100, 12
CODE = ("write", "not", *COMMANDS)
"""How the labels begin of what is to be copied."""
TONES = {"passed": "good", "failed": "bad", "broken": "bad"}
"""The colours of verdicts; the others are of neither kind."""


class Told(NamedTuple):
    """A finding as the page tells it."""

    finding: Finding
    number: int
    sentence: str
    rows: dict[str, list[str]]
    picture: Markup | None


def html_report(result: Result) -> str:
    """Return the report of a result as HTML, of a few megabytes at the most, whatever the result holds."""
    tallies = result.implementations[:MOST_TALLIES]
    word, sentence = verdict_words(result)
    found = result.findings
    return render(
        "report_check.html",
        result=result,
        word=word,
        sentence=sentence,
        failing=_few(list(dict.fromkeys(name(finding.implementation) for finding in found))),
        tone=TONES.get(result.verdict, "open"),
        # what is neither green nor a finding says why
        reasons=result.notes[:FEW] if result.verdict not in {"passed", "failed"} else [],
        told=list(told(found[:MOST_FINDINGS])),
        more=[
            (f.implementation, shown(what_failed(f), LINE)) for f in found[MOST_FINDINGS : MOST_FINDINGS + MOST_LINES]
        ],
        uncounted=max(0, len(found) - MOST_FINDINGS - MOST_LINES),
        tallies=tallies,
        hidden=len(result.implementations) - len(tallies),
        matrix=list(matrix(result)),
        spreads=[(tally, histogram(tally, f"spread-{place}")) for place, tally in enumerate(tallies, 1)],
        heat=[(tally, heat_map(tally)) for tally in tallies],
        relations=relations(tallies),
        met=list(met(result.coverage[:MOST_TALLIES])),
        met_pairs=met_pairs(result.coverage[:MOST_TALLIES]),
        alarms=alarms(result.canaries) if result.canaries is not None else None,
        facts={name(what): name(version) for what, version in list(result.versions.items())[:MOST_VERSIONS]},
        versions={name(tally.name): tally.version for tally in tallies if tally.version},
        notes=result.notes[:MOST_NOTES],
        unnoted=max(0, len(result.notes) - MOST_NOTES),
    )


def _few(names: list[str]) -> list[str]:
    """Return as many names as fit a sentence, and how many others there are."""
    rest = len(names) - FEW
    return [*names[:FEW], f"{rest:,} others"] if rest > 1 else names


def told(findings: Sequence[Finding]) -> Iterator[Told]:
    """Yield findings as the page tells them, numbered from 1 on."""
    for place, finding in enumerate(findings, 1):
        finding = shortened(finding)  # noqa: PLW2901 - what is told is the short one
        rows: dict[str, list[str]] = {}
        for label, text in finding_rows(finding):
            rows.setdefault(label, []).append(text)
        yield Told(
            finding, place, shown(what_failed(finding), LINE), rows, finding_picture(finding, f"network-{place}")
        )


def shortened(finding: Finding) -> Finding:
    """Return a finding with as much of its texts as is shown."""
    texts: dict[str, Any] = {}
    for field, value in msgspec.structs.asdict(finding).items():
        if isinstance(value, str):
            texts[field] = shown(value, LONGEST)
        elif isinstance(value, list) and value and isinstance(value[0], str):
            texts[field] = [shown(entry, LINE) for entry in value[:LONGEST]]
    return msgspec.structs.replace(finding, **texts)


def render(template: str, **values: Any) -> str:
    """Return what a template of this folder makes of values."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return what templates are rendered in."""

    def source(template: str) -> str:
        return files("gradconform.conformance").joinpath(f"{template}.jinja").read_text("utf-8")

    made = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {
        "CODE": CODE,
        "COMMANDS": COMMANDS,
        "LOOKS": LOOKS,
        "LOOK_NAMES": LOOK_NAMES,
        "QUANTILES": QUANTILES,
        "QUANTITIES": QUANTITIES,
        "version": gradconform.__version__,
        "sharpness_bar": sharpness_bar,
        "pinned_text": pinned_text,
        "spread_rows": spread_rows,
        "spread_text": spread_text,
        "step_text": step_text,
        "tally_details": tally_details,
        "title": title,
    }
    made.filters |= {
        "breakable": breakable,
        "count": lambda value: f"{value:,}",
        "humps": humps,
        "name": name,
        "short": lambda value: short(number(value)),
    }
    return made


def _plain(value: object) -> object:
    """Return what a template shows as one line of printable characters, or as it is where it is markup of ours."""
    return value if isinstance(value, Markup) else shown(str(value), LONGEST)
