"""Item vectors from titles: readers read a title, each reading is whitened, and the parts stand side by side.

Shapes: M items, n titles of a batch, S tokens, R readings and w width of a reader, D width of the item vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.arrays import Floats
from flr_model.errors import ConfigError
from flr_model.nn.item_readers import TOKENS_PER_BATCH, ItemReader

WHITENING_EXPONENT = 0.1
"""Singular values are raised to this power: 1 keeps the spread of the states, 0 makes all directions alike."""


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
        readers: of titles.
        embedding_size: D; its directions are shared out among the readings.

    Raises:
        ConfigError: if a reading has fewer directions than its share.
    """

    def __init__(self, readers: Sequence[ItemReader], embedding_size: int) -> None:
        super().__init__()
        self._readers = nn.ModuleList(readers)
        parts = [(reader, part) for reader in readers for part in reader.parts]
        sizes = _shared_out(embedding_size, [part.share for _, part in parts])
        _check_widths(embedding_size, [(reader, size) for (reader, _), size in zip(parts, sizes, strict=True)])
        whole = math.sqrt(sum(part.length**2 for _, part in parts))
        self.whitening = nn.ModuleList(
            Whitening(reader.width, size, part.length / whole)
            for (reader, part), size in zip(parts, sizes, strict=True)
        )
        self.scale = nn.Parameter(torch.ones(embedding_size))

    @property
    def readers(self) -> list[ItemReader]:
        """What reads titles, in order."""
        return list(self._readers)  # type: ignore[arg-type]

    def parts(self) -> list[VectorPart]:
        """Return what makes the columns of each reader; they share the weights."""
        parts, whitening, column = [], 0, 0
        for reader in self.readers:
            own = self.whitening[whitening : whitening + len(reader.parts)]
            size = sum(one.get_buffer("projection").shape[1] for one in own)
            parts.append(VectorPart(reader, own, self.scale[column : column + size]))
            whitening, column = whitening + len(own), column + size
        return parts

    def whiten(self, states: Sequence[Tensor]) -> Tensor:
        """Return the (n, D) unit vectors of each reader's readings (n, R, w), before the learned scale."""
        return _whiten(self.whitening, states)

    def fit(self, states: Sequence[Floats]) -> None:
        """Fit the whitening to each reader's readings (M, R, w) of a catalogue."""
        readings = [reading for of_reader in states for reading in torch.from_numpy(of_reader).unbind(1)]
        for whitening, reading in zip(self.whitening, readings, strict=True):
            assert isinstance(whitening, Whitening)
            whitening.fit(reading)

    @torch.no_grad()
    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of titles."""
        columns = []
        for part in self.parts():
            out = np.zeros((len(titles), len(part.scale)), np.float32)
            for which, input_ids, mask in part.reader.tokenizer.batches(titles, TOKENS_PER_BATCH):
                tokens = (torch.from_numpy(array).to(self.scale.device) for array in (input_ids, mask))
                out[which] = part(*tokens).cpu().numpy()
            columns.append(out)
        return np.concatenate(columns, axis=1)


class VectorPart(nn.Module):
    """The columns of item vectors that come of one reader.

    Args:
        reader: of titles.
        whitening: of its R readings.
        scale: of its columns.
    """

    scale: Tensor

    def __init__(self, reader: ItemReader, whitening: nn.ModuleList, scale: Tensor) -> None:
        super().__init__()
        self.reader = reader
        self.whitening = whitening
        self.register_buffer("scale", scale.detach())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the columns of the item vectors of titles (n, S)."""
        return _whiten(self.whitening, [self.reader(input_ids, attention_mask)]) * self.scale


def _whiten(whitening: nn.ModuleList, states: Sequence[Tensor]) -> Tensor:
    readings = [reading for of_reader in states for reading in of_reader.unbind(1)]
    return torch.cat([one(reading) for one, reading in zip(whitening, readings, strict=True)], dim=-1)


def _shared_out(whole: int, shares: Sequence[float]) -> list[int]:
    """Cut a number into whole parts by shares.

    >>> _shared_out(512, [3, 1]), _shared_out(512, [3, 1, 3])
    ([384, 128], [219, 74, 219])
    """
    bounds = [round(whole * upto / sum(shares)) for upto in accumulate(shares, initial=0)]
    return [stop - start for start, stop in pairwise(bounds)]


def _check_widths(embedding_size: int, sizes: Sequence[tuple[ItemReader, int]]) -> None:
    for reader, size in sizes:
        if size > reader.width:
            largest = embedding_size * reader.width // size
            raise ConfigError(
                f"--embedding-size is {embedding_size}, of which {size} directions would be of {reader.name}, "
                f"whose states have {reader.width}; about {largest} is the most"
            )
