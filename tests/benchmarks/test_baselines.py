import json
import sys

import baselines
import numpy as np
import pytest
from baselines import Bench, Result, Trial, read_results, table_of, write_results

from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, MissingExtraError
from flr_model.ranking.candidates import EVERYTHING
from tests.builders import catalog_of, write_dataset


class Favourite:
    """Likes one item only."""

    def __init__(self, item, n_items):
        self.item, self.n_items = item, n_items

    def scores(self, rows, candidates=EVERYTHING):
        return candidates.mask(np.tile(np.arange(self.n_items) == self.item, (len(rows), 1)).astype(np.float32), rows)


@pytest.fixture
def bench(tmp_path):
    """Item 1 follows in the training and validation rows, item 2 in the test rows."""
    splits = {
        "train": HistoryRows.from_lists([[0], [0]], target=[1, 1]),
        "valid": HistoryRows.from_lists([[0], [3]], target=[1, 1]),
        "test": HistoryRows.from_lists([[0], [3]], target=[2, 2]),
    }
    return Bench(write_dataset(tmp_path / "data", catalog_of(list("abcd")), splits), patience=1)


def test_tuning_keeps_the_setting_that_is_best_on_the_validation_rows(bench, monkeypatch):
    monkeypatch.setattr(bench, "scorer", lambda method, setting, seed: Favourite(setting["item"], 4))
    result = bench.tune("als", [{"item": 2}, {"item": 1}, {"item": 3}], seeds=2)
    assert [trial.valid for trial in result.trials] == pytest.approx([0.5, 1, 0.5])
    assert [(fit.setting, fit.seed) for fit in result.fits] == [({"item": 1}, 0), ({"item": 1}, 1)]


def test_tuning_ranks_the_test_rows_with_the_chosen_setting(bench, monkeypatch):
    monkeypatch.setattr(bench, "scorer", lambda method, setting, seed: Favourite(setting["item"], 4))
    result = bench.tune("als", [{"item": 2}, {"item": 1}], seeds=1)
    # Item 1 is first; of the others one is hidden as seen and one ties with the target, which counts against it.
    assert [ranks.tolist() for ranks in result.ranks] == [[2, 2]]


def test_methods_without_a_random_part_are_fitted_once(bench):
    assert len(bench.tune("pop", [{}], seeds=3).fits) == 1


def test_table_shows_means_over_seeds_and_the_paired_difference():
    trial = Trial({}, seed=0, valid=0.25, seconds=2.0)
    result = Result(trials=[trial, trial], fits=[trial, trial], ranks=[np.array([0, 0]), np.array([6, 99])])
    table = table_of({"als": result}, [np.array([0, 0])], "")
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert cells[""] == ["als", "flr"]
    assert cells["HR@5"] == ["0.5000", "1.0000"]
    assert cells["HR@10"] == ["0.7500", "1.0000"]
    # NDCG@10 is 1 and 1 with the first seed, 1/3 and 0 with the second: 7/12 on average, 5/12 below flr.
    assert cells["NDCG@10"] == ["0.5833", "1.0000"]
    assert cells["tuning s"][0] == "4"
    assert cells["flr above it, NDCG@10 (95 %)"][0].startswith("+0.4167 (")


def test_command_prints_the_table_and_writes_every_figure(tmp_path, bench, monkeypatch, capsys):
    out = tmp_path / "results.json"
    call(monkeypatch, str(tmp_path / "data"), "--methods", "pop", "cooc", "--results", str(out))
    assert "2 test rows, all 4 items ranked" in capsys.readouterr().out
    methods = json.loads(out.read_text())["methods"]
    assert methods["pop"]["test"][0]["HR@10"] == 1
    assert methods["cooc"]["fits"][0]["valid"] == 1


def test_command_fits_no_method_again_that_the_results_have(tmp_path, bench, monkeypatch, capsys):
    arguments = (str(tmp_path / "data"), "--methods", "pop", "--results", str(tmp_path / "results.json"))
    call(monkeypatch, *arguments)
    first = capsys.readouterr().out
    monkeypatch.setattr(Bench, "tune", None)
    call(monkeypatch, *arguments)
    assert capsys.readouterr().out == first


def test_results_of_another_dataset_are_refused(tmp_path):
    write_results(tmp_path / "results.json", "one", {})
    with pytest.raises(ArtifactError, match="another dataset"):
        read_results(tmp_path / "results.json", "two")


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["baselines.py", *arguments])
    baselines.main()


def test_missing_library_names_the_extra(bench, monkeypatch):
    monkeypatch.delitem(sys.modules, "libraries", raising=False)
    monkeypatch.setitem(sys.modules, "recbole", None)
    with pytest.raises(MissingExtraError, match="which is not installed") as caught:
        bench.scorer("sasrec", {}, 0)
    assert '[bench]"' in caught.value.hint
