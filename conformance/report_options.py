"""The formats of a result, and the options of a command that write it in each of them."""

from __future__ import annotations

import functools
import importlib
import operator
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gradconform.conformance.target_words import Command, require_folder
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.results import Result


class Format(NamedTuple):
    """A format: the function that makes it of a result, by its module, which is imported when it is asked for."""

    module: str
    function: str
    help: str

    def made(self, result: Result) -> bytes:
        """Return the content of a file."""
        make = operator.attrgetter(self.function)(importlib.import_module(f"gradconform.conformance.{self.module}"))
        content: str | bytes = make(result)
        return content.encode() if isinstance(content, str) else content


FORMATS = {
    "json": Format("results", "Result.to_json", "Write the result as JSON into this file."),
    "junit": Format("report_junit", "junit_report", "Write JUnit XML into this file, which CI systems show as tests."),
    "markdown": Format(
        "report_markdown", "markdown_report", "Write Markdown into this file, as for the summary of a GitHub job."
    ),
    "html": Format(
        "report_html", "html_report", "Write a page into this file, with tables and pictures, that needs nothing else."
    ),
}
"""By the name of the option. A new format is one more row."""


class Reports:
    """The files into which a command is to write its result, by their formats."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places

    def require_folders(self, *, record: str | None = None, write_manifest: str | None = None) -> None:
        """Raise `InvalidInput` where a file has no folder, or is to have two formats: before the work, not after it.

        `record`, `write_manifest`: the files of these options, where there are such. A file may be named in many ways.
        """
        others = {"record": record, "write-manifest": write_manifest}
        places = {**self.places, **{name: place for name, place in others.items() if place is not None}}
        options: dict[str, list[str]] = {}
        for name, place in places.items():
            options.setdefault(os.path.realpath(place), []).append(name)
        for first, *more in options.values():
            if more:
                both = " and ".join(f"--{name}" for name in (first, *more))
                raise InvalidInput(f"{places[first]}: {both} cannot be written into one file")
            require_folder(places[first])

    def write(self, result: Result) -> None:
        """Write the result; raises `InvalidInput` that names a file that cannot be written, after the others."""
        from gradconform.conformance.terminal import write

        failed: list[InvalidInput] = []
        for name, place in self.places.items():
            try:
                write(place, FORMATS[name].made(result))
            except InvalidInput as error:
                failed.append(error)
        if failed:
            raise failed[0]


def report_options(command: Command) -> Command:
    """Give a command an option for each format; it is called with `reports`, those that were asked for."""

    @functools.wraps(command)
    def with_reports(*arguments: Any, **options: Any) -> Any:
        asked = {name: options.pop(f"{name}_file") for name in FORMATS}
        return command(*arguments, **options, reports=Reports({name: file for name, file in asked.items() if file}))

    decorated: Command = with_reports
    for name, entry in reversed(FORMATS.items()):
        file = click.Path(dir_okay=False)
        decorated = click.option(f"--{name}", f"{name}_file", type=file, help=entry.help)(decorated)
    return decorated
