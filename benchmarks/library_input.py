"""Training rows as RecBole reads them: padded sequences.

Needs no package beyond those of flr. Shapes: R rows, L positions.
"""

from __future__ import annotations

import numpy as np

from flr_model.data.histories import HistoryRows, Ints


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
