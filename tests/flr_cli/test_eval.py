import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flr_cli.app import main
from flr_model.artifacts import BUNDLE, RUN, Manifest
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, Dataset, write_rows
from flr_model.data.histories import HistoryRows
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.recommender import UserStates
from flr_model.writing import FILE, claim
from tests.builders import no_evidence, reseal


class LastItemReader:
    """One factor whose query is the vector of the newest item."""

    def read(self, histories, vectors, titles):
        n, length = histories.items.shape
        query = vectors[histories.items[:, -1]][:, None]
        attention = np.full((n, 1, length), 1 / length)
        return UserStates(query, np.ones((n, 1)), attention, attention, query)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    Catalog(np.array(["a", "b", "c"], object), np.array(["A", "B", "C"], object)).write(folder / "items.parquet")
    rows = HistoryRows.from_lists([[0], [0]], user_id=["u", "v"], target=[1, 2])
    write_rows(folder, dict.fromkeys(SPLITS, rows))
    Manifest("dataset").write(folder)
    return Dataset.open(folder)


def make(folder, layout, dataset):
    folder.mkdir()
    for name in layout.files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    content = {"dataset": str(dataset.folder), "dataset_fingerprint": dataset.fingerprint()}
    Manifest(layout.kind, content=content).write(folder)
    return folder


@pytest.fixture
def loaders(dataset, monkeypatch):
    """Loaders of runs and bundles that give a recommender for which item 1 follows item 0."""

    def load(folder, **_):
        vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
        return CatalogRecommender(LastItemReader(), dataset.catalog, vectors, no_evidence(3), max_history=3)

    for module in ("flr_export.runtime", "flr_model.nn.run"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(load_recommender=load, load_bundle=load))


@pytest.fixture
def bundle(tmp_path, dataset, loaders):
    return make(tmp_path / "bundle", BUNDLE, dataset)


def test_json_has_the_promised_shape(bundle, capsys):
    assert main(["eval", str(bundle), "--json", "--bootstrap", "10"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert {"metrics", "intervals", "segments", "baselines", "diagnostics", "protocol"} <= set(body)
    assert body["metrics"]["HR@1"] == 0.5
    assert set(body["baselines"]) == {"pop", "cooc"}
    assert set(body["baselines"]["cooc"]) == set(body["metrics"])
    assert {"split", "match", "ties", "candidates"} <= set(body["protocol"])


def test_a_run_is_accepted_too(tmp_path, dataset, loaders, capsys):
    assert main(["eval", str(make(tmp_path / "run", RUN, dataset)), "--json", "--bootstrap", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["HR@1"] == 0.5


def test_a_run_without_torch_names_the_extra(tmp_path, dataset, loaders, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "flr_model.nn.run")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["eval", str(make(tmp_path / "run", RUN, dataset))]) == 1
    assert "flr[train]" in capsys.readouterr().err


def test_tables_show_metrics_segments_and_differences(bundle, capsys):
    assert main(["eval", str(bundle), "--bootstrap", "10"]) == 0
    shown = capsys.readouterr().out
    assert "test: 2 rows, 3 candidates by id, seen items removed, ties against the target" in shown
    assert all(word in shown for word in ("NDCG@10", "coverage@10", "target warm", "cooc", "factor_usage"))


def test_targets_that_the_user_had_are_said_to_be_misses(tmp_path, dataset, loaders, capsys):
    write_rows(
        dataset.folder, dict.fromkeys(SPLITS, HistoryRows.from_lists([[0], [2]], user_id=["u", "v"], target=[1, 2]))
    )
    reseal(dataset.folder)
    bundle = make(tmp_path / "bundle", BUNDLE, dataset)
    assert main(["eval", str(bundle), "--bootstrap", "0"]) == 0
    assert "\n1 of these rows have a target that their user had before" in capsys.readouterr().out
    assert main(["eval", str(bundle), "--bootstrap", "0", "--allow-seen"]) == 0
    assert "their user had before" not in capsys.readouterr().out


def test_ranks_are_written_and_not_replaced_unasked(bundle, tmp_path, capsys):
    out = tmp_path / "ranks.parquet"
    assert main(["eval", str(bundle), "--out", str(out)]) == 0
    assert pd.read_parquet(out).rank_model.tolist() == [0, 1]
    before = out.read_bytes()
    assert main(["eval", str(bundle), "--out", str(out)]) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["eval", str(bundle), "--out", str(out), "--overwrite"]) == 0


@pytest.mark.fault("outputs")
def test_ranks_replace_no_input_and_no_other_form_is_promised(bundle, dataset, tmp_path, capsys):
    (tmp_path / "flr.parquet").write_text("[eval]\nbootstrap = 0\n")
    for out, more, message in [
        (dataset.folder / "test.parquet", [], "lies in"),
        (bundle / "items.parquet", [], "lies in"),
        (tmp_path / "flr.parquet", ["--config", str(tmp_path / "flr.parquet")], "is an input of this command"),
        (tmp_path / "ranks.csv", [], "ranks are written as Parquet"),
    ]:
        before = out.read_bytes() if out.exists() else None
        assert main(["eval", str(bundle), "--out", str(out), "--overwrite", *more]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert (out.read_bytes() if out.exists() else None) == before


@pytest.mark.fault("two processes")
def test_a_second_evaluation_onto_the_same_file_is_refused_before_it_ranks(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flr_model.evaluation.evaluate.evaluate_with_baselines", None)
    with claim(tmp_path / "ranks.parquet", FILE):
        assert main(["eval", str(bundle), "--out", str(tmp_path / "ranks.parquet")]) == 3
    assert "another process of flr is writing" in " ".join(capsys.readouterr().err.split())


def test_a_dataset_that_is_gone_asks_for_the_flag(bundle, dataset, tmp_path, capsys):
    dataset.folder.rename(tmp_path / "moved")
    assert main(["eval", str(bundle)]) == 3
    assert "--data" in capsys.readouterr().err
    assert main(["eval", str(bundle), "--data", str(tmp_path / "moved")]) == 0


def test_a_dataset_in_place_of_a_run_is_refused(dataset, capsys):
    assert main(["eval", str(dataset.folder)]) == 3
    assert "expected a run or bundle, got a dataset" in capsys.readouterr().err


def test_an_unknown_split_is_a_usage_error(bundle, capsys):
    assert main(["eval", str(bundle), "--split", "dev"]) == 2
    assert "--split is 'dev'" in capsys.readouterr().err


def test_a_segment_that_no_column_has_is_refused_before_anything_is_ranked(tiny_run, capsys):
    assert main(["eval", str(tiny_run), "--segment", "colour"]) == 3
    assert "the items have no column 'colour'" in capsys.readouterr().err
