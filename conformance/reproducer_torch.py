"""The reproducer in PyTorch: its own functions and its own differentiation, in the type of the case."""

from __future__ import annotations

from gradconform.conformance.adapter_names import VMAP
from gradconform.conformance.casefile import CaseFile
from gradconform.conformance.reproducer_parts import (
    docstring,
    for_vmap,
    given_beside,
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


def torch_script(file: CaseFile) -> str:
    """Return the script."""
    case, network = file.case, file.case.network
    more = ["Needs PyTorch alone."]
    if case.dtype.name != "float64":
        more.append(f"Computes in {case.dtype.name} as the case does: with dtype = torch.float64 all digits are right.")
    lines = [*docstring(file, more), "", "import itertools", "", "import torch", "import torch.nn.functional as F", ""]
    lines += [f"dtype = torch.{case.dtype.name}", "", "# the case", ""]
    for path, array in case.parameters.items():
        lines.append(f"# {path}, {array.shape}")
        lines.append(f"{variable(path)} = torch.tensor({nested(array)}, dtype=dtype, requires_grad=True)")
    lines.append(f"x = torch.tensor({nested(case.batch.inputs)}, dtype=dtype, requires_grad=True)")
    kind = "" if case.batch.labelled else ", dtype=dtype"
    lines.append(f"targets = torch.tensor({nested(case.batch.targets)}{kind})")
    for name in given_beside(file):
        lines.append(f"{name} = torch.tensor({nested(getattr(case.batch, name))}, dtype=dtype)")
    by_vmap = file.implementation == f"torch{VMAP}"
    lines += ["", *([] if by_vmap else [*python_place(file, "tensors or arrays"), ""]), f"# {network}", ""]
    steps = len(network.layers) - on_logits(network)
    lines += [f"{output(index)} = {_forward(network.layers[index], index)}" for index in range(steps)]
    lines += _loss(file, output(steps - 1), logits=on_logits(network))
    lines += ["cost.backward()", "", "expected = {"]
    lines += [f'    "{path}": {variable(path)}.grad,' for path in network.parameters()]
    lines += ['    "input": x.grad,', "}", "", *(_by_vmap(file) if by_vmap else []), *python_end(file, "cost.item()")]
    return "\n".join(lines) + "\n"


def _by_vmap(file: CaseFile) -> list[str]:
    """Return the lines that compute `yours` by `torch.func.vmap`, as the adapter does."""
    network = file.case.network
    loss = [*_loss(file, output(len(network.layers) - 1), logits=False), "return cost"]
    between = [
        "other = array.flip(0) if array.ndim == 1 else array",
        "other = other / 2 if other.is_floating_point() else other",
        "return torch.stack([other, array, other]).detach()",
    ]
    functions, others = for_vmap(file, _forward, loss, between)
    leaves = ", ".join([*(f'"{path}": {variable(path)}' for path in network.parameters()), '"input": x'])
    return [
        *functions,
        f"leaves = {{{leaves}}}",
        "leaves = {path: between(array) for path, array in leaves.items()}",
        f"found = torch.func.vmap(torch.func.grad(cost_of_one))(leaves{others})",
        "yours = {path: array[1] for path, array in found.items()}",
        "",
    ]


def _forward(layer: Record, index: int) -> str:
    z = output(index - 1)
    match layer:
        case Dense():
            return f"{z} @ w{index}" + (f" + b{index}" if layer.bias else "")
        case Sigmoid():
            return f"torch.sigmoid({z})"
        case Tanh():
            return f"torch.tanh({z})"
        case ReLU():
            return f"F.relu({z})"
        case LeakyReLU():
            return f"F.leaky_relu({z}, {number(layer.slope)})"
        case ELU():
            return f"F.elu({z}, {number(layer.alpha)})"
        case Softplus():
            return f"F.softplus({z}, threshold=40)  # from its default of 20 on it returns z itself"
        case SiLU():
            return f"F.silu({z})"
        case GELU():
            return f'F.gelu({z}, approximate="{layer.approximate}")'
        case Softmax():
            return f"torch.softmax({z}, dim=1)"
        case _:
            raise AssertionError(layer)


def _loss(file: CaseFile, z: str, *, logits: bool) -> list[str]:
    """Return the scalar cost, of which the gradient is taken, from the last output.

    `logits`: that is what the last layer is given, which is computed with the cost.
    """
    loss = file.case.network.loss
    reduction = loss.reduction
    if reduction == "batchmean":
        reduction = "mean" if per_row(loss) else "sum"
    lines: list[str] = []
    clip = getattr(loss, "clip", 0.0)
    if clip:
        lines.append(f"p = torch.clamp({z}, {number(clip)}, {number(1 - clip)})")
        z = "p"
    if isinstance(loss, CrossEntropy) and not logits and not file.case.batch.labelled:
        lines.append(f"costs = -(targets * torch.log({z})).sum(dim=1)")
        lines += [] if reduction == "none" else [f"costs = costs.{reduction}()"]
    else:
        name, options = _function(file, z, logits=logits)
        lines.append(f'costs = F.{name}({", ".join(options)}, reduction="{reduction}")')
    cost = "(cotangent * costs).sum()" if reduction == "none" else "costs"
    if loss.reduction == "batchmean" and not per_row(loss):
        cost += " / len(x)"
    return [*lines, f"cost = {cost}" + ("" if loss.scale == 1 else f" * {number(loss.scale)}")]


def _function(file: CaseFile, z: str, *, logits: bool) -> tuple[str, list[str]]:
    """Return PyTorch's function of the loss, and its arguments but for the reduction."""
    batch = file.case.batch
    match file.case.network.loss:
        case SoftmaxCrossEntropy() as loss:
            options = [z, "targets"]
            if batch.class_weights is not None:
                options.append("class_weights")
            if batch.labelled and loss.ignore_index is not None:
                options.append(f"ignore_index={loss.ignore_index}")
            if loss.label_smoothing:
                options.append(f"label_smoothing={number(loss.label_smoothing)}")
            return "cross_entropy", options
        case CrossEntropy() if logits:
            return "cross_entropy", [z, "targets"]  # which takes the softmax itself
        case CrossEntropy():
            return "nll_loss", [f"torch.log({z})", "targets"]
        case BinaryCrossEntropy() if not logits:
            return "binary_cross_entropy", [z, "targets"]
        case MeanSquaredError():
            return "mse_loss", [z, "targets"]
        case Huber() as loss:
            return "huber_loss", [z, "targets", f"delta={number(loss.delta)}"]
        case _:
            return "binary_cross_entropy_with_logits", [z, "targets"]  # which takes the sigmoid itself
