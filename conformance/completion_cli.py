"""`gradconform completion`: the script that has a shell complete the words of a command."""

from __future__ import annotations

import click

from gradconform.conformance.completing import SHELLS, scripts
from gradconform.conformance.help import Command


@click.command(
    cls=Command,
    examples=[
        ('eval "$(gradconform completion bash)"', "in ~/.bashrc"),
        ('eval "$(gradconform completion zsh)"', "in ~/.zshrc, after compinit"),
        ("gradconform completion fish > ~/.config/fish/completions/gradconform.fish", ""),
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, targets, checks, types, symptoms and cases in a SHELL."""
    click.echo(scripts(shell, ctx.find_root().command), nl=False)
