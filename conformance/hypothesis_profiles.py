"""The profiles as Hypothesis' settings: gradconform-smoke, gradconform-default, gradconform-ci, gradconform-nightly.

Each is made from Hypothesis' default with every field set: under `CI` others inherit `derandomize` and no database, and
a nightly run would explore nothing.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from gradconform.conformance.profiles import PROFILES, Profile

FOLDER = ".hypothesis/examples"
"""Where a run that explores keeps what failed, as Hypothesis itself does."""


def settings_of(profile: Profile, structures: int | None = None, *, explore: bool | None = None) -> settings:
    """Return the settings of a profile.

    `structures`: so many examples instead of the profile's. `explore`: whether each run draws others, and keeps what
    failed; None: as the profile says.
    """
    exploring = profile.explores if explore is None else explore
    return settings(
        settings.get_profile("default"),
        max_examples=structures or profile.structures,
        derandomize=not exploring,
        database=DirectoryBasedExampleDatabase(FOLDER) if exploring else None,
        phases=(Phase.reuse, Phase.generate) if exploring else (Phase.generate,),
        deadline=None,
        report_multiple_bugs=False,
        stateful_step_count=50,
        suppress_health_check=(
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ),
        verbosity=Verbosity.normal,
        print_blob=False,
        backend="hypothesis",
    )


for _name, _profile in PROFILES.items():
    settings.register_profile(f"gradconform-{_name}", settings_of(_profile))
