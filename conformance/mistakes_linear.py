"""Mistakes in the backward pass of a linear layer: dC/dW = x^T delta, dC/db = sum of delta, dC/dx = delta W^T."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from gradconform.case import Array
from gradconform.conformance.mistake import Mistake, Step, elementwise
from gradconform.layers import Dense, Record
from gradconform.reference.arithmetic import Value
from gradconform.reference.layers import Arithmetic, Pullback, layer_rule

Pulled = tuple[Value, dict[str, Value]]
RATES = (1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 1e-4)
"""Learning rates that people take."""


def _dense(change: Callable[[Step], Pulled | None]) -> Callable[[Step], Pulled | None]:
    """Return a change of dense layers alone."""
    return lambda s: change(s) if isinstance(s.layer, Dense) else None


def _weight(gradient: Callable[[Step], Value | None]) -> Callable[[Step], Pulled | None]:
    """Return a change of the weight's gradient."""

    def change(s: Step) -> Pulled | None:
        value = gradient(s)
        return None if value is None or value.shape != s.parameters["weight"].shape else s.own(weight=value)

    return _dense(change)


def _bias(gradient: Callable[[Step], Value | None]) -> Callable[[Step], Pulled | None]:
    """Return a change of the bias's gradient."""

    def change(s: Step) -> Pulled | None:
        value = gradient(s)
        units = s.output.shape[-1]
        return None if value is None or value.shape != (units,) or "bias" not in s.parameters else s.own(bias=value)

    return _dense(change)


def _propagated(delta: Callable[[Step], Value | None]) -> Callable[[Step], Pulled | None]:
    """Return a change of the delta that is handed down."""

    def change(s: Step) -> Pulled | None:
        value = delta(s)
        return None if value is None else s.below(value)

    return _dense(change)


def _whole(rows: slice) -> Callable[[Step], Pulled | None]:
    """Return the gradients of the parameters over some of the samples alone: 0 where none is left."""
    return _dense(lambda s: s.own(weight=s.x[rows].mT @ s.delta[rows], bias=s.delta[rows].sum(axis=-2)))


def _before(s: Step) -> Value | None:
    """Return the pre-activation below the layer, where an activation stands there."""
    below = s.network.layers[s.index - 1] if s.index else None
    return s.earlier[-2] if below is not None and elementwise(below) else None


def _bias_of_all(s: Step) -> Value:
    total = s.delta.sum(axis=(-2, -1))
    return total[None] * s.k.lift(np.ones(s.output.shape[-1]))


def _all_but_last(count: int) -> Array:
    return (np.arange(count) < count - 1).astype(float)


def _last_unit_dropped(s: Step) -> Pulled:
    kept = s.k.lift(_all_but_last(s.output.shape[-1]))
    return s.own(**{name: gradient * kept for name, gradient in s.right[1].items()})


def _single_scalar(s: Step) -> Value | None:
    return _bias_of_all(s) if s.x.shape[0] == 1 else None


def _transposed_forward(layer: Record, k: Arithmetic, x: Value, parameters: Any) -> tuple[Value, Pullback] | None:
    """Return x W^T + b where W is square, with the backward pass of x W + b."""
    weight = parameters.get("weight")
    if not isinstance(layer, Dense) or weight.shape[0] != weight.shape[1]:
        return None
    _, pullback = layer_rule(layer, k, x, parameters)
    return k.affine(x, weight.mT, parameters.get("bias")), pullback


def _stepped(rate: float) -> Callable[[Step], Value | None]:
    def delta(s: Step) -> Value | None:
        gradient = s.right[1]["weight"]
        return s.delta @ (s.parameters["weight"] - gradient * rate).mT

    return delta


def _no_bias(layer: Record, k: Arithmetic, x: Value, parameters: Any) -> tuple[Value, Pullback] | None:
    """Return a dense layer that forgets its bias in the forward pass, and keeps the bias's gradient."""
    if not isinstance(layer, Dense) or not layer.bias:
        return None
    without = msgspec.structs.replace(layer, bias=False)
    output, _ = layer_rule(without, k, x, {"weight": parameters["weight"]})
    _, pullback = layer_rule(layer, k, x, parameters)
    return output, pullback


def table() -> Iterator[Mistake]:
    """Yield all mistakes of this kind."""
    rows: list[tuple[str, str, str, Callable[[Step], Pulled | None]]] = [
        (
            "transposed",
            "the gradient of a weight is transposed (the shapes fit where it is square): it is x^T delta, (in, out)",
            "dw = x.T @ delta, not delta.T @ x",
            _weight(lambda s: s.right[1]["weight"].mT if s.square else None),
        ),
        (
            "weight-not-transposed",
            "the delta is propagated through W instead of its transpose (the shapes fit only where W is square)",
            "delta_below = delta @ w.T, not delta @ w",
            _propagated(lambda s: s.delta @ s.parameters["weight"] if s.square else None),
        ),
        (
            "delta-without-weight",
            "the delta is handed down without the weight: it is delta times W^T",
            "delta_below = delta @ w.T, not delta",
            _propagated(lambda s: s.delta if s.square else None),
        ),
        (
            "wrong-activation",
            "the gradient of a weight is made with the layer's own output: use the incoming activation",
            "dw = x.T @ delta with x the layer's input, not dw = z.T @ delta with its output",
            _weight(lambda s: s.output.mT @ s.delta if s.square else None),
        ),
        (
            "pre-activation-used",
            "the gradient of a weight is made with the pre-activation z below it: use the activation a = sigma(z)",
            "dw = a.T @ delta, not z.T @ delta",
            _weight(lambda s: None if (z := _before(s)) is None else z.mT @ s.delta),
        ),
        (
            "network-input-used",
            "the gradient of a later weight is made with the network's input: use the layer's incoming activation",
            "dw = a.T @ delta, not x.T @ delta",
            _weight(lambda s: s.earlier[0].mT @ s.delta if s.index else None),
        ),
        (
            "incoming-missing",
            "the gradient of a weight leaves out the incoming activation: dz/dw is the activation, not 1",
            "dw = x.T @ delta, not delta.sum(axis=0) for each row",
            _weight(lambda s: s.k.lift(np.ones(s.x.shape)).mT @ s.delta),
        ),
        (
            "delta-before-activation",
            "the gradients of a layer's parameters take dC/da, the delta before sigma'(z): multiply by sigma'(z) first",
            "dw = x.T @ (delta_a * slope), not x.T @ delta_a",
            _dense(
                lambda s: (
                    s.own(weight=s.x.mT @ s.above, bias=s.above.sum(axis=-2))
                    if s.above is not None and elementwise(s.network.layers[s.index + 1])
                    else None
                )
            ),
        ),
        (
            "delta-before-activation",
            "the gradients of weights take dC/da, the delta before sigma'(z): multiply by sigma'(z) first",
            "dw = x.T @ (delta_a * slope), not x.T @ delta_a",
            _dense(
                lambda s: (
                    s.own(weight=s.x.mT @ s.above)
                    if s.above is not None and elementwise(s.network.layers[s.index + 1])
                    else None
                )
            ),
        ),
        (
            "samples-misaligned",
            "the incoming activation of one sample is multiplied by the delta of another: keep their order",
            "dw = x.T @ delta with the rows of both in the same order (shuffle both or none)",
            _weight(lambda s: s.x.mT @ s.delta[np.roll(np.arange(s.x.shape[0]), 1)]),
        ),
        (
            "samples-misaligned",
            "the incoming activations are multiplied by the deltas in the opposite order of the samples",
            "dw = x.T @ delta with the rows of both in the same order",
            _weight(lambda s: s.x.mT @ s.delta[::-1]),
        ),
        (
            "last-input-dropped",
            "the weights of the last incoming activation get no gradient: a loop ends one too early",
            "range(n), not range(n - 1)",
            _weight(lambda s: s.right[1]["weight"] * s.k.lift(_all_but_last(s.x.shape[-1])[:, None])),
        ),
        (
            "last-unit-dropped",
            "the weights and the bias of the last unit get no gradient: a loop ends one too early",
            "range(n), not range(n - 1)",
            _dense(_last_unit_dropped),
        ),
        (
            "bias-scalar",
            "one sum over samples and units is the gradient of every bias: add up the samples alone",
            "db = delta.sum(axis=0), not delta.sum()",
            _bias(_bias_of_all),
        ),
        (
            "bias-axis",
            "the gradient of a bias adds up the units instead of the samples (the shapes fit where both are as many)",
            "db = delta.sum(axis=0), not delta.sum(axis=1)",
            _bias(lambda s: s.delta.sum(axis=-1)),
        ),
        (
            "bias-first-row",
            "the gradient of a bias is that of the first sample alone: add up all samples",
            "db = delta.sum(axis=0), not delta[0]",
            _bias(lambda s: s.delta[0]),
        ),
        (
            "bias-last-row",
            "the gradient of a bias is that of the last sample alone: add up all samples",
            "db += delta_n in the loop over the samples, not db = delta_n",
            _bias(lambda s: s.delta[-1] if s.x.shape[0] > 1 else None),
        ),
        (
            "last-sample-dropped",
            "the last sample is left out of the gradients of the weights: go through all samples",
            "x.T @ delta (or range(n)), not x[:-1].T @ delta[:-1] (or range(n - 1))",
            _weight(lambda s: s.x[:-1].mT @ s.delta[:-1]),
        ),
        (
            "first-sample-dropped",
            "the first sample is left out of the gradients of the weights: go through all samples",
            "range(n), not range(1, n)",
            _weight(lambda s: s.x[1:].mT @ s.delta[1:]),
        ),
        (
            "last-sample-dropped",
            "the last sample is left out of the gradients of weights and biases: go through all samples",
            "range(n), not range(n - 1)",
            _whole(slice(None, -1)),
        ),
        (
            "first-sample-dropped",
            "the first sample is left out of the gradients of weights and biases: go through all samples",
            "range(n), not range(1, n)",
            _whole(slice(1, None)),
        ),
        (
            "last-sample-only",
            "the gradients are those of the last sample alone: = stands where += belongs",
            "dw += ... in the loop over the samples, not dw = ...",
            _whole(slice(-1, None)),
        ),
        (
            "first-sample-only",
            "the gradients are those of the first sample alone: add up all samples",
            "x.T @ delta, not np.outer(x[0], delta[0])",
            _whole(slice(0, 1)),
        ),
        (
            "last-sample-only",
            "the gradients of the weights are those of the last sample alone: = stands where += belongs",
            "dw += ... in the loop over the samples, not dw = ...",
            _weight(lambda s: s.x[-1:].mT @ s.delta[-1:] if s.x.shape[0] > 1 else None),
        ),
        (
            "first-sample-only",
            "the gradients of the weights are those of the first sample alone: add up all samples",
            "x.T @ delta, not np.outer(x[0], delta[0])",
            _weight(lambda s: s.x[:1].mT @ s.delta[:1] if s.x.shape[0] > 1 else None),
        ),
        (
            "detached",
            "nothing flows below the layer: the delta that is handed down is 0; propagate delta times W^T",
            "delta_below = delta @ w.T, not 0 (a detach or stop_gradient in between?)",
            _propagated(lambda s: s.right[0] * 0.0),
        ),
    ]
    for identifier, likely, mend, step in rows:
        # at the lowest layer nobody sees whether the delta below it is right
        implies = ("derivative-missing",) if identifier == "delta-before-activation" else ()
        yield Mistake(identifier, likely, mend, step=step, kinds=(Dense,), implies=implies)
    for count in (2, 3, 4, 5, 6):
        yield Mistake(
            "later-samples-dropped",
            f"the gradients are those of the first {count} samples: a buffer or a loop ends there",
            f"range(len(x)), not range(min(len(x), {count}))",
            step=_whole(slice(None, count)),
            kinds=(Dense,),
            claims=2,
        )
    for rate in RATES:
        yield Mistake(
            "updated-weights",
            f"the delta is propagated through weights that were updated already (by {rate:g} times their gradient): "
            "update the weights when the whole backward pass is done",
            "delta_below = delta @ w.T, then w -= rate * dw, not w -= rate * dw, then delta_below = delta @ w.T",
            step=_propagated(_stepped(rate)),
            kinds=(Dense,),
        )
    yield Mistake(
        "squeezed-sample",
        "with a batch of one sample the gradient of a bias is one sum over the units: an axis is lost there",
        "delta.sum(axis=0) on a (1, units) array, without squeeze()",
        step=_bias(_single_scalar),
        kinds=(Dense,),
    )
    yield Mistake(
        "forward-transposed",
        "the forward pass uses the transpose of the weight (the shapes fit only where it is square): z = x W + b",
        "z = x @ w + b, not x @ w.T + b",
        forward=_transposed_forward,
        kinds=(Dense,),
    )
    yield Mistake(
        "bias-unused",
        "the forward pass leaves out the bias{where}: z = x W + b",
        "z = x @ w + b, not x @ w",
        forward=_no_bias,
        kinds=(Dense,),
    )
