"""`gradconform layer`: a layer or an operation, checked alone."""

from __future__ import annotations

import ast
import os
import sys
from typing import Any

import click

from gradconform.conformance.configured import again, configured
from gradconform.conformance.target_words import require_folder
from gradconform.errors import InvalidInput


@click.command()
@click.argument("target")
@click.option(
    "--input",
    "shapes",
    multiple=True,
    metavar="SHAPE",
    help='The shape of one input, as in "3,4"; "" is a single number. Once for every input. Default: shapes are tried.',
)
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument that is no array; may be repeated.",
)
@click.option(
    "--reference",
    metavar="TARGET",
    help="What outputs and gradients must agree with; default: gradients must be the derivative of TARGET itself.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="DTYPE",
    help="float64 or float32; may be repeated. Default: float64, or float32 where TARGET takes no other.",
)
@click.option(
    "--max-examples", type=click.IntRange(1), default=10, show_default=True, help="How many inputs are drawn."
)
@click.option("--seed", type=click.IntRange(0), help="What is drawn; random if not given, and always told.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check; may be repeated.")
@click.option("--exclude", multiple=True, metavar="CHECK", help="Not this check; may be repeated.")
@click.option(
    "--framework",
    type=click.Choice(["numpy", "torch", "jax"]),
    help="Of a plain function, where its source does not tell.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the machine-readable result here.")
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
        finding.command = again(seed)
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
