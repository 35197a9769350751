"""Fixed architectures whose widths are free: `* -> Dense(*) -> Sigmoid -> Dense(*), MeanSquaredError`.

The notation of a network in which `*` may stand for the number of inputs and for the units of a Dense layer, each `*`
a width of its own. A network without any is a template too, which only itself fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gradconform.layers import Dense
from gradconform.network import Network
from gradconform.notation import Parser


@dataclass(frozen=True)
class Template:
    """A network whose widths at `free` may be any: -1 for the inputs, else the index of a Dense layer."""

    text: str
    network: Network
    """The network with 1 for each free width."""
    free: tuple[int, ...]

    def filled(self, widths: Sequence[int]) -> Network:
        """Return the network with the given widths, one for each of `free`, in its order."""
        inputs, layers = self.network.inputs, list(self.network.layers)
        for index, width in zip(self.free, widths, strict=True):
            if index < 0:
                inputs = width
            else:
                layers[index] = msgspec.structs.replace(layers[index], units=width)
        return Network(inputs=inputs, layers=tuple(layers), loss=self.network.loss)

    def fits(self, network: Network) -> bool:
        """Return whether `network` is this one with some widths in place of the free ones."""
        if len(network.layers) != len(self.network.layers):
            return False
        widths = []
        for index in self.free:
            layer = None if index < 0 else network.layers[index]
            if layer is not None and not isinstance(layer, Dense):
                return False
            widths.append(network.inputs if layer is None else layer.units)
        return self.filled(widths) == network


def parse_template(text: str) -> Template:
    """Return the template that `text` describes.

    Raises `InvalidInput`, one line with the column, as `gradconform.parse` does, and for a `*` that is no width.
    """
    parser = Parser(text)
    tokens = parser.tokens
    words = [word for word, _ in tokens]
    free, layer = [], -1
    for position, (word, column) in enumerate(tokens):
        layer += word == "->"
        if word != "*":
            continue
        before = words[max(position - 2, 0) : position]
        if position and before[-1:] != ["("] and before != ["units", "="]:
            parser.fail(column, "a free width, '*', is the number of inputs or the units of Dense(*)")
        tokens[position] = ("1", column)
        free.append(layer)
    return Template(text, parser.network(), tuple(free))


def with_free_widths(text: str) -> Network | str:
    """Return the network that `text` describes, or, where a width is free, `text` itself; raises as the parser does."""
    template = parse_template(text)
    return text if template.free else template.network
