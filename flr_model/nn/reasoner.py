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

GATE_SCALE = 8.0
"""Of what the items say to the gates: vectors are of length one, and the map starts at zero."""

STARTS, ROUNDS = 8, 15
"""Of the search for centres of item space."""

LEAST_MASS = 1e-3
"""Added to a factor's share of the history before the logarithm."""


class History(NamedTuple):
    """A batch of histories as the reasoner sees them, padded on the left.

    states: (B, L, d) the backbone's state of each item. vectors: (B, L, D) the items' vectors, zero at padding.
    mask: (B, L) 1 where an item is. lag: (B, L) bucket of each item's time before the newest.
    """

    states: Tensor
    vectors: Tensor
    mask: Tensor
    lag: Tensor


class Thought(NamedTuple):
    """What the reasoner ends with.

    thought: (B, d). factors: (B, K, d). gate_logits: (B, K). attention: (B, K, L), rows sum to 1.
    log_weights: (B, K, L) the same before it is normalised over the history, for counting.
    read: (B, K, D) what the factors had read of the items before they looked last.
    """

    thought: Tensor
    factors: Tensor
    gate_logits: Tensor
    attention: Tensor
    log_weights: Tensor
    read: Tensor

    @property
    def gates(self) -> Tensor:
        """(B, K), rows sum to 1."""
        return self.gate_logits.softmax(-1)


class Reasoner(nn.Module):
    """Refine a thought with K factors over T steps (docs/method.md, "Reasoner").

    Whose an item is: s_kl = softmax_k(sharp_k q_k . unit(e_l) + c_k), as slot attention lets slots compete.
    What a factor looks at: A_kl = softmax_l(gamma_k log s_kl + recency_kl); f_k = V_k (A_k H).
    g = softmax(b_k + log mass_k + (taste(mean_k A_k e) + gate(z))_k + w . f_k); z <- norm(z + sum_k g_k f_k);
    q_k <- unit(A_k e + (centre_k + W_q z / sqrt(d)) / 2).

    The first factor starts as a generalist, gamma_1 = 0, which looks at the whole history by recency alone, the others
    as specialists, gamma_k = 1. Evidence of several items then still adds up in one factor. A single factor has nobody
    to compete with: its attention has the match itself in place of log s.

    Args:
        width: d.
        embedding_size: D.
        n_factors: K.
        refine_steps: T.
        recency: of K factors.
        dropout: on the factors while training.

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
    ) -> None:
        super().__init__()
        if min(width, embedding_size, n_factors, refine_steps) < 1:
            raise ValueError("width, embedding_size, n_factors and refine_steps must be positive")
        self.refine_steps = refine_steps
        self.recency = recency
        self.centre = nn.Parameter(F.normalize(torch.randn(n_factors, embedding_size), dim=-1))
        self.query = nn.Linear(width, embedding_size, bias=False)  # W_q
        self.log_sharpness = nn.Parameter(torch.full((n_factors,), math.log(SHARPNESS)))
        self.slot_bias = nn.Parameter(torch.zeros(n_factors))
        self.competition = nn.Parameter((torch.arange(n_factors) > 0).float())  # gamma_k
        self.value = nn.Parameter(torch.empty(n_factors, width, width))  # V_k
        self.thought_gate = nn.Linear(width, n_factors, bias=False)
        self.factor_gate = nn.Linear(width, 1, bias=False)
        self.taste_gate = nn.Linear(embedding_size, n_factors, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(n_factors))
        self.mass_weight = nn.Parameter(torch.ones(()))
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with what the items say: the thought neither moves queries nor gates; values differ."""
        nn.init.zeros_(self.query.weight)
        for gate in (self.thought_gate, self.factor_gate, self.taste_gate):
            nn.init.zeros_(gate.weight)
        for value in self.value:
            nn.init.orthogonal_(value)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        scalars = [self.log_sharpness, self.slot_bias, self.competition, self.gate_bias, self.mass_weight]
        in_item_space = [self.centre, *self.query.parameters(), *self.taste_gate.parameters()]
        of_states = [self.value, *self.thought_gate.parameters(), *self.factor_gate.parameters()]
        own: Groups = {"scalars": scalars, "item_maps": in_item_space, "reasoner": of_states}
        return join_groups(own, self.recency.parameter_groups())

    def gate_parameters(self) -> list[nn.Parameter]:
        """Return what decides on the gates alone."""
        gates = nn.ModuleList([self.thought_gate, self.factor_gate, self.taste_gate])
        return [self.gate_bias, self.mass_weight, *gates.parameters()]

    @torch.no_grad()
    def fit(self, vectors: Tensor, *, seed: int) -> None:
        """Start the factors at different places: centres of the catalogue's item vectors (M, D)."""
        self.centre.copy_(centres(vectors, len(self.centre), seed=seed))

    def forward(self, start: Tensor, history: History) -> Thought:
        """Think: look at the history and refine the thought T times, and look a last time with the last thought.

        Args:
            start: (B, d) z_0.
            history: of B users.
        """
        thought = self.norm(start)
        read = torch.zeros_like(self.centre).expand(start.shape[0], -1, -1)  # a tracer takes len() for a constant
        for _ in range(self.refine_steps):
            seen = self.conclude(thought, read, history)
            update = (seen.gates[..., None] * seen.factors).sum(1)
            thought = self.norm(thought + update)
            read = seen.attention @ history.vectors
        return self.conclude(thought, read, history)

    def conclude(self, thought: Tensor, read: Tensor, history: History) -> Thought:
        """Look at the history with a thought.

        Args:
            thought: (B, d).
            read: (B, K, D) what the factors have read of the items so far; zeros before they looked.
            history: of B users.
        """
        hidden = (history.mask == 0)[:, None]
        anchor = F.normalize(self.centre, dim=-1) + (self.query(thought) / math.sqrt(thought.shape[-1]))[:, None]
        query = F.normalize(read + ANCHOR * anchor, dim=-1)  # (B, K, D)
        match = self.log_sharpness.exp()[:, None] * (query @ F.normalize(history.vectors, dim=-1).transpose(1, 2))
        match = match + self.slot_bias[:, None]
        log_share = self.competition[:, None] * (match.log_softmax(1) if len(self.centre) > 1 else match)  # (B, K, L)
        recency = self.recency(history.lag)
        log_weights = (log_share + recency).masked_fill(hidden, torch.finfo(match.dtype).min)
        attention = log_weights.softmax(-1)
        factors = self.dropout(per_factor(attention @ self.norm(history.states), self.value))
        mass = (log_share + recency.mean(1, keepdim=True)).exp().masked_fill(hidden, 0).sum(-1)  # (B, K)
        gate_logits = self.weigh(thought, factors, attention @ history.vectors, mass)
        return Thought(thought, factors, gate_logits, attention, log_weights, read)

    def weigh(self, thought: Tensor, factors: Tensor, read: Tensor, mass: Tensor) -> Tensor:
        """Return the (B, K) logits of the gates.

        Args:
            thought: (B, d).
            factors: (B, K, d).
            read: (B, K, D) what the factors read of the items.
            mass: (B, K) how much of the history each factor holds.
        """
        by_state = self.thought_gate(thought) + self.factor_gate(factors).squeeze(-1)
        share = mass / mass.sum(-1, keepdim=True).clamp(min=1e-6)
        by_share = self.mass_weight * torch.log(share + LEAST_MASS)
        by_taste = GATE_SCALE * self.taste_gate(self.dropout(read.mean(1).detach()))
        logits: Tensor = self.gate_bias + by_share + by_taste + by_state
        return logits


def per_factor(vectors: Tensor, maps: Tensor) -> Tensor:
    """Map each factor's vectors (B, K, n) with its own matrix (K, n, m) to (B, K, m).

    One product of two matrices each, because only such products have fast int8 forms in ONNX Runtime.
    """
    return torch.stack([vectors[:, k] @ maps[k] for k in range(len(maps))], dim=1)


def centres(vectors: Tensor, n: int, *, seed: int) -> Tensor:
    """Return (n, D) unit directions that vectors (M, D) gather around: spherical k-means, the best of several starts.

    A start takes directions one by one, far ones more likely (k-means++). Where there are fewer vectors than centres,
    directions are drawn at random for the rest.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = F.normalize(vectors.float(), dim=-1)
    best, best_fit = torch.zeros(0), -math.inf
    for _ in range(STARTS):
        found = _far_apart(unit, n, generator)
        for _ in range(ROUNDS):
            nearest = (unit @ found.T).argmax(1)
            sums = torch.zeros_like(found).index_add(0, nearest, unit)
            found = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), found)
        fit = (unit @ found.T).amax(1).sum().item()
        if fit > best_fit:
            best, best_fit = found, fit
    return best


def _far_apart(unit: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw (n, D) of the unit vectors (M, D), each with a probability by its distance to those drawn before."""
    chosen = [unit[torch.randint(len(unit), (1,), generator=generator)[0]]]
    distance = torch.full((len(unit),), math.inf)
    while len(chosen) < n:
        distance = torch.minimum(distance, (1 - unit @ chosen[-1]).clamp(min=0))
        if distance.sum() > 1e-6:
            chosen.append(unit[torch.multinomial(distance, 1, generator=generator)[0]])
        else:
            chosen.append(F.normalize(torch.randn(unit.shape[1], generator=generator), dim=-1))
    return torch.stack(chosen)
