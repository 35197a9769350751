"""Findings as annotations of GitHub: commands that its runner reads from the log, and shows on the user's own lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gradconform.conformance.message import smallest_text, verdict_text
from gradconform.conformance.results import Finding, Result
from gradconform.conformance.source_lines import place_of
from gradconform.errors import one_line

MOST = 10
"""GitHub shows no more annotations of a step."""
TITLE, LINE = 200, 400
"""Characters of a title and of a line of a message."""


def annotations_of(result: Result, root: Path, folder: Path) -> list[str]:
    """Return the commands, at most ten: one for each finding, the last one for all that there is no room for.

    `root`: the top of the user's repository, which the files are named from; `folder`: where the check ran. A result
    without findings that is not green either has one for its verdict.
    """
    room = MOST if len(result.findings) <= MOST else MOST - 1
    commands = [_finding(finding, root.resolve(), folder.resolve()) for finding in result.findings[:room]]
    if rest := result.findings[room:]:
        names = ", ".join(dict.fromkeys(finding.implementation for finding in rest))
        said = f"{len(rest)} more findings are in the report: {names}"
        commands.append(command("notice", {"title": "gradconform"}, [said]))
    if not commands and not result.passed:
        level = "warning" if result.verdict == "interrupted" else "error"
        commands.append(command(level, {"title": "gradconform"}, [verdict_text(result).replace("\n", " ")]))
    return commands


def command(name: str, properties: Mapping[str, str], lines: list[str]) -> str:
    """Return a workflow command as one line, whatever the texts are: each of them is shortened and escaped."""
    told = ",".join(f"{key}={_property(one_line(value, TITLE))}" for key, value in properties.items())
    text = "\n".join(one_line(line, LINE) for line in lines)
    return f"::{name} {told}::{_data(text)}"


def _finding(finding: Finding, root: Path, folder: Path) -> str:
    """Return the command of a finding."""
    title = f"{one_line(finding.implementation, TITLE // 2)}: {finding.sentence}"
    place = place_of(finding, root, folder)
    where = {} if place is None else {"file": place.file, "line": str(place.line)}
    return command("error", {**where, "title": title}, list(_message(finding)))


def _message(finding: Finding) -> Iterator[str]:
    """Yield what to do first, then on what it was seen, then how to see it again."""
    if finding.likely:
        yield f"likely {finding.likely}"
    if finding.mend:
        yield f"write {finding.mend}"
    yield f"smallest network: {smallest_text(finding)}"
    yield f"again: {finding.replay or finding.command}"


def _data(text: str) -> str:
    """Return the text of a command as the runner reads it back."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Return the value of a property as the runner reads it back."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
