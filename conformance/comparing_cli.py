"""`gradconform compare`: two existing models that should agree."""

from __future__ import annotations

import sys

import click

from gradconform.conformance.target_words import require_folder


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--data", required=True, metavar="FILE", help="The batch: .npz (inputs, targets, ...) or .csv.")
@click.option(
    "--parameters", metavar="FILE", help="The map in TOML: which parameter of FIRST is which of SECOND, and its axes."
)
@click.option(
    "--loss",
    metavar="NOTATION",
    help='For models that return outputs: "SoftmaxCrossEntropy", "MeanSquaredError(reduction=sum)". Without it, models '
    "return a scalar loss or their gradients.",
)
@click.option(
    "--values", metavar="FILE", help="Parameter values by the names of FIRST, .npz or .safetensors. Default: its own."
)
@click.option("--rows", type=click.IntRange(1), help="At most so many samples.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of initial values and of rounding.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the machine-readable result here.")
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
