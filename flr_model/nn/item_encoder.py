"""Item vectors from titles: the backbone reads a title in a prompt, two readings of its states are whitened.

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

from flr_model.progress import SILENT, Progress
from flr_model.titles.tokens import TitleTokenizer

WHITENING_EXPONENT = 0.1
"""Singular values are raised to this power: 1 keeps the spread of the states, 0 makes all directions alike."""

WORDING_DEPTH = 0.27
"""Share of the layers after which the title's own states are read; deeper ones say less about the wording."""

SHARES = (0.75, 0.25)
"""Of the D directions: for the wording of the title, and for what the backbone would say of it."""

WEIGHTS = (0.8, 0.6)
"""Lengths of the two parts of an item vector; together they have length 1."""

TOKENS_PER_BATCH = 4096


class Whitening(nn.Module):
    """Centre vectors, keep their main directions with nearly equal spread, and make them a given length.

    Args:
        width: of the input.
        size: directions kept, at most ``width``.
        length: of the output.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, width: int, size: int, length: float) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("projection", torch.zeros(width, size))

    @torch.no_grad()
    def fit(self, states: Tensor) -> None:
        """Fit to the states of a catalogue (M, width); directions without spread give zeros."""
        states = states.double()
        mean = states.mean(0)
        _, spread, axes = torch.linalg.svd(states - mean, full_matrices=False)
        kept = min(self.projection.shape[1], int((spread > spread[0] * 1e-6).sum()))
        self.mean.copy_(mean)
        self.projection.zero_()
        self.projection[:, :kept] = axes[:kept].T * spread[:kept] ** (WHITENING_EXPONENT - 1)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (n, width) to vectors (n, size)."""
        return self.length * F.normalize((states - self.mean) @ self.projection, dim=-1)


class ItemEncoder(nn.Module):
    """Turn titles into item vectors (docs/method.md, "Item vectors").

    The whitening is fitted once on a catalogue and then fixed, so that an item that comes later gets the vector it
    would have had.

    Args:
        lm: the backbone.
        embedding_size: D, at most d.
        n_prefix: tokens of the prompt before the title.
        n_suffix: tokens of the prompt behind it.
    """

    def __init__(self, lm: PreTrainedModel, embedding_size: int, *, n_prefix: int = 0, n_suffix: int = 0) -> None:
        super().__init__()
        self.lm = lm
        self.n_prefix = n_prefix
        self.n_suffix = n_suffix
        depth, width = int(lm.config.num_hidden_layers), int(lm.config.hidden_size)
        self.wording_layer = max(1, round(WORDING_DEPTH * depth))
        said = round(SHARES[1] * embedding_size)
        sizes = (embedding_size - said, said)
        self.whitening = nn.ModuleList(
            Whitening(width, size, length) for size, length in zip(sizes, WEIGHTS, strict=True)
        )
        self.scale = nn.Parameter(torch.ones(embedding_size))

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Read titles in their prompt, (n, S) and padded on the right.

        Returns:
            (n, 2, d): the mean over the title's tokens of an early layer, and the last layer's state of the last token,
            from which the backbone would go on writing.
        """
        states = self.lm(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, output_hidden_states=True
        ).hidden_states
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        length = attention_mask.sum(1, keepdim=True)
        title = ((place >= self.n_prefix) & (place < length - self.n_suffix)).to(states[-1].dtype)[..., None]
        last = (place == length - 1).to(states[-1].dtype)[..., None]
        wording = (states[self.wording_layer] * title).sum(1) / title.sum(1).clamp(min=1)
        return torch.stack([wording, (states[-1] * last).sum(1)], dim=1)

    def whiten(self, states: Tensor) -> Tensor:
        """Return the (n, D) unit vectors of readings (n, 2, d), before the learned scale."""
        parts = [whitening(part) for whitening, part in zip(self.whitening, states.unbind(1), strict=True)]
        return torch.cat(parts, dim=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (n, D) item vectors of titles in their prompt (n, S)."""
        return self.whiten(self.read(input_ids, attention_mask)) * self.scale

    @torch.no_grad()
    def read_titles(
        self, titles: Sequence[str], tokenizer: TitleTokenizer, *, progress: Progress = SILENT
    ) -> npt.NDArray[np.float32]:
        """Return the (M, 2, d) readings of titles, batched by length."""
        device = self.scale.device
        out = np.zeros((len(titles), 2, int(self.lm.config.hidden_size)), np.float32)
        self.lm.eval()
        with progress.task(len(titles), "titles") as task:
            for which, input_ids, mask in tokenizer.batches(titles, TOKENS_PER_BATCH):
                states = self.read(torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device))
                out[which] = states.float().cpu().numpy()
                task.advance(len(which))
        return out

    def fit(self, states: npt.NDArray[np.float32]) -> None:
        """Fit the whitening to a catalogue's readings (M, 2, d)."""
        for whitening, part in zip(self.whitening, torch.from_numpy(states).unbind(1), strict=True):
            assert isinstance(whitening, Whitening)
            whitening.fit(part)
