from dataclasses import replace

import numpy as np
import pytest
import torch

from flr_model.config import TitleConfig
from flr_model.data.dataset import Dataset
from flr_model.nn.run import load_run
from flr_model.ranking.candidates import UNSEEN
from flr_model.titles.latent import expected_vectors
from flr_model.training.sequences import learning
from flr_model.training.setup import set_up, trainable
from flr_model.training.writing import RowsObjective
from tests.builders import tiny_model, tiny_train


@pytest.fixture(scope="module")
def case(tiny_title_run, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    run = load_run(tiny_title_run)
    recommender = trainable(run, dataset.rows("train"))
    recommender.model.eval()
    recommender.head.eval()
    return recommender, run, dataset.rows("valid").subsample(12)


@torch.no_grad()
def test_what_guides_the_search_is_what_training_predicted(case):
    recommender, run, rows = case
    batch = recommender.encode(rows, training=False)
    predicted = recommender.head.predict(recommender.items, recommender.read(batch.inputs), batch.targets)
    found = replace(run, config=run.config.with_guidance(1.0)).recommender().scores(rows)
    np.testing.assert_allclose(predicted.log_probabilities().numpy(), found, atol=1e-3)
    assert np.std(found, axis=1).min() > 0.5


@torch.no_grad()
def test_the_loss_of_a_row_is_that_of_a_title_that_the_factors_expect(case):
    recommender, _, rows = case
    head, batch = recommender.head, recommender.encode(rows, training=True)
    reading = recommender.read(batch.inputs)
    expected = head.expect(recommender.items, reading, batch.targets)
    torch.manual_seed(5)
    loss = RowsObjective(recommender)(batch)["loss"]
    torch.manual_seed(5)
    drawn = expected.items.gather(1, expected.weights.multinomial(1))[:, 0]
    targets = batch.targets._replace(item=drawn)
    thoughts = reading.thought.thought[:, None]
    perplexity = -head.reward("perplexity", recommender.model, recommender.items, reading, thoughts, targets)
    choices = torch.bincount(head.titles_of(drawn).choice[0], minlength=len(rows))
    torch.testing.assert_close(loss, (perplexity[:, 0].log() * choices).mean(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_training_expects_what_ranking_does(case):
    recommender, run, rows = case
    batch = recommender.encode(rows, training=False)
    expected = recommender.head.expect(recommender.items, recommender.read(batch.inputs), batch.targets)
    ranks = replace(run, config=run.config.with_guidance(0.0)).recommender()
    mixture = ranks.guide.mixture(rows, ranks.states(rows))
    best = ranks.expected(mixture, rows, UNSEEN)
    assert (expected.items.numpy() == best.items).mean() > 0.95  # equals may change places
    np.testing.assert_allclose(expected.vectors.numpy(), expected_vectors(best, ranks.vectors), atol=1e-3)


@pytest.mark.parametrize(("title", "weight"), [(TitleConfig(), 1.0), (TitleConfig(guidance=0.0), 0.0)])
def test_the_factors_are_alone_until_a_weight_is_chosen(case, title, weight):
    _, run, _ = case
    changed = replace(run, config=replace(run.config, title=title))
    assert changed.recommender().guidance == weight


def test_rows_move_the_language_model_that_writes_and_nothing_else(tiny_dataset, tiny_backbone):
    setup = set_up(tiny_dataset, tiny_model(tiny_backbone, decoder="title"), tiny_train())
    recommender, writer = setup.recommender, setup.recommender.head.writer
    batch = recommender.encode(setup.rows.subsample(8), training=True)
    assert not any(weight.requires_grad for weight in writer.parameters())
    with learning(recommender, setup.writers):
        RowsObjective(recommender)(batch)["loss"].backward()
    moved = {name for name, weight in recommender.named_parameters() if weight.grad is not None}
    assert moved == {f"head.writer.{name}" for name, _ in writer.named_parameters()}
    for weight in (writer.spell.weight, writer.encoder.projection.weight, writer.log_scale):
        assert weight.grad.abs().max() > 0
