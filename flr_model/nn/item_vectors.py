"""The learned vectors of a catalogue's items.

Shapes: M items, B batch, L history positions, D width of item vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.data.histories import PAD
from flr_model.nn.parameter_groups import Groups

RESIDUAL_PRIOR = 20.0
"""Interactions at which an item's learned residual counts half."""

RESIDUAL_LIMIT = 200_000
"""Largest catalogue whose items have residuals: they and their optimiser's state are four times the item vectors."""


class ItemVectors(nn.Module):
    """Scale the vectors of the titles, and move each by a residual as far as its item has interactions to learn from.

    Args:
        unit_vectors: (M, D) whitened, before the learned scale.
        degree: (M,) interactions of each item.
    """

    unit_vectors: Tensor
    trust: Tensor

    def __init__(self, unit_vectors: Tensor, degree: npt.NDArray[np.integer[Any]]) -> None:
        super().__init__()
        padded = torch.cat([unit_vectors, torch.zeros(1, unit_vectors.shape[1])])  # the last row stands for padding
        self.register_buffer("unit_vectors", padded, persistent=False)
        self.scale = nn.Parameter(torch.ones(unit_vectors.shape[1]))
        has_residual = len(unit_vectors) <= RESIDUAL_LIMIT
        self.residual = nn.Parameter(torch.zeros_like(padded)) if has_residual else None
        count = F.pad(torch.from_numpy(degree).float(), (0, 1))
        self.register_buffer("trust", (count / (count + RESIDUAL_PRIOR))[:, None], persistent=False)

    def __len__(self) -> int:
        return len(self.unit_vectors) - 1

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return {"item_maps": [self.scale], "item_residuals": [] if self.residual is None else [self.residual]}

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Return the (..., D) vectors of items, without an index those of the whole catalogue (M, D)."""
        chosen: Any = slice(len(self)) if index is None else index
        vectors = self.unit_vectors[chosen] * self.scale
        return vectors if self.residual is None else vectors + self.trust[chosen] * self.residual[chosen]

    def of_histories(self, histories: Tensor) -> Tensor:
        """Return the (B, L, D) vectors of histories (B, L), zero at padding."""
        return self(histories.where(histories != PAD, len(self)))  # type: ignore[no-any-return]

    def frozen(self) -> npt.NDArray[np.float32]:
        """Return a copy of the present vectors (M, D)."""
        vectors: npt.NDArray[np.float32] = self().detach().float().cpu().numpy()
        return vectors
