from pathlib import Path

import numpy as np
import pytest

from flr_model.config import PrepareConfig
from flr_model.data.interactions import Interactions
from flr_model.data.split import Timeline, k_core, split_targets
from flr_model.errors import DataError
from flr_model.files.rows import Rejects
from flr_model.files.tables import ParquetFile


def _interactions(*events):
    """Events are (user, item, seconds), in the order of the file."""
    user, item, time = (np.asarray(column, np.int64) for column in zip(*events, strict=True))
    users = np.asarray([f"u{n}" for n in range(user.max() + 1)], object)
    items = np.asarray([f"i{n}" for n in range(item.max() + 1)], object)
    path = Path("log.parquet")
    return Interactions(ParquetFile(path, ()), user, item, time * 10**6, users, items, Rejects(path))


def _rows(data, events=None, max_history=10):
    timeline = Timeline.of(data)
    targets = timeline.in_order(np.flatnonzero(timeline.index > 0)) if events is None else events
    return timeline.rows(targets, data.user_ids, np.arange(len(data.item_ids)), max_history)


def _as_lists(rows):
    return [
        (user, rows.items[start:end].tolist(), target)
        for user, start, end, target in zip(rows.user_id, rows.offsets, rows.offsets[1:], rows.target, strict=False)
    ]


def test_every_interaction_but_the_first_is_a_row_oldest_first():
    rows = _rows(_interactions((0, 2, 30), (1, 3, 5), (0, 0, 10), (0, 1, 20), (1, 0, 15)))
    assert _as_lists(rows) == [("u1", [3], 0), ("u0", [0], 1), ("u0", [0, 1], 2)]
    assert rows.times.tolist() == [5, 10, 10, 20]
    assert rows.target_time.tolist() == [15, 20, 30]


def test_history_keeps_the_newest():
    rows = _rows(_interactions(*[(0, n, n) for n in range(4)]), max_history=2)
    assert _as_lists(rows) == [("u0", [0], 1), ("u0", [0, 1], 2), ("u0", [1, 2], 3)]


def test_equal_times_keep_the_order_of_the_file():
    rows = _rows(_interactions((0, 3, 7), (1, 5, 7), (0, 1, 7), (1, 4, 7), (0, 2, 7)))
    assert _as_lists(rows) == [("u0", [3], 1), ("u1", [5], 4), ("u0", [3, 1], 2)]


def test_temporal_split_cuts_all_users_at_the_same_moments():
    data = _interactions(*[(n % 2, n % 5, n) for n in range(22)])
    timeline = Timeline.of(data)
    parts = split_targets(timeline, PrepareConfig())
    times = {name: (timeline.time[part] // 10**6).tolist() for name, part in parts.items()}
    assert times == {"train": list(range(2, 18)), "valid": [18, 19], "test": [20, 21]}


def test_temporal_split_of_few_rows_leaves_one_for_each():
    timeline = Timeline.of(_interactions(*[(0, n, n) for n in range(4)], (1, 0, 0)))
    parts = split_targets(timeline, PrepareConfig())
    assert [len(parts[name]) for name in ("train", "valid", "test")] == [1, 1, 1]


def test_empty_split_is_refused():
    with pytest.raises(DataError, match="no rows are left for train: there are 2 targets"):
        split_targets(Timeline.of(_interactions((0, 0, 0), (0, 1, 1), (0, 2, 2))), PrepareConfig())


def test_share_of_zero_may_be_empty():
    timeline = Timeline.of(_interactions((0, 0, 0), (0, 1, 1), (0, 2, 2)))
    parts = split_targets(timeline, PrepareConfig(valid_fraction=0.0, test_fraction=0.5))
    assert [len(part) for part in parts.values()] == [1, 0, 1]


def test_leave_one_out_takes_each_users_last_two_and_warns(caplog):
    data = _interactions(*[(0, n, n) for n in range(4)], *[(1, n, n) for n in range(3)], (2, 0, 9), (2, 1, 9))
    timeline = Timeline.of(data)
    parts = split_targets(timeline, PrepareConfig(split="leave-one-out"))
    chosen = {
        name: sorted(zip(timeline.user[part].tolist(), timeline.item[part].tolist(), strict=True))
        for name, part in parts.items()
    }
    assert chosen == {"train": [(0, 1)], "valid": [(0, 2), (1, 1)], "test": [(0, 3), (1, 2), (2, 1)]}
    assert "leakage across users" in caplog.text


def test_k_core_is_repeated_until_stable():
    square = [(user, item, 0) for user in (0, 1) for item in (0, 1)]
    kept = k_core(_interactions(*square, (2, 1, 0), (2, 2, 0), (3, 2, 0)), 2)
    # item 2 has two interactions until user 3, who has one, goes; then user 2 goes with it
    assert list(zip(kept.user.tolist(), kept.item.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_k_core_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match="--k-core 3 leaves 0 users of 2"):
        k_core(_interactions((0, 0, 0), (1, 1, 1)), 3)
