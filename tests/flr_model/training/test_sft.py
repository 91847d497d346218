import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flr_model.artifacts import RUN, open_folder
from flr_model.config import ModelConfig, TrainConfig
from flr_model.config_io import build, dump_toml, read_tables
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, ConfigError, DataError
from flr_model.evaluation.validation import validator
from flr_model.nn.run import Run, load_recommender, load_run
from flr_model.training import sft, tuning
from flr_model.training.sft import train
from flr_model.training.tuning import choose_epochs
from tests.builders import TITLES, catalog_of, reseal, tiny_model, tiny_train, write_dataset


@pytest.fixture
def fit(tiny_dataset, tiny_backbone):
    """Train on the tiny dataset; settings that are not given are those of `tiny_run`."""

    def fit(out, *, model=None, settings=None, **options):
        shape = tiny_model(tiny_backbone, **(model or {}))
        return train(tiny_dataset, out, model=shape, train=tiny_train(**(settings or {})), **options)

    return fit


def report_of(run):
    return json.loads((run / "manifest.json").read_text())["content"]["report"]


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_improves_validation_and_reports_it(tiny_run, tiny_dataset):
    report = report_of(tiny_run)
    assert report["valid"]["NDCG@10"] > report["untrained"]["NDCG@10"] + 0.1
    assert report["rows"] == len(Dataset.open(tiny_dataset).rows("train"))
    assert report["steps"] == 2 * math.ceil(report["rows"] / 64)
    assert report["tuning"] == "sequences"
    assert 0 < report["trainable"] < report["parameters"]


def test_the_same_seed_gives_the_same_run_bit_for_bit(fit, tiny_run, tmp_path):
    fit(tmp_path / "again")
    for name in ("head.safetensors", "item_vectors.npy", "evidence.npz", "config.toml", "items.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run / name).read_bytes(), name
    assert report_of(tmp_path / "again")["valid"] == report_of(tiny_run)["valid"]


def test_another_seed_gives_another_run(fit, tiny_run, tmp_path):
    fit(tmp_path / "other", settings={"seed": 1})
    assert (tmp_path / "other" / "head.safetensors").read_bytes() != (tiny_run / "head.safetensors").read_bytes()


@pytest.mark.parametrize("which", ["tiny_run", "tiny_text_run"])
def test_a_run_is_complete_and_leaves_nothing_beside_it(request, which):
    run = request.getfixturevalue(which)
    assert open_folder(run, RUN.kind).files.keys() >= {*RUN.files}
    assert (run / "backbone" / "tokenizer.json").exists()
    assert not list(run.parent.glob(f".{run.name}*"))


def test_settings_can_be_read_back(tiny_run, tiny_backbone):
    tables = read_tables(tiny_run / "config.toml")
    assert build(ModelConfig, tables["model"]) == replace(tiny_model(tiny_backbone), layers=2)  # of auto
    assert build(TrainConfig, tables["train"]) == tiny_train()


@pytest.mark.parametrize("encoding", ["items", "text"])
def test_a_loaded_run_scores_as_the_one_in_memory_did(fit, tmp_path, tiny_dataset, monkeypatch, encoding):
    rows, kept = Dataset.open(tiny_dataset).rows("test"), {}
    original = Run.write

    def write(run, folder, toml):
        kept["scores"] = run.recommender().scores(rows)
        kept["titles"] = run.recommender().reader.encode_titles(TITLES[:3])
        original(run, folder, toml)

    monkeypatch.setattr(Run, "write", write)
    report = fit(tmp_path / "run", model={"encoding": encoding}, settings={"epochs": 1})
    loaded = load_run(tmp_path / "run")
    np.testing.assert_array_equal(loaded.recommender().scores(rows), kept["scores"])
    np.testing.assert_array_equal(loaded.recommender().reader.encode_titles(TITLES[:3]), kept["titles"])
    assert validator(loaded.recommender, Dataset.open(tiny_dataset).rows("valid"))() == report.valid


def test_item_vectors_of_a_run_are_those_of_its_titles(tiny_run):
    run = load_run(tiny_run)
    encoded = run.recommender().reader.encode_titles(run.catalog.titles.tolist())
    np.testing.assert_allclose(encoded, run.vectors, atol=1e-4)


def test_an_item_never_seen_is_scored_from_its_title(tiny_run):
    recommender = load_recommender(tiny_run)
    wider = recommender.with_items(["new"], [TITLES[12]])
    rows = HistoryRows.from_lists([[10, 11]])
    without_evidence = wider.states(rows).queries.sum(1) @ wider.vectors.T
    assert without_evidence[0, 60] == pytest.approx(without_evidence[0, 12], abs=1e-3)
    change = wider.scores(rows)[:, :60] - recommender.scores(rows)  # of what normalises the probabilities
    np.testing.assert_allclose(change, np.full_like(change, change[0, 0]), atol=1e-3)
    assert change[0, 0] < 0


def test_a_run_can_be_moved(tiny_run, tmp_path, tiny_dataset):
    rows = Dataset.open(tiny_dataset).rows("test")
    shutil.copytree(tiny_run, tmp_path / "moved")
    np.testing.assert_array_equal(
        load_recommender(tmp_path / "moved").scores(rows), load_recommender(tiny_run).scores(rows)
    )


def test_an_existing_run_is_refused_and_left_alone(fit, tiny_run):
    before = tree(tiny_run)
    with pytest.raises(ArtifactError, match="exists already") as caught:
        fit(tiny_run)
    assert "--overwrite" in caught.value.hint
    assert tree(tiny_run) == before


def test_an_existing_run_is_replaced_when_asked(fit, tmp_path):
    fit(tmp_path / "run", settings={"max_steps": 1})
    fit(tmp_path / "run", settings={"max_steps": 2}, overwrite=True)
    assert report_of(tmp_path / "run")["steps"] == 2


def test_a_folder_that_is_not_ours_is_never_replaced(fit, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="did not write"):
        fit(tmp_path / "thesis", overwrite=True)
    assert tree(tmp_path / "thesis") == {"chapter.txt": b"years of work"}


def test_a_run_that_cannot_be_written_leaves_no_folder_and_the_old_one(fit, tmp_path, monkeypatch):
    fit(tmp_path / "run", settings={"max_steps": 1})
    before = tree(tmp_path / "run")
    original = Run.write

    def fail(run, folder, toml):
        original(run, folder, toml)
        raise OSError("disk full")

    monkeypatch.setattr(Run, "write", fail)
    for name, overwrite in (("run", True), ("new", False)):
        with pytest.raises(OSError, match="disk full"):
            fit(tmp_path / name, settings={"max_steps": 1}, overwrite=overwrite)
    assert tree(tmp_path / "run") == before
    assert not (tmp_path / "new").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_refit_takes_settings_and_epochs_of_its_run_and_learns_from_validation_rows_too(
    fit, tiny_run, tmp_path, tiny_dataset
):
    dataset = Dataset.open(tiny_dataset)
    report = fit(tmp_path / "refit", model={"n_factors": 1}, settings={"epochs": 9}, refit=tiny_run)
    rows = len(dataset.rows("train")) + len(dataset.rows("valid"))
    epochs = round(report_of(tiny_run)["best_epoch"])
    assert (report.rows, report.steps, report.best_epoch) == (rows, epochs * math.ceil(rows / 64), epochs)
    assert report.valid == {}
    before, after = (read_tables(run / "config.toml") for run in (tiny_run, tmp_path / "refit"))
    assert after["model"] == before["model"]
    chosen = {name: report_of(tiny_run)[name] for name in ("tuning", "forecast")}
    assert after["train"] == {**before["train"], "epochs": epochs, **chosen}


def test_a_refit_repeats_the_tuning_although_its_rows_are_enough_for_another(fit, tiny_dataset, tmp_path, monkeypatch):
    dataset = Dataset.open(tiny_dataset)
    more_than_training = len(dataset.rows("train")) + 1  # fewer than with the validation rows
    monkeypatch.setattr(tuning, "DENSE_ROWS", more_than_training / len(dataset.catalog))
    first = fit(tmp_path / "run", settings={"max_steps": 1})
    again = fit(tmp_path / "refit", refit=tmp_path / "run")
    assert (first.tuning, again.tuning) == ("frozen", "frozen")


def test_early_stopping_keeps_the_best_epoch(fit, tmp_path, monkeypatch):
    seen = []

    def scripted(recommender, rows, **_):
        """Validation that falls after the second epoch, whatever the weights are; it notes them."""

        def validate():
            seen.append(recommender.__self__.head.decoder.item_map.detach().clone())
            return {"NDCG@10": (0.1, 0.2, 0.3, 0.25, 0.3)[len(seen) - 1], "HR@10": 0.5}

        return validate

    monkeypatch.setattr(sft, "validator", scripted)
    report = fit(tmp_path / "run", settings={"epochs": 6, "patience": 1, "tuning": "frozen"})
    _, first, second, third, kept = seen
    assert (report.steps, report.best_epoch) == (3 * math.ceil(report.rows / 64), 2)
    assert not any(torch.equal(kept, other) for other in (first, third))
    assert torch.equal(kept, second)


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("encoding", ["items", "text"])
def test_a_tuned_trunk_changes_and_the_item_backbone_does_not(
    fit, tmp_path, tiny_backbone, tiny_dataset, tuning, encoding
):
    settings = {"tuning": tuning, "epochs": 1, "backbone_learning_rate": 1e-2}
    report = fit(tmp_path / "run", model={"encoding": encoding}, settings=settings)
    assert report.tuning == tuning
    folders = (tiny_backbone, tmp_path / "run" / "backbone", tmp_path / "run" / "item_backbone")
    original, trunk, items = (
        {name.removeprefix("model."): weight for name, weight in load_file(folder / "model.safetensors").items()}
        for folder in folders
    )
    assert trunk.keys() == items.keys() == original.keys()
    assert all(torch.equal(items[name], original[name]) for name in items)
    assert any((trunk[name] - original[name]).abs().max() > 1e-3 for name in trunk)
    run = load_run(tmp_path / "run")
    assert validator(run.recommender, Dataset.open(tiny_dataset).rows("valid"))() == pytest.approx(report.valid)
    np.testing.assert_allclose(run.recommender().reader.encode_titles(TITLES), run.vectors, atol=1e-4)


def test_items_with_interactions_learn_beyond_their_titles_and_others_do_not(fit, tmp_path, tiny_dataset):
    fit(tmp_path / "run", settings={"residual_learning_rate": 1e-2})
    run = load_run(tmp_path / "run")
    moved = np.abs(run.vectors - run.recommender().reader.encode_titles(run.catalog.titles.tolist())).max(axis=1)
    train_rows = Dataset.open(tiny_dataset).rows("train")
    known = np.zeros(len(run.catalog), bool)
    known[np.concatenate([train_rows.items, train_rows.target])] = True
    assert moved[known].max() > 1e-3
    assert moved[~known].max(initial=0) < 1e-4


@pytest.mark.parametrize(("tuning", "stays"), [("frozen", True), ("sequences", False)])
def test_a_frozen_trunk_stays_as_it_is(fit, tmp_path, tiny_backbone, tuning, stays):
    fit(tmp_path / "run", settings={"tuning": tuning, "max_steps": 2})
    weights = load_file(tiny_backbone / "model.safetensors")
    trunk = load_file(tmp_path / "run" / "backbone" / "model.safetensors")
    assert all(torch.equal(trunk[name], weights[f"model.{name}"]) for name in trunk) == stays
    assert torch.equal(trunk["embed_tokens.weight"], weights["model.embed_tokens.weight"])
    assert not any(".lm." in f".{name}" for name in load_file(tmp_path / "run" / "head.safetensors"))


def test_accumulated_steps_are_as_many_as_those_of_larger_batches(fit, tmp_path, tiny_run):
    report = fit(tmp_path / "run", settings={"batch_size": 16, "grad_accumulation": 4})
    assert report.steps == report_of(tiny_run)["steps"]
    assert report.valid["NDCG@10"] == pytest.approx(report_of(tiny_run)["valid"]["NDCG@10"], abs=0.05)


def test_a_sampled_softmax_learns_too(fit, tmp_path):
    report = fit(tmp_path / "run", settings={"full_softmax_items": 10, "negatives": 30})
    assert report.valid["NDCG@10"] > report.untrained["NDCG@10"] + 0.1


def test_an_embedding_wider_than_the_backbone_is_an_error(fit, tmp_path):
    message = r"--embedding-size is 64, of which 48 .*, whose states have 32; about 42 is the most"
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path / "run", model={"embedding_size": 64})
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_training_rows_is_an_error(tmp_path, tiny_backbone):
    none = HistoryRows.from_lists([])
    data = write_dataset(tmp_path / "data", catalog_of(["A", "B"]), {"train": none, "valid": none})
    with pytest.raises(DataError, match="has no rows"):
        train(data, tmp_path / "run", model=tiny_model(tiny_backbone), train=tiny_train())


def test_a_folder_of_another_kind_is_an_error(tiny_run, tmp_path, tiny_backbone):
    with pytest.raises(ArtifactError, match="expected a dataset, got a run"):
        train(tiny_run, tmp_path / "run", model=tiny_model(tiny_backbone), train=tiny_train())


def test_a_head_that_does_not_fit_its_settings_is_not_loaded(tiny_run, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_run, broken)
    settings = build(ModelConfig, read_tables(broken / "config.toml")["model"])
    (broken / "config.toml").write_text(dump_toml([replace(settings, n_factors=3)]))
    reseal(broken)
    with pytest.raises(ArtifactError, match="does not fit"):
        load_run(broken)


def test_training_needs_no_network(fit, tmp_path, no_network):
    fit(tmp_path / "run", settings={"max_steps": 1})


@pytest.mark.parametrize(
    ("rows_per_user", "tuning", "epochs"), [(20, "frozen", 3), (21, "frozen", 1), (2, "lora", 3), (2, "sequences", 1)]
)
def test_what_is_soon_known_by_heart_is_seen_once(rows_per_user, tuning, epochs):
    users = [f"u{n % 3}" for n in range(3 * rows_per_user)]
    rows = HistoryRows.from_lists([[0]] * len(users), user_id=users)
    assert choose_epochs(None, tuning, rows) == epochs
    assert choose_epochs(7, tuning, rows) == 7
