"""Every wrong line is the mistake that it is said to be, and every right one is right, in NumPy, PyTorch and JAX."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import gradconform as gc
from gradconform.conformance import implementations
from gradconform.conformance.engine import run
from gradconform.conformance.examples import Draw, Example
from gradconform.conformance.explained_programs import PROGRAMS, Lines, put, script, spelled
from gradconform.conformance.explanations import every, program_of
from gradconform.conformance.fresh import evidence_of
from gradconform.conformance.memory import remembered
from gradconform.conformance.mistakes_fitted import fitted
from gradconform.conformance.plan import Plan
from gradconform.conformance.regimes import REGIMES
from gradconform.conformance.situation import Situation
from gradconform.conformance.theories import Answer, Theory, asked, table
from gradconform.reference.backpropagation import gradients as reference

pytestmark = pytest.mark.filterwarnings("ignore")  # what a wrong line overflows is its own affair

SYMPTOMS = {name: entry for name, entry in every().items() if entry.lines}
MEMORY, CONTRACT, PATTERNS = "Memory between calls", "What says itself what is wrong", "Patterns"
BY_CALLS = {name for name, entry in SYMPTOMS.items() if entry.family == MEMORY}
BY_RUN = {name for name, entry in SYMPTOMS.items() if entry.family in {CONTRACT, PATTERNS}}
OTHERWISE = {
    "bias-axis": "SHAPE",  # it fits in the rare batch alone that is as large as there are units
    "log-of-softmax": "NONFINITE",  # which digits are lost depends on how the softmax is written
}
"""Symptoms whose usual line is a finding that is mostly told by its verdict."""
ORDINARY = ((5, "ordinary"), (2, "ordinary"), (1, "ordinary"), (7, "integers"))
FEW = ("half-mse", "detached", "one-element")
"""Those whose lines of JAX, which compiles every one, are held against NumPy's here."""
ALLOWED = {
    "aliased",
    "detached",  # in PyTorch there is no gradient at all, which is an AttributeError
    "log-of-softmax",
    "mutated",
    "now-and-then",
    "nondeterministic",
    "squeezed",
    "wrong-names",
}
"""Wrong lines that these calls do not show, or that differ from framework to framework."""
SAMPLED = (
    "no-mean",
    "label-shift",
    "half-mse",
    "bias-mean",
    "last-sample-only",
    "delta-before-activation",
    "derivative-at-output",
    "unstable-softmax",
)
"""Those that a whole run has to name here; benchmarks/explained_mistakes.py runs all."""


def candidate(name, framework="numpy", wrong=True):
    namespace = {}
    exec(compile(program_of(name, framework, wrong=wrong), f"{name}.py", "exec"), namespace)
    return namespace["gradients"]


@cache
def cases(program, extreme):
    """Return cases of a program's network, with widths of their own and with equal ones; `extreme`: of all regimes."""
    labels = "soft" if "soft" in PROGRAMS[program].declared else "integer"
    weights = "class_weights" in PROGRAMS[program].declared
    found = []
    for widths in ((4, 6, 5, 3), (3, 3, 3, 3)):
        left = iter(widths)
        network = gc.parse(re.sub(r"\*", lambda _, left=left: str(next(left)), PROGRAMS[program].network))
        for rows, regime in (*ORDINARY, *((7, regime) for regime in REGIMES if extreme)):
            example = Example(network, rows, (), labels, class_weights=weights)
            found.append((regime, example.case(Draw(regime, rows), "float64")))
    return found


def judged(function, program, *, extreme=False):
    """Return what a candidate gives in each case, beside what is right, with the case's regime."""
    implementation = implementations.of(function)
    with np.errstate(all="ignore"):
        return [(regime, evidence_of(implementation, Situation(case))) for regime, case in cases(program, extreme)]


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_right_line_of_numpy_is_right(name):
    entry = SYMPTOMS[name]
    if entry.lines["numpy"].at:
        assert not any(one.fails for _, one in judged(candidate(name, wrong=False), entry.program, extreme=True))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_are_right(program):
    namespace = {}
    exec(script(PROGRAMS[program], "numpy"), namespace)
    assert not any(one.fails for _, one in judged(namespace["gradients"], program, extreme=True))


@pytest.mark.parametrize("name", sorted(SYMPTOMS.keys() - BY_CALLS - BY_RUN - OTHERWISE.keys()))
def test_the_wrong_line_of_numpy_is_this_mistake(name):
    entry = SYMPTOMS[name]
    for extreme in (False, True):
        evidence = judged(candidate(name), entry.program, extreme=extreme)
        failing = [one for _, one in evidence if one.fails]
        if failing:
            break
    assert failing
    known = [mistake for mistake in table() if mistake.id == name]
    for one in failing[:1]:
        given = {path: np.asarray(array, np.float64) for path, array in one.actual.parameters.items()}
        right = dict(reference(one.case.network, one.case.parameters, one.case.batch).parameters)
        known += [mistake for mistake in fitted(one.case, right, given) if mistake.id == name]

    def explains(theory):
        usual = [asked(theory, one) for regime, one in evidence if regime == "ordinary"]
        return Answer.REFUTED not in usual and any(asked(theory, one) is Answer.EXPLAINED for one in failing)

    with np.errstate(all="ignore"):
        assert any(explains(Theory((mistake,), fuse)) for mistake in known for fuse in (False, True))


@pytest.mark.parametrize("name", sorted(BY_CALLS))
def test_the_wrong_line_of_numpy_keeps_this(name):
    network = gc.parse("4 -> Dense(6) -> Tanh -> Dense(3), SoftmaxCrossEntropy")
    case = Example(network, 3, ()).case(Draw("ordinary", 1), "float64")
    found = remembered(implementations.of(candidate(name)), case, own=SYMPTOMS[name].program != "fixed widths")
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize("name", [*sorted(BY_RUN), *sorted(OTHERWISE), *SAMPLED])
def test_a_run_names_the_mistake_of_the_wrong_line(name):
    plan = Plan(
        [implementations.of(candidate(name))],
        max_examples=100,
        seed=1,
        dtypes=["float64"],
        witnesses=False,
        max_findings=1,
        shrink_seconds=0,
    )
    (finding,) = run(plan).findings
    if name in OTHERWISE:
        assert (finding.kind, finding.symptom) == (OTHERWISE[name], "")
    else:
        assert name in re.split(r" or | \+ ", finding.symptom)


@cache
def calls(program):
    """Return cases to call in turn: two batches of a size, a larger one, the first again, and numbers that are odd."""
    network = cases(program, extreme=False)[0][1].network
    labels = "soft" if "soft" in PROGRAMS[program].declared else "integer"
    weights = "class_weights" in PROGRAMS[program].declared

    def drawn(rows, seed):
        return Example(network, rows, (), labels, class_weights=weights).case(Draw("ordinary", seed), "float64")

    def times(case, inputs, parameters):
        changed = {path: array * parameters for path, array in case.parameters.items()}
        return replace(case, parameters=changed, batch=replace(case.batch, inputs=case.batch.inputs * inputs))

    first = drawn(3, 1)
    odd = times(first, 10, 1000), times(first, 1, 0), times(first, 1e-9, 1), times(first, 30, 1)
    return [first, drawn(3, 2), drawn(5, 3), first, *odd, drawn(1, 4)]


@cache
def computed(text, program, most=None):
    """Return what a program gives in these calls, one after the other, `most` at most; a failure by its name."""
    namespace = {}
    exec(compile(text, "program.py", "exec"), namespace)
    results = []
    for case in calls(program)[:most]:
        parameters = {path: array.copy() for path, array in case.parameters.items()}
        with np.errstate(all="ignore"):
            try:
                found = namespace["gradients"](case.network, parameters, case.batch).parameters
            except Exception as error:
                found = {type(error).__name__: np.zeros(())}
        results.append({path: np.array(array, np.float64) for path, array in found.items()})
    return results


def same(one, other):
    """Return whether two programs give the same in all calls, as far as rounding lets tell."""
    return all(
        first.keys() == second.keys()
        and all(
            first[path].shape == second[path].shape
            and np.allclose(first[path], second[path], rtol=1e-10, atol=1e-12, equal_nan=True)
            for path in first
        )
        for first, second in zip(one, other, strict=True)
    )


def check_framework(framework, names, most=None):
    """Hold the lines of a framework against NumPy's: the right ones give the same, and the wrong ones too."""
    said = {}
    for name in names:
        entry = SYMPTOMS[name]
        right, wrong = (
            computed(program_of(name, framework, wrong=is_wrong), entry.program, most) for is_wrong in (False, True)
        )
        ours, theirs = (
            computed(program_of(name, "numpy", wrong=is_wrong), entry.program, most) for is_wrong in (False, True)
        )
        if not same(right, ours):
            said[name] = "the right line is wrong"
        elif same(right, wrong):
            said[name] = "the wrong line is right"
        elif not same(wrong, theirs):
            said[name] = "the wrong line is another mistake"
    assert {name: what for name, what in said.items() if name not in ALLOWED} == {}


def own(framework):
    """Return the symptoms whose lines in a framework are not NumPy's in other words, and those that are sampled."""
    found = dict.fromkeys(SAMPLED)
    for name, entry in SYMPTOMS.items():
        spelling = {
            which: spelled(getattr(entry.lines["numpy"], which), framework) for which in ("right", "wrong", "at")
        }
        if framework in entry.lines and entry.lines[framework] != Lines(**spelling):
            found[name] = None
    return [name for name in found if framework in SYMPTOMS[name].lines]


@pytest.mark.torch
def test_the_lines_of_pytorch():
    check_framework("torch", own("torch"))


@pytest.mark.jax
@pytest.mark.parametrize("name", FEW)
def test_the_lines_of_jax(name):
    assert name in own("jax")
    check_framework("jax", [name], most=2)


def test_lines_that_do_not_stand_in_a_program_are_refused():
    with pytest.raises(ValueError, match="'c' stands in the program 0 times"):
        put("a\nb\n", "c", "d")
    assert put("a\n    b\n", "b", "c\n  d") == "a\n    c\n      d\n"
