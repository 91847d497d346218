"""The FLR head: K factors compete for the items of a history and refine one latent thought.

Shapes: B batch, L items of the history, d width of the backbone, D width of item vectors, K factors, T steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.recency import Recency

SHARPNESS = 8.0
"""Of the competition before training: what a cosine between a query and an item is multiplied with."""

ANCHOR = 0.5
"""Weight of a factor's first query in the later ones, beside the items that it looked at."""

LEAST_MASS = 1e-3
"""Added to a factor's share of the history before the logarithm."""


class Thought(NamedTuple):
    """What the reasoner ends with.

    thought: (B, d). factors: (B, K, d). gate_logits: (B, K). attention: (B, K, L), rows sum to 1.
    log_weights: (B, K, L) the same before it is normalised over the history, for counting.
    """

    thought: Tensor
    factors: Tensor
    gate_logits: Tensor
    attention: Tensor
    log_weights: Tensor

    @property
    def gates(self) -> Tensor:
        """(B, K), rows sum to 1."""
        return self.gate_logits.softmax(-1)


class Reasoner(nn.Module):
    """Refine a thought with K factors over T steps (docs/method.md, "Reasoner").

    Whose an item is: s_kl = softmax_k(sharp_k q_k . unit(e_l) + c_k), as slot attention lets slots compete.
    What a factor looks at: A_kl = softmax_l(log s_kl + recency_kl); f_k = V_k (A_k H).
    g = softmax(c_k + log mass_k + gate([z; f_k])); z <- norm(z + sum_k g_k f_k);
    q_k <- unit(A_k e + (centre_k + W_q z) / 2).

    A single factor has nobody to compete with and looks at the history by recency alone.

    Args:
        width: d.
        embedding_size: D.
        n_factors: K.
        refine_steps: T.
        recency: of K factors.
        dropout: on the factors while training.
        residual: add the thought before; without it, K = 1 and T = 1 are the one attention layer of LatentR3.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(
        self,
        width: int,
        embedding_size: int,
        n_factors: int,
        refine_steps: int,
        recency: Recency,
        *,
        dropout: float = 0.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if min(width, embedding_size, n_factors, refine_steps) < 1:
            raise ValueError("width, embedding_size, n_factors and refine_steps must be positive")
        self.refine_steps = refine_steps
        self.residual = residual
        self.recency = recency
        self.centre = nn.Parameter(F.normalize(torch.randn(n_factors, embedding_size), dim=-1))
        self.query = nn.Linear(width, embedding_size, bias=False)  # W_q
        self.log_sharpness = nn.Parameter(torch.full((n_factors,), math.log(SHARPNESS)))
        self.slot_bias = nn.Parameter(torch.zeros(n_factors))
        self.value = nn.Parameter(torch.empty(n_factors, width, width))  # V_k
        self.gate = nn.Linear(2 * width, 1, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(n_factors))
        self.mass_weight = nn.Parameter(torch.ones(()))
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with what the items say: the thought neither moves queries nor gates; values differ."""
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.gate.weight)
        for value in self.value:
            nn.init.orthogonal_(value)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        scalars = [self.log_sharpness, self.slot_bias, self.gate_bias, self.mass_weight]
        matrices = [self.centre, self.query.weight, self.value, self.gate.weight]
        own: Groups = {"scalars": scalars, "reasoner": matrices}
        return join_groups(own, self.recency.parameter_groups())

    @torch.no_grad()
    def fit(self, vectors: Tensor, *, seed: int) -> None:
        """Start the factors at different places: centres of the catalogue's item vectors (M, D)."""
        self.centre.copy_(centres(vectors, len(self.centre), seed=seed))

    def forward(self, start: Tensor, states: Tensor, vectors: Tensor, mask: Tensor, lag: Tensor) -> Thought:
        """Think.

        Args:
            start: (B, d) z_0.
            states: (B, L, d) H, the backbone's state of each item.
            vectors: (B, L, D) e, the items' vectors.
            mask: (B, L) 1 where an item is.
            lag: (B, L) bucket of each item's time before the newest.
        """
        states, unit, recency = self.norm(states), F.normalize(vectors, dim=-1), self.recency(lag)
        hidden = (mask == 0)[:, None]
        thought = self.norm(start)
        anchor = F.normalize(self.centre, dim=-1) + self.query(thought)[:, None]  # (B, K, D)
        query = F.normalize(anchor, dim=-1)
        for step in range(self.refine_steps):
            match = self.log_sharpness.exp()[:, None] * (query @ unit.transpose(1, 2)) + self.slot_bias[:, None]
            log_share = match.log_softmax(1)  # (B, K, L) whose item it is
            log_weights = (log_share + recency).masked_fill(hidden, torch.finfo(match.dtype).min)
            attention = log_weights.softmax(-1)
            factors = self.dropout(per_factor(attention @ states, self.value))
            mass = (log_share + recency.mean(1, keepdim=True)).exp().masked_fill(hidden, 0).sum(-1)  # (B, K)
            gate_logits = self.weigh(thought, factors, mass)
            update = (gate_logits.softmax(-1)[..., None] * factors).sum(1)
            thought = self.norm(thought + update if self.residual else update)
            if step + 1 < self.refine_steps:
                anchor = F.normalize(self.centre, dim=-1) + self.query(thought)[:, None]
                query = F.normalize(attention @ vectors + ANCHOR * anchor, dim=-1)
        return Thought(thought, factors, self.weigh(thought, factors, mass), attention, log_weights)

    def weigh(self, thought: Tensor, factors: Tensor, mass: Tensor) -> Tensor:
        """Return the (..., K) logits of the gates.

        Args:
            thought: (..., d). factors: (..., K, d).
            mass: (..., K) what each factor holds of the history.
        """
        both = torch.cat([thought.unsqueeze(-2).expand_as(factors), factors], dim=-1)
        share = mass / mass.sum(-1, keepdim=True).clamp(min=1e-6)
        logits: Tensor = self.gate_bias + self.mass_weight * torch.log(share + LEAST_MASS) + self.gate(both).squeeze(-1)
        return logits


def per_factor(vectors: Tensor, maps: Tensor) -> Tensor:
    """Map each factor's vectors (B, K, n) with its own matrix (K, n, m) to (B, K, m).

    One product of two matrices each, because only such products have fast int8 forms in ONNX Runtime.
    """
    return torch.stack([vectors[:, k] @ maps[k] for k in range(len(maps))], dim=1)


def centres(vectors: Tensor, n: int, *, seed: int, rounds: int = 15) -> Tensor:
    """Return (n, D) unit directions that vectors (M, D) gather around: spherical k-means.

    Where there are fewer vectors than centres, directions are drawn at random for the rest.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(vectors), generator=generator)[:n]
    random = torch.randn(n - len(chosen), vectors.shape[1], generator=generator).to(vectors)
    found = F.normalize(torch.cat([vectors[chosen], random]), dim=-1)
    for _ in range(rounds):
        nearest = (vectors @ found.T).argmax(1)
        for k in range(n):
            if (nearest == k).any():
                found[k] = F.normalize(vectors[nearest == k].mean(0), dim=-1)
    return found
