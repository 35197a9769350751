"""`gradconform replay`: kept cases, judged again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradconform.conformance import completing
from gradconform.conformance.configured import settings_here
from gradconform.conformance.program_words import PROGRAM, WithProgram
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradconform.conformance.casefile import CaseFile
    from gradconform.conformance.implementations import Implementation

EXIT_NOTHING = 5


@click.command(
    cls=WithProgram,
    examples=[
        ("gradconform replay 5412b217", "a case that a run here has found"),
        ("gradconform replay 5412b217 --pin", "the same, kept in your repository"),
        ("gradconform replay 5412b217.json my_mlp.py:gradients", "a file that somebody sent, with your own code"),
        ("gradconform replay gradconform-cases", "all cases of a folder"),
    ],
)
@click.argument("case", metavar="ID|FILE|FOLDER", shell_complete=completing.cases)
@click.argument("target", required=False, shell_complete=completing.targets)
@click.option(
    "--pin",
    is_flag=True,
    help="Keep the case, in gradconform-cases of your repository: every later check replays it first.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False),
    help="Pin into this folder. Default: where check looks, which is gradconform-cases unless you configure another.",
)
@click.option(
    "--isolate", is_flag=True, help="Run the TARGET in a process of its own: if it crashes, the replay goes on."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long one call may take. Default: as long as in the run that found the case.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1),
    metavar="MIB",
    help="How much one call may allocate. Default: as much as in the run that found the case.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the result as JSON into this file.")
@click.pass_context
def replay(
    ctx: click.Context,
    case: str,
    target: str | None,
    pin: bool,
    folder: str | None,
    isolate: bool,
    timeout: float | None,
    max_memory: int | None,
    json_file: str | None,
) -> None:
    """Judge a kept case again: does it still fail, as it did?

    The case is judged by the checks and in the type in which it failed. Cases are kept in .gradconform/cases of the
    current folder, and pinned ones in gradconform-cases: only a file there runs the implementation that it names. For
    another file name your TARGET, or a program after --.

    Exit codes: 0 healed, 1 a finding, 4 no such case or not a case file, 5 nothing to compare.
    """
    from gradconform.conformance.casefile_reading import read_case
    from gradconform.conformance.casefolder import places_of, replay_command, write_case
    from gradconform.conformance.replay import least, to_json, verdict_text
    from gradconform.conformance.replay import replay as judge_again
    from gradconform.conformance.terminal import say, write

    if folder is not None and not pin:
        raise InvalidInput("--to names the folder of --pin, which is not given")
    require_folder(json_file)
    program = ctx.meta.get(PROGRAM, ())
    if target is not None and program:
        raise InvalidInput("one TARGET at a time: a program after --, or another")
    files = [(place, read_case(place)) for place in places_of(case)]
    if not files:
        click.echo(f"gradconform: {case}: no case files in it", err=True)
        sys.exit(EXIT_NOTHING)
    replayed = []
    for place, file in files:
        make = _Maker(file, place, target, program, isolate, timeout, max_memory)
        kept = place
        if pin:
            file = least(file, make)  # noqa: PLW2901 - it stands for the same case
            to = _pins() if folder is None else Path(folder)
            try:
                kept = write_case(to, file) or place
            except OSError as error:
                raise InvalidInput(f"{to}: cannot be written: {error.strerror}") from None
        replayed.append(judge_again(file, make, str(kept), replay_command(kept, file)))
        say(str(replayed[-1]))
        if pin:
            say(f"PINNED  {file.id}  {kept}: every check of {file.implementation} replays it first")
    if len(replayed) > 1:
        say(verdict_text(replayed))
    if json_file is not None:
        write(json_file, to_json(replayed))
    if any(entry.finding is not None for entry in replayed):
        sys.exit(1)
    sys.exit(EXIT_NOTHING if any(entry.outcome == "unsupported" for entry in replayed) else 0)


def _pins() -> Path:
    """Return the folder of pinned cases into which a check looks."""
    from gradconform.conformance.casefolder import PINS

    taken = settings_here().taken.get("pins")
    return PINS if taken is None else Path(taken.value)


class _Maker:
    """Makes the implementation of a case: what the user names, or what a trusted file does."""

    def __init__(
        self,
        file: CaseFile,
        place: Path,
        target: str | None,
        program: Sequence[str],
        isolate: bool,
        timeout: float | None,
        max_memory: int | None,
    ) -> None:
        from gradconform.conformance.adapter_names import names_adapter
        from gradconform.conformance.casefolder import trusted
        from gradconform.conformance.implementations import REFERENCE

        conditions = file.conditions
        self.timeout = timeout or conditions.timeout
        self.memory = conditions.max_memory if max_memory is None else max_memory << 20
        self.program = list(program)
        self.target = target
        self.isolated = isolate
        self.id = file.id
        self.named_by_file = target is None and not program
        if target is None and not program:
            known = file.implementation == REFERENCE or names_adapter(file.implementation)
            ours = known and not file.program
            if not ours and not trusted(place):
                raise InvalidInput(
                    f"{place}: it names code, {file.implementation!r}, and is in neither .gradconform/cases nor "
                    f"gradconform-cases of this folder: name your own, as in: gradconform replay {place} TARGET"
                )
            self.program, self.target = list(file.program), file.implementation
            self.isolated = isolate or (conditions.isolated and not ours)

    def __call__(self) -> Implementation:
        """Return the implementation, loaded afresh."""
        from gradconform.conformance import implementations

        if self.program:
            made = implementations.of_command(self.program, self.timeout, self.memory)
        elif self.isolated and self.target is not None:
            made = implementations.isolated(self.target, self.timeout, self.memory)
        else:
            made = self._resolved()
        made.guard.timeout, made.guard.memory = self.timeout, self.memory
        return made

    def _resolved(self) -> Implementation:
        from gradconform.conformance import implementations

        try:
            return implementations.resolve(str(self.target))
        except InvalidInput as error:
            if not self.named_by_file:
                raise
            hint = f"name another, as in: gradconform replay {self.id} TARGET"
            raise InvalidInput(f"{error}; that is what the case names: {hint}") from None
