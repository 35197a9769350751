"""Mistakes in what is returned: whole gradients that are off by a constant with a name, or exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gradconform.case import Case, Gradients
from gradconform.conformance.mistake import Mistake
from gradconform.layers import Dense
from gradconform.losses import MeanSquaredError
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import Arithmetic

Finish = Callable[[Case, Gradients[Value], Arithmetic], Gradients[Value] | None]


Named = tuple[str, str, str]


@dataclass(frozen=True)
class Constant:
    """A factor by which gradients may be off, by the number of samples, of those that count, and of outputs."""

    text: str
    value: Callable[[Case], float]
    any: Named | None = None
    weight: Named | None = None
    bias: Named | None = None
    """For each of what may be scaled: the id of the mistake, its sentence, and the line."""


def _rows(case: Case) -> float:
    return float(case.batch.rows)


def _outputs(case: Case) -> float:
    return float(case.network.widths[-1])


PER_ROW = Constant("1/batch", lambda case: 1.0 if case.network.loss.averages else 1 / _rows(case))


def always(factor: float) -> Callable[[Case], float]:
    """Return the same factor for every case."""
    return lambda case: factor


def _unless_squares(factor: float) -> Callable[[Case], float]:
    """Return a factor that has another name with the squared error, whose derivative has a 2 of its own."""
    return lambda case: 1.0 if isinstance(case.network.loss, MeanSquaredError) else factor


AVERAGED = "where the loss is a mean, the delta is divided already"

DELTA = "delta = (p - y) / len(x)"

CONSTANTS = (
    Constant(
        "batch",
        _rows,
        (
            "no-mean",
            "the gradients{where} are added up over the batch: the loss is a mean, divide by the batch size",
            f"{DELTA}, not delta = p - y",
        ),
        (
            "weight-no-mean",
            "the gradients of the weights{where} are not divided by the batch size, where those of the biases are",
            f"dw = x.T @ delta and db = delta.sum(axis=0) from the same {DELTA}",
        ),
        (
            "bias-no-mean",
            "the gradients of the biases{where} are not divided by the batch size, where those of the weights are",
            f"dw = x.T @ delta and db = delta.sum(axis=0) from the same {DELTA}",
        ),
    ),
    Constant(
        "1/batch",
        lambda case: 1 / _rows(case) if case.network.loss.averages else 1.0,
        (
            "mean-twice",
            "the gradients{where} are divided by the batch size twice: the loss is a mean already, divide once",
            f"{DELTA}, and no other / len(x) or .mean() behind it",
        ),
    ),
    Constant(
        "1/batch",
        lambda case: 1 / _rows(case),
        None,
        (
            "weight-mean",
            f"the gradients of the weights{{where}} are divided by the batch size: leave that out ({AVERAGED})",
            "dw = x.T @ delta, not x.T @ delta / len(x)",
        ),
        (
            "bias-mean",
            f"the gradients of the biases{{where}} are averaged over the batch: sum them ({AVERAGED})",
            "db = delta.sum(axis=0), not delta.mean(axis=0)",
        ),
    ),
    Constant(
        "2",
        _unless_squares(2.0),
        (
            "twice",
            "the gradients{where} are twice what they should be: a factor 2 too many, or added up twice",
            "set the gradient to 0 before it is added up, and look for a factor 2",
        ),
        ("weight-twice", "the gradients of the weights{where} are twice what they should be", "look for a factor 2"),
        ("bias-twice", "the gradients of the biases{where} are twice what they should be", "look for a factor 2"),
    ),
    Constant(
        "1/2",
        _unless_squares(0.5),
        (
            "half",
            "the gradients{where} are half of what they should be: a factor 2, or one of two contributions, is missing",
            "look for a factor 1/2, and for = where += belongs",
        ),
        ("weight-half", "the gradients of the weights{where} are half of what they should be", "look for a factor 1/2"),
        ("bias-half", "the gradients of the biases{where} are half of what they should be", "look for a factor 1/2"),
    ),
    Constant(
        "-1",
        lambda case: -1.0,
        (
            "minus-lost",
            "the gradients{where} have the wrong sign: return +dC/dw, which descent subtracts in the update",
            "delta = p - y, not y - p; return dw, not -dw",
        ),
        (
            "weight-minus",
            "the sign of the gradients of the weights{where} is wrong",
            "dw = x.T @ delta, without a minus",
        ),
        (
            "bias-minus",
            "the sign of the gradients of the biases{where} is wrong",
            "db = delta.sum(axis=0), without a minus",
        ),
    ),
    Constant(
        "0",
        lambda case: 0.0,
        (
            "zeros",
            "the gradients{where} are 0: they are never computed, or the initial array is returned",
            "dw = x.T @ delta, db = delta.sum(axis=0), where np.zeros_like(w) stands",
        ),
        (
            "weight-missing",
            "the gradients of the weights{where} are 0: dC/dW = x^T delta is missing",
            "dw = x.T @ delta, not np.zeros_like(w)",
        ),
        (
            "bias-missing",
            "the gradients of the biases{where} are 0: add up the delta over the samples",
            "db = delta.sum(axis=0), not np.zeros_like(b)",
        ),
    ),
    Constant(
        "outputs",
        _outputs,
        (
            "mean-over-rows",
            "the gradients{where} are too large by the number of outputs: the loss is averaged over them too",
            "delta = 2 * (a - y) / y.size, not 2 * (a - y) / len(x)",
        ),
    ),
    Constant(
        "1/outputs",
        lambda case: 1 / _outputs(case),
        (
            "mean-over-elements",
            "the gradients{where} are divided by the number of outputs, which the loss is not averaged over",
            "delta = (p - y) / len(x), not (p - y) / y.size",
        ),
    ),
    Constant(
        "batch x outputs",
        lambda case: _rows(case) * _outputs(case),
        (
            "no-mean",
            "the gradients{where} are added up over samples and outputs: the loss is their mean",
            "delta = ... / y.size",
        ),
    ),
    *(
        Constant(
            f"{2**power}",
            always(2.0**power),
            (
                "loss-scale",
                f"a loss scale of {2**power} is not divided out of the gradients{{where}}",
                f"gradients / {2**power} before they are returned",
            ),
        )
        for power in range(7, 17)
    ),
)


@dataclass(frozen=True)
class Position:
    """Of which layers with parameters the gradients are, by their order."""

    text: str
    holds: Callable[[int, int], bool]
    claims: int


POSITIONS = (
    Position("", lambda order, count: True, 0),
    Position(" of the last layer", lambda order, count: order == count - 1, 2),
    Position(" of the first layer", lambda order, count: order == 0, 2),
    Position(" of all layers but the last", lambda order, count: order < count - 1, 2),
    Position(" of all layers but the first", lambda order, count: order > 0, 2),
)


def _of_squares(factor: float) -> Callable[[Case], float]:
    return lambda case: factor if isinstance(case.network.loss, MeanSquaredError) else 1.0


def paths_of(case: Case, name: str, position: Position) -> list[str]:
    """Return the parameters of a name, `any` for all, in layers of a position."""
    dense = [index for index, layer in enumerate(case.network.layers) if isinstance(layer, Dense)]
    chosen = {index for order, index in enumerate(dense) if position.holds(order, len(dense))}
    return [
        path
        for path in case.network.parameters()
        if int(path.partition(".")[0]) in chosen and (name == "any" or path.endswith(f".{name}"))
    ]


def changed(found: Gradients[Value], paths: Sequence[str], change: Callable[[str, Value], Value]) -> Gradients[Value]:
    """Return gradients in which those of some parameters are changed."""
    own = {path: change(path, value) if path in paths else value for path, value in found.parameters.items()}
    return replace(found, parameters=own)


def multiplied(constant: Constant, name: str, position: Position) -> Finish:
    """Return what multiplies the gradients of parameters of a name, `any` for all, in layers of a position."""

    def finish(case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value] | None:
        paths, factor = paths_of(case, name, position), constant.value(case)
        return changed(found, paths, lambda path, value: value * factor) if paths and factor != 1 else None

    return finish


def _exchanged(case: Case, found: Gradients[Value], _k: Arithmetic) -> Gradients[Value] | None:
    """Return the gradients of parameters of the same name and shape in the opposite order."""
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for path, shape in case.network.parameters().items():
        alike.setdefault((path.partition(".")[2], shape), []).append(path)
    turned = {path: other for paths in alike.values() for path, other in zip(paths, reversed(paths), strict=True)}
    return replace(found, parameters={path: found.parameters[other] for path, other in turned.items()})


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind that have no number of their own."""
    for constant in CONSTANTS:
        for name in ("any", "weight", "bias"):
            named = getattr(constant, name)
            if named is None:
                continue
            identifier, likely, mend = named
            for position in POSITIONS:
                yield Mistake(
                    identifier,
                    likely.replace("{where}", position.text),
                    mend,
                    finish=multiplied(constant, name, position),
                    claims=1 + position.claims,
                )
    yield Mistake(
        "sum-divides",
        "the gradients are divided by the batch size although this reduction does not average: leave that out",
        "delta = p - y for reduction sum, without / len(x)",
        finish=multiplied(PER_ROW, "any", POSITIONS[0]),
        claims=2,
    )
    for identifier, likely, factor in (
        ("twice-mse", "the gradients are twice what they should be: the squared error's factor 2 is there twice", 2.0),
        ("half-mse", "the gradients are half of what they should be: (a - y)^2 has the derivative 2 (a - y)", 0.5),
    ):
        yield Mistake(
            identifier,
            likely,
            "delta = 2 * (a - y) / y.size, the factor 2 once",
            finish=multiplied(Constant(f"{factor:g}", _of_squares(factor)), "any", POSITIONS[0]),
            claims=2,
        )
    yield Mistake(
        "exchanged",
        "the gradients of layers of the same shape are exchanged: return each under its own path",
        "return {'0.weight': dw0, '2.weight': dw2, ...}: look for a list that is reversed",
        finish=_exchanged,
    )
