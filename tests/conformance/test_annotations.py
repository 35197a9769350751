"""Findings as workflow commands: one line each, whatever their texts are."""

from __future__ import annotations

import msgspec
import pytest

from gradconform.conformance.annotations import annotations_of, command
from gradconform.conformance.results import EXIT_CODES, Finding, Result
from gradconform.network import Network

NETWORK = Network.from_json('{"inputs":1,"layers":[{"kind":"Dense","units":1}],"loss":{"kind":"MeanSquaredError"}}')
FINDING = Finding(
    id="0", implementation="mine.py:f", check="loss", kind="WRONG", path="loss", sentence="loss is wrong: 2 x",
    dtype="float64", network=NETWORK, notation=str(NETWORK), rows=2, numbers="ordinary numbers", likely="do this",
    mend="a, not b", replay="gradconform replay 0",
)  # fmt: skip
HOSTILE = "<b>\x1b[31m\n::error::x\r\n##[error]%0A::stop-commands::t\u2028\u202e" + "x" * 1_000_000


def result(*findings, verdict="failed"):
    return Result(
        verdict=verdict, seed=1, seconds=0.1, networks=1, structures=1, implementations=[], findings=list(findings)
    )


def test_a_finding_stands_on_its_line(tmp_path):
    (tmp_path / "mine.py").write_text("\n\ndef f(network, parameters, batch): ...\n", "utf-8")
    assert annotations_of(result(FINDING), tmp_path, tmp_path) == [
        "::error file=mine.py,line=3,title=mine.py%3Af%3A loss is wrong%3A 2 x::"
        "likely do this%0Awrite a, not b%0A"
        "smallest network: 1 -> Dense(1), MeanSquaredError, batch 2, float64, ordinary numbers%0A"
        "again: gradconform replay 0"
    ]


def test_where_the_line_is_not_known_no_file_is_named(tmp_path):
    (line,) = annotations_of(result(FINDING), tmp_path, tmp_path)
    assert line.startswith("::error title=mine.py%3Af")


def test_what_the_runner_would_take_apart_is_escaped():
    assert command("error", {"title": "a:b,c%"}, ["50%", "d:e,f"]) == "::error title=a%3Ab%2Cc%25::50%25%0Ad:e,f"


@pytest.mark.parametrize("field", ["implementation", "sentence", "likely", "mend", "notation", "replay", "numbers"])
def test_one_line_and_one_command_whatever_the_text_is(tmp_path, field):
    (line,) = annotations_of(result(msgspec.structs.replace(FINDING, **{field: HOSTILE})), tmp_path, tmp_path)
    assert line.isprintable()
    assert len(line) < 4000
    start, _, _ = line.removeprefix("::").partition("::")
    assert start.startswith("error title=")
    assert start.count("=") == 1
    assert "," not in start


def test_of_many_findings_the_last_annotation_counts_the_rest(tmp_path):
    findings = [msgspec.structs.replace(FINDING, implementation=f"f{number}") for number in range(25)]
    assert len(annotations_of(result(*findings[:10]), tmp_path, tmp_path)) == 10
    lines = annotations_of(result(*findings), tmp_path, tmp_path)
    assert len(lines) == 10
    assert all(line.startswith("::error ") for line in lines[:9])
    assert lines[9].startswith("::notice title=gradconform::16 more findings are in the report: f9, f10, ")


def test_a_verdict_without_findings_is_told_unless_it_is_green(tmp_path):
    told = {verdict: annotations_of(result(verdict=verdict), tmp_path, tmp_path) for verdict in EXIT_CODES}
    assert told.pop("passed") == []
    assert [line.split("::")[1].split()[0] for (line,) in told.values()] == ["error", "warning", *["error"] * 3]
    assert "NOTHING COMPARED" in told["nothing compared"][0]
