"""Groups of evaluation rows: how popular the target is, how long the history, whether training saw the target.

Shapes: R rows, M items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model.arrays import Ints
from flr_model.data.catalog import values_of
from flr_model.data.histories import PAD, HistoryRows

Mask = npt.NDArray[np.bool_]

LENGTHS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, None))
"""Buckets of history lengths, bounds inclusive."""

MOST_VALUES = 20
"""Groups of a column of the items; all other values are one more."""

NO_VALUE, OTHERS = "(none)", "(others)"


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


def detail_masks(rows: HistoryRows, cells: npt.NDArray[Any]) -> dict[str, Mask]:
    """Divide the rows by a column of the items: the values of the target's cell, commonest first.

    A target with several values is in the group of each; those without any, and those of values beyond the
    `MOST_VALUES` commonest, are in groups of their own.

    Args:
        rows: R rows with known targets.
        cells: (M,) cells of the column.
    """
    rows_of: dict[str, list[int]] = {}
    for row, cell in enumerate(cells[rows.target].tolist()):
        for value in values_of(cell) or [NO_VALUE]:
            rows_of.setdefault(value, []).append(row)
    ordered = sorted(rows_of, key=lambda value: (value == NO_VALUE, -len(rows_of[value]), value))
    groups = {value: [value] for value in ordered}
    if len(ordered) > MOST_VALUES + 1:
        groups = {value: [value] for value in ordered[:MOST_VALUES]} | {OTHERS: ordered[MOST_VALUES:]}
    masks = {}
    for name, values in groups.items():
        masks[name] = np.zeros(len(rows), np.bool_)
        for value in values:
            masks[name][rows_of[value]] = True
    return masks


def _bucket(low: int, high: int | None) -> str:
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}-{high}"
