"""How old a history's items are, in items and in time; the time between interactions comes in buckets.

Shapes: R rows, S the sum of the histories' lengths, G buckets of lags.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flr_model.arrays import Ints
from flr_model.data.histories import HistoryRows

BUCKETS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 50)
"""Largest distance of each bucket of distances; interactions of a user further apart than the last are not a pair."""

LAGS = 6
"""Most buckets of the time between two interactions, beside that of none."""

LAGS_PER_BUCKET = 50_000
"""With so many lags in the training rows there is a second bucket, with as many again a third, and so on."""

_NONE = np.zeros(0, np.int64)


class PaddedHistories(NamedTuple):
    """Histories padded on the left: (B, L) items, PAD at padding, and (B, L) lag buckets, 0 there."""

    items: Ints
    lags: Ints

    @classmethod
    def of(cls, rows: HistoryRows, length: int, bounds: Ints) -> PaddedHistories:
        """Pad the newest ``length`` items of each history."""
        recent = rows.truncated(length)
        lags = np.zeros((len(rows), length), np.int64)
        lags[recent.row_of_item(), recent.slot_of_item(length)] = history_lags(recent, bounds)
        return cls(recent.padded(length), lags)


def ages(rows: HistoryRows) -> Ints:
    """(S,) steps back from the newest item of each history, 0 for the newest."""
    return np.repeat(rows.offsets[1:], rows.lengths) - 1 - np.arange(len(rows.items))


def lag_bounds(user: Ints, time: Ints) -> Ints:
    """Return the (G - 1,) longest lag of each bucket but the last: none, then equal shares, more where lags are many.

    Shared out are the times between a user's interactions at the distances of `BUCKETS`.

    Args:
        user: (S,) users of interactions, user after user.
        time: (S,) their times, oldest first, 0 where unknown.
    """
    lags = [_NONE]
    for distance in BUCKETS:
        first, second = time[:-distance], time[distance:]
        lags.append((second - first)[(user[:-distance] == user[distance:]) & (first != 0) & (second > first)])
    positive = np.concatenate(lags)
    shares = min(LAGS, 1 + len(positive) // LAGS_PER_BUCKET)
    bounds = [np.quantile(positive, share / shares, method="lower") for share in range(1, shares)]
    return np.asarray([0, *bounds], np.int64)


def lag_buckets(a: Ints, b: Ints, bounds: Ints) -> Ints:
    """Number the time between interactions; where one is unknown, 0, it is in the middle.

    >>> lag_buckets(np.array([7, 7, 7, 0]), np.array([7, 8, 99, 5]), np.array([0, 10, 20])).tolist()
    [0, 1, 3, 2]
    """
    known = (a != 0) & (b != 0)
    return np.where(known, np.searchsorted(bounds, abs(a - b)), (len(bounds) + 1) // 2).astype(np.int64)


def history_lags(rows: HistoryRows, bounds: Ints) -> Ints:
    """(S,) bucket of each history item's time before its history's newest item, whose own is the first."""
    newest = np.repeat(rows.offsets[1:] - 1, rows.lengths)
    lags = lag_buckets(rows.times, rows.times[newest], bounds)
    lags[newest] = 0
    return lags
