"""Explanations: the output delta and its labels."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import Explanation, Family

FAMILY = Family(
    "The delta and the labels",
    "Print the output delta of one sample: of a softmax cross entropy it is p - y, which adds up to 0 over the "
    "classes, is negative at the label alone, and goes to 0 as the prediction gets right.",
    "Labels of another kind than the loss takes (one-hot, soft, numbered from 1): declare what is taken with "
    "gradients.labels.",
)
DELTA = "delta = (p - one_hot(y, z)) / len(z)"
COSTS = "costs = -log_p[np.arange(len(z)), y]"
SOFT = "delta = (p - y) / len(z)"
EXPONENTIALS = "p = e / e.sum(axis=1, keepdims=True)"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _labels()
    yield from _softmax()
    yield from _other()


def _labels() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "label-shift",
        "The labels are off by one: the class next to the right one is subtracted.",
        "Classes are numbered from 0 here, and from 1 in many data sets. The delta has the right size and adds up to "
        "0, and its negative element is in the wrong column.",
        DELTA,
        "delta = (p - one_hot((y + 1) % z.shape[1], z)) / len(z)",
        see="Print where the delta of a sample is negative: it is at the label.",
    )
    yield FAMILY.symptom(
        "classes-reversed",
        "The labels count the classes from the last one: label l is taken for class C - 1 - l.",
        "A negative index, or a table that is written from right to left. With two classes they are simply exchanged.",
        f"{COSTS}\n---\n{DELTA}",
        "costs = -log_p[np.arange(len(z)), z.shape[1] - 1 - y]\n---\n"
        "delta = (p - one_hot(z.shape[1] - 1 - y, z)) / len(z)",
        see="Print where the delta of a sample is negative: it is at the label.",
    )
    yield FAMILY.symptom(
        "soft-as-hard",
        "Soft labels, which are probabilities, are replaced by the most probable class.",
        "An argmax that turns one-hot labels into numbers is right for those, and throws away what is between 0 and 1.",
        SOFT,
        "delta = (p - one_hot(y.argmax(axis=1), z)) / len(z)",
        program="soft labels",
    )
    yield FAMILY.symptom(
        "one-hot-missing",
        "The label is not subtracted: the delta is p where it is p - y.",
        "All logits are pushed down, the right one too. The gradient is right in every column but the label's, and "
        "does not add up to 0 over the classes.",
        DELTA,
        "delta = p / len(z)",
    )
    yield FAMILY.symptom(
        "mistakes-only",
        "Samples that are classified rightly give no gradient.",
        "That is the perceptron's rule. A cross entropy has the delta p - y for every sample, which gets small, and "
        "is not 0.",
        DELTA,
        "delta = (p - one_hot(y, z)) * (p.argmax(axis=1) != y)[:, None] / len(z)",
    )


def _softmax() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "softmax-twice",
        "The Jacobian of the softmax is applied on top of p - y, which has it already; or it is applied twice.",
        "p - y is the gradient with respect to the logits. Handing it through the softmax once more shrinks it, most "
        "where the prediction is sure: the training becomes slow and seems to work.",
        DELTA,
        "delta = (p - one_hot(y, z)) / len(z)\ndelta = p * (delta - (p * delta).sum(axis=1, keepdims=True))",
        see="In PyTorch look for a softmax before cross_entropy, which takes logits.",
        alike="A network that ends in a Softmax layer and a CrossEntropy on probabilities: there the Jacobian belongs "
        "to the layer, and the loss starts from -y / p.",
    )
    yield FAMILY.symptom(
        "sigmoid-extra",
        "p - y is multiplied by p (1 - p), the derivative of the activation, which it has already.",
        "The derivative of the cross entropy, (p - y) / (p (1 - p)), and that of the sigmoid cancel: that is why p - "
        "y is so simple. Once more it slows down exactly the samples that are wrong and sure.",
        "delta = (p - y) / y.size",
        "delta = (p - y) * p * (1 - p) / y.size",
        program="labels of their own",
        alike="The squared error after a sigmoid, in which p (1 - p) belongs.",
    )
    yield FAMILY.symptom(
        "softmax-diagonal",
        "Of the softmax's Jacobian the diagonal p (1 - p) alone is used.",
        "The softmax is no elementwise function: each output depends on all logits, and the terms -p_i p_j are "
        "missing. The label's column is right, all others are 0 or wrong.",
        DELTA,
        "delta = -one_hot(y, z) * (1 - p) / len(z)",
    )
    yield FAMILY.symptom(
        "logits-for-probabilities",
        "The delta is z - y: logits stand where probabilities belong.",
        "It is the delta of a squared error. The cost is computed from the probabilities, so that it looks right.",
        DELTA,
        "delta = (z - one_hot(y, z)) / len(z)",
    )
    yield FAMILY.symptom(
        "softmax-axis",
        "The softmax is taken over the samples instead of the classes.",
        "axis=0 runs down the batch. Each column adds up to 1 instead of each row, and one sample's gradient depends "
        "on the others: with a single sample every probability is 1.",
        EXPONENTIALS,
        "p = e / e.sum(axis=0)",
        see="Print p.sum(axis=1): every row adds up to 1.",
    )
    yield FAMILY.symptom(
        "sigmoid-for-softmax",
        "The probabilities are sigmoids of the logits, where this loss takes their softmax.",
        "Each class is judged alone, and they do not add up to 1. With two classes and opposite logits both are alike.",
        DELTA,
        "delta = (1 / (1 + np.exp(-z)) - one_hot(y, z)) / len(z)",
        alike="Several labels a sample: that is SigmoidCrossEntropy, with targets (N, C).",
    )


def _other() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "fused-delta-on-probabilities",
        "p - y, the delta of the logits, is handed to the last activation, which multiplies its derivative in again.",
        "p - y is the result of loss and activation together. Where they are two layers, the loss alone has another "
        "derivative, and the activation's comes after it.",
        "delta = -one_hot(y, z) / p / len(z)",
        "delta = (p - one_hot(y, z)) / len(z)",
        program="probabilities",
    )
    yield FAMILY.symptom(
        "squared-error-delta",
        "The delta is that of the squared error, 2 (p - y), where the cost is a cross entropy.",
        "Cost and gradient belong to two losses. Both fall when the other does, so that the training seems to work.",
        "delta = (p - y) / (p * (1 - p)) / y.size",
        "delta = 2 * (p - y) / y.size",
        program="probabilities of two",
    )
    yield FAMILY.symptom(
        "zero-logit-zero",
        "The gradient is 0 where a logit is exactly 0.",
        "A stable sigmoid has a branch for z > 0 and one for z < 0, and 0 is in neither. Zero weights, as at the "
        "start of a training, make all logits 0.",
        "delta = (p - y) / y.size",
        "delta = ((p - y) * (z > 0) + (p - y) * (z < 0)) / y.size",
        program="labels of their own",
    )
    yield FAMILY.symptom(
        "huber-abs",
        "Outliers are told by r > delta without the absolute value: below -delta the gradient is 0.",
        "The residual is compared with its sign, so that the outliers of one side get the wrong branch.",
        "delta = np.clip(r, -LIMIT, LIMIT) / y.size",
        "delta = np.where(-r <= LIMIT, np.clip(r, -LIMIT, LIMIT), 0) / y.size",
        program="Huber",
    )
    yield FAMILY.symptom(
        "huber-unlimited",
        "The gradient is the residual itself, also beyond delta, where it is to stop growing.",
        "It is the gradient of half the squared error: one outlier moves the weights as far as it likes.",
        "delta = np.clip(r, -LIMIT, LIMIT) / y.size",
        "delta = r / y.size",
        program="Huber",
    )
    yield FAMILY.symptom(
        "minus-lost",
        "The sign of the output delta, or of all gradients, is wrong.",
        "y - a stands where a - y belongs, or the minus of gradient descent is in the gradient: the update subtracts "
        "it once more, and climbs.",
        DELTA,
        "delta = (one_hot(y, z) - p) / len(z)",
        torch=Lines(
            "grads = {path: leaf.grad.numpy() for path, leaf in leaves.items()}",
            "grads = {path: -leaf.grad.numpy() for path, leaf in leaves.items()}",
        ),
        see="Take one small step against the gradient: the cost falls.",
        alike="Books that define the delta as y - a and add in the update. What is returned here is dC/dw.",
    )
