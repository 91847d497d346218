"""What is exported of the language model that writes titles: one graph that reads places behind cached ones.

A place is a token, an item of a history, or a latent token (`flr_export.bundle.Place`). Keys and values of all layers
go in and out as one tensor, keys and values of the first layer first.

Shapes: B users, S new and C cached places, d width of the backbone, D width of item vectors, A twice the number of
layers, H heads of keys and values, h their width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flr_export.building.graphs import DeclaredConfig
from flr_export.bundle import Place
from flr_model.nn.title_writer import TitleWriter

_BATCH, _CACHED, _NEW = 3, 5, 6


class WriterModule(nn.Module):
    """New places behind cached ones: what `flr_model.titles.search.TitleReader` needs to read prompts and titles.

    Args:
        writer: that writes.
    """

    def __init__(self, writer: TitleWriter) -> None:
        super().__init__()
        self.writer = writer
        self.config = writer.encoder.trunk.lm.config

    def forward(
        self, input_ids: Tensor, vectors: Tensor, kind: Tensor, position_ids: Tensor, seen: Tensor, past: Tensor
    ) -> dict[str, Tensor]:
        """Read places behind (A, B, H, C, h) keys and values.

        A place's token is in (B, S), the vector of its item or latent token in (B, S, D), and which it is in ``kind``,
        (B, S). It sees what (B, S, C + S) says.

        Returns:
            states (B, S, d), present (A, B, H, C + S, h).
        """
        parts = past.unbind(0)
        pairs = tuple(zip(parts[::2], parts[1::2], strict=True))
        states, present = self.writer.encoder.trunk.extend(
            self._embed(input_ids, vectors, kind[..., None]), position_ids, seen, pairs
        )
        return {"states": states, "present": torch.stack([part for layer in present for part in layer])}

    def _embed(self, input_ids: Tensor, vectors: Tensor, kind: Tensor) -> Tensor:
        """(B, S, d) input embeddings."""
        encoder = self.writer.encoder
        embeddings = torch.where(
            kind == Place.LATENT, self.writer.latent_token(vectors), encoder.trunk.embed(input_ids)
        )
        if encoder.item_positions:
            embeddings = torch.where(kind == Place.ITEM, encoder.embed_items(vectors), embeddings)
        return embeddings


class WriterConfig(DeclaredConfig):
    """The graph of `WriterModule`.

    Args:
        config: of the backbone.
        embedding_size: D.
    """

    def __init__(self, config: Any, embedding_size: int) -> None:
        self._embedding_size = embedding_size
        places = {0: "batch", 1: "new"}
        inputs = {
            **dict.fromkeys(("input_ids", "vectors", "kind", "position_ids"), places),
            "seen": {**places, 2: "places"},
            "past": {1: "batch", 3: "cached"},
        }
        super().__init__(config, inputs, {"states": places, "present": {1: "batch", 3: "places"}})

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return a step of a few places of all kinds that see all before them."""
        lm = self._config
        width = getattr(lm, "head_dim", None) or lm.hidden_size // lm.num_attention_heads
        heads = getattr(lm, "num_key_value_heads", None) or lm.num_attention_heads
        places = torch.arange(_CACHED + _NEW)
        return {
            "input_ids": torch.arange(_BATCH * _NEW).view(_BATCH, _NEW) % lm.vocab_size,
            "vectors": torch.randn(_BATCH, _NEW, self._embedding_size),
            "kind": torch.arange(_NEW).expand(_BATCH, -1) % len(Place),
            "position_ids": places[_CACHED:].expand(_BATCH, -1).clone(),
            "seen": (places <= places[_CACHED:, None]).expand(_BATCH, -1, -1).clone(),
            "past": torch.randn(2 * lm.num_hidden_layers, _BATCH, heads, _CACHED, width),
        }
