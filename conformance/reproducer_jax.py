"""The reproducer in JAX: `jax.grad` of the cost, in the type of the case."""

from __future__ import annotations

from gradconform.conformance.adapter_names import VMAP
from gradconform.conformance.casefile import CaseFile
from gradconform.conformance.reproducer_parts import (
    docstring,
    for_vmap,
    given_beside,
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


def jax_script(file: CaseFile) -> str:
    """Return the script."""
    case, network = file.case, file.case.network
    more = ["Needs JAX alone."]
    if case.dtype.name != "float64":
        more.append(f"Computes in {case.dtype.name} as the case does: with dtype = jnp.float64 all digits are right.")
    lines = [*docstring(file, more), "", "import itertools", "", "import jax", "import jax.numpy as jnp", ""]
    lines += ['jax.config.update("jax_enable_x64", True)', f"dtype = jnp.{case.dtype.name}", "", "# the case", ""]
    lines.append("parameters = {")
    lines += [f'    "{path}": jnp.array({nested(a, indent="    ")}, dtype),' for path, a in case.parameters.items()]
    lines += ["}", f"inputs = jnp.array({nested(case.batch.inputs)}, dtype)"]
    kind = "" if case.batch.labelled else ", dtype"
    lines.append(f"targets = jnp.array({nested(case.batch.targets)}{kind})")
    for name in given_beside(file):
        lines.append(f"{name} = jnp.array({nested(getattr(case.batch, name))}, dtype)")
    by_vmap = file.implementation == f"jax{VMAP}"
    lines += ["", *([] if by_vmap else [*python_place(file, "arrays"), "", ""])]
    lines += ["def cost_of(parameters, x):", f'    """{network}."""']
    steps = len(network.layers) - on_logits(network)
    lines += [f"    {variable(path)} = parameters[{path!r}]" for path in network.parameters()]
    lines += [f"    {output(index)} = {_forward(network.layers[index], index)}" for index in range(steps)]
    lines += [f"    {line}" for line in _loss(file, output(steps - 1), logits=on_logits(network))]
    lines += ["", "", "differentiated = jax.jit(jax.value_and_grad(cost_of, argnums=(0, 1)))"]
    lines += ["cost, (gradients, dx) = jax.device_get(differentiated(parameters, inputs))"]
    lines += ['expected = {**{path: gradients[path] for path in parameters}, "input": dx}']
    lines += ["", *(_by_vmap(file) if by_vmap else []), *python_end(file, "cost")]
    return "\n".join(lines) + "\n"


def _by_vmap(file: CaseFile) -> list[str]:
    """Return the lines that compute `yours` by `jax.vmap`, as the adapter does."""
    loss = _loss(file, output(len(file.case.network.layers) - 1), logits=False)
    between = [
        "other = array[::-1] if array.ndim == 1 else array",
        "other = other if jnp.issubdtype(array.dtype, jnp.integer) else other / 2",
        "return jnp.stack([other, array, other])",
    ]
    functions, others = for_vmap(file, _forward, loss, between)
    return [
        *functions,
        'leaves = {path: between(array) for path, array in {**parameters, "input": inputs}.items()}',
        f"found = jax.device_get(jax.jit(jax.vmap(jax.grad(cost_of_one)))(leaves{others}))",
        "yours = {path: array[1] for path, array in found.items()}",
        "",
    ]


def _forward(layer: Record, index: int) -> str:
    z = output(index - 1)
    match layer:
        case Dense():
            return f"{z} @ w{index}" + (f" + b{index}" if layer.bias else "")
        case Sigmoid():
            return f"jax.nn.sigmoid({z})"
        case Tanh():
            return f"jnp.tanh({z})"
        case ReLU():
            return f"jax.nn.relu({z})"
        case LeakyReLU():
            return f"jax.nn.leaky_relu({z}, {number(layer.slope)})"
        case ELU():
            return f"jax.nn.elu({z}, {number(layer.alpha)})"
        case Softplus():
            return f"jax.nn.softplus({z})"
        case SiLU():
            return f"jax.nn.silu({z})"
        case GELU():
            return f"jax.nn.gelu({z}, approximate={layer.approximate == 'tanh'})"
        case Softmax():
            return f"jax.nn.softmax({z}, axis=1)"
        case _:
            raise AssertionError(layer)


def _loss(file: CaseFile, z: str, *, logits: bool) -> list[str]:
    """Return the lines that end with the scalar cost, of which the gradient is taken.

    `logits`: from what the last layer is given, which is computed with the cost.
    """
    loss, batch = file.case.network.loss, file.case.batch
    lines: list[str] = []
    clip = getattr(loss, "clip", 0.0)
    if clip:
        lines.append(f"p = jnp.clip({z}, {number(clip)}, {number(1 - clip)})")
        z = "p"
    counted = f"targets != {ignored(file)}" if ignored(file) is not None else ""
    match loss:
        case SoftmaxCrossEntropy() | CrossEntropy():
            softmax = isinstance(loss, SoftmaxCrossEntropy) or logits
            lines += _distribution(file, counted)
            lines.append(f"costs = -(q * {'jax.nn.log_softmax' if softmax else 'jnp.log'}({z})).sum(axis=1)")
        case BinaryCrossEntropy() if not logits:
            logs = [f"jnp.log({z})", f"jnp.log(1 - {z})"]
            if loss.log_floor is not None:
                logs = [f"jnp.maximum({log}, {number(loss.log_floor)})" for log in logs]
            lines.append(f"costs = -targets * {logs[0]} - (1 - targets) * {logs[1]}")
        case MeanSquaredError():
            lines.append(f"costs = ({z} - targets) ** 2")
        case Huber():
            lines.append(f"r = {z} - targets")
            lines.append(f"near = jnp.clip(r, -{number(loss.delta)}, {number(loss.delta)})")
            lines.append("costs = near * (r - near / 2)")
        case _:
            lines.append(f"costs = targets * jax.nn.softplus(-{z}) + (1 - targets) * jax.nn.softplus({z})")
    if loss.reduction == "none":
        cost = "(cotangent * costs).sum()"
    elif loss.reduction == "sum":
        cost = "costs.sum()"
    elif loss.reduction == "batchmean" and not per_row(loss):
        cost = "costs.sum() / len(costs)"
    elif per_row(loss) and batch.labelled and batch.class_weights is not None:
        weights = "class_weights[targets]"
        cost = (
            f"costs.sum() / jnp.where({counted}, {weights}, 0).sum()" if counted else f"costs.sum() / {weights}.sum()"
        )
    else:
        cost = f"costs.sum() / ({counted}).sum()" if counted else "costs.mean()"
    return [*lines, f"return {cost}" + ("" if loss.scale == 1 else f" * {number(loss.scale)}")]


def _distribution(file: CaseFile, counted: str) -> list[str]:
    """Return what each -log p is weighted with: q."""
    batch, loss, classes = file.case.batch, file.case.network.loss, file.case.network.widths[-1]
    lines = ["q = targets"]
    if batch.labelled:
        labels = f"jnp.where({counted}, targets, -1)" if counted else "targets"
        lines = [f"q = jax.nn.one_hot({labels}, {classes}, dtype=dtype)"]
    smoothing = getattr(loss, "label_smoothing", 0.0)
    if smoothing:
        spread = f"{number(smoothing)} / {classes}" + (f" * ({counted})[:, None]" if counted else "")
        lines.append(f"q = (1 - {number(smoothing)}) * q + {spread}")
    if batch.class_weights is not None:
        lines.append("q = q * class_weights")
    return lines
