"""How far elementary functions are off in NumPy, PyTorch and XLA, and how far the error bounds let them be.

A table, without arithmetic: `python benchmarks/kernel_errors.py` measures every row again. The figures are those of
NumPy 2.4.6, PyTorch 2.13.0 and JAX 0.10.2 on an x86-64 processor with AVX-512: in float64 at 2 million arguments a
function, in float32 at 8 million, in bfloat16 and float16 at all. They belong to kernels, which change with releases
and processors, hence the room between what was measured and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

CONSTANTS = ("exp", "log", "expm1", "tanh", "sigmoid", "softplus", "erf")
"""The functions that the error bounds rest on. The others in the table are what frameworks build on, or of these."""

UNITS = {
    "exp": "result",
    "log": "result",
    "log1p": "result",
    "expm1": "result",
    "tanh": "result",
    "sigmoid": "result",
    "log_sigmoid": "result",
    "softplus": "result",
    "silu": "result",
    "erf": "one",
    "erfc": "one",
    "gelu": "argument",
    "gelu_tanh": "argument",
}
"""What the error of a function is counted in: u times the result, u times 1, or u times the argument.

In the negative tail GELU has no relative accuracy, as 1 + erf cancels there, nor has erfc where its argument is large,
as it is squared and rounded. The row "erf" is the larger of a library's erf and of the one inside its GELU, which is
what remains of that kernel's error when the roundings of the formula around it, 0.5 z (1 + erf(z / sqrt 2)), are taken
off. In float64 it leaves room for SciPy's erf, which NumPy code calls: 2.5 units.
"""


@dataclass(frozen=True)
class Kernel:
    """The worst error measured in each library, `None` where it has no such function, and the one that is allowed.

    Both in units of the unit roundoff u of `dtype` times what `UNITS` says. One allowed error serves all libraries in
    float64 and float32. In bfloat16 and float16 most kernels compute in float32 and round once, whereas XLA rounds
    every step of a composite function, which has the constant `allowed_xla`.
    """

    function: str
    dtype: str
    numpy: float | None
    torch: float | None
    xla: float | None
    allowed: float
    allowed_xla: float | None = None

    def constant(self, arithmetic: str) -> float:
        """Return the error allowed in an arithmetic: "numpy", "torch", "xla" or, the largest of these, "any"."""
        xla = self.allowed if self.allowed_xla is None else self.allowed_xla
        return {"numpy": self.allowed, "torch": self.allowed, "xla": xla, "any": max(self.allowed, xla)}[arithmetic]


KERNELS = (
    Kernel("exp", "float64", 1.17, 1.01, 2.17, 4),
    Kernel("log", "float64", 1.1, 1.22, 1.01, 5),
    Kernel("log1p", "float64", 1.1, 1.99, 2.76, 6),
    Kernel("expm1", "float64", 1.0, 1.45, 5.49, 8),
    Kernel("tanh", "float64", 1.62, 1.25, 7.36, 9),
    Kernel("sigmoid", "float64", None, 2.49, 3.24, 4),
    Kernel("log_sigmoid", "float64", None, 2.71, 3.67, 5),
    Kernel("softplus", "float64", 1.98, 2.74, 3.64, 5),
    Kernel("silu", "float64", None, 2.87, 3.55, 5),
    Kernel("erf", "float64", None, 0.51, 0.95, 7),
    Kernel("erfc", "float64", None, 1.51, 3.56, 5),
    Kernel("gelu", "float64", None, 1.84, 2.25, 4),
    Kernel("gelu_tanh", "float64", None, 2.28, 4.32, 6),
    Kernel("exp", "float32", 3.4, 1.06, 1.4, 4),
    Kernel("log", "float32", 4.58, 1.61, 2.05, 5),
    Kernel("log1p", "float32", 3.39, 2.0, 3.58, 6),
    Kernel("expm1", "float32", 3.38, 1.5, 6.48, 8),
    Kernel("tanh", "float32", 1.83, 1.0, 4.9, 9),
    Kernel("sigmoid", "float32", None, 2.48, 2.48, 4),
    Kernel("log_sigmoid", "float32", None, 2.97, 4.11, 5),
    Kernel("softplus", "float32", 1.98, 2.92, 4.12, 5),
    Kernel("silu", "float32", None, 2.93, 3.39, 5),
    Kernel("erf", "float32", None, 11.3, 6.65, 14),
    Kernel("erfc", "float32", None, 1.52, 2.76, 5),
    Kernel("gelu", "float32", None, 6.29, 2.16, 8),
    Kernel("gelu_tanh", "float32", None, 2.35, 3.52, 6),
    Kernel("exp", "bfloat16", None, 1.0, 1.0, 1.1),
    Kernel("log", "bfloat16", None, 1.0, 1.0, 1.1),
    Kernel("log1p", "bfloat16", None, 1.0, 1.0, 1.1),
    Kernel("expm1", "bfloat16", None, 1.0, 1.0, 1.1, allowed_xla=3),
    Kernel("tanh", "bfloat16", None, 0.95, 0.95, 1.1),
    Kernel("sigmoid", "bfloat16", None, 1.0, 2.15, 1.1, allowed_xla=3),
    Kernel("log_sigmoid", "bfloat16", None, 0.99, 1.58, 1.1, allowed_xla=3),
    Kernel("softplus", "bfloat16", None, 0.99, 1.58, 1.1, allowed_xla=3),
    Kernel("silu", "bfloat16", None, 1.0, 2.46, 1.1, allowed_xla=4),
    Kernel("erf", "bfloat16", None, 0.5, 0.5, 1.1),
    Kernel("erfc", "bfloat16", None, 1.0, 1.0, 1.1),
    Kernel("gelu", "bfloat16", None, 0.95, 1.16, 1.1, allowed_xla=2),
    Kernel("gelu_tanh", "bfloat16", None, 0.96, 1.71, 1.1, allowed_xla=2.5),
    Kernel("exp", "float16", 1.0, 1.0, 1.0, 1.1),
    Kernel("log", "float16", 1.0, 1.0, 1.0, 1.1),
    Kernel("log1p", "float16", 1.0, 1.0, 1.0, 1.1),
    Kernel("expm1", "float16", 1.0, 1.0, 2.76, 1.1, allowed_xla=3),
    Kernel("tanh", "float16", 0.99, 0.99, 0.99, 1.1),
    Kernel("sigmoid", "float16", None, 1.0, 2.11, 1.1, allowed_xla=3),
    Kernel("log_sigmoid", "float16", None, 1.0, 1.76, 1.1, allowed_xla=3),
    Kernel("softplus", "float16", 1.0, 1.0, 1.76, 1.1, allowed_xla=3),
    Kernel("silu", "float16", None, 1.0, 2.76, 1.1, allowed_xla=4),
    Kernel("erf", "float16", None, 0.5, 0.5, 1.1),
    Kernel("erfc", "float16", None, 1.0, 1.0, 1.1),
    Kernel("gelu", "float16", None, 0.93, 1.5, 1.1, allowed_xla=2),
    Kernel("gelu_tanh", "float16", None, 0.95, 1.64, 1.1, allowed_xla=2.5),
)


@dataclass(frozen=True)
class Deviation:
    """A kernel that is much worse `between` two arguments: by how much, why, and where that is written.

    Its row in `KERNELS`, if there is one, leaves these arguments out, and no constant allows for them.
    """

    library: str
    function: str
    call: str
    dtype: str
    between: tuple[float, float]
    measured: float
    reason: str
    source: str


DEVIATIONS = (
    Deviation(
        library="xla",
        function="log1p",
        call="jax.numpy:log1p",
        dtype="float64",
        between=(-0.53, -0.28),
        measured=241,
        reason="XLA's log1p loses its digits on both sides of 1 + x = 2 - sqrt 2, most of all next to it.",
        source="https://github.com/jax-ml/jax/issues/39707",
    ),
    Deviation(
        library="xla",
        function="exp",
        call="jax.numpy:exp",
        dtype="float32",
        between=(88.6, 88.73),
        measured=5.52,
        reason="XLA's exp is worse next to its overflow at 88.72; the bounds take it of no number above 0.",
        source="python benchmarks/kernel_errors.py",
    ),
    Deviation(
        library="torch",
        function="softplus",
        call="torch.nn.functional:softplus",
        dtype="float64",
        between=(20.0, 40.0),
        measured=9.3e5,
        reason="softplus returns z itself above its threshold, by default 20, where log(1 + exp(-z)) is still 2e-9; "
        "the row in the table is the one with threshold=40.",
        source="documentation of torch.nn.Softplus",
    ),
)


def constants(dtype_name: str, arithmetic: str) -> dict[str, float]:
    """Return the errors allowed of the functions in `CONSTANTS`, by name, for a type and an arithmetic by name."""
    rows = {kernel.function: kernel for kernel in KERNELS if kernel.dtype == dtype_name}
    return {function: rows[function].constant(arithmetic) for function in CONSTANTS}
