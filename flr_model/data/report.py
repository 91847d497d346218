"""The data report: what a person should know of their data before training on it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.data.items import junk_titles
from flr_model.errors import pluralize
from flr_model.files.times import MICROSECONDS, TimeRule, day

logger = logging.getLogger(__name__)

EXAMPLES = 3

OLDEST = datetime(1985, 1, 1, tzinfo=timezone.utc)
"""Interactions of before are probably times read in a wrong unit."""

FEW_ROWS = 100
"""With fewer, the 95 % interval of a hit rate of a tenth is wider than the rate."""


@dataclass(frozen=True)
class SplitReport:
    """One split.

    Args:
        rows: histories with a target.
        users: distinct users.
        history_median: items of a history.
        history_longest: items of the longest history.
        cold_targets: rows whose target occurs nowhere in train, neither as a target nor in a history.
        timestamp_ties: rows whose target has the time of the last history item; None without times.
        junk_targets: rows whose target has a junk title.
        repeated_rows: rows that are training rows too (of train: that repeat one before): same user, target and time,
            or without times the same history.
        targets_in_history: rows whose user had the target before; `flr eval` counts them as misses by default.
    """

    rows: int
    users: int
    history_median: float
    history_longest: int
    cold_targets: int
    timestamp_ties: int | None
    junk_targets: int
    repeated_rows: int
    targets_in_history: int


@dataclass(frozen=True)
class Example:
    """One row as read, in titles."""

    user_id: str
    history: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class DataReport:
    """The figures of a prepared dataset.

    Args:
        inputs: file and how it was read, by role (interactions, items, train, valid, test).
        split: temporal, leave-one-out or ready-made.
        timed: whether interactions have times; without them they count as ordered as they stand in the file.
        first_time: the day of the oldest interaction, of the newest ``last_time``; None without times.
        time_format: how times were read, where more than one way was possible; None without times.
        newest_first: whether the file stands so; rows of one moment are then taken from its end.
        users: distinct users.
        items: of the catalogue.
        interactions: distinct ones (user, item and time), after filters.
        density: interactions / (users x items).
        dropped_rows: rows of the input without a user, an item or a history.
        filtered_interactions: removed by the k-core filter.
        unused_items: items of the catalogue in no interaction; they are scored from their titles.
        untitled_items: items whose id stands for the title.
        distinct_titles: of the catalogue.
        duplicate_titles: items that share their title with another.
        commonest_title: the title that most items share, and by how many; None if all are distinct.
        junk_titles: items whose title is a scrap of HTML.
        users_in_several_splits: users with rows in more than one split.
        splits: train, valid and test.
        examples: some rows of train, in titles.
    """

    inputs: dict[str, str]
    split: str
    timed: bool
    first_time: str | None
    last_time: str | None
    time_format: str | None
    newest_first: bool
    users: int
    items: int
    interactions: int
    density: float
    dropped_rows: int
    filtered_interactions: int
    unused_items: int
    untitled_items: int
    distinct_titles: int
    duplicate_titles: int
    commonest_title: tuple[str, int] | None
    junk_titles: int
    users_in_several_splits: int
    splits: dict[str, SplitReport]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Times:
    """What the times of interactions are like; see `DataReport`."""

    first: str | None = None
    last: str | None = None
    format: str | None = None
    newest_first: bool = False

    @classmethod
    def of(cls, ticks: npt.NDArray[np.int64], rule: TimeRule | None, *, newest_first: bool = False) -> Times:
        """Describe (E,) times in microseconds, and warn of those that are probably read in a wrong unit."""
        if rule is None or not len(ticks):
            return cls()
        first, last = day(int(ticks.min())), day(int(ticks.max()))
        latest = datetime.now(timezone.utc) + timedelta(days=366)
        odd = int(((ticks < OLDEST.timestamp() * MICROSECONDS) | (ticks > latest.timestamp() * MICROSECONDS)).sum())
        if odd:
            logger.warning(
                "the times are from %s to %s, %d of %d before %d or in the future; if that is wrong, say how they are "
                "written with --time-format, or leave out the rows whose time only stands for none",
                first, last, odd, len(ticks), OLDEST.year,
            )  # fmt: skip
        return cls(first, last, rule.format, newest_first)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The figures that only reading the input can know; see `DataReport`."""

    inputs: dict[str, str]
    split: str
    times: Times
    dropped_rows: int
    filtered_interactions: int = 0
    untitled_items: int
    interactions: int


def describe(catalog: Catalog, splits: Mapping[str, HistoryRows], origin: Origin) -> DataReport:
    """Compute the report of a catalogue and its rows."""
    junk, timed = junk_titles(catalog.titles), origin.times.format is not None
    train = splits["train"]
    warm = _marked(len(catalog), train.items, train.target)
    used = _marked(len(catalog), *chain.from_iterable((rows.items, rows.target) for rows in splits.values()))
    users = Counter(chain.from_iterable(pd.unique(rows.user_id) for rows in splits.values()))
    titles = Counter(catalog.titles.tolist())
    repeated = _repeated_rows(splits, timed=timed)
    _weak_splits(splits, warm)
    shared = [count for count in titles.values() if count > 1]
    return DataReport(
        inputs=origin.inputs,
        split=origin.split,
        timed=timed,
        first_time=origin.times.first,
        last_time=origin.times.last,
        time_format=origin.times.format,
        newest_first=origin.times.newest_first,
        users=len(users),
        items=len(catalog),
        interactions=origin.interactions,
        density=origin.interactions / (len(users) * len(catalog)),
        dropped_rows=origin.dropped_rows,
        filtered_interactions=origin.filtered_interactions,
        unused_items=int((~used).sum()),
        untitled_items=origin.untitled_items,
        distinct_titles=len(titles),
        duplicate_titles=sum(shared),
        commonest_title=titles.most_common(1)[0] if shared else None,
        junk_titles=int(junk.sum()),
        users_in_several_splits=sum(count > 1 for count in users.values()),
        splits={name: _describe_split(rows, warm, junk, repeated[name], timed=timed) for name, rows in splits.items()},
        examples=tuple(_example(catalog, train, row) for row in _spread(len(train), EXAMPLES)),
    )


def distinct_interactions(splits: Mapping[str, HistoryRows]) -> int:
    """Count the distinct (user, item, time) that rows show, in histories and as targets."""
    parts = [
        pd.DataFrame({"user": user, "item": item, "time": time})
        for rows in splits.values()
        for user, item, time in (
            (np.repeat(rows.user_id, rows.lengths), rows.items, rows.times),
            (rows.user_id, rows.target, rows.target_time),
        )
    ]
    return int((~pd.concat(parts).duplicated()).sum())


def _repeated_rows(splits: Mapping[str, HistoryRows], *, timed: bool) -> dict[str, int]:
    """Count, and warn of, the rows of each split that are training rows too; see `SplitReport`."""
    keys = {name: _keys(rows, timed=timed) for name, rows in splits.items()}
    trained = keys["train"].drop_duplicates()
    counts = {
        name: len(key) - len(trained) if name == "train" else len(key.merge(trained)) for name, key in keys.items()
    }
    for name, count in counts.items():
        if count:
            logger.warning(
                "%s: %s of %s %s (same user, target and %s)",
                name,
                f"{count:,}",
                pluralize(len(splits[name]), "row"),
                "repeat another" if name == "train" else "are also training rows, which flatters results",
                "time" if timed else "history",
            )
    return counts


def _weak_splits(splits: Mapping[str, HistoryRows], warm: npt.NDArray[np.bool_]) -> None:
    """Warn of splits that can decide little."""
    for name in ("valid", "test"):
        rows = splits[name]
        if len(rows) < FEW_ROWS:
            logger.warning("%s: %s: figures of so few are mostly chance", name, pluralize(len(rows), "row"))
        if len(rows) and not warm[rows.target].any():
            logger.warning("%s: no target is known from training", name)


def _keys(rows: HistoryRows, *, timed: bool) -> pd.DataFrame:
    histories = (rows.items[start:stop].tobytes() for start, stop in pairwise(rows.offsets.tolist()))
    occasion = rows.target_time if timed else np.fromiter(histories, object, count=len(rows))
    return pd.DataFrame({"user": rows.user_id, "target": rows.target, "occasion": occasion})


def _describe_split(
    rows: HistoryRows, warm: npt.NDArray[np.bool_], junk: npt.NDArray[np.bool_], repeated: int, *, timed: bool
) -> SplitReport:
    ties = int((rows.times[rows.offsets[1:] - 1] == rows.target_time).sum())
    return SplitReport(
        rows=len(rows),
        users=len(pd.unique(rows.user_id)),
        history_median=float(np.median(rows.lengths)) if len(rows) else 0.0,
        history_longest=int(rows.lengths.max(initial=0)),
        cold_targets=int((~warm[rows.target]).sum()),
        timestamp_ties=ties if timed else None,
        junk_targets=int(junk[rows.target].sum()),
        repeated_rows=repeated,
        targets_in_history=int(rows.target_seen().sum()),
    )


def _marked(n_items: int, *positions: Any) -> npt.NDArray[np.bool_]:
    marks = np.zeros(n_items, np.bool_)
    for index in positions:
        marks[index] = True
    return marks


def _spread(n: int, wanted: int) -> list[int]:
    """Choose rows from the whole of ``n``, the last among them."""
    return sorted({n - 1 - step * n // wanted for step in range(min(n, wanted))})


def _example(catalog: Catalog, rows: HistoryRows, row: int) -> Example:
    history = rows.items[rows.offsets[row] : rows.offsets[row + 1]]
    return Example(
        user_id=str(rows.user_id[row]),
        history=tuple(str(title) for title in catalog.titles[history]),
        target=str(catalog.titles[rows.target[row]]),
    )
