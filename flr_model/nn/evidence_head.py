"""The learned weights of the pair counts: what each factor counts of the items that it looks at.

As in scoring, a table of all pairs replaces the pairs met where these are most of all (`flr_model.ranking.evidence`).

Shapes: B rows, K factors, L history positions, S history items of a batch, E pairs met, O events of the own users,
U places (row, item) that a batch meets, H seen places, M items, P pairs, C channels, G buckets of lags.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.arrays import Ints, ranges
from flr_model.data.histories import PAD, HistoryRows
from flr_model.nn.parameter_groups import Groups
from flr_model.nn.sparse import SparseCounts
from flr_model.ranking.evidence import Evidence, fits_table
from flr_model.ranking.lags import BUCKETS, ages
from flr_model.ranking.pair_events import PairEvents

SEEN_LOGIT = -4.0
"""Added to the logits of seen items before training."""


class EvidenceBatch(NamedTuple):
    """What a batch of rows meets, found once and by no parameter; tensors of indices.

    entry: (3, S) row, steps back from the newest item, and item of the history items that count.
    met: (3, E) place, pair and entry of the pairs that start at them; none where a table is read.
    own: (3, O) place, entry and channel of the own users' events among those, to be taken out.
    place: (2, U) row and item of every place, in order; where a table is read, all.
    seen: (2, H) row and item of what users have seen.
    target: (B,) the targets, whose degree the own interaction is taken out of; PAD takes nothing out.
    """

    entry: Tensor
    met: Tensor
    own: Tensor
    place: Tensor
    seen: Tensor
    target: Tensor


class EvidenceHead(nn.Module):
    """Weighs pair events by their circumstances and sums them over a history, for K factors.

    c_k(i) = d_i^-b_k sum_l w_kl d_l^-a_k sum_events exp(v_k,channel); logit = weight_k log(1 + scale_k c_k(i))
    (docs/method.md, "Counts").

    Args:
        n_factors: K.
        n_lags: G.
        max_history: L, the newest items that count.
    """

    events: PairEvents
    log_degree: Tensor
    source: Tensor
    neighbour: Tensor
    cell: Tensor

    def __init__(self, n_factors: int, n_lags: int, *, max_history: int) -> None:
        super().__init__()
        self.max_history = max_history
        distance = -torch.log(torch.tensor(BUCKETS).float())
        self.distance = nn.Parameter(distance.repeat(n_factors, 2, 1))  # (K, 2, buckets) log weight by direction too
        self.lag = nn.Parameter(torch.zeros(n_factors, 2, n_lags))  # (K, 2, G) log weight by direction and lag
        self.source_exponent = nn.Parameter(torch.zeros(n_factors))  # a
        self.neighbour_exponent = nn.Parameter(torch.zeros(n_factors))  # b
        self.weight = nn.Parameter(torch.ones(n_factors))
        self.log_scale = nn.Parameter(torch.full((n_factors,), 2.0))
        self.seen = nn.Parameter(torch.tensor(SEEN_LOGIT))

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return {"scalars": list(self.parameters())}

    def attach(self, events: PairEvents) -> None:
        """Take the events to weigh, those of the training rows; without them nothing can be counted."""
        self.events = events
        self.n_items = len(events.degree)
        self.has_table = fits_table(len(events.source), self.n_items, len(self.weight))
        n_channels = 2 * len(BUCKETS) * (len(events.lag_bounds) + 1)
        self.channels = SparseCounts.of(events.event_pair, events.event_channel, (len(events.source), n_channels))
        if self.has_table:
            cell = events.source * self.n_items + events.neighbour
            self.register_buffer("cell", torch.from_numpy(cell), persistent=False)
        self.register_buffer("source", torch.from_numpy(events.source), persistent=False)
        self.register_buffer("neighbour", torch.from_numpy(events.neighbour), persistent=False)
        self.register_buffer("log_degree", torch.log1p(torch.from_numpy(events.degree).float()), persistent=False)

    def encode(self, rows: HistoryRows, *, leave_out_own: bool) -> EvidenceBatch:
        """Find what rows meet; with ``leave_out_own`` (training rows) also the own users' events."""
        recent = rows.truncated(self.max_history)
        row = recent.row_of_item()
        entry = np.stack([row, ages(recent), recent.items])
        places, met = np.arange(len(rows) * self.n_items), np.zeros((3, 0), np.int64)
        if not self.has_table:
            places, met = self._met(recent)
        own = np.zeros((3, 0), np.int64)
        if leave_out_own:
            found = self.events.own(recent)
            own_key = row[found.entry] * self.n_items + self.events.neighbour[found.pair]
            own = np.stack([np.searchsorted(places, own_key), found.entry, found.channel])
        seen_row, seen_item = rows.seen()
        seen = np.unique(seen_row * self.n_items + seen_item)
        target = rows.target if leave_out_own else np.full(len(rows), PAD, np.int64)
        parts = (entry, met, own, self._split(places), self._split(seen), target)
        return EvidenceBatch(*[torch.from_numpy(part) for part in parts])

    def _met(self, rows: HistoryRows) -> tuple[Ints, Ints]:
        """Find the (U,) places that rows meet, and the (3, E) pairs through which they do."""
        start = self.events.indptr[rows.items]
        n_pairs = self.events.indptr[rows.items + 1] - start
        pair, entry = ranges(start, n_pairs), np.repeat(np.arange(len(rows.items)), n_pairs)
        key = rows.row_of_item()[entry] * self.n_items + self.events.neighbour[pair]
        places, number = _distinct(key, len(rows) * self.n_items)
        return places, np.stack([number, pair, entry])

    def _split(self, key: Ints) -> Ints:
        return np.stack([key // self.n_items, key % self.n_items])

    def channel_weights(self) -> Tensor:
        """Return (C, K) positive weights of the circumstances."""
        return (self.distance[..., None] + self.lag[:, :, None, :]).flatten(1).exp().T

    def forward(self, batch: EvidenceBatch, log_weights: Tensor) -> Tensor:
        """Count for a batch of rows.

        Args:
            batch: of B rows.
            log_weights: (B, K, L) of the history's items, log w_kl, padded on the left.

        Returns:
            (U, K) logits of the batch's places; all other places have 0.
        """
        row, age, item = batch.entry
        weight = (log_weights[row, :, -1 - age] - self.source_exponent * self.log_degree[item, None]).exp()  # (S, K)
        channel_weights = self.channel_weights()
        value = self.channels.product(channel_weights)  # (P, K)
        if self.has_table:
            sums = self._from_table(value, batch.entry, weight, len(batch.target))
        else:
            place, pair, entry = batch.met
            sums = value.new_zeros(batch.place.shape[1], value.shape[1])
            sums = sums.index_add(0, place, value[pair] * weight[entry])
        if batch.own.shape[1]:
            place, entry, channel = batch.own
            sums = sums.index_add(0, place, -channel_weights[channel] * weight[entry]).clamp(min=0)
        sums = sums * (-self.neighbour_exponent * self._degree(batch)[:, None]).exp()
        return self.weight * torch.log1p(sums * self.log_scale.exp())

    def _from_table(self, value: Tensor, entry: Tensor, weight: Tensor, n_rows: int) -> Tensor:
        """Sum the (P, K) values of pairs over histories with weights (S, K): (B * M, K)."""
        row, _, item = entry
        starts = torch.searchsorted(row, torch.arange(n_rows, device=row.device))
        of_factors = []
        for one_value, one_weight in zip(value.unbind(1), weight.unbind(1), strict=True):
            table = value.new_zeros(self.n_items**2).index_copy_(0, self.cell, one_value)
            table = table.view(self.n_items, self.n_items)
            of_factors.append(F.embedding_bag(item, table, starts, mode="sum", per_sample_weights=one_weight))
        return torch.stack(of_factors, dim=-1).flatten(0, 1)

    def _degree(self, batch: EvidenceBatch) -> Tensor:
        """(U,) log degree of each place's item, the own interaction taken out of the target's."""
        row, item = batch.place
        degree = self.log_degree[item]
        without = torch.log1p((degree.expm1() - 1).clamp(min=0))
        return torch.where(batch.target[row] == item, without, degree)

    @torch.no_grad()
    def bake(self) -> Evidence:
        """Return the counts with one number a pair and factor, for scoring without torch."""
        degree = self.log_degree[:, None]
        exponents = self.source_exponent * degree[self.source] + self.neighbour_exponent * degree[self.neighbour]
        value = self.channels.product(self.channel_weights()) * (-exponents).exp()
        return Evidence(
            indptr=self.events.indptr,
            neighbour=self.events.neighbour,
            value=value.float().cpu().numpy(),
            weight=self.weight.float().cpu().numpy(),
            scale=self.log_scale.exp().float().cpu().numpy(),
            seen=self.seen.item(),
            lag_bounds=self.events.lag_bounds,
            degree=self.events.degree,
            unordered=self.events.unordered,
        )


def _distinct(key: Ints, n_keys: int) -> tuple[Ints, Ints]:
    """Return the (U,) distinct keys below ``n_keys``, ascending, and (E,) the number of each key among them."""
    if n_keys > 64 * len(key):  # sorting few keys is faster than marking many places
        places, number = np.unique(key, return_inverse=True)
        return places.astype(np.int64), number.astype(np.int64)
    met = np.zeros(n_keys, bool)
    met[key] = True
    places = np.flatnonzero(met).astype(np.int64)
    numbers = np.zeros(n_keys, np.int64)
    numbers[places] = np.arange(len(places))
    return places, numbers[key]
