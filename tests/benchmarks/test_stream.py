"""A stream in small: periods lie one behind the other, and every setting is compared with the run as it is."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import stream

from flr_model.config import AlignConfig
from flr_model.data.dataset import Dataset


@pytest.fixture
def periods(tiny_dataset):
    return stream.periods_of(Dataset.open(tiny_dataset), 3)


def test_periods_follow_each_other_and_hold_all_later_rows_of_users_new_to_the_counts(periods, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    assert sum(map(len, periods)) == len(dataset.rows("valid")) + len(dataset.rows("test"))
    for rows, following in pairwise(periods):
        assert rows.target_time.max() <= following.target_time.min()
    known = set(dataset.rows("train").user_id.tolist())
    assert not any(set(rows.user_id.tolist()) & known for rows in periods)


def test_a_policy_goes_on_from_period_to_period(periods, tiny_run):
    strong = AlignConfig(max_rows=None, batch_size=16, learning_rate=0.05)
    still, moved = stream.follow(tiny_run, periods, None), stream.follow(tiny_run, periods, strong)
    assert [len(part) for part in still] == [len(part) for part in moved] == [len(rows) for rows in periods[1:]]
    alone = stream.follow(tiny_run, periods[1:], strong)  # the first period is not aligned on
    assert not np.array_equal(np.concatenate(still), np.concatenate(moved))
    assert not np.array_equal(moved[1], alone[0])


def test_every_setting_has_a_line_and_is_computed_once(tiny_run, tmp_path, monkeypatch):
    settings = {"default": {}, "auto": {"noise": None, "kl": None}}
    monkeypatch.setattr(stream, "SETTINGS", settings)
    words = [str(tiny_run), "--periods", "2", "--seeds", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["stream.py", *words])
    with stream.console.capture() as printed:
        stream.main()
    assert "the run as it is" in printed.get()
    assert {path.name for path in tmp_path.iterdir()} == {"default 0.json", "auto 0.json"}
    monkeypatch.setattr(stream, "optimise", None)  # what is finished is read
    stream.main()
