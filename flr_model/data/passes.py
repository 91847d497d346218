"""Rows that follow each other in one user's sequence share a pass through the backbone.

A row's history is the previous row's plus its target, so a causal backbone that reads the longest of them has read all.

Shapes: B rows, L items of a history, U sequences, W items of the longest sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flr_model.data.histories import PAD, HistoryRows, Ints


@dataclass(frozen=True)
class SharedPasses:
    """Sequences of which the histories of rows are windows.

    Args:
        items: (U, W) positions in the catalogue, padded on the left with PAD.
        place: (B, L) where each place of the padded histories is in ``items.ravel()``; PAD where it is empty.
    """

    items: Ints
    place: Ints


def share_passes(rows: HistoryRows, max_history: int) -> SharedPasses:
    """Join neighbouring rows of which each continues the one before.

    Args:
        rows: B rows; those of a user next to each other, oldest first, are joined.
        max_history: L.
    """
    histories = rows.padded(max_history)
    lengths = (histories != PAD).sum(1)
    begins = ~_continues(rows, histories)
    sequence = np.cumsum(begins) - 1  # (B,) of each row
    first = np.flatnonzero(begins)
    step = np.arange(len(rows)) - first[sequence]  # rows since the sequence's first
    size = np.bincount(sequence)
    width = max(int((lengths[first] + size - 1).max(initial=1)), 1)
    # the newest item of the last row is in the last column
    newest = width - size[sequence] + step
    items = np.full((len(first), width), PAD, np.int64)
    column = newest[:, None] + np.arange(1 - max_history, 1)
    row, slot = np.nonzero(histories != PAD)
    items[sequence[row], column[row, slot]] = histories[row, slot]
    place = np.where(histories != PAD, sequence[:, None] * width + column, PAD)
    return SharedPasses(items, place)


def _continues(rows: HistoryRows, histories: Ints) -> npt.NDArray[np.bool_]:
    """(B,) whether a row's history is the previous row's followed by its target."""
    out = np.zeros(len(rows), bool)
    if len(rows) > 1:
        expected = np.column_stack([histories[:-1, 1:], rows.target[:-1]])
        same_user = rows.user_id[1:] == rows.user_id[:-1]
        grown = rows.lengths[1:] == rows.lengths[:-1] + 1  # or as many as are kept
        out[1:] = same_user & (expected == histories[1:]).all(1) & (grown | (histories[1:, 0] != PAD))
    return out
