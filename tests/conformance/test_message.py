"""The messages: the first line says it all, and what follows fits the terminal."""

from __future__ import annotations

import re

import numpy as np
import pytest

import gradconform as gc
from gradconform import Gradients
from gradconform.conformance.compare import Outcomes
from gradconform.conformance.coverage import Covered
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.message import (
    coverage_table,
    coverage_text,
    finding_text,
    result_text,
    tally_text,
    verdict_text,
)
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.results import Finding, Result, Tally
from gradconform.conformance.sharpness import Sharpness
from gradconform.conformance.wrapping import columns
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
    text = re.sub(r"(yours|expected) -?\d\S*", r"\1 #", text)
    text = re.sub(r"all \d+ cases", "all # cases", text)
    text = re.sub(r"\[\d+\](?= +yours)", "[#]", text)
    text = re.sub(r"error/bound +\S+ at \S+ of", "error/bound  # at # of", text)
    text = re.sub(r"\d+\.\d s$", "# s", text)
    text = re.sub(r"of [\d,]+ elements", "of # elements", text)
    text = re.sub(r"\b(pass|fail|vacuous) [\d,]+", r"\1 #", text)
    text = re.sub(r"  sharpness .*(\n {23}.*)+", "  sharpness  #", text)
    text = re.sub(r"(?m)^covered  .*(\n  .*)*", "covered  #", text)
    text = re.sub(r"in each of \d+ failing", "in each of # failing", text)
    text = re.sub(r" +$", "", re.sub(r"(?<=\S) {2,}(?=\S)", "  ", text), flags=re.MULTILINE)
    assert text.splitlines() == [
        "FAILED  bias-mean  2.bias is wrong: # x what rounding can explain; likely bias-mean",
        "  likely  the gradients of the biases are averaged over the batch: sum them (where the",
        " " * 23 + "loss is a mean, the delta is divided already)",
        "  write  db = delta.sum(axis=0)",
        "  not  delta.mean(axis=0)",
        "  enters in  the backward pass of layers[2], Dense: output delta, which it gets, is right",
        "  yours / expected  0.500000 = 1/batch, in each of # failing cases",
        "  smallest network  3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError, batch 2, float64, regime",
        " " * 23 + "integers",
        "  worst element  2.bias[#]  yours #  expected #",
        "  error / bound  # / #",
        "  expected is  this step's exact result on the values that you computed before it",
        "  also wrong  0.bias",
        "  right  output 0, output 1, output 2, loss, output delta, delta 1, delta 0, 2.weight,",
        " " * 23 + "0.weight, input",
        "  evidence  putting this mistake into the reference reproduces your numbers, within",
        " " * 23 + "rounding, in all # cases that fail and the one that does not",
        "  check  parameters WRONG Dense.bias",
        f"  again  {COMMAND}",
        "  why  gradconform explain bias-mean",
        "bias-mean  float64",
        "  20 networks, 576 comparisons of # elements",
        "  from the inputs  pass #  fail #  vacuous #",
        "  step by step  pass #  fail #  vacuous #",
        "  worst error/bound  # at # of 3 -> Dense(2) -> Tanh -> Dense(4), MeanSquaredError",
        "  sharpness  #",
        "covered  #",
        "FAILED  1 finding: 20 networks, 576 comparisons, seed 1, # s",
    ]


def test_the_numbers_of_the_message_are_those_of_the_finding(failed, wide):
    (finding,) = failed.findings
    text = finding_text(finding)
    assert f"{finding.ratio:.1e} x what rounding can explain" in text.splitlines()[0]
    assert f"yours {finding.actual:.7g}     expected {finding.expected:.7g}" in text
    assert f"{finding.error:.1e} / {finding.bound:.1e}" in text
    assert finding.ratio == pytest.approx(finding.error / finding.bound)
    assert finding.actual == pytest.approx(finding.expected / 2)
    assert finding.failing_cases > 10


def test_the_first_line_is_whole_on_every_terminal(failed, width):
    first = str(failed).splitlines()[0]
    assert re.fullmatch(
        r"FAILED  bias-mean   2\.bias is wrong: \d\.\de\+\d+ x what rounding can explain; likely bias-mean", first
    )


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
        (lambda *_: 1 / 0, r"crashed: ZeroDivisionError: division by zero \(test_message.py:\d+ in <lambda>\)"),
        (
            lambda network, parameters, batch: batch.inputs.sort(),
            r"writes into its inputs: sort array is read-only \(test_message.py:\d+ in <lambda>\)",
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

    text = "2 -> Dense(1), MeanSquaredError"
    (finding, *_) = gc.check(compute, networks=text, max_examples=8, only=["sum-of-samples"]).findings
    assert re.fullmatch(r"0\.\w+ breaks sum-of-samples: \S+ x what rounding can explain", finding.sentence)


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


def test_a_constant_that_has_no_name_is_told_as_what_it_is(wide):
    def compute(*arguments):
        return {path: 1.75 * array for path, array in gradients(*arguments).parameters.items()}

    text = str(result_of(Implementation("mine", compute)))
    assert "\n  likely               the gradients are 1.75 times what they should be" in text
    assert "yours / expected" not in text


def test_two_mistakes_at_once_are_numbered(wide):
    def compute(*arguments):
        found = gradients(*arguments).parameters
        return {path: 1024 * (array.T if array.shape == (3, 3) else array) for path, array in found.items()}

    text = str(result_of(Implementation("mine", compute), "3 -> Dense(3) -> Tanh -> Dense(3), MeanSquaredError"))
    assert re.search(r"; likely loss-scale\s\+\s+transposed\n", text)
    assert "\n  likely               two mistakes at once: (1) " in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("  write (", "  not ("))] == [
        "write", "write", "not",
    ]  # fmt: skip


def test_calls_that_differ_are_held_against_each_other(wide):
    text = str(result_of(FAULTS["second-call-accumulates"].implementation()))
    assert re.search(r"worst element +\S+\[.*\] +now \S+ +in the first call \S+\n", text)
    assert not {"error / bound", "votes"} & {line[2:21].strip() for line in text.splitlines()}


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
    tally = Tally("torch", "2.13", "float32", cases=1000, comparisons=12000, lost=1, at_kinks=6, unsupported=7)
    tally.outcomes = {"local": Outcomes(passed=300000, kink=12), "global": Outcomes(43333, 0, 3, 2345, 5678)}
    tally.kinks = {"ReLU": 0.0, "ELU": 0.5}
    tally.worst_ratio, tally.worst_at, tally.worst_network = 0.4321, "0.bias", NETWORK
    assert tally_text(tally).replace("\n    ", " ").splitlines() == [
        "torch 2.13  float32",
        "  1,000 networks, 12,000 comparisons of 351,371 elements",
        "  from the inputs      pass 43,333   kink 3   range 2,345   vacuous 5,678",
        "  step by step         pass 300,000   kink 12",
        f"  worst error/bound    0.43 at 0.bias of {NETWORK}",
        "  1 element not finite where the exact value is, for an overflow on the way; 6 networks at a kink; "
        "7 networks not supported: not compared; ELU' at 0 is the mean of both sides; "
        "ReLU' at 0 is the left-sided one",
    ]


def test_a_tally_says_how_sharp_each_look_was(wide):
    tally = Tally("mine", None, "float64", sharpness={"global": Sharpness(), "local": Sharpness()})
    for rung in (3, 3, 3, 5):
        tally.sharpness["local"].count(rung)
    for rung in (8, 8, 8, None):
        tally.sharpness["global"].count(rung)
    said = " ".join(tally_text(tally).split())
    sharpest, _, other = said.partition("from the inputs")
    number = r"(\de-\d+)[^;,]*? in (\d+%)"
    # of 90 % and 99 %, which are the same error, the larger share is told
    assert re.findall(number, sharpest) == [("3e-14", "99%"), ("3e-15", "50%")]
    # less than 90 % of the networks would have shown any error
    assert re.findall(number, other) == [("1e-12", "50%")]


@pytest.mark.parametrize(("missed", "of", "share"), [(1, 400, "less than 1%"), (1, 100, "1%"), (1, 8, "12%")])
def test_a_share_that_is_no_percent_is_not_called_none(missed, of, share, wide):
    tally = Tally("mine", None, "float64", cases=1, sharpness={"global": Sharpness({"1e-15": of - missed}, missed)})
    said = " ".join(tally_text(tally).split())
    assert f"of the networks, none in {share}" in said
    assert "1 network, 0 comparisons of 0 elements" in said


def test_a_look_that_found_no_error_is_not_called_sharp(wide):
    tally = Tally("mine", None, "float16", sharpness={"global": Sharpness(missed=3)})
    said = " ".join(tally_text(tally).split())
    assert "sharpness no relative error" in said
    assert not re.search(r"\de-\d", said)


def test_what_is_mostly_vacuous_says_so():
    tally = Tally("mine", None, "float16", outcomes={"global": Outcomes(passed=1, vacuous=2, range=1)})
    assert tally.vacuity.startswith("mine float16: 75% of the elements could not tell a wrong value from rounding")
    # what can be done about it is said where it is not done yet
    assert tally.vacuity.endswith("; outputs and deltas, where they are returned, are looked at closer")
    tally.outcomes["local"] = Outcomes(vacuous=1)
    assert tally.vacuity.endswith("80% of the elements could not tell a wrong value from rounding")
    tally.outcomes["local"] = Outcomes(passed=3)
    assert tally.vacuity is None


def covered(name="mine", layers=(3, 2), pairs=(1, 0), **more):
    names, regimes = ("Dense", "Tanh"), ("tiny", "large")
    return Covered(
        implementation=name,
        values={
            "regime": dict.fromkeys(regimes, 4),
            "layer": dict(zip(names, layers, strict=True)),
            "loss": {"Huber": 4},
        },
        pairs={"layer x regime": {layer: dict(zip(regimes, pairs, strict=True)) for layer in names}},
        **more,
    )


def test_what_was_met_is_told_in_a_line():
    assert coverage_text([covered()]) == "2 of 2 regimes, 2 of 2 layers; 2 of 4 pairs"
    assert coverage_text([covered(pairs=(1, 1))]) == "2 of 2 regimes, 2 of 2 layers; 4 of 4 pairs"
    assert coverage_text([covered(layers=(3, 0))]).endswith("1 of 2 layers; 2 of 4 pairs; not met: layer Tanh")
    assert coverage_text([]) == ""


def test_what_one_implementation_alone_did_not_meet_is_told_with_its_name():
    text = coverage_text([covered(), covered("other", layers=(3, 0), pairs=(0, 1))])
    assert text == "2 of 2 regimes, 1 of 2 layers; 0 of 4 pairs; not met: layer Tanh by other"


def test_much_that_was_not_met_is_counted():
    none = covered()
    none.values["regime"] = dict.fromkeys("abcdef", 0)
    assert coverage_text([none]).startswith("0 of 6 regimes, 2 of 2 layers; ")
    assert coverage_text([none]).endswith("; 6 not met")


def test_the_whole_table(width):
    lines = coverage_table([covered(), covered("other"), covered("third", layers=(12345, 0))]).splitlines()
    text = " ".join(" ".join(lines).split())
    assert text.startswith("coverage of mine and other: cases in which a wrong value could have been told from")
    assert text.count("coverage of ") == 2
    assert "coverage of third:" in text
    assert "regimes tiny 4, large 4 layers Dense 12,345, Tanh 0 losses Huber 4" in text
    assert "Dense 1 of 2 regimes, not large" in text
    assert all(len(line) <= width for line in lines)


def test_what_is_mostly_not_met_is_not_listed():
    assert "Dense                0 of 2 regimes\n" in coverage_table([covered(pairs=(0, 0))])


def test_the_table_is_shown_where_it_is_asked_for(failed):
    assert "coverage of bias-mean" in result_text(failed, coverage=True)
    assert "coverage of bias-mean" not in result_text(failed)


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
