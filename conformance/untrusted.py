"""What comes from somebody's code, made harmless before it is shown: names, exception texts, paths of parameters.

Whatever it is, it becomes one line of printable characters that has an end, and gives no orders: neither to a terminal
by escape sequences, nor to a CI system that reads the log for them.
"""

from __future__ import annotations

from gradconform.errors import one_line

LONGEST = 4000
"""Characters of one text."""
NAME = 200
"""Characters of a name that stands in a text."""


def shown(text: str, limit: int = LONGEST) -> str:
    """Return a text as one line of at most `limit` printable characters, without what CI systems read as an order."""
    if len(text) <= limit and text.isprintable() and "##" not in text:
        return text
    # ##[error] of GitHub and ##vso[...] of Azure are orders wherever in a line they stand
    return one_line(text[: limit + 1].replace("##", "#\\x23"), limit)


def named(text: str, limit: int = NAME) -> str:
    """Return a name as `shown` does, shortened in its middle: which function of a file it is stands at the end."""
    line = shown(text if len(text) <= 2 * limit else text[:limit] + text[-limit:], 20 * limit)
    half = (limit - 3) // 2
    return line if len(line) <= limit else f"{line[:half]}...{line[-half:]}"


def unordered(line: str) -> str:
    """Return a line of a log that does not begin with `::`, as an order to GitHub would, after whatever space."""
    start = line.lstrip()
    return f"{line[: -len(start)]}\\x3a{start[1:]}" if start.startswith("::") else line
