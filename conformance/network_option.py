"""The option --network: notation, or a file with it or its JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradconform.errors import InvalidInput

NETWORK_HELP = (
    'One network instead of all kinds: notation, as in "4 -> Dense(8) -> Tanh -> Dense(3), SoftmaxCrossEntropy", '
    "or a file with it or its JSON."
)


def network_of(text: str, parse: Callable[[str], Any]) -> Any:
    """Return what `parse` makes of a notation, or of a file's, or the network of a file's JSON.

    Raises `InvalidInput`, one line that names the file, for one that cannot be read.
    """
    from gradconform.network import Network

    path = Path(text)
    if "->" in text or not (path.suffix or path.exists()):
        return parse(text)
    try:
        content = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise InvalidInput(f"{text}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{text}: cannot be read: {error}") from None
    try:
        return Network.from_json(content) if content.startswith("{") else parse(content)
    except InvalidInput as error:
        raise InvalidInput(f"{text}: {error}") from None
