"""A network: input width, layers and loss, as one frozen, hashable record without arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import get_args

import msgspec

from gradconform.errors import InvalidInput, one_line
from gradconform.layers import Layer, at_least_one
from gradconform.losses import Loss


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feed-forward network for inputs of shape (N, `inputs`).

    Raises `ValueError` that names the offending layer, for example
    `layers[2]: must be a layer such as Dense(8), got 'Tanh'`.
    """

    inputs: int
    layers: tuple[Layer, ...]
    loss: Loss

    def __post_init__(self) -> None:
        at_least_one("inputs", self.inputs)
        if not isinstance(self.layers, Iterable):
            raise ValueError(one_line(f"layers: must be a tuple of layers, got {self.layers!r}"))
        msgspec.structs.force_setattr(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ValueError("layers: a network needs at least one layer")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, get_args(Layer)):
                raise ValueError(one_line(f"layers[{index}]: must be a layer such as Dense(8), got {layer!r}"))
        if not isinstance(self.loss, get_args(Loss)):
            raise ValueError(one_line(f"loss: must be a loss such as MeanSquaredError(), got {self.loss!r}"))
        follows = self.loss.follows
        if follows and not isinstance(self.layers[-1], follows):
            wanted = " or ".join(kind.__name__ for kind in follows)
            raise ValueError(
                f"layers[{len(self.layers) - 1}]: {type(self.loss).__name__} takes probabilities: "
                f"the last layer must be {wanted}, got {type(self.layers[-1]).__name__}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of units that go into each layer and, last, out of the network."""
        return _widths(self)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by its path, such as `0.weight`, in the order of the layers."""
        return dict(_parameters(self))

    def __str__(self) -> str:
        from gradconform.notation import to_notation

        return to_notation(self)

    def to_json(self) -> bytes:
        """Return the network as JSON, which `from_json` reads back."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Network:
        """Return the network that `to_json` wrote.

        Raises `InvalidInput`, one line that starts with the place, such as `layers[1]: units must be at least 1`.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except RecursionError:
            raise InvalidInput("the JSON is nested too deeply for a network") from None
        except (msgspec.DecodeError, UnicodeError) as error:
            message, _, place = str(error).partition(" - at `$")
            place = place.rstrip("`").lstrip(".")
            raise InvalidInput(one_line(f"{place}: {message}" if place else message)) from None


@lru_cache(maxsize=1024)
def _widths(network: Network) -> tuple[int, ...]:
    widths = [network.inputs]
    for layer in network.layers:
        widths.append(layer.outputs(widths[-1]))
    return tuple(widths)


@lru_cache(maxsize=1024)
def _parameters(network: Network) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (f"{index}.{name}", shape)
        for index, (layer, width) in enumerate(zip(network.layers, _widths(network), strict=False))
        for name, shape in layer.parameters(width).items()
    )
