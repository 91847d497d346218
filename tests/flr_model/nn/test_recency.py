import numpy as np
import torch

from flr_model.data.histories import HistoryRows
from flr_model.nn.recency import DECAY, Recency
from flr_model.ranking.lags import PaddedHistories, RecencyWeights

BOUNDS = np.asarray([0, 10])


def random_recency(n_factors):
    torch.manual_seed(0)
    recency = Recency(n_factors, 4, 3)
    for parameter in recency.parameters():
        torch.nn.init.normal_(parameter)
    return recency.requires_grad_(False)


def test_a_weight_is_that_of_the_place_and_that_of_the_time():
    recency = random_recency(2)
    recency.age.copy_(torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13]]))  # newest first
    recency.lag.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4]]))  # the longest lag is the measure: 0
    found = recency(torch.tensor([[2, 1, 0]]))
    torch.testing.assert_close(found, torch.tensor([[[2.0, 1.2, 0.1], [12.0, 11.4, 10.3]]]))


def test_every_factor_starts_with_the_same_decay():
    recency = Recency(3, 4, 2)
    found = recency(torch.tensor([[1, 0, 1, 0]])).detach()
    torch.testing.assert_close(found, (-DECAY * torch.tensor([3.0, 2, 1, 0])).expand(1, 3, -1))


def test_baked_it_weighs_histories_as_it_does_here(tmp_path):
    recency = random_recency(1)
    rows = HistoryRows.from_lists([[0, 1, 2], [3]], times=[[5, 20, 22], [7]])
    histories = PaddedHistories.of(rows, 4, BOUNDS)
    recency.bake().write(tmp_path / "recency.npz")
    baked = RecencyWeights.read(tmp_path / "recency.npz").of(histories)
    expected = recency(torch.from_numpy(histories.lags)).exp().numpy()
    real = histories.items >= 0
    np.testing.assert_allclose(baked[:, 0][real], expected[:, 0][real], rtol=1e-5)
