"""Which interactions are kept, in which order, and which of them are targets of train, valid and test.

Every interaction of a user but the first is a target; its history is what the user did before. Interactions are
ordered by time, and where times are equal by their place in the file (from its end, where it is newest first) or at
random (`ties`); a file without times is in order as it stands.

Shapes: E interactions, R targets.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.arrays import ranges
from flr_model.config import PrepareConfig
from flr_model.data.histories import HistoryRows, OlderItems
from flr_model.data.interactions import Interactions
from flr_model.data.ties import places
from flr_model.errors import DataError
from flr_model.files.events import Ints
from flr_model.files.times import MICROSECONDS

logger = logging.getLogger(__name__)


def k_core(data: Interactions, k: int) -> Interactions:
    """Drop users and items with fewer than ``k`` interactions until none is left.

    Raises:
        DataError: if fewer than two users remain.
    """
    kept = data
    while k > 1 and len(kept):
        users = np.bincount(kept.user, minlength=len(data.user_ids))
        items = np.bincount(kept.item, minlength=len(data.item_ids))
        keep = (users[kept.user] >= k) & (items[kept.item] >= k)
        if keep.all():
            break
        kept = kept.select(keep)
    if k > 1 and len(np.unique(kept.user)) < 2:
        raise DataError(
            f"{data.path}: --k-core {k} leaves {len(np.unique(kept.user))} users of {len(data.user_ids):,} "
            f"({len(data):,} interactions, {len(data.item_ids):,} items)",
            hint="lower --k-core",
        )
    return kept


@dataclass(frozen=True)
class Timeline:
    """The interactions, user after user, each user's oldest first.

    Args:
        user: (E,) number of the user.
        item: (E,) number of the item.
        time: (E,) microseconds since 1970.
        place: (E,) place among those of one moment, see `ties.places`.
        index: (E,) how many interactions the user had before.
    """

    user: Ints
    item: Ints
    time: Ints
    place: Ints
    index: Ints

    @classmethod
    def of(cls, data: Interactions, tie_order: str = "file") -> Timeline:
        """Sort interactions by user, time, and what `ties.places` gives."""
        place = places(data, tie_order)
        order = np.lexsort((place, data.time, data.user))
        user = data.user[order]
        starts = np.flatnonzero(np.diff(user, prepend=-1))
        index = np.arange(len(user)) - np.repeat(starts, np.diff(starts, append=len(user)))
        return cls(user, data.item[order], data.time[order], place[order], index)

    def in_order(self, events: Ints) -> Ints:
        """Order (R,) interactions of all users by time, then place."""
        return events[np.lexsort((self.place[events], self.time[events]))]

    def rows(self, events: Ints, user_ids: npt.NDArray[Any], positions: Ints, max_history: int) -> HistoryRows:
        """Make the row of every target.

        Args:
            events: (R,) the targets; none of them the first of its user.
            user_ids: (U,) external ids.
            positions: (I,) the catalogue's position of each item number.
            max_history: items that a row shows, the newest.
        """
        lengths = np.minimum(self.index[events], max_history)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = ranges(events - lengths, lengths)
        items = positions[self.item]
        return HistoryRows(
            user_id=user_ids[self.user[events]],
            items=items[source],
            times=self.time[source] // MICROSECONDS,
            offsets=offsets,
            target=items[events],
            target_time=self.time[events] // MICROSECONDS,
            older=OlderItems(items, events - self.index[events], events - lengths),
        )


def split_targets(timeline: Timeline, config: PrepareConfig) -> dict[str, Ints]:
    """Choose the targets of train, valid and test, each in order of time.

    ``temporal`` cuts the targets of all users, in order, by their number: the newest are the test. Targets of the very
    moment of a cut may lie on both sides of it. ``leave-one-out`` takes each user's last target for the test and the
    one before for validation.

    Raises:
        DataError: if a split that was asked for would be empty.
    """
    targets = timeline.in_order(np.flatnonzero(timeline.index > 0))
    if config.split == "temporal":
        parts = _temporal(targets, config)
    else:
        logger.warning(
            "leave-one-out: other users' later interactions are trained on (leakage across users); metrics come out "
            "better than in use. The default --split temporal has none of it"
        )
        parts = _leave_one_out(timeline, targets)
    empty = [name for name, part in parts.items() if len(part) == 0 and _wanted(name, config)]
    if empty:
        raise DataError(
            f"no rows are left for {' and '.join(empty)}: there are {len(targets):,} targets (interactions of a user "
            "beyond the first)",
            hint="give more interactions, lower --k-core, or change the shares --valid-fraction and --test-fraction",
        )
    return parts


def _wanted(name: str, config: PrepareConfig) -> bool:
    shares = {"train": 1.0, "valid": config.valid_fraction, "test": config.test_fraction}
    return config.split != "temporal" or shares[name] > 0


def _temporal(targets: Ints, config: PrepareConfig) -> dict[str, Ints]:
    valid, test = config.valid_fraction, config.test_fraction
    second = min(int(round(len(targets) * (1 - test), 6)), len(targets) - (test > 0))
    first = max(0, min(int(round(len(targets) * (1 - valid - test), 6)), second - (valid > 0)))
    return {"train": targets[:first], "valid": targets[first:second], "test": targets[second:]}


def _leave_one_out(timeline: Timeline, targets: Ints) -> dict[str, Ints]:
    last = np.append(np.diff(timeline.user) != 0, True)
    remaining = (np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), targets)]) - targets
    return {"train": targets[remaining > 1], "valid": targets[remaining == 1], "test": targets[remaining == 0]}
