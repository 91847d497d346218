import torch

from flr_model.nn.backbone import Trunk, load_backbone
from flr_model.nn.history_encoders import EncodedHistory, ItemsEncoder, TextEncoder
from tests.builders import WIDTH


def test_the_projection_starts_as_ridge_regression_of_the_titles_embeddings(tiny_backbone):
    encoder = ItemsEncoder(Trunk(load_backbone(str(tiny_backbone)).lm), 8)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(50, 8, generator=generator), dim=-1)
    embeddings = vectors @ torch.randn(8, WIDTH, generator=generator) + 3
    encoder.fit(vectors, embeddings)
    centred = embeddings - embeddings.mean(0)
    # Ridge regression is ordinary least squares over the rows with sqrt(0.1) times the identity below them.
    rows = torch.cat([vectors, 0.1**0.5 * torch.eye(8)])
    expected = torch.linalg.lstsq(rows, torch.cat([centred, torch.zeros(8, WIDTH)])).solution
    torch.testing.assert_close(encoder.projection.weight.T, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(encoder.projection.bias, embeddings.mean(0))


def encoded(states, mask, slot):
    return EncodedHistory(torch.tensor(states), torch.tensor(mask), torch.tensor(slot), None)


def test_an_items_state_is_that_of_its_position(tiny_backbone):
    encoder = ItemsEncoder(Trunk(load_backbone(str(tiny_backbone)).lm), 8)
    read = encoded([[[1.0], [2.0]]], [[0, 1]], [[0, 1]])
    assert torch.equal(encoder.states_per_item(read, torch.tensor([[0, 1]])), read.states)


def test_an_items_state_is_the_mean_of_its_tokens_that_are_read(tiny_backbone):
    encoder = TextEncoder(Trunk(load_backbone(str(tiny_backbone)).lm), 6)
    # Padding counts as a token of the first item; the first item's own tokens were cut off.
    read = encoded([[[9.0], [1.0], [3.0], [4.0]]], [[0, 1, 1, 1]], [[0, 1, 1, 2]])
    found = encoder.states_per_item(read, torch.ones(1, 3, dtype=torch.long))
    assert found.tolist() == [[[0.0], [2.0], [4.0]]]
