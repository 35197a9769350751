"""`gradconform faults`: the alarm proved, on planted faults that it must find and correct code that it must spare."""

from __future__ import annotations

import sys

import click

from gradconform.conformance.help import Command
from gradconform.conformance.target_words import require_folder

SEED, MAX_EXAMPLES = 1, 100
"""As `gradconform.conformance.killing` has them, which is not imported for `--help`."""


@click.command(
    cls=Command,
    examples=[
        ("gradconform faults", "all of them: which check finds which mistake"),
        ("gradconform faults bias-mean transposed", "these two"),
        ("gradconform faults --list", "what each of them is"),
    ],
)
@click.argument("names", nargs=-1, metavar="[FAULT]...")
@click.option("--list", "list_them", is_flag=True, help="Print what the faults are, and run none.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=SEED,
    show_default=True,
    help="Which numbers are drawn: the same seed, the same run.",
)
@click.option(
    "--max-examples",
    type=click.IntRange(1),
    default=MAX_EXAMPLES,
    show_default=True,
    help="How many networks a fault may survive before it counts as missed.",
)
@click.option("--markdown", is_flag=True, help="Print the matrix as a table of Markdown.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the matrix as JSON into this file.")
@click.option("--html", "html_file", type=click.Path(dir_okay=False), help="Write the matrix as a page into this file.")
def faults(
    names: tuple[str, ...],
    list_them: bool,
    seed: int,
    max_examples: int,
    markdown: bool,
    json_file: str | None,
    html_file: str | None,
) -> None:
    """Run planted faults, each until it is found and named: which check finds which mistake, and how soon?

    All of them, or each FAULT by its name. Where all are run, correct code is run as well: the reference and every
    installed framework, in which nothing may be found. The exit code is 0 where every fault was caught, none was called
    what it is not, and correct code raised no alarm; else 1.
    """
    from gradconform.conformance.faults import choose_faults
    from gradconform.conformance.terminal import say

    chosen = choose_faults(names)
    if list_them:
        width = max(len(fault.id) for fault in chosen)
        say("\n".join(f"{fault.id:<{width}}  {fault.sentence}" for fault in chosen))
        return
    require_folder(json_file)
    require_folder(html_file)
    from gradconform.conformance.killing import kill_all
    from gradconform.conformance.killing_report import killing_markdown, killing_text
    from gradconform.conformance.terminal import Progress, write

    with Progress("faults run") as progress:
        killing = kill_all(chosen, max_examples=max_examples, seed=seed, correct=not names, progress=progress.advance)
    say(killing_markdown(killing) if markdown else killing_text(killing))
    if json_file is not None:
        write(json_file, killing.to_json())
    if html_file is not None:
        from gradconform.conformance.report_faults import killing_html

        write(html_file, killing_html(killing).encode())
    sys.exit(killing.exit_code)
