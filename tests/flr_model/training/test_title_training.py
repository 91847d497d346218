import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from flr_model.config import AlignConfig, TitleConfig
from flr_model.data.dataset import Dataset
from flr_model.errors import ArtifactError, ConfigError
from flr_model.evaluation.validation import validator
from flr_model.nn.run import load_recommender, load_run
from flr_model.ranking.lags import BUCKETS
from flr_model.training.grpo import align
from flr_model.training.guidance import WEIGHTS, choose_guidance
from flr_model.training.setup import set_up, trainable
from flr_model.training.sft import train
from tests.builders import tiny_model, tiny_train


def report_of(run):
    return json.loads((run / "manifest.json").read_text())["content"]["report"]


@pytest.fixture(scope="module")
def aligned(tiny_title_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned") / "run"
    return out, align(tiny_title_run, out, align=AlignConfig(batch_size=64, max_steps=4, learning_rate=1e-3))


def test_it_learns_to_write_what_the_factors_expect(tiny_title_run, tiny_dataset, tiny_backbone):
    report = report_of(tiny_title_run)
    model = tiny_model(tiny_backbone, decoder="title", title=TitleConfig(guidance=0.0))
    untrained = set_up(tiny_dataset, model, tiny_train())
    found = validator(untrained.recommender.recommender, untrained.valid)()
    assert report["valid"]["NDCG@10"] > 2 * found["NDCG@10"]


def test_a_loaded_run_ranks_as_training_measured(tiny_title_run, tiny_dataset):
    rows = Dataset.open(tiny_dataset).rows("valid")
    run = load_recommender(tiny_title_run)
    assert validator(lambda: run, rows)() == pytest.approx(report_of(tiny_title_run)["valid"])


def test_a_run_without_its_tree_is_an_error(tiny_title_run, tmp_path):
    shutil.copytree(tiny_title_run, tmp_path / "run")
    (tmp_path / "run" / "title_tree.npz").unlink()
    with pytest.raises(ArtifactError, match="lacks title_tree"):
        load_run(tmp_path / "run")


def test_the_prompt_is_saved_with_the_run(tiny_title_run):
    assert load_run(tiny_title_run).config.title.prompt == TitleConfig().prompt


@pytest.mark.parametrize("changes", [{}, {"tuning": "full"}, {"writer_tuning": "lora"}])
def test_other_losses_and_tunings_train_too(tiny_dataset, tiny_backbone, tmp_path, changes):
    title = TitleConfig(title_softmax="vocabulary" if not changes else "catalog")
    model = tiny_model(tiny_backbone, decoder="title", latent_tokens=2, encoding="text", title=title)
    report = train(tiny_dataset, tmp_path / "run", model=model, train=tiny_train(max_steps=2, valid_rows=5, **changes))
    assert report.steps == 2
    assert report.trainable > 0
    assert load_run(tmp_path / "run").config.title.guidance in WEIGHTS


def test_a_backbone_with_output_embeddings_of_its_own_keeps_them(tiny_dataset, tiny_backbone, tmp_path):
    from transformers import LlamaForCausalLM

    lm = LlamaForCausalLM.from_pretrained(tiny_backbone)
    lm.config.tie_word_embeddings = False
    lm.lm_head.weight = torch.nn.Parameter(torch.randn(lm.lm_head.weight.shape))
    lm.save_pretrained(tmp_path / "untied")
    shutil.copyfile(tiny_backbone / "tokenizer.json", tmp_path / "untied" / "tokenizer.json")
    model = tiny_model(tmp_path / "untied", decoder="title")
    report = train(tiny_dataset, tmp_path / "run", model=model, train=tiny_train(max_steps=1, valid_rows=20))
    run = load_run(tmp_path / "run")
    assert torch.equal(run.head.writer.untied, lm.lm_head.weight)
    torch.testing.assert_close(run.head.writer.output_embeddings(), lm.lm_head.weight, rtol=0.05, atol=0)
    rows = Dataset.open(tiny_dataset).rows("valid").subsample(20)
    assert validator(run.recommender, rows)() == pytest.approx(report.valid)


def test_the_factors_learn_before_the_titles(tiny_title_run):
    state = load_file(tiny_title_run / "head.safetensors")
    start = -torch.log(torch.tensor(BUCKETS).float())
    assert (state["head.evidence.distance"] - start).abs().max() > 1e-3
    assert state["head.decoder.item_map"].abs().max() > 1e-3
    assert (state["item_encoder.scale"] - 1).abs().max() > 1e-3


def test_the_factors_alone_rank_as_well_as_those_of_a_catalog_run(tiny_title_run, tiny_run, tiny_dataset):
    rows = Dataset.open(tiny_dataset).rows("valid")
    of_titles = load_recommender(tiny_title_run, guidance=1.0)
    assert validator(lambda: of_titles, rows)()["NDCG@10"] > 0.95 * report_of(tiny_run)["valid"]["NDCG@10"]


def test_the_guidance_is_the_one_that_validation_likes_best(tiny_title_run, tiny_dataset, caplog):
    run, dataset = load_run(tiny_title_run), Dataset.open(tiny_dataset)
    recommender, rows = trainable(run, dataset.rows("train")), dataset.rows("valid").subsample(60)
    recommender.config = replace(run.config, title=TitleConfig())
    with caplog.at_level("INFO"):
        tried = choose_guidance(recommender, rows)
    chosen = recommender.config.title.guidance
    assert tried[chosen] == max(tried.values())
    assert len(tried) > 2
    assert f"--guidance {chosen:g}" in caplog.text
    again = load_recommender(tiny_title_run, guidance=chosen)
    assert validator(lambda: again, rows)()["NDCG@10"] == pytest.approx(tried[chosen])


def test_the_guidance_is_saved_with_the_run(tiny_dataset, tiny_backbone, tmp_path):
    title = TitleConfig(guidance=0.35)
    model = tiny_model(tiny_backbone, decoder="title", title=title)
    train(tiny_dataset, tmp_path / "run", model=model, train=tiny_train(max_steps=1, valid_rows=5))
    assert load_run(tmp_path / "run").config.title == title


def test_alignment_starts_from_what_training_measured(aligned, tiny_title_run):
    assert aligned[1].before == pytest.approx(report_of(tiny_title_run)["valid"])
    assert aligned[1].steps == 4


def test_only_the_policy_of_the_thought_is_aligned(tiny_title_run, tmp_path):
    report = align(tiny_title_run, tmp_path / "run", align=AlignConfig(batch_size=64, max_steps=3, learning_rate=3e-3))
    files = ("item_vectors.npy", "evidence.npz", "title_tree.npz", "writer/model.safetensors")
    for name in files:
        assert (tmp_path / "run" / name).read_bytes() == (tiny_title_run / name).read_bytes()
    before, after = (load_file(run / "head.safetensors") for run in (tiny_title_run, tmp_path / "run"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(("model.reasoner.", "model.latent.")) for name in changed), changed
    assert bool(changed) == (report.kept == "aligned")


def test_a_reward_that_needs_titles_is_refused_without_them(tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="--reward perplexity does not fit"):
        align(tiny_run, tmp_path / "run", align=AlignConfig(reward="perplexity"))


def test_the_factors_are_those_of_a_catalog_run_of_the_same_seed(tiny_dataset, tiny_backbone, tmp_path):
    settings = tiny_train(max_steps=3, valid_rows=5, sequence_epochs=1)
    for decoder, title in (("catalog", TitleConfig()), ("title", TitleConfig(guidance=0.0))):
        model = tiny_model(tiny_backbone, decoder=decoder, title=title, dropout=0.2)
        train(tiny_dataset, tmp_path / decoder, model=model, train=settings)
    catalog, title = (load_file(tmp_path / decoder / "head.safetensors") for decoder in ("catalog", "title"))
    assert catalog.keys() == {name for name in title if not name.startswith("head.writer.")}
    for name, weight in catalog.items():
        torch.testing.assert_close(title[name], weight, rtol=0, atol=0)
