"""Explanations: how costs become one, and the upstream gradient of what is not reduced."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import Explanation, Family

FAMILY = Family(
    "Reduction and upstream gradient",
    "Put the same sample into a batch once, twice and four times: under a mean the gradient stays the same, under a "
    "sum it grows with the batch.",
    "A loss that is meant to be added up: declare reduction=sum in the notation of the network, and it is no finding.",
)
DELTA = "delta = (p - one_hot(y, z)) / len(z)"
EACH = "delta = (p - one_hot(y, z)) * upstream[:, None]"
COST = "costs = -log_p[np.arange(len(z)), y]\ncost = costs.mean()"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield FAMILY.symptom(
        "no-mean",
        "The cost is a mean over the samples, and the delta is that of the sum: it is not divided by the batch.",
        "Everything in the backward pass is linear in the output delta, so that every gradient is too large by the "
        "same factor, the batch size. A learning rate that was tuned on one batch size hides it.",
        DELTA,
        "delta = p - one_hot(y, z)",
        see="With one sample it is right. With N samples yours / expected is N, in every parameter.",
    )
    yield FAMILY.symptom(
        "other-reduction",
        "Cost and gradients are consistent with each other, and are those of the sum where the mean is asked for.",
        "The cost is too large by the batch size, and so is everything that is derived from it. A check of your "
        "gradient against differences of your own cost passes.",
        f"{COST}\n---\n{DELTA}",
        "costs = -log_p[np.arange(len(z)), y]\ncost = costs.sum()\n---\ndelta = p - one_hot(y, z)",
        torch=Lines(
            "cost = torch.nn.functional.cross_entropy(z2, y)",
            'cost = torch.nn.functional.cross_entropy(z2, y, reduction="sum")',
            "cost = Cost.apply(z2, y, class_weights)",
        ),
        jax=Lines(
            "cost = -jnp.mean(jax.nn.log_softmax(z2)[jnp.arange(len(y)), y])",
            "cost = -jnp.sum(jax.nn.log_softmax(z2)[jnp.arange(len(y)), y])",
            "cost = cost_of(z2, y, class_weights)",
        ),
    )
    yield FAMILY.symptom(
        "upstream-ignored",
        "The backward pass of the loss starts from ones: the gradient that comes from above is not used.",
        "Whoever weights the samples, scales the loss or adds it to another one gets the gradient of the plain sum. "
        "With `cost.backward()` on a scalar the upstream gradient is 1, and nobody sees it.",
        EACH,
        "delta = p - one_hot(y, z)",
        program="each",
        see="Call backward with an upstream gradient of zeros: the gradient must be zero.",
        alike="A function for scalar losses alone needs no upstream gradient: declare that it takes reduction=mean.",
    )
    yield FAMILY.symptom(
        "first-cotangent-only",
        "Of the upstream gradient the first row alone is read, and used for all samples.",
        "`cost.mean().backward()` hands every row the same number, so that the first one stands for all. Any other "
        "weighting of the samples shows it.",
        EACH,
        "delta = (p - one_hot(y, z)) * upstream[0]",
        program="each",
    )
    yield FAMILY.symptom(
        "cotangent-squared",
        "The upstream gradient is multiplied in twice.",
        "A backward pass is linear in what comes from above: twice as much gives twice as much. Here it gives four "
        "times as much. At an upstream gradient of 1 nothing is wrong.",
        EACH,
        "delta = (p - one_hot(y, z)) * upstream[:, None] ** 2",
        program="each",
    )
    yield FAMILY.symptom(
        "cotangent-absolute",
        "The sign of the upstream gradient is lost.",
        "Samples with a negative weight, as in a difference of two losses, get the gradient of the opposite sign.",
        EACH,
        "delta = (p - one_hot(y, z)) * np.abs(upstream)[:, None]",
        program="each",
    )
    yield FAMILY.symptom(
        "cotangent-mean",
        "Every sample is weighted with the mean of the upstream gradient.",
        "The sum over the samples may even come out right, as long as all of them have the same weight.",
        EACH,
        "delta = (p - one_hot(y, z)) * upstream.mean()",
        program="each",
    )
    yield FAMILY.symptom(
        "sum-divides",
        "The costs are added up, and the gradient is divided by the batch all the same.",
        "The division that belongs to the mean is left in where the reduction is a sum: every gradient is too small "
        "by the batch size.",
        "delta = p - one_hot(y, z)",
        "delta = (p - one_hot(y, z)) / len(z)",
        program="summed",
        alike="A loss that is meant to be a mean: then the network is to say reduction=mean, which is the default.",
    )
    yield FAMILY.symptom(
        "mean-twice",
        "The mean over the batch is taken twice: in the delta, and once more in the gradients.",
        "Both places look right alone. Together every gradient is too small by the batch size.",
        "dw = x.T @ delta\ndb = delta.sum(axis=0)",
        "dw = x.T @ delta / len(x)\ndb = delta.mean(axis=0)",
        see="With one sample it is right. With N samples yours / expected is 1/N, in every parameter.",
    )
    yield FAMILY.symptom(
        "mean-over-elements",
        "The mean is taken over samples and classes: a cross entropy has one cost a sample, not one an element.",
        "`.mean()` of a matrix divides by all of its elements. Every gradient is too small by the number of classes.",
        DELTA,
        "delta = (p - one_hot(y, z)) / z.size",
    )
    yield FAMILY.symptom(
        "mean-over-rows",
        "The mean is taken over the samples alone: a squared error is averaged over the outputs too.",
        "Every gradient is too large by the number of outputs; with one output nothing is wrong. scikit-learn's "
        "MLPRegressor has it.",
        "delta = 2 * (p - y) / y.size",
        "delta = 2 * (p - y) / len(y)",
        program="regression",
        alike="A convention: costs added up over the outputs, averaged over the samples. Declare it: batchmean.",
    )
    yield FAMILY.symptom(
        "mean-of-others",
        "The mean divides by N - 1.",
        "That is the divisor of a sample variance. Every gradient is too large by N / (N - 1), which a large batch "
        "hides.",
        DELTA,
        "delta = (p - one_hot(y, z)) / max(len(z) - 1, 1)",
    )
    yield FAMILY.symptom(
        "ignored-rows-counted",
        "Rows whose label is ignored get no gradient, and are counted in the mean all the same.",
        "The gradient is too small by the share of rows that count, which differs from batch to batch.",
        "delta = delta / counts.sum()",
        "delta = delta / len(z)",
        program="ignored rows",
    )
    yield FAMILY.symptom(
        "ignored-rows-with-gradient",
        "Rows whose label is ignored get a gradient: their delta is not set to 0.",
        "Padding and unlabelled samples pull at the weights. No class is subtracted there, so that all logits are "
        "pushed down.",
        "delta = p - one_hot(np.where(counts, y, 0), z)\ndelta = np.where(counts[:, None], delta, 0)",
        "delta = p - one_hot(np.where(counts, y, 0), z) * counts[:, None]",
        program="ignored rows",
    )
    yield FAMILY.symptom(
        "ignored-as-first",
        "Rows whose label is ignored are taken for rows of the first class.",
        "Something replaces the label by 0 to make the indexing work, and the delta of these rows is not set to 0 "
        "afterwards.",
        "delta = p - one_hot(np.where(counts, y, 0), z)\ndelta = np.where(counts[:, None], delta, 0)",
        "delta = p - one_hot(np.where(counts, y, 0), z)",
        program="ignored rows",
        see="Change the inputs of an ignored row: no gradient of a parameter may move.",
    )
    yield FAMILY.symptom(
        "smoothing-on-ignored",
        "Rows whose label is ignored get the gradient of the label smoothing.",
        "Smoothing spreads its share over all classes of every row: the mask has to come after it.",
        "delta = np.where(counts[:, None], p - q, 0) / counts.sum()",
        "delta = np.where(counts[:, None], p - q, EPSILON * (p - 1 / z.shape[1])) / counts.sum()",
        program="label smoothing, ignored rows",
    )
    yield FAMILY.symptom(
        "weights-of-prediction",
        "Each row is weighted with the class weight of the predicted class instead of that of its label.",
        "Where the prediction is right nothing is wrong, so that it hides more and more as the training goes on.",
        "delta = weight[:, None] * (p - one_hot(y, z)) / weight.sum()",
        "delta = class_weights[p.argmax(axis=1)][:, None] * (p - one_hot(y, z)) / weight.sum()",
        program="class weights",
    )
    yield FAMILY.symptom(
        "none-averaged",
        "The costs are not reduced, and the gradient is divided by the batch all the same.",
        "Without a reduction the upstream gradient alone weights the costs. Every gradient is too small by the batch.",
        EACH,
        "delta = (p - one_hot(y, z)) * upstream[:, None] / len(z)",
        program="each",
    )
    yield FAMILY.symptom(
        "weights-not-normalised",
        "The mean of the weighted costs is divided by the batch: it is divided by the sum of the weights that count.",
        "That is what PyTorch documents for a weighted mean. The factor is the mean weight of the labels of the batch.",
        "delta = weight[:, None] * (p - one_hot(y, z)) / weight.sum()",
        "delta = weight[:, None] * (p - one_hot(y, z)) / len(z)",
        program="class weights",
        alike="Keras and others divide by the batch on purpose: docs/conventions.md has the habits side by side.",
    )
    yield FAMILY.symptom(
        "weights-ignored",
        "The class weights are not used.",
        "Cost and gradient are those of the plain mean. With weights that are all the same nothing is wrong.",
        "weight = class_weights[y]\ncost = -(weight * log_p[np.arange(len(z)), y]).sum() / weight.sum()\n---\n"
        "weight = class_weights[y]\ndelta = weight[:, None] * (p - one_hot(y, z)) / weight.sum()",
        "cost = -log_p[np.arange(len(z)), y].mean()\n---\ndelta = (p - one_hot(y, z)) / len(z)",
        program="class weights",
    )
    yield FAMILY.symptom(
        "weights-squared",
        "The class weights are multiplied in twice.",
        "Often once in the cost and once more in the delta, which has them already.",
        "weight = class_weights[y]\ncost = -(weight * log_p[np.arange(len(z)), y]).sum() / weight.sum()\n---\n"
        "weight = class_weights[y]\ndelta = weight[:, None] * (p - one_hot(y, z)) / weight.sum()",
        "weight = class_weights[y] ** 2\ncost = -(weight * log_p[np.arange(len(z)), y]).sum() / weight.sum()\n---\n"
        "weight = class_weights[y] ** 2\ndelta = weight[:, None] * (p - one_hot(y, z)) / weight.sum()",
        program="class weights",
    )
