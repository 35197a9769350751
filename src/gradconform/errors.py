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


class CandidateFailed(GradconformError):
    """A candidate gave nothing that can be compared.

    `kind` is the verdict word, a name of `gradconform.conformance.compare.Kind` such as CRASHED; `what` is the part of
    the result that it is about, `gradients` for all of it; `detail` says what happened.
    """

    def __init__(self, kind: str, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.kind, self.what, self.detail = kind, what, detail


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, which may be long, empty, or fail itself."""
    try:
        return (str(error).splitlines() or [""])[0]
    except Exception:  # somebody's own exception
        return ""


def one_line(message: str, limit: int = 300) -> str:
    """Return `message` as one line of at most `limit` printable characters."""
    if len(message) <= limit and message.isprintable():
        return message
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."
