"""The exceptions that gradconform raises on purpose. Each message is one line and says what to do."""

from __future__ import annotations


class GradconformError(Exception):
    """Base of every exception that gradconform raises on purpose."""


class InvalidInput(GradconformError, ValueError):
    """Something that the user wrote (a network, a batch, a file, a target) cannot be used as it is."""


class Unsupported(GradconformError, NotImplementedError):
    """An implementation has no rule for what it was asked; counted, never a failure."""


class NotInstalled(GradconformError, ImportError):
    """A framework that was asked for by name is not installed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, which may be long or empty."""
    return (str(error).splitlines() or [""])[0]
