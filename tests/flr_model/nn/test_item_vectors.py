import numpy as np
import pytest
import torch

from flr_model.nn.item_vectors import RESIDUAL_PRIOR, ItemVectors

UNIT = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


@pytest.fixture
def vectors():
    made = ItemVectors(UNIT, np.array([0, int(RESIDUAL_PRIOR)]))
    with torch.no_grad():
        made.scale.copy_(torch.tensor([2.0, 3.0]))
        made.residual.fill_(1.0)
    return made


def test_a_residual_counts_as_far_as_its_item_has_interactions(vectors):
    torch.testing.assert_close(vectors(), torch.tensor([[2.0, 0.0], [0.5, 3.5]]))
    np.testing.assert_allclose(vectors.frozen(), [[2.0, 0.0], [0.5, 3.5]])


def test_padding_is_zero(vectors):
    found = vectors.of_histories(torch.tensor([[-1, 0]]))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0], [2.0, 0.0]]]))
