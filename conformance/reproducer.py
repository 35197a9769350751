"""Reproducers: a self-contained script of one case that computes the expected gradients, beside a place for one's own.

A script is straight-line code for the case's own layers: no interpreter of networks, and nothing of gradconform. In
NumPy and C it is backpropagation by the book, in PyTorch and JAX the framework's own differentiation.
"""

from __future__ import annotations

from gradconform.conformance.casefile import CaseFile
from gradconform.conformance.reproducer_c import c_script
from gradconform.conformance.reproducer_jax import jax_script
from gradconform.conformance.reproducer_numpy import numpy_script
from gradconform.conformance.reproducer_torch import torch_script

SCRIPTS = {"numpy": numpy_script, "torch": torch_script, "jax": jax_script, "c": c_script}


def script(file: CaseFile, language: str) -> str:
    """Return the script of a case in one of the languages of `SCRIPTS`."""
    return SCRIPTS[language](file)
