"""Explanations: an activation's derivative, and which function it is of."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explained_programs import ACTIVATIONS, Lines
from gradconform.conformance.explanation import Explanation, Family

FAMILY = Family(
    "Activations",
    "Take one number z, compute a = sigma(z) at z + h and z - h, and compare (a+ - a-) / 2h with the derivative that "
    "your backward pass multiplies in.",
    "At a kink, as at z = 0 of a ReLU, every value between the two one-sided derivatives is right (KINK).",
)
BACK = {name: backward for name, (_, backward) in ACTIVATIONS.items()}
AHEAD = {name: forward for name, (forward, _) in ACTIVATIONS.items()}


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each symptom of this kind."""
    yield from _derivative()
    yield from _formula()
    yield from _one_sided()
    yield from _products()
    yield from _softmax()
    yield from _whole()


def _derivative() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "derivative-missing",
        "sigma'(z) is left out in the backward pass: the delta goes through the activation as it is.",
        "The layer is differentiated as if it were the identity. Near z = 0, where tanh is nearly that, it hardly "
        "shows.",
        BACK["Tanh"],
        "delta_z = delta",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "derivative-at-output",
        "The derivative is taken at the output a instead of the pre-activation z.",
        "sigma'(sigma(z)): a function that wants z was given a, which is what is at hand in the backward pass.",
        BACK["Tanh"],
        "delta_z = delta * (1 - np.tanh(a) ** 2)",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "derivative-twice",
        "sigma'(z) is multiplied in twice.",
        "Once by the activation, and once more by the layer below it or by the loss. Gradients vanish twice as fast.",
        BACK["Tanh"],
        "delta_z = delta * (1 - a**2) ** 2",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "upstream-squared",
        "The delta from above is multiplied in twice.",
        "A backward pass is linear in what comes from above. Here small deltas vanish and large ones explode.",
        BACK["Tanh"],
        "delta_z = delta * delta * (1 - a**2)",
        program="Tanh",
        see="Double the delta from above: the one below doubles, and does not become four times as large.",
    )
    yield FAMILY.symptom(
        "activation-upstream-ignored",
        "The delta from above is ignored: sigma'(z) alone is handed down.",
        "It is the derivative of the layer, and not that of the cost. Tests that send ones from above do not see it.",
        BACK["Tanh"],
        "delta_z = 1 - a**2",
        program="Tanh",
        see="Send zeros from above: zeros must come out below.",
    )
    yield FAMILY.symptom(
        "function-for-derivative",
        "The backward pass multiplies with the function where its derivative belongs.",
        "sigma and sigma' are easily confused in code where both are called f.",
        BACK["Tanh"],
        "delta_z = delta * a",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "kink-derivative",
        "The derivative at exactly 0 is one that no convention has.",
        "Between the one-sided derivatives everything is right: 0, 1 or 1/2 for a ReLU. What lies outside is not.",
        BACK["ReLU"],
        "delta_z = delta * (z > 0) + 2 * delta * (z == 0)",
        program="ReLU",
        alike="0, 1 and 1/2 at the kink of a ReLU are conventions and no findings: the run tells which one yours is.",
    )


def _formula() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "output-formula-at-z",
        "The derivative is written for the output a, and is given the pre-activation z.",
        "1 - a**2 and a (1 - a) are formulas of the output. With z in its place the derivative gets negative or "
        "larger than 1.",
        BACK["Tanh"],
        "delta_z = delta * (1 - z**2)",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "one-minus-output",
        "The derivative is 1 - a: a factor is missing.",
        "Of the sigmoid's a (1 - a) the first one, of the tanh's (1 - a)(1 + a) the second one, or the square of a.",
        BACK["Tanh"],
        "delta_z = delta * (1 - a)",
        program="Tanh",
    )
    yield FAMILY.symptom(
        "output-as-derivative",
        "The derivative of the sigmoid is a: its factor 1 - a is missing.",
        "Saturated units, whose derivative is to be 0, hand everything down.",
        BACK["Sigmoid"],
        "delta_z = delta * a",
        program="Sigmoid",
    )
    yield FAMILY.symptom(
        "other-derivative",
        "The backward pass of an activation has the derivative of another one.",
        "Tanh and sigmoid are exchanged most often: 1 - a**2 is the one, a (1 - a) the other. A copy of a layer of "
        "which the forward pass alone was changed.",
        BACK["Sigmoid"],
        "delta_z = delta * (1 - a**2)",
        program="Sigmoid",
    )


def _one_sided() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "mask-inverted",
        "The derivative is that of the other side of 0: the mask is the wrong way round.",
        "What is to pass is stopped, and what is to be stopped passes. Units that are off learn, and others do not.",
        BACK["ReLU"],
        "delta_z = delta * (z < 0)",
        program="ReLU",
    )
    yield FAMILY.symptom(
        "mask-from-delta",
        "The delta is masked by its own sign instead of that of z.",
        "That is guided backpropagation, a picture of what a network looks at, and no gradient.",
        BACK["ReLU"],
        "delta_z = delta * (delta > 0)",
        program="ReLU",
    )
    yield FAMILY.symptom(
        "negative-side-lost",
        "Below 0 the derivative is 0 as in a ReLU, where there is a slope.",
        "The mask of a ReLU was kept when the activation was changed. What the slope is for, that units do not die, "
        "is lost.",
        BACK["LeakyReLU"],
        "delta_z = delta * (z > 0)",
        program="LeakyReLU",
    )
    yield FAMILY.symptom(
        "leaky-slope",
        "The slope below 0 is taken to be 0.01, whatever the layer says.",
        "The default is written into the code: any other slope is wrong below 0.",
        BACK["LeakyReLU"],
        "delta_z = np.where(z > 0, delta, 0.01 * delta)",
        program="LeakyReLU",
    )
    yield FAMILY.symptom(
        "elu-alpha",
        "ELU's alpha is left out, or taken to be 1.",
        "Below 0 the derivative is alpha exp(z). With alpha = 1, the default, nothing is wrong.",
        BACK["ELU"],
        "delta_z = np.where(z > 0, delta, delta * np.exp(z))",
        program="ELU",
    )
    yield FAMILY.symptom(
        "elu-output-plus-one",
        "Below 0 the derivative of ELU is written a + 1, where it is a + alpha.",
        "a = alpha (exp(z) - 1), so that a + alpha = alpha exp(z). With alpha = 1 both are the same.",
        "delta_z = np.where(z > 0, delta, delta * (a + ALPHA))",
        "delta_z = np.where(z > 0, delta, delta * (a + 1))",
        at=BACK["ELU"],
        program="ELU",
    )


def _products() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "product-term-missing",
        "Of the derivative of a product, z sigma(z), one of the two terms is missing.",
        "(uv)' = u'v + uv'. Both factors depend on z: sigma(z) + z sigma'(z).",
        "delta_z = delta * (s + z * s * (1 - s))",
        "delta_z = delta * s",
        program="SiLU",
    )
    yield FAMILY.symptom(
        "gelu-mixed",
        "GELU goes forward in one form and backward in the other, of the exact one (erf) and its approximation (tanh).",
        "They differ by up to 0.0005, which any usual tolerance lets pass.",
        "delta_z = delta * (cdf + z * pdf)",
        "k = math.sqrt(2 / math.pi)\n"
        "t = np.tanh(k * (z + 0.044715 * z**3))\n"
        "delta_z = delta * (0.5 * (1 + t) + 0.5 * z * (1 - t * t) * k * (1 + 0.134145 * z * z))",
        program="GELU",
    )
    yield FAMILY.symptom(
        "quick-gelu",
        "GELU, or its derivative alone, is that of z sigma(1.702 z).",
        "An approximation that is off by up to 0.02. Some published models are trained with it: there it is the layer.",
        "delta_z = delta * (cdf + z * pdf)",
        "s = 1 / (1 + np.exp(-1.702 * z))\ndelta_z = delta * (s + 1.702 * z * s * (1 - s))",
        program="GELU",
    )
    yield FAMILY.symptom(
        "other-gelu",
        "GELU is computed in the other form, erf or tanh, than the network says, forward and backward.",
        "PyTorch's default is the exact form, JAX's the tanh one: the same name stands for two functions.",
        f"{AHEAD['GELU']}\n---\n{BACK['GELU']}",
        f"{AHEAD['GELU of tanh']}\n---\n{BACK['GELU of tanh']}",
        program="GELU",
        torch=Lines(
            "a0 = torch.nn.functional.gelu(z0)",
            'a0 = torch.nn.functional.gelu(z0, approximate="tanh")',
            "a0 = Activation.apply(z0)",
        ),
        jax=Lines("a0 = jax.nn.gelu(z0, approximate=False)", "a0 = jax.nn.gelu(z0)", "a0 = activate(z0)"),
        alike="A network that is meant to have the tanh form: write GELU(approximate=tanh).",
    )


def _softmax() -> Iterator[Explanation]:
    right = BACK["Softmax"]
    yield FAMILY.symptom(
        "softmax-sign",
        "The two terms of the softmax's Jacobian are added, where the second one is subtracted.",
        "dp_i/dz_j = p_i (1[i = j] - p_j): the probabilities add up to 1, so that what one gains the others lose.",
        right,
        "delta_z = a * (delta + (a * delta).sum(axis=1, keepdims=True))",
        program="Softmax",
    )
    yield FAMILY.symptom(
        "softmax-misaligned",
        "The softmax's Jacobian is that of another sample.",
        "The probabilities are taken from another row than the delta: an index that is off by one, or a cache of the "
        "sample before.",
        right,
        "a = np.roll(a, 1, 0)\ndelta_z = a * (delta - (a * delta).sum(axis=1, keepdims=True))",
        program="Softmax",
    )
    yield FAMILY.symptom(
        "softmax-missing",
        "The softmax's Jacobian is left out: the delta is handed on as it is.",
        "That is right for p - y, which is the delta of the logits already, and for no other loss.",
        right,
        "delta_z = delta",
        program="Softmax",
        alike="A softmax and a cross entropy that are differentiated as one: then the network is to say "
        "SoftmaxCrossEntropy, without a Softmax layer.",
    )
    yield FAMILY.symptom(
        "softmax-mean",
        "In the softmax's backward pass the sum of d stands where the sum of p d belongs.",
        "The weighted mean of the deltas, with the probabilities as weights, is subtracted from each of them.",
        right,
        "delta_z = a * (delta - delta.sum(axis=1, keepdims=True))",
        program="Softmax",
    )


def _whole() -> Iterator[Explanation]:
    yield FAMILY.symptom(
        "other-forward",
        "The forward pass computes another activation than the network says, and the backward pass is right.",
        "Cost and gradient belong to two networks.",
        AHEAD["Tanh"],
        AHEAD["Sigmoid"],
        program="Tanh",
    )
    yield FAMILY.symptom(
        "other-activation",
        "Another activation is computed than the network says, forward and backward.",
        "The code is right, of another network: a difference quotient of it passes.",
        f"{AHEAD['Tanh']}\n---\n{BACK['Tanh']}",
        f"{AHEAD['Sigmoid']}\n---\n{BACK['Sigmoid']}",
        program="Tanh",
        torch=Lines("a0 = torch.tanh(z0)", "a0 = torch.sigmoid(z0)", "a0 = Activation.apply(z0)"),
        jax=Lines("a0 = jnp.tanh(z0)", "a0 = jax.nn.sigmoid(z0)", "a0 = activate(z0)"),
        alike="A --network on the command line that names another activation than the code has.",
    )
    yield FAMILY.symptom(
        "activation-missing",
        "The activation is left out, forward and backward.",
        "Two linear layers in a row are one: the network learns what a linear model can.",
        f"{AHEAD['Tanh']}\n---\n{BACK['Tanh']}",
        "a = z + 0\n---\ndelta_z = delta",
        program="Tanh",
        torch=Lines("a0 = torch.tanh(z0)", "a0 = z0", "a0 = Activation.apply(z0)"),
        jax=Lines("a0 = jnp.tanh(z0)", "a0 = z0", "a0 = activate(z0)"),
    )
