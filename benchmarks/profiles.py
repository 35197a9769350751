"""How long the profiles smoke and default take at the command line, and what they cover.

Each run is a fresh process with both frameworks, imports included and without a cache of what was compiled.

    python benchmarks/profiles.py [PROFILE]...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEED = 1
COLD = {"GRADCONFORM_CACHE": "off", "OMP_NUM_THREADS": "1"}


def run(profile: str, folder: Path) -> None:
    place = folder / f"{profile}.json"
    words = ["check", "--profile", profile, "--seed", str(SEED), "--no-cases", "--json", str(place)]
    program = [sys.executable, "-c", "from gradconform.conformance.cli import program; program()", *words]
    started = time.perf_counter()
    done = subprocess.run(program, cwd=folder, env={**os.environ, **COLD}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if not place.exists():
        sys.exit(done.stderr)
    result = json.loads(place.read_text("utf-8"))
    names = list(dict.fromkeys(tally["name"] for tally in result["implementations"]))
    comparisons = sum(tally["comparisons"] for tally in result["implementations"])
    print(f"{profile}: {seconds:.1f} s, {result['verdict']}: {', '.join(names)}; {result['networks']} networks,")
    print(f"  {result['structures']} structures, {comparisons:,} comparisons")
    lines = done.stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("covered  "))
    end = next(index for index in range(start + 1, len(lines)) if not lines[index].startswith("  "))
    print("  " + " ".join(line.strip() for line in lines[start:end]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for profile in sys.argv[1:] or ["smoke", "default"]:
            run(profile, Path(folder))


if __name__ == "__main__":
    main()
