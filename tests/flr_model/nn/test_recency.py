import torch

from flr_model.nn.recency import DECAY, Recency


def random_recency(n_factors, *, unordered=False):
    torch.manual_seed(0)
    recency = Recency(n_factors, 4, 3, unordered=unordered)
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


def test_unordered_items_of_the_newest_ones_moment_weigh_what_it_weighs():
    lags = torch.tensor([[2, 0, 0, 0], [2, 1, 1, 0]])
    ordered, unordered = random_recency(2)(lags), random_recency(2, unordered=True)(lags)
    assert (unordered[0, :, 1:] == unordered[0, :, -1:]).all()
    assert (ordered[0, :, 1] != ordered[0, :, -1]).all()
    torch.testing.assert_close(unordered[1], ordered[1])  # only the newest item is of its moment
