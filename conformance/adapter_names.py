"""Which adapters there are, by name; none of them, nor NumPy, is imported."""

from __future__ import annotations

import importlib.metadata
import pkgutil

import gradconform.adapters

ENTRY_POINTS = "gradconform.adapters"
"""The group of entry points in which packages name their own adapters."""
VMAP = ".vmap"
"""What follows the name of an adapter in the name of its implementation by vmap."""
BY_VMAP = ("torch", "jax")
"""The adapters of ours that have one."""


def adapter_names() -> list[str]:
    """Return the names of all adapters, their frameworks installed or not."""
    modules = {module.name for module in pkgutil.iter_modules(gradconform.adapters.__path__)}
    # an adapter shares its name with the extra that installs its framework; other modules serve it
    modules &= set(importlib.metadata.metadata("gradconform").get_all("Provides-Extra") or ())
    others = {point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    # torch must be imported before jax, whose libraries it otherwise finds loaded
    return sorted(modules | others, key=lambda name: (name != "torch", name))


def vmap_names() -> list[str]:
    """Return the names of the implementations by vmap, their frameworks installed or not."""
    return [f"{name}{VMAP}" for name in BY_VMAP]


def names_adapter(target: str) -> bool:
    """Return whether a target is the name of an adapter, or of its implementation by vmap."""
    return target in adapter_names() or target in vmap_names()
