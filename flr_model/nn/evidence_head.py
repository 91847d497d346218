"""The learned weights of the pair counts, and their score while training.

Shapes: B rows, M items, P pairs, V events, E looked-up pairs, C channels, G buckets of lags, L history positions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.data.histories import PAD, HistoryRows
from flr_model.nn.parameter_groups import Groups
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.lags import BUCKETS, ages, history_lags
from flr_model.ranking.pair_events import PairEvents

DENSE_SHARE = 0.05
DENSE_ITEMS = 3_000
"""Where more than this share of the pairs of at most so many items occur, counts are multiplied as a dense matrix.

That costs the square of the items; gathering costs the pairs that a batch meets. Steps of 128 rows on one core: 54
against 173 ms (1,682 items, 30 % of the pairs), 108 against 86 (3,000 items, 5 %), 648 against 268 (6,000 items, 6 %).
"""


class EvidenceBatch(NamedTuple):
    """What the evidence needs of one batch of rows; tensors of indices.

    recent: (4, S) row, item, age and lag of the histories' newest items. own: (5, O) row, age, lag, pair
    and channel of the own users' events, to be taken out. target: (B,) the rows' targets, whose degree the own
    interaction is taken out of; PAD takes nothing out. seen: (2, H) row and item of all that the users had.
    """

    recent: Tensor
    own: Tensor
    target: Tensor
    seen: Tensor


class EvidenceHead(nn.Module):
    """Weighs pair events by their circumstances and sums them over a history (docs/method.md, "Evidence").

    c(i) = d_i^-b sum_l exp(q_l) d_l^-a sum_events exp(w_channel); score = weight * log(1 + scale * c)

    Args:
        n_lags: G.
        max_history: L, ages that have a weight.
    """

    events: PairEvents
    neighbour: Tensor
    source: Tensor
    event_pair: Tensor
    event_channel: Tensor
    first_pair: Tensor
    n_pairs: Tensor
    log_degree: Tensor

    def __init__(self, n_lags: int, *, max_history: int) -> None:
        super().__init__()
        self.max_history = max_history
        distance = -torch.log(torch.tensor(BUCKETS).float())
        self.distance = nn.Parameter(distance.repeat(2, 1))  # (2, buckets) log weight by direction and distance
        self.lag = nn.Parameter(torch.zeros(2, n_lags))  # log weight by direction and lag
        self.age = nn.Parameter(-0.35 * torch.arange(max_history).float())  # (L,) log weight, newest first
        self.history_lag = nn.Parameter(torch.zeros(n_lags - 1))  # log weight by lag, beside that of the longest
        self.source_exponent = nn.Parameter(torch.zeros(()))
        self.neighbour_exponent = nn.Parameter(torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.seen = nn.Parameter(torch.tensor(-4.0))

    def attach(self, events: PairEvents) -> None:
        """Take the events to weigh, those of the training rows; without them nothing can be scored."""
        self.events = events
        self.n_items = len(events.degree)
        for name in ("neighbour", "source", "event_pair", "event_channel"):
            self.register_buffer(name, torch.from_numpy(getattr(events, name)), persistent=False)
        self.register_buffer("first_pair", torch.from_numpy(events.indptr[:-1]), persistent=False)
        self.register_buffer("n_pairs", torch.from_numpy(np.diff(events.indptr)), persistent=False)
        self.dense = self.n_items <= DENSE_ITEMS and len(events.neighbour) > DENSE_SHARE * self.n_items**2
        self.register_buffer("log_degree", torch.log1p(torch.from_numpy(events.degree).float()), persistent=False)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return {"scalars": list(self.parameters())}

    def encode(self, rows: HistoryRows, *, leave_out_own: bool) -> EvidenceBatch:
        """Return the indices of rows; with ``leave_out_own`` also the own users' events (training rows)."""
        recent = rows.newest(self.max_history)
        parts = [recent.row_of_item(), recent.items, ages(recent), history_lags(recent, self.events.lag_bounds)]
        own = np.zeros((5, 0), np.int64)
        if leave_out_own:
            found, channels = self.events.own(recent)
            own = np.stack([*found, channels])
        target = rows.target if leave_out_own else np.full(len(rows), PAD, np.int64)
        seen = np.stack(rows.had())
        return EvidenceBatch(*[torch.from_numpy(array) for array in (np.stack(parts), own, target, seen)])

    def pair_values(self) -> Tensor:
        """Return (P,) the weighed count of each pair, before the degrees."""
        values = torch.zeros(len(self.neighbour), device=self.neighbour.device)
        return values.index_add(0, self.event_pair, self.channel_weights().index_select(0, self.event_channel))

    def channel_weights(self) -> Tensor:
        """Return (C,) positive weights of the circumstances."""
        return (self.distance[:, :, None] + self.lag[:, None, :]).flatten().exp()

    def forward(self, batch: EvidenceBatch, candidates: Tensor | None = None) -> Tensor:
        """Score the catalogue, or some candidates.

        Args:
            batch: of B rows.
            candidates: (N,) distinct positions; None scores all items.

        Returns:
            (B, N) the evidence of every candidate.
        """
        items = torch.arange(self.n_items, device=batch.target.device) if candidates is None else candidates
        column = torch.full((self.n_items + 1,), len(items), device=items.device)  # the last column is thrown away
        column[items] = torch.arange(len(items), device=items.device)
        sums = self._sums(batch, column, len(items) + 1)
        sums = sums[:, :-1] * self._neighbour_weight(batch.target, items, column)
        scores = self.weight * torch.log1p(sums * self.log_scale.exp())
        seen = F.pad(torch.zeros_like(scores), (0, 1)).index_put(
            (batch.seen[0], column[batch.seen[1]]), self.seen
        )  # once, however often an item is in the history
        return scores + seen[:, :-1]

    def _sums(self, batch: EvidenceBatch, column: Tensor, n_columns: int) -> Tensor:
        """(B, n_columns) weighed counts, the own users' events taken out."""
        row, item, age, lag = batch.recent
        weight = self._history_weight(item, age, lag)
        if self.dense:
            table = weight.new_zeros(self.n_items**2)
            table = table.index_put((self.source * self.n_items + self.neighbour,), self.pair_values())
            history = weight.new_zeros(len(batch.target), self.n_items).index_put((row, item), weight, accumulate=True)
            sums = self._columns(history @ table.view(self.n_items, -1), column, n_columns).flatten()
        else:
            which = torch.repeat_interleave(self.n_pairs[item])
            offset = (
                torch.arange(len(which), device=which.device)
                - (self.n_pairs[item].cumsum(0) - self.n_pairs[item])[which]
            )
            pair = self.first_pair[item][which] + offset
            sums = weight.new_zeros(len(batch.target) * n_columns).index_add(
                0, row[which] * n_columns + column[self.neighbour[pair]], self.pair_values()[pair] * weight[which]
            )
        row, age, lag, pair, channel = batch.own
        if len(row):
            value = self.channel_weights()[channel] * self._history_weight(self.source[pair], age, lag)
            sums = sums.index_add(0, row * n_columns + column[self.neighbour[pair]], -value).clamp(min=0)
        return sums.view(-1, n_columns)

    @staticmethod
    def _columns(scores: Tensor, column: Tensor, n_columns: int) -> Tensor:
        """(B, n_columns) the chosen columns of (B, M), and zeros in the last."""
        items = torch.nonzero(column[:-1] < n_columns - 1).squeeze(1)
        chosen = scores.new_zeros(len(scores), n_columns)
        return chosen.index_copy(1, column[items], scores[:, items])

    def _history_weight(self, item: Tensor, age: Tensor, lag: Tensor) -> Tensor:
        """(S,) weight of history items by age, lag and degree."""
        return (self.age[age] + self._lag_weights()[lag] - self.source_exponent * self.log_degree[item]).exp()

    def _lag_weights(self) -> Tensor:
        """(G,) log weight of history items by lag."""
        return F.pad(self.history_lag, (0, 1))

    def _neighbour_weight(self, target: Tensor, items: Tensor, column: Tensor) -> Tensor:
        """(B, N) weight of the neighbour's degree, the own interaction taken out of the target's."""
        degree = self.log_degree[items].expand(len(target), -1)
        rows = torch.nonzero(target >= 0).squeeze(1)  # targets are always among the candidates
        if len(rows):
            own = torch.log1p((self.log_degree[target[rows]].expm1() - 1).clamp(min=0))
            degree = degree.index_put((rows, column[target[rows]]), own)
        return (-self.neighbour_exponent * degree).exp()

    @torch.no_grad()
    def bake(self) -> Evidence:
        """Return the evidence with one number a pair, for scoring without torch."""
        degree = self.log_degree
        exponents = self.source_exponent * degree[self.source] + self.neighbour_exponent * degree[self.neighbour]
        value = self.pair_values() * (-exponents).exp()
        return Evidence(
            indptr=self.events.indptr,
            neighbour=self.events.neighbour,
            value=value.float().cpu().numpy(),
            kernel=self.age.exp().float().cpu().numpy(),
            lag=self._lag_weights().exp().float().cpu().numpy(),
            lag_bounds=self.events.lag_bounds,
            scale=math.exp(self.log_scale.item()),
            weight=self.weight.item(),
            seen=self.seen.item(),
        )
