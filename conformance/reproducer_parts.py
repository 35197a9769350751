"""What the reproducers of all languages share: names, numbers, what is said of the case, and the Python around it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from gradconform.case import Array
from gradconform.conformance.casefile import CaseFile
from gradconform.errors import one_line
from gradconform.layers import Record
from gradconform.losses import LossRecord
from gradconform.network import Network
from gradconform.reference.losses import fused

WIDTH = 100


def variable(path: str) -> str:
    """Return the name that a parameter has in a script: w0 for 0.weight."""
    index, _, name = path.partition(".")
    return f"{name[0]}{index}"


def output(index: int) -> str:
    """Return the name of a layer's output: a0 of the first layer; what goes into that is x."""
    return "x" if index < 0 else f"a{index}"


def number(value: float) -> str:
    """Return a number with all its digits."""
    return repr(float(value))


def nested(array: Array, brackets: str = "[]", indent: str = "") -> str:
    """Return the numbers of an array, a row a line."""
    left, right = brackets[0], brackets[1]
    spelled = str if array.dtype.kind in "iu" else number
    if array.ndim < 2:
        return f"{left}{', '.join(spelled(value) for value in array.tolist())}{right}"
    rows = [f"{indent}    {nested(row, brackets)}," for row in array]
    return "\n".join([left, *rows, f"{indent}{right}"])


def summary(file: CaseFile) -> list[str]:
    """Return what a script says of its case, in lines: what was found, where, and in which network."""
    found = f"Case {file.id}: {file.implementation}   {file.found.sentence}"
    network = f"{file.case.network}, batch {file.case.batch.rows}, {file.case.dtype.name}"
    worst = f"{file.found.path}{file.found.index or ''}: yours {file.found.actual}, expected {file.found.expected}"
    told = (found, network) if file.found.actual is None else (found, worst, network)
    return [line for text in told for line in textwrap.wrap(one_line(text, 1000), WIDTH)]


def on_logits(network: Network) -> bool:
    """Return whether the last layer and the loss are computed as one, which no saturated probability spoils."""
    return fused(network) is not None


def per_row(loss: LossRecord) -> bool:
    """Return whether the loss has one cost for each row, and not for each element."""
    return loss.labels == "classes"


def ignored(file: CaseFile) -> int | None:
    """Return the label whose rows count nowhere, where there may be such rows."""
    number: int | None = getattr(file.case.network.loss, "ignore_index", None)
    return number if file.case.batch.labelled else None


def docstring(file: CaseFile, more: Sequence[str]) -> list[str]:
    """Return the docstring of a Python script."""
    first, *rest = [line.replace("\\", "\\\\").replace('"""', "'''") for line in summary(file)]
    return [f'"""{first}', *rest, "", *more, '"""']


def given_beside(file: CaseFile) -> list[str]:
    """Return what the cost takes of the case's batch beside inputs and targets."""
    return [name for name in ("class_weights", "cotangent") if getattr(file.case.batch, name) is not None]


def for_vmap(
    file: CaseFile, forward: Callable[[Record, int], str], loss: Sequence[str], between: Sequence[str]
) -> tuple[list[str], str]:
    """Return two functions for vmap, and what else than the leaves its call takes: all that the case has beside them.

    The first one has the cost of one case, by `forward`, the output of a layer by its index, and the lines of `loss`;
    `between` is the body of the second, which gives an array of the case between those of two others.
    """
    network, others = file.case.network, ["targets", *given_beside(file)]
    lines = ["# the same by vmap, where the case stands between two others", "", ""]
    lines += [
        f"def cost_of_one({', '.join(['leaves', *others])}):",
        f'    """{network}, layer by layer."""',
        '    x = leaves["input"]',
    ]
    lines += [f"    {variable(path)} = leaves[{path!r}]" for path in network.parameters()]
    lines += [f"    {output(index)} = {forward(layer, index)}" for index, layer in enumerate(network.layers)]
    lines += [*(f"    {line}" for line in loss), "", ""]
    lines += ["def between(array):", *(f"    {line}" for line in between), "", ""]
    return lines, "".join(f", between({name})" for name in others)


def python_place(file: CaseFile, arrays: str) -> list[str]:
    """Return the place for one's own gradients in a Python script."""
    keys = ", ".join(f'"{path}": ...' for path in file.case.network.parameters())
    return [
        f"yours = None  # put your gradients here, {arrays} in the parameters' shapes:",
        *(f"# {line}" for line in textwrap.wrap(f"yours = {{{keys}}}", WIDTH - 2)),
    ]


def python_end(file: CaseFile, cost: str) -> list[str]:
    """Return the end of a Python script, which prints `expected` beside `yours`."""
    return [
        f'print(f"cost  expected {{float({cost}):.17g}}")',
        "for path, array in expected.items():",
        f'    print(path + ("   <- was found wrong" if path == {file.found.path!r} else ""))',
        "    own = None if yours is None else yours.get(path)",
        "    differences = []",
        "    for index in itertools.product(*map(range, array.shape)):",
        '        line = f"  {list(index)}  expected {float(array[index]):.17g}"',
        "        if own is not None:",
        '            line += f"   yours {float(own[index]):.17g}"',
        "            differences.append(abs(float(own[index]) - float(array[index])))",
        "        print(line)",
        "    if differences:",
        '        print(f"  largest difference {max(differences):.3g}")',
    ]
