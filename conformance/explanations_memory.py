"""Explanations: what is kept from one call to the next."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import GRADS, Explanation, Family

FAMILY = Family(
    "Memory between calls",
    "Call it with A, then with B, then with A again, in one process: the first and the last result are the same. A "
    "test that calls once never sees it.",
    "An optimiser, which keeps its moments on purpose: that belongs into the update (gradconform.from_update).",
)
GIVEN = "x, y, upstream = batch.inputs, batch.targets, batch.cotangent"
LAST = "da0, dw2, db2 = dense_backward(a0, w2, z2, delta2)"
FIRST = "_, dw0, db0 = dense_backward(x, w0, z0, delta0)"
TORCH_GIVEN = "x, y = torch.tensor(batch.inputs), torch.tensor(batch.targets)"
JAX_GIVEN = "x, y = jnp.asarray(batch.inputs), jnp.asarray(batch.targets)"
NUMPY_LEAVES = 'w0, b0 = parameters["0.weight"], parameters["0.bias"]'
TORCH_LEAVES = "leaves = {path: torch.tensor(array, requires_grad=True) for path, array in parameters.items()}"
JAX_LEAVES = "leaves = {path: jnp.asarray(array) for path, array in parameters.items()}"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _sums()
    yield from _stale()
    yield from _sizes()


def _all(wrong: str) -> dict[str, Lines]:
    """Return what stands behind the gradients of PyTorch and of JAX alike."""
    return {
        "torch": Lines(GRADS["torch"], f"{GRADS['torch']}\n{wrong}"),
        "jax": Lines(GRADS["jax"], f"{GRADS['jax']}\n{wrong}"),
    }


def _sums() -> Iterator[Explanation]:
    added = "for path, g in grads.items():\n    KEPT[path] = KEPT.get(path, 0) + g\ngrads = dict(KEPT)"
    yield FAMILY.symptom(
        "accumulates",
        "Gradients add up over the calls: each returns the sum of its own and of all before.",
        "`+=` into arrays that live longer than the call, or a backward without zero_grad. The first call is right.",
        GRADS["numpy"],
        f"{GRADS['numpy']}\n{added}",
        program="fixed widths",
        torch=Lines(
            f"{TORCH_LEAVES}\n---\n{GRADS['torch']}",
            "for path, array in parameters.items():\n"
            "    leaf = KEPT.setdefault(path, torch.tensor(array, requires_grad=True))  # and no zero_grad\n"
            "    leaf.data = torch.tensor(array)\n"
            "leaves = dict(KEPT)\n---\n"
            "grads = {path: leaf.grad.clone().numpy() for path, leaf in leaves.items()}",
        ),
        jax=_all(added)["jax"],
        alike="Accumulating over several batches on purpose: that is done outside, with what is returned.",
    )
    velocity = "for path, g in grads.items():\n    KEPT[path] = 0.9 * KEPT.get(path, 0) + g\ngrads = dict(KEPT)"
    yield FAMILY.symptom(
        "momentum",
        "What was returned before, times 0.9, is added to each call's gradients: momentum.",
        "What is returned is the step of an optimiser, and not the gradient. The first call is right.",
        GRADS["numpy"],
        f"{GRADS['numpy']}\n{velocity}",
        program="fixed widths",
        torch=_all(velocity)["torch"],
        jax=_all(velocity)["jax"],
    )
    cold = "if network not in KEPT:\n    KEPT[network] = grads = {path: 0 * g for path, g in grads.items()}"
    yield FAMILY.symptom(
        "cold-start",
        "The first call for a network returns zeros.",
        "It sets something up, compiles or allocates, and forgets to compute. Whoever warms up before measuring never "
        "sees it.",
        GRADS["numpy"],
        f"{GRADS['numpy']}\n{cold}",
        torch=_all(cold)["torch"],
        jax=_all(cold)["jax"],
    )


def _stale() -> Iterator[Explanation]:
    old = "parameters = KEPT.setdefault(network, parameters)"
    yield FAMILY.symptom(
        "stale-parameters",
        "The parameters of the first call, or of the one before, are used.",
        "A copy is made where the object is, in a constructor or a closure, and the update never reaches it. A "
        "compiled function that has taken them for constants does the same.",
        NUMPY_LEAVES,
        f"{old}\n{NUMPY_LEAVES}",
        torch=Lines(TORCH_LEAVES, f"{old}\n{TORCH_LEAVES}"),
        jax=Lines(JAX_LEAVES, f"{old}\n{JAX_LEAVES}"),
    )
    yield FAMILY.symptom(
        "stale-result",
        "The result of an earlier call is returned for a batch of the same size.",
        "A cache whose key is the shape, or the identity of an array, and not the numbers.",
        GRADS["numpy"],
        f"{GRADS['numpy']}\ngrads, cost = KEPT.setdefault((network, len(x)), (grads, cost))",
        torch=Lines(GRADS["torch"], f"{GRADS['torch']}\ngrads = KEPT.setdefault((network, len(x)), grads)"),
        jax=Lines(GRADS["jax"], f"{GRADS['jax']}\ngrads = KEPT.setdefault((network, len(x)), grads)"),
    )
    batch = (
        'last, KEPT["batch"] = KEPT.get("batch", batch), batch\nbatch = last if last.rows == batch.rows else batch\n'
    )
    yield FAMILY.symptom(
        "stale-batch",
        "The batch of the call before is used.",
        "A buffer is filled after it is read, or on another thread. Repeating the same batch hides it.",
        GIVEN,
        batch + GIVEN,
        program="fixed widths",
        torch=Lines(TORCH_GIVEN, batch + TORCH_GIVEN),
        jax=Lines(JAX_GIVEN, batch + JAX_GIVEN),
    )
    targets = '\nlast, KEPT["y"] = KEPT.get("y", y), y\ny = last if len(last) == len(y) else y'
    yield FAMILY.symptom(
        "stale-targets",
        "The targets of the call before are used, with the inputs of this one.",
        "Inputs and targets come from two queues, or two loaders, of which one is a step behind.",
        GIVEN,
        GIVEN + targets,
        program="fixed widths",
        torch=Lines(TORCH_GIVEN, TORCH_GIVEN + targets),
        jax=Lines(JAX_GIVEN, JAX_GIVEN + targets),
    )
    yield FAMILY.symptom(
        "stale-activations",
        "The gradients of weights take the activations of the call before.",
        "The cache of the forward pass is filled after the backward pass has read it, or by another instance. Biases "
        "are right.",
        f"{LAST}\n---\n{FIRST}",
        "(old_x, old_a0), KEPT[network, len(x)] = KEPT.get((network, len(x)), (x, a0)), (x, a0)\n"
        f"{LAST.replace('(a0', '(old_a0')}\n---\n{FIRST.replace('(x', '(old_x')}",
        without=("torch", "jax"),
    )


def _sizes() -> Iterator[Explanation]:
    delta = "delta = (p - one_hot(y, z)) / len(z)"
    yield FAMILY.symptom(
        "stale-batch-size",
        "The mean divides by the size of the batch before.",
        "A number that is set in the forward pass of another call. It shows at the last, smaller batch of an epoch.",
        delta,
        'n, KEPT["n"] = KEPT.get("n", len(z)), len(z)\ndelta = (p - one_hot(y, z)) / n',
        program="fixed widths",
    )
    first = "\nn = KEPT.setdefault(network, len(x))\nx, y = x[:n], y[:n]"
    yield FAMILY.symptom(
        "stale-shape",
        "Buffers are as large as the first batch was: of a larger one the samples behind that are left out.",
        "They are made once, in a constructor or at the first call. Batches that are no larger are right.",
        GIVEN,
        GIVEN + first,
        torch=Lines(
            TORCH_GIVEN,
            "n = KEPT.setdefault(network, len(batch.inputs))\nbatch = batch.take(slice(0, n))\n" + TORCH_GIVEN,
        ),
        jax=Lines(JAX_GIVEN, JAX_GIVEN + first),
    )
