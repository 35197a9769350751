"""The profiles as Hypothesis' settings: each says everything itself, whatever it is that CI sets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import Phase, settings

from gradconform.conformance.hypothesis_profiles import settings_of
from gradconform.conformance.profiles import PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_registered_under_a_name_of_ours(name):
    chosen = settings.get_profile(f"gradconform-{name}")
    assert chosen.max_examples == PROFILES[name].structures
    assert chosen.deadline is None
    assert chosen.derandomize == (chosen.database is None) == (name != "nightly")


def test_what_explores_keeps_what_failed_and_tries_it_again():
    nightly = settings_of(PROFILES["nightly"])
    assert set(nightly.phases) == {Phase.reuse, Phase.generate}
    assert set(settings_of(PROFILES["ci"]).phases) == {Phase.generate}


def test_what_is_asked_goes_before_the_profile():
    assert settings_of(PROFILES["smoke"], 7).max_examples == 7
    chosen = settings_of(PROFILES["ci"], explore=True)
    assert (chosen.derandomize, chosen.database is None) == (False, False)


def test_a_nightly_run_explores_in_ci_as_well():
    code = (
        "from hypothesis import settings\n"
        "import gradconform.conformance.hypothesis_profiles\n"
        "chosen = settings.get_profile('gradconform-nightly')\n"
        "print(settings().derandomize, chosen.derandomize, chosen.database is not None)"
    )
    environment = {**os.environ, "CI": "true"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    # Hypothesis' own default is another one there
    assert done.stdout.split() == ["True", "False", "True"]
