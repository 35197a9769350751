"""Explanations: the backward pass of a linear layer, dC/dW = x^T delta, dC/db = sum of delta, dC/dx = delta W^T."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import Explanation, Family

FAMILY = Family(
    "Linear layers",
    "Let all widths and the batch differ (4 -> 6 -> 3, batch 5): what does not belong together mostly does not fit "
    "then. Where it fits all the same, compute one element as the sum over the samples that it is.",
    "Weights of shape (out, in), as in torch.nn.Linear: then y = x W^T + b, and every transpose is elsewhere. Declare "
    "the convention transposed.",
)
SAMPLES = Family(
    FAMILY.name,
    "Compare the gradient of the batch with the sum of those of its samples, one at a time.",
    'A function for one sample at a time, as in the textbook: declare gradients.samples = "single".',
)
BIASES = Family(
    FAMILY.name,
    "Print db for a batch of two samples, and delta beside it: db is the sum of its rows.",
    "A batch of one sample, in which sum, mean, first and last row are the same: take two.",
)
DW, DB, BELOW = "dw = x.T @ delta", "db = delta.sum(axis=0)", "delta_below = delta @ w.T"
BOTH = f"{DW}\n{DB}"
LOOP = """\
dw, db = np.zeros_like(w), np.zeros_like(w[0])
for n in range(len(x)):
    dw = dw + np.outer(x[n], delta[n])
    db = db + delta[n]"""
FORWARD = "z = x @ w + b"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _transposes()
    yield from _activations()
    yield from _samples()
    yield from _edges()
    yield from _biases()


def _transposes() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "transposed",
        "The gradient of a weight is transposed, which fits where the weight is square.",
        "delta^T x has the shape (out, in). With as many units as inputs nothing complains, and each weight gets the "
        "gradient of its mirror image.",
        DW,
        "dw = delta.T @ x",
        program="square layers",
    )
    yield FAMILY.symptom(
        "weight-not-transposed",
        "The delta is propagated through W instead of its transpose, which fits where W is square.",
        "Forward, x is multiplied by W; backward, delta by W^T. All layers below get a delta that is not theirs; the "
        "gradients of this one are right.",
        BELOW,
        "delta_below = delta @ w",
        program="square layers",
    )
    yield FAMILY.symptom(
        "delta-without-weight",
        "The delta is handed down without the weight.",
        "dC/dx = delta W^T. Where as many units go in as come out, the delta fits as it is.",
        BELOW,
        "delta_below = delta",
        program="square layers",
    )
    yield FAMILY.symptom(
        "forward-transposed",
        "The forward pass uses the transpose of the weight, which fits where it is square.",
        "The backward pass is that of x W + b, so that the gradients do not even belong to the cost that is computed.",
        FORWARD,
        "z = x @ w.T + b",
        program="square layers",
        alike="Weights that are (out, in) throughout: declare the convention transposed.",
    )
    yield FAMILY.symptom(
        "detached",
        "Nothing flows below the layer: the delta that is handed down is 0.",
        "The last layer learns, all others stay as they were. `detach`, `stop_gradient`, `no_grad`, a number that was "
        "taken out of a tensor and put into a new one.",
        BELOW,
        "delta_below = np.zeros_like(x)",
        torch=Lines(
            'z2 = Dense.apply(a0, leaves["2.weight"], leaves["2.bias"])',
            'z2 = Dense.apply(a0.detach(), leaves["2.weight"], leaves["2.bias"])',
        ),
        jax=Lines(
            'z2 = dense(a0, leaves["2.weight"], leaves["2.bias"])',
            'z2 = dense(jax.lax.stop_gradient(a0), leaves["2.weight"], leaves["2.bias"])',
        ),
        alike="A layer that is frozen on purpose: then its own gradients are not asked for, and those below are.",
    )
    yield FAMILY.symptom(
        "updated-weights",
        "The delta is propagated through weights that were updated already.",
        "Going down the layers, each is updated as soon as its gradient is known, and the layer below gets a delta "
        "through the new weight. The error is as small as the learning rate.",
        BELOW,
        "w = w - 0.1 * dw\ndelta_below = delta @ w.T",
        see="Set the learning rate to 0: the difference goes.",
    )


def _activations() -> Iterator[Explanation]:
    flow = "da0, dw2, db2 = dense_backward(a0, w2, z2, delta2)"
    below = "_, dw0, db0 = dense_backward(x, w0, z0, delta0)"
    yield FAMILY.symptom(
        "wrong-activation",
        "The gradient of a weight is made with the layer's own output instead of what goes into it.",
        "dz/dw is the incoming activation. Where as many units go in as come out, the output fits as well.",
        DW,
        "dw = z.T @ delta",
        program="square layers",
    )
    yield FAMILY.symptom(
        "pre-activation-used",
        "The gradient of a weight takes the pre-activation z below it instead of the activation a = sigma(z).",
        "Both have the same shape. The first layer, below which nothing is activated, is right.",
        flow,
        "da0, dw2, db2 = dense_backward(z0, w2, z2, delta2)",
        without=("torch", "jax"),
    )
    yield FAMILY.symptom(
        "network-input-used",
        "The gradient of a later weight takes the network's input instead of the layer's incoming activation.",
        "`x` is a good name for both. Where the hidden layer is as wide as the input, the shapes fit.",
        flow,
        "da0, dw2, db2 = dense_backward(x, w2, z2, delta2)",
        program="square layers",
        without=("torch", "jax"),
    )
    yield FAMILY.symptom(
        "incoming-missing",
        "The gradient of a weight leaves out the incoming activation: dz/dw is the activation, and not 1.",
        "Every row of the gradient is the bias's: the delta alone, added up over the samples.",
        DW,
        "dw = np.ones_like(x).T @ delta",
    )
    yield FAMILY.symptom(
        "delta-before-activation",
        "The gradients of a layer take dC/da, the delta before it is multiplied by sigma'(z).",
        "Two deltas belong to each layer, one after its activation and one before. The delta of z is the one that "
        "makes the gradients.",
        "dw2, db2 = a0.T @ delta2, delta2.sum(axis=0)\nda0 = delta2 @ w2.T\n---\n"
        "dw0, db0 = x.T @ delta0, delta0.sum(axis=0)",
        "dw2, db2 = a0.T @ da2, da2.sum(axis=0)\nda0 = delta2 @ w2.T\n---\ndw0, db0 = x.T @ da0, da0.sum(axis=0)",
        at=f"{flow}\n---\n{below}",
        program="three layers",
        without=("torch", "jax"),
    )


def _samples() -> Iterator[Explanation]:
    yield SAMPLES.symptom(
        "samples-misaligned",
        "The incoming activation of one sample is multiplied by the delta of another.",
        "One of the two was shuffled, reversed or shifted. The biases, which only add up, are right.",
        DW,
        "dw = x.T @ np.roll(delta, 1, 0)",
    )
    yield SAMPLES.symptom(
        "last-sample-dropped",
        "The last sample is left out of the gradients.",
        "A loop or a slice ends one too early. With one sample everything is 0.",
        BOTH,
        "dw = x[:-1].T @ delta[:-1]\ndb = delta[:-1].sum(axis=0)",
    )
    yield SAMPLES.symptom(
        "first-sample-dropped",
        "The first sample is left out of the gradients.",
        "A loop that counts from 1. With one sample everything is 0.",
        BOTH,
        "dw = x[1:].T @ delta[1:]\ndb = delta[1:].sum(axis=0)",
    )
    yield SAMPLES.symptom(
        "last-sample-only",
        "The gradients are those of the last sample alone.",
        "In the loop over the samples = stands where += belongs: each sample overwrites the one before.",
        LOOP,
        LOOP.replace("dw = dw + np", "dw = np").replace("db = db + delta", "db = delta"),
        at=BOTH,
    )
    yield SAMPLES.symptom(
        "first-sample-only",
        "The gradients are those of the first sample alone.",
        "A formula for one training example was given a batch, and takes row 0 of it.",
        BOTH,
        "dw = np.outer(x[0], delta[0])\ndb = delta[0]",
    )
    yield SAMPLES.symptom(
        "later-samples-dropped",
        "The gradients are those of the first few samples.",
        "A buffer, or a loop, is no longer than that. Small batches are right.",
        BOTH,
        "dw = x[:3].T @ delta[:3]\ndb = delta[:3].sum(axis=0)",
    )


def _edges() -> Iterator[Explanation]:
    zeros = "Print the gradient: its last row, or its last column, is 0."
    yield FAMILY.symptom(
        "last-input-dropped",
        "The weights of the last incoming activation get no gradient.",
        "range(n - 1) where range(n) belongs: the last row stays as it was made, 0.",
        "dw = np.zeros_like(w)\nfor i in range(len(w)):\n    dw[i] = x[:, i] @ delta",
        "dw = np.zeros_like(w)\nfor i in range(len(w) - 1):\n    dw[i] = x[:, i] @ delta",
        at=DW,
        jax=Lines(
            "dw = jnp.stack([x[:, i] @ delta for i in range(len(w))])",
            "dw = jnp.stack([x[:, i] @ delta for i in range(len(w) - 1)] + [jnp.zeros_like(w[0])])",
            DW,
        ),
        see=zeros,
    )
    yield FAMILY.symptom(
        "last-unit-dropped",
        "The weights and the bias of the last unit get no gradient.",
        "range(n - 1) where range(n) belongs: the last column stays as it was made, 0.",
        "dw, db = np.zeros_like(w), np.zeros_like(w[0])\n"
        "for j in range(len(db)):\n    dw[:, j] = x.T @ delta[:, j]\n    db[j] = delta[:, j].sum()",
        "dw, db = np.zeros_like(w), np.zeros_like(w[0])\n"
        "for j in range(len(db) - 1):\n    dw[:, j] = x.T @ delta[:, j]\n    db[j] = delta[:, j].sum()",
        at=BOTH,
        jax=Lines(
            "units = range(delta.shape[1])\n"
            "dw = jnp.zeros_like(w)\n"
            "db = jnp.zeros_like(w[0])\n"
            "for j in units:\n"
            "    dw, db = dw.at[:, j].set(x.T @ delta[:, j]), db.at[j].set(delta[:, j].sum())",
            "units = range(delta.shape[1] - 1)\n"
            "dw = jnp.zeros_like(w)\n"
            "db = jnp.zeros_like(w[0])\n"
            "for j in units:\n"
            "    dw, db = dw.at[:, j].set(x.T @ delta[:, j]), db.at[j].set(delta[:, j].sum())",
            BOTH,
        ),
        see=zeros,
    )


def _biases() -> Iterator[Explanation]:
    yield BIASES.symptom(
        "bias-scalar",
        "One sum over samples and units is the gradient of every bias.",
        "sum() without an axis adds up everything, and the number is broadcast over the units without a word.",
        DB,
        "db = delta.sum() * np.ones_like(delta[0])",
    )
    yield BIASES.symptom(
        "bias-axis",
        "The gradient of a bias adds up the units instead of the samples, which fits where both are as many.",
        "axis=1 runs over the units of a row. With any other batch size the shape is wrong, and something complains.",
        DB,
        "db = delta.sum(axis=1)",
    )
    yield BIASES.symptom(
        "bias-first-row",
        "The gradient of a bias is that of the first sample alone.",
        "delta[0] has the right shape, and with one sample it is right.",
        DB,
        "db = delta[0]",
    )
    yield BIASES.symptom(
        "bias-last-row",
        "The gradient of a bias is that of the last sample alone.",
        "In the loop over the samples = stands where += belongs.",
        DB,
        "db = delta[-1]",
    )
    yield BIASES.symptom(
        "squeezed-sample",
        "With a batch of one sample the gradient of a bias is one sum over the units.",
        "squeeze() takes away the axis of the samples where there is one alone; the sum over axis 0 then runs over "
        "the units. All other batches are right.",
        DB,
        "db = delta.squeeze().sum(axis=0) * np.ones_like(delta[0])",
        see="Call it with one sample, and with two that are the same.",
    )
    yield BIASES.symptom(
        "bias-unused",
        "The forward pass leaves out the bias.",
        "Its gradient is computed all the same, of a cost that does not depend on it. With biases of 0, as at the "
        "start of most trainings, nothing is wrong.",
        FORWARD,
        "z = x @ w",
    )
