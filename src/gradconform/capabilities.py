"""What an implementation takes: data, declared once, from which everything that is drawn for it follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import msgspec

from gradconform.errors import InvalidInput
from gradconform.layers import Dense, Record
from gradconform.losses import REDUCTIONS, LossRecord, Reduction
from gradconform.nearest import hint
from gradconform.network import Network
from gradconform.notation import LAYERS, LOSSES, item_notation, parse_item
from gradconform.templates import Template, parse_template

if TYPE_CHECKING:
    from gradconform.case import Batch

Labels = Literal["integer", "one-hot", "soft"]
Samples = Literal["batch", "single"]

LABELS: tuple[Labels, ...] = get_args(Labels)
SAMPLES: tuple[Samples, ...] = get_args(Samples)
DTYPES = ("float64", "float32", "bfloat16", "float16")
"""As in `gradconform.dtypes`, which needs NumPy."""
ARITHMETICS = ("numpy", "torch", "xla", "any")
"""The rounding models of `gradconform.reference.precision`."""
CONVENTIONS = ("torch", "jax", "sum", "batchmean", "half", "transposed", "clip")
"""The names of `gradconform.conformance.conventions`; clip has a value, as in clip=1e-7."""

Candidate = TypeVar("Candidate")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an implementation takes, and how it means it. The defaults are those of a function written by hand.

    `layers`, `losses`: names, as in notation: `Huber` with all its options, `Huber()` or `Huber(delta=2)` with exactly
    these, the reduction free unless it is stated; None: all. Dense belongs to all. In Python classes and records will
    do. `bias`: whether Dense layers have one; None: some do. `networks`: the only ones, in notation, a width that is
    free written as `*`. `samples`: whole batches, or single samples, handed over as vectors. `labels`: the kinds of
    targets that cross entropies take. `layouts`: whether arrays may come in any memory order. `conventions`: the names
    of those that it follows. `arithmetic`: the rounding model that its kernels obey. `compiled`: whether each new shape
    is compiled first: then few shapes are drawn, with many values for each.

    Raises `InvalidInput`, one line that names the field and the words that are known.
    """

    layers: tuple[str, ...] | None = None
    losses: tuple[str, ...] | None = None
    reductions: tuple[Reduction, ...] = ("mean", "sum", "none")
    bias: bool | None = None
    networks: tuple[str, ...] = ()
    samples: Samples = "batch"
    dtypes: tuple[str, ...] = ("float64",)
    labels: tuple[Labels, ...] = ("integer",)
    class_weights: bool = False
    layouts: bool = False
    conventions: tuple[str, ...] = ()
    arithmetic: str = "any"
    compiled: bool = False

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "layers": _items("layers", self.layers, LAYERS),
            "losses": _items("losses", self.losses, LOSSES),
            "reductions": _words("reductions", self.reductions, REDUCTIONS),
            "bias": _flag("bias", self.bias, none=True),
            "networks": _networks(self.networks),
            "samples": _words("samples", (self.samples,), SAMPLES)[0],
            "dtypes": _words("dtypes", self.dtypes, DTYPES),
            "labels": _words("labels", self.labels, LABELS),
            "class_weights": _flag("class_weights", self.class_weights),
            "layouts": _flag("layouts", self.layouts),
            "conventions": _conventions(self.conventions),
            "arithmetic": _words("arithmetic", (self.arithmetic,), ARITHMETICS)[0],
            "compiled": _flag("compiled", self.compiled),
        }
        for name, value in checked.items():
            msgspec.structs.force_setattr(self, name, value)
        for loss in self.losses or ():
            for kind in record_class(loss, LOSSES).follows:
                if self.layers is not None and kind.__name__ not in self.layers:
                    raise InvalidInput(
                        f"losses declares {loss}, which stands after {kind.__name__} alone: add it to layers"
                    )

    def lacks(self, network: Network, batch: Batch | None = None) -> str | None:
        """Return what of a network, and of a batch, is not declared, as a reason in one line; None where all is."""
        for layer in network.layers:
            if isinstance(layer, Dense):
                if self.bias is not None and layer.bias is not self.bias:
                    return f"it declares no Dense {'with' if layer.bias else 'without'} bias"
            elif not _holds(self.layers, layer, LAYERS):
                return f"it declares no {item_notation(layer)}"
        loss = network.loss
        if not _holds(self.losses, loss, LOSSES):
            return f"it declares no {item_notation(loss)}"
        if loss.reduction not in self.reductions:
            return f"it declares no reduction {loss.reduction}"
        if self.networks and not any(_template(text).fits(network) for text in self.networks):
            return f"it declares {self.networks[0]}{' and other networks' * (len(self.networks) > 1)} alone"
        return None if batch is None else self._lacks_batch(loss, batch)

    def _lacks_batch(self, loss: LossRecord, batch: Batch) -> str | None:
        if self.samples == "single" and batch.rows != 1:
            return "it takes single samples alone"
        if batch.class_weights is not None and not self.class_weights:
            return "it takes no class weights"
        if loss.labels == "classes":
            kinds: set[Labels] = {"integer"} if batch.labelled else {"soft"}
            if not batch.labelled and bool(((batch.targets == 0) | (batch.targets == 1)).all()):
                kinds.add("one-hot")
            if not kinds & set(self.labels):
                return f"it takes no {' or '.join(sorted(kinds))} labels"
        return None


FIELDS: tuple[str, ...] = Capabilities.__struct_fields__


def supports(**fields: Any) -> Callable[[Candidate], Candidate]:
    """Return a decorator that declares what a function or a class takes: the fields of `Capabilities`.

    In `layers` and `losses` classes and records stand beside names: `layers=(Tanh, "ReLU")`, `losses=Huber(delta=2)`.
    Raises `InvalidInput` for a field or a word that is unknown.
    """
    declared = capabilities_of(fields)

    def decorate(candidate: Candidate) -> Candidate:
        candidate.capabilities = declared  # type: ignore[attr-defined] # functions and classes take attributes
        return candidate

    return decorate


def capabilities_of(fields: Mapping[str, Any]) -> Capabilities:
    """Return the record of the given fields; raises `InvalidInput` for an unknown one, with the nearest name."""
    for name in fields:
        if name not in FIELDS:
            raise InvalidInput(f"capabilities: unknown field {name!r}; {hint(name, FIELDS)}")
    return Capabilities(**fields)


def combined(several: Sequence[Capabilities]) -> Capabilities:
    """Return what is drawn for several implementations: what all declare, or, where that is nothing, what any does."""
    first, *more = several or [EVERYTHING]
    for other in more:
        layers = _common(first.layers, other.layers)
        losses = _common(first.losses, other.losses)
        for loss in losses or ():
            if layers is not None:
                layers += tuple(
                    kind.__name__ for kind in record_class(loss, LOSSES).follows if kind.__name__ not in layers
                )
        first = Capabilities(
            layers=layers,
            losses=losses,
            reductions=_shared(first.reductions, other.reductions),
            bias=other.bias if first.bias is None else first.bias if other.bias in {None, first.bias} else None,
            networks=_shared(first.networks, other.networks)
            if first.networks and other.networks
            else first.networks or other.networks,
            samples="single" if "single" in {first.samples, other.samples} else "batch",
            labels=_shared(first.labels, other.labels),
            class_weights=first.class_weights and other.class_weights,
            layouts=first.layouts and other.layouts,
            compiled=first.compiled or other.compiled,
        )
    return first


def record_class(entry: str, kinds: Mapping[str, type[Any]]) -> type[Any]:
    """Return the class of a layer or loss as it is declared."""
    return kinds[entry.partition("(")[0]]


def _shared(mine: tuple[Any, ...], its: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(word for word in mine if word in its) or tuple(dict.fromkeys((*mine, *its)))


def _common(mine: tuple[str, ...] | None, its: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the declared layers or losses that both take, or else all of them."""
    if mine is None or its is None:
        return its if mine is None else mine

    def within(entry: str, declared: tuple[str, ...]) -> bool:
        return entry in declared or entry.partition("(")[0] in declared

    both = [entry for entry in mine if within(entry, its)] + [entry for entry in its if within(entry, mine)]
    return tuple(dict.fromkeys(both or (*mine, *its)))


def _holds(declared: tuple[str, ...] | None, record: Record, kinds: Mapping[str, type[Record]]) -> bool:
    if declared is None:
        return True
    name = type(record).__name__
    for entry in declared:
        if entry == name:
            return True
        if entry.startswith(f"{name}("):
            exact = _exact(entry, kinds is LOSSES)
            if "reduction=" not in entry and isinstance(record, LossRecord):
                exact = msgspec.structs.replace(exact, reduction=record.reduction)
            if exact == record:
                return True
    return False


def _items(field: str, declared: Any, kinds: Mapping[str, type[Record]]) -> tuple[str, ...] | None:
    """Return layers or losses as their names, with their options where they are given."""
    if declared is None:
        return None
    entries = []
    for item in _several(field, declared):
        if isinstance(item, type) and item in kinds.values():
            entry = item.__name__
        elif isinstance(item, Record) and kinds.get(type(item).__name__) is type(item):
            entry = _exactly(item, stated=False)
        elif isinstance(item, str):
            name, parenthesis, _ = item.partition("(")
            if name.strip() not in kinds:
                raise InvalidInput(f"{field} declares {item!r}; {hint(name.strip(), kinds)}")
            try:
                # Dense alone has a value that must be given, which here is nobody's business
                entry = name.strip() if not parenthesis else _exactly(parse_item(item, kinds), "reduction=" in item)
            except InvalidInput as error:
                raise InvalidInput(f"{field} declares {error}") from None
        else:
            raise InvalidInput(f"{field} declares {item!r}; known: {', '.join(kinds)}")
        if entry.startswith("Dense("):
            raise InvalidInput(f"{field} declares {entry}; widths belong to networks, and bias is a field of its own")
        entries.append(entry)
    if field == "losses" and not entries:
        raise InvalidInput(f"losses declares nothing; known: {', '.join(kinds)}")
    return tuple(dict.fromkeys(entries))


def _exactly(record: Record, stated: bool) -> str:
    """Return how a record with exactly its options is declared; `stated`: its reduction is one of them."""
    name = type(record).__name__
    options = [field.name for field in msgspec.structs.fields(record)]
    if not set(options) - {"reduction"} and not stated and getattr(record, "reduction", "mean") == "mean":
        return name  # it has no options
    text = item_notation(record)
    if stated and "reduction=" not in text:
        text = f"{text.rstrip(')')}{', ' if '(' in text else '('}reduction={getattr(record, 'reduction', '')})"
    return text if "(" in text else f"{text}()"


def _words(field: str, declared: Any, known: Sequence[Any]) -> tuple[Any, ...]:
    words = _several(field, declared)
    for word in words:
        if word not in known:
            raise InvalidInput(f"{field} declares {word!r}; known: {', '.join(known)}")
    if not words:
        raise InvalidInput(f"{field} declares nothing; known: {', '.join(known)}")
    return tuple(word for word in known if word in words)


def _flag(field: str, declared: Any, *, none: bool = False) -> bool | None:
    if (declared is not None and type(declared) is not bool) or (declared is None and not none):
        raise InvalidInput(f"{field} declares {declared!r}; known: True, False{', None' if none else ''}")
    return declared


def _networks(declared: Any) -> tuple[str, ...]:
    texts = []
    for network in (declared,) if isinstance(declared, Network) else _several("networks", declared):
        if not isinstance(network, str | Network):
            raise InvalidInput(f"networks declares {network!r}; expected notation, such as '* -> Dense(*), Huber'")
        texts.append(str(network))
        try:
            _template(texts[-1])
        except InvalidInput as error:
            raise InvalidInput(f"networks declares {error}") from None
    return tuple(texts)


def _conventions(declared: Any) -> tuple[str, ...]:
    words = [] if declared is None else list(_several("conventions", declared))
    for word in words:
        name, equals, value = str(word).partition("=")
        if name not in CONVENTIONS:
            raise InvalidInput(f"conventions declares {word!r}; known: {', '.join(CONVENTIONS)}=1e-7")
        if name != "clip" and equals:
            raise InvalidInput(f"conventions declares {word!r}; {name} has no value")
        if name == "clip":
            clip_value(value, str(word))
    if {"sum", "batchmean"} <= set(words):
        raise InvalidInput("conventions declares sum and batchmean, which exclude one another")
    return tuple(dict.fromkeys(words))


def clip_value(value: str, word: str) -> float:
    """Return the number of `clip=`; raises `InvalidInput` unless it lies between 0 and 0.5."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < 0.5:
        raise InvalidInput(f"conventions declares {word!r}; expected clip= and a number above 0, such as clip=1e-7")
    return number


def _several(field: str, declared: Any) -> tuple[Any, ...]:
    if isinstance(declared, str | Record | type):
        return (declared,)
    if not isinstance(declared, Iterable):
        raise InvalidInput(f"{field} declares {declared!r}; expected a tuple of words")
    return tuple(declared)


@lru_cache(maxsize=256)
def _template(text: str) -> Template:
    return parse_template(text)


@lru_cache(maxsize=256)
def _exact(entry: str, loss: bool) -> Record:
    record: Record = parse_item(entry, LOSSES if loss else LAYERS)
    return record


EVERYTHING = Capabilities(
    reductions=REDUCTIONS, dtypes=("float64", "float32"), labels=LABELS, class_weights=True, layouts=True
)
"""What the reference and the adapters take."""
