"""Protocol 1: the messages that gradconform and a program of any language exchange, one JSON object a line.

gradconform sends start, run and stop; the program answers started, result, skipped and errored. docs/protocol.md is
the specification, docs/protocol.schema.json the schema, which `schema` writes from the records below.
Fields that a record does not have are ignored, so that later versions may add some; capabilities alone are strict,
because a misspelt one would silently change what is checked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import msgspec

from gradconform.adapters.tensors import Dtype, Inbox, InFile, Inline, Outbox, Tensor, word_of
from gradconform.capabilities import Capabilities
from gradconform.case import Array, Batch, Gradients, Parameters
from gradconform.errors import CandidateFailed, GradconformError, one_line
from gradconform.network import Network

PROTOCOL = 1
LONGEST_LINE = 256 << 20
"""Bytes of one message."""
SHOWN = 80
"""Characters of somebody else's line that a message repeats."""
NOT_INSTALLED = "installation"
"""What a program's `errored` is about where it needs something that is not installed."""

FailureKind = Literal[
    "NAME",
    "SHAPE",
    "DTYPE",
    "NONFINITE",
    "MUTATED",
    "ALIASED",
    "STATEFUL",
    "NONDETERMINISTIC",
    "CRASHED",
    "TIMEOUT",
]
_WHAT_NUMBERS_ARE = 'a number, "NaN", "Infinity" or "-Infinity"'


class BrokenMessage(GradconformError):
    """A line is no message of the protocol. `column` counts its bytes from 1; None where the place is in the text."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(one_line(message if column is None else f"column {column}: {message}"))
        self.column = column


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """`inputs` (N, width); `targets` (N,) int64 labels or (N, C); weights of the classes (C,), and the cotangent of an
    unreduced loss, where the loss takes one.
    """

    inputs: Tensor
    targets: Tensor
    class_weights: Tensor | None = None
    cotangent: Tensor | None = None


class Quantities(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Gradients by the parameter's path, and what else a program shows; deltas and outputs by the layer's index.

    `slack`: by path, how far a gradient may be from what was really computed, where it was not taken from it directly.
    """

    parameters: dict[str, Tensor]
    loss: Tensor | None = None
    input: Tensor | None = None
    deltas: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    slack: dict[str, Tensor] = {}


class Start(msgspec.Struct, tag="start", tag_field="type", frozen=True, kw_only=True, omit_defaults=True):
    """gradconform's first message. Files of either side lie directly in `folder`."""

    protocol: int
    folder: str | None = None


class Run(msgspec.Struct, tag="run", tag_field="type", frozen=True, kw_only=True):
    """Compute the gradients of one case, in `dtype`."""

    id: int
    network: Network
    dtype: Dtype
    parameters: dict[str, Tensor]
    batch: Samples


class Stop(msgspec.Struct, tag="stop", tag_field="type", frozen=True):
    """The program ends, with exit code 0, within a second."""


class Started(msgspec.Struct, tag="started", tag_field="type", frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `start`. `files`: whether the program reads and writes arrays in files."""

    protocol: int
    name: str
    version: str | None = None
    capabilities: Capabilities = Capabilities()
    files: bool = False


class Result(Quantities, tag="result", tag_field="type", frozen=True, kw_only=True, omit_defaults=True):
    """The answer to the run `id`.

    `captured`: the same quantities of the program that gave deltas and outputs, where a compiler made two of it.
    """

    id: int
    captured: Quantities | None = None


class Skipped(msgspec.Struct, tag="skipped", tag_field="type", frozen=True, kw_only=True):
    """The program has no rule for the run `id`: counted, no failure."""

    id: int
    reason: str


class Errored(msgspec.Struct, tag="errored", tag_field="type", frozen=True, kw_only=True, omit_defaults=True):
    """The run `id` failed, or, without an id, the program cannot be used. `what`: the part that it is about."""

    message: str
    id: int | None = None
    kind: FailureKind = "CRASHED"
    what: str = "gradients"


Request = Start | Run | Stop
Answer = Started | Result | Skipped | Errored
_REQUEST = msgspec.json.Decoder(Request)
_ANSWER = msgspec.json.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """Return a message as one line of JSON with its newline. Every double is written so that it reads back the same."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Return what gradconform sent; raises `BrokenMessage`."""
    request: Request = _decode(_REQUEST, line, "start, run, stop")
    return request


def decode_answer(line: bytes) -> Answer:
    """Return what a program answered; raises `BrokenMessage`, one line that names the message and the field."""
    answer: Answer = _decode(_ANSWER, line, "started, result, skipped, errored")
    return answer


def shown(line: bytes) -> str:
    """Return the beginning of a line, escaped and in quotes."""
    text = line[: 4 * SHOWN].decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every message of the protocol."""
    messages = {kind.__name__: kind for kind in (Start, Run, Stop, Started, Result, Skipped, Errored)}
    _, components = msgspec.json.schema_components((*messages.values(), Inline, InFile), ref_template="#/$defs/{name}")
    # the record has the fields of both, because a union of records needs a tag; the schema need not
    components["Tensor"] = {
        "title": "Tensor",
        "description": Tensor.__doc__,
        "oneOf": [{"$ref": "#/$defs/Inline"}, {"$ref": "#/$defs/InFile"}],
    }
    for component in components.values():
        if "description" in component:
            component["description"] = " ".join(component["description"].split())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"gradconform protocol {PROTOCOL}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in messages],
        "$defs": dict(sorted(components.items())),
    }


def run_message(number: int, network: Network, parameters: Parameters, batch: Batch, outbox: Outbox) -> bytes:
    """Return the line that asks for the gradients of a case; raises `Unsupported` for an unknown dtype."""
    dtype = batch.inputs.dtype.name
    weights, cotangent = batch.class_weights, batch.cotangent
    message = Run(
        id=number,
        network=network,
        dtype=dtype,  # type: ignore[arg-type] # the inputs' tensor refuses another
        parameters=outbox.tensors("parameters", parameters),
        batch=Samples(
            inputs=outbox.tensor("inputs", batch.inputs),
            targets=outbox.tensor("targets", batch.targets),
            class_weights=None if weights is None else outbox.tensor("class_weights", weights),
            cotangent=None if cotangent is None else outbox.tensor("cotangent", cotangent),
        ),
    )
    outbox.write()
    return encode(message)


def batch_of(run: Run, inbox: Inbox) -> tuple[dict[str, Array], Batch]:
    """Return the parameters and the batch of a run; raises `CandidateFailed` where they cannot be read."""
    batch = run.batch
    optional = {
        name: None if tensor is None else inbox.array(name, tensor, run.dtype)
        for name, tensor in (("class_weights", batch.class_weights), ("cotangent", batch.cotangent))
    }
    inputs, targets = (inbox.array(name, getattr(batch, name), run.dtype) for name in ("inputs", "targets"))
    return inbox.arrays("", run.parameters, run.dtype), Batch(inputs, targets, **optional)


def result_message(number: int, gradients: Gradients[Array], outbox: Outbox) -> bytes:
    """Return the line that answers a run; raises `Unsupported` for arrays that the protocol cannot carry."""
    fields = _fields("", gradients, outbox)
    captured = None if gradients.captured is None else Quantities(**_fields("captured.", gradients.captured, outbox))
    message = Result(id=number, captured=captured, **fields)
    outbox.write()
    return encode(message)


def gradients_of(result: Quantities, dtype: str, inbox: Inbox) -> Gradients[Array]:
    """Return the arrays of an answer; raises `CandidateFailed` for what is no array, `dtype` that of the run."""
    captured = getattr(result, "captured", None)
    return Gradients(
        inbox.arrays("", result.parameters, dtype),
        None if result.loss is None else inbox.array("loss", result.loss, dtype),
        None if result.input is None else inbox.array("input", result.input, dtype),
        dict(_by_layer("deltas", inbox.arrays("deltas.", result.deltas, dtype))),
        dict(_by_layer("outputs", inbox.arrays("outputs.", result.outputs, dtype))),
        None if captured is None else gradients_of(captured, dtype, inbox),
        inbox.arrays("slack.", result.slack, "float64"),
    )


def _fields(prefix: str, gradients: Gradients[Array], outbox: Outbox) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: outbox.tensors(f"{prefix}{name}", getattr(gradients, name))
        for name in ("parameters", "deltas", "outputs", "slack")
    }
    for name in ("loss", "input"):
        if (array := getattr(gradients, name)) is not None:
            fields[name] = outbox.tensor(f"{prefix}{name}", array)
    return fields


def _by_layer(what: str, arrays: Mapping[str, Array]) -> Iterator[tuple[int, Array]]:
    for name, array in arrays.items():
        if not (name.isascii() and name.isdigit()):
            raise CandidateFailed("NAME", what, one_line(f"{name!r} is no layer: they are counted from 0"))
        yield int(name), array


def _decode(decoder: msgspec.json.Decoder[Any], line: bytes, known: str) -> Any:
    if not line.lstrip().startswith(b"{"):
        said = "an empty line" if not line.strip() else shown(line)
        raise BrokenMessage(f"expected one JSON object, got {said}; print all else to standard error")
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise _invalid(line, str(error), known) from None
    except msgspec.DecodeError as error:
        raise _malformed(line, str(error)) from None
    except UnicodeDecodeError:
        raise _not_utf8(line) from None
    except RecursionError:
        raise BrokenMessage("the JSON is nested too deeply") from None


def _malformed(line: bytes, error: str) -> BrokenMessage:
    found = re.search(r"\(byte (\d+)\)", error)
    if found is None:
        return BrokenMessage("the line ends inside the JSON: a message is one whole line", len(line.rstrip()) + 1)
    at = int(found[1])
    number = re.search(rb"[-+]?(nan|inf(inity)?)\b", line[max(0, at - 4) : at + 12], re.IGNORECASE)
    if number is not None:
        word = word_of(float(number[0]))
        return BrokenMessage(f'{number[0].decode()} is no JSON: write "{word}", with the quotes', at + 1)
    return BrokenMessage(f"no JSON from {shown(line[at : at + SHOWN // 2])} on", at + 1)


def _not_utf8(line: bytes) -> BrokenMessage:
    # the whole line is decoded again: msgspec counts from the beginning of the string that it was in
    valid = line.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
    column = next((at for at, (one, other) in enumerate(zip(line, valid, strict=False)) if one != other), len(valid))
    return BrokenMessage("the text is not UTF-8", column + 1)


def _invalid(line: bytes, error: str, known: str) -> BrokenMessage:
    """Return what is wrong, and its whole place: in msgspec's, the keys of dictionaries are left out."""
    message, _, path = error.partition(" - at `$")
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        return _not_utf8(line)
    except json.JSONDecodeError as broken:  # further on than what msgspec objected to
        return _malformed(line, f"(byte {len(broken.doc[: broken.pos].encode())})")
    kind = value.get("type")
    if path == ".type`" or "`type`" in message:
        said = "missing" if kind is None else f"unknown message {kind!r}"
        return BrokenMessage(f"type: {said}; known: {known}")
    place = str(kind)
    for step in re.findall(r"\[\.\.\.\]|\[\d+\]|\.[^.\[]+", path.rstrip("`")):
        key: Any = step[1:]
        if step == "[...]":
            key = next((name for name, entry in value.items() if not _is_tensor(entry)), "?")
        elif step[0] == "[":
            key = int(step[1:-1])
        place += f"[{json.dumps(key)}]" if step[0] == "[" else step
        value = value[key] if isinstance(value, list) else value.get(key) if isinstance(value, dict) else None
    if "out of range" in message:
        return BrokenMessage(f'{place}: larger than any double: write "Infinity" or "-Infinity", with the quotes')
    if "].data[" in place:
        return BrokenMessage(f"{place}: expected {_WHAT_NUMBERS_ARE}, got {json.dumps(value)}")
    if place.endswith(".dtype"):
        known = ", ".join(get_args(Dtype))
        return BrokenMessage(f"{place}: unknown dtype {json.dumps(value)}; known: {known}")
    message = message.replace("`", "").replace("Invalid enum value", "unknown word")
    return BrokenMessage(f"{place}: {message[:1].lower()}{message[1:]}")


def _is_tensor(value: object) -> bool:
    try:
        data = msgspec.convert(value, Tensor).data
    except msgspec.ValidationError:
        return False
    return not any(isinstance(number, float) and math.isinf(number) for number in data or ())
