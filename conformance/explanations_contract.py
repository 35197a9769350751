"""Explanations: what says itself what is wrong (names, shapes, types, memory, calls), and patterns of an error."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import Lines
from gradconform.conformance.explanation import GRADS, Explanation, Family

FAMILY = Family(
    "What says itself what is wrong",
    "Print path, shape and dtype of everything that is returned, beside network.parameters().",
    "Another shape or name of the same gradient, on purpose: gradients.conventions, or one line in the function that "
    "is checked.",
)
PATTERNS = Family(
    "Patterns",
    "Print the smallest case of the finding and go backwards from the array that is wrong.",
    "An overflow of what no float can hold: that is counted as `range`, and is no failure.",
)
NUMPY, TORCH, JAX = GRADS["numpy"], GRADS["torch"], GRADS["jax"]
WEIGHTS = 'grads = {"0.weight": dw0, "2.weight": dw2}'
LEAVES = "leaves = {path: torch.tensor(array, requires_grad=True) for path, array in parameters.items()}"
UPDATE = "with torch.no_grad():\n    for leaf in leaves.values():\n        leaf -= 0.1 * leaf.grad"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _memory()
    yield from _calls()
    yield from _shapes()
    yield from _names()
    yield from _patterns()


def _memory() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "aliased",
        "What is returned is memory that is not its own: the caller's, or a buffer that the next call writes into.",
        "Whoever keeps two results, as in accumulating or averaging, has the second one twice.",
        NUMPY,
        f"{NUMPY}\nfor path, g in grads.items():\n    KEPT.setdefault(path, np.empty_like(g))[...] = g\n"
        "grads = dict(KEPT)",
        program="fixed widths",
        torch=Lines(
            TORCH,
            "for path, leaf in leaves.items():\n    KEPT.setdefault(path, "
            "torch.empty_like(leaf.grad)).copy_(leaf.grad)\n"
            "grads = {path: buffer.numpy() for path, buffer in KEPT.items()}",
        ),
        without=("jax",),
        see="Keep the result of one call, make another one, and look at the first again.",
        alike="A view of an array that was made in this very call: that is fine.",
    )
    yield FAMILY.symptom(
        "mutated",
        "What is handed over is written into.",
        "`-=` works in place: the caller's array is changed. In-place normalising and updating are the usual places.",
        f"{NUMPY}\nw0 = w0 - 0.1 * dw0",
        f"{NUMPY}\nw0 -= 0.1 * dw0",
        at=NUMPY,
        torch=Lines(
            f"{LEAVES}\n---\n{TORCH}\n{UPDATE}",
            f"{LEAVES.replace('torch.tensor(array, requires_grad=True)', 'torch.from_numpy(array).requires_grad_()')}\n"
            f"---\n{TORCH}\n{UPDATE}",
            f"{LEAVES}\n---\n{TORCH}",
        ),
        without=("jax",),
        see="Compare the inputs and the parameters before and after the call.",
    )
    yield FAMILY.symptom(
        "dtype",
        "The array has another type than the inputs.",
        "A default type on the way: float32 in PyTorch and, unless jax_enable_x64 is set, in JAX.",
        NUMPY,
        f"{NUMPY}\ngrads = {{path: g.astype(np.float32) for path, g in grads.items()}}",
        torch=Lines(TORCH, "grads = {path: leaf.grad.float().numpy() for path, leaf in leaves.items()}"),
        jax=Lines("with jax.enable_x64(True):", "with jax.enable_x64(False):"),
    )


def _calls() -> Iterator[Explanation]:
    calls = "A, B, A: call it with A, then with B, then with A again."
    yield FAMILY.symptom(
        "stateful",
        "Something is kept from call to call: a global, an attribute, a cache, a default argument.",
        "What was called before changes what comes out now, and none of the known ways to do that explains how.",
        NUMPY,
        f"{NUMPY}\nlast, KEPT['scale'] = KEPT.get('scale', 1.0), 1.0 + np.abs(x).max()\n"
        "grads = {path: g / last for path, g in grads.items()}",
        program="fixed widths",
        torch=Lines(
            TORCH,
            f"{TORCH}\nlast, KEPT['scale'] = KEPT.get('scale', 1.0), 1.0 + x.abs().max().item()\n"
            "grads = {path: g / last for path, g in grads.items()}",
        ),
        jax=Lines(
            JAX,
            f"{JAX}\nlast, KEPT['scale'] = KEPT.get('scale', 1.0), 1.0 + float(jnp.abs(x).max())\n"
            "grads = {path: g / last for path, g in grads.items()}",
        ),
        see=calls,
        alike="Batch normalisation in training: its running statistics belong to the layer, and change the next call "
        "in evaluation alone.",
    )
    yield FAMILY.symptom(
        "nondeterministic",
        "The same call gives something else each time.",
        "Randomness without a fixed seed, memory that is not filled, or threads that add up in any order.",
        NUMPY,
        f"{NUMPY}\nnoise = np.random.default_rng()\n"
        "grads = {path: g + 1e-6 * noise.standard_normal() for path, g in grads.items()}",
        torch=Lines(
            TORCH, "grads = {path: (leaf.grad + 1e-6 * torch.randn(())).numpy() for path, leaf in leaves.items()}"
        ),
        jax=Lines(
            JAX,
            "noise = np.random.default_rng()\n"
            "grads = {path: np.asarray(g) + 1e-6 * noise.standard_normal() for path, g in grads.items()}",
        ),
        see="Call it twice with the same arrays.",
        alike="Dropout: its mask is to come from outside, or the layer is checked in evaluation.",
    )
    now = "if KEPT['calls'] % 100 == 0:\n    grads = {path: 0 * g for path, g in grads.items()}"
    count = "KEPT['calls'] = KEPT.get('calls', 0) + 1"
    yield FAMILY.symptom(
        "now-and-then",
        "One call gave something else than all the others of the same.",
        "Something counts calls, was left by an earlier one, or happens now and then, as a garbage collection or a "
        "thread that comes late.",
        NUMPY,
        f"{NUMPY}\n{count}\n{now}",
        torch=Lines(TORCH, f"{TORCH}\n{count}\n{now}"),
        jax=Lines(JAX, f"{JAX}\n{count}\n{now}"),
        see="Make the same call a hundred times, and compare.",
    )


def _shapes() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "transposed-shape",
        "The gradient of the weight is (out, in): here weights are (in, out), with y = x @ weight + bias.",
        "torch.nn.Linear keeps the transpose. The numbers may be right.",
        NUMPY,
        'grads = {"0.weight": dw0.T, "0.bias": db0, "2.weight": dw2.T, "2.bias": db2}',
        torch=Lines(TORCH, "grads = {path: leaf.grad.T.numpy() for path, leaf in leaves.items()}"),
        jax=Lines(JAX, "grads = {path: np.asarray(gradient).T for path, gradient in grads.items()}"),
        alike='Weights that are (out, in) throughout: declare gradients.conventions = ("transposed",).',
    )
    yield FAMILY.symptom(
        "not-summed",
        "There is a gradient for each sample: they are not added up.",
        "dC/db is the sum of the deltas over the samples; the delta itself has one row for each of them.",
        "db = delta.sum(axis=0)",
        "db = delta",
        without=("torch", "jax"),
        alike="Gradients of single samples, on purpose, as for differential privacy: add them up for the check.",
    )
    yield FAMILY.symptom(
        "kept-axis",
        "There is an axis of length 1 too many.",
        "keepdims=True keeps the axis that was summed over: (1, units) is broadcast as (units,) would be, until "
        "something does not fit.",
        "db = delta.sum(axis=0)",
        "db = delta.sum(axis=0, keepdims=True)",
        without=("torch", "jax"),
    )
    yield FAMILY.symptom(
        "squeezed",
        "An axis of length 1 is lost.",
        "squeeze() takes away every axis of length 1: with one unit, or one input, the weight's gradient is a vector.",
        NUMPY,
        f"{NUMPY}\ngrads = {{path: np.squeeze(g) for path, g in grads.items()}}",
        torch=Lines(TORCH, "grads = {path: leaf.grad.squeeze().numpy() for path, leaf in leaves.items()}"),
        jax=Lines(JAX, "grads = {path: np.asarray(gradient).squeeze() for path, gradient in grads.items()}"),
    )
    yield FAMILY.symptom(
        "flattened",
        "The array is flat: it has the right elements and one axis.",
        "Optimisers take one long vector. What is returned here has the shape of its parameter.",
        NUMPY,
        f"{NUMPY}\ngrads = {{path: g.ravel() for path, g in grads.items()}}",
        torch=Lines(TORCH, "grads = {path: leaf.grad.flatten().numpy() for path, leaf in leaves.items()}"),
        jax=Lines(JAX, "grads = {path: np.asarray(gradient).ravel() for path, gradient in grads.items()}"),
    )


def _names() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "nothing-returned",
        "The dictionary is empty.",
        "It is filled under another name, or what was computed is returned beside it.",
        NUMPY,
        "grads = {}",
        torch=Lines(TORCH, "grads = {}"),
        jax=Lines(JAX, "grads = {}"),
    )
    yield FAMILY.symptom(
        "numbered-by-dense",
        "The layers with parameters are numbered on their own, where paths count all layers.",
        "In Dense -> Tanh -> Dense the second dense layer is number 2, since the activation is number 1; as in "
        "torch.nn.Sequential.",
        NUMPY,
        'grads = {"0.weight": dw0, "0.bias": db0, "1.weight": dw2, "1.bias": db2}',
        torch=Lines(TORCH, 'grads = {path.replace("2.", "1."): leaf.grad.numpy() for path, leaf in leaves.items()}'),
        jax=Lines(JAX, 'grads = {path.replace("2.", "1."): np.asarray(gradient) for path, gradient in grads.items()}'),
    )
    yield FAMILY.symptom(
        "not-returned",
        "For some parameters no gradient is returned: the finding lists them.",
        "Missing is not zero: an optimiser would leave them as they are.",
        NUMPY,
        WEIGHTS,
        torch=Lines(TORCH, "grads = {path: leaf.grad.numpy() for path, leaf in leaves.items() if leaf.ndim == 2}"),
        jax=Lines(
            JAX, "grads = {path: np.asarray(gradient) for path, gradient in grads.items() if gradient.ndim == 2}"
        ),
    )
    yield FAMILY.symptom(
        "extra-names",
        "More is returned than there are parameters: the finding lists the names.",
        "Deltas and losses have places of their own in gradconform.Gradients; the dictionary is for parameters alone.",
        NUMPY,
        f'{NUMPY}\ngrads["cost"] = cost',
        torch=Lines(TORCH, f'{TORCH}\ngrads["cost"] = cost.detach().numpy()'),
        jax=Lines(JAX, f'{JAX}\ngrads["cost"] = np.asarray(cost)'),
    )
    yield FAMILY.symptom(
        "wrong-names",
        "The gradients have other names than the parameters.",
        "They are returned under the paths under which the parameters came.",
        NUMPY,
        'grads = {"w0": dw0, "b0": db0, "w2": dw2, "b2": db2}',
        torch=Lines(TORCH, 'grads = {f"net.{path}": leaf.grad.numpy() for path, leaf in leaves.items()}'),
        jax=Lines(JAX, 'grads = {f"net.{path}": np.asarray(gradient) for path, gradient in grads.items()}'),
    )


def _patterns() -> Iterator[Explanation]:
    yield PATTERNS.symptom(
        "never-finite",
        "What is wrong is NaN or infinite whatever the numbers are.",
        "An array that is never filled, a division by 0, a logarithm of 0: no input makes it right.",
        "db = delta.sum(axis=0)",
        "db = delta.sum(axis=0) / (delta - delta).sum(axis=0)",
    )
    yield PATTERNS.symptom(
        "one-element",
        "One element alone is wrong each time, and everything around it is right.",
        "An index: an element that is written once more, or an edge that is off by one.",
        NUMPY,
        f"dw2[0, 0] += db2[0]\n{NUMPY}",
        torch=Lines(TORCH, f'leaves["2.weight"].grad[0, 0] += leaves["2.bias"].grad[0]\n{TORCH}'),
        jax=Lines(JAX, f'grads["2.weight"] = grads["2.weight"].at[0, 0].add(grads["2.bias"][0])\n{JAX}'),
    )
