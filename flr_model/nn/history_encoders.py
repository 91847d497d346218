"""How the backbone reads a history: one position per item, or the titles as text.

Both return states over positions, the item each position belongs to, and the way to go on with a latent token.
Shapes: B batch, L items of a history, S positions read, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flr_model.nn.backbone import Past, Trunk


class EncodedHistory(NamedTuple):
    """What the backbone made of a history.

    states: (B, S, d). mask: (B, S) 1 where real. slot: (B, S) column of the item, 0 <= slot < L.
    past: cached keys and values, None if none were asked for. before: (B,) positions read before the history began.
    """

    states: Tensor
    mask: Tensor
    slot: Tensor
    past: Past | None
    before: Tensor | None = None


class ItemsEncoder(nn.Module):
    """One position per item: the item's vector, mapped to an input embedding.

    Args:
        trunk: the backbone.
        embedding_size: D.
    """

    def __init__(self, trunk: Trunk, embedding_size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.projection = nn.Linear(embedding_size, trunk.width)

    @torch.no_grad()
    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Start the projection where the backbone feels at home: ridge regression of the title's mean token embedding.

        Args:
            vectors: (M, D) item vectors.
            embeddings: (M, d) mean input embeddings of the items' titles.
        """
        inputs, outputs = vectors.double(), embeddings.double()
        mean = outputs.mean(0)
        gram = inputs.T @ inputs + 0.1 * torch.eye(inputs.shape[1], dtype=inputs.dtype)
        self.projection.weight.copy_(torch.linalg.solve(gram, inputs.T @ (outputs - mean)).T.float())
        self.projection.bias.copy_(mean.float())

    def forward(self, vectors: Tensor, mask: Tensor, *, keep: bool) -> EncodedHistory:
        """Read (B, L, D) vectors with a (B, L) mask; no gradient flows into the vectors from here."""
        states, past = self.trunk(self.projection(vectors.detach()), mask, keep=keep)
        return EncodedHistory(states, mask, _columns(mask), past)

    def forward_shared(self, vectors: Tensor, place: Tensor, *, keep: bool) -> EncodedHistory:
        """Read histories that are windows of sequences, each sequence once (`flr_model.data.passes`).

        A state has then seen what its sequence holds before the window too.

        Args:
            vectors: (U, W, D) of the sequences' items, zero at padding.
            place: (B, L) index into the U * W places; negative where a history is empty.
            keep: return keys and values for latent tokens.
        """
        real = torch.zeros(vectors.shape[:2], dtype=torch.long, device=place.device)
        real.view(-1)[place[place >= 0]] = 1
        states, past = self.trunk(self.projection(vectors.detach()), real, keep=keep)
        mask, index = (place >= 0).long(), place.clamp(min=0)
        gathered = states.flatten(0, 1)[index] * mask[..., None]
        if past is not None:
            past = tuple((_windows(keys, index), _windows(values, index)) for keys, values in past)
        before = real.cumsum(1).flatten()[index[:, -1]] - mask.sum(1)
        return EncodedHistory(gathered, mask, _columns(mask), past, before.clamp(min=0))


def _columns(mask: Tensor) -> Tensor:
    return torch.arange(mask.shape[1], device=mask.device).expand_as(mask)


def _windows(cached: Tensor, index: Tensor) -> Tensor:
    """Gather (U, heads, W, width) keys or values at (B, L) places: (B, heads, L, width)."""
    return cached.transpose(1, 2).flatten(0, 1)[index].transpose(1, 2)


class TextEncoder(nn.Module):
    """The titles as text, oldest first.

    Args:
        trunk: the backbone.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, input_ids: Tensor, mask: Tensor, slot: Tensor, *, keep: bool) -> EncodedHistory:
        """Read (B, S) tokens with a (B, S) mask and the (B, S) history column of each token."""
        states, past = self.trunk(self.trunk.embed(input_ids), mask, keep=keep)
        return EncodedHistory(states, mask, slot.clamp(min=0), past)
