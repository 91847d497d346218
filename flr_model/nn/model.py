"""The whole model: history encoder, reasoner, latent tokens, decoder.

Shapes: B batch, L items of a history, S positions read, K factors, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.config import ModelConfig
from flr_model.nn.backbone import Trunk
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.history_encoders import EncodedHistory, ItemsEncoder, TextEncoder
from flr_model.nn.reasoner import Reasoner, Thought


class HistoryBatch(NamedTuple):
    """A batch of histories, padded on the left.

    vectors: (B, L, D) item vectors, zero at padding. mask: (B, L) 1 where an item is. Only for `text`:
    input_ids, token_mask, token_slot: (B, S) tokens, 1 where real, and the history column of each.
    Only for `items`, where rows share passes while training: sequences (U, W, D) and place (B, L), see `ItemsEncoder`.
    """

    vectors: Tensor
    mask: Tensor
    input_ids: Tensor | None = None
    token_mask: Tensor | None = None
    token_slot: Tensor | None = None
    sequences: Tensor | None = None
    place: Tensor | None = None


class Reading(NamedTuple):
    """What the model says of a batch of histories, all that decoding a (perturbed) thought needs.

    thought: of the reasoner. attention: (B, K, L) over items. vectors: (B, L, D) the history's items.
    """

    thought: Thought
    attention: Tensor
    vectors: Tensor


class FactorizedModel(nn.Module):
    """Read histories with a language model and K factors (docs/method.md).

    Args:
        encoder: of the histories; holds the trunk.
        reasoner: the FLR head.
        decoder: thought to item space.
        latent_tokens: N, how often the thought goes back through the trunk as a token.
    """

    token_length: Tensor

    def __init__(
        self, encoder: ItemsEncoder | TextEncoder, reasoner: Reasoner, decoder: CatalogDecoder, latent_tokens: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.reasoner = reasoner
        self.decoder = decoder
        self.latent_tokens = latent_tokens
        width = encoder.trunk.width
        self.latent = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.latent.weight)
        table = encoder.trunk.lm.get_input_embeddings().weight.detach()
        self.register_buffer("token_length", table.norm(dim=-1).mean(), persistent=False)

    def read(self, batch: HistoryBatch) -> Reading:
        """Think about a batch of histories."""
        return self.think(self.encode(batch), batch)

    def think(self, encoded: EncodedHistory, batch: HistoryBatch) -> Reading:
        """Go on from the backbone's states: reason, and send the thought through the trunk N times."""
        age = encoded.slot.amax(1, keepdim=True) - encoded.slot
        thought = self.reasoner(encoded.states[:, -1], encoded.states, encoded.mask, age)
        mask, past = encoded.mask, encoded.past
        for _ in range(self.latent_tokens):
            mask = F.pad(mask, (0, 1), value=1)
            state, past = self.encoder.trunk(
                self._latent_token(thought.thought), mask, past, before=encoded.before, keep=True
            )
            thought = self.reasoner(state[:, -1] + thought.thought, encoded.states, encoded.mask, age)
        return Reading(thought, self._per_item(thought.attention, encoded, batch.mask), batch.vectors)

    def forward(self, batch: HistoryBatch) -> Tensor:
        """Return the (B, K, D) queries of a batch of histories."""
        reading = self.read(batch)
        return self.decoder(reading.thought, reading.attention, reading.vectors)  # type: ignore[no-any-return]

    def encode(self, batch: HistoryBatch) -> EncodedHistory:
        """Run the backbone over a batch of histories."""
        keep = self.latent_tokens > 0
        if isinstance(self.encoder, TextEncoder):
            return self.encoder(  # type: ignore[no-any-return]
                batch.input_ids, batch.token_mask, batch.token_slot, keep=keep
            )
        if batch.sequences is not None and batch.place is not None:
            return self.encoder.forward_shared(batch.sequences, batch.place, keep=keep)
        return self.encoder(batch.vectors, batch.mask, keep=keep)  # type: ignore[no-any-return]

    def _latent_token(self, thought: Tensor) -> Tensor:
        """Map a (B, d) thought to a (B, 1, d) input embedding of the length that the backbone's own have."""
        return (F.normalize(self.latent(thought), dim=-1) * self.token_length)[:, None]

    def _per_item(self, attention: Tensor, encoded: EncodedHistory, mask: Tensor) -> Tensor:
        """Sum attention over positions (B, K, S) per item: (B, K, L)."""
        if isinstance(self.encoder, ItemsEncoder):
            return attention
        columns = torch.arange(mask.shape[1], device=mask.device)
        belongs = (encoded.slot[..., None] == columns).to(attention.dtype) * encoded.mask[..., None]
        return attention @ belongs


def build_model(config: ModelConfig, trunk: Trunk) -> FactorizedModel:
    """Build the untrained model of a configuration around a trunk."""
    encoder = ItemsEncoder(trunk, config.embedding_size) if config.encoding == "items" else TextEncoder(trunk)
    reasoner = Reasoner(trunk.width, config.n_factors, config.refine_steps, dropout=config.dropout)
    decoder = CatalogDecoder(trunk.width, config.embedding_size, config.n_factors, dropout=config.dropout)
    return FactorizedModel(encoder, reasoner, decoder, config.latent_tokens)
