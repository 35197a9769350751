"""Small programs in which an explanation's lines stand: the same network by hand in NumPy, in PyTorch and in JAX.

A program is a text with places for an activation and a loss. Putting in the wrong line of an explanation gives a
program that `gradconform check` finds that mistake in; with the right line it passes. The tests hold both.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from gradconform.conformance.explained_texts import HIDDEN, LAST, TEXTS, THREE, Framework

SQUARE = "3 -> Dense(3) -> Tanh -> Dense(3), SoftmaxCrossEntropy"
DEEP = "* -> Dense(*) -> Tanh -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"
FIXED = "4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy"


@dataclass(frozen=True)
class Lines:
    """A wrong line, or a few, and the right ones. `at`: the lines of the program in whose place both may stand."""

    right: str
    wrong: str
    at: str = ""


@dataclass(frozen=True)
class Program:
    """What stands in a program: its network, an activation, a loss, and what is declared at its end."""

    network: str = "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"
    activation: str = "Tanh"
    loss: str = "softmax"
    declared: str = ""
    alpha: str = "2.0"


ACTIVATIONS: dict[str, tuple[str, str]] = {
    "Tanh": ("a = np.tanh(z)", "delta_z = delta * (1 - a**2)"),
    "Sigmoid": ("a = 1 / (1 + np.exp(-z))", "delta_z = delta * a * (1 - a)"),
    "ReLU": ("a = np.where(z > 0, z, 0)", "delta_z = delta * (z > 0)"),
    "LeakyReLU": ("a = np.where(z > 0, z, SLOPE * z)", "delta_z = np.where(z > 0, delta, SLOPE * delta)"),
    "ELU": (
        "a = np.where(z > 0, z, ALPHA * np.expm1(z))",
        "delta_z = np.where(z > 0, delta, delta * ALPHA * np.exp(z))",
    ),
    "Softplus": ("a = np.logaddexp(z, np.zeros_like(z))", "delta_z = delta / (1 + np.exp(-z))"),
    "SiLU": ("a = z / (1 + np.exp(-z))", "s = 1 / (1 + np.exp(-z))\ndelta_z = delta * (s + z * s * (1 - s))"),
    "GELU": (
        "a = 0.5 * z * (1 + erf(z / math.sqrt(2)))",
        "cdf = 0.5 * (1 + erf(z / math.sqrt(2)))\n"
        "pdf = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)\n"
        "delta_z = delta * (cdf + z * pdf)",
    ),
    "GELU of tanh": (
        "k = math.sqrt(2 / math.pi)\na = 0.5 * z * (1 + np.tanh(k * (z + 0.044715 * z**3)))",
        "k = math.sqrt(2 / math.pi)\n"
        "t = np.tanh(k * (z + 0.044715 * z**3))\n"
        "delta_z = delta * (0.5 * (1 + t) + 0.5 * z * (1 - t * t) * k * (1 + 0.134145 * z * z))",
    ),
    "Softmax": (
        "e = np.exp(z - z.max(axis=1, keepdims=True))\na = e / e.sum(axis=1, keepdims=True)",
        "delta_z = a * (delta - (a * delta).sum(axis=1, keepdims=True))",
    ),
}
"""What an activation computes from z, and the delta below it from z, a and the delta above."""

STABLE = """\
s = z - z.max(axis=1, keepdims=True)
e = np.exp(s)
p = e / e.sum(axis=1, keepdims=True)
log_p = s - np.log(e.sum(axis=1, keepdims=True))
"""
ROWS = "np.arange(len(z))"

LOSSES: dict[str, tuple[str, str]] = {
    "softmax": (
        STABLE + f"costs = -log_p[{ROWS}, y]\ncost = costs.mean()",
        "delta = (p - one_hot(y, z)) / len(z)",
    ),
    "softmax of soft labels": (
        STABLE + "costs = -(y * log_p).sum(axis=1)\ncost = costs.mean()",
        "delta = (p - y) / len(z)",
    ),
    "softmax, summed": (STABLE + f"cost = -log_p[{ROWS}, y].sum()", "delta = p - one_hot(y, z)"),
    "softmax, each": (STABLE + f"cost = -log_p[{ROWS}, y]", "delta = (p - one_hot(y, z)) * upstream[:, None]"),
    "softmax, scaled": (
        STABLE + f"cost = SCALE * -log_p[{ROWS}, y].mean()",
        "delta = SCALE * (p - one_hot(y, z)) / len(z)",
    ),
    "softmax, weighted": (
        STABLE + f"weight = class_weights[y]\ncost = -(weight * log_p[{ROWS}, y]).sum() / weight.sum()",
        "weight = class_weights[y]\ndelta = weight[:, None] * (p - one_hot(y, z)) / weight.sum()",
    ),
    "softmax, some ignored": (
        STABLE + f"counts = y != IGNORED\n"
        f"cost = -(log_p[{ROWS}, np.where(counts, y, 0)] * counts).sum() / counts.sum()",
        "counts = y != IGNORED\n"
        "delta = p - one_hot(np.where(counts, y, 0), z)\n"
        "delta = np.where(counts[:, None], delta, 0)\n"
        "delta = delta / counts.sum()",
    ),
    "softmax, smoothed": (
        STABLE + "q = (1 - EPSILON) * one_hot(y, z) + EPSILON / z.shape[1]\ncost = -(q * log_p).sum() / len(z)",
        "q = (1 - EPSILON) * one_hot(y, z) + EPSILON / z.shape[1]\ndelta = (p - q) / len(z)",
    ),
    "softmax, smoothed, some ignored": (
        STABLE + "counts = y != IGNORED\n"
        "q = (1 - EPSILON) * one_hot(np.where(counts, y, 0), z) + EPSILON / z.shape[1]\n"
        "cost = -(q * log_p * counts[:, None]).sum() / counts.sum()",
        "counts = y != IGNORED\n"
        "q = (1 - EPSILON) * one_hot(np.where(counts, y, 0), z) + EPSILON / z.shape[1]\n"
        "delta = np.where(counts[:, None], p - q, 0) / counts.sum()",
    ),
    "sigmoid": (
        "p = 1 / (1 + np.exp(-z))\ncost = (np.logaddexp(z, np.zeros_like(z)) - y * z).mean()",
        "delta = (p - y) / y.size",
    ),
    "square": ("p = z\ncost = ((p - y) ** 2).mean()", "delta = 2 * (p - y) / y.size"),
    "Huber": (
        "p = z\nr = np.abs(p - y)\ncost = np.where(r <= LIMIT, 0.5 * r * r, LIMIT * (r - 0.5 * LIMIT)).mean()",
        "r = p - y\ndelta = np.clip(r, -LIMIT, LIMIT) / y.size",
    ),
    "of probabilities": (
        f"p = z\ncost = -np.log(p[{ROWS}, y]).mean()",
        "delta = -one_hot(y, z) / p / len(z)",
    ),
    "of probabilities of two": (
        "p = z\ncost = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()",
        "delta = (p - y) / (p * (1 - p)) / y.size",
    ),
}
"""What a loss computes from the network's output z and the targets y, and the output delta from these and p."""

PROGRAMS: dict[str, Program] = {
    "classifier": Program(),
    "square layers": Program(SQUARE),
    "fixed widths": Program(FIXED),
    "three layers": Program(DEEP),
    **{
        name: Program(f"* -> Dense(*) -> {notation} -> Dense(*), MeanSquaredError", name, "square")
        for name, notation in {
            "Tanh": "Tanh",
            "Sigmoid": "Sigmoid",
            "ReLU": "ReLU",
            "LeakyReLU": "LeakyReLU(slope=0.2)",
            "ELU": "ELU(alpha=2)",
            "Softplus": "Softplus",
            "SiLU": "SiLU",
            "GELU": "GELU",
            "GELU of tanh": "GELU(approximate=tanh)",
            "Softmax": "Softmax",
        }.items()
    },
    "ELU of 1": Program("* -> Dense(*) -> ELU -> Dense(*), MeanSquaredError", "ELU", "square", alpha="1.0"),
    "regression": Program("* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError", loss="square"),
    "Huber": Program("* -> Dense(*) -> Tanh -> Dense(*), Huber(delta=0.5)", loss="Huber"),
    "labels of their own": Program("* -> Dense(*) -> Tanh -> Dense(*), SigmoidCrossEntropy", loss="sigmoid"),
    "soft labels": Program(loss="softmax of soft labels", declared='gradients.labels = ("soft",)'),
    "summed": Program("* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy(reduction=sum)", loss="softmax, summed"),
    "each": Program("* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy(reduction=none)", loss="softmax, each"),
    "scaled": Program("* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy(scale=3)", loss="softmax, scaled"),
    "class weights": Program(loss="softmax, weighted", declared="gradients.class_weights = True"),
    "ignored rows": Program(
        "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy(ignore_index=-100)", loss="softmax, some ignored"
    ),
    "label smoothing": Program(
        "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy(label_smoothing=0.1)", loss="softmax, smoothed"
    ),
    "label smoothing, ignored rows": Program(
        "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy(label_smoothing=0.1, ignore_index=-100)",
        loss="softmax, smoothed, some ignored",
    ),
    "probabilities": Program("* -> Dense(*) -> Softmax, CrossEntropy", "Softmax", "of probabilities"),
    "probabilities of two": Program(
        "* -> Dense(*) -> Sigmoid, BinaryCrossEntropy", "Sigmoid", "of probabilities of two"
    ),
}

CONSTANTS = {"SLOPE": "0.2", "LIMIT": "0.5", "EPSILON": "0.1", "IGNORED": "-100", "SCALE": "3.0"}
ELSEWHERE = "\n---\n"
"""Stands between lines that belong at different places of a program."""
KEPT = "KEPT"
"""What a program keeps between calls, where it does."""

WORDS: dict[Framework, tuple[tuple[str, str], ...]] = {
    "numpy": (),
    "torch": (
        (r"\.max\(axis=", ".amax(dim="),
        (r"\.argmax\(axis=", ".argmax(dim="),
        (r"\baxis=", "dim="),
        (r"\bkeepdims=", "keepdim="),
        (r"(?<!torch)\.size\b(?!\()", ".numel()"),
        (r"\.astype\(", ".to("),
        (r"\bnp\.round\((\w+), (\d+)\)", r"torch.round(\1, decimals=\2)"),
        (r"\bnp\.", "torch."),
    ),
    "jax": ((r"\bnp\.", "jnp."),),
}
"""How each framework spells what NumPy does."""


def spelled(lines: str, framework: Framework) -> str:
    """Return lines of NumPy as a framework spells them."""
    for pattern, replacement in WORDS[framework]:
        lines = re.sub(pattern, replacement, lines)
    return lines


def script(program: Program, framework: Framework) -> str:
    """Return a whole program, which is right: a candidate for `gradconform check`."""
    forward, backward = ACTIVATIONS[program.activation]
    cost, delta = LOSSES[program.loss]
    flow = LAST if program.loss.startswith("of probabilities") else THREE if program.network == DEEP else HIDDEN
    used = "".join((forward, backward, cost, delta))
    values = {**CONSTANTS, "ALPHA": program.alpha}
    constants = "\n".join(f"{name} = {value}" for name, value in values.items() if name in used)
    declared = f'gradients.networks = ("{program.network}",)\n{program.declared}'.strip()
    text = TEXTS[framework]
    for place, lines in (
        ("constants", constants),
        ("forward", spelled(forward, framework)),
        ("backward", spelled(backward, framework)),
        ("cost", spelled(cost, framework)),
        ("delta", spelled(delta, framework)),
        ("flow", flow[framework]),
        ("declared", declared),
    ):
        text = put(text, f"# {place}", lines)
    if "erf(" not in used:
        text = re.sub(r"(?m)^erf = .*\n", "", text)
    return re.sub(r"\n{4,}", "\n\n\n", text)


def put(text: str, at: str, lines: str) -> str:
    """Return a text with other lines in place of some that stand in it once, as far to the right as these did.

    Raises `ValueError` where these do not stand in it, or more than once.
    """
    own, wanted = text.splitlines(), [line.strip() for line in at.strip().splitlines()]
    found = [
        index
        for index in range(len(own) - len(wanted) + 1)
        if [line.strip() for line in own[index : index + len(wanted)]] == wanted
    ]
    if len(found) != 1:
        raise ValueError(f"{at!r} stands in the program {len(found)} times")
    indent = own[found[0]][: len(own[found[0]]) - len(own[found[0]].lstrip())]
    own[found[0] : found[0] + len(wanted)] = textwrap.indent(lines, indent).splitlines()
    return "\n".join(own) + "\n"


def script_with(program: Program, framework: Framework, lines: Lines, *, wrong: bool) -> str:
    """Return a program with the wrong lines, or the right ones, where they belong."""
    text = script(program, framework)
    own = lines.wrong if wrong else lines.right
    for at, line in zip((lines.at or lines.right).split(ELSEWHERE), own.split(ELSEWHERE), strict=True):
        text = put(text, at, line)
    if KEPT in own:
        head, import_, rest = text.partition("import gradconform as gc\n")
        text = f"{head}{import_}\n{KEPT} = {{}}\n{rest}"
    if "math." not in text:
        text = text.replace("import math\n\n", "", 1)
    return text
