"""Item vectors from titles: the backbone reads a title, the mean of its states is whitened.

Shapes: M items, n titles of a batch, S tokens, d width of the backbone, D width of the item vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from flr_model.data.text import TitleTokenizer
from flr_model.progress import SILENT, Progress

WHITENING_EXPONENT = 0.3
"""Singular values are raised to this power: 1 keeps the spread of the states, 0 makes all directions alike."""

TOKENS_PER_BATCH = 4096


class ItemEncoder(nn.Module):
    """Turn titles into item vectors (docs/method.md, "Item vectors").

    The whitening is fitted once on a catalogue (`fit`) and then fixed, so that an item that comes later gets the vector
    it would have had.

    Args:
        lm: the backbone.
        embedding_size: D, at most d.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, lm: PreTrainedModel, embedding_size: int) -> None:
        super().__init__()
        self.lm = lm
        width = int(lm.config.hidden_size)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("projection", torch.zeros(width, embedding_size))
        self.scale = nn.Parameter(torch.ones(embedding_size))

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (n, d) mean states of titles (n, S), padded on the right."""
        states = self.lm(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        weight = attention_mask[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)  # type: ignore[no-any-return]

    def whiten(self, pooled: Tensor) -> Tensor:
        """Return the (n, D) unit vectors of pooled states (n, d), before the learned scale."""
        return F.normalize((pooled - self.mean) @ self.projection, dim=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (n, D) item vectors of titles (n, S)."""
        return self.whiten(self.pool(input_ids, attention_mask)) * self.scale

    @torch.no_grad()
    def pool_titles(
        self, titles: Sequence[str], tokenizer: TitleTokenizer, *, progress: Progress = SILENT
    ) -> npt.NDArray[np.float32]:
        """Return the (M, d) mean states of titles, batched by length."""
        device = self.mean.device
        out = np.zeros((len(titles), len(self.mean)), np.float32)
        progress.start(len(titles), "titles")
        was_training = self.lm.training
        self.lm.eval()
        for index, input_ids, mask in tokenizer.batches(titles, TOKENS_PER_BATCH):
            pooled = self.pool(torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device))
            out[index] = pooled.float().cpu().numpy()
            progress.advance(len(index))
        self.lm.train(was_training)
        progress.finish()
        return out

    @torch.no_grad()
    def fit(self, pooled: npt.NDArray[np.float32]) -> None:
        """Fit the whitening to a catalogue's pooled states (M, d).

        With fewer items than D, or states of lower rank, the directions without spread stay zero.
        """
        states = torch.from_numpy(pooled).double()
        mean = states.mean(0)
        _, spread, axes = torch.linalg.svd(states - mean, full_matrices=False)
        kept = min(self.projection.shape[1], int((spread > spread[0] * 1e-6).sum())) if len(spread) else 0
        scaled = axes[:kept].T * spread[:kept].clamp(min=1e-12) ** (WHITENING_EXPONENT - 1)
        self.projection.zero_()
        self.projection[:, :kept] = scaled.float()
        self.mean.copy_(mean.float())
