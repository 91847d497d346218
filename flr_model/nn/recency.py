"""How much a history's item weighs by its place and its time, for each factor.

Shapes: B batch, K factors, L history positions, G buckets of the time before the newest item.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.nn.parameter_groups import Groups

DECAY = 0.35
"""Of the logarithm of a weight per item, before training; the same for all factors, which part by what they look at."""


class Recency(nn.Module):
    """Log weights of history items by age and by lag.

    Args:
        n_factors: K.
        max_history: L, ages that have a weight.
        n_lags: G.
        unordered: items of one moment have no order: all of the newest one's have its age.
    """

    def __init__(self, n_factors: int, max_history: int, n_lags: int, *, unordered: bool = False) -> None:
        super().__init__()
        self.unordered = unordered
        self.age = nn.Parameter(-DECAY * torch.arange(max_history).float().repeat(n_factors, 1))  # (K, L), newest first
        self.lag = nn.Parameter(torch.zeros(n_factors, n_lags - 1))  # beside that of the longest

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return {"scalars": [self.age, self.lag]}

    def forward(self, lag: Tensor) -> Tensor:
        """Return the (B, K, L) log weights of left-padded histories.

        Args:
            lag: (B, L) bucket of each item's time before its history's newest item; L is at most ``max_history``.
        """
        newest_last = self.age[:, : lag.shape[1]].flip(1)  # (K, L)
        if self.unordered:
            newest_last = torch.where(lag[:, None] == 0, self.age[:, :1], newest_last)  # (B, K, L)
        by_lag = F.pad(self.lag, (0, 1)).T[lag]  # (B, L, K)
        return newest_last + by_lag.transpose(1, 2)
