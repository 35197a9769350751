"""The pages: well formed, complete in themselves, open to everybody, and safe and small whatever a result holds."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from html.parser import HTMLParser

import msgspec
import pytest

from gradconform.conformance.canaries import proved
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.killing import Correct, Kill, Killing
from gradconform.conformance.message import finding_rows, what_failed
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.report_faults import killing_html
from gradconform.conformance.report_html import LONGEST, MOST_FINDINGS, MOST_LINES, html_report
from gradconform.conformance.report_tables import MOST_TALLIES
from gradconform.conformance.results import Pinned, Result

NETWORK = "3 -> Dense(2) -> Tanh -> Dense(4), SoftmaxCrossEntropy"
HOSTILE = (
    "</script></style></title></svg><script>alert(1)</script><img src=x onerror=\"alert('2')\"> --> ]]> & "
    "\x1b[31mred\x00\r\n::error::x \ud800 \u202e {{ 7 * 7 }} {% raw %}"
)
LONG = HOSTILE + "A" * 1_000_000
LARGEST = 5 << 20
VOID = {"meta", "br", "hr", "img", "input", "link", "wbr"}


class Page(HTMLParser):
    """A page as its elements, in their order; an element that is closed where another is open is no page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag in {"th", "td", "tr", "dt", "dd", "li", "p", "div", "h1", "h2", "h3", "text", "summary"}:
            self.words.append(" ")
        assert len(dict(attrs)) == len(attrs), f"{tag}: an attribute stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))


def complaints(text):
    """Return what is wrong with a page for whom reads it without a network, without eyes or without a mouse."""
    page = Page(text)
    told = []
    ids = Counter(attrs["id"] for _, attrs in page.elements if "id" in attrs)
    told += [f"id {name} stands twice" for name, times in ids.items() if times > 1]
    for tag, attrs in page.elements:
        if tag in {"script", "link", "img", "iframe", "object", "form", "base", "image", "use"}:
            told.append(f"<{tag}>")
        told += [f"{tag} {name}" for name in attrs if name.startswith("on") or name in {"src", "style", "srcset"}]
        href = attrs.get("href", "#content")
        if not href.startswith("#") or href[1:] not in ids:
            told.append(f"link to {href}")
        told += [f"{tag} labelled by {name}" for name in attrs.get("aria-labelledby", "").split() if name not in ids]
        if tag == "svg" and attrs.get("aria-hidden") != "true" and "aria-labelledby" not in attrs:
            told.append("a picture without words")
        if tag == "th" and attrs.get("scope") not in {"col", "row", "colgroup"}:
            told.append("a heading of nothing")
        if attrs.get("class") == "scroll" and not (attrs.get("tabindex") == "0" and attrs.get("aria-label")):
            told.append("what scrolls cannot be reached")
    if len(page.all("caption")) != len(page.all("table")):
        told.append("a table without caption")
    ranks = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    if ranks[:1] != [1] or ranks.count(1) > 1:
        told.append("no heading of the page")
    told += [f"h{after} behind h{before}" for before, after in itertools.pairwise(ranks) if after > before + 1]
    told += [f"{tag} is not there once" for tag in ("main", "header", "footer") if len(page.all(tag)) != 1]
    if not any("default-src 'none'" in attrs.get("content", "") for attrs in page.all("meta")):
        told.append("something may be loaded")
    if re.search(r"url\(|@import", text) or page.all("html") != [{"lang": "en"}]:
        told.append("something is loaded, or no language is told")
    if any(not (c.isprintable() or c == "\n") for c in text):
        told.append("characters that are no text")
    return told


GOOD = """<!DOCTYPE html><html lang="en"><head><meta content="default-src 'none'"></head><body>
<header><h1>a</h1></header>
<main id="content"><h2>b</h2><table><caption>c</caption><tr><th scope="row">d</th></tr></table></main><footer></footer>
</body></html>"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("<h2>b</h2>", "<h3>b</h3>", "h3 behind h1"),
        ("<h2>b</h2>", '<h2 id="content">b</h2>', "id content stands twice"),
        ("<h2>b</h2>", "<h2>b</h2><script></script>", "<script>"),
        ("<h2>b</h2>", '<h2 onclick="b">b</h2>', "h2 onclick"),
        ("<h2>b</h2>", '<a href="https://example.com">b</a>', "link to https://example.com"),
        ("<h2>b</h2>", '<a href="#nowhere">b</a>', "link to #nowhere"),
        ("<h2>b</h2>", "<svg></svg>", "a picture without words"),
        ("<caption>c</caption>", "", "a table without caption"),
        (' scope="row"', "", "a heading of nothing"),
        ("<h2>b</h2>", '<div class="scroll">b</div>', "what scrolls cannot be reached"),
        ("<h2>b</h2>", "<h2>\x1b</h2>", "characters that are no text"),
        ("default-src 'none'", "", "something may be loaded"),
    ],
)
def test_a_page_that_is_wrong_is_complained_about(right, wrong, said):
    assert complaints(GOOD) == []
    assert complaints(GOOD.replace(right, wrong, 1)) == [said]


@pytest.mark.parametrize(("right", "wrong"), [("</h2>", ""), ("<h2>", ""), ("</h2>", "</h3>"), ("</body>", "")])
def test_a_page_that_is_not_well_formed_is_none(right, wrong):
    with pytest.raises(AssertionError):
        Page(GOOD.replace(right, wrong, 1))


def crash(network, parameters, batch):
    raise ValueError(LONG)


@pytest.fixture(scope="module")
def failed():
    faults = [FAULTS["bias-mean"].implementation(), FAULTS["delta-sign"].implementation()]
    plan = Plan(
        [reference(), *faults, Implementation(HOSTILE, crash)],
        max_examples=20,
        seed=1,
        networks=network_strategy(NETWORK),
        dtypes=["float64"],
        witnesses=False,
        shrink_seconds=0,
        command="gradconform check mine.py --seed 1",
    )
    return proved(run(plan), list(CHECKS.values()))


@pytest.fixture(scope="module")
def passed():
    plan = Plan([reference()], max_examples=20, seed=1, dtypes=["float64", "float32"], witnesses=False)
    return proved(run(plan), list(CHECKS.values()))


def changed(record, /, **fields):
    return msgspec.structs.replace(record, **fields)


def told(result):
    return Page(html_report(result)).text


def test_pages_of_all_verdicts_are_without_complaint(failed, passed):
    empty = Result(
        verdict="nothing compared", seed=1, seconds=0.0, networks=0, structures=0, implementations=[], findings=[]
    )
    results = [changed(passed, verdict=verdict) for verdict in ("interrupted", "not covered", "broken", "passed")]
    for result in (failed, empty, *results):
        assert complaints(html_report(result)) == []


def test_a_result_from_json_has_the_same_page(failed):
    assert html_report(Result.from_json(failed.to_json())) == html_report(failed)


def test_the_verdict_comes_first_with_what_it_takes_to_run_it_again(failed, passed):
    text = told(failed)
    assert text.index("FAILED") < text.index("3 findings, in bias-mean, delta-sign") < text.index("Findings")
    assert "run it again gradconform check mine.py --seed 1" in text
    assert f"numpy {failed.versions['numpy']}" in re.sub(r" +", " ", text)
    assert "PASSED reference agrees within rounding." in told(passed)


def test_what_is_not_covered_says_what_was_not_met(passed):
    result = changed(passed, verdict="not covered", notes=["reference: nothing could be told of regime tiny"])
    text = told(result)
    assert text.index("NOT COVERED") < text.index("nothing could be told of regime tiny") < text.index("networks")


def test_findings_are_told_in_the_words_and_the_order_of_the_terminal(failed):
    text, place = told(failed), 0
    for finding in failed.findings[:2]:
        for words in (what_failed(finding), *(word for row in finding_rows(finding) for word in row)):
            place = text.index(re.sub(r"\s+", " ", words), place)


def test_checks_and_implementations_have_their_counts_and_findings(failed):
    text = told(failed)
    tally = next(tally for tally in failed.implementations if tally.name == "bias-mean")
    assert re.search(rf"parameters [\d, ]*{tally.checks['parameters']} ✗ 1 finding ", text)
    assert f"{tally.comparisons:,}" in text


def test_layers_show_their_worst_error_by_its_power_of_ten(failed):
    tally = next(tally for tally in failed.implementations if tally.name == "bias-mean")
    exponent = math.log10(tally.margins.subjects["Dense.bias"].worst)
    assert re.search(rf"bias-mean float64 layer or loss .*?Dense [^+]*\+{exponent:.1f}", told(failed))


def test_every_network_is_drawn_with_the_layer_in_which_the_error_enters(failed):
    page = Page(html_report(failed))
    assert len([attrs for attrs in page.all("svg") if attrs.get("class") == "drawing"]) == len(failed.findings)
    assert len([attrs for attrs in page.all("rect") if attrs.get("class") == "mark"]) == 2
    assert "enters in" in page.text


def test_planted_faults_stand_with_the_checks_that_found_and_missed_them(failed):
    text = told(failed)
    assert "✓ found" in text
    assert "✗ missed" not in text
    missed = changed(failed, canaries=changed(failed.canaries, missed=["nan: parameters"], found=[]))
    assert "✗ missed" in told(missed)


def test_notes_and_pins_are_told(passed):
    result = changed(passed, notes=["a word of warning"], pinned=Pinned(cases=3, failing=1))
    assert "a word of warning" in told(result)
    assert "3 cases replayed first, 1 fails" in told(result)


def test_what_comes_from_user_code_is_text(failed):
    text = told(changed(failed, notes=[LONG]))
    assert text.count("</script></style></title></svg><script>alert(1)</script>") > 1
    assert "\\x1b[31mred\\x00\\r\\n::error::x \\ud800 \\u202e {{ 7 * 7 }} {% raw %}" in text
    assert "A" * LONGEST not in text


def everywhere(result, text, count=1):
    """Return a result with a text wherever it may hold one that comes from outside, and all of it so many times."""
    findings = [
        changed(
            finding,
            **{
                field: text if isinstance(value, str) else [text] * 5
                for field, value in msgspec.structs.asdict(finding).items()
                if field not in {"kind", "look", "id"}
                and (isinstance(value, str) or field in {"wrong", "right", "facts", "also", "agreeing", "disagreeing"})
            },
            steps=[changed(step, path=text) for step in finding.steps],
        )
        for finding in result.findings * count
    ]
    tallies = [
        changed(tally, name=f"{number}{text}", version=text, worst_at=text, worst_network=text, kinks={text: 0.0})
        for number, tally in enumerate(result.implementations * count)
    ]
    coverage = [
        changed(entry, implementation=f"{number}{text}", missing=[text] * 5)
        for number, entry in enumerate(result.coverage * count)
    ]
    return changed(
        result,
        findings=findings,
        implementations=tallies,
        coverage=coverage,
        notes=[text] * count,
        command=text,
        versions={text: text},
        regimes={text: next(iter(result.regimes.values()))},
        canaries=changed(result.canaries, planted=[text], missed=[f"{text}: parameters"]),
    )


def test_wherever_a_hostile_text_stands_the_page_holds(failed):
    text = html_report(everywhere(failed, HOSTILE))
    assert complaints(text) == []
    assert text.encode()


def test_a_page_of_hundreds_of_long_findings_stays_small(failed):
    count = (MOST_FINDINGS + MOST_LINES) // len(failed.findings) + 10
    result = everywhere(failed, HOSTILE + "A" * 10_000, count)
    text = html_report(result)
    assert complaints(text) == []
    assert len(text.encode()) < LARGEST
    assert f"{len(result.findings) - MOST_FINDINGS - MOST_LINES} further findings are left out" in text
    assert f"{len(result.implementations) - MOST_TALLIES} further implementations" in text


def test_a_text_of_a_megabyte_is_shortened_wherever_it_stands(failed):
    text = html_report(everywhere(changed(failed, findings=failed.findings[:1]), LONG))
    assert len(text.encode()) < LARGEST / 10
    assert complaints(text) == []


@pytest.fixture(scope="module")
def killing(failed):
    first, second, _ = failed.findings
    common = {"sentence": "what is wrong <b>in it</b>", "held_out": False, "networks": 3}
    kills = [
        Kill(fault="bias-mean", named="right", checks=["parameters", "input"], finding=first, found=1.5, **common),
        Kill(fault="transposed", named="WRONG NAME", checks=["deltas"], detected=0.5, finding=second, **common),
        Kill(fault="harmless", named="not caught", **common),
    ]
    correct = Correct(name="reference", version="1", networks=2, comparisons=5, seconds=0.1, alarms=[HOSTILE])
    return Killing(seed=1, max_examples=100, seconds=2.5, kills=kills, correct=[correct])


def test_the_kill_matrix_is_a_page_with_what_was_missed_and_misnamed(killing):
    text = killing_html(killing)
    assert complaints(text) == []
    words = Page(text).text
    assert words.index("FAILED") < words.index("caught 2 of 3; not caught: harmless")
    assert "✗ WRONG NAME" in words
    assert "✗ not caught" in words
    assert "Faults under a wrong name" in words
    assert what_failed(killing.misnamed[0].finding) in words
    assert "what is wrong <b>in it</b>" in words


def test_a_kill_matrix_without_fault_is_green(killing):
    green = changed(killing, kills=killing.kills[:1], correct=[])
    words = Page(killing_html(green)).text
    assert "PASSED 1 fault, 100 networks each, seed 1." in words
    assert "Faults under a wrong name" not in words
    assert "bias-mean" in words
    assert "✗" not in words
