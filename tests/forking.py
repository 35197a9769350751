"""A process that has imported what commands need, and runs each command in a copy of itself.

It reads one JSON object a line: `program` (gradconform or pytest), `arguments`, `folder`, `environment`, and the files
`stdout` and `stderr`. It answers each with the exit code. A command so run is as alone as in a process of its own, and
takes no time to import the frameworks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback

import pytest

from gradconform.conformance.cli import main

for name in ("engine", "diagnosis", "faults", "replay", "operation_run", "compare", "tracing"):
    importlib.import_module(f"gradconform.conformance.{name}")
for name in ("torch", "jax"):
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(f"gradconform.adapters.{name}")


def run(job: dict[str, object]) -> int:
    """Run one command in this process, which is a copy, and return its exit code."""
    for stream, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(job[stream], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = [job["program"], *job["arguments"]]
    if job["program"] == "pytest":
        sys.path.insert(0, job["folder"])
        # Hypothesis is imported already, and its assertions are not rewritten
        return pytest.main([*job["arguments"], "-W", "ignore::pytest.PytestAssertRewriteWarning"])
    main(job["arguments"])
    return 0


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = run(json.loads(line))
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
