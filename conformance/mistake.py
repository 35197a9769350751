"""A mistake: one way to go wrong, as a change of the reference's backpropagation, in any of its arithmetics.

What somebody computes who makes a mistake is predicted by making it in the reference, with bounds. That is how a
diagnosis is tested: a mistake is named only where its prediction explains, within rounding, all that a candidate gave.
Planted faults (`gradconform.conformance.faults`) are written independently of these, as one would write a candidate.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gradconform.case import Array, Batch, Case, Gradients, Parameters
from gradconform.layers import Dense, Record, Softmax
from gradconform.losses import LossRecord
from gradconform.network import Network
from gradconform.reference.arithmetic import Plain, Value
from gradconform.reference.backpropagation import backpropagate
from gradconform.reference.bounded import Bounded
from gradconform.reference.bounding import Bounding
from gradconform.reference.bounds import carrier_for
from gradconform.reference.layers import Arithmetic, Pullback, layer_rule
from gradconform.reference.losses import cost
from gradconform.reference.precision import Precision


@dataclass(eq=False)
class Step:
    """The backward pass of one layer, which a mistake may do otherwise.

    `x`: the incoming activation; `output`: what the layer gave; `delta`: dC/dz at its output; `above`: the delta at the
    output of the layer above, None for the last layer; `earlier`: the incoming activations of all layers so far.
    """

    index: int
    layer: Record
    k: Arithmetic
    x: Value
    output: Value
    parameters: Mapping[str, Value]
    delta: Value
    above: Value
    earlier: Sequence[Value]
    network: Network
    pullback: Pullback

    @cached_property
    def right(self) -> tuple[Value, dict[str, Value]]:
        """The delta below and the gradients of the parameters, as they should be."""
        return self.pullback(self.delta)

    @property
    def square(self) -> bool:
        """Whether as many units go into the layer as out of it."""
        return bool(self.x.shape[-1] == self.output.shape[-1])

    def below(self, delta: Value) -> tuple[Value, dict[str, Value]]:
        """Return another delta below, with the right gradients of the parameters."""
        return delta, self.right[1]

    def own(self, **gradients: Value) -> tuple[Value, dict[str, Value]]:
        """Return other gradients of the parameters, of those that there are, with the right delta below."""
        right = self.right[1]
        return self.right[0], right | {name: value for name, value in gradients.items() if name in right}


@dataclass(eq=False)
class End:
    """The end point, which a mistake may do otherwise: the cost and the output delta, from the network's output z."""

    loss: LossRecord
    k: Arithmetic
    z: Value
    batch: Batch
    cost: Value
    delta: Value

    @property
    def rows(self) -> int:
        """The number of samples."""
        return self.batch.rows

    def again(self, loss: LossRecord | None = None, batch: Batch | None = None) -> Value:
        """Return the output delta of another loss or of another batch."""
        return cost(loss or self.loss, self.k, self.z, batch or self.batch)[1]


Given = tuple[Network, Parameters, Batch]


@dataclass(frozen=True, eq=False)
class Mistake:
    """One way to go wrong. Each function returns None where the mistake changes nothing.

    `likely` says what is wrong and what to do, `mend` which line: both may hold `{where}`. `given` changes what is
    computed: network, parameters and batch; `forward` what a layer gives, `step` its backward pass, `end` the cost and
    its delta, `finish` what is returned. `claims`: how much is claimed; of mistakes that explain the same, the one that
    claims least is named. `scope`: which layers it is about, in words; `only`: the same as a predicate of the indices
    of all layers of its kinds, the network and the layer's index. `implies`: the ids of what says less of the same.
    """

    id: str
    likely: str
    mend: str = ""
    given: Callable[[Network, Parameters, Batch], Given | None] | None = None
    forward: Callable[[Record, Arithmetic, Value, Mapping[str, Value]], tuple[Value, Pullback] | None] | None = None
    step: Callable[[Step], tuple[Value, dict[str, Value]] | None] | None = None
    end: Callable[[End], tuple[Value, Value] | None] | None = None
    finish: Callable[[Case, Gradients[Value], Arithmetic], Gradients[Value] | None] | None = None
    claims: int = 1
    scope: str = ""
    only: Callable[[Sequence[int], Network, int], bool] | None = None
    implies: tuple[str, ...] = ()
    kinds: tuple[type[Record], ...] = field(default=())
    """The layers or losses that a case must have for the mistake to show; empty: any."""
    arithmetic: type[Plain] = Plain
    inexact: bool = False
    """Whether what it gives depends on how it is rounded: it is predicted in the case's own type, without bound."""
    short: type[np.generic] | None = None
    """A shorter type in which all is computed, and of which all is that is wrong."""

    def __post_init__(self) -> None:
        if self.arithmetic is not Plain:
            object.__setattr__(self, "inexact", True)

    def layers(self, network: Network) -> set[int]:
        """Return the indices of the layers in which the mistake is made."""
        own = [i for i, layer in enumerate(network.layers) if not self.kinds or isinstance(layer, self.kinds)]
        return {index for index in own if self.only is None or self.only(own, network, index)}

    def concerns(self, network: Network) -> bool:
        """Return whether the mistake may show in a network."""
        return not self.kinds or any(isinstance(part, self.kinds) for part in (*network.layers, network.loss))


class FusedBounding(Bounding):
    """Bounds where they are differentiated as one."""

    fuses = True


class Everywhere(Sequence[float]):
    """The same derivative at all kinks: 0 the left-sided, 1 the right-sided one."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        return self.share


def predict(
    mistakes: Sequence[Mistake], case: Case, k: Arithmetic, shown: Gradients[Array] | None = None
) -> Gradients[Value]:
    """Return what is computed for a case by whoever makes all the mistakes, in the arithmetic `k`.

    `shown`: outputs and deltas that somebody computed, on which each step is done.

    Raises whatever arithmetic on arrays of the wrong shape raises, where mistakes do not go together.
    """
    network, parameters, batch = case.network, case.parameters, case.batch
    for mistake in mistakes:
        if mistake.given is not None and (changed := mistake.given(network, parameters, batch)) is not None:
            network, parameters, batch = changed
    with np.errstate(all="ignore"):
        found = backpropagate(
            k,
            network,
            parameters,
            batch,
            shown=shown,
            rule=_rule(mistakes, network),
            end=_end([mistake for mistake in mistakes if mistake.end is not None]),
        )
        return finished(mistakes, case, found, k)


def finished(mistakes: Sequence[Mistake], case: Case, found: Gradients[Value], k: Arithmetic) -> Gradients[Value]:
    """Return what is returned by whoever makes the mistakes after all is computed."""
    for mistake in mistakes:
        if mistake.finish is not None and (changed := mistake.finish(case, found, k)) is not None:
            found = changed
    return found


def bounded(
    mistakes: Sequence[Mistake],
    case: Case,
    m: Precision,
    *,
    fuse: bool,
    shown: Gradients[Array] | None = None,
    share: float | None = None,
) -> tuple[Gradients[Bounded], bool]:
    """Return the same with bounds, in a rounding model, and whether a pre-activation lies at a kink.

    `share`: the derivative taken at kinks; None: any.
    """
    kind = FusedBounding if fuse else Bounding
    k = kind(m, carrier_for(case.network, case.batch), None if share is None else Everywhere(share))
    found = predict(mistakes, case, k, shown)
    return found, any(site.near.any() for site in k.sites)


def plain(
    mistakes: Sequence[Mistake],
    case: Case,
    dtype: DTypeLike = np.float64,
    *,
    fuse: bool,
    shown: Gradients[Array] | None = None,
) -> Gradients[Array]:
    """Return the same in `dtype` alone, without bounds and many times as fast."""
    k = next((mistake.arithmetic for mistake in mistakes if mistake.arithmetic is not Plain), Plain)(dtype)
    k.fuses = fuse
    return predict(mistakes, case, k, shown)


def _rule(mistakes: Sequence[Mistake], network: Network) -> Callable[..., tuple[Value, Pullback]]:
    """Return the rule of the layers, called for each in turn, as those who make the mistakes have it."""
    changed = [mistake for mistake in mistakes if mistake.step is not None or mistake.forward is not None]
    if not changed:
        return layer_rule
    where = {id(mistake): mistake.layers(network) for mistake in changed}
    count = itertools.count()
    earlier: list[Value] = []
    deltas: dict[int, Value] = {}

    def rule(layer: Record, k: Arithmetic, x: Value, parameters: Mapping[str, Value]) -> tuple[Value, Pullback]:
        index = next(count)
        earlier.append(x)
        output, pullback = layer_rule(layer, k, x, parameters)
        own = [mistake for mistake in changed if index in where[id(mistake)]]
        for mistake in own:
            if mistake.forward is not None and (other := mistake.forward(layer, k, x, parameters)) is not None:
                output, pullback = other

        def mistaken(delta: Value) -> tuple[Value, dict[str, Value]]:
            deltas[index] = delta
            result: Pullback = pullback
            for mistake in own:
                if mistake.step is not None:
                    result = _stepped(mistake.step, result)
            return result(delta)

        def _stepped(step: Callable[[Step], Any], pulled: Pullback) -> Pullback:
            def once(delta: Value) -> tuple[Value, dict[str, Value]]:
                above = deltas.get(index + 1)
                now = Step(index, layer, k, x, output, parameters, delta, above, earlier[: index + 1], network, pulled)
                other = step(now)
                return now.right if other is None else other

            return once

        return output, mistaken

    return rule


def _end(mistakes: Sequence[Mistake]) -> Callable[..., tuple[Value, Value]]:
    """Return the cost and its delta as those who make the mistakes have them."""
    if not mistakes:
        return cost

    def end(loss: LossRecord, k: Arithmetic, z: Value, batch: Batch) -> tuple[Value, Value]:
        value, delta = cost(loss, k, z, batch)
        for mistake in mistakes:
            changed = None if mistake.end is None else mistake.end(End(loss, k, z, batch, value, delta))
            if changed is not None:
                value, delta = changed
        return value, delta

    return end


def elementwise(layer: Record) -> bool:
    """Return whether a layer is an activation of each element alone."""
    return not isinstance(layer, Dense | Softmax)


def scoped(mistake: Mistake, network: Network) -> Iterator[Mistake]:
    """Yield the mistake made in some layers alone, of those of a network that it is about."""
    if mistake.step is None and mistake.forward is None:
        return
    own = [network.layers[index] for index in sorted(mistake.layers(network))]
    kinds = list(dict.fromkeys(type(layer) for layer in own))
    if len(kinds) > 1:
        for kind in kinds:
            scope = f" of {kind.__name__}"
            yield replace(mistake, only=_of_kind(kind), scope=scope, claims=mistake.claims + 1)
    if len(own) > 1:
        what = "layer" if mistake.kinds == (Dense,) else "activation"
        for text, only in (
            (f" of the last {what}", lambda own, network, index: index == own[-1]),
            (f" of the first {what}", lambda own, network, index: index == own[0]),
            (f" of all {what}s but the last", lambda own, network, index: index != own[-1]),
            (f" of all {what}s but the first", lambda own, network, index: index != own[0]),
        ):
            yield replace(mistake, only=only, scope=text, claims=mistake.claims + 2)


def _of_kind(kind: type[Record]) -> Callable[[Sequence[int], Network, int], bool]:
    return lambda own, network, index: isinstance(network.layers[index], kind)
