"""Arrays as this package writes them: names of their types, and idioms of ragged rows.

A ragged matrix is flat values with offsets: row r is ``values[offsets[r]:offsets[r + 1]]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def offsets_of(lengths: Any) -> Ints:
    """Return where ragged rows of these lengths begin, and behind the last where it ends.

    >>> offsets_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def ranges(start: Ints, length: Ints) -> Ints:
    """Concatenate the ranges ``start[i] : start[i] + length[i]``.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    return (np.repeat(start - (ends - length), length) + np.arange(total)).astype(np.int64)


def search_ranges(
    values: npt.NDArray[np.integer[Any]],
    start: Ints,
    stop: Ints,
    wanted: Ints,
    sorter: npt.NDArray[np.integer[Any]] | None = None,
) -> Ints:
    """Find where each wanted value would be in its own sorted slice, as `numpy.searchsorted` does in a whole array.

    Args:
        values: ascending within each slice.
        start: (n,) where the slices begin.
        stop: (n,) where they end.
        wanted: (n,) one value for each slice.
        sorter: the order in which the values are looked at; None for their own.

    Returns:
        (n,) the first place in ``[start, stop]`` whose value is not below the wanted one.

    >>> search_ranges(np.array([3, 5, 7, 1, 4]), np.array([0, 3]), np.array([3, 5]), np.array([5, 9])).tolist()
    [1, 5]
    """
    low, high = start.astype(np.int64), stop.astype(np.int64)
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) // 2
        place = np.minimum(middle, len(values) - 1)
        below = (low < high) & (values[place if sorter is None else sorter[place]] < wanted)
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    return low
