"""The command line. stdout: results; stderr: progress.

Exit codes: 0 agree, 1 a finding, 2 interrupted, 4 usage, 5 nothing compared, or less than a profile promises or a
manifest pins.

Nothing heavy is imported before a command runs: `--help` answers without NumPy, Hypothesis or a framework.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

import gradconform
from gradconform.conformance import compilation_cache, completing
from gradconform.conformance.check_cli import check
from gradconform.conformance.comparing_cli import compare
from gradconform.conformance.completion_cli import completion
from gradconform.conformance.explain_cli import explain
from gradconform.conformance.faults_cli import faults
from gradconform.conformance.fuzz_cli import fuzz
from gradconform.conformance.help import Commands
from gradconform.conformance.operation_cli import layer
from gradconform.conformance.protocol_cli import protocol
from gradconform.conformance.replay_cli import replay
from gradconform.conformance.report_cli import report
from gradconform.conformance.scaffold_cli import init
from gradconform.conformance.show_cli import show
from gradconform.conformance.supervisor import silence, supervised
from gradconform.conformance.target_words import NETWORK_HELP, implementations_of, network_of
from gradconform.conformance.untrusted import shown
from gradconform.errors import GradconformError, NotInstalled

LONGEST = 1000
"""Characters of an error, whatever a user or a file has written into it."""
EXIT_INTERRUPTED, EXIT_USAGE, EXIT_NOTHING = 2, 4, 5


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    sections={
        "Check": ("check", "layer", "compare", "protocol"),
        "See it again": ("replay", "show", "explain"),
        "For longer, and with others": ("fuzz", "report"),
        "Start, and look inside": ("init", "trace", "faults", "doctor", "completion"),
    },
    examples=[
        ("gradconform check", "NumPy and all installed frameworks against each other"),
        ("gradconform check my_mlp.py:gradients", "your own implementation"),
        ("gradconform check -- ./my_backprop", "one in another language"),
        ("gradconform check --data iris.csv", "on real data, at every step of training"),
        ("gradconform explain bias-mean", "what a finding means, and which line to mend"),
        ("gradconform replay 5412b217", "a case that failed, judged again"),
        ("gradconform show 5412b217 --as numpy", "the same as a script without gradconform"),
        ("gradconform fuzz", "as long as you like, where it is most worth looking"),
        ("gradconform trace", "the textbook's quantities, side by side"),
        ("gradconform doctor", "what is installed, and what is missing"),
    ],
)
@click.version_option(gradconform.__version__, prog_name="gradconform")
def cli() -> None:
    """Are these gradients right, and if not, what exactly is wrong?

    Exit codes: 0 everything agrees, 1 a finding, 2 interrupted, 3 the checks missed a planted fault, 4 a wrong word on
    the command line or in a file, 5 nothing was compared, or less than was promised.
    """


@cli.command(
    examples=[
        ("gradconform trace", "NumPy and all installed frameworks on a small network"),
        ("gradconform trace my_mlp.py --rows 2", "your own implementation beside them, two samples"),
    ]
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=completing.targets)
@click.option("--network", metavar="NOTATION|FILE", help=NETWORK_HELP)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which parameters, inputs and targets are drawn: the same seed, the same case.",
)
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="How many samples the batch has.")
@click.option(
    "--dtype",
    default="float64",
    show_default=True,
    metavar="DTYPE",
    shell_complete=completing.dtypes,
    help="Compute in this type: float64, float32, bfloat16 or float16.",
)
def trace(targets: tuple[str, ...], network: str | None, seed: int, rows: int, dtype: str) -> None:
    """Show the textbook's quantities of one case, layer by layer, every implementation side by side.

    Incoming activation (dz/dw), pre-activation z, activation a, sigma'(z), delta dC/dz, dC/dw and dC/db. The last
    column is the largest error / bound of the implementations: above 1, rounding cannot explain it.
    """
    from gradconform.conformance import tracing
    from gradconform.conformance.plan import choose_dtypes
    from gradconform.conformance.terminal import say
    from gradconform.notation import parse

    chosen = tracing.NETWORK if network is None else network_of(network, parse)
    choose_dtypes([dtype])
    say(tracing.trace_text(chosen, implementations_of(targets, missing_is_fine=True), seed, rows, dtype))


@cli.command()
def doctor() -> None:
    """Tell what is installed, in which version, and how to get what is missing."""
    from gradconform.conformance.doctor import diagnosis
    from gradconform.conformance.terminal import say

    say(diagnosis())


cli.add_command(check)
cli.add_command(init)
cli.add_command(layer)
cli.add_command(compare)
cli.add_command(protocol)
cli.add_command(faults)
cli.add_command(explain)
cli.add_command(replay)
cli.add_command(show)
cli.add_command(report)
cli.add_command(fuzz)
cli.add_command(completion)


def program() -> None:
    """Run the command line, and survive a candidate that ends the process."""
    compilation_cache.enable()
    supervised(sys.argv[1:], main)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command in this process, with the exit code and the one line of every way to fail."""
    # small matrices are faster on one thread, and this process is ours
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # a framework makes hundreds of thousands of objects while it is imported, and hardly any garbage
    gc.set_threshold(100_000, 20, 50)
    # Hypothesis keeps what it knows of the interpreter: not in the folder where somebody happens to be
    user = os.getuid() if hasattr(os, "getuid") else "user"
    storage = Path(tempfile.gettempdir()) / f"gradconform-{user}" / "hypothesis"
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(storage))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show
    try:
        cli.main(None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
        sys.exit(EXIT_USAGE)
    except click.ClickException as error:
        hint = f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        _fail(f"{error.format_message()}{hint}", EXIT_USAGE)
    except NotInstalled as error:
        _fail(str(error), EXIT_NOTHING)
    except GradconformError as error:
        _fail(str(error), EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        silence()
    except OSError as error:
        silence()
        _fail(f"the output cannot be written: {error.strerror}", EXIT_USAGE)


def _fail(message: str, code: int) -> None:
    click.echo(f"gradconform: {shown(' '.join(message.split()), LONGEST)}", err=True)
    sys.exit(code)
