"""Weeks of a tiny shop: who is kept aside is in no file that trains, and every week is in the tables."""

import re
import sys

import pandas as pd
import pytest
import weekly
from stages import Stage

from flr_cli.app import main

OPTIONS = (
    *("--layers", "0", "--n-factors", "2", "--embedding-size", "8", "--item-readers", "backbone"),
    *("--tuning", "frozen", "--max-steps", "2", "--epochs", "1"),
)


def here(*words):
    """Run a command in this process."""
    assert main([*words]) == 0
    return Stage(words, "", 1.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def weeks(tiny_raw, tiny_backbone, tmp_path_factory):
    """The folder of two weeks, and what was printed after them."""
    folder = tmp_path_factory.mktemp("weeks")
    words = [str(tiny_raw), "--weeks", "3", "--aside", "0.25", "--folder", str(folder)]
    with pytest.MonkeyPatch.context() as patch, weekly.console.capture() as printed:
        patch.setattr(weekly, "flr", here)
        patch.setattr(sys, "argv", ["weekly.py", *words, "--backbone", str(tiny_backbone), *OPTIONS])
        weekly.main()
    return folder, printed.get()


def test_users_aside_are_in_no_file_that_trains(weeks):
    folder, _ = weeks
    everybody = set(pd.read_csv(folder / "all.csv").user_id)
    learned = [set(pd.read_csv(folder / f"orders-{week}.csv").user_id) for week in range(3)]
    assert len(everybody) == 120
    assert all(users <= learned[-1] for users in learned)
    assert len(learned[-1]) <= 90
    for run in ("run-2-data", "data-0"):
        assert set(pd.read_parquet(folder / run / "train.parquet").user_id) <= learned[-1]


def test_every_week_is_in_the_tables(weeks):
    _, printed = weeks
    following, old, seconds = printed.split("\nNDCG@10 on the week that follows")[-1].split("\n\n")[1::2]
    number, interval = r"0\.\d{4}", r"[+-]0\.\d{4} \([+-]0\.\d{4}\.\.[+-]0\.\d{4}\)"
    line = rf"\| (\w+) \| ([\d,]+) \| {number} \| {number} \| {number} \| {interval} \| {interval} \|"
    found = re.findall(line, following)
    assert [name for name, _ in found] == ["1", "2", "all"]
    assert int(found[2][1]) == int(found[0][1]) + int(found[1][1])
    found = re.findall(line, old)
    assert [name for name, _ in found] == ["1", "2"]
    assert found[0][1] == found[1][1]  # the same rows for every model
    assert seconds.splitlines()[2:4] == ["| 1 | 2 | 2 |", "| 2 | 2 | 2 |"]


def test_atomic_files_are_read_by_the_names_of_csv_files(tmp_path):
    (tmp_path / "x.item").write_text("item_id:token\tmovie_title:token_seq\n01\tToy, Story\n")
    frame = weekly.read(tmp_path, "items.csv", "*.item")
    assert frame.to_dict("records") == [{"item_id": "01", "title": "Toy, Story"}]
    (tmp_path / "items.csv").write_text("item_id,title\n02,Heat\n")
    assert weekly.read(tmp_path, "items.csv", "*.item").item_id.tolist() == ["02"]
