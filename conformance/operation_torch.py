"""PyTorch's functions and modules as operations on NumPy arrays. Memory is shared with the arrays, not copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree

from gradconform.conformance.operation import (
    FUNCTION,
    MODULE,
    PLAIN_TORCH,
    AnyArray,
    Arrays,
    Call,
    Gradients,
    Operation,
    bind,
)
from gradconform.conformance.operation_subject import copied
from gradconform.errors import InvalidInput, Unsupported, first_line

Tensors = list[torch.Tensor]
SEEDED = torch.Generator().manual_seed(0).get_state()
LEAF = "a leaf Variable that requires grad"


def operation(candidate: Any, name: str, arguments: Mapping[str, Any]) -> Operation:
    """Return a `torch.autograd.Function`, an `nn.Module` or a function of tensors as an operation."""
    if isinstance(candidate, type) and issubclass(candidate, torch.nn.Module):
        try:
            candidate = candidate()
        except TypeError as error:
            raise InvalidInput(f"{name}: give an instance of the module, not its class: {first_line(error)}") from error
    if isinstance(candidate, torch.nn.Module):
        return _of_module(candidate, name, arguments)
    if isinstance(candidate, type) and issubclass(candidate, torch.autograd.Function):
        old_style = candidate.setup_context is torch.autograd.Function.setup_context
        binding = bind(candidate.forward, name, arguments, skip=1 if old_style else 0)

        def applied(tensors: Sequence[torch.Tensor], function: Any = candidate) -> Any:
            values, keywords = binding.assemble(tensors)
            return function.apply(*values, **keywords)

        made = Runner(applied).operation(name, FUNCTION, binding.names, binding.arity)
        return _with(made, raw=_spying(candidate, applied))
    if not callable(candidate):
        raise InvalidInput(f"{name} is no function, torch.autograd.Function or nn.Module")
    binding = bind(candidate, name, arguments)

    def called(tensors: Sequence[torch.Tensor]) -> Any:
        values, keywords = binding.assemble(tensors)
        return candidate(*values, **keywords)

    return Runner(called).operation(name, PLAIN_TORCH, binding.names, binding.arity)


def _of_module(module: torch.nn.Module, name: str, arguments: Mapping[str, Any]) -> Operation:
    binding = bind(module.forward, name, arguments)
    parameters = dict(module.named_parameters())
    count = len(parameters)

    def called(tensors: Sequence[torch.Tensor]) -> Any:
        given = tensors[: len(tensors) - count]
        values, keywords = binding.assemble(given)
        dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)
        # running statistics and the like start anew in every call
        state = {key: _buffer(value, dtype) for key, value in module.named_buffers()}
        state |= dict(zip(parameters, tensors[len(given) :], strict=True))
        return torch.func.functional_call(module, state, tuple(values), keywords)

    drawn = {key: value.detach().cpu().numpy().astype(np.float64) for key, value in parameters.items()}
    sizes = dict.fromkeys(size for value in parameters.values() for size in reversed(value.shape))
    names = () if binding.arity is None else (*binding.names, *parameters)
    made = Runner(called).operation(name, MODULE, names, binding.arity)
    return _with(made, parameters=drawn, sizes=tuple(sizes))


def _buffer(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    copied = value.detach().clone()
    return copied.to(dtype) if dtype is not None and value.is_floating_point() else copied


def _with(made: Operation, **changes: Any) -> Operation:
    return replace(made, **changes)


class Runner:
    """A function of a list of tensors, run both ways."""

    def __init__(self, function: Callable[[Sequence[torch.Tensor]], Any]) -> None:
        self.function = function
        self.in_place = False
        self.random = False

    def operation(self, name: str, kind: str, names: tuple[str, ...], arity: int | None) -> Operation:
        """Return the operation."""
        return Operation(
            name,
            "torch",
            kind,
            forward=self.forward,
            backward=self.backward,
            names=names,
            arity=arity,
            interleaved=self.interleaved,
            subset=self.subset,
            jvp=self.jvp,
            double=lambda outputs: _double(self, name, names, outputs),
            random=lambda: self.random,
            notes=self._notes,
        )

    def _notes(self) -> list[str]:
        notes = ["writes into its input by design, as its graph knows"] if self.in_place else []
        return [*notes, *(["draws random numbers: every call saw the same ones"] if self.random else [])]

    def forward(self, inputs: Arrays) -> Arrays:
        """Return the outputs that may have a gradient."""
        return [_array(output) for output in self._graph(inputs, None)[1]]

    def backward(self, inputs: Arrays, cotangents: Arrays) -> Gradients:
        """Return the gradient of every input of floating-point type."""
        return self.interleaved([(inputs, cotangents)])[0]

    def interleaved(self, calls: Sequence[Call]) -> list[Gradients]:
        """Run all forward passes, then all backward passes."""
        graphs = [self._graph(inputs, None) for inputs, _ in calls]
        found = []
        for graph, (_, cotangents) in zip(graphs, calls, strict=True):
            gradients = self._pull(*graph, cotangents)
            # of several, each is copied before the next one: whether that writes into it is another question
            found.append(copied(gradients) if len(calls) > 1 else gradients)
        return found

    def subset(self, inputs: Arrays, cotangents: Arrays, wanted: Sequence[int]) -> Gradients:
        """Return the gradients of the `wanted` inputs; no other one requires its gradient."""
        return self._pull(*self._graph(inputs, wanted), cotangents)

    def jvp(self, inputs: Arrays, tangents: Arrays) -> Arrays:
        """Return the tangents of the outputs; raises `Unsupported` where there is no forward mode."""
        try:
            with forward_ad.dual_level(), self._seeded():
                duals = [
                    forward_ad.make_dual(_tensor(x), _tensor(t)) if _floating(x) else _tensor(x)  # type: ignore[no-untyped-call] # torch leaves it without types
                    for x, t in zip(inputs, tangents, strict=True)
                ]
                outputs = _outputs(self.function(duals))
                pairs = [forward_ad.unpack_dual(output) for output in outputs]  # type: ignore[no-untyped-call]
                return [
                    np.zeros(tuple(primal.shape)) if tangent is None else _array(tangent) for primal, tangent in pairs
                ]
        except (NotImplementedError, RuntimeError) as error:
            raise Unsupported(f"no forward mode: {first_line(error)}") from error

    def _graph(self, inputs: Arrays, wanted: Sequence[int] | None) -> tuple[Tensors, Tensors]:
        """Return the inputs as tensors, and the outputs that may have a gradient."""
        leaves = [_tensor(x) for x in inputs]
        for index, leaf in enumerate(leaves):
            if leaf.is_floating_point() and (wanted is None or index in wanted):
                leaf.requires_grad_()
        with torch.enable_grad(), self._seeded():
            outputs = None
            if not self.in_place:
                try:
                    outputs = _outputs(self.function(leaves))
                except RuntimeError as error:
                    if LEAF not in str(error):
                        raise
                    self.in_place = True
            if outputs is None:
                # what writes into its inputs, and tells the graph so, may do it to all but leaves
                outputs = _outputs(self.function([leaf.clone() for leaf in leaves]))
        connected = [output for output in outputs if output.requires_grad]
        return leaves, connected or outputs

    def _pull(self, leaves: Tensors, outputs: Tensors, cotangents: Arrays) -> Gradients:
        wanted = [index for index, leaf in enumerate(leaves) if leaf.requires_grad]
        gradients: Gradients = [None] * len(leaves)
        pairs = [(o, _tensor(c)) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
        if not pairs or not wanted:
            return gradients
        with self._seeded():
            found = torch.autograd.grad(
                [output for output, _ in pairs],
                [leaves[index] for index in wanted],
                [cotangent for _, cotangent in pairs],
                allow_unused=True,
            )
        for index, gradient in zip(wanted, found, strict=True):
            gradients[index] = None if gradient is None else _array(gradient)
        return gradients

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Make every call see the same random numbers."""
        # not torch.manual_seed, which notes the stack for every device that is not there
        state = torch.default_generator.get_state()
        torch.default_generator.set_state(SEEDED)
        try:
            yield
        finally:
            self.random = self.random or not torch.equal(torch.default_generator.get_state(), SEEDED)
            torch.default_generator.set_state(state)


def _double(runner: Runner, name: str, names: tuple[str, ...], outputs: int) -> Operation:
    """Return the backward pass of an operation with so many outputs, as an operation."""

    def called(tensors: Sequence[torch.Tensor]) -> Tensors:
        inputs, cotangents = list(tensors[: len(tensors) - outputs]), list(tensors[len(tensors) - outputs :])
        given = [leaf.clone() for leaf in inputs] if runner.in_place else inputs
        values = [output for output in _outputs(runner.function(given)) if output.requires_grad]
        wanted = [leaf for leaf in inputs if leaf.requires_grad]
        found = torch.autograd.grad(values, wanted, cotangents, create_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]
        if not any(gradient.requires_grad for gradient in gradients):
            raise Unsupported("no second derivative: the gradients that backward returns belong to no graph")
        return gradients

    return Doubled(called).operation(name, "the backward pass", names, None)


class Doubled(Runner):
    """A backward pass as a function; all its outputs count, those that belong to no graph too."""

    def _graph(self, inputs: Arrays, wanted: Sequence[int] | None) -> tuple[Tensors, Tensors]:
        leaves = [_tensor(x) for x in inputs]
        for index, leaf in enumerate(leaves):
            if leaf.is_floating_point() and (wanted is None or index in wanted):
                leaf.requires_grad_()
        with torch.enable_grad(), self._seeded():
            return leaves, _outputs(self.function(leaves))

    def _pull(self, leaves: Tensors, outputs: Tensors, cotangents: Arrays) -> Gradients:
        if any(_is_marked(output.grad_fn) for output in outputs):
            # PyTorch tells so only where its own node is run, and a gradient asked for by name does not run it
            raise Unsupported("marked with once_differentiable")
        return super()._pull(leaves, outputs, cotangents)


def _is_marked(start: Any) -> bool:
    """Return whether a graph leads through the node that `once_differentiable` puts there to raise an error."""
    waiting, seen = [start], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            return True
        waiting += [following for following, _ in node.next_functions]
    return False


def _spying(function: Any, applied: Callable[..., Any]) -> Callable[[Arrays, Arrays], list[Any]]:
    """Return a function that tells what the backward of a `torch.autograd.Function` itself returned."""

    def raw(inputs: Arrays, cotangents: Arrays) -> list[Any]:
        seen: list[Any] = []

        def backward(context: Any, *gradients: Any) -> Any:
            found = function.backward(context, *gradients)
            seen.append(found if isinstance(found, tuple) else (found,))
            return found

        spy = type(function.__name__, (function,), {"backward": staticmethod(backward)})
        runner = Runner(lambda tensors: applied(tensors, spy))
        leaves, outputs = runner._graph(inputs, None)
        values: list[Any] = [None] * len(leaves)
        # the arguments of apply, of which the leaves are some
        places: list[int] = []
        applied(leaves, _Places(leaves, places))
        try:
            runner._pull(leaves, outputs, cotangents)
        finally:
            if seen and len(seen[0]) == len(places):
                for place, value in zip(places, seen[0], strict=True):
                    if place >= 0:
                        values[place] = _array(value) if isinstance(value, torch.Tensor) else value
        return values

    return raw


class _Places:
    """Stands in for a function, and notes which of the leaves each argument of `apply` is: -1 for none."""

    def __init__(self, leaves: Tensors, places: list[int]) -> None:
        self.leaves, self.places = leaves, places

    def apply(self, *values: Any) -> None:
        """Note the arguments."""
        for value in values:
            self.places.append(next((i for i, leaf in enumerate(self.leaves) if leaf is value), -1))


def _floating(array: AnyArray) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _tensor(array: AnyArray) -> torch.Tensor:
    """Return a tensor on the memory of an array, its strides kept; raises `Unsupported` for negative ones."""
    if any(stride < 0 for stride in array.strides):
        raise Unsupported("no tensor has negative strides")
    return torch.from_numpy(array)


def _array(tensor: torch.Tensor) -> AnyArray:
    dense = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
    if dense.dtype is torch.bfloat16:
        dense = dense.float()
    found: AnyArray = dense.numpy(force=True)  # forced: tensors of zeros without memory, lazy negatives
    return found


def _outputs(found: Any) -> Tensors:
    """Return the floating-point tensors among what a forward pass returned."""
    tensors = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise InvalidInput(f"the forward pass returned no tensor, but {type(found).__name__}")
    return [tensor for tensor in tensors if tensor.is_floating_point()]
