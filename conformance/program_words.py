"""Commands whose arguments behind `--` are a program of another language, with options of its own."""

from __future__ import annotations

import click

from gradconform.conformance.help import Command

PROGRAM = "gradconform.program"
"""Where a command keeps the words behind `--`."""


class WithProgram(Command):
    """A command whose arguments behind `--` are a program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the program aside, and parse the words before it."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[PROGRAM] = args[cut + 1 :]
            args = args[:cut]
            if not ctx.meta[PROGRAM]:
                example = f"{ctx.command_path} -- ./my_backprop"
                raise click.UsageError(f"expected a program after --, as in: {example}", ctx)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the words of the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- PROGRAM [ARGUMENT]...]"]
