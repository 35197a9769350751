"""A focus: what of all that may be drawn a round draws, as plain data: the same wherever it is run."""

from __future__ import annotations

import msgspec

from gradconform.capabilities import Capabilities, record_class
from gradconform.notation import LOSSES


class Focus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is drawn. A field that is empty or 0 leaves all there is.

    `why`: what the focus is for, in a word. `networks`: the only ones, in notation; `layers`, `losses`: the only ones,
    as `Capabilities` names them; `max_dense`, `max_units`: how deep and how wide; `regimes`: the only ones; `dtypes`;
    `draws`: cases of each structure.
    """

    why: str = ""
    networks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    max_dense: int = 0
    max_units: int = 0
    regimes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    draws: int = 0

    def of(self, capabilities: Capabilities) -> Capabilities:
        """Return what is declared, narrowed to the layers and losses of the focus: without losses that do not fit."""
        layers = self.layers or capabilities.layers
        losses = self.losses or capabilities.losses
        if self.layers:
            own = tuple(LOSSES) if losses is None else losses
            losses = tuple(loss for loss in own if _fits(loss, self.layers)) or losses
        return msgspec.structs.replace(capabilities, layers=layers, losses=losses)


def _fits(loss: str, layers: tuple[str, ...]) -> bool:
    names = {layer.partition("(")[0] for layer in layers}
    return all(kind.__name__ in names for kind in record_class(loss, LOSSES).follows)


EVERYTHING_DRAWN = Focus()
