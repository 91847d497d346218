import numpy as np
import pytest
import torch

from flr_model.data.histories import HistoryRows
from flr_model.nn.backbone import Trunk, load_backbone
from flr_model.nn.build import build_model
from flr_model.nn.history_encoders import HistoryBatch, TextTokens
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
        network = build_model(config, trunk, tokenizer, n_lags=2, output_embeddings=lambda: None)
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
    padded = torch.from_numpy(HistoryRows.from_lists(histories).padded(length))
    mask = (padded >= 0).long()
    return HistoryBatch(vectors[padded.clamp(min=0)] * mask[..., None], mask)


def text_batch(vectors, histories, length, tiny_backbone):
    tokenizer = TitleTokenizer(tiny_backbone / "tokenizer.json", title_tokens=16)
    padded = HistoryRows.from_lists(histories).padded(length)
    text = TextHistories(tokenizer.encode(TITLES), tokenizer.separator, 96).encode(padded)
    tokens = TextTokens(*map(torch.from_numpy, text))
    return items_batch(vectors, histories, length)._replace(text=tokens)


def queries(network, batch):
    return network.head.decoder.queries(network.model.read(batch))


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
    history, _ = model.encoder.trunk(embeddings, mask)
    age = torch.arange(3, -1, -1).expand(2, -1)
    thought = model.reasoner(history[:, -1], history, batch.mask, age)
    for _ in range(n_latent):
        direction = model.latent(thought.thought)
        token = direction / direction.norm(dim=-1, keepdim=True) * model.token_norm
        embeddings = torch.cat([embeddings, token[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
        states, _ = model.encoder.trunk(embeddings, mask)
        thought = model.reasoner(states[:, -1] + thought.thought, history, batch.mask, age)
    read = model.read(batch).thought
    torch.testing.assert_close(read.thought, thought.thought)
    torch.testing.assert_close(read.attention, thought.attention)


def test_a_latent_token_has_the_mean_norm_of_the_backbones_tokens(build, vectors, monkeypatch):
    model, seen = build(latent_tokens=1).model, []
    original = model.encoder.trunk.forward
    monkeypatch.setattr(model.encoder.trunk, "forward", lambda *a, **k: seen.append(a[0]) or original(*a, **k))
    model.read(items_batch(vectors, HISTORIES, 4))
    mean_norm = model.encoder.trunk.lm.get_input_embeddings().weight.norm(dim=-1).mean()
    torch.testing.assert_close(seen[1].norm(dim=-1), mean_norm.expand(2, 1))


def test_attention_over_text_is_summed_per_item(build, vectors, tiny_backbone):
    model = build(encoding="text", latent_tokens=0, n_factors=2).model
    batch = text_batch(vectors, HISTORIES, 4, tiny_backbone)
    attention = model.read(batch).attention
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 2))
    assert (attention[1, :, :2] == 0).all()
    encoded = model.encoder(batch, keep=False)
    age = 3 - batch.text.slot.clamp(min=0)
    by_token = model.reasoner(encoded.states[:, -1], encoded.states, encoded.mask, age).attention
    for row, slot in ((0, 0), (0, 3), (1, 2), (1, 3)):
        expected = by_token[row][:, batch.text.slot[row] == slot].sum(-1)
        torch.testing.assert_close(attention[row, :, slot], expected)


def test_tokens_of_one_item_have_the_same_age(build, vectors, tiny_backbone):
    model = build(encoding="text", latent_tokens=0, n_factors=1, refine_steps=1).model
    for parameter in (model.reasoner.query.weight, model.reasoner.factor_query):
        torch.nn.init.zeros_(parameter)
    model.reasoner.slope.fill_(1.0)
    batch = text_batch(vectors, HISTORIES[:1], 4, tiny_backbone)
    tokens = np.bincount(batch.text.slot[0].numpy(), minlength=4)
    weight = tokens * np.exp([-3.0, -2, -1, 0])
    np.testing.assert_allclose(model.read(batch).attention[0, 0], weight / weight.sum(), rtol=1e-5)


def test_item_vectors_learn_through_the_decoder_but_not_through_the_backbone(build, vectors):
    model, head = build(latent_tokens=1)
    batch = items_batch(vectors, HISTORIES, 4)
    batch = batch._replace(vectors=batch.vectors.clone().requires_grad_())
    reading = model.read(batch)
    assert not reading.thought.thought.requires_grad
    head.decoder.queries(reading).sum().backward()
    assert batch.vectors.grad.abs().sum() > 0
