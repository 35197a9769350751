"""How soon a mistake is found and named: every planted fault, from the start of a run to its finding.

    python benchmarks/time_to_finding.py                        all faults, and a few through the command line
    python benchmarks/time_to_finding.py bias-mean transposed   these alone

The runs are those of `gradconform faults`: the default budget, ended by the first finding, which is named where it can
be and as small as it becomes. The second table is what a person waits at the command line: `gradconform check` of a
file, with the start of the interpreter, all imports, the votes of the installed frameworks and the rest of the run
after the finding.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is imported

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gradconform.conformance.faults import choose_faults
from gradconform.conformance.killing import SEED, Kill, kill
from gradconform.conformance.planting import Fault

SLOWEST = 5
AT_THE_COMMAND_LINE = ("bias-mean", "transposed", "tanh-as-sigmoid", "second-call-accumulates", "nan")
NETWORK = "* -> Dense(*) -> Tanh -> Dense(*), MeanSquaredError"
CANDIDATE = """
from gradconform.conformance.faults import FAULTS

gradients = FAULTS[{name!r}].make()
"""


def measure(faults: Sequence[Fault]) -> list[Kill]:
    """Run each fault until it is found, and print the one that is not."""
    # the first run of a process pays for what is only imported when it is needed
    kill(faults[0])
    kills = [kill(fault) for fault in faults]
    for survivor in (one for one in kills if not one.caught):
        print(f"{survivor.fault} is not caught")
    return [one for one in kills if one.caught]


def table(name: str, seconds: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    return f"{name:<24}{len(seconds):>7}{low:>10.2f}{middle:>10.2f}{high:>10.2f}{max(seconds):>10.2f}"


def at_the_command_line(name: str, folder: Path) -> tuple[float, float]:
    """Return the seconds until the first failing case is told, and until the process ends."""
    target = folder / f"{name.replace('-', '_')}.py"
    target.write_text(CANDIDATE.format(name=name), "utf-8")
    command = [Path(sys.executable).parent / "gradconform", "check", f"{target}:gradients", "--seed", str(SEED)]
    start = time.perf_counter()
    with subprocess.Popen(
        [*map(str, command), "--network", NETWORK], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # a failing case is what is told first
        told = time.perf_counter() - start
        process.stderr.read()
        code = process.wait()
    if code != 1:
        raise SystemExit(f"{name}: expected exit code 1 of {' '.join(map(str, command))}, got {code}")
    return told, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="default: all")
    options = parser.parse_args()
    kills = measure(choose_faults(options.faults))
    print(f"{'seconds':<24}{'faults':>7}{'quartile':>10}{'median':>10}{'quartile':>10}{'most':>10}")
    print(table("to the first failure", [one.detected for one in kills if one.detected is not None]))
    print(table("to the finding", [one.found for one in kills if one.found is not None]))
    slowest = sorted(kills, key=lambda one: -(one.found or 0))[:SLOWEST]
    print("slowest: " + ", ".join(f"{one.fault} {one.found:.2f}" for one in slowest))
    named = sum(one.named == "right" for one in kills)
    print(f"named rightly: {named} of {sum(not one.held_out for one in kills)}\n")
    print(f"{'gradconform check':<24}{'first failure':>15}{'whole run':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name in AT_THE_COMMAND_LINE if not options.faults else options.faults:
            told, whole = at_the_command_line(name, Path(folder))
            print(f"{name:<24}{told:>15.2f}{whole:>12.2f}", flush=True)


if __name__ == "__main__":
    main()
