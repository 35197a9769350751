"""What is installed, in which version, and how to get what is missing. No framework is imported."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np

from gradconform.conformance import compilation_cache
from gradconform.conformance.configuration import FILE, PREFIX, TABLE
from gradconform.conformance.configured import settings_here
from gradconform.conformance.implementations import adapter_names, is_installed
from gradconform.conformance.profiles import PROFILES
from gradconform.conformance.untrusted import shown
from gradconform.conformance.wrapping import filled
from gradconform.errors import InvalidInput
from gradconform.reference.bounds import LONG

NEEDED = ("gradconform", "numpy", "hypothesis", "pytest", "msgspec", "click", "rich")


def diagnosis() -> str:
    """Return a line for every part, and one for what it means."""
    lines = [f"{'python':<14}{platform.python_version()} on {platform.system()} {platform.machine()}"]
    lines += [f"{name:<14}{_version(name)}" for name in NEEDED]
    missing = []
    for name in adapter_names():
        if is_installed(name):
            lines.append(f"{name:<14}{_version(name)}")
        else:
            missing.append(name)
            lines.append(f"{name:<14}not installed: pip install 'gradconform[{name}]'")
    if is_installed("jax"):
        lines.append(f"{'compiled':<14}{compilation_cache.told()}")
    bits = np.finfo(np.longdouble).nmant + 1
    arbiter = f"{bits} bits: float64 is judged by longer arithmetic"
    lines.append(f"{'long double':<14}{arbiter if LONG else 'no longer than float64: bounds of float64 are doubled'}")
    lines += [f"{'configuration':<14} {line}" for line in _configuration()]
    if len(missing) == len(adapter_names()):
        lines.append("No framework is installed: `gradconform check` has nothing to compare but your own code.")
    elif missing:
        lines.append(f"`gradconform check` compares without {' and '.join(missing)}.")
    else:
        lines.append("Everything is here: try `gradconform check`.")
    return "\n".join(part for line in lines for part in filled(line))


def _configuration() -> list[str]:
    """Return what `gradconform check` would take from a file and the environment here, or why it cannot."""
    try:
        settings = settings_here()
        own = [name for name in settings.profiles if name not in PROFILES]
    except InvalidInput as error:
        return [str(error)]
    lines = [line.removeprefix("configuration: ") for line in settings.lines]
    lines += [f"profile {shown(name)}: {shown(settings.profiles[name].summary)}" for name in own]
    return lines or [f"none: no {FILE} with [{TABLE}], no variable {PREFIX}OPTION"]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"
