"""`gradconform fuzz`: a campaign of as long as you like, which looks where it is most worth looking."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradconform.conformance import completing
from gradconform.conformance.configured import configured
from gradconform.conformance.program_words import PROGRAM, WithProgram
from gradconform.conformance.report_options import Reports, report_options
from gradconform.conformance.target_words import (
    NETWORK_HELP,
    case_options,
    check_options,
    limit_options,
    network_of,
    tell_missing,
)
from gradconform.errors import InvalidInput

if TYPE_CHECKING:
    from gradconform.conformance.campaign import Crew
    from gradconform.conformance.campaign_work import Described
    from gradconform.conformance.job import Job

MAX_TIME = 600.0


@click.command(
    cls=WithProgram,
    examples=[
        ("gradconform fuzz --max-time 1800", "half an hour, on all cores"),
        ("gradconform fuzz my_mlp.py --workers 4", "your own implementation, in four processes"),
        ("gradconform fuzz --resume", "go on with the last campaign"),
        ("gradconform fuzz --dask tcp://scheduler:8786", "on the workers of a Dask cluster"),
    ],
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=completing.targets)
@click.option(
    "--max-time",
    type=click.FloatRange(0, min_open=True),
    default=MAX_TIME,
    show_default=True,
    metavar="SECONDS",
    help="Begin no further round after so many seconds.",
)
@click.option("--max-examples", type=click.IntRange(1), help="Check at most so many networks. Default: no limit.")
@click.option("--workers", type=click.IntRange(1), help="Run in so many processes. Default: one for each core.")
@click.option(
    "--dask", metavar="ADDRESS", help="Run on the workers of this Dask scheduler instead, such as tcp://127.0.0.1:8786."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Which numbers are drawn: the same seed, the same campaign. Random if not given, and always told.",
)
@click.option("--network", metavar="NOTATION|FILE", help=NETWORK_HELP)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="DTYPE",
    shell_complete=completing.dtypes,
    help="Compute in this type: float64, float32, bfloat16 or float16; may be repeated. Default: what each target "
    "declares, and now and then the 16-bit types that it supports.",
)
@check_options
@limit_options
@case_options
@click.option(
    "--name",
    metavar="NAME",
    help="Log the campaign in the folder of this name in .gradconform/fuzz. Default: its seed.",
)
@click.option("--resume", is_flag=True, help="Go on with the last campaign, or with that of --name.")
@configured
@report_options
@click.pass_context
def fuzz(
    ctx: click.Context,
    targets: tuple[str, ...],
    max_time: float,
    max_examples: int | None,
    workers: int | None,
    dask: str | None,
    seed: int | None,
    network: str | None,
    dtypes: tuple[str, ...],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    affine: bool,
    isolate: bool,
    timeout: float,
    max_memory: int,
    cases: str,
    no_cases: bool,
    name: str | None,
    resume: bool,
    reports: Reports,
) -> None:
    """Check TARGETs for as long as you like, on all cores or a cluster, where it is most worth looking.

    TARGETs are those of check. Rounds of networks are drawn around the closest calls, in regimes and with layers that
    were met least, deeper and wider ones now and then, and in 16-bit types. Each is logged when it is done: Ctrl-C, or
    a machine that goes down, loses the last few seconds, and --resume goes on from there.

    Exit codes: those of check.
    """
    from gradconform.conformance.fuzz import Fuzzing
    from gradconform.conformance.fuzz_log import Log
    from gradconform.conformance.fuzz_screen import Screen
    from gradconform.conformance.job import Job
    from gradconform.conformance.plan import choose_checks, choose_dtypes
    from gradconform.conformance.terminal import say
    from gradconform.templates import with_free_widths

    reports.require_folders()
    if name is not None and (Path(name).name != name or name in {"", ".", ".."}):
        raise InvalidInput(f"--name {name}: expected the name of a folder")
    if workers is not None and dask is not None:
        raise InvalidInput("--workers or --dask: the cluster has its own")
    if resume:
        _require_nothing_new(ctx)
        log = Log.resume(name)
    else:
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "big")
        choose_checks(only, exclude)
        choose_dtypes(dtypes)
        program = tuple(ctx.meta.get(PROGRAM, ()))
        job = Job(
            targets=_targets(targets, program),
            program=program,
            seed=seed,
            network="" if network is None else str(network_of(network, with_free_widths)),
            dtypes=dtypes,
            only=only,
            exclude=exclude,
            affine=affine,
            isolate=isolate,
            timeout=timeout,
            max_memory=max_memory << 20,
        )
        log = Log.begin(name or str(seed), job)
    with log, Screen() as screen:
        screen.tell(f"seed {log.job.seed}, logged in {log.folder}")
        crew = _crew(workers, dask, log.errors)
        try:
            described = _described(crew, log.job)
            fuzzing = Fuzzing(
                log,
                crew,
                described,
                screen,
                max_time=max_time,
                max_examples=max_examples,
                cases=None if no_cases else Path(cases),
            )
            fuzzing.read()
            result = fuzzing.run()
        finally:
            crew.close()
    say(str(result))
    say(f"{fuzzing.rate:,.0f} comparisons a second")
    reports.write(result)
    sys.exit(result.exit_code)


def _require_nothing_new(ctx: click.Context) -> None:
    """Raise `InvalidInput` for what would make another campaign of one that is gone on with."""
    from gradconform.conformance.job import Job

    decided = {*Job.__struct_fields__} - {"targets", "max_examples"}
    given = [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name in decided
        and ctx.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
    ]
    if ctx.params["targets"] or ctx.meta.get(PROGRAM):
        given.append("a TARGET")
    if given:
        raise InvalidInput(f"--resume goes on with what the campaign began with: leave out {', '.join(given)}")


def _targets(named: tuple[str, ...], program: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of who is checked, or of everything installed; what is missing is told on stderr."""
    if named or program:
        return tuple(dict.fromkeys(named))
    from gradconform.conformance.implementations import everything_named

    tell_missing()
    return tuple(everything_named())


def _crew(workers: int | None, dask: str | None, errors: str) -> Crew:
    if dask is not None:
        from gradconform.conformance.campaign_dask import DaskCrew

        return DaskCrew(dask)
    from gradconform.conformance.campaign_local import LocalCrew

    return LocalCrew(workers, errors)


def _described(crew: Crew, job: Job) -> Described:
    """Return who is checked, as a worker finds them; raises `InvalidInput` where none can."""
    try:
        described = crew.describe(job).result()
    except KeyboardInterrupt:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(f"no worker can check this: {type(error).__name__}: {said}") from error
    if described.error:
        raise InvalidInput(described.error)
    return described
