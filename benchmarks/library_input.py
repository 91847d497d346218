"""Training rows in the two forms that other libraries read: padded sequences, and pairs of a user and an item.

Needs no package beyond those of flr. Shapes: R rows, L positions, E distinct pairs.
"""

from __future__ import annotations

import numpy as np

from flr_model.data.histories import PAD, HistoryRows, Ints


def right_padded(rows: HistoryRows, length: int) -> tuple[Ints, Ints]:
    """Lay out histories as RecBole reads them: position + 1 from the left, 0 behind the newest item.

    Args:
        rows: R rows.
        length: L; the newest items are kept.

    Returns:
        (R, L) numbers of the items, and (R,) how many of them each row has, at least 1.
    """
    rows = rows.truncated(length)
    out = np.zeros((len(rows), length), np.int64)
    slot = np.arange(len(rows.items)) - np.repeat(rows.offsets[:-1], rows.lengths)
    out[rows.row_of_item(), slot] = rows.items + 1
    return out, np.maximum(rows.lengths, 1)


def distinct_pairs(rows: HistoryRows) -> tuple[Ints, Ints]:
    """Return (E,) users, numbered in order of their ids, and (E,) items: who had what, as history or as target."""
    user = np.unique(rows.user_id.astype(str), return_inverse=True)[1]
    known = rows.target != PAD
    users = np.concatenate([user[rows.row_of_item()], user[known]])
    items = np.concatenate([rows.items, rows.target[known]])
    pairs = np.unique(np.stack([users, items], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]
