"""All checks, by their ids, in the order in which failures are told."""

from gradconform.conformance import agreement, contract, relations
from gradconform.conformance.properties import CHECKS, Check

__all__ = ["CHECKS", "Check"]

# importing a module registers its checks
_MODULES = (agreement, relations, contract)
