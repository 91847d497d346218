"""Groups of evaluation rows: how popular the target is, how long the history, whether training saw the target.

Shapes: R rows, M items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model.arrays import Ints
from flr_model.data.histories import PAD, HistoryRows

Mask = npt.NDArray[np.bool_]

LENGTHS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, None))
"""Buckets of history lengths, bounds inclusive."""


def training_counts(train: HistoryRows, n_items: int) -> Ints:
    """Count in how many users' training rows each item occurs, as a target or in a history; (M,)."""
    users, names = pd.factorize(train.user_id)
    known = train.target != PAD
    user = np.concatenate([users[train.row_of_item()], users[known]])
    item = np.concatenate([train.items, train.target[known]])
    pairs = np.unique(user.astype(np.int64) * n_items + item)
    return np.bincount(pairs % n_items, minlength=n_items) if len(names) else np.zeros(n_items, np.int64)


def popularity_thirds(counts: Ints) -> npt.NDArray[Any]:
    """Return (M,) "head", "middle", "tail", or "" for items without any training interaction.

    Items are sorted by count. The head is the most popular items that make up the first third of all training
    interactions, the middle those of the second third, the tail the rest; equal counts in order of position.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    third = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    names = np.empty(len(counts), object)
    names[order] = np.array(["head", "middle", "tail"], object)[third]
    names[counts == 0] = ""
    return names


def segment_masks(rows: HistoryRows, train: HistoryRows, n_items: int) -> dict[str, dict[str, Mask]]:
    """Divide the rows in three ways; groups without a row are left out.

    Args:
        rows: R rows with known targets.
        train: the training rows.
        n_items: M.

    Returns:
        (R,) masks by division and group: "popularity" of the target (head, middle, tail; cold targets are in none),
        length of the "history", and "target" (warm: it occurs in the training rows; cold: it does not).
    """
    counts = training_counts(train, n_items)
    thirds = popularity_thirds(counts)[rows.target]
    lengths = rows.lengths
    divisions = {
        "popularity": {name: thirds == name for name in ("head", "middle", "tail")},
        "history": {
            _bucket(low, high): (lengths >= low) & (lengths <= (np.inf if high is None else high))
            for low, high in LENGTHS
        },
        "target": {"warm": counts[rows.target] > 0, "cold": counts[rows.target] == 0},
    }
    return {
        division: {name: mask for name, mask in groups.items() if mask.any()} for division, groups in divisions.items()
    }


def _bucket(low: int, high: int | None) -> str:
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}-{high}"
