import math

import torch

from flr_model.nn.rewards import logprob_reward, ndcg_reward, perplexity_reward

# One user, two samples, three items; the target is item 1.
SCORES = torch.tensor([[[0.0, math.log(2), 0.0], [math.log(6), 0.0, 0.0]]])
TARGET = torch.tensor([1])


def test_logprob_reward_is_the_log_softmax_of_the_target():
    # exp of the scores: 1, 2, 1 and 6, 1, 1.
    torch.testing.assert_close(logprob_reward(SCORES, TARGET), torch.tensor([[math.log(2 / 4), math.log(1 / 8)]]))


def test_ndcg_reward_counts_ties_against_the_target():
    # First of three; then behind item 0 and tied with item 2, so third: 1 / log2(4).
    torch.testing.assert_close(ndcg_reward(SCORES, TARGET), torch.tensor([[1.0, 0.5]]))


def test_hidden_items_are_no_rivals():
    hidden = SCORES.clone()
    hidden[..., 0] = -torch.inf
    torch.testing.assert_close(ndcg_reward(hidden, TARGET), torch.tensor([[1.0, 1 / math.log2(3)]]))
    torch.testing.assert_close(logprob_reward(hidden, TARGET), torch.tensor([[math.log(2 / 3), math.log(1 / 2)]]))


def test_minus_perplexity_of_three_even_choices_is_minus_two():
    likelihood = torch.log(torch.tensor([[1 / 8, 1.0], [1 / 9, 1 / 3]]))
    expected = torch.tensor([[-2.0, -1.0], [-3.0, -(3**0.5)]])
    torch.testing.assert_close(perplexity_reward(likelihood, torch.tensor([3, 2])), expected)
