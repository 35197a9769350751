"""Explanations of the checks: those of networks, those of a layer alone (`gradconform layer`), and the call itself."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explanation import Explanation

NETWORKS = "Checks of networks"
LAYERS = "Checks of a layer alone"
SEE = "Print this quantity in the smallest case of the finding: gradconform show ID --as numpy writes a script of it."
CONVENTION = "A convention that can be declared: docs/conventions.md."


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each check."""
    for word, meaning, why, see, alike in _networks():
        command = f"gradconform check TARGET --only {word}   # this check alone"
        yield Explanation(word, "check", NETWORKS, meaning, why, see or SEE, alike or CONVENTION, command)
    yield Explanation(
        "call",
        "check",
        NETWORKS,
        "The call itself: it returns a dictionary of gradients, in time, and leaves alone what it is given.",
        "What breaks here (CRASHED, TIMEOUT, MUTATED, ALIASED, NAME) leaves nothing, or nothing sure, to compare.",
        "The line `detail` of the finding.",
        "A network that is not supported: raise NotImplementedError.",
        "gradconform replay ID   # the call alone",
    )
    for word, meaning, why, see, alike in _layers():
        command = f"gradconform layer TARGET --only {word}   # this check alone"
        yield Explanation(word, "check", LAYERS, meaning, why, see or SEE, alike or CONVENTION, command)


def _networks() -> Iterator[tuple[str, str, str, str, str]]:
    yield (
        "outputs",
        "Every layer's output agrees with the reference: the forward pass.",
        "Where it fails, all that follows is wrong too: mend this first.",
        "",
        "Another form of the same activation, as of GELU.",
    )
    yield (
        "loss",
        "The cost agrees with the reference.",
        "A wrong reduction, a wrong factor, wrong labels. The gradients may be right all the same.",
        "",
        "",
    )
    yield (
        "output-delta",
        "dC/dz at the network's output agrees with the reference: the end point, from which all other deltas follow.",
        "Everything in the backward pass is linear in it: what is wrong here is wrong everywhere below, by the same "
        "factor.",
        "",
        "",
    )
    yield (
        "deltas",
        "The deltas of all other layers agree, from the last to the first.",
        "The first one that is wrong, from above, names the layer whose backward pass is wrong.",
        "",
        "At a kink both one-sided derivatives are right (KINK).",
    )
    yield (
        "parameters",
        "Every parameter's gradient agrees with the reference, from the last layer to the first.",
        "Where deltas are right and a parameter is not, the mistake is in the line that makes this gradient.",
        "",
        "",
    )
    yield (
        "input",
        "The gradient with respect to the network's input agrees.",
        "It is the delta that the first layer hands down: whoever stacks networks, or attacks them, needs it.",
        "",
        "",
    )
    yield (
        "delta-rows",
        "The output delta of a softmax cross entropy adds up to 0 over the classes of each sample.",
        "p and y both add up to 1. Where they do not, a label is missing, or the softmax is taken over the wrong axis.",
        "Print delta.sum(axis=1).",
        "Class weights, smoothing and ignored rows leave it at 0.",
    )
    yield (
        "batch-permutation",
        "The order of the samples does not matter.",
        "Something counts rows: an index, a first or last sample, a running sum.",
        "Reverse the batch, inputs and targets alike.",
        "",
    )
    yield (
        "class-permutation",
        "The order of the output units does not matter, as long as the targets follow.",
        "A class is treated by its number: a label shift, a first class that stands for nothing, a transposed weight.",
        "Exchange two columns of the last weight, and the labels alike.",
        "",
    )
    yield (
        "sum-of-samples",
        "The gradient of a batch is the weighted sum of the gradients of its samples.",
        "A sample that is left out, a mean that is taken twice, a softmax over the batch: samples must not see each "
        "other.",
        "Compare the gradient of two samples with half the sum of the two alone.",
        "Batch normalisation, in which samples do see each other: gradconform's networks have none.",
    )
    yield (
        "sample-twice",
        "A sample that stands twice in a batch gives the same mean, and twice the sum.",
        "Whether the batch is divided out, once and not twice, without any reference.",
        "Call it with one sample, and with the same one twice.",
        "",
    )
    yield (
        "cotangent-linearity",
        "The gradient is linear in the upstream gradient: scaled by -2, and split into two parts.",
        "A backward pass that ignores it, squares it, or drops its sign.",
        "Double batch.cotangent: everything doubles.",
        "",
    )
    yield (
        "repeatable",
        "The same call gives the same gradients again.",
        "Something adds up, is drawn at random, or is left in a buffer.",
        "Call it twice.",
        "Differences within rounding are no failure.",
    )
    yield (
        "stateless",
        "Calls with other batches in between change nothing.",
        "A cache, a buffer of the first batch's size, a parameter that is kept.",
        "A, B, A: compare the first and the last.",
        "",
    )


def _layers() -> Iterator[tuple[str, str, str, str, str]]:
    yield (
        "value",
        "Every output agrees with that of --reference.",
        "The forward pass is another function than the one that it stands for.",
        "",
        "",
    )
    yield (
        "returned",
        "There is one gradient for every input, of its shape and type.",
        "One too few, a None, a transposed one, or one of the batch that was not summed.",
        "",
        "An integer input, for which None is right.",
    )
    yield (
        "finite",
        "The gradient is finite where outputs and derivatives are.",
        "A division by 0, a log of 0, or inf times 0 in a branch that is not taken.",
        "",
        "A point where the derivative is infinite itself, as of sqrt at 0.",
    )
    yield (
        "repeat",
        "The same call again, with the same random numbers, gives the same.",
        "State, or memory that is not filled.",
        "",
        "Dropout with the same seed is expected to repeat.",
    )
    yield (
        "cotangent-zero",
        "A cotangent of zeros gives a gradient of zeros.",
        "The cotangent is not multiplied in, or something is added to the gradient.",
        "",
        "",
    )
    yield (
        "cotangent-sign",
        "A cotangent of the other sign gives the gradient of the other sign.",
        "abs, a square, or a mask that is made of the cotangent.",
        "",
        "",
    )
    yield (
        "cotangent-scale",
        "A cotangent 2, 2**40 or 2**-40 times as large scales the gradient.",
        "g * g, a clip, a threshold, a normalisation.",
        "",
        "A gradient that is clipped on purpose is no gradient any more.",
    )
    yield (
        "cotangent-sum",
        "The gradient for a sum of cotangents is the sum of their gradients.",
        "Only the first row is read, its mean is used, or its order matters.",
        "",
        "",
    )
    yield (
        "gradient",
        "Every input's gradient is the derivative of the forward pass, or that of --reference.",
        "A wrong formula in backward: `likely` compares it with the usual ones.",
        "",
        "A straight-through estimator, on purpose: give the function that it stands for as --reference.",
    )
    yield (
        "cotangent-layout",
        "Memory of the cotangent with stride 0, transposed or spread does not matter.",
        "A kernel that reads memory as if it were contiguous: .sum() hands down an expanded 1.",
        "Call .contiguous() first: the difference goes.",
        "",
    )
    yield (
        "input-layout",
        "Transposed, spread or expanded memory of the inputs does not matter.",
        "A kernel that reads memory as if it were contiguous.",
        "Call .contiguous() first: the difference goes.",
        "",
    )
    yield (
        "needs-input-grad",
        "Whichever inputs a gradient is asked for, it is the same.",
        "ctx.needs_input_grad is read for the wrong argument, or what one needs is saved for another alone.",
        "",
        "",
    )
    yield (
        "interleave",
        "Another call between forward and backward changes nothing.",
        "What backward needs is kept on the class or the module, and not in ctx.",
        "Two forwards, then two backwards.",
        "",
    )
    yield (
        "keep",
        "What a call returned is not overwritten by the next one.",
        "A buffer that is used again is returned itself.",
        "Keep a result, make another call, and look at the first one again.",
        "",
    )
    yield (
        "jit",
        "The compiled program's gradient is the same.",
        "Python values that are taken for constants, or a branch on a number.",
        "",
        "Differences within rounding: the compiler fuses, and that is no failure.",
    )
    yield (
        "vmap",
        "A batch by vmap gives what a loop gives.",
        "An axis that is counted from the wrong end, or a sum over all of them.",
        "",
        "",
    )
    yield (
        "forward-mode",
        "Forward mode, where it exists, agrees.",
        "jvp and backward are two formulas, of which one was changed.",
        "",
        "",
    )
    yield (
        "second-order",
        "The derivative of the backward pass, where it exists, is right.",
        "A part of backward is cut off from the graph, as what was computed with .data or outside of it.",
        "",
        "A backward that cannot be differentiated says so with once_differentiable.",
    )
    yield (
        "mutation",
        "Neither pass writes into the inputs or the cotangent.",
        "In-place arithmetic on what was handed over.",
        "",
        "",
    )
