"""gradconform: whether gradients are right, and if not, what exactly is wrong.

The names below are the public interface. They are imported on first use, so that `import gradconform`, and with
it the command line's `--help`, costs neither NumPy nor a framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradconform.capabilities import Capabilities as Capabilities
    from gradconform.capabilities import supports as supports
    from gradconform.case import Batch as Batch
    from gradconform.case import Case as Case
    from gradconform.case import Gradients as Gradients
    from gradconform.conformance.candidates import from_update as from_update
    from gradconform.conformance.comparing import compare as compare
    from gradconform.conformance.engine import check as check
    from gradconform.conformance.items import conformance_tests as conformance_tests
    from gradconform.conformance.operation_run import check_layer as check_layer
    from gradconform.errors import GradconformError as GradconformError
    from gradconform.errors import InvalidInput as InvalidInput
    from gradconform.errors import NotInstalled as NotInstalled
    from gradconform.errors import Unsupported as Unsupported
    from gradconform.layers import ELU as ELU
    from gradconform.layers import GELU as GELU
    from gradconform.layers import Dense as Dense
    from gradconform.layers import LeakyReLU as LeakyReLU
    from gradconform.layers import ReLU as ReLU
    from gradconform.layers import Sigmoid as Sigmoid
    from gradconform.layers import SiLU as SiLU
    from gradconform.layers import Softmax as Softmax
    from gradconform.layers import Softplus as Softplus
    from gradconform.layers import Tanh as Tanh
    from gradconform.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from gradconform.losses import CrossEntropy as CrossEntropy
    from gradconform.losses import Huber as Huber
    from gradconform.losses import MeanSquaredError as MeanSquaredError
    from gradconform.losses import SigmoidCrossEntropy as SigmoidCrossEntropy
    from gradconform.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
    from gradconform.network import Network as Network
    from gradconform.notation import parse as parse

_HOMES = {
    "capabilities": ("Capabilities", "supports"),
    "case": ("Batch", "Case", "Gradients"),
    "conformance.candidates": ("from_update",),
    "conformance.comparing": ("compare",),
    "conformance.engine": ("check",),
    "conformance.items": ("conformance_tests",),
    "conformance.operation_run": ("check_layer",),
    "errors": ("GradconformError", "InvalidInput", "NotInstalled", "Unsupported"),
    "layers": ("ELU", "GELU", "Dense", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"),
    "losses": (
        "BinaryCrossEntropy",
        "CrossEntropy",
        "Huber",
        "MeanSquaredError",
        "SigmoidCrossEntropy",
        "SoftmaxCrossEntropy",
    ),
    "network": ("Network",),
    "notation": ("parse",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604 - the names come from the one table above


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
