import torch

from flr_model.nn.backbone import Trunk, load_backbone
from flr_model.nn.history_encoders import ItemsEncoder
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
