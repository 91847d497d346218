"""How the backbone reads a history: one position per item, or the titles as text.

Both return states over positions, the item each position belongs to, and the way to go on with a latent token.
Shapes: B batch, L items of a history, S positions read, P positions with the prompt's, d width of the backbone,
D width of item vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flr_model.nn.backbone import Past, Trunk
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.titles.tokens import Ints


class EncodedHistory(NamedTuple):
    """What the backbone made of a history.

    states: (B, S, d). mask: (B, S) 1 where real. slot: (B, S) column of the item, 0 <= slot < L.
    past: cached keys and values of all places read, None if none were asked for.
    last: (B, d) state of the last place. past_mask: (B, P) 1 where a place of ``past`` is real; the prompt's are among
    them. Both None where nothing but the history was read.
    """

    states: Tensor
    mask: Tensor
    slot: Tensor
    past: Past | None
    last: Tensor | None = None
    past_mask: Tensor | None = None


class Prompt(nn.Module):
    """Tokens around a history, for the `title` decoder.

    Args:
        before: tokens before the history.
        after: tokens behind it.
    """

    before: Tensor
    after: Tensor

    def __init__(self, before: Ints, after: Ints) -> None:
        super().__init__()
        self.register_buffer("before", torch.from_numpy(before), persistent=False)
        self.register_buffer("after", torch.from_numpy(after), persistent=False)

    def read(self, trunk: Trunk, history: Tensor, mask: Tensor, slot: Tensor, *, keep: bool) -> EncodedHistory:
        """Read (B, S, d) embeddings with a (B, S) mask between the prompt's two parts."""
        n_before, n_history = len(self.before), history.shape[1]
        # Sizes come from shapes, not from len(), which a tracer takes for constants.
        sides = [trunk.embed(tokens.expand(history.shape[0], -1)) for tokens in (self.before, self.after)]
        embeddings = torch.cat([sides[0], history, sides[1]], dim=1)
        real = [torch.ones_like(side[..., 0], dtype=mask.dtype) for side in sides]
        whole = torch.cat([real[0], mask, real[1]], dim=1)
        states, past = trunk(embeddings, whole, keep=keep)
        return EncodedHistory(states[:, n_before : n_before + n_history], mask, slot, past, states[:, -1], whole)


class ItemsEncoder(nn.Module):
    """One position per item: the item's vector, mapped to an input embedding.

    Args:
        trunk: the backbone.
        embedding_size: D.
        prompt: around the history; None for none.
    """

    def __init__(self, trunk: Trunk, embedding_size: int, prompt: Prompt | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.prompt = prompt
        self.projection = nn.Linear(embedding_size, trunk.width)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter; the projection's offset learns as its matrix does."""
        return join_groups(self.trunk.parameter_groups(), {"projection": list(self.projection.parameters())})

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
        slot = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return _read(self.trunk, self.prompt, self.projection(vectors.detach()), mask, slot, keep=keep)


class TextEncoder(nn.Module):
    """The titles as text, oldest first.

    Args:
        trunk: the backbone.
        prompt: around the history; None for none.
    """

    def __init__(self, trunk: Trunk, prompt: Prompt | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.prompt = prompt

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return self.trunk.parameter_groups()

    def forward(self, input_ids: Tensor, mask: Tensor, slot: Tensor, *, keep: bool) -> EncodedHistory:
        """Read (B, S) tokens with a (B, S) mask and the (B, S) history column of each token."""
        return _read(self.trunk, self.prompt, self.trunk.embed(input_ids), mask, slot.clamp(min=0), keep=keep)


def _read(
    trunk: Trunk, prompt: Prompt | None, embeddings: Tensor, mask: Tensor, slot: Tensor, *, keep: bool
) -> EncodedHistory:
    if prompt is not None:
        return prompt.read(trunk, embeddings, mask, slot, keep=keep)
    states, past = trunk(embeddings, mask, keep=keep)
    return EncodedHistory(states, mask, slot, past)
