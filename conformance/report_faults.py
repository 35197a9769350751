"""The kill matrix as a page: which check finds which planted fault, and what correct code was told."""

from __future__ import annotations

from gradconform.conformance.killing import COLUMNS, Killing
from gradconform.conformance.killing_report import first_as, seconds_text, totals, verdict_words
from gradconform.conformance.report_html import render, told

MOST_WRONG = 50
"""Faults under a wrong name of which the finding is told."""


def killing_html(killing: Killing) -> str:
    """Return the matrix as HTML that needs nothing else."""
    word, sentence = verdict_words(killing)
    misnamed = [kill.finding for kill in killing.misnamed[:MOST_WRONG] if kill.finding is not None]
    return render(
        "report_faults.html",
        killing=killing,
        word=word,
        sentence=sentence,
        tone="bad" if killing.exit_code else "good",
        totals=totals(killing),
        checks=COLUMNS,
        told=list(told(misnamed)),
        first_as=first_as,
        seconds_text=seconds_text,
    )
