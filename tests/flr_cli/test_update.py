import json

import pandas as pd
import pytest

pytest.importorskip("torch")

from flr_cli.app import main
from flr_model.artifacts import open_folder
from flr_model.training import update as module


@pytest.fixture(scope="module")
def week(tmp_path_factory, tiny_raw):
    """Orders of other users, after those of `tiny_raw`: 200 with a history."""
    orders = pd.read_csv(tiny_raw / "interactions.csv")
    orders = orders[orders.user_id.isin([f"u{n}" for n in range(40)])]
    orders["user_id"] = "new-" + orders.user_id
    orders["timestamp"] += 366 * 86_400
    orders = orders[orders.groupby("user_id").cumcount() <= 5]
    path = tmp_path_factory.mktemp("week") / "week.csv"
    orders.to_csv(path, index=False)
    return path


def _spoil(recommender, *_, **__):
    recommender.items.scale.data.mul_(-50)
    recommender.head.evidence.weight.data.zero_()
    return 0


def test_an_update_writes_a_run_and_its_dataset_and_prints_both_figures(tmp_path, tiny_run, week, capsys):
    words = ["update", str(tiny_run), str(week), "--out", str(tmp_path / "run2"), "--max-rows", "64"]
    assert main([*words, "--max-loss", "1", "--data-out", str(tmp_path / "all")]) == 0
    shown = capsys.readouterr()
    assert "in use" in shown.out
    assert "200 new rows, 0 new items; learned from 64 rows" in shown.out
    assert f"flr export {tmp_path / 'run2'}" in shown.err.replace("\n", "")
    assert open_folder(tmp_path / "run2", "run").content["dataset"] == str((tmp_path / "all").resolve())
    assert main(["eval", str(tmp_path / "run2"), "--json", "--quiet"]) == 0


def test_json_is_the_report_that_the_run_keeps(tmp_path, tiny_run, week, capsys):
    words = ["update", str(tiny_run), str(week), "--out", str(tmp_path / "run2"), "--max-rows", "64", "--json"]
    assert main([*words, "--max-loss", "1", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == open_folder(tmp_path / "run2", "run").content["update"]
    assert report["newest"] == 50


def test_a_worse_run_ends_with_4_and_leaves_nothing(tmp_path, tiny_run, week, capsys, monkeypatch):
    monkeypatch.setattr(module, "go_on", _spoil)
    assert main(["update", str(tiny_run), str(week), "--out", str(tmp_path / "run2")]) == 4
    shown = capsys.readouterr()
    assert "nothing was written" in shown.err
    assert shown.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", [("--user-col", "who"), ("--n-factors", "3"), ("--k-core", "2"), ("--held-out", "2")])
def test_settings_that_the_run_and_its_dataset_decide_are_no_flags(tmp_path, tiny_run, week, flag, capsys):
    assert main(["update", str(tiny_run), str(week), "--out", str(tmp_path / "run2"), *flag]) == 2
    assert not list(tmp_path.iterdir())
