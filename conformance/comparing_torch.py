"""A model in PyTorch: an `nn.Module`, or a function of tensors. PyTorch is imported when one is run, not before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Any

import numpy as np

from gradconform.case import Array
from gradconform.conformance.comparing_data import single
from gradconform.conformance.comparing_functions import returned_gradients
from gradconform.conformance.comparing_models import (
    Ask,
    Run,
    arguments,
    failed,
    flatten,
    keywords,
    pull,
    split,
    unflatten,
)
from gradconform.errors import GradconformError, InvalidInput

DROPOUTS = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "Dropout1d", "Dropout2d", "Dropout3d", "RReLU")
EPSILONS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12)
"""Defaults of one framework or another for what a normalisation adds to the variance."""
SLOPES = (0.01, 0.1, 0.2, 0.3)
"""Likewise for LeakyReLU: PyTorch and JAX 0.01, Keras 0.3 and since its third version 0.2."""


class TorchModule:
    """An `nn.Module` as a model. It is copied; the user's own stays as it is."""

    framework = "torch"

    def __init__(self, name: str, module: Any, hooks: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.name = name
        # a copy of a parameter loses them, such as one that clips its gradient
        self.hooks = hooks or {
            path: list((parameter._backward_hooks or {}).values()) for path, parameter in module.named_parameters()
        }
        self.module = copy.deepcopy(module)
        trained = {path: p for path, p in self.module.named_parameters() if p.requires_grad}
        frozen = {path: p for path, p in self.module.named_parameters() if not p.requires_grad}
        self.values: dict[str, Array] | None = {path: _numpy(parameter) for path, parameter in trained.items()}
        self.constants = {path: _numpy(tensor) for path, tensor in [*frozen.items(), *self.module.named_buffers()]}
        self.frozen = list(frozen)
        self._copies: dict[str, Any] = {}

    @property
    def shuffled(self) -> list[str]:
        """The dropout modules that are in train mode."""
        return [
            f"{path or 'the module'}, {type(module).__name__}"
            for path, module in self.module.named_modules()
            if type(module).__name__ in DROPOUTS and module.training and getattr(module, "p", 1.0)
        ]

    def run(self, values: Mapping[str, Array], batch: Mapping[str, Array], dtype: str, ask: Ask) -> Run:
        """Return one run of the module in `dtype`, train or eval mode as it was given."""
        import torch

        if dtype not in self._copies:
            self._copies[dtype] = copy.deepcopy(self.module).to(getattr(torch, dtype))
        module = self._copies[dtype]
        chosen = arguments(self.name, self.module.forward, batch, skip=0)
        positional, named = keywords(self.module.forward, chosen, skip=0)
        places: dict[str, Any] = {}

        def call(leaves: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
            # buffers too: a batch norm in train mode writes into them, and the next run is to find them as they were
            states = {path: tensor.clone() for path, tensor in module.named_buffers()} | dict(leaves)
            places.clear()
            for path, tensor in leaves.items():
                for hook in self.hooks.get(path, ()) if tensor.requires_grad else ():
                    tensor.register_hook(hook)
            handles = _watch(module, places)
            try:
                return torch.func.functional_call(
                    module,
                    states,
                    tuple(tensors[name] for name in positional),
                    {k: tensors[v] for k, v in named.items()},
                )
            finally:
                for handle in handles:
                    handle.remove()

        where = next(iter([*self.module.parameters(), *self.module.buffers()]), None)
        device = None if where is None else where.device
        return differentiate(self.name, call, values, batch, dtype, ask, places, device, may_give_gradients=False)

    def variations(self) -> Iterator[tuple[str, TorchModule]]:
        """Yield the module with one option changed, for options whose defaults differ among frameworks."""
        for training in (True, False):
            if self.module.training is not training:
                yield f"in {'train' if training else 'eval'} mode", self._changed(methodcaller("train", training))
        kinds = {type(module).__name__ for module in self.module.modules()}
        if "GELU" in kinds:
            for approximate in ("tanh", "none"):
                yield (
                    f"with GELU(approximate='{approximate}')",
                    self._changed(_setter("GELU", "approximate", approximate)),
                )
        for kind in sorted(kinds):
            if "Norm" in kind and any(_has(module, kind, "eps") for module in self.module.modules()):
                for epsilon in EPSILONS:
                    yield f"with {kind}(eps={epsilon:g})", self._changed(_setter(kind, "eps", epsilon))
        if "Softplus" in kinds:
            # above its threshold, 20, PyTorch's is the identity, which is off by 2e-9
            yield "with Softplus(threshold=40)", self._changed(_setter("Softplus", "threshold", 40.0))
        if "LeakyReLU" in kinds:
            for slope in SLOPES:
                yield f"with LeakyReLU({slope:g})", self._changed(_setter("LeakyReLU", "negative_slope", slope))

    def _changed(self, change: Callable[[Any], Any]) -> TorchModule:
        module = copy.deepcopy(self.module)
        change(module)
        return TorchModule(self.name, module, self.hooks)


class TorchFunction:
    """A function of tensors, `function(parameters, inputs)`, as a model."""

    framework = "torch"
    frozen: list[str] = []  # noqa: RUF012 - never written
    shuffled: list[str] = []  # noqa: RUF012 - never written

    def __init__(self, name: str, function: Callable[..., Any], template: Any = None) -> None:
        self.name = name
        self.function = function
        self.template = template
        self.values = None if template is None else {p: _numpy(v) for p, v in flatten(template).items()}
        self.constants: dict[str, Array] = {}

    def run(self, values: Mapping[str, Array], batch: Mapping[str, Array], dtype: str, ask: Ask) -> Run:
        """Return one run of the function in `dtype`."""
        chosen = arguments(self.name, self.function, batch, skip=1)
        positional, named = keywords(self.function, chosen, skip=1)

        def call(leaves: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
            tree = unflatten(leaves, self.template)
            return self.function(tree, *(tensors[n] for n in positional), **{k: tensors[n] for k, n in named.items()})

        return differentiate(self.name, call, values, batch, dtype, ask, {})

    def variations(self) -> Iterator[tuple[str, TorchFunction]]:
        """Yield nothing: what a function does cannot be changed from outside."""
        yield from ()


def differentiate(
    name: str,
    call: Callable[[Mapping[str, Any], Mapping[str, Any]], Any],
    values: Mapping[str, Array],
    batch: Mapping[str, Array],
    dtype: str,
    ask: Ask,
    places: dict[str, Any],
    device: Any = None,
    may_give_gradients: bool = True,
) -> Run:
    """Return one run of `call(parameters, batch)`, both of tensors, with its gradients by `torch.autograd.grad`.

    device: where the tensors are made; None for the CPU. may_give_gradients: whether a dictionary that is returned is
    one of gradients, as of a function, and not of a module.
    """
    import torch

    from gradconform.case import Batch

    with torch.inference_mode(False), torch.enable_grad():
        leaves = {path: _tensor(array, dtype, device) for path, array in values.items()}
        for path in ask.differentiated:
            leaves[path].requires_grad_()
        tensors: dict[str, Any] = {key: _tensor(array, dtype, device) for key, array in batch.items()}
        tensors["batch"] = Batch(tensors.get("inputs"), tensors.get("targets"))  # type: ignore[arg-type]
        entered = tensors.get("inputs")
        if entered is not None and entered.is_floating_point():
            entered = entered.requires_grad_()
        narrowed: list[str] = []
        try:
            with _Narrowing(narrowed) if ask.inspect else torch.enable_grad():
                returned = call(leaves, tensors)
                run = returned_gradients(name, returned, ask) if may_give_gradients else None
                if run is not None:
                    return run
                outputs, shown = split(name, returned)
                if not isinstance(outputs, torch.Tensor):
                    raise InvalidInput(
                        f"{name} returns {type(outputs).__name__}: expected a tensor, or (tensor, {{name: tensor}})"
                    )
                places |= shown
                pulled = pull(name, ask.loss, _numpy(outputs, dtype=None), batch)
                wanted = {path: leaves[path] for path in ask.differentiated}
                if entered is not None and entered.requires_grad:
                    wanted[""] = entered
                found = _gradients(name, outputs, wanted, torch.from_numpy(np.ascontiguousarray(pulled.delta)))
        except GradconformError:
            raise
        except (Exception, SystemExit) as error:
            raise failed(name, error, dtype) from error
    inputs = found.pop("", None)
    return Run(
        gradients={
            path: np.zeros(values[path].shape, dtype) if gradient is None else _numpy(gradient, dtype=None)
            for path, gradient in found.items()
        },
        absent=frozenset(path for path, gradient in found.items() if gradient is None),
        loss=pulled.loss,
        outputs=_numpy(outputs, dtype=None) if outputs.ndim else None,
        places={place: _numpy(tensor, dtype=None) for place, tensor in places.items()},
        inputs=None if inputs is None else _numpy(inputs, dtype=None),
        narrowed=narrowed[0] if narrowed else "",
    )


def _gradients(name: str, outputs: Any, wanted: Mapping[str, Any], delta: Any) -> dict[str, Any]:
    import torch

    if not outputs.requires_grad:
        raise InvalidInput(f"{name}: its outputs depend on no parameter: is there a detach() or a no_grad() in it?")
    delta = delta.to(outputs.device, outputs.dtype).reshape(outputs.shape)
    found = torch.autograd.grad(outputs, list(wanted.values()), grad_outputs=delta, allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def _watch(module: Any, places: dict[str, Any]) -> list[Any]:
    """Return hooks that note the output of every module without children, in the order of the forward pass."""
    import torch

    def note(path: str) -> Callable[[Any, Any, Any], None]:
        def hook(_: Any, __: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, torch.Tensor) and first.is_floating_point():
                again = sum(place.partition("#")[0] == path for place in places)
                # a copy: an in-place operation may follow
                places[f"{path}#{again + 1}" if again else path] = first.detach().clone()

        return hook

    leaves = [(path, child) for path, child in module.named_modules() if path and not any(child.children())]
    return [child.register_forward_hook(note(path)) for path, child in leaves]


def _Narrowing(found: list[str]) -> Any:  # noqa: N802 - makes an instance of a class that needs PyTorch to exist
    """Return a context that notes operations which take float64 and give a shorter floating-point type."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def wide(tree: Any) -> bool:
        return any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in tree_leaves(tree))

    class Narrowing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch does not say its types
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = operation(*args, **(kwargs or {}))
            if wide((args, kwargs)):
                found.extend(
                    f"{operation} to {str(leaf.dtype).removeprefix('torch.')}"
                    for leaf in tree_leaves(result)
                    if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.dtype != torch.float64
                )
            return result

    return Narrowing()  # type: ignore[no-untyped-call]


def _has(module: Any, kind: str, option: str) -> bool:
    return type(module).__name__ == kind and hasattr(module, option)


def _setter(kind: str, option: str, value: object) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for child in module.modules():
            if _has(child, kind, option):
                setattr(child, option, value)

    return change


def _tensor(array: Array, dtype: str, device: Any) -> Any:
    import torch

    tensor = torch.from_numpy(np.array(array)).to(device or "cpu")
    return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor


def _numpy(tensor: Any, dtype: str | None = "float32") -> Array:
    """Return a tensor as an array; with `dtype`, as what a model holds: floating-point numbers in float32."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        return single(np.asarray(tensor))
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    array: Array = plain.numpy().copy()
    return array if dtype is None else single(array)
