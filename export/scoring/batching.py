"""Which users go through the network together: batches of like length, with a number of positions that fits.

Shapes: B users of a batch, R users of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

POSITIONS = 1024
"""History positions of one batch on a CPU: enough for its caches and its matrix units, little enough for its memory."""

FIRST_POSITIONS = 4096
MOST_POSITIONS = 1 << 20
"""On a GPU batches double from the first to the last of these while that pays."""

GROWTH_THRESHOLD = 0.95
"""A doubled batch pays if a position then takes at most this share of the time."""


def batches(lengths: npt.NDArray[Any], positions: int) -> Iterator[Ints]:
    """Split users into batches of at most ``positions`` places, padding included; the longest histories come first.

    Args:
        lengths: (R,) places each user needs, at least 1.
        positions: of one batch; a single user may have more.

    >>> [batch.tolist() for batch in batches(np.array([1, 3, 1, 2]), 4)]
    [[1], [3, 0], [2]]
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, positions // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


class BatchLimit:
    """How many positions a batch may have: fixed on a CPU, found by itself on a GPU, halved when memory is short.

    Args:
        positions: to begin with.
        grows: try larger ones as long as they are faster.
    """

    def __init__(self, positions: int = POSITIONS, *, grows: bool = False) -> None:
        self.positions = positions
        self.grows = grows
        self._best = float("inf")

    def record(self, positions: int, seconds: float) -> None:
        """Learn how long a batch took; half-empty ones say nothing."""
        if not self.grows or positions <= self.positions // 2:
            return
        each = seconds / positions
        if each > GROWTH_THRESHOLD * self._best:
            self.grows = False
        elif self.positions < MOST_POSITIONS:
            self._best = each
            self.positions *= 2

    def shrink(self, positions: int) -> None:
        """Learn that a batch of this many positions did not fit into memory."""
        self.positions = max(1, min(self.positions, positions // 2))
        self.grows = False
