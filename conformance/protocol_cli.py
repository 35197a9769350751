"""`gradconform protocol`: the self-test of programs in other languages, and the schema of what they speak."""

from __future__ import annotations

import json
import sys

import click

from gradconform.conformance.help import Command
from gradconform.errors import InvalidInput


@click.command(
    cls=Command,
    examples=[
        ("gradconform protocol -- ./my_backprop", "each step of the conversation, and the line to mend"),
        ("gradconform protocol --schema > protocol.schema.json", "the JSON Schema of all messages"),
    ],
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- PROGRAM [ARGUMENT]...")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of all messages instead.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may take.",
)
def protocol(command: tuple[str, ...], schema: bool, timeout: float) -> None:
    """Test whether a program speaks the protocol by which other languages are checked, step by step.

    Where it does not, the line of its output that is to be mended is named. Whether its gradients are right is what
    gradconform check -- PROGRAM tells.
    """
    from gradconform.conformance.terminal import say

    if schema:
        from gradconform.adapters.protocol import schema as schema_of

        click.echo(json.dumps(schema_of(), indent=2))
        return
    if not command:
        raise InvalidInput("which program? Write it after --, as in: gradconform protocol -- ./my_backprop")
    from gradconform.conformance.protocol_check import protocol_steps, step_text, verdict_text

    steps = []
    for step in protocol_steps(command, timeout):
        say(step_text(step))
        steps.append(step)
    say(verdict_text(command, steps))
    sys.exit(int(any(step.outcome == "failed" for step in steps)))
