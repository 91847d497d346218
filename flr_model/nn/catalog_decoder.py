"""The `catalog` decoder: projects each factor, and the trunk's state, into item space (docs/method.md, "Prediction").

Shapes: B batch, K factors, L items of a history, d width of the backbone, D width of item vectors, r rank.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flr_model.nn.model import Reading
from flr_model.nn.parameter_groups import Groups
from flr_model.nn.reasoner import per_factor

RANK = 32
"""Of what each factor adds to the shared map of item space."""

SCALE = 12.0
"""Of the dot products before training, tau."""


class NextItemHead(NamedTuple):
    """How the next item follows from what the trunk read, without the factors.

    states: (d, D) map of the trunk's state, over sqrt(d). last_item: () weight of the last item's own vector.
    """

    states: Tensor
    last_item: Tensor


class CatalogDecoder(nn.Module):
    """Make K queries in item space of a thought (docs/method.md, "Prediction").

    p_k = sum_l A_kl e_l (I + U + V_k W_k) + P_k standard(f_k + r), query_k = tau_k p_k + W h / sqrt(d) + b e_L

    U is shared by the factors, V_k W_k has a low rank. U, W_k and P_k start at zero: the untrained factors rank by
    similarity of titles to what they look at. W and b are zero unless the trunk learned to predict the next item
    (`flr_model.training.sequences`).

    Args:
        width: d.
        embedding_size: D.
        n_factors: K.
        dropout: on what U_k and P_k read, while training.
    """

    next_item: Tensor
    last_item_weight: Tensor

    def __init__(self, width: int, embedding_size: int, n_factors: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.item_map = nn.Parameter(torch.zeros(embedding_size, embedding_size))  # U
        rank = min(RANK, embedding_size)
        down = torch.randn(n_factors, embedding_size, rank) / math.sqrt(embedding_size)
        self.factor_down = nn.Parameter(down)  # V_k
        self.factor_up = nn.Parameter(torch.zeros(n_factors, rank, embedding_size))  # W_k
        self.thought_map = nn.Parameter(torch.zeros(n_factors, width, embedding_size))  # P_k
        self.register_buffer("next_item", torch.zeros(width, embedding_size))  # W
        self.register_buffer("last_item_weight", torch.zeros(()))  # b
        # What all users' thoughts have in common would become a learned popularity, which time makes wrong.
        self.centre = nn.BatchNorm1d(n_factors * width, affine=False)
        self.log_scale = nn.Parameter(torch.full((n_factors,), math.log(SCALE)))  # log tau
        self.dropout = nn.Dropout(dropout)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        in_item_space = [self.item_map, self.factor_down, self.factor_up]
        return {"item_maps": in_item_space, "reasoner": [self.thought_map], "scalars": [self.log_scale]}

    def forward(self, reading: Reading) -> Tensor:
        """Return the (B, K, D) queries of a reading of B users."""
        thought, vectors, last = reading.thought, reading.history.vectors, reading.last
        read = thought.attention @ vectors  # (B, K, D)
        dropped = self.dropout(read)
        own = per_factor(per_factor(dropped, self.factor_down), self.factor_up)
        read = read + dropped @ self.item_map + own
        latent = self._standard(thought.factors + thought.thought[:, None])
        latent = latent / math.sqrt(latent.shape[-1])  # (B, K, d), about as long as e_i
        projected = per_factor(self.dropout(latent), self.thought_map)
        # (B, D) the trunk's own prediction; it is of no factor, and every factor ranks with it.
        next_item = last @ self.next_item / math.sqrt(last.shape[-1]) + self.last_item_weight * vectors[:, -1]
        queries: Tensor = self.log_scale.exp()[:, None] * (read + projected) + next_item[:, None]
        return queries

    @torch.no_grad()
    def set_next_item_head(self, learned: NextItemHead, weight: float) -> None:
        """Add the trunk's own prediction to the queries, with a weight."""
        self.next_item.copy_(weight * learned.states)
        self.last_item_weight.copy_(weight * learned.last_item)

    def _standard(self, latent: Tensor) -> Tensor:
        """Centre and scale every place of (B, K, d) by its spread over users."""
        if self.centre.training and len(latent) > 1:  # one user has no spread
            return self.centre(latent.flatten(1)).view_as(latent)  # type: ignore[no-any-return]
        # The exporter knows no BatchNorm over a flattened axis; these are the same numbers.
        mean, variance = self.centre.running_mean, self.centre.running_var
        assert mean is not None
        assert variance is not None
        return (latent - mean.view(latent.shape[1:])) * (variance + self.centre.eps).rsqrt().view(latent.shape[1:])
