"""Two and three mistakes at once in one network written by hand: are they named as what they are, or not at all?

    python benchmarks/several_mistakes.py [--pairs N] [--triples N] [--seed S]

Mistakes are made in the text of examples/my_mlp.py, in lines of their own, so that they go together. Each combination
is checked as `gradconform check` checks it, until its first finding is named. A name is right if every mistake in it is
one of those that were made. Printed are the counts, every wrong name, and the time to the finding.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gradconform.conformance import implementations
from gradconform.conformance.engine import run
from gradconform.conformance.plan import Plan, network_strategy

NETWORK = "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"
SOURCE = (Path(__file__).parents[1] / "examples" / "my_mlp.py").read_text("utf-8")


class Mutation(NamedTuple):
    """A mistake in a text: what stands there, what is written instead, and the names that are right for it."""

    name: str
    was: str
    becomes: str
    symptoms: tuple[str, ...]


MUTATIONS = (
    Mutation("no-mean", "    delta2 /= len(x)\n", "", ("no-mean",)),
    Mutation("one-less", "delta2 /= len(x)", "delta2 /= max(len(x) - 1, 1)", ("mean-of-others",)),
    Mutation("sign", "delta2 /= len(x)", "delta2 /= -len(x)", ("minus-lost",)),
    Mutation("classes", "delta2 /= len(x)", "delta2 /= delta2.size", ("mean-over-elements",)),
    Mutation("label", "delta2[np.arange(len(x)), labels] -= 1", "pass", ("one-hot-missing",)),
    Mutation("shift", "labels] -= 1", "labels - 1] -= 1", ("label-shift",)),
    Mutation("axis", "p /= p.sum(axis=1, keepdims=True)", "p /= p.sum(axis=0, keepdims=True)", ("softmax-axis",)),
    Mutation("derivative", "(1 - a**2) * (delta2", "(delta2", ("derivative-missing", "delta-before-activation")),
    Mutation("sigmoid", "(1 - a**2)", "(a * (1 - a))", ("other-derivative",)),
    Mutation("unsquared", "(1 - a**2)", "(1 - a)", ("one-minus-output",)),
    Mutation("twice", "(1 - a**2)", "(1 - a**2) ** 2", ("derivative-twice",)),
    Mutation("bias0-mean", "delta0.sum(axis=0)", "delta0.mean(axis=0)", ("bias-mean",)),
    Mutation("bias0-first", "delta0.sum(axis=0)", "delta0[0]", ("bias-first-row",)),
    Mutation("bias0-zero", "delta0.sum(axis=0)", "np.zeros_like(b0)", ("bias-missing",)),
    Mutation("bias2-mean", "delta2.sum(axis=0)", "delta2.mean(axis=0)", ("bias-mean",)),
    Mutation("bias2-scalar", "delta2.sum(axis=0)", "np.full_like(b2, delta2.sum())", ("bias-scalar",)),
    Mutation("weight0-last", "x.T @ delta0", "np.outer(x[-1], delta0[-1])", ("last-sample-only",)),
    Mutation("weight0-mean", "x.T @ delta0", "x.T @ delta0 / len(x)", ("weight-mean",)),
    Mutation("weight2-dropped", "a.T @ delta2", "a[:-1].T @ delta2[:-1]", ("last-sample-dropped",)),
    Mutation("weight2-zero", "a.T @ delta2", "np.zeros_like(w2)", ("weight-missing",)),
    Mutation("bias2-unused", "a @ w2 + b2", "a @ w2", ("bias-unused",)),
    Mutation("bias0-unused", "x @ w0 + b0", "x @ w0", ("bias-unused",)),
)


TOGETHER = (
    ({"bias0-mean", "weight0-mean"}, "mean-twice"),
    ({"bias2-scalar"}, "bias-missing"),
    ({"bias2-scalar", "weight2-zero"}, "zeros"),
    ({"no-mean", "bias0-mean", "bias2-scalar"}, "weight-no-mean"),
)
"""What computes the same, in every network, as another mistake: where both gradients of a layer are divided; where one
sum is taken of all of the output delta of a softmax, which is 0; and where a bias is divided by what nothing is."""


def mutated(mutations: Sequence[Mutation]) -> Any:
    """Return the function of the text with all the mistakes; None where one is in the way of another."""
    text = SOURCE
    for mutation in mutations:
        if text.count(mutation.was) != 1:
            return None
        text = text.replace(mutation.was, mutation.becomes)
    names: dict[str, Any] = {}
    exec(text, names)
    return names["gradients"]


class Answer(NamedTuple):
    """What was said of a combination, and after how many seconds."""

    named: str
    symptom: str
    likely: str
    seconds: float


def ask(mutations: Sequence[Mutation], seed: int = 1) -> Answer | None:
    """Check a combination of mistakes until its first finding; None where they do not go together."""
    function = mutated(mutations)
    if function is None:
        return None
    started = time.monotonic()
    result = run(
        Plan(
            [implementations.of(function, "my_mlp.py:gradients")],
            seed=seed,
            networks=network_strategy(NETWORK),
            witnesses=False,
            max_findings=1,
        )
    )
    seconds = time.monotonic() - started
    if not result.findings:
        return Answer("not found", "", "", seconds)
    (finding,) = result.findings
    right = {symptom for mutation in mutations for symptom in mutation.symptoms}
    made = {mutation.name for mutation in mutations}
    right |= {symptom for several, symptom in TOGETHER if several <= made}
    alternatives = [set(one.split(" + ")) for one in finding.symptom.split(" or ")] if finding.symptom else []
    named = "unknown"
    if alternatives:
        named = "right" if any(one <= right for one in alternatives) else "WRONG NAME"
        if named == "right" and len(alternatives) > 1:
            named = "one of two"
    return Answer(named, finding.symptom, finding.likely, seconds)


def main() -> None:
    """Print what is said of single mistakes, of pairs and of triples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=1000, help="at most so many pairs")
    parser.add_argument("--triples", type=int, default=100, help="at most so many triples")
    parser.add_argument("--seed", type=int, default=1, help="which are drawn")
    options = parser.parse_args()
    for count, most in ((1, len(MUTATIONS)), (2, options.pairs), (3, options.triples)):
        several = list(itertools.combinations(MUTATIONS, count))
        random.Random(options.seed).shuffle(several)
        answers = []
        for mutations in several:
            answer = ask(mutations) if len(answers) < most else None
            if answer is None:
                continue
            answers.append(answer)
            if answer.named in {"WRONG NAME", "not found"}:
                made = " + ".join(mutation.name for mutation in mutations)
                print(f"{answer.named}: {made} called {answer.symptom}")
        counts = ", ".join(f"{name} {number}" for name, number in Counter(a.named for a in answers).most_common())
        median = statistics.median(answer.seconds for answer in answers)
        print(f"{count} at once: {len(answers)} combinations: {counts}; median time {median:.2f} s")


if __name__ == "__main__":
    main()
