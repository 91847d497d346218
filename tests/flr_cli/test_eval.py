import json
import os
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
from flr_model.errors import ArtifactError
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.recommender import UserStates
from flr_model.writing import check_target, claim
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
    assert '[train]"' in capsys.readouterr().err


def test_tables_show_metrics_segments_and_differences(bundle, capsys):
    assert main(["eval", str(bundle), "--bootstrap", "10"]) == 0
    shown = capsys.readouterr().out
    assert "test: 2 rows, 3 candidates by id, seen items removed, ties against the target" in shown
    assert all(word in shown for word in ("NDCG@10", "coverage@10", "target warm", "cooc", "factor_usage"))


def test_many_baselines_still_fit_80_columns(bundle, capsys):
    pytest.importorskip("implicit")
    assert main(["eval", str(bundle), "--bootstrap", "10", "--baselines", "pop,cooc,itemknn,ease,als"]) == 0
    shown = capsys.readouterr().out
    tables = shown.split("Model minus others")[0].splitlines()
    assert not [line for line in tables if line.startswith(" ") and "│" in line]  # no cell goes on below
    assert shown.count("The others") == 2
    assert "ease: reg weight 10.0, settings tried 7, valid ndcg@10" in shown


def test_an_unknown_baseline_is_a_usage_error(bundle, capsys):
    assert main(["eval", str(bundle), "--baselines", "pop,knn"]) == 2
    assert "--baselines: 'knn' is none of pop, cooc, itemknn, ease, als" in " ".join(capsys.readouterr().err.split())


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


def test_the_result_is_saved_with_the_bundle_which_stays_whole_and_replaceable(bundle, capsys):
    assert main(["eval", str(bundle), "--json", "--bootstrap", "10"]) == 0
    printed = json.loads(capsys.readouterr().out)
    saved = bundle / "evaluation" / "test"
    assert json.loads((saved / "eval.json").read_text()) == printed
    assert pd.read_parquet(saved / "ranks.parquet").rank_model.tolist() == [0, 1]
    assert main(["eval", str(bundle), "--json", "--bootstrap", "0"]) == 0  # the newest of a split takes its place
    assert json.loads((saved / "eval.json").read_text())["intervals"] == {}
    check_target(bundle, "bundle", overwrite=True)
    (saved / "mine.txt").write_text("a person's own")
    with pytest.raises(ArtifactError, match=r"evaluation/test/mine\.txt"):
        check_target(bundle, "bundle", overwrite=True)


def test_a_bundle_that_cannot_be_written_into_is_measured_and_that_is_said(bundle, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert main(["eval", str(bundle), "--bootstrap", "0"]) == 0
    shown = capsys.readouterr()
    assert "NDCG@10" in shown.out
    assert "not saved; --out DIR saves it elsewhere" in " ".join(shown.err.split())
    assert not (bundle / "evaluation").exists()


def test_another_place_for_the_result_is_not_replaced_unasked(bundle, tmp_path, capsys):
    out = tmp_path / "result"
    assert main(["eval", str(bundle), "--out", str(out)]) == 0
    assert pd.read_parquet(out / "ranks.parquet").rank_model.tolist() == [0, 1]
    assert not (bundle / "evaluation").exists()
    before = (out / "manifest.json").read_bytes()
    assert main(["eval", str(bundle), "--out", str(out)]) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before
    assert main(["eval", str(bundle), "--out", str(out), "--overwrite"]) == 0


def test_a_saved_evaluation_is_compared_with_by_row(tmp_path, bundle, dataset, capsys):
    other = make(tmp_path / "other", BUNDLE, dataset)
    command = ["eval", str(bundle), "--against", str(other), "--json", "--bootstrap", "20"]
    assert main(command) == 3
    assert f"flr eval {other} --split test" in " ".join(capsys.readouterr().err.split())
    assert main(["eval", str(other), "--bootstrap", "0"]) == 0
    capsys.readouterr()
    assert main(command) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["differences"]["against"]["NDCG@10"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "relative": [0.0, 0.0]}
    assert body["about"] == {"against": {"source": str(other)}}
    assert main([*command, "--match", "title"]) == 3
    assert "its evaluation has match id, this one title" in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--max-rows", "1"]) == 3
    assert "has rows 2, this one 1" in " ".join(capsys.readouterr().err.split())


def test_ones_own_recommendations_are_measured_on_the_same_rows(tmp_path, bundle, capsys):
    # Row u wants b, row v wants c. The file knows no v; a is seen by u, so b is the first candidate.
    ours = tmp_path / "ours.csv"
    ours.write_text("kunde;artikel;score\nu;a;9\nu;b;7.5\nu;c;7.5\nw;c;1\n", encoding="utf-8")
    command = ["eval", str(bundle), "--recs", str(ours), "--json", "--bootstrap", "10"]
    assert main(command) == 3
    assert "has no user_id column" in " ".join(capsys.readouterr().err.split())
    command += ["--user-col", "kunde", "--item-col", "artikel"]
    assert main(command) == 0
    shown = capsys.readouterr()
    body = json.loads(shown.out)
    assert "1 user of the evaluated rows have no recommendation in it: their 1 row are misses" in " ".join(
        shown.err.split()
    )
    assert body["baselines"]["recs"]["HR@1"] == 0.0  # b and c tie, which counts against the target
    assert body["baselines"]["recs"]["HR@5"] == 0.5
    assert body["differences"]["recs"]["HR@10"]["mean"] == 0.5
    assert (
        body["about"]["recs"] | {"ordered_by": "score", "users_without": 1, "rows_without": 1} == body["about"]["recs"]
    )


def test_flags_of_files_need_a_file(bundle, capsys):
    for flags, message in (
        (["--user-col", "u"], "--user-col would have no effect without --recs"),
        (["--time-col", "t", "--recs", "x.csv"], "--time-col would have no effect on recommendations"),
        (["--overwrite"], "--overwrite would have no effect without --out"),
    ):
        assert main(["eval", str(bundle), *flags]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.fault("outputs")
def test_the_result_replaces_no_input(bundle, dataset, tmp_path, capsys):
    (tmp_path / "flr.parquet").write_text("[eval]\nbootstrap = 0\n")
    for out, more, message in [
        (dataset.folder / "test.parquet", [], "lies in"),
        (bundle / "items.parquet", [], "lies in"),
        (tmp_path / "flr.parquet", ["--config", str(tmp_path / "flr.parquet")], "is an input of this command"),
    ]:
        before = out.read_bytes() if out.exists() else None
        assert main(["eval", str(bundle), "--out", str(out), "--overwrite", *more]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert (out.read_bytes() if out.exists() else None) == before


@pytest.mark.fault("two processes")
def test_a_second_evaluation_onto_the_same_place_is_refused_before_it_ranks(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flr_model.evaluation.evaluate.evaluate_with_baselines", None)
    with claim(bundle / "evaluation" / "test", "evaluation"):
        assert main(["eval", str(bundle)]) == 3
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
    assert not (tiny_run / "evaluation").exists()
