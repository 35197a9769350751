"""What is installed, in which version, whether it can be imported, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np

from gradconform.conformance import compilation_cache
from gradconform.conformance.configuration import FILE, PREFIX, TABLE
from gradconform.conformance.configured import settings_here
from gradconform.conformance.implementations import adapter, adapter_names, is_installed
from gradconform.conformance.profiles import PROFILES
from gradconform.conformance.untrusted import shown
from gradconform.conformance.wrapping import filled
from gradconform.errors import InvalidInput, NotInstalled, one_line
from gradconform.reference.bounds import LONG

NEEDED = ("gradconform", "numpy", "hypothesis", "pytest", "msgspec", "click", "rich")


def diagnosis() -> str:
    """Return a line for every part, and one for what it means."""
    lines = [f"{'python':<14}{platform.python_version()} on {platform.system()} {platform.machine()}"]
    lines += [f"{name:<14}{_version(name)}" for name in NEEDED]
    missing, broken = [], []
    for name in adapter_names():
        if not is_installed(name):
            missing.append(name)
            lines.append(f"{name:<14}not installed: pip install 'gradconform[{name}]'")
        elif reason := _broken(name):
            broken.append(name)
            lines.append(f"{name:<14}{reason}")
        else:
            lines.append(f"{name:<14}{_version(name)}")
    if is_installed("jax"):
        lines.append(f"{'compiled':<14}{compilation_cache.told()}")
    bits = np.finfo(np.longdouble).nmant + 1
    arbiter = f"{bits} bits: float64 is judged by longer arithmetic"
    lines.append(f"{'long double':<14}{arbiter if LONG else 'no longer than float64: bounds of float64 are doubled'}")
    configuration, usable = _configuration()
    lines += [f"{'configuration':<14} {line}" for line in configuration]
    if len(missing) == len(adapter_names()):
        lines.append("No framework is installed: `gradconform check` has nothing to compare but your own code.")
    elif missing:
        lines.append(f"`gradconform check` compares without {' and '.join(missing)}.")
    elif usable and not broken:
        lines.append("Everything is here: try `gradconform check`.")
    if broken:
        lines.append(f"`gradconform check` without a TARGET will not run until {' and '.join(broken)} can be used.")
    if not usable:
        lines.append("`gradconform check` will not run until the configuration can be used.")
    return "\n".join(part for line in lines for part in filled(line))


def _broken(name: str) -> str:
    """Return why the adapter of a framework that is installed cannot be used; nothing where it can."""
    try:
        adapter(name)
    except (InvalidInput, NotInstalled) as error:
        return one_line(str(error).removeprefix(f"{name} "))
    except Exception as error:  # a library that cannot be loaded is an OSError, and a broken framework raises anything
        return f"cannot be used: importing it says: {one_line(str(error))}"
    return ""


def _configuration() -> tuple[list[str], bool]:
    """Return what `gradconform check` would take from a file and the environment here, or why it cannot; and whether
    it can."""
    try:
        settings = settings_here()
        own = {name: profile.summary for name, profile in settings.profiles.items() if name not in PROFILES}
    except InvalidInput as error:
        return [str(error)], False
    lines = [line.removeprefix("configuration: ") for line in settings.lines]
    lines += [f"profile {shown(name)}: {shown(summary)}" for name, summary in own.items()]
    return lines or [f"none: no {FILE} with [{TABLE}], no variable {PREFIX}OPTION"], True


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"
