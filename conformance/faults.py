"""All planted faults, by their ids: mistakes that people make, each proved to be caught.

By what they get wrong they stand in modules of their own; those that are held out are no mistake with a name.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradconform.conformance.carelessness import CARELESSNESS
from gradconform.conformance.faults_activations import FAULTY_ACTIVATIONS
from gradconform.conformance.faults_dense import FAULTY_DENSE
from gradconform.conformance.faults_entropies import FAULTY_ENTROPIES
from gradconform.conformance.faults_losses import FAULTY_LOSSES
from gradconform.conformance.faults_unnamed import UNNAMED
from gradconform.conformance.faults_whole import FAULTY_AS_A_WHOLE
from gradconform.conformance.inaccuracies import INACCURACIES
from gradconform.conformance.planting import Fault
from gradconform.errors import InvalidInput
from gradconform.nearest import near

FAULTS: dict[str, Fault] = {
    **FAULTY_LOSSES,
    **FAULTY_ENTROPIES,
    **FAULTY_DENSE,
    **FAULTY_ACTIVATIONS,
    **FAULTY_AS_A_WHOLE,
    **INACCURACIES,
    **CARELESSNESS,
    **UNNAMED,
}


def choose_faults(names: Sequence[str]) -> list[Fault]:
    """Return the faults of these names, or all. Raises `InvalidInput` for a name that is unknown."""
    for name in names:
        if name not in FAULTS:
            hint = near(name, FAULTS) or "; gradconform faults --list shows all"
            raise InvalidInput(f"fault {name!r} is unknown{hint}")
    return [FAULTS[name] for name in dict.fromkeys(names)] or list(FAULTS.values())
