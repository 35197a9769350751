"""Explanations of the verdict words: of an array, of an element, and of a run."""

from __future__ import annotations

from collections.abc import Iterator

from gradconform.conformance.explanation import NEXT, Explanation

ARRAYS = "Verdicts on an array or a call"
ELEMENTS = "How an element ended"
RUNS = "Verdicts on a run"
AGAIN = "gradconform replay ID   # the same case again, after the change"
NOTHING_TO_DO = "gradconform check --coverage   # what was met, and what was not"


def explanations() -> Iterator[Explanation]:
    """Yield what is known of each verdict word."""
    for word, meaning, why, see, alike, command in _arrays():
        yield Explanation(word, "verdict", ARRAYS, meaning, why, see, alike, command)
    for word, meaning, why, see, alike in _elements():
        yield Explanation(word, "verdict", ELEMENTS, meaning, why, see, alike, NOTHING_TO_DO)
    for word, meaning, why, see, alike, command in _runs():
        yield Explanation(word, "verdict", RUNS, meaning, why, see, alike, command)


def _arrays() -> Iterator[tuple[str, str, str, str, str, str]]:
    yield (
        "WRONG",
        "An element differs from the exact one by more than rounding can explain.",
        "The bound is made for this element of this case: any summation order and any usual kernel stays below it. A "
        "ratio of 1e9 is a mistake in a formula; one of 1.5 is a shorter type or a function with few digits.",
        "The lines `worst element` and `error / bound` of the finding; `likely` names the mistake, if it has a name.",
        "A convention, such as half the squared error: it is named as what it is, and can be declared.",
        NEXT,
    )
    yield (
        "SHAPE",
        "An array has another shape than its parameter.",
        "Weights are (in, out), biases (units,), samples are rows. Nothing of it is compared before the shape is "
        "right.",
        "Print the shapes of what is returned, beside network.parameters().",
        "The transpose, (out, in), throughout: declare the convention transposed.",
        AGAIN,
    )
    yield (
        "NAME",
        "The gradient of a parameter is missing, or something is returned that is no parameter.",
        "Paths count all layers, activations too: 0.weight, 0.bias, 2.weight. Missing is not zero.",
        "Print the keys of what is returned, beside network.parameters().",
        "A layer that is frozen on purpose: its gradient exists all the same, and is asked for.",
        AGAIN,
    )
    yield (
        "DTYPE",
        "An array has another type than the inputs, or is not made of numbers.",
        "A default type on the way, an array of objects, a tensor on another device.",
        "Print the dtype of every array on the way.",
        "A candidate of one type alone: declare it with gradients.dtypes, and no other is drawn.",
        AGAIN,
    )
    yield (
        "NONFINITE",
        "An element is NaN or infinite where the exact value is finite, and where no overflow on the way excuses it.",
        "exp of a large number, log of 0, 0 / 0, inf - inf: a formula that is right in mathematics and not in floats.",
        "Go through the forward pass of the case with np.errstate(all='raise').",
        "An overflow that nobody can avoid in this type: it is counted as `range`, and is no failure.",
        NEXT,
    )
    yield (
        "MUTATED",
        "The call writes into the arrays that it is given.",
        "x -= ..., np.exp(x, out=x), an update of the weights in place: whoever called has other numbers now.",
        "Compare the inputs and the parameters before and after the call.",
        "A copy that is made first, and written into: that is fine.",
        AGAIN,
    )
    yield (
        "ALIASED",
        "What is returned shares memory with an input, or with what an earlier call returned.",
        "The next call changes what the caller still holds. Sums over several calls are then wrong.",
        "Keep a result, make another call, and look at the first one again.",
        "A view of an array that was made in this very call: that is fine.",
        AGAIN,
    )
    yield (
        "STATEFUL",
        "What a call returns depends on the calls before it.",
        "A global, an attribute, a cache, a buffer, a gradient that is not set to 0. The first call is often right.",
        "A, B, A: call it with A, then with B, then with A again, and compare the first and the last.",
        "Batch normalisation and dropout in training: check the layer in evaluation, or hand the state in.",
        AGAIN,
    )
    yield (
        "NONDETERMINISTIC",
        "The same call gives something else each time, by more than rounding.",
        "Randomness without a seed, memory that is not filled, threads that race.",
        "Call it twice with the same arrays.",
        "Sums in another order from call to call differ within rounding: that is no finding.",
        AGAIN,
    )
    yield (
        "CRASHED",
        "The call raised an exception, or ended the process.",
        "The finding has the exception and, where it is in your code, the line. What is not supported raises "
        "NotImplementedError: that is counted as UNSUPPORTED, and is no failure.",
        "The line `detail` of the finding.",
        "A network that you do not support: raise NotImplementedError, or declare what you take.",
        NEXT,
    )
    yield (
        "TIMEOUT",
        "A call took longer than --timeout allows.",
        "An endless loop, a lock, or a first compilation on a slow machine.",
        "Run the case alone, with a profiler or with Ctrl-C.",
        "A candidate that is slow and right: --timeout 120.",
        "gradconform replay ID --timeout 120   # the same case, with more time",
    )
    yield (
        "UNSUPPORTED",
        "The candidate says that it does not support a network (NotImplementedError): counted, and no failure.",
        "A run that skips much compares little. Declared layers, losses and networks are drawn alone.",
        "The line `not supported` of the implementation.",
        "A NotImplementedError that is raised by mistake.",
        "gradconform check TARGET --coverage   # what was met",
    )
    yield (
        "UNEXPECTED PASS",
        "A failure that was expected did not show: in the suite of a framework that lists its known defects.",
        "The defect was mended, or is not met any more by what is drawn.",
        "Remove it from the list of expected failures, and the run is green.",
        "Too few networks: raise --gradconform-max-examples before the entry is removed.",
        "pytest --gradconform-max-examples 300",
    )


def _elements() -> Iterator[tuple[str, str, str, str, str]]:
    yield (
        "PASS",
        "An element agrees within its bound, and the bound is smaller than the value: a wrong one would have shown.",
        "The bound is what rounding may do on the way to this element.",
        "The line `from the inputs` or `step by step` of the run counts them.",
        "vacuous: within a bound that is as large as the value, which tells nothing.",
    )
    yield (
        "KINK",
        "An element lies at a kink, as z = 0 of a ReLU, where every value between the two one-sided derivatives is "
        "right. No failure.",
        "Frameworks choose 0, 1 or 1/2 there, and all of them are right. Which one is told: `ReLU' at 0 is ...`.",
        "The line `networks at a kink` of the implementation.",
        "A value outside of the two one-sided derivatives: that is kink-derivative, and a finding.",
    )
    yield (
        "RANGE",
        "An element has no finite bound: the arithmetic may overflow, or divide by 0, on the way. No failure.",
        "Logits of +-1000, or float16: a correct program may give inf there.",
        "--dtype float64 leaves fewer of them.",
        "NONFINITE: not finite where it could have been.",
    )
    yield (
        "VACUOUS",
        "An element lies within a bound that is as large as its own value: nothing could have been told. No failure.",
        "Sums that cancel, saturated units, 0 itself. Where most elements are vacuous, a note says so.",
        "Return outputs and deltas too: step by step the bounds are hundreds of times smaller.",
        "pass: within a bound that is smaller than the value.",
    )


def _runs() -> Iterator[tuple[str, str, str, str, str, str]]:
    yield (
        "PASSED",
        "Everything that was compared agrees within rounding, and enough was compared. Exit code 0.",
        "`sharpness` says how small an error would have been found, and the canaries proved that the alarm rings.",
        "gradconform check --coverage shows which layers, losses and regimes were met together.",
        "A run over few networks: --profile ci draws 300.",
        "gradconform check --profile ci   # the look of CI",
    )
    yield (
        "FAILED",
        "There is at least one finding. Exit code 1.",
        "Failures of the same implementation, layer and symptom are one finding, with its smallest case.",
        "The first line of each finding alone says whose, where, how badly and what is likely.",
        "Several findings may have one cause: mend the first one, and run again.",
        AGAIN,
    )
    yield (
        "INTERRUPTED",
        "The run was ended before its time. Exit code 2.",
        "After Ctrl-C, what was compared until then is told, and findings are kept. Another signal, such as SIGTERM or "
        "SIGHUP, ends the process with nothing told, and 128 and its number as the exit code: gradconform report "
        "render tells it then, from the record.",
        "The number of networks in the last line.",
        "--max-time, at whose end a run is complete and not interrupted.",
        "gradconform check TARGET --max-time 60   # so long, and then a verdict",
    )
    yield (
        "BROKEN",
        "The checks missed a fault that was planted on purpose: nothing that they say can be trusted. Exit code 3.",
        "A candidate has changed something that all share, such as NumPy's error handling, or gradconform is broken.",
        "The note names the fault and the check that did not find it.",
        "Two versions of gradconform in one environment.",
        "gradconform faults   # all planted faults, in a process of their own",
    )
    yield (
        "NOT COVERED",
        "What was compared agrees, and less was met than the profile promises, or less was compared than the manifest "
        "pins. Exit code 5.",
        "All profiles but smoke promise that every regime, layer, loss, reduction and dtype that is declared is met "
        "by something that could tell. A manifest pins how much a run compared once; more networks do not mend that.",
        "The line `not met` lists what is missing; a note tells each thing that the manifest pins and that is gone.",
        "A declaration of layers or losses that the candidate does not really support; less than the manifest pins, "
        "and meant: pin it anew, the same command with --write-manifest.",
        "gradconform check TARGET --max-examples 300 --coverage   # more networks, and the table",
    )
    yield (
        "NOTHING COMPARED",
        "Nothing was compared, which is no success. Exit code 5.",
        "Every network was unsupported, or no target was installed.",
        "gradconform doctor tells what is installed.",
        "A --network that the candidate refuses.",
        "gradconform doctor   # what is installed, and what is missing",
    )
    yield (
        "HEALED",
        "A kept case agrees now. Exit code 0 of gradconform replay.",
        "The change mended it, at least in this case.",
        "Run check once more: the mistake may show elsewhere.",
        "Another implementation than the one that failed: the line names it.",
        "gradconform replay ID --pin   # keep the case: every later check replays it first",
    )
