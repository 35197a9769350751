"""The command line. stdout: results; stderr: progress.

Exit codes: 0 agree, 1 a finding, 2 interrupted, 4 usage, 5 nothing compared.

Nothing heavy is imported before a command runs: `--help` answers without NumPy, Hypothesis or a framework.
"""

from __future__ import annotations

import io
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

import gradconform
from gradconform.conformance import compilation_cache
from gradconform.conformance.comparing_cli import compare
from gradconform.conformance.faults_cli import faults
from gradconform.conformance.fuzz_cli import fuzz
from gradconform.conformance.network_option import NETWORK_HELP, network_of
from gradconform.conformance.operation_cli import layer
from gradconform.conformance.program_words import PROGRAM, WithProgram
from gradconform.conformance.protocol_cli import protocol
from gradconform.conformance.replay_cli import replay
from gradconform.conformance.report_cli import report
from gradconform.conformance.scaffold_cli import init
from gradconform.conformance.show_cli import show
from gradconform.conformance.supervisor import supervised, tell
from gradconform.errors import GradconformError, InvalidInput, NotInstalled

if TYPE_CHECKING:
    from gradconform.conformance.implementations import Implementation
    from gradconform.conformance.plan import Plan
    from gradconform.conformance.results import Result
    from gradconform.conformance.training import Training

EXIT_INTERRUPTED, EXIT_USAGE, EXIT_NOTHING = 2, 4, 5

PROFILES = {"smoke": 20, "default": 100, "ci": 300}
"""Networks a run, by profile; `ci` also fixes the seed."""
CI_SEED = 1
STEPS = 50
TIMEOUT = 20.0
"""Seconds that one call may take: `gradconform.conformance.plan` says the same, and is not imported for `--help`."""
MAX_MEMORY = 8192
"""MiB that one call may allocate."""
ROWS = 256


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gradconform.__version__, prog_name="gradconform")
def cli() -> None:
    """Are these gradients right, and if not, what exactly is wrong?

    \b
    gradconform check                            NumPy and all installed frameworks against each other
    gradconform check my_mlp.py:gradients        your own implementation
    gradconform check -- ./my_backprop           one in another language
    gradconform check --data iris.csv            on real data, at every step of training
    gradconform fuzz                             as long as you like, where it is most worth looking
    gradconform replay 5412b217                  a case that failed, judged again
    gradconform show 5412b217 --as numpy         the same as a script without gradconform
    gradconform trace                            the textbook's quantities, side by side
    gradconform faults                           the alarm proved on planted faults
    gradconform doctor                           what is installed, and what is missing
    """


@cli.command(cls=WithProgram)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--network", metavar="NOTATION|FILE", help=NETWORK_HELP)
@click.option(
    "--data",
    metavar="FILE",
    help="Real samples, .csv (last column: the target) or .npz (inputs, targets): the network, or one that suits the "
    "data, is trained by the reference's gradient descent, and gradients are compared at every step.",
)
@click.option("--max-examples", type=click.IntRange(1), help="How many networks, with parameters and batches.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="default",
    show_default=True,
    help=f"smoke: {PROFILES['smoke']} networks; default: {PROFILES['default']}; ci: {PROFILES['ci']}, a fixed seed.",
)
@click.option("--seed", type=click.IntRange(0), help="What is drawn; random if not given, and always told.")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="DTYPE",
    help="float64, float32, bfloat16 or float16; may be repeated. Default: what each target declares.",
)
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check; may be repeated.")
@click.option("--exclude", multiple=True, metavar="CHECK", help="Not this check; may be repeated.")
@click.option(
    "--affine",
    is_flag=True,
    help="Tighter bounds from the inputs on, many times as costly: for large networks that show gradients alone.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="With --data: steps of training."
)
@click.option("--learning-rate", type=float, default=0.1, show_default=True, help="With --data: the size of a step.")
@click.option("--raw", is_flag=True, help="With --data: do not standardise the input columns.")
@click.option(
    "--rows", type=click.IntRange(1), default=ROWS, show_default=True, help="With --data: at most so many samples."
)
@click.option(
    "--isolate", is_flag=True, help="Run each TARGET in a process of its own: whatever it does, the run goes on."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="What one call of a TARGET may take.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="After this nothing more is drawn. Default: as long as it takes.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1),
    default=MAX_MEMORY,
    show_default=True,
    metavar="MIB",
    help="What one call of a TARGET may allocate, where the system has such a limit.",
)
@click.option(
    "--cases",
    type=click.Path(file_okay=False),
    default=".gradconform/cases",
    show_default=True,
    help="The folder into which each failure is written, for replay and show.",
)
@click.option("--no-cases", is_flag=True, help="Write no case files.")
@click.option(
    "--pins",
    type=click.Path(file_okay=False),
    default="gradconform-cases",
    show_default=True,
    help="The folder of pinned cases: those of the TARGETs are replayed first.",
)
@click.option(
    "--shard",
    metavar="K/M",
    help="Only the K-th of M parts of the run, for other machines to run the rest: with the same --seed, and --json "
    "for gradconform report merge.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the machine-readable result here.")
@click.pass_context
def check(
    ctx: click.Context,
    targets: tuple[str, ...],
    network: str | None,
    data: str | None,
    max_examples: int | None,
    profile: str,
    seed: int | None,
    dtypes: tuple[str, ...],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    affine: bool,
    steps: int,
    learning_rate: float,
    raw: bool,
    rows: int,
    isolate: bool,
    timeout: float,
    max_time: float | None,
    max_memory: int,
    cases: str,
    no_cases: bool,
    pins: str,
    shard: str | None,
    json_file: str | None,
) -> None:
    """Check TARGETs against the reference: every gradient, by how much rounding can explain.

    A TARGET is reference, torch, jax, FILE.py:FUNCTION or MODULE:FUNCTION, where the function is
    gradients(network, parameters, batch) and returns {path: array}; a class or an object with such a method, or with
    forward and backward; or, after --, a program of any language that speaks gradconform's protocol. Without one, NumPy
    and every installed framework are checked.
    """
    from gradconform.conformance import plan as plans
    from gradconform.conformance.shards import part_of, require_shardable
    from gradconform.conformance.terminal import say, write
    from gradconform.conformance.training import read_training
    from gradconform.notation import parse
    from gradconform.templates import with_free_widths

    if json_file is not None and not Path(json_file).absolute().parent.is_dir():
        raise InvalidInput(f"{json_file}: no such folder")
    if not 0 < learning_rate < math.inf:
        raise InvalidInput(f"--learning-rate must be a number above 0, got {learning_rate:g}")
    if shard is not None:
        require_shardable(shard, data=data, max_time=max_time, seeded=seed is not None or profile == "ci")
    if seed is None:
        seed = CI_SEED if profile == "ci" else int.from_bytes(os.urandom(4), "big")
    chosen_network = None if network is None else network_of(network, parse if data is not None else with_free_widths)
    tell(str(seed))
    limits = Limits(timeout, max_memory << 20)
    checks = plans.choose_checks(only, exclude)
    chosen_dtypes = plans.choose_dtypes(dtypes) if dtypes else None
    training = None if data is None else read_training(data, chosen_network, learning_rate, raw, rows, seed)
    plan = plans.Plan(
        _implementations(targets, program=ctx.meta.get(PROGRAM, ()), limits=limits, isolate=isolate),
        max_examples=steps if training is not None else (max_examples or PROFILES[profile]),
        seed=seed,
        networks=plans.network_strategy(chosen_network),
        dtypes=chosen_dtypes,
        checks=checks,
        affine=affine,
        timeout=limits.timeout,
        max_memory=limits.memory,
        max_time=max_time,
        command=_again(seed),
    )
    kept = Kept(None if no_cases else cases, pins, ctx.meta.get(PROGRAM, ()))
    part = None if shard is None else part_of(plan, shard, kept.program)
    result = _run(plan, training, kept if part is None or part.rounds[0] == 0 else kept._replace(pins=None))
    result.part = part
    say(str(result))
    if json_file is not None:
        write(json_file, result.to_json())
    sys.exit(result.exit_code)


@cli.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--network", metavar="NOTATION|FILE", help=NETWORK_HELP)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of parameters, inputs and targets.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Samples in the batch.")
@click.option(
    "--dtype", default="float64", show_default=True, metavar="DTYPE", help="float64, float32, bfloat16 or float16."
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
    say(tracing.trace_text(chosen, _implementations(targets, missing_is_fine=True), seed, rows, dtype))


@cli.command()
def doctor() -> None:
    """Tell what is installed, in which version, and how to get what is missing."""
    from gradconform.conformance.doctor import diagnosis
    from gradconform.conformance.terminal import say

    say(diagnosis())


cli.add_command(init)
cli.add_command(layer)
cli.add_command(compare)
cli.add_command(protocol)
cli.add_command(faults)
cli.add_command(replay)
cli.add_command(show)
cli.add_command(report)
cli.add_command(fuzz)


def program() -> None:
    """Run the command line, and survive a candidate that ends the process."""
    compilation_cache.enable()
    supervised(sys.argv[1:], main)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command in this process, with the exit code and the one line of every way to fail."""
    # small matrices are faster on one thread, and this process is ours
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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
        # the reader of our output has gone: nothing is left to say, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"the output cannot be written: {error.strerror}", EXIT_USAGE)


def _again(seed: int) -> str:
    """Return the command that does the same again."""
    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word == "--seed":
            next(words, None)
        elif not word.startswith("--seed="):
            kept.append(word)
    return shlex.join(["gradconform", *kept, "--seed", str(seed)])


def _fail(message: str, code: int) -> None:
    click.echo(f"gradconform: {' '.join(message.split())}", err=True)
    sys.exit(code)


class Limits(NamedTuple):
    """What one call may take: seconds and bytes."""

    timeout: float = TIMEOUT
    memory: int = MAX_MEMORY << 20


LIMITS = Limits()


def _implementations(
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
    missing = [name for name in implementations.adapter_names() if not implementations.is_installed(name)]
    for name in missing:
        click.echo(
            f"gradconform: {name} is not installed and not compared: pip install 'gradconform[{name}]'", err=True
        )
    return implementations.installed() if missing_is_fine else implementations.everything()


class Kept(NamedTuple):
    """The folder of cases, if they are written, that of pins, and the program among what is checked."""

    cases: str | None
    pins: str | None
    program: Sequence[str]


def _run(plan: Plan, training: Training | None, kept: Kept) -> Result:
    """Run a plan with its progress on stderr."""
    from gradconform.conformance.canaries import proved
    from gradconform.conformance.engine import run
    from gradconform.conformance.keeping import run_kept
    from gradconform.conformance.terminal import Progress
    from gradconform.conformance.training import check_training

    with Progress() as progress:
        plan.progress, plan.notify, plan.found = progress.advance, progress.tell, progress.found
        chosen = run if training is None else partial(check_training, training=training)
        result = run_kept(plan, chosen, cases=kept.cases, pins=kept.pins, program=kept.program)
    return proved(result, plan.checks)
