import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flr_model.config import AlignConfig
from flr_model.data.dataset import Dataset
from flr_model.errors import ArtifactError
from flr_model.evidence import PairEvents
from flr_model.nn.loading import load_recommender, load_run
from flr_model.training.grpo import align, decode_samples, trainable

FILES = ("item_vectors.npy", "items.parquet", "evidence.npz", "backbone/model.safetensors")


def settings(**changes):
    return AlignConfig(**{"batch_size": 64, "max_steps": 4, "learning_rate": 1e-3, **changes})


@pytest.fixture(scope="module")
def aligned(tiny_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned") / "run"
    return out, align(tiny_run, out, align=settings())


def test_before_is_what_training_measured(aligned, tiny_run):
    training = json.loads((tiny_run / "manifest.json").read_text())["content"]["report"]
    assert aligned[1].before == pytest.approx(training["valid"])


@pytest.mark.parametrize("name", FILES)
def test_only_the_policy_learns(aligned, tiny_run, name):
    assert (aligned[0] / name).read_bytes() == (tiny_run / name).read_bytes()


def test_the_kept_weights_are_the_better_ones(aligned, tiny_run, tiny_dataset):
    out, report = aligned
    assert report.kept == ("aligned" if report.after["NDCG@10"] > report.before["NDCG@10"] else "sft")
    rows = Dataset.open(tiny_dataset).rows("valid")
    same = np.array_equal(load_recommender(out).scores(rows), load_recommender(tiny_run).scores(rows))
    assert same == (report.kept == "sft")


@pytest.mark.parametrize("reward", ["logprob", "ndcg"])
@pytest.mark.parametrize("advantage", ["batch", "popularity", "group"])
def test_alignment_that_does_harm_is_undone(tiny_run, tmp_path, caplog, reward, advantage):
    ruinous = settings(learning_rate=3.0, reward=reward, advantage=advantage)
    report = align(tiny_run, tmp_path / "run", align=ruinous)
    assert report.after["NDCG@10"] < report.before["NDCG@10"]
    assert report.kept == "sft"
    before, after = (load_file(run / "head.safetensors") for run in (tiny_run, tmp_path / "run"))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert "SFT weights are kept" in caplog.text


def test_the_same_seed_gives_the_same_numbers(aligned, tiny_run, tmp_path):
    again = align(tiny_run, tmp_path / "again", align=settings())
    assert again.after == aligned[1].after
    assert (tmp_path / "again" / "head.safetensors").read_bytes() == (aligned[0] / "head.safetensors").read_bytes()


def test_an_aligned_run_says_so_and_can_be_aligned_again(aligned, tmp_path):
    assert load_run(aligned[0]).manifest.content["stage"] == "align"
    assert load_run(aligned[0]).manifest.settings["align"] == settings().as_dict()
    align(aligned[0], tmp_path / "twice", align=settings(max_steps=1))


def test_histories_as_text_are_aligned_too(tiny_text_run, tmp_path):
    report = align(tiny_text_run, tmp_path / "run", align=settings(max_steps=2))
    assert report.steps == 2


def test_a_dataset_that_is_gone_is_an_error_that_names_the_flag(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "moved")
    manifest = json.loads((tmp_path / "moved" / "manifest.json").read_text())
    manifest["content"]["dataset"] = str(tmp_path / "gone")
    (tmp_path / "moved" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="is gone") as caught:
        align(tmp_path / "moved", tmp_path / "out", align=settings())
    assert "--data" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_an_existing_run_is_refused(tiny_run):
    with pytest.raises(ArtifactError, match="exists already"):
        align(tiny_run, tiny_run, align=settings())


def test_rows_with_more_lags_are_counted_in_the_runs_own_buckets(tiny_run, tiny_dataset, monkeypatch):
    """As after `--refit`, whose rows are more than those aligned on."""
    run, rows = load_run(tiny_run), Dataset.open(tiny_dataset).rows("train")
    monkeypatch.setattr("flr_model.evidence.LAGS_PER_BUCKET", 1)
    assert len(PairEvents.count(rows, len(run.catalog)).lag_bounds) > len(run.evidence.lag_bounds)
    baked = trainable(run, rows).evidence.bake()
    np.testing.assert_array_equal(baked.lag_bounds, run.evidence.lag_bounds)
    np.testing.assert_allclose(baked.value, run.evidence.value, rtol=1e-5)


def test_the_unperturbed_sample_is_decoded_as_the_thought_itself(tiny_run, tiny_dataset):
    rows = Dataset.open(tiny_dataset).rows("train").select(slice(0, 8))
    recommender = trainable(load_run(tiny_run), rows)
    with torch.no_grad():
        reading = recommender.read(recommender.encode(rows, training=False))
        thoughts = reading.thought.thought[:, None].repeat(1, 3, 1)
        thoughts[:, 1:] += torch.randn(8, 2, thoughts.shape[-1])
        vectors = decode_samples(recommender.model, reading, thoughts)
        expected = recommender.model.queries(reading).sum(1)
    torch.testing.assert_close(vectors[:, 0], expected)
    assert (vectors[:, 1] - expected).abs().max() > 1e-4
