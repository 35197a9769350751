"""Whether a program speaks the protocol, step by step: where it does not, which line of its output is to be mended.

What its numbers are worth is not asked here: that is `gradconform check`.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradconform.adapters.process import TIMEOUT
from gradconform.adapters.protocol import PROTOCOL, Result, Skipped, Started, Stop, encode
from gradconform.adapters.tensors import Outbox
from gradconform.conformance.conversation import Conversation, Wrong, said, smallest_case
from gradconform.conformance.wrapping import columns, filled
from gradconform.dtypes import dtype_of, finfo
from gradconform.errors import GradconformError

STOPPING = 5.0
"""Seconds that a program has to end here; the protocol says one, and this machine may be busy."""
UNKNOWN_LAYER = "Hyperdense"
LABELS = {"ok": "ok", "failed": "FAILED", "not tried": "not tried", "not declared": "-"}

Outcome = Literal["ok", "failed", "not tried", "not declared"]


@dataclass(frozen=True)
class Step:
    """One step of the self-test and how it ended; `detail`: what was seen, or what is wrong and where."""

    name: str
    outcome: Outcome
    detail: str = ""
    mend: str = ""


class _NotDeclared(GradconformError):
    """A step is about what the program does not declare."""


class _Test:
    """The steps, and the process that they are about; a new one after each failure."""

    def __init__(self, command: Sequence[str], timeout: float, folder: Path) -> None:
        self._command, self._timeout, self._folder = command, timeout, folder
        self._conversation: Conversation | None = None
        self._started: Started | None = None
        self._done: set[str] = set()

    def steps(self) -> Iterator[Step]:
        """Yield the steps as they are done."""
        for name, step, needs in (
            ("starts", self._starts, None),
            ("answers start", self._answers_start, "starts"),
            ("runs the smallest network", self._runs, "answers start"),
            ("runs one after the other", self._runs_again, "runs the smallest network"),
            ("skips an unknown layer", self._skips, "answers start"),
            ("spells out what is not finite", self._spells_out, "runs the smallest network"),
            ("ignores unknown fields", self._ignores, "runs the smallest network"),
            ("reads arrays from files", self._reads_files, "runs the smallest network"),
            ("ends on stop", self._stops, "answers start"),
            ("ends at the end of its input", self._ends, "answers start"),
        ):
            if needs is not None and needs not in self._done:
                yield Step(name, "not tried")
                continue
            try:
                yield Step(name, "ok", step())
                self._done.add(name)
            except _NotDeclared as reason:
                yield Step(name, "not declared", str(reason))
            except Wrong as wrong:
                self.close()
                yield Step(name, "failed", wrong.detail, wrong.mend)

    def close(self) -> None:
        """End the process."""
        if self._conversation is not None:
            self._conversation.program.kill()
            self._conversation = None

    def _talk(self) -> tuple[Conversation, Started]:
        """Return the conversation, a new one where the last has ended."""
        if self._conversation is None:
            self._conversation = Conversation(self._command, self._timeout, self._folder)
            self._started = self._conversation.start()
        assert self._started is not None  # noqa: S101 - whoever talks has started
        return self._conversation, self._started

    def _starts(self) -> str:
        self._conversation = Conversation(self._command, self._timeout, self._folder)
        return ""

    def _answers_start(self) -> str:
        assert self._conversation is not None  # noqa: S101 - the step before made it
        self._started = started = self._conversation.start()
        declared = started.capabilities
        words = [", ".join(declared.dtypes), _names(declared.layers, "layers"), _names(declared.losses, "losses")]
        return f"{started.name} {started.version or ''}".strip() + f": {'; '.join(words)}"

    def _runs(self) -> str:
        conversation, started = self._talk()
        answer = conversation.run(started)
        network = smallest_case(started.capabilities)[0]
        if not isinstance(answer, Result):
            mend = "this network is what its capabilities declare; declare what it takes instead"
            raise conversation.wrong(f"{network}: {said(answer)}", mend)
        return str(network)

    def _runs_again(self) -> str:
        conversation, started = self._talk()
        for rows in (1, 3, 2):
            answer = conversation.run(started, rows)
            if not isinstance(answer, Result):
                raise conversation.wrong(
                    f"batch of {rows}: {said(answer)}", "any number of samples may come, in any order"
                )
        return ""

    def _skips(self) -> str:
        conversation, started = self._talk()

        def change(message: dict[str, Any]) -> None:
            message["network"]["layers"].append({"kind": UNKNOWN_LAYER})

        answer = conversation.send(smallest_case(started.capabilities), Outbox(), change)
        if not isinstance(answer, Skipped):
            mend = 'answer {"type":"skipped","id":...,"reason":"no rule for ' + UNKNOWN_LAYER + '"}'
            raise conversation.wrong(f"a layer {UNKNOWN_LAYER}: expected skipped, got {said(answer)}", mend)
        return answer.reason

    def _spells_out(self) -> str:
        conversation, started = self._talk()
        largest = float(finfo(dtype_of(started.capabilities.dtypes[0])).max)
        answer = conversation.run(started, scale=largest**0.65)
        if isinstance(answer, Skipped):
            return said(answer)
        if not isinstance(answer, Result):
            mend = 'answer with what was computed, "NaN", "Infinity" and "-Infinity" included'
            raise conversation.wrong(f"numbers that overflow: {said(answer)}", mend)
        tensors = [*answer.parameters.values(), *(t for t in (answer.loss, answer.input) if t is not None)]
        words = sorted({number for tensor in tensors for number in tensor.data or () if isinstance(number, str)})
        return ", ".join(words) or "all was finite"

    def _ignores(self) -> str:
        conversation, started = self._talk()

        def change(message: dict[str, Any]) -> None:
            message["later"] = {"version": [1, {"deep": None}]}
            message["batch"]["later"] = "x"
            message["batch"]["inputs"]["later"] = True

        answer = conversation.send(smallest_case(started.capabilities), Outbox(), change)
        if not isinstance(answer, Result):
            raise conversation.wrong(f"unknown fields: {said(answer)}", "ignore fields that the protocol does not have")
        return ""

    def _reads_files(self) -> str:
        conversation, started = self._talk()
        if not started.files:
            raise _NotDeclared('large arrays come in the message too: started has no "files":true')
        outbox = Outbox(self._folder, "self-test", large=0)
        answer = conversation.send(smallest_case(started.capabilities), outbox)
        if not isinstance(answer, Result):
            raise conversation.wrong(f"arrays in a file: {said(answer)}", 'read safetensors, or leave out "files"')
        return ""

    def _stops(self) -> str:
        conversation, _ = self._talk()
        return self._ended(conversation, encode(Stop()), "stop")

    def _ends(self) -> str:
        conversation, _ = self._talk()
        return self._ended(conversation, b"", "the end of its input")

    def _ended(self, conversation: Conversation, request: bytes, after: str) -> str:
        end = conversation.program.stop(request, STOPPING)
        self.close()
        if end is None:
            raise Wrong(f"it did not end within {STOPPING:g} s of {after}", f"leave the loop after {after}")
        if not re.match(r"exited with code 0\b", end):
            raise Wrong(f"after {after} it {'was ' if end.startswith('killed') else ''}{end}", "exit with code 0")
        return ""


def protocol_steps(command: Sequence[str], timeout: float = TIMEOUT) -> Iterator[Step]:
    """Yield the steps of the self-test of a program as they are done; a call may take `timeout` seconds.

    Raises `InvalidInput` where the command cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="gradconform-") as folder:
        test = _Test(command, timeout, Path(folder).resolve())
        try:
            yield from test.steps()
        finally:
            test.close()


def step_text(step: Step) -> str:
    """Return the lines of a step: its outcome, and what is wrong, where and how to mend it."""
    first, *more = step.detail.splitlines() or [""]
    lines = [f"{LABELS[step.outcome]:<11}{step.name}"]
    if step.outcome == "failed":
        for text in (first, *more, *([f"mend: {step.mend}"] if step.mend else [])):
            lines += filled(text, " " * 11)
    elif first and len(line := f"{lines[0]:<42}{first}") <= columns():
        lines = [line]
    elif first:
        lines += filled(first, " " * 11)
    return "\n".join(lines)


def verdict_text(command: Sequence[str], steps: Iterable[Step]) -> str:
    """Return the last lines: whether the program speaks the protocol, and what to do next."""
    outcomes = [step.outcome for step in steps]
    name, failed = shlex.join(command), outcomes.count("failed")
    if failed:
        return f"FAILED  {name}: {failed} of {len(outcomes)} steps of protocol {PROTOCOL}"
    # not wrapped: a command is copied as one line
    return f"PASSED  {name} speaks protocol {PROTOCOL}\n{'now its numbers':<19}gradconform check -- {name}"


def _names(declared: tuple[str, ...] | None, what: str) -> str:
    return f"all {what}" if declared is None else ", ".join(declared) or f"no {what} but Dense"
