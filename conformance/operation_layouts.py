"""The same numbers in other memory layouts."""

from __future__ import annotations

import numpy as np

from gradconform.conformance.operation import AnyArray


def transposed(array: AnyArray) -> AnyArray:
    """Return an array whose first axis is the one that is contiguous."""
    return np.asfortranarray(array) if array.ndim > 1 else array


def backwards(array: AnyArray) -> AnyArray:
    """Return an array with negative strides."""
    flip = (slice(None, None, -1),) * array.ndim
    return np.asarray(array[flip].copy()[flip])


def spread(array: AnyArray) -> AnyArray:
    """Return every second element of a wider array."""
    if array.ndim == 0:
        return array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return np.asarray(wide[..., ::2])
