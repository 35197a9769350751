"""The command `gradconform check`."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from gradconform.conformance import completing
from gradconform.conformance.command_words import without_files
from gradconform.conformance.configured import again, configured, settings_of
from gradconform.conformance.manifest_cli import manifest_options, pinning_of_run
from gradconform.conformance.profiles import PROFILES, profile_named
from gradconform.conformance.program_words import PROGRAM, WithProgram
from gradconform.conformance.report_options import Reports, report_options
from gradconform.conformance.supervisor import tell
from gradconform.conformance.target_words import (
    NETWORK_HELP,
    Limits,
    ProfileName,
    case_options,
    check_options,
    implementations_of,
    limit_options,
    network_of,
)
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.parts import Part
    from gradconform.conformance.plan import Plan
    from gradconform.conformance.results import Result
    from gradconform.conformance.run_record import RunRecord
    from gradconform.conformance.training import Training

STEPS = 50
ROWS = 256


@click.command(
    cls=WithProgram,
    examples=[
        ("gradconform check", "NumPy and all installed frameworks against each other"),
        ("gradconform check my_mlp.py", "your own implementation: the function gradients in it"),
        ("gradconform check my_mlp.py:gradients torch", "two, side by side"),
        (
            'gradconform check my_mlp.py --network "* -> Dense(*) -> ReLU -> Dense(*), MeanSquaredError"',
            "one shape alone",
        ),
        ("gradconform check -- ./my_backprop", "a program in another language"),
        ("gradconform check --data iris.csv", "real data, at every step of training"),
        ("gradconform check --profile ci --json result.json", "what CI runs"),
    ],
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=completing.targets)
@click.option("--network", metavar="NOTATION|FILE", help=NETWORK_HELP)
@click.option(
    "--data",
    metavar="FILE",
    shell_complete=completing.files,
    help="Check on real samples, .csv (last column: the target) or .npz (inputs, targets): the network, or one that "
    "suits the data, is trained by the reference's gradient descent, and gradients are compared at every step.",
)
@click.option(
    "--profile",
    type=ProfileName(list(PROFILES)),
    default="default",
    show_default=True,
    help=f"How much is looked at. {'; '.join(f'{name}: {profile.summary}' for name, profile in PROFILES.items())}. "
    "--max-examples, --max-time and --seed go before what it says.",
)
@click.option(
    "--max-examples", type=click.IntRange(1), help="How many networks are drawn, each with parameters and a batch."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Which numbers are drawn: the same seed, the same run. Random if not given, and always told.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Draw nothing more after so many seconds; what was found by then is still made small. Default: as the "
    "profile says, or as long as it takes.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="DTYPE",
    shell_complete=completing.dtypes,
    help="Compute in this type: float64, float32, bfloat16 or float16; may be repeated. Default: what each target "
    "declares.",
)
@check_options
@click.option(
    "--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="How many steps the training has."
)
@click.option(
    "--learning-rate", type=float, default=0.1, show_default=True, help="How large a step is: w - rate * dC/dw."
)
@click.option("--raw", is_flag=True, help="Take the input columns as they are, not standardised.")
@click.option(
    "--rows", type=click.IntRange(1), default=ROWS, show_default=True, help="Take at most so many samples of --data."
)
@limit_options
@case_options
@click.option(
    "--pins",
    type=click.Path(file_okay=False),
    default="gradconform-cases",
    show_default=True,
    help="Replay the cases of the TARGETs in this folder first (gradconform replay --pin writes them).",
)
@click.option("--coverage", is_flag=True, help="Print which layers, losses and regimes were met together, in a table.")
@click.option(
    "--shard",
    metavar="K/M",
    help="Run the K-th of M parts alone, and the others on other machines: with the same --seed, and with --json for "
    "gradconform report merge.",
)
@configured
@report_options
@click.option(
    "--record",
    "record_file",
    type=click.Path(dir_okay=False),
    help="Write the record of the run here as it goes: gradconform report render makes every report of it, also where "
    "the run is killed. Default: .gradconform/last-run.jsonl; with --no-cases none.",
)
@manifest_options
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
    coverage: bool,
    shard: str | None,
    record_file: str | None,
    reports: Reports,
    manifest: str | None,
    write_manifest: str | None,
) -> None:
    """Check TARGETs against the reference: every gradient, by how much rounding can explain.

    A TARGET is reference, torch, jax, FILE.py:FUNCTION or MODULE:FUNCTION, where the function is
    gradients(network, parameters, batch) and returns {path: array}; a class or an object with such a method, or with
    forward and backward; or, after --, a program of any language that speaks gradconform's protocol. Without one, NumPy
    and every installed framework are checked. torch.vmap and jax.vmap compute several cases at once; from 257 networks
    on, where structures have many cases, they are checked beside torch and jax.
    """
    started = time.monotonic()
    from gradconform.conformance import plan as plans
    from gradconform.conformance.explanations import tell_next
    from gradconform.conformance.message import result_text
    from gradconform.conformance.shards import part_of, require_shardable
    from gradconform.conformance.terminal import say
    from gradconform.conformance.training import read_training
    from gradconform.notation import parse
    from gradconform.templates import with_free_widths

    _forget_last_run()
    reports.require_folders(record=record_file, write_manifest=write_manifest)
    if not 0 < learning_rate < math.inf:
        raise InvalidInput(f"--learning-rate must be a number above 0, got {learning_rate:g}")
    chosen = profile_named(profile, settings_of(ctx).profiles)
    max_time = chosen.max_time if max_time is None else max_time
    if shard is not None:
        require_shardable(shard, data=data, max_time=max_time, seeded=seed is not None or chosen.seed is not None)
    pinning = pinning_of_run(
        manifest, write_manifest, profile, max_examples or chosen.networks, chosen.seed if seed is None else seed
    )
    if seed is None:
        seed = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(4), "big")
        if chosen.networks is None:
            # so long a run may be ended by something else, which leaves nothing but this
            click.echo(f"gradconform: seed {seed}", err=True)
    narrowed = network is not None or data is not None or bool(only or exclude)
    chosen_network = None if network is None else network_of(network, parse if data is not None else with_free_widths)
    tell(str(seed))
    limits = Limits(timeout, max_memory << 20)
    checks = plans.choose_checks(only, exclude)
    chosen_dtypes = plans.choose_dtypes(dtypes) if dtypes else None
    training = None if data is None else read_training(data, chosen_network, learning_rate, raw, rows, seed)
    plan = plans.Plan(
        implementations_of(targets, program=ctx.meta.get(PROGRAM, ()), limits=limits, isolate=isolate),
        max_examples=steps if training is not None else (max_examples or chosen.networks or plans.UNLIMITED),
        seed=seed,
        networks=plans.network_strategy(chosen_network),
        dtypes=chosen_dtypes,
        checks=checks,
        affine=affine,
        timeout=limits.timeout,
        max_memory=limits.memory,
        max_time=max_time,
        started=started,
        draws=chosen.draws if training is None else 1,
        required=chosen.promises(max_examples=max_examples, max_time=max_time, narrowed=narrowed),
        command=without_files(again(seed)),
    )
    kept = Kept(None if no_cases else cases, pins, ctx.meta.get(PROGRAM, ()))
    part = None if shard is None else part_of(plan, shard, kept.program)
    with _recorded(plan, part, record_file, last=not no_cases) as record:
        result = _run(plan, training, kept if part is None or part.rounds[0] == 0 else kept._replace(pins=None))
        result.part = part
        pinning.hold(result)
        if record is not None:
            record.end(result)
    say(result_text(result, coverage=coverage))
    tell_next(result.verdict, pinning.next(seed))
    reports.write(result)
    pinning.pin(result)
    sys.exit(result.exit_code)


class Kept(NamedTuple):
    """The folder of cases, if they are written, that of pins, and the program among what is checked."""

    cases: str | None
    pins: str | None
    program: Sequence[str]


def _forget_last_run() -> None:
    """Leave no record of an older run where that of the last one is looked for."""
    from gradconform.conformance.run_record import forget_last

    try:
        forget_last()
    except InvalidInput as error:
        click.echo(f"gradconform: {error}", err=True)


def _recorded(
    plan: Plan, part: Part | None, place: str | None, *, last: bool
) -> AbstractContextManager[RunRecord | None]:
    """Have a plan write its record into a file, or where that of the last run is kept, if one is wanted."""
    from gradconform.conformance.run_record import RunRecord, header_of, point_to

    header = header_of(plan, None if part is None else part.shard)
    record = RunRecord(place, header, part) if place else None
    if last:
        try:
            if place:
                point_to(place)
            else:
                record = RunRecord.of_the_last_run(header, part)
        except InvalidInput as error:
            what = "gradconform report render does not find this run" if place else "no record of this run is kept"
            click.echo(f"gradconform: {what}: {error}", err=True)
    if record is None:
        return nullcontext()
    plan.log = record.log
    return record


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
