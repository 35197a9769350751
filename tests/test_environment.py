"""What the environment promises: its frameworks are there, no others, and the wheel is what is tested."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import gradconform

EXPECT = os.environ.get("GRADCONFORM_EXPECT")
promised = pytest.mark.skipif(EXPECT is None, reason="GRADCONFORM_EXPECT, a list such as torch,jax, is not set")


@promised
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_framework_is_installed_exactly_where_it_is_promised(framework):
    assert (importlib.util.find_spec(framework) is not None) == (framework in EXPECT.split(","))


@promised
def test_only_known_frameworks_are_promised():
    assert set(filter(None, EXPECT.split(","))) <= {"torch", "jax"}


@promised
def test_the_installed_wheel_is_tested():
    assert Path(gradconform.__file__).is_relative_to(sys.prefix)


@promised
@pytest.mark.parametrize("folder", ["reference", "adapters", "conformance"])
def test_a_folder_is_not_importable_by_its_bare_name(folder):
    assert importlib.util.find_spec(folder) is None
