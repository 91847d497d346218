import math

import pytest
import torch

from flr_model.training.advantages import (
    batch_advantage,
    clipped_objective,
    gaussian_kl,
    group_advantage,
    latent_log_ratio,
)


def test_batch_advantage_is_above_the_mean_of_the_unperturbed_rewards():
    # Unperturbed rewards 1 and 3 have a mean of 2; -1, 2, 1, -2 have a root mean square of sqrt(10 / 4).
    advantage = batch_advantage(torch.tensor([[1.0, 4.0], [3.0, 0.0]]), torch.tensor([0, 0]))
    torch.testing.assert_close(advantage, torch.tensor([[-1.0, 2], [1, -2]]) / math.sqrt(2.5), atol=1e-5, rtol=1e-5)


def test_kinds_of_targets_have_baselines_of_their_own():
    rewards = torch.tensor([[1.0, 4.0], [9.0, 9.0], [3.0, 0.0], [7.0, 9.0]])
    advantage = batch_advantage(rewards, torch.tensor([0, 2, 0, 2]))
    expected = torch.tensor([[-1.0, 2], [1, 1], [1, -2], [-1, 1]]) / torch.tensor([[2.5], [1], [2.5], [1]]).sqrt()
    torch.testing.assert_close(advantage, expected, atol=1e-5, rtol=1e-5)


def test_group_advantage_is_above_the_own_groups_mean():
    # The first group has a mean of 2 and a deviation of 1, the second does not vary.
    advantage = group_advantage(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
    torch.testing.assert_close(advantage, torch.tensor([[-1.0, 1], [0, 0]]), atol=1e-5, rtol=1e-5)


def test_equal_rewards_teach_nothing():
    assert batch_advantage(torch.full((2, 3), 0.7), torch.tensor([0, 0])).abs().max() == 0
    assert group_advantage(torch.full((2, 3), 0.7)).abs().max() == 0


def test_log_ratio_is_that_of_two_gaussians_per_dimension():
    sample, old, new = torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 2), torch.tensor([[[1.0, 1.0]]])
    # Squared distances: 1 and 0 to the old mean, 0 and 1 to the new one: no change. Then 0 and 0: better by 1.
    assert latent_log_ratio(sample, new, old, 0.5).item() == 0
    closer = torch.tensor([[[1.0, 0.0]]])
    assert latent_log_ratio(sample, closer, old, 0.5).item() == pytest.approx((1 / 2) / (2 * 0.25))


def test_log_ratio_agrees_with_torch_distributions():
    sample, old, new = torch.randn(3, 4, 5), torch.randn(3, 1, 5), torch.randn(3, 1, 5)
    normal = torch.distributions.Normal
    expected = (normal(new, 0.3).log_prob(sample) - normal(old, 0.3).log_prob(sample)).mean(-1)
    torch.testing.assert_close(latent_log_ratio(sample, new, old, 0.3), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, 2.0),
        (1.5, 1.0, 1.28),  # clipped above where it pays
        (1.5, -1.0, -1.5),  # but not where it hurts
        (0.5, -1.0, -0.8),  # clipped below where it pays
        (0.5, 1.0, 0.5),
    ],
)
def test_the_surrogate_is_clipped_where_the_change_pays(ratio, advantage, expected):
    value = clipped_objective(torch.tensor([[math.log(ratio)]]), torch.tensor([[advantage]]), 0.2, 0.28)
    assert value.item() == pytest.approx(expected)


def test_no_gradient_flows_from_a_clipped_sample():
    log_ratio = torch.tensor([[math.log(1.5), 0.0]], requires_grad=True)
    clipped_objective(log_ratio, torch.tensor([[1.0, 1.0]]), 0.2, 0.28).backward()
    torch.testing.assert_close(log_ratio.grad, torch.tensor([[0.0, 0.5]]))


def test_kl_of_two_gaussians_is_their_distance_over_the_variance():
    # Squared distances 4 and 0, over 2 * 0.25, mean of two dimensions.
    assert gaussian_kl(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2), 0.5).item() == pytest.approx(4.0)
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(torch.tensor([2.0, 0.0]), 0.5), torch.distributions.Normal(torch.zeros(2), 0.5)
    )
    assert reference.mean().item() == pytest.approx(4.0)
