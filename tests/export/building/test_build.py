import dataclasses
import json
import logging

import numpy as np
import pytest

pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("onnxruntime")

from flr_export.building import gates, quantize
from flr_export.bundle import Bundle
from flr_export.runtime import load_bundle
from flr_model.artifacts import BUNDLE, open_folder
from flr_model.config import ExportConfig
from flr_model.data.dataset import Dataset
from flr_model.errors import ArtifactError, GateError
from flr_model.progress import SILENT
from tests.builders import tiny_model, tiny_train

LENIENT = ExportConfig(max_ndcg_loss=10.0, min_overlap=0.0, max_size=10.0)
FP32 = ExportConfig(precision="fp32")


def load(folder):
    from flr_model.nn.run import load_run

    return load_run(folder)


def export(folder, out, config=FP32, **changes):
    from flr_export.building.build import export_bundle

    return export_bundle(load(folder), folder, out, config=config, **changes)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """Report of a bundle with int8 that any gate lets through."""
    return export(tiny_run, tmp_path_factory.mktemp("bundles") / "b", LENIENT)


@pytest.fixture(scope="module")
def bundle(exported):
    from pathlib import Path

    return Path(exported.bundle)


@pytest.fixture
def valid(tiny_dataset):
    return Dataset.open(tiny_dataset).rows("valid")


def test_the_bundle_is_complete_and_says_what_it_is(bundle, exported, tiny_run):
    assert open_folder(bundle, BUNDLE.kind).files.keys() >= {*BUNDLE.files}
    opened = Bundle.open(bundle)
    assert opened.model == load(tiny_run).config
    facts = opened.manifest.content
    assert (facts["precision"], opened.reader.name) == ("int8", "reader.int8.onnx")
    known = {"files", "precision", "parity", "sizes", "metrics", "dataset", "dataset_fingerprint", "reading"}
    assert known == set(facts)
    assert facts["reading"]["interactions"]["columns"]["item_id"] == "item_id"
    assert facts["sizes"] == {p.name: p.stat().st_size for p in bundle.glob("*.onnx")} == exported.sizes
    assert opened.manifest.settings["export"]["min_overlap"] == 0.0


def test_parity_is_measured_and_stored(bundle):
    parity = json.loads((bundle / "manifest.json").read_text())["content"]["parity"]
    differences, ranking = parity["fp32"]["differences"], parity["fp32"]["ranking"]
    assert set(differences) == {"queries", "gates", "attention", "weights", "factors", "item_vectors", "logits"}
    assert max(differences.values()) < 1e-4
    assert ranking["rows"] > 0
    assert ranking["reference"]["NDCG@10"] == pytest.approx(ranking["candidate"]["NDCG@10"], abs=1e-6)
    assert 0.5 < parity["int8"]["top10_overlap"] <= 1


def test_the_bundle_ranks_as_the_run_does(tiny_run, tmp_path, valid):
    out = tmp_path / "b"
    export(tiny_run, out)
    np.testing.assert_allclose(load_bundle(out).scores(valid), load(tiny_run).recommender().scores(valid), atol=1e-4)


def test_text_histories_rank_as_in_the_run(tiny_text_run, tmp_path, valid):
    out = tmp_path / "b"
    report = export(tiny_text_run, out)
    assert report.parity["fp32"]["ranking"]["top10_overlap"] > 0.999
    ours, torchs = load_bundle(out).recommend(valid, 5), load(tiny_text_run).recommender().recommend(valid, 5)
    for name in ("items", "because"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(torchs, name))
    for name in ("scores", "shares", "counted"):
        np.testing.assert_allclose(getattr(ours, name), getattr(torchs, name), atol=1e-4)


@pytest.mark.parametrize("latent_tokens", [0, 2])
def test_any_number_of_latent_tokens_traces(tiny_run, tmp_path, latent_tokens):
    from flr_export.building.build import copy_tokenizers, export_graphs
    from flr_export.building.exporters import exporter_of

    run = load(tiny_run)
    run.model.latent_tokens = latent_tokens
    run.config = dataclasses.replace(run.config, latent_tokens=latent_tokens)
    exporter = exporter_of(run)
    copy_tokenizers(run, tmp_path)
    export_graphs(exporter, tmp_path)
    rows = Dataset.of(run.manifest).rows("valid")
    found = exporter.judge(tmp_path, rows, FP32, SILENT).parity["fp32"]
    assert max(found["differences"].values()) < 1e-4


def test_a_new_title_gets_the_vector_that_torch_gives_it(tiny_run, tmp_path):
    out = tmp_path / "b"
    export(tiny_run, out)
    titles = ["a title that nobody knew", "", "x", "very " * 60]
    ours, torchs = (r.reader.encode_titles(titles) for r in (load_bundle(out), load(tiny_run).recommender()))
    np.testing.assert_allclose(ours, torchs, atol=1e-4)


@pytest.mark.parametrize("readers", ["backbone,{encoder}", "{encoder}"])
def test_every_reader_of_titles_is_exported(tiny_dataset, tiny_backbone, tiny_sentence_encoder, tmp_path, readers):
    from flr_model.training.sft import train

    folder, out, titles = tmp_path / "run", tmp_path / "b", ["a title that nobody knew", "", "x", "very " * 60]
    model = tiny_model(tiny_backbone, item_readers=readers.format(encoder=tiny_sentence_encoder))
    train(tiny_dataset, folder, model=model, train=tiny_train(epochs=1))
    report = export(folder, out)
    assert report.parity["fp32"]["differences"]["item_vectors"] < 1e-4
    run = load(folder)
    for later in (load_bundle(out), run.recommender()):
        np.testing.assert_allclose(later.reader.encode_titles(run.catalog.titles.tolist()), run.vectors, atol=1e-4)
    ours, torchs = (r.reader.encode_titles(titles) for r in (load_bundle(out), run.recommender()))
    np.testing.assert_allclose(ours, torchs, atol=1e-4)
    graphs = ["item_encoder.onnx", "item_encoder_1.onnx"][: len(model.readers)]
    assert sorted(name for name in report.sizes if name != "reader.onnx") == graphs


def test_catalogue_vectors_are_those_of_the_run(bundle, tiny_run):
    np.testing.assert_array_equal(np.load(bundle / "item_vectors.npy"), load(tiny_run).vectors)


def test_fp32_alone_when_asked(tiny_run, tmp_path):
    report = export(tiny_run, tmp_path / "b")
    assert (report.precision, set(report.sizes)) == ("fp32", {"reader.onnx", "item_encoder.onnx"})
    assert "int8" not in report.parity


def test_graphs_above_tolerance_are_refused_and_nothing_is_written(tiny_run, tmp_path):
    with pytest.raises(GateError, match="beyond the tolerance"):
        export(tiny_run, tmp_path / "b", ExportConfig(tolerance=0.0))
    assert list(tmp_path.iterdir()) == []


def test_int8_that_ranks_worse_falls_back_to_fp32(tiny_run, tmp_path, monkeypatch, caplog):
    real = gates.compare_rankings

    def worse(reference, candidate, rows, **_):
        return dataclasses.replace(real(reference, candidate, rows), top10_overlap=0.5)

    monkeypatch.setattr(gates, "compare_rankings", worse)
    with caplog.at_level(logging.WARNING):
        report = export(tiny_run, tmp_path / "b", ExportConfig(max_size=10.0))
    assert (report.precision, report.files["reader"]) == ("fp32", "reader.onnx")
    assert not (tmp_path / "b" / "reader.int8.onnx").exists()
    assert report.parity["int8"]["passed"] is False
    assert "int8 does not pass" in caplog.text


def test_int8_that_is_too_large_falls_back_to_fp32(tiny_run, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        report = export(tiny_run, tmp_path / "b", dataclasses.replace(LENIENT, max_size=0.01))
    assert report.precision == "fp32"
    assert report.parity["int8"]["size"] > 0.01
    assert "int8 does not pass" in caplog.text


def test_int8_of_a_user_does_not_depend_on_who_else_is_in_the_batch(bundle, valid):
    scorer = load_bundle(bundle)
    whole = scorer.states(valid).queries
    for row in (0, 3):
        alone = scorer.states(valid.select(slice(row, row + 1))).queries[0]
        np.testing.assert_allclose(alone, whole[row], atol=1e-5)


def test_without_the_dataset_int8_is_left_out_with_a_warning(tiny_run, tmp_path, caplog):
    from flr_export.building.build import export_bundle

    run = load(tiny_run)
    run.manifest.content["dataset"] = str(tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        report = export_bundle(run, tiny_run, tmp_path / "b", config=LENIENT)
    assert report.parity["fp32"]["ranking"] is None
    assert (report.precision, report.metrics) == ("fp32", {})
    assert "rankings are not compared" in caplog.text
    assert "no validation rows" in caplog.text


def test_a_named_dataset_that_is_none_is_an_error(tiny_run, tmp_path):
    with pytest.raises(ArtifactError, match="not a folder"):
        export(tiny_run, tmp_path / "b", data=tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_protobuf_lie_beside_the_graph(tiny_run, tmp_path, monkeypatch, valid):
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")
    monkeypatch.setattr(quantize, "needs_external_data", lambda n_bytes: True)
    out = tmp_path / "b"
    report = export(tiny_run, out, LENIENT)
    assert (out / "reader.onnx_data").exists()
    assert report.sizes["reader.onnx"] > (out / "reader.onnx").stat().st_size
    out.rename(tmp_path / "moved")
    assert np.isfinite(load_bundle(tmp_path / "moved").scores(valid)).all()
