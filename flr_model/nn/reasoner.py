"""The FLR head: K factors attend to the history and refine one latent thought.

Shapes: B batch, S positions of the history, d width of the backbone, a width of attention, K factors, T steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flr_model.nn.parameter_groups import Groups

ATTENTION_WIDTH = 64


class Thought(NamedTuple):
    """What the reasoner ends with.

    thought: (B, d). factors: (B, K, d). gates: (B, K), rows sum to 1. attention: (B, K, S), rows sum to 1.
    """

    thought: Tensor
    factors: Tensor
    gates: Tensor
    attention: Tensor


class Reasoner(nn.Module):
    """Refine a thought with K factors over T steps (docs/method.md, "Reasoner").

    q_k = W_q z + u_k; A_k = softmax(q_k . W_key H / sqrt(a) - slope_k age); f_k = V_k (A_k H);
    g = softmax(gate([z; f_k])); z <- norm(z + sum_k g_k f_k)

    It starts as plain recency: queries and gates are zero, only the slopes weigh the history, each factor with its own.

    Args:
        width: d.
        n_factors: K.
        refine_steps: T.
        dropout: on the factors while training.
        residual: add the thought before; without it, K = 1 and T = 1 are the one attention layer of LatentR3.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(
        self, width: int, n_factors: int, refine_steps: int, *, dropout: float = 0.0, residual: bool = True
    ) -> None:
        super().__init__()
        if min(width, n_factors, refine_steps) < 1:
            raise ValueError("width, n_factors and refine_steps must be positive")
        self.refine_steps = refine_steps
        self.residual = residual
        self.query = nn.Linear(width, ATTENTION_WIDTH, bias=False)
        self.key = nn.Linear(width, ATTENTION_WIDTH, bias=False)
        self.factor_query = nn.Parameter(torch.zeros(n_factors, ATTENTION_WIDTH))  # u_k
        self.slope = nn.Parameter(torch.linspace(0.7, 0.1, n_factors + 2)[1:-1].clone())
        self.value = nn.Parameter(torch.empty(n_factors, width, width))  # V_k
        self.gate = nn.Linear(2 * width, 1, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(n_factors))
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        maps = [*self.query.parameters(), *self.key.parameters(), *self.gate.parameters()]
        return {"reasoner": [*maps, self.factor_query, self.value], "scalars": [self.slope, self.gate_bias]}

    def reset_parameters(self) -> None:
        """Start neutral: no preference among items beyond recency, equal gates, different values."""
        nn.init.zeros_(self.query.weight)
        nn.init.normal_(self.factor_query, std=0.02)
        nn.init.zeros_(self.gate.weight)
        for value in self.value:
            nn.init.orthogonal_(value)

    def forward(self, start: Tensor, history: Tensor, mask: Tensor, age: Tensor) -> Thought:
        """Think.

        Args:
            start: (B, d) z_0.
            history: (B, S, d) states of the history.
            mask: (B, S) 1 where a position is real.
            age: (B, S) items between a position and the newest one.
        """
        history = self.norm(history)
        keys = self.key(history)  # (B, S, a)
        recency = -self.slope[:, None] * age[:, None, :]  # (B, K, S)
        thought = self.norm(start)
        for _ in range(self.refine_steps):
            query = self.query(thought)[:, None] + self.factor_query  # (B, K, a)
            logits = query @ keys.transpose(1, 2) / math.sqrt(ATTENTION_WIDTH) + recency
            attention = logits.masked_fill(mask[:, None] == 0, torch.finfo(logits.dtype).min).softmax(-1)
            factors = per_factor(attention @ history, self.value)
            factors = self.dropout(factors)
            gates = self.weigh(thought, factors)
            said = (gates[..., None] * factors).sum(1)
            thought = self.norm(thought + said if self.residual else said)
        return Thought(thought, factors, self.weigh(thought, factors), attention)

    def weigh(self, thought: Tensor, factors: Tensor) -> Tensor:
        """Return the (..., K) gates of factors (..., K, d) under a thought (..., d)."""
        both = torch.cat([thought.unsqueeze(-2).expand_as(factors), factors], dim=-1)
        weights: Tensor = (self.gate(both).squeeze(-1) + self.gate_bias).softmax(-1)
        return weights


def per_factor(vectors: Tensor, maps: Tensor) -> Tensor:
    """Map each factor's vectors (B, K, n) with its own matrix (K, n, m) to (B, K, m).

    One product of two matrices each, because only such products have fast int8 forms in ONNX Runtime.
    """
    return torch.stack([vectors[:, k] @ maps[k] for k in range(len(maps))], dim=1)
