"""Explanations: whole gradients that are off by a constant with a name, exchanged, or have something added."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import GRADS, Explanation, Family

FAMILY = Family(
    "Whole gradients",
    "Divide your gradient by the right one, element by element: it is the same number everywhere.",
    "A factor that the update divides out again, on purpose: what is asked for here is the gradient itself.",
)
DW, DB = "dw = x.T @ delta", "db = delta.sum(axis=0)"
BOTH = f"{DW}\n{DB}"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _over_the_batch()
    yield from _factors()
    yield from _zeros()
    yield from _more()


def _over_the_batch() -> Iterator[Explanation]:
    batch = "Print yours / expected for batches of 1, 2 and 4: right for 1, and then off by the batch size."
    yield FAMILY.symptom(
        "weight-no-mean",
        "The gradients of the weights are not divided by the batch, where those of the biases are.",
        "The delta is that of the sum, and one of the two parameters is averaged afterwards.",
        f"{BOTH}\n---\ndelta = (p - one_hot(y, z)) / len(z)",
        "dw = x.T @ delta\ndb = delta.mean(axis=0)\n---\ndelta = p - one_hot(y, z)",
        see=batch,
    )
    yield FAMILY.symptom(
        "bias-no-mean",
        "The gradients of the biases are not divided by the batch, where those of the weights are.",
        "The delta is that of the sum, and one of the two parameters is averaged afterwards.",
        f"{BOTH}\n---\ndelta = (p - one_hot(y, z)) / len(z)",
        "dw = x.T @ delta / len(x)\ndb = delta.sum(axis=0)\n---\ndelta = p - one_hot(y, z)",
        see=batch,
    )
    yield FAMILY.symptom(
        "weight-mean",
        "The gradients of the weights are divided by the batch once more.",
        "Where the loss is a mean, the delta is divided already: dw is a sum over the samples, and no mean.",
        DW,
        "dw = x.T @ delta / len(x)",
        see=batch,
    )
    yield FAMILY.symptom(
        "bias-mean",
        "The gradients of the biases are averaged over the batch, where they are to be added up.",
        "z = x W + b uses the bias once for every sample, and the gradients of all uses add up. Where the loss is a "
        "mean, the delta is divided by the batch already. With one sample nothing is wrong.",
        DB,
        "db = delta.mean(axis=0)",
        see=batch,
        alike="A delta that is that of the sum: then the weights are wrong and not the biases (weight-no-mean).",
    )


def _factors() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "twice",
        "The gradients are twice what they should be.",
        "A factor 2 too many, or the same gradient added up twice: two calls of backward without setting it to 0, or "
        "a layer that is visited twice.",
        BOTH,
        "dw = 2 * x.T @ delta\ndb = 2 * delta.sum(axis=0)",
        torch=Lines(
            "cost.backward(upstream)",
            "cost.backward(upstream, retain_graph=True)\ncost.backward(upstream)",
        ),
    )
    for name, line, wrong in (
        ("weight", DW, "dw = 2 * x.T @ delta"),
        ("bias", DB, "db = 2 * delta.sum(axis=0)"),
    ):
        yield FAMILY.symptom(
            f"{name}-twice",
            f"The gradients of the {'weights' if name == 'weight' else 'biases'} are twice what they should be, and "
            f"all "
            "else is right.",
            "A factor 2 of a squared error, or of a penalty, stands in one of the two lines; or it is added up twice.",
            line,
            wrong,
        )
    yield FAMILY.symptom(
        "half",
        "The gradients are half of what they should be.",
        "A factor 1/2 that belongs to another cost, or = where += belongs: of two paths to a parameter one is lost.",
        BOTH,
        "dw = 0.5 * x.T @ delta\ndb = 0.5 * delta.sum(axis=0)",
    )
    for name, line, wrong in (
        ("weight", DW, "dw = 0.5 * x.T @ delta"),
        ("bias", DB, "db = 0.5 * delta.sum(axis=0)"),
    ):
        yield FAMILY.symptom(
            f"{name}-half",
            f"The gradients of the {'weights' if name == 'weight' else 'biases'} are half of what they should be, and "
            "all else is right.",
            "A factor 1/2 stands in one of the two lines, or one of two contributions is lost.",
            line,
            wrong,
        )
    for name, line, wrong in (
        ("weight", DW, "dw = -x.T @ delta"),
        ("bias", DB, "db = -delta.sum(axis=0)"),
    ):
        yield FAMILY.symptom(
            f"{name}-minus",
            f"The sign of the gradients of the {'weights' if name == 'weight' else 'biases'} is wrong, and all else is "
            "right.",
            "The minus of the update, w -= rate * dw, is in one of the gradients already.",
            line,
            wrong,
            see="Take one small step against this gradient alone: the cost falls.",
        )
    yield FAMILY.symptom(
        "constant-factor",
        "The gradients are a constant times what they should be, the same whatever the batch and the network.",
        "A learning rate, a loss scale or a unit of measurement is in the gradient. The number is told in the finding.",
        BOTH,
        "dw = 0.01 * x.T @ delta\ndb = 0.01 * delta.sum(axis=0)",
    )
    yield FAMILY.symptom(
        "loss-scale",
        "A loss scale, a power of two, is not divided out of the gradients.",
        "Training in float16 multiplies the cost by a large power of two to keep small gradients from underflowing. "
        "The gradients have to be divided by it before they are used or clipped.",
        GRADS["numpy"],
        'grads = {"0.weight": 1024 * dw0, "0.bias": 1024 * db0, "2.weight": 1024 * dw2, "2.bias": 1024 * db2}',
        torch=Lines(GRADS["torch"], "grads = {path: 1024 * leaf.grad.numpy() for path, leaf in leaves.items()}"),
        jax=Lines(GRADS["jax"], "grads = {path: np.asarray(1024 * gradient) for path, gradient in grads.items()}"),
    )


def _zeros() -> Iterator[Explanation]:
    zeros = "Print the arrays before they are returned: are they ever written to?"
    yield FAMILY.symptom(
        "zeros",
        "The gradients are 0: they are never computed, or what is returned is the array that was made for them.",
        "`dw += ...` on a copy, a result that is assigned to another name, a tensor that is cut off from the graph.",
        BOTH,
        "dw = np.zeros_like(w)\ndb = np.zeros_like(w[0])",
        see=zeros,
    )
    yield FAMILY.symptom(
        "weight-missing",
        "The gradients of the weights are 0: dC/dW = x^T delta is missing.",
        "The biases learn and the weights do not, which shows as a training that stops early.",
        DW,
        "dw = np.zeros_like(w)",
        see=zeros,
    )
    yield FAMILY.symptom(
        "bias-missing",
        "The gradients of the biases are 0.",
        "The network learns without them, a little worse. Nobody notices.",
        DB,
        "db = np.zeros_like(w[0])",
        see=zeros,
    )


def _more() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "exchanged",
        "The gradients of layers of the same shape are exchanged.",
        "The backward pass goes from the last layer to the first: a list of what it gives is in the opposite order.",
        GRADS["numpy"],
        'grads = {"0.weight": dw2, "0.bias": db2, "2.weight": dw0, "2.bias": db0}',
        program="square layers",
        torch=Lines(
            GRADS["torch"],
            "grads = {path: leaves[{'0': '2', '2': '0'}[path[0]] + path[1:]].grad.numpy() for path in leaves}",
        ),
        jax=Lines(
            GRADS["jax"],
            "grads = {path: np.asarray(grads[{'0': '2', '2': '0'}[path[0]] + path[1:]]) for path in grads}",
        ),
        see="Give the layers different widths: then the shapes do not fit any more.",
    )
    yield FAMILY.symptom(
        "l2-added",
        "A weight decay is in the gradients: a multiple of the parameters is added. The rate is told in the finding.",
        "The cost that is asked for has no penalty. In the update the same line is right.",
        DW,
        "dw = x.T @ delta + 0.01 * w",
        alike="A cost with the penalty in it, on purpose: gradconform's networks have none, so leave it out here.",
    )
    yield FAMILY.symptom(
        "l1-added",
        "A multiple of the sign of the parameters is in the gradients: an absolute penalty that the cost has not.",
        "The cost that is asked for has no penalty. In the update the same line is right.",
        GRADS["numpy"],
        'grads = {"0.weight": dw0, "0.bias": db0, "2.weight": dw2, "2.bias": db2}\n'
        "grads = {path: g + 0.01 * np.sign(parameters[path]) for path, g in grads.items()}",
        torch=Lines(
            GRADS["torch"],
            "grads = {path: (leaf.grad + 0.01 * leaf.sign()).detach().numpy() for path, leaf in leaves.items()}",
        ),
        jax=Lines(
            GRADS["jax"],
            "grads = {path: np.asarray(gradient + 0.01 * jnp.sign(leaves[path])) for path, gradient in grads.items()}",
        ),
    )
    yield FAMILY.symptom(
        "clipped",
        "Gradients are clipped, by value or by norm. The limit is told in the finding.",
        "Small gradients are right, large ones are cut off, so that it shows now and then alone.",
        GRADS["numpy"],
        'grads = {"0.weight": dw0, "0.bias": db0, "2.weight": dw2, "2.bias": db2}\n'
        "grads = {path: np.clip(g, -0.1, 0.1) for path, g in grads.items()}",
        torch=Lines(
            GRADS["torch"],
            "torch.nn.utils.clip_grad_value_(leaves.values(), 0.1)\n" + GRADS["torch"],
        ),
        jax=Lines(
            GRADS["jax"],
            "grads = {path: np.asarray(jnp.clip(gradient, -0.1, 0.1)) for path, gradient in grads.items()}",
        ),
        alike="Clipping is right in the update: return the gradient as it is, and clip what comes of it.",
    )
