import numpy as np
import pytest
import torch

from flr_model.data.histories import HistoryRows
from flr_model.nn.backbone import Trunk, load_backbone
from flr_model.nn.build import build_model
from flr_model.nn.history_encoders import HistoryBatch, TextTokens
from flr_model.nn.reasoner import History
from flr_model.ranking.lags import PaddedHistories
from flr_model.titles.tokens import TextHistories, TitleTokenizer
from tests.builders import TITLES, tiny_model

HISTORIES = [[3, 11, 40, 7], [20, 9]]


@pytest.fixture(scope="module")
def build(tiny_backbone):
    """Networks with random weights in every part; equal settings give equal weights."""

    def build(**changes):
        config = tiny_model(tiny_backbone, dropout=0.0, **changes)
        torch.manual_seed(0)
        tokenizer = TitleTokenizer(tiny_backbone / "tokenizer.json", title_tokens=16)
        trunk = Trunk(load_backbone(str(tiny_backbone)).lm)
        network = build_model(config, trunk, tokenizer, n_lags=2, writing_model=lambda: None)
        for part in network:
            for name, parameter in part.named_parameters():
                if ".lm." not in name:
                    torch.nn.init.normal_(parameter, std=0.2)
            part.eval().requires_grad_(False)
        return network

    return build


@pytest.fixture(scope="module")
def vectors():
    return torch.nn.functional.normalize(torch.randn(60, 16, generator=torch.Generator().manual_seed(1)), dim=-1)


def items_batch(vectors, histories, length):
    rows = HistoryRows.from_lists(histories, times=[range(10, 10 + len(history)) for history in histories])
    items, lag = map(torch.from_numpy, PaddedHistories.of(rows, length, np.asarray([0])))
    mask = (items >= 0).long()
    return HistoryBatch(vectors[items.clamp(min=0)] * mask[..., None], mask, lag)


def text_batch(vectors, histories, length, tiny_backbone):
    tokenizer = TitleTokenizer(tiny_backbone / "tokenizer.json", title_tokens=16)
    padded = HistoryRows.from_lists(histories).padded(length)
    text = TextHistories(tokenizer.encode(TITLES), tokenizer.separator, 96).encode(padded)
    tokens = TextTokens(*map(torch.from_numpy, text))
    return items_batch(vectors, histories, length)._replace(text=tokens)


def queries(network, batch):
    return network.head.decoder(network.model.read(batch))


def test_one_query_per_factor(build, vectors):
    assert queries(build(n_factors=3), items_batch(vectors, HISTORIES, 4)).shape == (2, 3, 16)


def test_padding_does_not_change_what_the_items_encoding_says(build, vectors):
    network = build()
    narrow, wide = (queries(network, items_batch(vectors, HISTORIES, length)) for length in (4, 9))
    torch.testing.assert_close(wide, narrow)
    torch.testing.assert_close(queries(network, items_batch(vectors, HISTORIES[1:], 2)), narrow[1:])


def test_padding_does_not_change_what_the_text_encoding_says(build, vectors, tiny_backbone):
    network = build(encoding="text")
    narrow, wide = (queries(network, text_batch(vectors, HISTORIES, length, tiny_backbone)) for length in (4, 9))
    torch.testing.assert_close(wide, narrow)
    torch.testing.assert_close(queries(network, text_batch(vectors, HISTORIES[1:], 2, tiny_backbone)), narrow[1:])


def test_a_latent_token_changes_the_thought(build, vectors):
    batch = items_batch(vectors, HISTORIES, 4)
    thoughts = [build(latent_tokens=n).model.read(batch).thought.thought for n in (0, 1, 2)]
    for a, b in ((0, 1), (1, 2)):
        assert (thoughts[a] - thoughts[b]).abs().max() > 1e-3


@pytest.mark.parametrize("n_latent", [1, 2])
def test_latent_tokens_equal_full_passes_over_the_longer_sequence(build, vectors, n_latent):
    model, batch = build(latent_tokens=n_latent).model, items_batch(vectors, HISTORIES, 4)
    embeddings, mask = model.encoder.projection(batch.vectors), batch.mask
    states, _ = model.encoder.trunk(embeddings, mask)
    history = History(states, batch.vectors, batch.mask, batch.lag)
    thought = model.reasoner(states[:, -1], history)
    for _ in range(n_latent):
        direction = model.latent(thought.thought)
        token = direction / direction.norm(dim=-1, keepdim=True) * model.token_norm
        embeddings = torch.cat([embeddings, token[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
        states, _ = model.encoder.trunk(embeddings, mask)
        thought = model.reasoner(states[:, -1] + thought.thought, history)
    read = model.read(batch).thought
    torch.testing.assert_close(read.thought, thought.thought)
    torch.testing.assert_close(read.attention, thought.attention)
    torch.testing.assert_close(read.gates, thought.gates)


def test_a_latent_token_has_the_mean_norm_of_the_backbones_tokens(build, vectors, monkeypatch):
    model, seen = build(latent_tokens=1).model, []
    original = model.encoder.trunk.forward
    monkeypatch.setattr(model.encoder.trunk, "forward", lambda *a, **k: seen.append(a[0]) or original(*a, **k))
    model.read(items_batch(vectors, HISTORIES, 4))
    mean_norm = model.encoder.trunk.lm.get_input_embeddings().weight.norm(dim=-1).mean()
    torch.testing.assert_close(seen[1].norm(dim=-1), mean_norm.expand(2, 1))


def test_text_is_reasoned_about_item_by_item(build, vectors, tiny_backbone):
    model = build(encoding="text", latent_tokens=0).model
    batch = text_batch(vectors, HISTORIES, 4, tiny_backbone)
    reading = model.read(batch)
    states = model.encoder(batch, keep=False).states
    for row, slot in ((0, 0), (0, 3), (1, 2), (1, 3)):
        expected = states[row, batch.text.slot[row] == slot].mean(0)
        torch.testing.assert_close(reading.history.states[row, slot], expected)
    assert (reading.history.states[1, :2] == 0).all()
    assert (reading.thought.attention[1, :, :2] == 0).all()
    torch.testing.assert_close(reading.last, states[:, -1])


@pytest.mark.parametrize("latent_tokens", [0, 1])
def test_the_same_thought_reconsidered_gives_the_same_reading(build, vectors, latent_tokens):
    model = build(latent_tokens=latent_tokens, refine_steps=2).model
    reading = model.read(items_batch(vectors, HISTORIES, 4))
    again = model.reconsider(reading, reading.thought.thought)
    for name, before, after in zip(reading.thought._fields, reading.thought, again.thought, strict=True):
        torch.testing.assert_close(after, before, msg=name)
    other = model.reconsider(reading, reading.thought.thought + 3)
    assert (other.thought.gates - reading.thought.gates).abs().max() > 1e-3
    assert (other.thought.attention - reading.thought.attention).abs().max() > 1e-4


def test_item_vectors_learn_through_the_reasoner_but_not_through_the_backbone(build, vectors):
    model, head = build(latent_tokens=0)
    batch = items_batch(vectors, HISTORIES, 4)
    batch = batch._replace(vectors=batch.vectors.clone().requires_grad_())
    reading = model.read(batch)
    assert not reading.last.requires_grad
    assert not reading.history.states.requires_grad
    head.decoder(reading).sum().backward()
    assert batch.vectors.grad.abs().sum() > 0
