"""PyTorch: the network as `torch.nn` modules, its gradients by `torch.autograd.grad`.

A layer is a rule that returns its module; a loss is a rule that returns the cost of a batch. A class without
rule raises `Unsupported`, such as `torch: no rule for Conv2d`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache, singledispatch
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradconform.adapters.deviations import TORCH_DENOMINATOR_FLOOR, TORCH_LOG_FLOOR
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.errors import Unsupported
from gradconform.layers import ELU, GELU, Dense, Layer, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from gradconform.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradconform.network import Network

DTYPES = ("float64", "float32", "bfloat16", "float16")

ARITHMETIC = "torch"
"""The rounding model in `gradconform.reference.precision` that PyTorch's kernels obey."""

REFUSED = "torch: binary_cross_entropy refuses a NaN, which an overflow before it gave"

NETWORKS = 64
"""How many networks' modules are kept."""


def version() -> str:
    """Return the version of PyTorch."""
    return str(torch.__version__)


def gradients(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return loss, gradients, deltas and outputs as PyTorch computes them on the CPU.

    Shapes are those of `Gradients`, weights are (in, out); the dtype is that of `batch.inputs`, one of `DTYPES`.
    All of it belongs to one run. Nothing that is passed in is changed, and nothing returned shares memory with it.
    Raises `Unsupported` for a layer, a loss, an option or a dtype without rule.
    """
    _require_dtype(batch)
    # The caller may be inside torch.no_grad() or torch.inference_mode(): both are left, and come back.
    with torch.inference_mode(False), torch.enable_grad():
        leaves = {path: _tensor(parameters[path]).requires_grad_() for path in network.parameters()}
        inputs = _tensor(batch.inputs).requires_grad_()
        outputs = _outputs(_modules(network), leaves, inputs)
        if isinstance(network.loss, BinaryCrossEntropy) and outputs[-1].isnan().any():
            raise Unsupported(REFUSED)
        weights = None if batch.class_weights is None else _tensor(batch.class_weights)
        loss = _cost(network.loss, outputs[-1], _tensor(batch.targets), weights)
        # exactly what grad_outputs gives, for which PyTorch imports half a second of sympy
        scalar = loss if batch.cotangent is None else (loss * _tensor(batch.cotangent)).sum()
        found = torch.autograd.grad(
            scalar,
            [*leaves.values(), inputs, *outputs],
            materialize_grads=True,  # zeros, not None, for what the cost does not depend on
        )
    count = len(leaves)
    return Gradients(
        parameters={path: _array(gradient) for path, gradient in zip(leaves, found[:count], strict=True)},
        loss=_array(loss),
        input=_array(found[count]),
        deltas={index: _array(delta) for index, delta in enumerate(found[count + 1 :])},
        outputs={index: _array(output) for index, output in enumerate(outputs)},
    )


def vmapped(network: Network, parameters: Parameters, batch: Batch) -> Gradients[Array]:
    """Return what `gradients` returns of several cases at once, by `torch.func.vmap` over `torch.func.vjp`.

    All arrays, those that are returned too, have one more axis before, that of the cases. There is no `loss` of a
    SigmoidCrossEntropy. Raises `Unsupported` where `gradients` does for one of them.
    """
    _require_dtype(batch)
    _import_functorch()
    modules, shape = _modules(network), batch.inputs.shape[:-1]
    given = {part.name: _tensor(array) for part in fields(batch) if (array := getattr(batch, part.name)) is not None}
    given |= {path: _tensor(parameters[path]) for path in network.parameters()}
    inputs = given.pop("inputs")
    # what is added to each output: the gradient of it is the delta
    probes = [torch.zeros(*shape, width, dtype=inputs.dtype) for width in network.widths[1:]]

    def of_one(
        given: dict[str, Tensor], inputs: Tensor, probes: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], Tensor, list[Tensor]]:
        def cost(leaves: dict[str, Tensor], inputs: Tensor, probes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            outputs = _outputs(modules, leaves, inputs, probes)
            loss = _cost(network.loss, outputs[-1], given["targets"], given.get("class_weights"))
            return loss, outputs

        leaves = {path: given[path] for path in network.parameters()}
        differentiated: Any = torch.func.vjp(cost, leaves, inputs, probes, has_aux=True)
        loss, pullback, outputs = differentiated
        own, at_inputs, deltas = pullback(given.get("cotangent", torch.ones_like(loss)))
        return loss, outputs, own, at_inputs, deltas

    try:
        with torch.inference_mode(False), torch.enable_grad():
            loss, outputs, own, at_inputs, deltas = torch.func.vmap(of_one)(given, inputs, probes)
    except RuntimeError as error:
        if isinstance(network.loss, BinaryCrossEntropy) and "between 0 and 1" in str(error):
            raise Unsupported(REFUSED) from None
        raise
    return Gradients(
        parameters={path: _array(gradient) for path, gradient in own.items()},
        # see deviations.py: here it is another formula's, which has lost its digits where the loss is small
        loss=None if isinstance(network.loss, SigmoidCrossEntropy) else _array(loss),
        input=_array(at_inputs),
        deltas={index: _array(delta) for index, delta in enumerate(deltas)},
        outputs={index: _array(output) for index, output in enumerate(outputs)},
    )


@lru_cache(maxsize=1)
def _import_functorch() -> None:
    """Import what the first call of `torch.func.vmap` does, and leave the environment as it is, which that adds to."""
    before = dict(os.environ)
    torch.func.vmap(torch.func.grad(torch.sum))(torch.zeros(1, 1))
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def _require_dtype(batch: Batch) -> None:
    if batch.inputs.dtype.name not in DTYPES:
        raise Unsupported(f"torch: no rule for {batch.inputs.dtype}")


def _outputs(
    modules: nn.Module, leaves: Mapping[str, Tensor], inputs: Tensor, probes: Sequence[Tensor] = ()
) -> list[Tensor]:
    """Return the output of every layer."""
    # nn.Linear keeps its weight as (out, in): transposed inside the graph, the gradient comes back as (in, out).
    states = {path: leaf.T if leaf.ndim == 2 else leaf for path, leaf in leaves.items()}
    outputs: list[Tensor] = torch.func.functional_call(modules, states, (inputs, probes))
    return outputs


class _Sequential(nn.Sequential):
    """`nn.Sequential` that returns the output of every layer, to each of which a probe, if any are given, is added."""

    def forward(self, inputs: Tensor, probes: Sequence[Tensor] = ()) -> list[Tensor]:
        outputs = [inputs]
        for module, probe in itertools.zip_longest(self, probes):
            output = module(outputs[-1])
            outputs.append(output if probe is None else output + probe)
        return outputs[1:]


@lru_cache(maxsize=NETWORKS)
def _modules(network: Network) -> nn.Module:
    layers = zip(network.layers, network.widths, strict=False)
    # the initial values, which functional_call replaces, are drawn without a trace
    with torch.random.fork_rng(devices=[]):
        return _Sequential(*(layer_rule(layer, width) for layer, width in layers))


def _tensor(array: Array) -> Tensor:
    # A contiguous copy: from_numpy refuses negative strides, and warns of read-only memory.
    copy = np.array(array, order="C")
    if copy.dtype == ml_dtypes.bfloat16:
        # PyTorch's bfloat16 and that of ml_dtypes are the same bits, but neither knows the other.
        return torch.from_numpy(copy.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(copy if copy.dtype.kind == "f" else copy.astype(np.int64))


def _array(tensor: Tensor) -> Array:
    # A copy: autograd may hand out one gradient twice, or a view of another.
    if tensor.dtype == torch.bfloat16:
        return np.array(tensor.detach().view(torch.int16).numpy(), order="C").view(ml_dtypes.bfloat16)
    return np.array(tensor.detach().numpy(), order="C")


@singledispatch
def layer_rule(layer: Layer, width: int) -> nn.Module:  # noqa: ARG001 - every rule takes it
    """Return the module of `layer` for an incoming activation of `width` units."""
    raise Unsupported(f"torch: no rule for {type(layer).__name__}")


@layer_rule.register
def _dense(layer: Dense, width: int) -> nn.Module:
    return nn.Linear(width, layer.units, bias=layer.bias)


@layer_rule.register
def _sigmoid(_layer: Sigmoid, _width: int) -> nn.Module:
    return nn.Sigmoid()


@layer_rule.register
def _tanh(_layer: Tanh, _width: int) -> nn.Module:
    return nn.Tanh()


@layer_rule.register
def _relu(_layer: ReLU, _width: int) -> nn.Module:
    return nn.ReLU()


@layer_rule.register
def _leaky_relu(layer: LeakyReLU, _width: int) -> nn.Module:
    return nn.LeakyReLU(layer.slope)


@layer_rule.register
def _elu(layer: ELU, _width: int) -> nn.Module:
    return nn.ELU(layer.alpha)


@layer_rule.register
def _softplus(_layer: Softplus, _width: int) -> nn.Module:
    return nn.Softplus(threshold=40)  # see deviations.py: the default of 20 is off by 2e-9


@layer_rule.register
def _silu(_layer: SiLU, _width: int) -> nn.Module:
    return nn.SiLU()


@layer_rule.register
def _gelu(layer: GELU, _width: int) -> nn.Module:
    return nn.GELU(layer.approximate)


@layer_rule.register
def _softmax(_layer: Softmax, _width: int) -> nn.Module:
    return nn.Softmax(dim=-1)


def _cost(loss: Loss, outputs: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the loss with what PyTorch has no option for: a mean over the rows alone, a scale, a clip."""
    clip, rows = getattr(loss, "clip", 0.0), 1
    if clip:
        outputs = torch.clamp(outputs, clip, 1 - clip)
    if loss.reduction == "batchmean":
        per_row = loss.labels == "classes"
        loss, rows = (
            msgspec.structs.replace(loss, reduction="mean" if per_row else "sum"),
            1 if per_row else len(outputs),
        )
    cost = loss_rule(loss, outputs, targets, class_weights)
    cost = cost if rows == 1 else cost / rows
    return cost if loss.scale == 1 else loss.scale * cost


@singledispatch
def loss_rule(  # every rule takes these
    loss: Loss,
    outputs: Tensor,  # noqa: ARG001
    targets: Tensor,  # noqa: ARG001
    class_weights: Tensor | None,  # noqa: ARG001
) -> Tensor:
    """Return the loss of the network's `outputs` (N, C): 0-d, or (N,) or (N, C) where the reduction is none."""
    raise Unsupported(f"torch: no rule for {type(loss).__name__}")


@loss_rule.register
def _softmax_cross_entropy(
    loss: SoftmaxCrossEntropy, outputs: Tensor, targets: Tensor, class_weights: Tensor | None
) -> Tensor:
    # -100, PyTorch's default, is never a label; it refuses any other with distributions.
    ignored = -100 if loss.ignore_index is None or targets.ndim == 2 else loss.ignore_index
    return functional.cross_entropy(
        outputs,
        targets,
        class_weights,
        reduction=loss.reduction,
        ignore_index=ignored,
        label_smoothing=loss.label_smoothing,
    )


@loss_rule.register
def _cross_entropy(loss: CrossEntropy, outputs: Tensor, targets: Tensor, _weights: Tensor | None) -> Tensor:
    if targets.ndim == 1:
        return functional.nll_loss(torch.log(outputs), targets, reduction=loss.reduction)
    costs = -(targets * torch.log(outputs)).sum(-1)
    return costs if loss.reduction == "none" else costs.sum() if loss.reduction == "sum" else costs.mean()


@loss_rule.register
def _sigmoid_cross_entropy(
    loss: SigmoidCrossEntropy, outputs: Tensor, targets: Tensor, _weights: Tensor | None
) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction=loss.reduction)


@loss_rule.register
def _binary_cross_entropy(
    loss: BinaryCrossEntropy, outputs: Tensor, targets: Tensor, _weights: Tensor | None
) -> Tensor:
    built_in = (TORCH_LOG_FLOOR, TORCH_DENOMINATOR_FLOOR)
    floors = (loss.log_floor, loss.denominator_floor)
    if floors not in (built_in, (None, None)):
        raise Unsupported(f"torch: BinaryCrossEntropy has the floors {built_in} built in, got {floors}")
    return functional.binary_cross_entropy(outputs, targets, reduction=loss.reduction)


@loss_rule.register
def _mean_squared_error(loss: MeanSquaredError, outputs: Tensor, targets: Tensor, _weights: Tensor | None) -> Tensor:
    return functional.mse_loss(outputs, targets, reduction=loss.reduction)


@loss_rule.register
def _huber(loss: Huber, outputs: Tensor, targets: Tensor, _weights: Tensor | None) -> Tensor:
    return functional.huber_loss(outputs, targets, reduction=loss.reduction, delta=loss.delta)
