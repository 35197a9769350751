"""One line for a network: `4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy`.

Widths, layers and the loss stand in the order of the forward pass. Options stand in parentheses after a name,
as in Python but with bare words: `Dense(8, bias=False)`, `GELU(approximate=tanh)`, `Huber(reduction=sum, delta=2)`.
`parse(to_notation(network)) == network` for every network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn, get_args

import msgspec

from gradconform.errors import InvalidInput, one_line
from gradconform.layers import Layer, Record
from gradconform.losses import Loss
from gradconform.nearest import closest
from gradconform.network import Network

LAYERS: dict[str, type[Record]] = {kind.__name__: kind for kind in get_args(Layer)}
LOSSES: dict[str, type[Record]] = {kind.__name__: kind for kind in get_args(Loss)}

_TOKEN = re.compile(r"->|[(),=]|(?:(?!->)[^\s(),=])+")
_PUNCTUATION = frozenset(["->", "(", ")", ",", "="])
_WORDS: dict[str, object] = {"True": True, "False": False, "None": None}


def to_notation(network: Network) -> str:
    """Return the one-line notation of `network`; options at their defaults are left out."""
    layers = " -> ".join([str(network.inputs), *map(item_notation, network.layers)])
    return f"{layers}, {item_notation(network.loss)}"


def item_notation(record: Record) -> str:
    """Return the notation of one layer or loss; options at their defaults are left out."""
    options = []
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if field.required:
            options.append(f"{value}")
        elif value != field.default:
            options.append(f"{field.name}={value}")
    name = type(record).__name__
    return f"{name}({', '.join(options)})" if options else name


def parse(text: str) -> Network:
    """Return the network that `text` describes.

    Raises `InvalidInput`, one line with the column and what was expected there.
    """
    parser = Parser(text)
    for word, column in parser.tokens:
        if word == "*":
            parser.fail(column, "a free width, '*', stands in networks= and --network of a check alone; write a number")
    return parser.network()


def parse_item(text: str, kinds: Mapping[str, type[Record]]) -> Any:
    """Return the layer or loss, one of `kinds` by name, that `text` describes, such as `Huber(delta=2)`.

    Raises `InvalidInput`, one line with the column and what was expected there.
    """
    parser = Parser(text)
    record = parser.item(kinds, "loss" if kinds is LOSSES else "layer", "")
    if parser.peek() is not None:
        parser.fail(parser.here(), "expected nothing more")
    return record


class Parser:
    """Recursive descent over `inputs -> layer -> ... , loss`, one method a rule."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(match[0], match.start() + 1) for match in _TOKEN.finditer(text)]
        self.position = 0

    def network(self) -> Network:
        """Return the network that the whole text describes."""
        token, column = self.next("the number of inputs")
        inputs = _value(token)
        if not isinstance(inputs, int) or isinstance(inputs, bool):
            self.fail(column, f"expected the number of inputs, got {_quoted(token)}")
        layers: list[Any] = []
        while self.peek() == "->":
            self.position += 1
            layers.append(self.item(LAYERS, "layer", f"layers[{len(layers)}]: "))
        if self.peek() != ",":
            self.fail(self.here(), "expected '->' and a layer, or ',' and the loss")
        self.position += 1
        loss: Any = self.item(LOSSES, "loss", "loss: ")
        if self.position < len(self.tokens):
            self.fail(self.here(), "expected nothing after the loss")
        try:
            return Network(inputs=inputs, layers=tuple(layers), loss=loss)
        except ValueError as error:
            raise InvalidInput(one_line(f"{_quoted(self.text)}: {error}")) from None

    def item(self, kinds: Mapping[str, type[Record]], what: str, place: str) -> Record:
        """Return the layer or loss, one of `kinds`, that comes next; `what` and `place` name it in a message."""
        name, column = self.next(f"a {what}")
        if name not in kinds:
            lower = {kind.lower(): kind for kind in kinds}
            close = closest(name.lower(), lower)
            hint = f"did you mean {lower[close[0]]}?" if close else f"known: {', '.join(kinds)}"
            self.fail(column, f"{place}unknown {what} {_quoted(name)}; {hint}")
        arguments: list[object] = []
        options: dict[str, object] = {}
        if self.peek() == "(":
            self.options(arguments, options)
        fields = msgspec.structs.fields(kinds[name])
        required = [field.name for field in fields if field.required]
        known = {field.name for field in fields}
        unknown = next((option for option in options if option not in known), None)
        if unknown is not None:
            choices = ", ".join(sorted(known)) or "none"
            self.fail(column, f"{place}{name} has no option {_quoted(unknown)}; known: {choices}")
        if len(arguments) > len(required):
            self.fail(
                column, f"{place}{name} takes {len(required)} positional value(s), write the others as name=value"
            )
        for option, argument in zip(required, arguments, strict=False):
            if option in options:
                self.fail(column, f"{place}{name} has {option} twice")
            options[option] = argument
        missing = next((option for option in required if option not in options), None)
        if missing is not None:
            self.fail(column, f"{place}{name} needs {missing}, as in {name}(8)")
        try:
            return msgspec.convert({"kind": name, **options}, kinds[name])
        except ValueError as error:
            message, _, option = str(error).partition(" - at `$.")
            self.fail(column, place + (f"{option.rstrip('`')}: {message}" if option else message))

    def options(self, arguments: list[object], options: dict[str, object]) -> None:
        """Read values in parentheses into `arguments` and, those with a name, into `options`."""
        self.position += 1
        while self.peek() != ")":
            token, column = self.next("an option or ')'")
            if token in _PUNCTUATION:
                self.fail(column, f"expected an option or ')', got {token!r}")
            if self.peek() == "=":
                self.position += 1
                if token in options:
                    self.fail(column, f"option {_quoted(token)} stands twice")
                value, column = self.next(f"a value for {_quoted(token)}")
                if value in _PUNCTUATION:
                    self.fail(column, f"expected a value for {_quoted(token)}, got {value!r}")
                options[token] = _value(value)
            else:
                arguments.append(_value(token))
            if self.peek() == ",":
                self.position += 1
            elif self.peek() != ")":
                self.fail(self.here(), "expected ',' or ')'")
        self.position += 1

    def here(self) -> int:
        """Return the column of what comes next."""
        return self.tokens[self.position][1] if self.position < len(self.tokens) else len(self.text) + 1

    def peek(self) -> str | None:
        """Return what comes next; None at the end."""
        return self.tokens[self.position][0] if self.position < len(self.tokens) else None

    def next(self, expected: str) -> tuple[str, int]:
        """Return what comes next, and its column, and go on behind it."""
        if self.position == len(self.tokens):
            self.fail(self.here(), f"expected {expected}, but the text ends")
        self.position += 1
        return self.tokens[self.position - 1]

    def fail(self, column: int, message: str) -> NoReturn:
        """Raise `InvalidInput` for what stands at a column."""
        raise InvalidInput(f"{_quoted(self.text, column)}, column {column}: {one_line(message)}")


def _quoted(text: str, column: int = 1, limit: int = 80) -> str:
    """Return `text` in quotes; of a long one the part around `column`."""
    if len(text) <= limit:
        return repr(text)
    start = max(0, min(column - 1 - limit // 2, len(text) - limit))
    shown = ("..." if start else "") + text[start : start + limit] + ("..." if start + limit < len(text) else "")
    return repr(shown)


def _value(token: str) -> object:
    """Return the number, boolean or word that `token` spells."""
    if token in _WORDS:
        return _WORDS[token]
    for number in (int, float):
        try:
            return number(token)
        except ValueError:
            continue
    return token
