"""Markdown: read as GitHub reads it, never too long, and never more markup than is meant."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
import pytest
from markdown_it import MarkdownIt

from gradconform.conformance import report_markdown
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import reference
from gradconform.conformance.message import coverage_table, coverage_text, finding_text, headline
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.report_markdown import LARGEST, code, markdown_report, pre, prose
from gradconform.conformance.results import EXIT_CODES

ALLOWED = {"h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong", "code", "pre"}
ALLOWED |= {"details", "summary"}


class Page(HTMLParser):
    """What a browser has of a report: its elements with their attributes, and the text in each kind of them."""

    def __init__(self, markdown):
        super().__init__()
        self.tags, self.attributes, self.open, self.texts, self.cells = [], [], [], [], []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.open.append(tag)
        if tag in {"pre", "summary", "td", "th", "h2", "li"}:
            self.texts.append((tag, ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for kind in ("pre", "summary", "td", "th", "h2", "li"):
            if kind in self.open:
                tag, text = self.texts.pop()
                self.texts.append((tag, text + data))
                return

    def all(self, tag):
        """Return the texts of all elements of a kind."""
        return [text for kind, text in self.texts if kind == tag]


@pytest.fixture(scope="module")
def result():
    return run(
        Plan(
            [reference(), FAULTS["bias-mean"].implementation()],
            max_examples=6,
            seed=1,
            networks=network_strategy("2 -> Dense(2) -> Tanh -> Dense(3), SoftmaxCrossEntropy"),
            dtypes=("float64",),
            witnesses=False,
            shrink_seconds=0,
        )
    )


def changed(result, **fields):
    return msgspec.structs.replace(result, **fields)


def test_the_verdict_comes_first(result):
    assert markdown_report(result).startswith("## ❌ gradconform: FAILED\n\n1 finding")


@pytest.mark.parametrize("verdict", EXIT_CODES)
def test_every_verdict_is_a_heading(result, verdict):
    page = Page(markdown_report(changed(result, verdict=verdict)))
    assert page.all("h2")[0].split(" ", 1)[1] == f"gradconform: {verdict.upper()}"


def test_a_matrix_of_implementations_and_checks(result):
    page = Page(markdown_report(result))
    tally = result.implementations[0]
    head, cells = page.all("th"), page.all("td")
    assert head[:4] == ["implementation", "dtype", "outputs", "loss"]
    width = head.index("implementation", 1)
    rows = [cells[start : start + width] for start in (0, width)]
    assert rows[0][0] == f"{tally.name} {tally.version}"
    assert rows[0][3] == f"✅ {tally.checks['loss']}"
    assert rows[1][head.index("parameters")] == "❌ 1"
    assert rows[1][head.index("input")].startswith("✅ ")


def test_of_a_long_table_only_the_rows_that_are_shown_are_made(result, monkeypatch):
    first, second = result.implementations
    (finding,) = result.findings
    many = [changed(second, name=f"mine {number}") for number in range(300)]
    found = [changed(finding, implementation=tally.name) for tally in many]
    titles = []
    title = report_markdown._title
    monkeypatch.setattr(report_markdown, "_title", lambda tally: titles.append(tally.name) or title(tally))
    text = markdown_report(changed(result, implementations=[first, *many], findings=found))
    assert text.count("\n\n201 more rows are not shown.") == 2
    assert text.count("| ❌ 1 |") == 99
    # in the matrix, and in the table of how sharp the look was
    assert titles == [tally.name for tally in [first, *many[:99]]] * 2


def test_a_finding_is_as_in_the_terminal_behind_its_first_line(result):
    page = Page(markdown_report(result))
    (finding,) = result.findings
    assert page.all("summary")[0] == f"❌ {headline(finding)}"
    assert page.all("pre")[0].strip("\n") == finding_text(finding)


def test_coverage_sharpness_and_notes_are_told(result):
    page = Page(markdown_report(changed(result, notes=["torch is not installed", "and so on"])))
    assert page.all("pre")[1].strip("\n") == coverage_table(result.coverage)
    assert prose(coverage_text(result.coverage)) in markdown_report(result)
    smallest = result.implementations[0].sharpness["local"].quantile(0.5)
    assert any(cell.startswith(f"{smallest:.0e} / ") for cell in page.all("td"))
    assert page.all("li") == ["torch is not installed", "and so on"]


def test_nothing_is_left_of_what_is_not_there(result):
    bare = changed(result, verdict="nothing compared", implementations=[], findings=[], coverage=[], notes=[])
    page = Page(markdown_report(changed(bare, versions={})))
    assert set(page.tags) == {"h2", "p"}


def test_hundreds_of_findings_of_a_mebibyte_are_a_report_of_less_and_say_so(result):
    (finding,) = result.findings
    large = "<&@`|\n " * (1 << 17)
    findings = [
        changed(finding, id=str(number), sentence=f"{number} {large}", facts=[large] * 20, right=[large])
        for number in range(300)
    ]
    tallies = [changed(result.implementations[0], name=f"{number}{large}") for number in range(300)]
    text = markdown_report(changed(result, findings=findings, implementations=tallies, notes=[large] * 300))
    assert len(text.encode()) < LARGEST < 1 << 20
    page = Page(text)
    told = len(page.all("summary")) - 1
    assert 10 < told < 300
    assert f"This report was shortened:** {300 - told} findings are not shown here" in text
    assert "200 more rows are not shown" in text
    assert "and 250 more" in text


@pytest.mark.parametrize("tallies", [1, 50])
def test_names_that_are_all_markup_leave_a_report_in_one_piece(result, tallies):
    bad = (
        "</code></pre></details><script>alert(1)</script> | **b** `c` [d](http://e) @octocat #1 ![f](//g) ~~h~~ <!-- \\"
    )
    (finding,) = result.findings
    finding = changed(finding, implementation=bad, sentence=bad, facts=[bad], path=bad, check=bad, likely=bad)
    named = [changed(result.implementations[0], name=bad, worst_at=bad, worst_network=bad)] * tallies
    page = Page(markdown_report(changed(result, findings=[finding], implementations=named, notes=[bad])))
    assert set(page.tags) <= ALLOWED
    assert page.attributes == []
    assert page.all("summary")[0].startswith("❌ </code></pre></details><script>")
    # mentions and numbers of issues are looked for in what is neither code nor pre
    (note,) = page.all("li")
    assert "@octocat" not in note
    assert "#1" not in note
    assert note.replace("\u2060", "") == bad


def test_the_parts_of_a_page():
    assert code("a|b") == "<code>a&#124;b</code>"
    assert code("x" * 500, 20) == f"<code>{'x' * 8}&#46;&#46;&#46;{'x' * 8}</code>"
    assert pre("a < b\n\nc") == "<pre>\na &lt; b\n\nc\n</pre>"
