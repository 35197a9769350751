"""What the words of a command mean: which implementations its targets are, and which network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gradconform.conformance import completing
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.implementations import Implementation

TIMEOUT = 20.0
"""Seconds that one call may take: `gradconform.conformance.plan` says the same, and is not imported for `--help`."""
MAX_MEMORY = 8192
"""MiB that one call may allocate."""

NETWORK_HELP = (
    'Check one network instead of all kinds: its notation, as in "4 -> Dense(8) -> Tanh -> Dense(3), '
    'SoftmaxCrossEntropy", where * stands for any width, or a file with the notation or with JSON.'
)


Command = Callable[..., Any]


def _options(*several: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command several options, in this order."""
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(several), command)


check_options = _options(
    click.option(
        "--only",
        multiple=True,
        metavar="CHECK",
        shell_complete=completing.checks,
        help="Run this check alone, such as parameters; may be repeated. gradconform explain lists all.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="CHECK",
        shell_complete=completing.checks,
        help="Leave this check out; may be repeated.",
    ),
    click.option(
        "--affine",
        is_flag=True,
        help="Make the bounds from the inputs on tighter, at many times the cost: for large networks of which the "
        "gradients alone are shown.",
    ),
)
"""Which checks are run, and by which bounds."""

limit_options = _options(
    click.option(
        "--isolate", is_flag=True, help="Run each TARGET in a process of its own: if it crashes, the run goes on."
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(0, min_open=True),
        default=TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long one call of a TARGET may take; one that takes longer is ended, as TIMEOUT.",
    ),
    click.option(
        "--max-memory",
        type=click.IntRange(1),
        default=MAX_MEMORY,
        show_default=True,
        metavar="MIB",
        help="How much one call of a TARGET may allocate, where the system has such a limit.",
    ),
)
"""What a call may take."""

case_options = _options(
    click.option(
        "--cases",
        type=click.Path(file_okay=False),
        default=".gradconform/cases",
        show_default=True,
        help="Write each failure into this folder, for gradconform replay and show.",
    ),
    click.option("--no-cases", is_flag=True, help="Keep no failures: write no case files."),
)
"""Where failures are written."""


class ProfileName(click.Choice[str]):
    """The name of a profile: one of these, or one's own, which is looked up once the file that has it is read."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Return the name."""
        return str(value)


class Limits(NamedTuple):
    """What one call may take: seconds and bytes."""

    timeout: float = TIMEOUT
    memory: int = MAX_MEMORY << 20


LIMITS = Limits()


def implementations_of(
    targets: Sequence[str],
    *,
    missing_is_fine: bool = False,
    program: Sequence[str] = (),
    limits: Limits = LIMITS,
    isolate: bool = False,
) -> list[Implementation]:
    """Return what is named, or everything installed; what is missing is told on stderr."""
    from gradconform.conformance import implementations

    if targets or program:
        named = list(dict.fromkeys(targets))
        chosen = [implementations.isolated(n, *limits) if isolate else implementations.resolve(n) for n in named]
        return chosen + ([implementations.of_command(program, *limits)] if program else [])
    tell_missing()
    return implementations.installed() if missing_is_fine else implementations.everything()


def tell_missing() -> None:
    """Tell on stderr which frameworks are not installed: what is not compared does not agree."""
    from gradconform.conformance import implementations

    for name in implementations.adapter_names():
        if not implementations.is_installed(name):
            click.echo(
                f"gradconform: {name} is not installed and not compared: pip install 'gradconform[{name}]'", err=True
            )


def require_folder(place: str | None) -> None:
    """Raise `InvalidInput` where a file, if one is to be written, has no folder: before the work, not after it."""
    if place is not None and not Path(place).absolute().parent.is_dir():
        raise InvalidInput(f"{place}: no such folder")


def network_of(text: str, parse: Callable[[str], Any]) -> Any:
    """Return the network that is written, or stands in a file; raises `InvalidInput` that names the file."""
    from gradconform.network import Network

    path = Path(text)
    if "->" in text or not (path.suffix or path.exists()):
        return parse(text)
    try:
        content = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise InvalidInput(f"{text}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{text}: cannot be read: {error}") from None
    try:
        return Network.from_json(content) if content.startswith("{") else parse(content)
    except InvalidInput as error:
        raise InvalidInput(f"{text}: {error}") from None
