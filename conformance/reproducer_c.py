"""The reproducer in C: backpropagation by the book, in loops over doubles."""

from __future__ import annotations

import numpy as np

from gradconform.case import Array
from gradconform.conformance.casefile import CaseFile
from gradconform.conformance.reproducer_c_loss import loss_lines
from gradconform.conformance.reproducer_parts import nested, number, on_logits, output, summary, variable
from gradconform.layers import ELU, GELU, Dense, LeakyReLU, Record, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh

SHOW = """\
/* rows: 0 for a vector */
static void show(const char *path, int wrong, int rows, int columns, const double *expected, const double *own) {
    double largest = 0;
    printf("%s%s\\n", path, wrong ? "   <- was found wrong" : "");
    for (int i = 0; i < (rows ? rows : 1) * columns; i++) {
        if (rows)
            printf("  [%d, %d]  expected %.17g", i / columns, i % columns, expected[i]);
        else
            printf("  [%d]  expected %.17g", i, expected[i]);
        if (own) {
            printf("   yours %.17g", own[i]);
            largest = fmax(largest, fabs(own[i] - expected[i]));
        }
        printf("\\n");
    }
    if (own)
        printf("  largest difference %.3g\\n", largest);
}
"""


def c_script(file: CaseFile) -> str:
    """Return the program."""
    case, network = file.case, file.case.network
    widths, last = network.widths, len(network.layers) - 1
    steps = last if on_logits(network) else last + 1
    lines = ["/*", *(line.replace("*/", "* /") for line in summary(file)), ""]
    lines.append(f"Needs a C compiler alone: cc -std=c11 -o case {file.id}.c -lm && ./case")
    if case.dtype.name != "float64":
        lines.append(f"The case is in {case.dtype.name}: here its exact numbers are computed with in double.")
    lines += ["*/", "#include <math.h>", "#include <stdio.h>", "", "/* the case */", ""]
    lines += [f"enum {{ N = {case.batch.rows} }};", ""]
    for path, array in case.parameters.items():
        lines += [f"/* {path} */", _array(variable(path), array)]
    lines += [_array("x", case.batch.inputs), _array("labels" if case.batch.labelled else "y", case.batch.targets)]
    for name in ("class_weights", "cotangent"):
        array = getattr(case.batch, name)
        if array is not None:
            lines.append(_array(name, array))
    lines += [
        "",
        *_place(file),
        "",
        *SHOW.splitlines(),
        "",
        "int main(void) {",
        f"    /* forward pass of {network} */",
        "",
    ]
    for index in range(steps):
        lines += _indented(_forward(network.layers[index], index, widths[index], widths[index + 1]))
    lines += ["", "    /* the cost, and its gradient */", "", *_indented(loss_lines(file, steps - 1))]
    lines += ["", "    /* backward pass: d0 is the gradient with respect to a0 */", ""]
    for index in reversed(range(steps)):
        lines += _indented(_backward(network.layers[index], index, widths[index], widths[index + 1]))
    lines += ["", *_indented(_end(file)), "}"]
    return "\n".join(lines) + "\n"


def _array(name: str, array: Array) -> str:
    shape = "".join(f"[{'N' if name in {'x', 'labels', 'y'} and i == 0 else n}]" for i, n in enumerate(array.shape))
    kind = "long long" if array.dtype.kind in "iu" else "double"
    return f"static const {kind} {name}{shape} = {nested(array, '{}')};"


def _dimensions(shape: tuple[int, ...]) -> str:
    return "".join(f"[{n}]" for n in shape)


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def _place(file: CaseFile) -> list[str]:
    """Return the function that is to be filled in."""
    shapes = file.case.network.parameters()
    if not shapes:
        return ["/* there are no parameters: see what is printed for the input */"]
    arguments = ", ".join(f"double d{variable(path)}{_dimensions(shape)}" for path, shape in shapes.items())
    unused = " ".join(f"(void)d{variable(path)};" for path in shapes)
    return [
        "/* put your gradients here, and return 1 */",
        f"static int yours({arguments}) {{",
        f"    {unused}",
        "    return 0;",
        "}",
    ]


def _forward(layer: Record, index: int, incoming: int, units: int) -> list[str]:
    z, a = output(index - 1), output(index)
    declared = f"static double {a}[N][{units}];"
    if isinstance(layer, Dense):
        start = f"b{index}[j]" if layer.bias else "0"
        return [
            declared,
            "for (int n = 0; n < N; n++)",
            f"    for (int j = 0; j < {units}; j++) {{",
            f"        {a}[n][j] = {start};",
            f"        for (int i = 0; i < {incoming}; i++)",
            f"            {a}[n][j] += {z}[n][i] * w{index}[i][j];",
            "    }",
        ]
    if isinstance(layer, Softmax):
        return [declared, *softmax(z, a, units)]
    lines = [f"        double z = {z}[n][j];"]
    lines += [f"        {line}" for line in _activation(layer, f"{a}[n][j] = ")]
    return [declared, "for (int n = 0; n < N; n++)", f"    for (int j = 0; j < {units}; j++) {{", *lines, "    }"]


def softmax(z: str, p: str, units: int) -> list[str]:
    """Return the loops that fill `p` with the softmax of `z`."""
    return [
        "for (int n = 0; n < N; n++) {",
        f"    double top = {z}[n][0], total = 0;",
        f"    for (int j = 1; j < {units}; j++)",
        f"        top = fmax(top, {z}[n][j]);",
        f"    for (int j = 0; j < {units}; j++)",
        f"        total += exp({z}[n][j] - top);",
        f"    for (int j = 0; j < {units}; j++)",
        f"        {p}[n][j] = exp({z}[n][j] - top) / total;",
        "}",
    ]


ROOT = number(np.sqrt(2 / np.pi))
HALF = number(np.sqrt(0.5))
DENSITY = number(1 / np.sqrt(2 * np.pi))


def _activation(layer: Record, assign: str) -> list[str]:
    """Return the value of an elementwise layer at z."""
    match layer:
        case Sigmoid():
            return [f"{assign}1 / (1 + exp(-z));"]
        case Tanh():
            return [f"{assign}tanh(z);"]
        case ReLU():
            return [f"{assign}z > 0 ? z : 0;"]
        case LeakyReLU():
            return [f"{assign}z > 0 ? z : {number(layer.slope)} * z;"]
        case ELU():
            return [f"{assign}z > 0 ? z : {number(layer.alpha)} * expm1(z);"]
        case Softplus():
            return [f"{assign}fmax(z, 0) + log1p(exp(-fabs(z))); /* log(1 + exp(z)) */"]
        case SiLU():
            return [f"{assign}z / (1 + exp(-z));"]
        case GELU(approximate="tanh"):
            return [f"double u = {ROOT} * (z + 0.044715 * z * z * z);", f"{assign}z / (1 + exp(-2 * u));"]
        case GELU():
            return [f"{assign}z * erfc(-z * {HALF}) / 2; /* z times the normal distribution */"]
        case _:
            raise AssertionError(layer)


def _slope(layer: Record) -> list[str]:
    """Return the derivative of an elementwise layer at z."""
    match layer:
        case Sigmoid():
            return ["double slope = 1 / (1 + exp(-z)) / (1 + exp(z)); /* a (1 - a) */"]
        case Tanh():
            return ["double slope = 1 / cosh(z) / cosh(z); /* 1 - a^2 */"]
        case ReLU():
            return ["double slope = z > 0;"]
        case LeakyReLU():
            return [f"double slope = z > 0 ? 1 : {number(layer.slope)};"]
        case ELU():
            return [f"double slope = z > 0 ? 1 : {number(layer.alpha)} * exp(z);"]
        case Softplus():
            return ["double slope = 1 / (1 + exp(-z));"]
        case SiLU():
            return ["double s = 1 / (1 + exp(-z));", "double slope = s * (1 + z / (1 + exp(z))); /* s + z s (1 - s) */"]
        case GELU(approximate="tanh"):
            return [
                f"double u = {ROOT} * (z + 0.044715 * z * z * z);",
                f"double du = {ROOT} * (1 + 3 * 0.044715 * z * z);",
                "double h = 1 / (1 + exp(-2 * u)); /* (1 + tanh u) / 2 */",
                "double slope = h + z * 2 * h / (1 + exp(2 * u)) * du;",
            ]
        case GELU():
            return [f"double slope = erfc(-z * {HALF}) / 2 + z * exp(-z * z / 2) * {DENSITY};"]
        case _:
            raise AssertionError(layer)


def _backward(layer: Record, index: int, incoming: int, units: int) -> list[str]:
    z, a, d, below = output(index - 1), output(index), f"d{index}", "dx" if index == 0 else f"d{index - 1}"
    declared = f"static double {below}[N][{incoming}];"
    if isinstance(layer, Dense):
        return [
            f"static double dw{index}[{incoming}][{units}];",
            *([f"static double db{index}[{units}];"] if layer.bias else []),
            declared,
            "for (int n = 0; n < N; n++)",
            f"    for (int j = 0; j < {units}; j++) {{",
            *([f"        db{index}[j] += {d}[n][j];"] if layer.bias else []),
            f"        for (int i = 0; i < {incoming}; i++) {{",
            f"            dw{index}[i][j] += {z}[n][i] * {d}[n][j];",
            f"            {below}[n][i] += {d}[n][j] * w{index}[i][j];",
            "        }",
            "    }",
        ]
    if isinstance(layer, Softmax):
        return [
            declared,
            "for (int n = 0; n < N; n++) {",
            "    double mean = 0;",
            f"    for (int j = 0; j < {units}; j++)",
            f"        mean += {a}[n][j] * {d}[n][j];",
            f"    for (int j = 0; j < {units}; j++)",
            f"        {below}[n][j] = {a}[n][j] * ({d}[n][j] - mean);",
            "}",
        ]
    lines = [f"        double z = {z}[n][j];", *(f"        {line}" for line in _slope(layer))]
    lines.append(f"        {below}[n][j] = {d}[n][j] * slope;")
    return [declared, "for (int n = 0; n < N; n++)", f"    for (int j = 0; j < {units}; j++) {{", *lines, "    }"]


def _end(file: CaseFile) -> list[str]:
    """Return the end of `main`, which prints what is expected beside what was filled in."""
    shapes = file.case.network.parameters()
    lines = [f"static double own_{variable(path)}{_dimensions(shape)};" for path, shape in shapes.items()]
    if shapes:
        lines.append(f"int filled = yours({', '.join(f'own_{variable(path)}' for path in shapes)});")
    lines.append('printf("cost  expected %.17g\\n", cost);')
    for path, shape in shapes.items():
        name = variable(path)
        rows, columns = shape if len(shape) == 2 else (0, shape[0])
        first = "[0][0]" if len(shape) == 2 else "[0]"
        wrong = int(path == file.found.path)
        lines.append(
            f'show("{path}", {wrong}, {rows}, {columns}, &d{name}{first}, filled ? &own_{name}{first} : NULL);'
        )
    width, wrong = file.case.network.inputs, int(file.found.path == "input")
    lines.append(f'show("input", {wrong}, N, {width}, &dx[0][0], NULL);')
    return [*lines, "return 0;"]
