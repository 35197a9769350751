"""Markdown of a result, as for the summary of a GitHub job: the verdict first, and always less than GitHub takes.

In what comes from somebody's code every character that means something to HTML or Markdown is an entity, which is never
read as markup. GitHub looks for mentions in what comes of that, and in neither `code` nor `pre`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import takewhile

from gradconform.conformance.checks import CHECKS
from gradconform.conformance.compare import LOOKS
from gradconform.conformance.message import coverage_table, coverage_text, finding_text, headline, verdict_text
from gradconform.conformance.results import Finding, Result, Tally, Verdict
from gradconform.conformance.sharpness import QUANTILES
from gradconform.conformance.untrusted import LONGEST, NAME, named, shown
from gradconform.conformance.wrapping import for_a_file

LARGEST = 1000 << 10
"""Bytes of a report: GitHub takes 1 MiB for a step, in which others may write too."""
RESERVED = 400 << 10
"""Bytes of it that findings leave to what comes after them."""
CLOSING = 1 << 10
"""And these are left for the last sentence."""
LONGEST_FINDING = 16 << 10
"""Characters that are shown of one finding."""
MOST_ROWS = 100
"""Rows of a table."""
MOST_NOTES = 50
CELL = 100
"""Characters of a name in a table."""
NOTE = 300
"""Characters of a note, and of the place of the worst error."""

ICONS: dict[Verdict, str] = {
    "passed": "✅",
    "failed": "❌",
    "interrupted": "⚠️",
    "nothing compared": "⚠️",
    "not covered": "⚠️",
    "broken": "💥",
}


def markdown_report(result: Result) -> str:
    """Return the Markdown of a result, of less than 1 MiB: what is left out of a longer one is said in its place."""
    page = _Page(LARGEST)
    with for_a_file():
        head = [_verdict(result), *_matrix(result)]
        missing = sum(not page.add(block, RESERVED) for block in head)
        blocks = map(_finding, result.findings)
        told = sum(1 for _ in takewhile(lambda block: page.add(block, RESERVED), blocks))
        if told < len(result.findings):
            page.add(_shortened(len(result.findings) - told, "finding"))
        tail = [*_coverage(result), *_sharpness(result), *_notes(result)]
        missing += sum(not page.add(block, CLOSING) for block in tail)
    if missing:
        page.add(_shortened(missing, "section"))
    return page.text


class _Page:
    """A text that does not become longer than so many bytes."""

    def __init__(self, largest: int) -> None:
        self._blocks: list[str] = []
        self._left = largest

    def add(self, block: str, leave: int = 0) -> bool:
        """Add a block, unless less than `leave` bytes would be left after it; return whether it was added."""
        size = len(block.encode()) + 2
        if size > self._left - leave:
            return False
        self._left -= size
        self._blocks.append(block)
        return True

    @property
    def text(self) -> str:
        return "\n\n".join(self._blocks) + "\n"


def _shortened(count: int, what: str) -> str:
    several = f"{count:,} {what}s are" if count > 1 else f"one {what} is"
    return (
        f"**This report was shortened:** {several} not shown here, because a summary has less than 1 MiB. "
        "`gradconform report render` shows all of it from the record of the run, and `--json` has it too."
    )


def code(name: str, limit: int = NAME) -> str:
    """Return a name as code inside of a line, a table or HTML: nothing of it is read as markup."""
    return f"<code>{''.join(map(_entity, named(name, limit)))}</code>"


def prose(text: str, limit: int = LONGEST) -> str:
    """Return a sentence with names in it: nothing of it is read as markup, a mention or the number of an issue."""
    entities = "".join(map(_entity, shown(text.strip(), limit)))
    return entities.replace(AT, AT + JOINER).replace(HASH, HASH + JOINER)


AT, HASH, JOINER = "&#64;", "&#35;", "&#8288;"


def _entity(character: str) -> str:
    plain = character.isalnum() or character == " " or ord(character) > 127
    return character if plain else f"&#{ord(character)};"


def pre(text: str) -> str:
    """Return a text of several lines as it is; it has to be printable, but for the ends of its lines."""
    return f"<pre>\n{escape(text)}\n</pre>"


def details(summary: str, content: str) -> str:
    """Return a block that opens where it is clicked at; `summary` is HTML, `content` Markdown."""
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _verdict(result: Result) -> str:
    verdict, _, amount = verdict_text(result).partition("  ")
    return f"## {ICONS[result.verdict]} gradconform: {verdict}\n\n{prose(' '.join(amount.split()))}"


def _matrix(result: Result) -> Iterator[str]:
    """Yield the table of implementations and checks."""
    if not result.implementations:
        return
    found = result.found
    compared = {check for tally in result.implementations for check in tally.checks}
    failed = dict.fromkeys(check for _, _, check in found)
    asked = [check for check in dict.fromkeys((*CHECKS, *failed)) if check in compared or check in failed]
    head = ["implementation", "dtype", *(code(check) for check in asked)]
    rows = [
        [code(_title(tally), CELL), code(tally.dtype), *(_cell(found, tally, check) for check in asked)]
        for tally in result.implementations[:MOST_ROWS]
    ]
    table = _table(head, rows, len(result.implementations))
    yield f"{table}\n\nEach cell: comparisons, or findings; - where nothing was compared."


def _title(tally: Tally) -> str:
    return f"{tally.name} {tally.version}" if tally.version else tally.name


def _cell(found: Mapping[tuple[str, str, str], int], tally: Tally, check: str) -> str:
    if count := found.get((tally.name, tally.dtype, check)):
        return f"❌ {count}"
    return f"✅ {tally.checks[check]:,}" if tally.checks.get(check) else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> str:
    """Return a table of rows, which are the first ones of so many."""
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    left_out = count - len(rows)
    return text + (f"\n\n{left_out:,} more rows are not shown." if left_out > 0 else "")


def _finding(finding: Finding) -> str:
    text = finding_text(finding)
    if len(text) > LONGEST_FINDING:
        text = f"{text[:LONGEST_FINDING]}\n... shortened: gradconform report render shows all of it"
    return details(f"❌ {code(headline(finding), 1000)}", pre(text))


def _coverage(result: Result) -> Iterator[str]:
    if said := coverage_text(result.coverage):
        yield f"### Covered\n\n{prose(said)}"
        yield details("In how many cases what was met", pre(coverage_table(result.coverage)))


def _sharpness(result: Result) -> Iterator[str]:
    """Yield how close the closest call was, and how small an error would have been found."""
    found = [f"found in {share:.0%}" for share in QUANTILES]
    head = ["implementation", "dtype", "networks", "elements", *found, "worst error/bound"]
    rows = []
    for tally in result.implementations[:MOST_ROWS]:
        worst = f"{tally.worst_ratio:.2g} at {tally.worst_at} of {tally.worst_network}" if tally.worst_at else "-"
        counts = [f"{tally.cases:,}", f"{tally.elements:,}", *(_smallest(tally, share) for share in QUANTILES)]
        rows.append([code(_title(tally), CELL), code(tally.dtype), *counts, prose(worst, NOTE)])
    if rows:
        yield (
            f"### How sharp the look was\n\n{_table(head, rows, len(result.implementations))}\n\n"
            "Found: the relative error in any parameter's gradient that would have been a finding in so many of the "
            "networks; where there are two, the second one from the inputs alone."
        )


def _smallest(tally: Tally, share: float) -> str:
    """Return from which relative error on it would have been found in that share of the networks, in each look."""
    errors = [tally.sharpness[look].quantile(share) for look in reversed(LOOKS) if look in tally.sharpness]
    return " / ".join("none" if error is None else f"{error:.0e}" for error in errors) or "-"


def _notes(result: Result) -> Iterator[str]:
    if result.notes:
        items = [f"- {prose(note, NOTE)}" for note in result.notes[:MOST_NOTES]]
        left_out = len(result.notes) - MOST_NOTES
        items += [f"- and {left_out:,} more"] if left_out > 0 else []
        yield "### Notes\n\n" + "\n".join(items)
    if result.command:
        yield f"Again: {code(result.command, NOTE)}"
    versions = " ".join(f"{name} {version}" for name, version in result.versions.items())
    if versions:
        yield f"Versions: {prose(versions)}"
