"""Profiles of one's own extend others, and nothing that is wrong in them goes through."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradconform.conformance.configuration import Configuration
from gradconform.conformance.own_profiles import profiles_of
from gradconform.conformance.profiles import PROFILES, profile_named
from gradconform.errors import InvalidInput


def own(**tables):
    return profiles_of(Configuration("pyproject.toml", Path(), {"profiles": tables}))


def test_a_profile_has_what_it_extends_but_for_what_it_says():
    found = own(weekly={"extends": "nightly", "max-time": 3600, "required": ["loss", "dtype"]}, small={"draws": 4})
    nightly, weekly = PROFILES["nightly"], found["weekly"]
    assert (weekly.networks, weekly.structures, weekly.draws) == (nightly.networks, nightly.structures, nightly.draws)
    assert (weekly.max_time, weekly.required) == (3600.0, ("loss", "dtype"))
    assert (found["small"].networks, found["small"].draws) == (PROFILES["default"].networks, 4)
    assert {name: found[name] for name in PROFILES} == PROFILES


def test_a_profile_may_extend_one_that_stands_behind_it():
    found = own(first={"extends": "second", "seed": 0}, second={"extends": "ci", "max-examples": 7})
    assert (found["first"].networks, found["first"].seed) == (7, 0)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"ci": {"seed": 2}}, "[tool.gradconform] profiles: ci is always the same: give yours another name, with "
                              "extends = 'ci'"),
        ({"mine": 3}, "[tool.gradconform] profiles: expected a table [tool.gradconform.profiles.mine]"),
        ({"mine": {"extend": "ci"}}, "[tool.gradconform.profiles.mine] extend is unknown; did you mean extends?"),
        ({"mine": {"extends": "nightli"}}, "[tool.gradconform.profiles.mine] extends: no profile 'nightli'; did you "
                                           "mean nightly?"),
        ({"mine": {"extends": ["ci"]}}, "[tool.gradconform.profiles.mine] extends: no profile ['ci']; did you mean "
                                        "ci?"),
        ({"mine": {"max-examples": 0}}, "[tool.gradconform.profiles.mine] max-examples: expected an integer of at "
                                        "least 1, got 0"),
        ({"mine": {"seed": True}}, "[tool.gradconform.profiles.mine] seed: expected an integer of at least 0, got "
                                   "True"),
        ({"mine": {"max-time": "60"}}, "[tool.gradconform.profiles.mine] max-time: expected a number of seconds "
                                       "above 0, got '60'"),
        ({"mine": {"required": ["layers"]}}, "[tool.gradconform.profiles.mine] required: expected a list of some of "
                                             "regime, layer, loss, reduction, dtype, got ['layers']"),
        ({"mine": {"summary": 1}}, "[tool.gradconform.profiles.mine] summary: expected a string, got 1"),
        ({"a": {"extends": "b"}, "b": {"extends": "a"}}, "[tool.gradconform.profiles.a] extends itself"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(tables, told):
    with pytest.raises(InvalidInput) as error:
        own(**tables)
    assert str(error.value) == f"pyproject.toml: {told}"


def test_a_table_of_profiles_is_a_table():
    with pytest.raises(InvalidInput) as error:
        profiles_of(Configuration("pyproject.toml", Path(), {"profiles": ["ci"]}))
    assert "expected a table for each profile, [tool.gradconform.profiles.NAME]" in str(error.value)


def test_an_unknown_name_has_a_nearest_one():
    with pytest.raises(InvalidInput) as error:
        profile_named("nighty", own(mine={}))
    assert str(error.value) == "no profile 'nighty'; did you mean nightly?"
