"""The terminal: what is shown of a run while it goes on."""

import io

import msgspec
import pytest
from rich.console import Console

from gradconform.conformance import terminal
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.message import finding_text
from gradconform.conformance.plan import Plan


@pytest.fixture(scope="module")
def finding():
    plan = Plan([FAULTS["bias-mean"].implementation()], 4, seed=2, witnesses=False, dtypes=["float64"])
    return run(plan).findings[0]


def test_without_a_terminal_a_finding_is_a_line_as_soon_as_it_is_small(finding, capsys):
    with terminal.Progress() as progress:
        progress.found(finding)
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("gradconform: bias-mean   0.bias is wrong: ")
    assert line.endswith(": 1 -> Dense(1), MeanSquaredError, batch 2, float64, small integers")


def test_the_line_says_what_is_likely(finding, capsys):
    with terminal.Progress() as progress:
        progress.found(msgspec.structs.replace(finding, likely="sum over the batch"))
    assert capsys.readouterr().err.endswith(", small integers; likely sum over the batch\n")


def test_on_a_terminal_all_of_it_stands_above_the_bar_until_the_run_ends(finding, monkeypatch):
    shown = io.StringIO()

    def console(**options):
        return Console(file=shown, force_terminal=True, force_interactive=True, width=100, height=40, **options)

    monkeypatch.setattr(terminal, "Console", lambda **options: console(highlight=False))
    with terminal.Progress() as progress:
        progress.advance(3, 10)
        progress.found(finding)
        progress.advance(4, 10)
    for line in finding_text(finding).splitlines():
        assert line in shown.getvalue()
    # it is taken away again: the lines are erased when the bar goes
    after = shown.getvalue().rpartition("4/10")[2]
    assert after.count("\x1b[2K") >= len(finding_text(finding).splitlines())
    assert "FAILED" not in after
