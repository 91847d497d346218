"""What alignment rewards a thought for, as pure functions.

Shapes: B users, G latent samples per user, N candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor


def logprob_reward(scores: Tensor, target: Tensor) -> Tensor:
    """Return the (B, G) log-probability of the true next item under softmax over (B, G, N) scores."""
    return scores.log_softmax(-1).gather(-1, _column(scores, target)).squeeze(-1)


def ndcg_reward(scores: Tensor, target: Tensor) -> Tensor:
    """Return the (B, G) NDCG of the true next item's rank, 1 / log2(rank + 2), ties counted against it."""
    own = scores.gather(-1, _column(scores, target))
    rank = (scores >= own).sum(-1) - 1
    return 1 / torch.log2(rank + 2.0)


def perplexity_reward(likelihood: Tensor, n_choices: Tensor) -> Tensor:
    """Return (B, G) minus the perplexity of the true title.

    Args:
        likelihood: (B, G) log-likelihoods.
        n_choices: (B,) tokens of the title that had an alternative.
    """
    return -torch.exp(-likelihood / n_choices.clamp(min=1)[:, None])


def _column(scores: Tensor, target: Tensor) -> Tensor:
    return target[:, None, None].expand(-1, scores.shape[1], 1)
