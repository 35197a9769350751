"""The costs of the reproducer in C, and their gradients."""

from __future__ import annotations

from gradconform.conformance.casefile import CaseFile
from gradconform.conformance.reproducer_parts import ignored, number, on_logits, output, per_row
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    LossRecord,
    MeanSquaredError,
    SoftmaxCrossEntropy,
)


def loss_lines(file: CaseFile, index: int) -> list[str]:
    """Return the cost and its gradient with respect to a layer's output, as lines of C."""
    network, loss = file.case.network, file.case.network.loss
    units = network.widths[-1]
    z, d = output(index), "dx" if index < 0 else f"d{index}"
    lines = ["double cost = 0;", f"static double {d}[N][{units}];"]
    if not per_row(loss):
        return [
            *lines,
            "for (int n = 0; n < N; n++)",
            f"    for (int j = 0; j < {units}; j++) {{",
            f"        double z = {z}[n][j];",
            f"        double c = {_cotangent(file, 'cotangent[n][j]')};",
            *(f"        {line}" for line in _element(file, loss, f"{d}[n][j]")),
            "    }",
        ]
    softmax = isinstance(loss, SoftmaxCrossEntropy) or on_logits(network)
    return [
        *lines,
        *_divisor(file),
        "for (int n = 0; n < N; n++) {",
        *(f"    {line}" for line in _distribution(file)),
        f"    double c = {_cotangent(file, 'cotangent[n]')};",
        *(f"    {line}" for line in (_softmax(z, d, units) if softmax else _logarithm(loss, z, d, units))),
        "}",
    ]


def _softmax(z: str, d: str, units: int) -> list[str]:
    return [
        f"double top = {z}[n][0], total = 0, weight = 0;",
        f"for (int j = 1; j < {units}; j++)",
        f"    top = fmax(top, {z}[n][j]);",
        f"for (int j = 0; j < {units}; j++) {{",
        f"    total += exp({z}[n][j] - top);",
        "    weight += q[j];",
        "}",
        f"for (int j = 0; j < {units}; j++) {{",
        f"    double p = exp({z}[n][j] - top) / total;",
        "    double rest = 0; /* 1 - p, with all its digits */",
        f"    for (int k = 0; k < {units}; k++)",
        f"        rest += k == j ? 0 : exp({z}[n][k] - top) / total;",
        f"    cost -= c * q[j] * ({z}[n][j] - top - log(total));",
        f"    {d}[n][j] = c * (p * (weight - q[j]) - q[j] * rest); /* p - q, for labels */",
        "}",
    ]


def _logarithm(loss: LossRecord, z: str, d: str, units: int) -> list[str]:
    """Return the cross entropy of probabilities that are clipped."""
    clip = loss.clip if isinstance(loss, CrossEntropy) else 0.0
    return [
        f"for (int j = 0; j < {units}; j++) {{",
        f"    double p = fmin(fmax({z}[n][j], {number(clip)}), {number(1 - clip)});",
        "    cost -= c * q[j] * log(p);",
        f"    {d}[n][j] = p == {z}[n][j] ? -c * q[j] / p : 0;",
        "}",
    ]


def _element(file: CaseFile, loss: LossRecord, d: str) -> list[str]:
    """Return cost and gradient of one element, whose prediction is z."""
    match loss:
        case MeanSquaredError():
            return ["double r = z - y[n][j];", "cost += c * r * r;", f"{d} = c * 2 * r;"]
        case Huber():
            delta = number(loss.delta)
            return [
                f"double r = z - y[n][j], near = fmin(fmax(r, -{delta}), {delta});",
                "cost += c * near * (r - near / 2);",
                f"{d} = c * near;",
            ]
        case BinaryCrossEntropy() if not on_logits(file.case.network):
            return _probability(loss, d)
        case _:
            positive, negative = (f"(fmax({s}z, 0) + log1p(exp(-fabs(z))))" for s in ("", "-"))
            return [
                f"cost += c * (y[n][j] * {negative} + (1 - y[n][j]) * {positive});",
                f"{d} = c * ((1 - y[n][j]) / (1 + exp(-z)) - y[n][j] / (1 + exp(z))); /* sigma(z) - y */",
            ]


def _probability(loss: BinaryCrossEntropy, d: str) -> list[str]:
    lines = ["double p = z;"]
    if loss.clip:
        lines = [f"double p = fmin(fmax(z, {number(loss.clip)}), {number(1 - loss.clip)});"]
    logs = ["log(p)", "log(1 - p)"]
    if loss.log_floor is not None:
        logs = [f"fmax({log}, {number(loss.log_floor)})" for log in logs]
    lines.append(f"cost -= c * (y[n][j] * {logs[0]} + (1 - y[n][j]) * {logs[1]});")
    slope = "(1 - y[n][j]) / (1 - p) - y[n][j] / p"
    if loss.denominator_floor is not None:
        slope = f"(p - y[n][j]) / fmax(p * (1 - p), {number(loss.denominator_floor)})"
    return [*lines, f"{d} = p == z ? c * ({slope}) : 0;" if loss.clip else f"{d} = c * ({slope});"]


def _distribution(file: CaseFile) -> list[str]:
    """Return what each -log p of a row is weighted with: q."""
    batch, loss, classes = file.case.batch, file.case.network.loss, file.case.network.widths[-1]
    value = "labels[n] == j" if batch.labelled else "y[n][j]"
    counted = "" if ignored(file) is None else f"labels[n] != {ignored(file)}"
    if counted:
        value = f"{counted} && {value}"
    smoothing = getattr(loss, "label_smoothing", 0.0)
    if smoothing:
        spread = f"{number(smoothing)} / {classes}" + (f" * ({counted})" if counted else "")
        value = f"{number(1 - smoothing)} * ({value}) + {spread}"
    if batch.class_weights is not None:
        value = f"({value}) * class_weights[j]"
    return [f"double q[{classes}];", f"for (int j = 0; j < {classes}; j++)", f"    q[j] = {value};"]


def _divisor(file: CaseFile) -> list[str]:
    """Return what a mean over the rows divides by, where that is not their number."""
    batch, loss = file.case.batch, file.case.network.loss
    skipped = ignored(file)
    if not loss.averages or not batch.labelled or (skipped is None and batch.class_weights is None):
        return []
    add = "1" if batch.class_weights is None else "class_weights[labels[n]]"
    condition = [] if skipped is None else [f"    if (labels[n] != {skipped})"]
    indent = "    " if skipped is None else "        "
    return ["double divisor = 0;", "for (int n = 0; n < N; n++)", *condition, f"{indent}divisor += {add};"]


def _cotangent(file: CaseFile, given: str) -> str:
    """Return what one cost counts in the whole."""
    loss = file.case.network.loss
    scale = number(loss.scale)
    if loss.reduction == "none":
        return given if loss.scale == 1 else f"{scale} * {given}"
    if loss.reduction == "sum":
        return scale
    if per_row(loss):
        return f"{scale} / {'divisor' if _divisor(file) else 'N'}"
    return f"{scale} / " + ("N" if loss.reduction == "batchmean" else f"(N * {file.case.network.widths[-1]})")
