"""`gradconform layer`: a layer or an operation, checked alone."""

from __future__ import annotations

import ast
import os
import sys
from typing import Any

import click

from gradconform.conformance import completing
from gradconform.conformance.command_words import without_files
from gradconform.conformance.configured import again, configured
from gradconform.conformance.help import Command
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput


@click.command(
    cls=Command,
    examples=[
        ("gradconform layer my_function.py:Tanh", "a torch.autograd.Function, against its own forward pass"),
        ("gradconform layer my_layer.py:forward,backward --input 3,4", "two functions of NumPy, and the input's shape"),
        ("gradconform layer my_gelu.py:gelu --reference jax.nn:gelu", "against another function"),
    ],
)
@click.argument("target", shell_complete=completing.targets)
@click.option(
    "--input",
    "shapes",
    multiple=True,
    metavar="SHAPE",
    help='The shape of one input, as in 3,4; "" is a single number. Once for every input. Default: shapes are tried.',
)
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Hand over this argument, which is no array, as in eps=1e-5; may be repeated.",
)
@click.option(
    "--reference",
    metavar="TARGET",
    shell_complete=completing.targets,
    help="Compare outputs and gradients with those of this one. Default: with the derivative of TARGET's own forward "
    "pass.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="DTYPE",
    shell_complete=completing.dtypes,
    help="Compute in this type: float64 or float32; may be repeated. Default: float64, or what TARGET takes.",
)
@click.option(
    "--max-examples",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many inputs are drawn for each type.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Which numbers are drawn: the same seed, the same run. Random if not given, and always told.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK",
    shell_complete=completing.operation_checks,
    help="Run this check alone, such as gradient; may be repeated. gradconform explain lists all.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="CHECK",
    shell_complete=completing.operation_checks,
    help="Leave this check out; may be repeated.",
)
@click.option(
    "--framework",
    type=click.Choice(["numpy", "torch", "jax"]),
    help="Say what a plain function is written in, where its source does not tell.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the result as JSON into this file.")
@configured
def layer(
    target: str,
    shapes: tuple[str, ...],
    arguments: tuple[str, ...],
    reference: str | None,
    dtypes: tuple[str, ...],
    max_examples: int,
    seed: int | None,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    framework: str | None,
    json_file: str | None,
) -> None:
    """Check a layer or an operation alone: whether its backward pass is the derivative of its forward pass.

    TARGET is FILE.py:OBJECT or MODULE:OBJECT, where the object is a torch.autograd.Function, an nn.Module, a
    jax.custom_vjp or jax.custom_jvp function, a function of PyTorch or JAX, or a class or object with forward and
    backward in NumPy; FILE.py:FORWARD,BACKWARD are two functions of NumPy.
    """
    from gradconform.conformance.operation_run import check_layer
    from gradconform.conformance.terminal import say, write

    require_folder(json_file)
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big")
    result = check_layer(
        target,
        inputs=[_shape(shape) for shape in shapes] or None,
        reference=reference,
        arguments=dict(map(_argument, arguments)),
        dtypes=dtypes or None,
        max_examples=max_examples,
        seed=seed,
        only=only,
        exclude=exclude,
        framework=framework,
    )
    for finding in result.findings:
        finding.command = without_files(again(seed))
    say(str(result))
    if json_file is not None:
        write(json_file, result.to_json())
    sys.exit(result.exit_code)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.strip("()[] ").split(",") if size.strip())
    except ValueError:
        raise InvalidInput(f"--input {text!r} is no shape: write it as 3,4") from None
    if any(size < 1 for size in shape):
        raise InvalidInput(f"--input {text!r}: sizes must be at least 1")
    return shape


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InvalidInput(f"--argument {text!r}: write it as NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value
