"""What a run says of the wrong line of every explanation: its own name, another one, or none.

python benchmarks/explained_mistakes.py [numpy] [torch] [jax]

Each program is checked on up to 100 networks until it fails for the first time, and the failure is named.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter

from gradconform.conformance.engine import run
from gradconform.conformance.explained_texts import Framework
from gradconform.conformance.explanations import every, program_of
from gradconform.conformance.implementations import of
from gradconform.conformance.message import symptoms_of
from gradconform.conformance.plan import Plan

SEED = 1


def named(word: str, framework: Framework) -> tuple[str, str]:
    """Return whether the mistake is called by its name, and what it is called."""
    namespace: dict[str, object] = {}
    exec(compile(program_of(word, framework, wrong=True), f"{word}.py", "exec"), namespace)
    plan = Plan(
        [of(namespace["gradients"])],
        max_examples=100,
        seed=SEED,
        dtypes=["float64"],
        witnesses=False,
        max_findings=1,
        shrink_seconds=0,
    )
    findings = run(plan).findings
    if not findings:
        return "not found", ""
    told = findings[0].symptom or f"{findings[0].kind}, without a name"
    if word in symptoms_of(findings[0].symptom):
        return "right", told
    return ("wrong" if findings[0].symptom else "unnamed"), told


def main(frameworks: list[str]) -> None:
    warnings.simplefilter("ignore")
    for framework in frameworks or ["numpy"]:
        started, counted = time.monotonic(), Counter[str]()
        for word, entry in every().items():
            if framework in entry.lines:
                outcome, told = named(word, framework)
                counted[outcome] += 1
                if outcome != "right":
                    print(f"{framework:<6} {word:<28} {outcome:<10} {told}", flush=True)
        total = ", ".join(f"{count} {outcome}" for outcome, count in counted.most_common())
        print(f"{framework}: {total}, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
