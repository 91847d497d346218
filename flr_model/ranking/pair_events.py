"""What was bought together: every co-occurrence of two items in a user's sequence, with its circumstances.

Counting is the cheapest strong signal a recommender has, and exact for a catalogue of any size. Training weighs the
events (`flr_model.nn.evidence_head`); while training, the events of the row's own user are taken out, because a model
that sees the pair it has to predict learns to trust a leak.

Shapes: R rows, M items, P distinct pairs, V events, O events of own users, G buckets of lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Ints, ranges, search_ranges
from flr_model.data.histories import HistoryRows, sequences
from flr_model.ranking.lags import BUCKETS, lag_bounds, lag_buckets

Numbers = npt.NDArray[np.int32]
"""Numbers of events, pairs and channels, which are kept small: there may be many."""

MAX_EVENTS = 100_000_000
"""The window of distances ends before there are more; an event takes 12 bytes, and up to 50 while they are counted."""


def channel(direction: npt.NDArray[Any], distance: npt.NDArray[Any], lag: npt.NDArray[Any], n_lags: int) -> Ints:
    """Number the circumstances of events: direction 0 or 1, distance 1..50, bucket 0..n_lags - 1 of the lag."""
    numbers: Ints = ((direction * len(BUCKETS) + np.searchsorted(BUCKETS, distance)) * n_lags + lag).astype(np.int64)
    return numbers


class OwnEvents(NamedTuple):
    """Events of the rows' own users that start at an item of their histories.

    entry: (O,) the history item, counted over all rows. pair: (O,) index of the pair. channel: (O,) circumstances.
    """

    entry: Ints
    pair: Ints
    channel: Ints


@dataclass(frozen=True)
class PairEvents:
    """Every co-occurrence within fifty steps of a user's sequence, in both directions.

    Where interactions of one moment have no order, a pair of them has neither direction nor distance: it counts as one
    of neighbours, whichever is first.

    Args:
        indptr: (M + 1,) where each history item's pairs begin.
        source: (P,) history item of each pair. neighbour: (P,) the other item, sorted within a history item.
        event_pair: (V,) index of each event's pair, sorted. event_channel: (V,) its circumstances.
        by_user: (V,) events in order of their users, a user's in order of their pairs. first_of_user: (U + 1,) where
            each user's begin in it.
        degree: (M,) interactions of each item.
        lag_bounds: (G - 1,) longest lag of each bucket but the last. users: external id to number.
        unordered: interactions of one moment have no order.
    """

    indptr: Ints
    source: Ints
    neighbour: Ints
    event_pair: Numbers
    event_channel: Numbers
    by_user: Numbers
    first_of_user: Ints
    degree: Ints
    lag_bounds: Ints
    users: dict[str, int]
    unordered: bool = False

    @classmethod
    def count(
        cls, rows: HistoryRows, n_items: int, bounds: Ints | None = None, *, unordered: bool = False
    ) -> PairEvents:
        """Count the pairs of training rows, every real interaction once however many rows show it.

        Args:
            rows: of training.
            n_items: M.
            bounds: the lag bounds that weights were learned for; None finds those of the rows.
            unordered: interactions of one moment have no order.
        """
        user, item, time, users = sequences(rows)
        bounds = lag_bounds(user, time) if bounds is None else bounds
        starts = _starts(user, item)
        n_events = 2 * sum(len(first) for first in starts)
        key, channels, who = np.empty(n_events, np.int64), np.empty(n_events, np.int32), np.empty(n_events, np.int32)
        begin = 0
        for distance, first in enumerate(starts, 1):
            second = first + distance
            times = time[first], time[second]
            lag, tied = lag_buckets(*times, bounds), (times[0] == times[1]) & (times[0] != 0) & unordered
            for direction, (a, b) in enumerate(((first, second), (second, first))):
                part = slice(begin, begin + len(first))
                key[part] = item[a] * n_items + item[b]
                where = np.where(tied, 0, direction), np.where(tied, 1, distance)
                channels[part], who[part] = channel(*where, lag, len(bounds) + 1), user[first]
                begin = part.stop
        del starts  # memory is short here: below, too, everything goes when it has been used
        order = np.argsort(key, kind="stable").astype(np.int32)
        channels, who = channels[order], who[order]
        key = key[order]
        del order
        new = np.ones(n_events, bool)
        new[1:] = key[1:] != key[:-1]
        pairs, event_pair = key[new], np.cumsum(new, dtype=np.int32) - 1
        del key
        by_user = np.argsort(who, kind="stable").astype(np.int32)
        return cls(
            indptr=np.searchsorted(pairs, np.arange(n_items + 1) * n_items).astype(np.int64),
            source=pairs // n_items,
            neighbour=pairs % n_items,
            event_pair=event_pair,
            event_channel=channels,
            by_user=by_user,
            first_of_user=np.concatenate([[0], np.cumsum(np.bincount(who, minlength=len(users)))]),
            degree=np.bincount(item, minlength=n_items).astype(np.int64),
            lag_bounds=bounds,
            users=users,
            unordered=unordered,
        )

    def own(self, rows: HistoryRows) -> OwnEvents:
        """Look up the events of each row's own user that start at an item of its history."""
        user = np.asarray([self.users.get(user, -1) for user in rows.user_id], np.int64)[rows.row_of_item()]
        begin, end = (np.where(user >= 0, self.first_of_user[user + after], 0) for after in (0, 1))
        left, right = (  # a user's events are in order of their pairs, and those in order of their sources
            search_ranges(self.event_pair, begin, end, self.indptr[rows.items + after], sorter=self.by_user)
            for after in (0, 1)
        )
        event = self.by_user[ranges(left, right - left)]
        entry = np.repeat(np.arange(len(rows.items)), right - left)
        pair, channels = self.event_pair[event], self.event_channel[event]
        return OwnEvents(entry.astype(np.int64), pair.astype(np.int64), channels.astype(np.int64))


def _starts(user: Ints, item: Ints) -> list[Ints]:
    """Return where pairs begin in (S,) interactions, for each distance of the window; a pair is two events."""
    starts: list[Ints] = []
    n_events = 0
    for distance in range(1, min(BUCKETS[-1], len(item) - 1) + 1):
        first = np.flatnonzero((user[:-distance] == user[distance:]) & (item[:-distance] != item[distance:]))
        n_events += 2 * len(first)
        if n_events > MAX_EVENTS and starts:
            break
        starts.append(first)
    return starts
