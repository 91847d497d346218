from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flr_model.config import PrepareConfig
from flr_model.data.dataset import Dataset
from flr_model.data.interactions import Interactions
from flr_model.data.prepare import Sources, prepare
from flr_model.data.split import Timeline
from flr_model.data.ties import choose_order, places, tie_share
from flr_model.errors import ConfigError
from flr_model.files.rows import Rejects
from flr_model.files.tables import ParquetFile
from flr_model.files.times import TimeRule

LINES = 12


def invoices(n_users=40, lines=LINES, invoices_each=2):
    """Every customer's invoices list the items 0, 1, .. in this order."""
    user, invoice, line = (a.ravel() for a in np.indices((n_users, invoices_each, lines)))
    path = Path("log.parquet")
    ids = (np.asarray([f"{kind}{n}" for n in range(size)], object) for kind, size in (("u", n_users), ("i", lines)))
    rejects = Rejects(path)
    return Interactions(
        ParquetFile(path, ()), user, line, (1 + invoice) * 10**6, *ids, rejects, rule=TimeRule("seconds")
    )


def following(timeline):
    """The share of neighbours in a user's order of which the second is the next line of the file."""
    same = timeline.user[1:] == timeline.user[:-1]
    return float((np.diff(timeline.item) == 1)[same].mean())


def test_the_share_of_ties_is_that_of_the_interactions_beyond_a_users_first():
    assert tie_share(invoices(lines=3, invoices_each=2)) == pytest.approx(4 / 5)
    assert tie_share(invoices(lines=1, invoices_each=5)) == 0
    assert tie_share(replace(invoices(), rule=None)) == 0  # without times nothing ties
    assert tie_share(invoices(n_users=0)) == 0


def test_auto_draws_where_most_rows_tie_and_says_so(caplog):
    assert choose_order(invoices(), None) == "random"
    assert "96 % of the rows" in caplog.text
    assert "--tie-order file" in caplog.text
    caplog.clear()
    assert choose_order(invoices(lines=1, invoices_each=4), None) == "file"
    assert not caplog.text


def test_the_order_of_the_file_is_kept_if_asked_for_and_a_warning_says_what_it_decides(caplog):
    assert choose_order(invoices(), "file") == "file"
    assert "in the order of the file" in caplog.text


def test_a_random_order_without_times_is_refused():
    with pytest.raises(ConfigError, match="--tie-order random without times"):
        choose_order(replace(invoices(), rule=None), "random")
    assert choose_order(replace(invoices(), rule=None), None) == "file"


def test_drawn_lines_do_not_tell_what_comes_next_and_invoices_keep_their_order():
    data = invoices()
    assert following(Timeline.of(data, "file")) > 0.95
    timeline = Timeline.of(data, "random")
    assert following(timeline) == pytest.approx(1 / LINES, abs=0.04)
    assert (np.diff(timeline.time) >= 0)[np.diff(timeline.user) == 0].all()
    by_user = timeline.item.reshape(-1, 2, LINES)
    assert (np.sort(by_user, axis=2) == np.arange(LINES)).all()
    assert (by_user[0] != by_user[1]).any()  # another order for every customer


def test_more_interactions_leave_the_drawn_order_of_the_others():
    data = invoices()
    kept = data.user % 2 == 0
    whole, part = places(data, "random")[kept], places(data.select(kept), "random")
    assert (np.argsort(whole) == np.argsort(part)).all()


def test_targets_in_order_of_all_users_stand_behind_their_histories():
    timeline = Timeline.of(invoices(), "random")
    targets = timeline.in_order(np.flatnonzero(timeline.index > 0))
    of_one = targets[timeline.user[targets] == 7]
    assert (np.diff(timeline.index[of_one]) == 1).all()


def test_a_dataset_remembers_what_was_decided(tmp_path):
    rows = [(f"u{user}", line, f"Item {line}", 1_500_000_000) for user in range(30) for line in range(6)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "title", "timestamp"]).to_csv(tmp_path / "log.csv", index=False)
    decided = {}
    for asked in (None, "file"):
        config = PrepareConfig(tie_order=asked)
        prepare(Sources(interactions=tmp_path / "log.csv"), tmp_path / "d", config, overwrite=True)
        dataset = Dataset.open(tmp_path / "d")
        decided[dataset.manifest.settings["prepare"]["tie_order"]] = dataset.rows("train").target.tolist()
    assert list(decided) == ["random", "file"]
    assert decided["random"] != decided["file"]


def test_ready_made_splits_have_their_order(tmp_path):
    files = {name: tmp_path / f"{name}.csv" for name in ("train", "valid", "test", "items")}
    with pytest.raises(ConfigError, match="--tie-order do not apply to ready-made splits"):
        prepare(Sources(**files), tmp_path / "d", PrepareConfig(tie_order="file"))
