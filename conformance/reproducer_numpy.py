"""The reproducer in NumPy: backpropagation by the book, in float64."""

from __future__ import annotations

from gradconform.conformance.casefile import CaseFile
from gradconform.conformance.reproducer_parts import (
    docstring,
    ignored,
    nested,
    number,
    on_logits,
    output,
    per_row,
    python_end,
    python_place,
    variable,
)
from gradconform.layers import ELU, GELU, Dense, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import BinaryCrossEntropy, CrossEntropy, Huber, MeanSquaredError, SoftmaxCrossEntropy


def numpy_script(file: CaseFile) -> str:
    """Return the script."""
    case, network = file.case, file.case.network
    more = ["Needs NumPy alone. Computes in float64 on the exact numbers of the case."]
    if case.dtype.name != "float64":
        more.append(f"The case is in {case.dtype.name}: yours differs by its rounding.")
    lines = [*docstring(file, more), "", "import itertools", "import math", "", "import numpy as np", ""]
    lines += ['np.seterr(all="ignore")  # what overflows below is 0 or 1 in the end', "", "# the case", ""]
    for path, array in case.parameters.items():
        lines += [f"# {path}, {array.shape}", f"{variable(path)} = np.array({nested(array)})"]
    lines.append(f"x = np.array({nested(case.batch.inputs)})")
    name = "labels" if case.batch.labelled else "y"
    lines.append(f"{name} = np.array({nested(case.batch.targets)})")
    if case.batch.class_weights is not None:
        lines.append(f"class_weights = np.array({nested(case.batch.class_weights)})")
    if case.batch.cotangent is not None:
        lines.append(f"cotangent = np.array({nested(case.batch.cotangent)})  # of the unreduced loss")
    lines += ["", *python_place(file, "arrays"), "", f"# forward pass of {network}", ""]
    last = len(network.layers) - 1
    steps = last if on_logits(network) else last + 1
    for index in range(steps):
        lines += _forward(network.layers[index], index)
    lines += ["", "# the cost, and its gradient", "", *_loss(file, steps - 1)]
    lines += ["", "# backward pass: d0 is the gradient with respect to a0", ""]
    for index in reversed(range(steps)):
        lines += _backward(network.layers[index], index)
    lines += ["", "expected = {"]
    lines += [f'    "{path}": d{variable(path)},' for path in network.parameters()]
    lines += ['    "input": dx,', "}", "", *python_end(file, "cost")]
    return "\n".join(lines) + "\n"


def _forward(layer: Record, index: int) -> list[str]:
    z, a = output(index - 1), output(index)
    match layer:
        case Dense():
            return [f"{a} = {z} @ w{index}" + (f" + b{index}" if layer.bias else "")]
        case Sigmoid():
            return [f"{a} = 1 / (1 + np.exp(-{z}))"]
        case Tanh():
            return [f"{a} = np.tanh({z})"]
        case ReLU():
            return [f"{a} = np.maximum({z}, 0)"]
        case LeakyReLU():
            return [f"{a} = np.where({z} > 0, {z}, {number(layer.slope)} * {z})"]
        case ELU():
            return [f"{a} = np.where({z} > 0, {z}, {number(layer.alpha)} * np.expm1(np.minimum({z}, 0)))"]
        case Softplus():
            return [f"{a} = np.logaddexp(0, {z})  # log(1 + exp(z))"]
        case SiLU():
            return [f"s{index} = 1 / (1 + np.exp(-{z}))", f"{a} = {z} * s{index}"]
        case GELU(approximate="tanh"):
            return [
                f"u{index} = math.sqrt(2 / math.pi) * ({z} + 0.044715 * {z}**3)",
                f"h{index} = 1 / (1 + np.exp(-2 * u{index}))  # (1 + tanh u) / 2",
                f"{a} = {z} * h{index}",
            ]
        case GELU():
            return [
                f"h{index} = np.vectorize(math.erfc)(-{z} / math.sqrt(2)) / 2  # the normal distribution",
                f"{a} = {z} * h{index}",
            ]
        case _:
            return [
                f"e{index} = np.exp({z} - {z}.max(axis=1, keepdims=True))",
                f"{a} = e{index} / e{index}.sum(axis=1, keepdims=True)",
            ]


def _backward(layer: Record, index: int) -> list[str]:
    z, a, d, below = output(index - 1), output(index), f"d{index}", "dx" if index == 0 else f"d{index - 1}"
    match layer:
        case Dense():
            gradients = [f"dw{index} = {z}.T @ {d}"] + ([f"db{index} = {d}.sum(axis=0)"] if layer.bias else [])
            return [*gradients, f"{below} = {d} @ w{index}.T"]
        case Sigmoid():
            return [f"{below} = {d} * {a} / (1 + np.exp({z}))  # a (1 - a)"]
        case Tanh():
            return [f"{below} = {d} / np.cosh({z}) ** 2  # 1 - a^2"]
        case ReLU():
            return [f"{below} = {d} * ({z} > 0)"]
        case LeakyReLU():
            return [f"{below} = {d} * np.where({z} > 0, 1, {number(layer.slope)})"]
        case ELU():
            return [f"{below} = {d} * np.where({z} > 0, 1, {number(layer.alpha)} * np.exp(np.minimum({z}, 0)))"]
        case Softplus():
            return [f"{below} = {d} / (1 + np.exp(-{z}))"]
        case SiLU():
            return [f"{below} = {d} * s{index} * (1 + {z} / (1 + np.exp({z})))  # s + z s (1 - s)"]
        case GELU(approximate="tanh"):
            return [
                f"du{index} = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * {z}**2)",
                f"dh{index} = 2 * h{index} / (1 + np.exp(2 * u{index})) * du{index}  # 2 h (1 - h) u'",
                f"{below} = {d} * (h{index} + {z} * dh{index})",
            ]
        case GELU():
            density = f"np.exp(-({z}**2) / 2) / math.sqrt(2 * math.pi)"
            return [f"{below} = {d} * (h{index} + {z} * {density})"]
        case Softmax():
            return [f"{below} = {a} * ({d} - ({a} * {d}).sum(axis=1, keepdims=True))"]
        case _:
            raise AssertionError(layer)


def _loss(file: CaseFile, index: int) -> list[str]:
    """Return the cost and its gradient with respect to a layer's output."""
    network, loss = file.case.network, file.case.network.loss
    z, d = output(index), "dx" if index < 0 else f"d{index}"
    lines = _distribution(file) if per_row(loss) else []
    lines.append(f"c = {_cotangent(file)}  # what each cost counts in the whole")
    if isinstance(loss, SoftmaxCrossEntropy) or (isinstance(loss, CrossEntropy) and on_logits(network)):
        return [
            *lines,
            f"shifted = {z} - {z}.max(axis=1, keepdims=True)",
            "e = np.exp(shifted)",
            "total = e.sum(axis=1, keepdims=True)",
            "p = e / total",
            "rest = e @ (1 - np.eye(p.shape[1])) / total  # 1 - p, with all its digits",
            "cost = (c * -q * (shifted - np.log(total))).sum()",
            f"{d} = c * (p * (q.sum(axis=1, keepdims=True) - q) - q * rest)  # p - q, for labels",
        ]
    if isinstance(loss, CrossEntropy):
        return [
            *lines,
            f"inside = ({z} >= {number(loss.clip)}) & ({z} <= {number(1 - loss.clip)})",
            f"p = np.clip({z}, {number(loss.clip)}, {number(1 - loss.clip)})",
            "cost = (c * -q * np.log(p)).sum()",
            f"{d} = c * inside * -q / p",
        ]
    if isinstance(loss, BinaryCrossEntropy) and not on_logits(network):
        return [*lines, *_probabilities(loss, z, d)]
    if isinstance(loss, MeanSquaredError):
        return [*lines, f"r = {z} - y", "cost = (c * r**2).sum()", f"{d} = c * 2 * r"]
    if isinstance(loss, Huber):
        delta = number(loss.delta)
        return [
            *lines,
            f"r = {z} - y",
            f"cost = (c * np.where(abs(r) <= {delta}, r**2 / 2, {delta} * (abs(r) - {delta} / 2))).sum()",
            f"{d} = c * np.clip(r, -{delta}, {delta})",
        ]
    return [
        *lines,
        f"cost = (c * (y * np.logaddexp(0, -{z}) + (1 - y) * np.logaddexp(0, {z}))).sum()",
        f"{d} = c * ((1 - y) / (1 + np.exp(-{z})) - y / (1 + np.exp({z})))  # sigma(z) - y",
    ]


def _probabilities(loss: BinaryCrossEntropy, z: str, d: str) -> list[str]:
    """Return the binary cross entropy of probabilities that are limited in some way."""
    lines, p, inside = [], z, ""
    if loss.clip:
        low, high = number(loss.clip), number(1 - loss.clip)
        lines = [f"inside = ({z} >= {low}) & ({z} <= {high})", f"p = np.clip({z}, {low}, {high})"]
        p, inside = "p", "inside * "
    logs = [f"np.log({p})", f"np.log(1 - {p})"]
    if loss.log_floor is not None:
        logs = [f"np.maximum({log}, {number(loss.log_floor)})" for log in logs]
    lines.append(f"cost = (c * -(y * {logs[0]} + (1 - y) * {logs[1]})).sum()")
    if loss.denominator_floor is None:
        return [*lines, f"{d} = c * {inside}((1 - y) / (1 - {p}) - y / {p})"]
    return [*lines, f"{d} = c * {inside}({p} - y) / np.maximum({p} * (1 - {p}), {number(loss.denominator_floor)})"]


def _distribution(file: CaseFile) -> list[str]:
    """Return what each -log p is weighted with: q."""
    batch, loss, classes = file.case.batch, file.case.network.loss, file.case.network.widths[-1]
    skipped = ignored(file)
    lines = ["q = y"]
    if batch.labelled and skipped is None:
        lines = [f"q = np.eye({classes})[labels]"]
    elif batch.labelled:
        lines = [
            f"counted = labels != {skipped}",
            f"q = np.eye({classes})[np.where(counted, labels, 0)] * counted[:, None]",
        ]
    smoothing = getattr(loss, "label_smoothing", 0.0)
    if smoothing:
        spread = f"{number(smoothing)} / {classes}" + ("" if skipped is None else " * counted[:, None]")
        lines.append(f"q = (1 - {number(smoothing)}) * q + {spread}  # label smoothing")
    if batch.class_weights is not None:
        lines.append("q = q * class_weights")
    return lines


def _cotangent(file: CaseFile) -> str:
    """Return what each cost counts in the whole: of each row, as a column, or of each element."""
    batch, loss = file.case.batch, file.case.network.loss
    scale = number(loss.scale)
    if loss.reduction == "none":
        own = "cotangent[:, None]" if per_row(loss) else "cotangent"
        return own if loss.scale == 1 else f"{scale} * {own}"
    if loss.reduction == "sum":
        return scale
    if not per_row(loss):
        return f"{scale} / " + ("len(x)" if loss.reduction == "batchmean" else "y.size")
    if not batch.labelled:
        return f"{scale} / len(x)"
    counted = ignored(file) is not None
    if batch.class_weights is not None:
        return f"{scale} / class_weights[labels{'[counted]' if counted else ''}].sum()"
    return f"{scale} / " + ("counted.sum()" if counted else "len(x)")
