"""Profiles: how much a run draws, from which seed, for how long, and what it has to have met.

The same names are profiles of `gradconform check` and of the pytest suite. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradconform.errors import InvalidInput
from gradconform.nearest import hint

if TYPE_CHECKING:
    from gradconform.conformance.coverage import Axis

CI_SEED = 1


@dataclass(frozen=True)
class Profile:
    """What a run does where no option says otherwise.

    `networks`: None: as many as there is time for. `seed`: None: another one each time. `max_time`: seconds from the
    start of the command until nothing more is drawn. `required`: every value of these that is drawn has to be met.
    `draws`: cases of each structure; None: as suits the run. `structures`: of each pytest item.
    """

    networks: int | None
    structures: int
    summary: str
    seed: int | None = None
    max_time: float | None = None
    required: tuple[Axis, ...] = ("regime", "layer", "loss", "reduction", "dtype")
    draws: int | None = None

    @property
    def explores(self) -> bool:
        """Whether the pytest suite draws something else each time: so does what has all the time there is."""
        return self.networks is None

    def promises(self, *, max_examples: int | None, max_time: float | None, narrowed: bool) -> tuple[Axis, ...]:
        """Return what a run has to meet: nothing where the user asked for less than the profile does.

        `narrowed`: only some networks or checks are asked for, or real data.
        """
        fewer = max_examples is not None and (self.networks is None or max_examples < self.networks)
        shorter = max_time is not None and (self.max_time is None or max_time < self.max_time)
        return () if narrowed or fewer or shorter else self.required


PROFILES = {
    "smoke": Profile(
        # six structures, one for each loss, and more cases than regimes: seconds, with both frameworks; the time is
        # for what is slow itself, and enough for this on a machine that is busy with other things
        networks=24,
        structures=4,
        summary="24 networks, at most a minute",
        max_time=60.0,
        # each regime is met by one case or two, some layers by one structure: these are drawn, but may tell nothing
        required=("loss", "reduction", "dtype"),
        draws=4,
    ),
    "default": Profile(networks=100, structures=10, summary="100 networks"),
    "ci": Profile(networks=300, structures=20, summary="300 networks, a fixed seed", seed=CI_SEED),
    "nightly": Profile(
        networks=None,
        structures=100,
        summary="as many networks as 30 minutes have, of many structures",
        max_time=1800.0,
        draws=32,
    ),
}


def profile_named(name: str, profiles: Mapping[str, Profile]) -> Profile:
    """Return the profile of a name; raises `InvalidInput` with the nearest name where there is none."""
    if name not in profiles:
        raise InvalidInput(f"no profile {name!r}; {hint(name, profiles)}")
    return profiles[name]
