"""The messages: the first line says it all, and what follows fits the terminal."""

from __future__ import annotations

import re

import numpy as np
import pytest

import gradconform as gc
from gradconform import Gradients
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.message import columns, finding_text, result_text, tally_text, verdict_text
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.results import Finding, Result, Tally
from gradconform.network import Network
from gradconform.reference.backpropagation import gradients

NETWORK = "3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError"
COMMAND = (
    "gradconform check my_mlp.py:gradients --network '3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError' --seed 1"
)


@pytest.fixture(params=[60, 80, 100, 200])
def width(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    return max(40, min(100, request.param))


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def result_of(implementation, networks=NETWORK, max_examples=20, **more):
    options = {"witnesses": False, "shrink_seconds": 0, "command": COMMAND, "dtypes": ["float64"], **more}
    chosen = network_strategy(networks)
    return run(Plan([implementation], max_examples=max_examples, seed=1, networks=chosen, **options))


@pytest.fixture(scope="module")
def failed():
    return result_of(FAULTS["bias-mean"].implementation())


def test_a_complete_message(failed, wide):
    text = re.sub(r"-?\d+\.\d+e[+-]\d+", "#", str(failed))
    text = re.sub(r"\[\d+\](?= +yours)", "[#]", text)
    text = re.sub(r"error/bound \S+ ", "error/bound # ", text)
    text = re.sub(r"\d+\.\d s$", "# s", text)
    text = re.sub(r"  [\d,]+ elements are too small", "  # elements are too small", text)
    text = re.sub(r"in each of \d+ failing", "in each of # failing", text)
    text = re.sub(r" +$", "", re.sub(r"(?<=\S) {2,}(?=\S)", "  ", text), flags=re.MULTILINE)
    assert text.splitlines() == [
        "FAILED  bias-mean  2.bias is wrong: # x what rounding can explain",
        "  smallest network  3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError, batch 2, float64, regime",
        " " * 21 + "integers",
        "  worst element  2.bias[#]  yours #  expected #",
        "  error / bound  # / #",
        "  yours / expected  0.500000 = 1/batch, in each of # failing cases",
        "  enters in  the backward pass of layers[2], Dense: output delta, which it gets, is right",
        "  also wrong  0.bias",
        "  right  output 0, output 1, output 2, loss, output delta, delta 1, delta 0, 2.weight,",
        " " * 21 + "0.weight, input",
        "  check  parameters",
        f"  again  {COMMAND}",
        "bias-mean  float64",
        "  20 networks, 292 comparisons of 2,048 elements",
        "  worst error/bound # at 2.bias of 3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError",
        "  # elements are too small to tell from rounding",
        "FAILED  1 finding: 20 networks, 292 comparisons, seed 1, # s",
    ]


def test_the_numbers_of_the_message_are_those_of_the_finding(failed, wide):
    (finding,) = failed.findings
    text = finding_text(finding)
    assert f"{finding.ratio:.1e} x what rounding can explain" in text.splitlines()[0]
    assert f"yours {finding.actual:.6e}     expected {finding.expected:.6e}" in text
    assert f"{finding.error:.1e} / {finding.bound:.1e}" in text
    assert finding.ratio == pytest.approx(finding.error / finding.bound)
    assert finding.actual == pytest.approx(finding.expected / 2)
    assert finding.failing_cases > 10


def test_the_first_line_is_whole_on_every_terminal(failed, width):
    first = str(failed).splitlines()[0]
    assert re.fullmatch(r"FAILED  bias-mean   2\.bias is wrong: \d\.\de\+\d+ x what rounding can explain", first)


def test_all_other_lines_fit(failed, width):
    lines = str(failed).splitlines()[1:]
    assert [line for line in lines if len(line) > width and "again" not in line] == []
    assert [line for line in lines if COMMAND in line] != []
    assert all(line == line.rstrip() for line in lines)


LONG = "9 -> Dense(10) -> LeakyReLU(slope=0.25) -> GELU(approximate=tanh) -> Dense(11, bias=False) -> Softmax, " + (
    "CrossEntropy(reduction=none)"
)


ONES = np.ones((2, 1))


def crash(*arguments):
    raise RuntimeError("the shapes of x and w do not fit " * 12)


def renamed(*arguments):
    return {f"layer{path}": array for path, array in gradients(*arguments).parameters.items()}


@pytest.mark.parametrize(
    "function",
    [crash, renamed, lambda *arguments: None, lambda *arguments: Gradients(renamed(*arguments), loss=np.nan)],
    ids=["crash", "names", "nothing", "nan"],
)
def test_every_kind_of_message_fits(function, width):
    result = result_of(Implementation("path/to/my_implementation.py:gradients", function), LONG, 3)
    first, *lines = str(result).splitlines()
    assert result.verdict == "failed"
    assert first.startswith("FAILED  path/to/my_implementation.py:gradients")
    assert len(first) <= 100
    assert [line for line in lines if len(line) > width and "again" not in line and "my_impl" not in line] == []


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda *_: {}, "0.weight is missing or unknown: missing: what was returned is nothing"),
        (lambda *_: 3, "what was returned: expected a dictionary of arrays with 0.weight; got int"),
        (lambda *_: {"0.weight": ONES[0]}, "0.weight has the wrong shape: expected shape (2, 1), got (1,)"),
        (
            lambda *_: {"0.weight": ONES.astype("f4")},
            "0.weight has the wrong dtype: expected float64, as the inputs, got float32",
        ),
        (lambda *_: {"0.weight": np.nan * ONES}, r"0.weight is not finite: nan where \S+ is expected"),
        (lambda *_: 1 / 0, r"raised ZeroDivisionError: division by zero \(line \d+ of <lambda>\)"),
        (
            lambda network, parameters, batch: batch.inputs.sort(),
            r"gradients: ValueError: sort array is read-only \(line \d+ of <lambda>\)",
        ),
    ],
    ids=["name", "nothing", "shape", "dtype", "nan", "crash", "mutated"],
)
def test_the_sentence_of_each_verdict(function, sentence):
    result = result_of(Implementation("mine", function), "2 -> Dense(1, bias=False), MeanSquaredError", 1)
    (finding,) = result.findings
    if "\\" not in sentence:
        sentence = re.escape(sentence)
    assert re.fullmatch(sentence, finding.sentence)
    assert str(result).startswith(f"FAILED  mine   {finding.sentence}"[:90])


def test_a_relation_says_which_it_is():
    def compute(network, parameters, batch):
        found = gradients(network, parameters, batch).parameters
        return {path: array * (1.01 if batch.rows == 1 else 1) for path, array in found.items()}

    (finding, *_) = result_of(Implementation("mine", compute), only_sums(), 8).findings
    assert re.fullmatch(r"0\.\w+ breaks sum-of-samples: \S+ x what rounding can explain", finding.sentence)


def only_sums():
    """Return a network that is drawn with several samples, or one alone."""
    return "2 -> Dense(1), MeanSquaredError"


def test_the_first_findings_are_in_front_and_the_verdict_ends(failed, wide):
    lines = result_text(failed).splitlines()
    assert lines[0].startswith("FAILED  bias-mean")
    assert lines[-1].startswith("FAILED  1 finding: 20 networks, ")


def test_a_pass_says_how_much_it_rests_on(wide):
    result = result_of(reference())
    first, *_, last = str(result).splitlines()
    assert first == f"{reference().title}  float64"
    comparisons = f"{result.comparisons:,}"
    seconds = f"{result.seconds:.1f}"
    assert (
        last == f"PASSED  reference agrees within rounding: 20 networks, {comparisons} comparisons, seed 1, {seconds} s"
    )


def test_a_constant_that_has_no_name_is_told_without_one(wide):
    def compute(*arguments):
        return {path: 1.75 * array for path, array in gradients(*arguments).parameters.items()}

    result = result_of(Implementation("mine", compute))
    assert "\n  yours / expected   1.750000\n" in str(result).replace("expected     ", "expected   ")


def test_votes(wide):
    def finding(agreeing, disagreeing):
        return Finding(
            id="0", implementation="mine", check="loss", kind="WRONG", path="loss", sentence="loss is wrong",
            dtype="float64", network=Network.from_json(result.findings[0].network.to_json()), notation=NETWORK, rows=2,
            numbers="regime ordinary", agreeing=agreeing, disagreeing=disagreeing,
        )  # fmt: skip

    result = result_of(FAULTS["bias-mean"].implementation(), max_examples=5)

    def votes(agreeing, disagreeing):
        text = finding_text(finding(agreeing, disagreeing))
        return [re.sub(r"^  votes +", "", line) for line in text.splitlines() if line.startswith("  votes")]

    assert votes([], []) == []
    assert votes(["torch"], []) == ["torch sides with the reference"]
    assert votes(["torch", "jax"], []) == ["torch and jax side with the reference"]
    assert votes([], ["torch"]) == ["torch disagrees with it too"]
    assert votes(["a", "b", "c"], ["d", "e"]) == ["a, b and c side with the reference; d and e disagree with it too"]


@pytest.mark.parametrize(
    ("verdict", "names", "sentence"),
    [
        ("passed", ["torch"], "PASSED  torch agrees with the reference: "),
        ("passed", ["torch", "jax"], "PASSED  torch and jax agree with the reference: "),
        ("interrupted", ["torch"], "INTERRUPTED  what was compared so far agrees: "),
        ("nothing compared", [], "NOTHING COMPARED  no implementation gave anything to compare: "),
    ],
)
def test_verdicts(verdict, names, sentence, wide):
    tallies = [Tally(name, None, dtype, comparisons=617) for name in names for dtype in ("float64", "float32")]
    result = Result(
        verdict=verdict, seed=7, seconds=1.25, networks=1234, structures=9, implementations=tallies, findings=[]
    )
    amount = f"1,234 networks, {617 * len(tallies):,} comparisons, seed 7, 1.2 s"
    assert verdict_text(result).replace("\n  ", " ") == sentence + amount


def test_a_tally_tells_what_was_not_compared(wide):
    tally = Tally("torch", "2.13", "float32", cases=1000, comparisons=12000, elements=345678)
    tally.vacuous, tally.unknown, tally.at_kinks, tally.unsupported = 1, 2345, 6, 7
    tally.worst_ratio, tally.worst_at, tally.worst_network = 0.4321, "0.bias", NETWORK
    assert tally_text(tally).replace("\n    ", " ").splitlines() == [
        "torch 2.13  float32",
        "  1,000 networks, 12,000 comparisons of 345,678 elements",
        f"  worst error/bound 0.43 at 0.bias of {NETWORK}",
        "  1 elements are too small to tell from rounding; 2,345 elements may overflow or "
        "divide by 0 on the way: not compared; "
        "6 networks at a kink: either one-sided derivative is right; 7 networks are not supported: not compared",
    ]


def test_a_tally_of_nothing_is_short(wide):
    assert tally_text(Tally("x", None, "float64")).splitlines() == [
        "x  float64",
        "  0 networks, 0 comparisons of 0 elements",
    ]


@pytest.mark.parametrize(("given", "expected"), [("10", 40), ("60", 60), ("100", 100), ("300", 100)])
def test_columns_follow_the_terminal_within_limits(monkeypatch, given, expected):
    monkeypatch.setenv("COLUMNS", given)
    assert columns() == expected


def test_numbers_that_differ_look_different(wide):
    result = gc.check(_nudged, networks="2 -> Dense(1), MeanSquaredError", max_examples=4)
    line = next(line for line in str(result).splitlines() if "worst element" in line)
    yours, expected = re.search(r"yours (\S+) +expected (\S+)", line).groups()
    assert yours != expected


def _nudged(network, parameters, batch):
    found = dict(gradients(network, parameters, batch).parameters)
    return {path: value * (1 + 1e-10) for path, value in found.items()}
