"""A bundle of the `title` decoder: the same graphs, commands and files as `catalog`, and what is its own."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("onnxruntime")

from flr_cli.app import main
from flr_export.runtime import OnnxWriter, load_bundle
from flr_model.config import ExportConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, ConfigError, GateError
from flr_model.explain.facets import explain
from flr_model.ranking.candidates import Candidates

ROOT = Path(__file__).parents[3]
GUIDANCE = 0.4


def load(folder):
    from flr_model.nn.run import load_run

    return load_run(folder)


def export(run, out, config=None):
    from flr_export.building.build import export_bundle

    return export_bundle(load(run), run, out, config=config or ExportConfig())


@pytest.fixture(scope="module")
def exported(tiny_title_run, tmp_path_factory):
    return export(tiny_title_run, tmp_path_factory.mktemp("bundles") / "title", ExportConfig(guidance=GUIDANCE))


@pytest.fixture(scope="module")
def bundle(exported):
    return Path(exported.bundle)


@pytest.fixture(scope="module")
def histories(tmp_path_factory, tiny_raw):
    path = tmp_path_factory.mktemp("histories") / "h.csv"
    path.write_text((tiny_raw / "interactions.csv").read_text() + "stranger,unheard,1\n")
    return path


def score(bundle, histories, out, *words):
    return main(["score", str(bundle), str(histories), "--out", str(out), "--quiet", *words])


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_lists_are_those_of_torch(exported):
    assert (exported.precision, exported.files["title_writer"]) == ("fp32", "title_writer.onnx")
    ranking = exported.parity["fp32"]["ranking"]
    assert (ranking["rows"] > 0, ranking["identical_top10"], ranking["top10_overlap"]) == (True, 1.0, 1.0)
    assert set(exported.parity["fp32"]["differences"]) == {
        "item_vectors", "queries", "gates", "attention", "weights", "factors", "state",
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"encoding": "text"}, {"latent_tokens": 3, "n_factors": 1}])
def test_other_shapes_give_the_lists_of_torch_too(tiny_dataset, tiny_backbone, tmp_path, changes):
    from flr_model.training.sft import train
    from tests.builders import tiny_model, tiny_train

    model = tiny_model(tiny_backbone, decoder="title", **changes)
    train(tiny_dataset, tmp_path / "run", model=model, train=tiny_train(max_steps=1, valid_rows=2))
    assert export(tmp_path / "run", tmp_path / "b").parity["fp32"]["ranking"]["identical_top10"] == 1.0


def test_graphs_above_tolerance_are_refused(tiny_title_run, tmp_path):
    with pytest.raises(GateError, match="beyond the tolerance"):
        export(tiny_title_run, tmp_path / "b", ExportConfig(tolerance=0.0))
    assert list(tmp_path.iterdir()) == []


def test_every_user_is_scored_or_rejected_and_the_parts_add_up(bundle, histories, tmp_path):
    assert score(bundle, histories, tmp_path / "recs.csv", "--top-k", "7") == 0
    rows = read(tmp_path / "recs.csv")
    seen = {(row["user_id"], row["item_id"]) for row in read(histories)}
    users = {user for user, _ in seen} - {"stranger"}
    assert {row["user_id"] for row in rows} == users
    assert len(rows) == 7 * len(users)
    assert not {(row["user_id"], row["item_id"]) for row in rows} & seen
    for row in rows:
        assert float(row["factor_1"]) + float(row["factor_2"]) == pytest.approx(1, abs=3e-6)
        assert 0 < float(row["score"]) < 1
        assert (row["user_id"], row["because_item_id"]) in seen
    assert [row["user_id"] for row in read(tmp_path / "recs.csv.rejects.csv")] == ["stranger"]


def test_an_interrupted_run_resumes_to_the_same_bytes(bundle, histories, tmp_path, monkeypatch):
    from flr_export.scoring import outputs

    monkeypatch.setattr(outputs, "SAVE_SECONDS", 0.0)
    assert score(bundle, histories, tmp_path / "whole.csv", "--batch-size", "16") == 0
    real, calls = outputs.Output.commit, []

    def stop(self, counts):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("killed")
        real(self, counts)

    monkeypatch.setattr(outputs.Output, "commit", stop)
    with pytest.raises(RuntimeError):
        score(bundle, histories, tmp_path / "part.csv", "--batch-size", "16")
    monkeypatch.setattr(outputs.Output, "commit", real)
    assert score(bundle, histories, tmp_path / "part.csv", "--batch-size", "16", "--resume") == 0
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_new_items_and_candidates_work_as_for_the_catalog_decoder(bundle, tmp_path):
    (tmp_path / "h.csv").write_text("user_id,item_id,timestamp\nu,i3,1\nu,new,2\nv,i4,1\n")
    (tmp_path / "items.csv").write_text("item_id,title\nnew,red jazz days\nother,quite different\n")
    (tmp_path / "candidates.csv").write_text("user_id,item_id\nu,i1\nu,other\nu,new\nv,i1\n")
    words = ["--items", str(tmp_path / "items.csv"), "--candidates", str(tmp_path / "candidates.csv")]
    assert score(bundle, tmp_path / "h.csv", tmp_path / "recs.csv", *words) == 0
    found = {(row["user_id"], row["item_id"]) for row in read(tmp_path / "recs.csv")}
    assert found == {("u", "i1"), ("u", "other"), ("v", "i1")}


def test_an_index_of_items_is_refused(bundle, histories, tmp_path, capsys):
    assert score(bundle, histories, tmp_path / "recs.csv", "--index", "ann") == 2
    assert "--index ann is for bundles of --decoder catalog" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_more_items_than_the_beam_is_wide(bundle, tmp_path):
    (tmp_path / "h.csv").write_text("user_id,item_id,timestamp\nu,i3,1\n")
    assert score(bundle, tmp_path / "h.csv", tmp_path / "recs.csv", "--top-k", "100") == 0
    assert len({row["item_id"] for row in read(tmp_path / "recs.csv")}) == 59


def test_run_and_bundle_are_evaluated_alike(bundle, tiny_title_run, tiny_dataset, capsys):
    reports = []
    for source, more in ((tiny_title_run, ["--guidance", str(GUIDANCE)]), (bundle, [])):
        assert main(["eval", str(source), "--json", "--quiet", "--max-rows", "40", *more]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0]["protocol"]["rows"] == 40
    assert reports[0]["metrics"] == pytest.approx(reports[1]["metrics"], rel=0.01)  # torch may search in bf16
    assert reports[0]["diagnostics"]["factor_usage"] == pytest.approx(reports[1]["diagnostics"]["factor_usage"])


def test_the_factors_part_in_a_guided_bundle_is_explained(bundle, histories, capsys):
    user = read(histories)[0]["user_id"]
    assert main(["explain", str(bundle), "--user", user, "--histories", str(histories), "--json"]) == 0
    out, err = capsys.readouterr()
    reason = json.loads(out)["reasons"][0]
    assert "the language model counts too" in err
    row = HistoryRows.from_lists([[3, 4]])
    alone = load_bundle(bundle, guidance=1.0)
    best = alone.recommend(row, 5)
    found = explain(alone, row, top_k=5).reasons
    assert [one.item_id for one in found] == alone.catalog.item_ids[best.items[0]].tolist()
    np.testing.assert_allclose([one.probability for one in found], np.exp(best.scores[0]), rtol=1e-4)
    assert sum(reason["shares"]) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ConfigError, match="cannot be explained without guidance"):
        explain(load_bundle(bundle, guidance=0.0), row, top_k=5)


def test_a_graph_of_another_version_is_refused(bundle):
    with pytest.raises(ArtifactError, match="another version of flr"):
        OnnxWriter(bundle / "title_writer.onnx", load_bundle(bundle).model)


def test_a_writer_of_another_version_is_refused(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "b")
    shutil.copyfile(bundle / "reader.onnx", tmp_path / "b" / "title_writer.onnx")
    with pytest.raises(ArtifactError, match="another version of flr: it lacks input_ids"):
        OnnxWriter(tmp_path / "b" / "reader.onnx", load_bundle(bundle).model)


def test_the_factors_alone_write_nothing_and_take_boosts(bundle):
    alone, catalog = (load_bundle(bundle, guidance=1.0) for _ in range(2))
    alone.reader.prompt = alone.reader.extend = None
    rows = HistoryRows.from_lists([[3, 4], [5]])
    boost = np.linspace(0, 3, 60).astype(np.float32)
    for candidates in (Candidates(), Candidates(boost=boost)):
        assert (
            alone.recommend(rows, 9, candidates).items.tolist()
            == catalog.guide.recommend(rows, 9, candidates).items.tolist()
        )


def test_guidance_can_be_chosen_after_training(tiny_title_run, tiny_run, tmp_path, capsys):
    reports = {}
    for weight in ("0", "1"):
        words = ["eval", str(tiny_title_run), "--json", "--quiet", "--max-rows", "40", "--guidance", weight]
        assert main(words) == 0
        reports[weight] = json.loads(capsys.readouterr().out)["metrics"]["NDCG@10"]
    assert reports["0"] != reports["1"]
    assert reports["1"] > 0.1
    export(tiny_title_run, tmp_path / "b", ExportConfig(guidance=1.0))
    assert load_bundle(tmp_path / "b").model.title.guidance == 1.0
    assert main(["eval", str(tmp_path / "b"), "--json", "--quiet", "--max-rows", "40"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["NDCG@10"] == pytest.approx(reports["1"])
    assert main(["eval", str(tiny_run), "--guidance", "0.5"]) == 2
    assert "--decoder title" in capsys.readouterr().err


def test_seen_items_are_listed_when_they_are_allowed(bundle, tiny_dataset):
    recommender, rows = load_bundle(bundle), Dataset.open(tiny_dataset).rows("valid").subsample(10)
    hidden, allowed = (recommender.scores(rows, Candidates(allow_seen=flag)) for flag in (False, True))
    own = rows.row_of_item(), rows.items
    assert np.isneginf(hidden[own]).all()
    assert np.isfinite(allowed[own]).any()
    assert (np.isfinite(hidden).sum(axis=1) == 20).all()


def test_a_title_bundle_is_scored_without_torch(bundle, histories, tmp_path):
    arguments = ["score", str(bundle), str(histories), "--out", str(tmp_path / "recs.csv"), "--quiet"]
    hidden = ["torch", "transformers", "optimum", "onnx", "safetensors"]
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
    code += f"from flr_cli.app import main\nsys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["title_tree.npz", "title_head.npy", "title_writer.onnx"])
def test_a_damaged_file_is_an_error_that_names_it(bundle, tmp_path, name):
    shutil.copytree(bundle, tmp_path / "b")
    (tmp_path / "b" / name).write_bytes(b"no")
    with pytest.raises(ArtifactError, match=name):
        load_bundle(tmp_path / "b")
