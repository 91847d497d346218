"""The frozen backbone's states of training rows, computed once and reused by every epoch of alignment.

Shapes: R rows, S positions, d width of the backbone.
"""

from __future__ import annotations

import logging

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from flr_model.data.histories import HistoryRows
from flr_model.nn.backbone import Past
from flr_model.nn.history_encoders import EncodedHistory, HistoryBatch
from flr_model.nn.recommender import TrainableRecommender
from flr_model.progress import SILENT, Progress

logger = logging.getLogger(__name__)

BATCH = 256


class StateCache:
    """Backbone states of rows, kept in memory when they fit.

    Args:
        recommender: with a frozen trunk.
        rows: R rows.
        megabytes: what may be kept; above it, and where histories are read as text, every use computes the states
            again.
    """

    def __init__(
        self, recommender: TrainableRecommender, rows: HistoryRows, megabytes: int, *, progress: Progress = SILENT
    ) -> None:
        self._recommender = recommender
        self._states: Tensor | None = None
        self._past: Tensor | None = None
        probe = self._compute(rows.select(slice(0, min(2, len(rows)))))
        size = len(rows) * (probe.states[0].nbytes + _stack(probe.past)[0].nbytes) / 2**20
        if recommender.model.encoder.item_positions and size <= megabytes:
            self._fill(rows, progress)
        else:
            logger.info("the backbone's states (%.0f MB) are not kept but computed at every step", size)

    def get(self, numbers: Tensor, histories: HistoryBatch) -> EncodedHistory:
        """Return the states of rows: from memory, else computed from their histories."""
        if self._states is None or self._past is None:
            with torch.no_grad():
                return self._recommender.model.encode(histories)
        mask = histories.mask
        slot = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        states, past = self._states[numbers.cpu()], self._past[numbers.cpu()]
        return EncodedHistory(states.to(mask.device), mask, slot, _unstack(past.to(mask.device)))

    @torch.no_grad()
    def _fill(self, rows: HistoryRows, progress: Progress) -> None:
        states, past = [], []
        with progress.task(len(rows), "histories") as task:
            for start in range(0, len(rows), BATCH):
                encoded = self._compute(rows.select(slice(start, start + BATCH)))
                states.append(encoded.states.cpu())
                past.append(_stack(encoded.past)[: len(encoded.states)].cpu())
                task.advance(len(encoded.states))
        self._states, self._past = torch.cat(states), torch.cat(past)

    @torch.no_grad()
    def _compute(self, rows: HistoryRows) -> EncodedHistory:
        batch = self._recommender.encode(rows, training=False)
        inputs = send_to_device(batch.inputs, self._recommender.device)
        return self._recommender.model.encode(self._recommender.history_batch(inputs))


def _stack(past: Past | None) -> Tensor:
    """Return keys and values as one (B, 2 * layers, heads, S, width) tensor; without any, one without elements."""
    if past is None:
        return torch.zeros(BATCH, 0)
    return torch.stack([part for layer in past for part in layer], dim=1)


def _unstack(stacked: Tensor) -> Past | None:
    if stacked.ndim < 5:
        return None
    parts = stacked.unbind(1)
    return tuple(zip(parts[::2], parts[1::2], strict=True))
