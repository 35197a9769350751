"""`gradconform compare`: two existing models that should agree."""

from __future__ import annotations

import sys

import click

from gradconform.conformance import completing
from gradconform.conformance.help import Command
from gradconform.conformance.target_words import require_folder


@click.command(
    cls=Command,
    examples=[
        ("gradconform compare a.py:model b.py:model --data batch.npz --loss SoftmaxCrossEntropy", ""),
        ("gradconform compare a.py:model b.py:model --data batch.npz --parameters map.toml", ""),
        ("gradconform compare a.py:gradients b.py:gradients --data iris.csv --values weights.npz", ""),
    ],
)
@click.argument("first", shell_complete=completing.targets)
@click.argument("second", shell_complete=completing.targets)
@click.option(
    "--data",
    required=True,
    metavar="FILE",
    shell_complete=completing.files,
    help="Take this batch: .npz (inputs, targets, ...) or .csv (last column: the target).",
)
@click.option(
    "--parameters",
    metavar="FILE",
    shell_complete=completing.files,
    help="Pair the parameters by this map in TOML: which of FIRST is which of SECOND, and its axes. Default: by names "
    "and shapes, as far as these tell.",
)
@click.option(
    "--loss",
    metavar="NOTATION",
    help="Put this loss behind models that return outputs, as in SoftmaxCrossEntropy or "
    "MeanSquaredError(reduction=sum). Without it, models return a scalar loss or their gradients.",
)
@click.option(
    "--values",
    metavar="FILE",
    shell_complete=completing.files,
    help="Take the parameters' values from this file, .npz or .safetensors, by the names of FIRST. Default: its own.",
)
@click.option("--rows", type=click.IntRange(1), help="Take at most so many samples of --data.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which initial values and roundings are drawn: the same seed, the same run.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the result as JSON into this file.")
def compare(
    first: str,
    second: str,
    data: str,
    parameters: str | None,
    loss: str | None,
    values: str | None,
    rows: int | None,
    seed: int,
    json_file: str | None,
) -> None:
    """Compare the gradients of two models that should agree: is the difference rounding or a bug, and where?

    FIRST and SECOND are FILE.py:OBJECT or MODULE:OBJECT: an nn.Module, a function model(parameters, inputs) in JAX or
    PyTorch, or a function gradients(parameters, inputs, targets) that returns {name: gradient}. Both get the values of
    FIRST, in float32 and in float64; the float64 runs decide.
    """
    from gradconform.conformance import comparing
    from gradconform.conformance.comparing_map import NoUniqueMap
    from gradconform.conformance.terminal import say, write

    require_folder(json_file)
    try:
        result = comparing.compare(
            first, second, data=data, parameters=parameters, loss=loss, values=values, rows=rows, seed=seed
        )
    except NoUniqueMap as error:
        say(error.proposal)
        raise
    say(str(result))
    if json_file is not None:
        write(json_file, result.to_json())
    sys.exit(result.exit_code)
