import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from flr_model.data.histories import PAD, sequences
from flr_model.errors import ConfigError
from flr_model.nn.catalog_decoder import NextItemHead
from flr_model.nn.history_encoders import ItemsEncoder, TextEncoder
from flr_model.progress import SILENT
from flr_model.training.sequences import (
    SequenceBatch,
    SequenceObjective,
    learn_sequences,
    learning,
    pieces,
    sequence_samples,
    weigh_next_item_head,
)
from flr_model.training.setup import set_up
from flr_model.training.sft import settings_of, train
from flr_model.training.tuning import LORA_ROWS, choose_tuning
from tests.builders import rows_of, tiny_model, tiny_train


@pytest.fixture
def setup(tiny_dataset, tiny_backbone):
    return set_up(tiny_dataset, tiny_model(tiny_backbone), tiny_train())


def user(*items):
    return [(item, time) for time, item in enumerate(items)]


def loss_of(objective, *items, seen=()):
    masked = torch.tensor(seen, dtype=torch.long).reshape(-1, 2).T
    return objective(SequenceBatch(torch.tensor([items]), masked))["loss"].item()


def test_pieces_share_one_interaction_with_the_next_and_stay_within_a_user():
    assert pieces(np.array([0, 0, 0, 0, 0, 0, 1, 1]), 2).tolist() == [[0, 1, 2], [2, 3, 4], [PAD, 4, 5], [PAD, 6, 7]]


def test_a_user_of_one_interaction_has_nothing_to_predict():
    assert pieces(np.array([0, 1]), 2).shape == (0, 3)


def test_all_that_a_user_has_seen_until_a_place_is_masked_but_for_the_target(setup):
    setup.recommender.config = replace(setup.recommender.config, max_history=2)
    samples = sequence_samples(setup.recommender, rows_of({"a": user(5, 9), "b": user(1, 2, 3, 1, 4)}))
    batch = samples.batch(np.array([2, 0]))  # the piece 3 1 4 of b, then 5 9 of a
    assert batch.pieces.tolist() == [[3, 1, 4], [PAD, 5, 9]]
    place, seen = batch.seen.tolist()
    # 3 was read and 1 follows: 2 and 3 are masked, 1 is the target; then 1 was read and 4 follows; of a, 5 was read
    assert sorted(set(zip(place, seen, strict=True))) == [(0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 5)]


def test_every_interaction_but_the_first_of_a_user_is_predicted_once(setup):
    who = sequences(setup.rows)[0]
    cut = pieces(who, 4)
    first = np.r_[True, who[1:] != who[:-1]]
    assert sorted(cut[:, 1:][cut[:, :-1] != PAD].tolist()) == np.flatnonzero(~first).tolist()


def test_untrained_it_predicts_what_is_like_the_last_item(setup):
    objective = SequenceObjective(setup.recommender).eval()
    vectors = setup.recommender.items()
    logits = 10 * 0.5 * vectors[20] @ vectors.T
    assert loss_of(objective, PAD, 20, 33) == pytest.approx(-logits.log_softmax(-1)[33].item(), abs=1e-4)
    logits[20] = -torch.inf
    found = loss_of(objective, PAD, 20, 33, seen=[(0, 20)])
    assert found == pytest.approx(-logits.log_softmax(-1)[33].item(), abs=1e-4)


def test_padding_counts_for_nothing(setup):
    objective = SequenceObjective(setup.recommender).eval()
    torch.nn.init.normal_(objective.next_item.weight)
    wide = loss_of(objective, PAD, PAD, 10, 11, 12, 13)
    assert wide == pytest.approx(loss_of(objective, 10, 11, 12, 13), abs=1e-4)


def test_a_place_does_not_see_what_comes_after_it(setup):
    objective = SequenceObjective(setup.recommender).eval()
    torch.nn.init.normal_(objective.next_item.weight)

    def last_losses(*items):
        losses = [loss_of(objective, *items[: n + 1]) * n for n in range(1, len(items))]
        return np.diff([0.0, *losses])

    np.testing.assert_allclose(last_losses(1, 2, 3, 4)[:2], last_losses(1, 2, 3, 50)[:2], atol=1e-4)


def test_the_trunk_learns_the_order_and_leaves_the_head_alone(setup, tmp_path):
    recommender = setup.recommender
    before = {name: value.clone() for name, value in recommender.state_dict().items()}
    settings = tiny_train(sequence_epochs=8, backbone_learning_rate=3e-3)
    learned = learn_sequences(recommender, setup.rows, settings, folder=tmp_path, resume=False, progress=SILENT)
    recommender.eval()
    rows = setup.valid
    with torch.no_grad():
        reading = recommender.read(recommender.encode(rows, training=False).inputs)
        predicted = reading.last @ learned.states / 32**0.5 + learned.last_item * reading.history.vectors[:, -1]
        scores = predicted @ recommender.items().T
    ranks = (scores >= scores.gather(1, torch.from_numpy(rows.target)[:, None])).sum(1)
    assert (ranks <= 5).float().mean() > 0.6  # the next title of the shelf follows with 85 %; chance is 8 %
    moved = {name for name, value in recommender.state_dict().items() if not torch.equal(value, before[name])}
    assert any(".lm.layers." in name for name in moved)
    assert not {name for name in moved if "reasoner" in name or name.startswith("head.")}
    assert not any(parameter.requires_grad for parameter in recommender.model.encoder.parameters())
    assert recommender.model.reasoner.value.requires_grad


def test_learning_gives_back_what_learned_before(setup):
    model = setup.recommender.model
    before = [parameter.requires_grad for parameter in model.parameters()]
    with learning(model, {model.reasoner.value}):
        assert [parameter for parameter in model.parameters() if parameter.requires_grad] == [model.reasoner.value]
    assert [parameter.requires_grad for parameter in model.parameters()] == before


class Validation:
    """NDCG@10 by the weight that the next-item head has."""

    def __init__(self, decoder, values):
        self.decoder, self.values, self.asked = decoder, values, []

    def __call__(self):
        weight = round(self.decoder.next_item.max().item(), 2)
        self.asked.append(weight)
        return {"NDCG@10": self.values.get(weight, 0.0)}


@pytest.mark.parametrize(
    ("values", "best", "asked"),
    [
        ({0.0: 0.3, 0.15: 0.4, 0.3: 0.5, 0.45: 0.4, 0.6: 0.9}, 0.3, [0.0, 0.15, 0.3, 0.45]),
        ({0.0: 0.3, 0.15: 0.2}, 0.0, [0.0, 0.15]),
    ],
)
def test_the_weight_grows_until_validation_falls(setup, values, best, asked):
    decoder = setup.recommender.head.decoder
    validate = Validation(decoder, values)
    learned = NextItemHead(torch.ones_like(decoder.next_item), torch.tensor(2.0))
    assert weigh_next_item_head(setup.recommender, learned, None, validate) == best
    assert validate.asked == asked
    torch.testing.assert_close(decoder.next_item, best * learned.states)
    assert decoder.last_item_weight.item() == pytest.approx(best * 2)


def test_what_was_measured_without_it_is_not_measured_again(setup):
    decoder = setup.recommender.head.decoder
    validate = Validation(decoder, {0.15: 0.2})
    learned = NextItemHead(torch.ones_like(decoder.next_item), torch.tensor(2.0))
    assert weigh_next_item_head(setup.recommender, learned, None, validate, 0.3) == 0
    assert validate.asked == [0.15]


@pytest.mark.parametrize(("asked", "given"), [(0.5, 0.5), (0.0, 0.0), (None, 0.0)])
def test_a_weight_that_was_asked_for_needs_no_validation(setup, asked, given):
    decoder = setup.recommender.head.decoder
    learned = NextItemHead(torch.ones_like(decoder.next_item), torch.tensor(2.0))
    assert weigh_next_item_head(setup.recommender, learned, asked, None) == given
    torch.testing.assert_close(decoder.next_item, given * learned.states)


def test_a_refit_takes_what_was_chosen(tiny_dataset, tiny_backbone, tmp_path):
    settings = tiny_train(max_steps=3, forecast=0.45)
    train(tiny_dataset, tmp_path / "run", model=tiny_model(tiny_backbone), train=settings)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["content"]["report"]["forecast"] == 0.45
    _, again = settings_of(tmp_path / "run")
    assert (again.tuning, again.forecast) == ("sequences", 0.45)


@pytest.mark.parametrize(
    ("encoder", "n_rows", "n_items", "tuning"),
    [
        (ItemsEncoder, 10 * 60, 60, "sequences"),
        (ItemsEncoder, 10 * 60 - 1, 60, "frozen"),
        (ItemsEncoder, LORA_ROWS, LORA_ROWS, "lora"),
        (TextEncoder, 600, 60, "frozen"),
        (TextEncoder, LORA_ROWS, 60, "lora"),
    ],
)
def test_what_auto_means(encoder, n_rows, n_items, tuning):
    assert choose_tuning("auto", n_rows, n_items, encoder) == tuning


def test_sequences_need_items():
    with pytest.raises(ConfigError, match="--encoding items"):
        choose_tuning("sequences", 600, 60, TextEncoder)
