"""Explanations: formulas that overflow or cancel, constants with too few digits, types that are too short."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import ACTIVATIONS, LOSSES, Lines
from gradconform.conformance.explanation import GRADS, Explanation, Family

FAMILY = Family(
    "Numbers",
    "Compute the formula at z = 1, 50, 800 and -800 and at -50, and compare with the same in longer arithmetic "
    "(np.longdouble, or mpmath).",
    "What no float can hold: gradconform counts elements that may overflow on the way as `range`, and not as failures.",
)
AHEAD = {name: forward for name, (forward, _) in ACTIVATIONS.items()}
BACK = {name: backward for name, (_, backward) in ACTIVATIONS.items()}
SHIFTED = "s = z - z.max(axis=1, keepdims=True)"
LOG = "log_p = s - np.log(e.sum(axis=1, keepdims=True))"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _softmax()
    yield from _activations()
    yield from _digits()


def _softmax() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "unstable-softmax",
        "The softmax is computed without subtracting the largest logit.",
        "exp overflows above 709 in float64, above 88 in float32 and above 11 in float16: inf / inf is NaN. "
        "Subtracting the same number from all logits of a row changes nothing else.",
        SHIFTED,
        "s = z",
    )
    yield FAMILY.symptom(
        "batch-maximum",
        "The largest logit of the whole batch is subtracted, where each row has its own.",
        "Rows that lie far below the largest one underflow altogether: 0 / 0 is NaN. One extreme sample spoils others.",
        SHIFTED,
        "s = z - z.max()",
    )
    yield FAMILY.symptom(
        "log-of-softmax",
        "The cost takes the logarithm of the softmax.",
        "Where a probability underflows to 0, log 0 is -inf and the cost is inf. z - max - log(sum(exp(z - max))) is "
        "the same and finite. The gradients may be right.",
        LOG,
        "log_p = np.log(p)",
        torch=Lines(
            "cost = torch.nn.functional.cross_entropy(z2, y)",
            "cost = torch.nn.functional.nll_loss(torch.log(torch.softmax(z2, dim=1)), y)",
            "cost = Cost.apply(z2, y, class_weights)",
        ),
        jax=Lines(
            "cost = -jnp.mean(jax.nn.log_softmax(z2)[jnp.arange(len(y)), y])",
            "cost = -jnp.mean(jnp.log(jax.nn.softmax(z2))[jnp.arange(len(y)), y])",
            "cost = cost_of(z2, y, class_weights)",
        ),
    )
    yield FAMILY.symptom(
        "unfused-cross-entropy",
        "The delta is -y / p pulled back through the softmax, which is 0 / 0 where p underflows.",
        "Loss and softmax together have the simple derivative p - y, in which nothing is divided.",
        LOSSES["softmax"][1],
        "d = np.where(one_hot(y, z) > 0, -1 / p, 0) / len(z)\ndelta = p * (d - (p * d).sum(axis=1, keepdims=True))",
    )


def _activations() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "tanh-by-division",
        "tanh is a quotient of exponentials, which overflow.",
        "Both exponentials overflow for |z| above 709, and inf / inf is NaN; near 0 the difference cancels.",
        AHEAD["Tanh"],
        "a = (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z))",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "sigmoid-by-division",
        "The sigmoid is exp(z) / (1 + exp(z)), which is inf / inf for large z.",
        "1 / (1 + exp(-z)) overflows too, and then gives 0, which is right.",
        AHEAD["Sigmoid"],
        "a = np.exp(z) / (1 + np.exp(z))",
        program="Sigmoid",
    )
    yield FAMILY.symptom(
        "softplus-by-log",
        "softplus is log(1 + exp(z)), which overflows above 709 and cancels far below 0.",
        "1 + 1e-17 is 1, and its logarithm 0: all digits are lost. logaddexp keeps them.",
        AHEAD["Softplus"],
        "a = np.log(1 + np.exp(z))",
        program="Softplus",
    )
    yield FAMILY.symptom(
        "softplus-threshold",
        "softplus is z itself above a threshold of 20.",
        "There log(1 + exp(-z)) is still 2e-9: the result has 9 digits, of 16. PyTorch's softplus has this threshold.",
        f"{AHEAD['Softplus']}\n---\n{BACK['Softplus']}",
        "a = np.where(z > 20, z, np.logaddexp(z, np.zeros_like(z)))\n---\n"
        "delta_z = np.where(z > 20, delta, delta / (1 + np.exp(-z)))",
        program="Softplus",
        alike="PyTorch's own softplus: it is a known deviation of it, and no finding there (docs/conventions.md).",
    )
    yield FAMILY.symptom(
        "branch-overflow",
        "The branch of ELU that is not taken overflows, and inf times 0 is NaN.",
        "Multiplying branches by 0 and 1 is no choice between them: where chooses. In JAX and PyTorch the derivative "
        "goes through both branches even so: keep the argument of the other one small.",
        f"{AHEAD['ELU']}\n---\n{BACK['ELU']}",
        "a = (z > 0) * z + (z <= 0) * np.expm1(z)\n---\ndelta_z = delta * ((z > 0) + (z <= 0) * np.exp(z))",
        program="ELU of 1",
    )


def _digits() -> Iterator[Explanation]:
    constant = "k = math.sqrt(2 / math.pi)"
    ahead, back = AHEAD["GELU of tanh"], BACK["GELU of tanh"]
    yield FAMILY.symptom(
        "short-constant",
        "The constant sqrt(2 / pi) of GELU is written with 8 digits.",
        "float64 has 16. The error is 3e-9 of the value, everywhere: below any usual tolerance, and not rounding.",
        f"{ahead}\n---\n{back}",
        f"{ahead}\n---\n{back}".replace(constant, "k = 0.79788456"),
        program="GELU of tanh",
    )
    yield FAMILY.symptom(
        "rounded-constant",
        "A constant of a layer (slope, alpha) is a float32 number in a float64 computation.",
        "It went through a float32 array on its way: 0.2 became 0.20000000298. The error is 1e-8 of the value.",
        f"{AHEAD['LeakyReLU']}\n---\n{BACK['LeakyReLU']}",
        "a = np.where(z > 0, z, float(np.float32(SLOPE)) * z)\n---\n"
        "delta_z = np.where(z > 0, delta, float(np.float32(SLOPE)) * delta)",
        program="LeakyReLU",
        torch=Lines(
            "a = torch.where(z > 0, z, SLOPE * z)\n---\ndelta_z = torch.where(z > 0, delta, SLOPE * delta)",
            "a = z * torch.where(z > 0, 1.0, SLOPE)\n---\ndelta_z = delta * torch.where(z > 0, 1.0, SLOPE)",
        ),
    )
    yield FAMILY.symptom(
        "rounded-decimals",
        "The gradients are rounded to some decimals.",
        "A round() for printing is in the result. Small gradients lose all their digits.",
        GRADS["numpy"],
        GRADS["numpy"] + "\ngrads = {path: np.round(g, 6) for path, g in grads.items()}",
        torch=Lines(
            GRADS["torch"],
            "grads = {path: torch.round(leaf.grad, decimals=6).numpy() for path, leaf in leaves.items()}",
        ),
        jax=Lines(
            GRADS["jax"], "grads = {path: np.asarray(jnp.round(gradient, 6)) for path, gradient in grads.items()}"
        ),
    )
    yield FAMILY.symptom(
        "small-zeroed",
        "Gradients below a threshold are set to 0.",
        "Saturated units have gradients of any size, and 1e-9 is not nothing: it is added up over many steps.",
        GRADS["numpy"],
        GRADS["numpy"] + "\ngrads = {path: np.where(np.abs(g) < 1e-8, 0, g) for path, g in grads.items()}",
        torch=Lines(
            GRADS["torch"],
            "grads = {path: torch.where(leaf.grad.abs() < 1e-8, 0, leaf.grad).numpy() for path, leaf in "
            "leaves.items()}",
        ),
        jax=Lines(
            GRADS["jax"],
            "grads = {path: np.where(np.abs(gradient) < 1e-8, 0, gradient) for path, gradient in grads.items()}",
        ),
    )
    yield FAMILY.symptom(
        "lower-precision",
        "All, or one quantity on the way, is computed in a shorter type than the inputs have.",
        "A default dtype, a constant array, `.float()`: float32 has 7 digits of 16. The error is 1e-8 of the largest "
        "term, everywhere.",
        GRADS["numpy"],
        GRADS["numpy"] + "\ngrads = {path: g.astype(np.float32).astype(x.dtype) for path, g in grads.items()}",
        torch=Lines(
            GRADS["torch"],
            "grads = {path: leaf.grad.float().double().numpy() for path, leaf in leaves.items()}",
        ),
        jax=Lines(
            GRADS["jax"],
            "grads = {path: np.asarray(gradient, np.float32).astype(np.float64) for path, gradient in grads.items()}",
        ),
        see="Print the dtype of every array on the way, and of every constant.",
        alike="A declared shorter type: --dtype float32 judges it by what float32 can hold.",
    )
