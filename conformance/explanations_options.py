"""Explanations: what a loss has beside its formula."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import Explanation, Family

FAMILY = Family(
    "Options of the losses",
    "Compute the cost of one sample by hand with the option and without, and its derivative with it.",
    "Another definition of the same loss, on purpose: docs/conventions.md has the habits of the frameworks, and which "
    "of them can be declared with gradients.conventions.",
)
SQUARE = "delta = 2 * (p - y) / y.size"
HUBER = "delta = np.clip(r, -LIMIT, LIMIT) / y.size"
SMOOTHED = "q = (1 - EPSILON) * one_hot(y, z) + EPSILON / z.shape[1]\ndelta = (p - q) / len(z)"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _smoothing_and_scale()
    yield from _squares()
    yield from _logarithms()


def _smoothing_and_scale() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "smoothing-ignored",
        "Label smoothing is left out of the gradient, and often stands in the cost.",
        "The delta is p - y with the hard label: it pulls on until the prediction is sure, which smoothing is to "
        "prevent.",
        SMOOTHED,
        "delta = (p - one_hot(y, z)) / len(z)",
        program="label smoothing",
    )
    yield FAMILY.symptom(
        "smoothing-over-others",
        "Label smoothing spreads its share over the other C - 1 classes, where it is spread over all C.",
        "Both definitions are around. Here, as in PyTorch, the label's class gets 1 - epsilon + epsilon / C.",
        SMOOTHED,
        "others = 1 - one_hot(y, z)\n"
        "q = (1 - EPSILON) * one_hot(y, z) + EPSILON * others / (z.shape[1] - 1)\n"
        "delta = (p - q) / len(z)",
        program="label smoothing",
    )
    yield FAMILY.symptom(
        "scale-ignored",
        "The factor in front of the loss is left out.",
        "Every gradient is too small by the same factor, which a learning rate hides.",
        "delta = SCALE * (p - one_hot(y, z)) / len(z)",
        "delta = (p - one_hot(y, z)) / len(z)",
        program="scaled",
    )
    yield FAMILY.symptom(
        "huber-delta",
        "Huber's delta is taken to be 1, whatever the loss says.",
        "Residuals between the two limits get another gradient. With delta = 1, the default, nothing is wrong.",
        HUBER,
        "delta = np.clip(r, -1, 1) / y.size",
        program="Huber",
    )
    yield FAMILY.symptom(
        "huber-slope",
        "The gradient of an outlier is 1 instead of delta.",
        "The sign of the residual stands there, without the limit: the derivative jumps where it is to be continuous.",
        HUBER,
        "delta = np.where(np.abs(r) <= LIMIT, r, np.sign(r)) / y.size",
        program="Huber",
    )


def _squares() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "half-mse",
        "The gradient is that of half the squared error.",
        "Textbooks write C = 1/2 (a - y)^2 so that the 2 of the derivative cancels. Here the cost has no 1/2, and the "
        "gradient is half of what it is to be.",
        SQUARE,
        "delta = (p - y) / y.size",
        program="regression",
        torch=Lines(
            "cost = torch.nn.functional.mse_loss(z2, y)",
            "cost = 0.5 * torch.nn.functional.mse_loss(z2, y)",
            "cost = Cost.apply(z2, y, class_weights)",
        ),
        jax=Lines(
            "cost = jnp.mean((z2 - y) ** 2)",
            "cost = jnp.mean((z2 - y) ** 2) / 2",
            "cost = cost_of(z2, y, class_weights)",
        ),
        alike="The book's cost, on purpose: declare the convention half, and cost and gradient are held against that.",
    )
    yield FAMILY.symptom(
        "twice-mse",
        "The factor 2 of the squared error's derivative is there twice.",
        "It stands in the delta, and once more in the gradients of the parameters.",
        SQUARE,
        "delta = 2 * 2 * (p - y) / y.size",
        program="regression",
    )
    yield FAMILY.symptom(
        "absolute-error",
        "The gradient is the sign of a - y: that of the absolute error.",
        "Every sample pulls equally hard, however wrong it is.",
        SQUARE,
        "delta = np.sign(p - y) / y.size",
        program="regression",
    )
    yield FAMILY.symptom(
        "mean-before-square",
        "The residuals are averaged over the batch before they are squared.",
        "Residuals of opposite signs cancel, and every sample gets the same delta. With one sample nothing is wrong.",
        f"cost = ((p - y) ** 2).mean()\n---\n{SQUARE}",
        "cost = ((p - y).mean(axis=0) ** 2).mean()\n---\ndelta = 2 * (p - y).mean(axis=0) * np.ones_like(y) / y.size",
        program="regression",
        see="Take two samples whose residuals are opposite: the cost must not be 0.",
    )
    yield FAMILY.symptom(
        "targets-centred",
        "The mean of the targets over the batch is subtracted from them.",
        "A standardisation that belongs to the data stands in the loss, and depends on the batch.",
        f"cost = ((p - y) ** 2).mean()\n---\n{SQUARE}",
        "y = y - y.mean(axis=0)\ncost = ((p - y) ** 2).mean()\n---\n"
        "y = y - y.mean(axis=0)\ndelta = 2 * (p - y) / y.size",
        program="regression",
    )


def _logarithms() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "log-base",
        "The logarithm of the cross entropy has base 2 or 10, where it is the natural one.",
        "Cost and gradient are both too large by 1 / log(base), which nobody sees in the course of a training.",
        "cost = costs.mean()\n---\ndelta = (p - one_hot(y, z)) / len(z)",
        "cost = costs.mean() / math.log(2)\n---\ndelta = (p - one_hot(y, z)) / len(z) / math.log(2)",
    )
    yield FAMILY.symptom(
        "log-epsilon",
        "A small number is added to the probability before the logarithm, to keep it from log 0.",
        "Where the probability is as small as that number, the derivative 1 / (p + epsilon) is much too small: the "
        "samples that are most wrong learn least.",
        "delta = (p - one_hot(y, z)) / len(z)",
        "pull = one_hot(y, z) * p / (p + 1e-7)\ndelta = (p * pull.sum(axis=1, keepdims=True) - pull) / len(z)",
        see="Take a sample whose label has a logit 20 below the others: the delta at the label is nearly -1.",
        alike="A floor inside the loss that the framework documents, as PyTorch's binary_cross_entropy has.",
    )
    yield FAMILY.symptom(
        "probability-clip",
        "Probabilities are clipped to [epsilon, 1 - epsilon], and the clipped ones are used in the gradient.",
        "Beyond the clip the derivative is 0: a sample that is wrong and sure gives no gradient, or the wrong one.",
        "delta = (p - one_hot(y, z)) / len(z)",
        "delta = (np.clip(p, 1e-7, 1 - 1e-7) - one_hot(y, z)) / len(z)",
        alike="Keras clips probabilities on purpose: declare the convention clip, and it is held against that.",
    )
