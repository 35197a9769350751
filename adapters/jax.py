"""JAX: the network as a pure function of `jax.nn` and `jax.numpy`, its gradients by `jax.vjp`, compiled whole.

A layer is a rule that returns its output; a loss is a rule that returns the cost of a batch. A class without
rule raises `Unsupported`, such as `jax: no rule for Conv2d`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradconform.adapters.jax_programs import Program, shown
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.errors import Unsupported
from gradconform.layers import ELU, GELU, Dense, Layer, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    Reduction,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network

DTYPES = ("float64", "float32", "bfloat16", "float16")

ARITHMETIC = "xla"
"""The rounding model in `gradconform.reference.precision` that XLA's kernels obey."""

COMPILED = True
"""Each new shape is compiled first."""

PROGRAMS = 64
"""How many networks stay compiled. Each maps some 100 regions of memory, of which Linux allows a process 65530."""


class Operands(NamedTuple):
    """What a compiled program takes, of NumPy outside and of JAX inside; `None` where the case has none."""

    parameters: Mapping[str, Any]
    inputs: Any
    targets: Any
    class_weights: Any
    cotangent: Any


def version() -> str:
    """Return the version of JAX."""
    return str(jax.__version__)


class Structure(NamedTuple):
    """All that a program is compiled for."""

    network: Network
    rows: int
    dtype: str
    labels: bool
    """Whether the targets are integers."""
    weighted: bool
    """Whether there are class weights."""
    cases: int
    """How many there are, side by side on one more axis before those of each array; 0: a single one, without it."""

    @classmethod
    def of(cls, network: Network, batch: Batch) -> Structure:
        """Return the structure of a network with a batch, or with the batches of several cases."""
        weighted = batch.class_weights is not None
        cases = len(batch.inputs) if batch.inputs.ndim > 2 else 0
        return cls(network, batch.rows, batch.inputs.dtype.name, batch.labelled, weighted, cases)


class Results(NamedTuple):
    """What a compiled program returns; `deltas` and `outputs`, by layer, are empty without probes."""

    loss: Any
    parameters: Mapping[str, Any]
    inputs: Any
    deltas: Sequence[Any] = ()
    outputs: Sequence[Any] = ()

    def gradients(self, paths: Iterable[str], captured: Gradients[Array] | None = None) -> Gradients[Array]:
        """Return the same as arrays of NumPy, with deltas and outputs of the run that is `captured`, if one is.

        It waits until JAX has computed them.
        """
        # copies: what JAX returns is read-only; and parameters in the network's order, where JAX sorts
        return Gradients(
            {path: np.array(self.parameters[path]) for path in paths},
            np.array(self.loss),
            np.array(self.inputs),
            dict(enumerate(map(np.array, self.deltas))) if captured is None else captured.deltas,
            dict(enumerate(map(np.array, self.outputs))) if captured is None else captured.outputs,
            captured=captured,
        )


def gradients(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return loss, gradients, deltas and outputs as JAX computes them on its default device.

    Shapes are those of `Gradients`, weights are (in, out); the dtype is that of `batch.inputs`, one of `DTYPES`.
    `captured` is all that the probed program computes, to which deltas and outputs belong. Nothing that is passed in
    is changed, and nothing returned shares memory with it.
    Raises `Unsupported` for a layer, a loss, an option or a dtype without rule.
    """
    programs, operands = _programs(network, parameters, batch)
    programs.probed.ahead()  # where neither is compiled yet, both are at once
    # a context and not the global switch: the caller's own JAX code keeps the precision that it has
    with jax.enable_x64(batch.inputs.dtype.itemsize == 8):
        plain, probed = programs.plain(operands), programs.probed(operands)
    return plain.gradients(programs.paths, captured=probed.gradients(programs.paths))


def bare(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return what `gradients` returns as `captured`, all of one run, for a fraction of the time to compile.

    It is for batches of which the parameters' gradients alone are asked for, and whose shape may never come again. What
    JAX traces is the same code and what differentiates it the same transformation; the plain program differs from this
    one in what XLA fuses, thus in rounding alone, which `gradients` has compared for the network's own batch.
    Raises `Unsupported` for a layer, a loss, an option or a dtype without rule.
    """
    programs, operands = _programs(network, parameters, batch)
    with jax.enable_x64(batch.inputs.dtype.itemsize == 8):
        probed = programs.probed(operands)
    return probed.gradients(programs.paths)


def vmapped(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return what `bare` returns of several cases at once, by `jax.vmap` of the same function, compiled whole.

    All arrays, those that are returned too, have one more axis before, that of the cases. Raises `Unsupported` where
    `bare` does.
    """
    return bare(network, parameters, batch)


def prepare(network: Network, batch: Batch, *, alone: bool = False) -> None:
    """Compile in the background what `gradients` will need for a batch of this shape; `alone`: what `bare` will need,
    or for the batches of several cases `vmapped`.

    A call that comes before its programs are compiled waits for them or compiles them itself, and raises what that
    raises: nothing changes but the time that it takes. At most `PROGRAMS` structures are kept.
    """
    programs = compiled(Structure.of(network, batch))
    if not alone:
        programs.plain.ahead()
    programs.probed.ahead()


def _programs(network: Network, parameters: Parameters, batch: Batch) -> tuple[Programs, Operands]:
    """Return the programs for a batch, and what they take of it."""
    structure = Structure.of(network, batch)
    if structure.dtype not in DTYPES:
        raise Unsupported(f"jax: no rule for {structure.dtype}")
    programs = compiled(structure)
    operands = Operands(
        {path: parameters[path] for path in programs.paths},
        batch.inputs,
        _labels(network.loss, batch.targets) if batch.labelled else batch.targets,
        batch.class_weights,
        batch.cotangent,
    )
    return programs, operands


class Programs(NamedTuple):
    """The programs of a network. Probes change what XLA fuses, hence a plain one, with XLA's defaults as users run it,
    beside the probed one."""

    paths: tuple[str, ...]
    """The network's parameters, in its order."""
    plain: Program[Operands, Results]
    probed: Program[Operands, Results]


@lru_cache(maxsize=PROGRAMS)
def compiled(structure: Structure) -> Programs:
    """Return the programs of a structure. Each is compiled when it is first called."""
    network, rows, dtype, labels, weighted, cases = structure
    several = (cases,) if cases else ()

    def plain(operands: Operands) -> Results:
        def cost(parameters: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
            outputs = _outputs(network, parameters, inputs)
            return _cost(network.loss, outputs[-1], operands.targets, operands.class_weights)

        loss, pullback = jax.vjp(cost, operands.parameters, operands.inputs)
        found, inputs = pullback(_cotangent(operands, loss))
        return Results(loss, found, inputs)

    def probed(operands: Operands) -> Results:
        def cost(
            parameters: Mapping[str, jax.Array], inputs: jax.Array, probes: Sequence[jax.Array]
        ) -> tuple[jax.Array, list[jax.Array]]:
            outputs = _outputs(network, parameters, inputs, probes)
            return _cost(network.loss, outputs[-1], operands.targets, operands.class_weights), outputs

        zeros = [jnp.zeros((rows, width), dtype) for width in network.widths[1:]]
        loss, pullback, outputs = jax.vjp(cost, operands.parameters, operands.inputs, zeros, has_aux=True)
        found, inputs, deltas = pullback(_cotangent(operands, loss))
        return Results(loss, found, inputs, deltas, outputs)

    def like(*shape: int, of: str = dtype) -> Array:
        return np.zeros((*several, *shape), of)

    classes = network.widths[-1]
    operands = Operands(
        {path: like(*shape) for path, shape in network.parameters().items()},
        like(rows, network.inputs),
        like(rows, of="int32") if labels else like(rows, classes),
        like(classes) if weighted else None,
        like(*network.loss.shape(rows, classes)) if network.loss.reduction == "none" else None,
    )
    double = np.dtype(dtype).itemsize == 8
    return Programs(
        tuple(network.parameters()),
        Program(jax.vmap(plain) if cases else plain, operands, double=double, probed=False),
        Program(jax.vmap(probed) if cases else probed, operands, double=double, probed=True),
    )


def _outputs(
    network: Network,
    parameters: Mapping[str, jax.Array],
    inputs: jax.Array,
    probes: Sequence[jax.Array] | None = None,
) -> list[jax.Array]:
    outputs = [inputs]
    for index, (layer, width) in enumerate(zip(network.layers, network.widths, strict=False)):
        own = {name: parameters[f"{index}.{name}"] for name in layer.parameters(width)}
        output = layer_rule(layer, own, outputs[-1])
        outputs.append(output if probes is None else shown(output + probes[index]))
    return outputs[1:]


def _cotangent(operands: Operands, loss: jax.Array) -> jax.Array:
    return jnp.ones_like(loss) if operands.cotangent is None else operands.cotangent


def _labels(loss: Loss, targets: Array) -> Array:
    labels = targets.astype(np.int32)
    if isinstance(loss, SoftmaxCrossEntropy) and loss.ignore_index is not None:
        labels[targets == loss.ignore_index] = -1  # a row of zeros to one_hot, whatever number ignore_index is
    return labels


@singledispatch
def layer_rule(  # every rule takes these
    layer: Layer,
    parameters: Mapping[str, jax.Array],  # noqa: ARG001
    inputs: jax.Array,  # noqa: ARG001
) -> jax.Array:
    """Return the output of `layer`, (N, out), for `inputs` (N, in) and its own `parameters` by name."""
    raise Unsupported(f"jax: no rule for {type(layer).__name__}")


@layer_rule.register
def _dense(layer: Dense, parameters: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    products = inputs @ parameters["weight"]
    return products + parameters["bias"] if layer.bias else products


@layer_rule.register
def _sigmoid(_layer: Sigmoid, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(inputs)


@layer_rule.register
def _tanh(_layer: Tanh, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jnp.tanh(inputs)


@layer_rule.register
def _relu(_layer: ReLU, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.relu(inputs)


@layer_rule.register
def _leaky_relu(layer: LeakyReLU, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(inputs, layer.slope)


@layer_rule.register
def _elu(layer: ELU, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.elu(inputs, layer.alpha)


@layer_rule.register
def _softplus(_layer: Softplus, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.softplus(inputs)


@layer_rule.register
def _silu(_layer: SiLU, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.silu(inputs)


@layer_rule.register
def _gelu(layer: GELU, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.gelu(inputs, approximate=layer.approximate == "tanh")


@layer_rule.register
def _softmax(_layer: Softmax, _own: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jax.nn.softmax(inputs, axis=-1)


def _cost(loss: Loss, outputs: jax.Array, targets: jax.Array, class_weights: jax.Array | None) -> jax.Array:
    """Return the loss of probabilities that are clipped where the loss says so, with its scale."""
    clip = getattr(loss, "clip", 0.0)
    cost = loss_rule(loss, jnp.clip(outputs, clip, 1 - clip) if clip else outputs, targets, class_weights)
    return cost if loss.scale == 1 else loss.scale * cost


@singledispatch
def loss_rule(  # every rule takes these
    loss: Loss,
    outputs: jax.Array,  # noqa: ARG001
    targets: jax.Array,  # noqa: ARG001
    class_weights: jax.Array | None,  # noqa: ARG001
) -> jax.Array:
    """Return the loss of the network's `outputs` (N, C): 0-d, or (N,) or (N, C) where the reduction is none."""
    raise Unsupported(f"jax: no rule for {type(loss).__name__}")


def _reduced(costs: jax.Array, reduction: Reduction) -> jax.Array:
    if reduction == "batchmean":
        return jnp.sum(costs) / len(costs)
    return costs if reduction == "none" else jnp.sum(costs) if reduction == "sum" else jnp.mean(costs)


@loss_rule.register
def _softmax_cross_entropy(
    loss: SoftmaxCrossEntropy, outputs: jax.Array, targets: jax.Array, class_weights: jax.Array | None
) -> jax.Array:
    classes = outputs.shape[-1]
    labels = jax.nn.one_hot(targets, classes, dtype=outputs.dtype) if targets.ndim == 1 else targets
    smooth = (1 - loss.label_smoothing) * labels + loss.label_smoothing / classes
    terms = smooth * jax.nn.log_softmax(outputs)
    costs = -jnp.sum(terms if class_weights is None else class_weights * terms, axis=-1)
    if targets.ndim == 2:
        return _reduced(costs, loss.reduction)
    counted = targets >= 0
    costs = jnp.where(counted, costs, 0)
    if not loss.averages:
        return _reduced(costs, loss.reduction)
    return jnp.sum(costs) / jnp.sum(counted if class_weights is None else labels @ class_weights)


@loss_rule.register
def _cross_entropy(loss: CrossEntropy, outputs: jax.Array, targets: jax.Array, _weights: jax.Array | None) -> jax.Array:
    if targets.ndim == 1:
        costs = -jnp.log(jnp.take_along_axis(outputs, targets[:, None], axis=-1)[:, 0])
    else:
        costs = -jnp.sum(targets * jnp.log(outputs), axis=-1)
    return _reduced(costs, loss.reduction)


@loss_rule.register
def _sigmoid_cross_entropy(
    loss: SigmoidCrossEntropy, outputs: jax.Array, targets: jax.Array, _weights: jax.Array | None
) -> jax.Array:
    costs = -targets * jax.nn.log_sigmoid(outputs) - (1 - targets) * jax.nn.log_sigmoid(-outputs)
    return _reduced(costs, loss.reduction)


@loss_rule.register
def _binary_cross_entropy(
    loss: BinaryCrossEntropy, outputs: jax.Array, targets: jax.Array, _weights: jax.Array | None
) -> jax.Array:
    floors = (loss.log_floor, loss.denominator_floor)
    if floors != (None, None):
        raise Unsupported(f"jax: BinaryCrossEntropy has no floors, got {floors}")
    # log(1 - p) and not log1p(-p): see deviations.py.
    costs = -targets * jnp.log(outputs) - (1 - targets) * jnp.log(1 - outputs)
    return _reduced(costs, loss.reduction)


@loss_rule.register
def _mean_squared_error(
    loss: MeanSquaredError, outputs: jax.Array, targets: jax.Array, _weights: jax.Array | None
) -> jax.Array:
    return _reduced(jnp.square(outputs - targets), loss.reduction)


@loss_rule.register
def _huber(loss: Huber, outputs: jax.Array, targets: jax.Array, _weights: jax.Array | None) -> jax.Array:
    errors = jnp.abs(outputs - targets)
    quadratic = jnp.minimum(errors, loss.delta)
    return _reduced(0.5 * quadratic**2 + loss.delta * (errors - quadratic), loss.reduction)
