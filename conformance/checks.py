"""All checks, by their ids, in the order in which failures are told: what comes first is closer to the cause."""

from gradconform.conformance import agreement, contract, relations
from gradconform.conformance.properties import REGISTERED, Check

__all__ = ["CHECKS", "Check"]

# a module's checks stand together, whichever module was imported first
CHECKS: dict[str, Check] = {
    check.id: check
    for module in (agreement, relations, contract)
    for check in REGISTERED.values()
    if check.run.__module__ == module.__name__
}
