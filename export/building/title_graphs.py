"""What is exported of the `title` decoder: the prompt's graph and the graph of one step, and their declarations.

Keys and values of all layers go in and out as one tensor, keys and values of the first layer first.

Shapes: B users, L history columns, P places of the prompt, S new and C cached places, d width of the backbone, D width
of item vectors, A twice the number of layers, H heads of keys and values, h their width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flr_export.building.graphs import Axes, DeclaredConfig, HistoryModule
from flr_model.nn.backbone import Past
from flr_model.nn.history_encoders import HistoryBatch
from flr_model.nn.title_writer import TitleWriter

_BATCH, _CACHED, _NEW, _LATENT = 3, 5, 6, 2

PROMPT_OUTPUTS: Axes = {"past_mask": {0: "batch", 1: "places"}, "past": {1: "batch", 3: "places"}}


class PromptModule(HistoryModule):
    """Histories to what writing starts from: what `flr_model.titles.search.TitleReader.prompt` promises.

    Args:
        writer: that reads the prompt.
    """

    def __init__(self, writer: TitleWriter) -> None:
        super().__init__()
        self.writer = writer
        self.config = writer.encoder.trunk.lm.config

    def outputs(self, batch: HistoryBatch) -> dict[str, Tensor]:
        """Return past_mask (B, P) and past (A, B, H, P, h)."""
        past, mask = self.writer.read(batch)
        return {"past_mask": mask, "past": _stack(past)}


class StepModule(nn.Module):
    """New places behind cached ones: what `flr_model.titles.search.TitleReader.extend` promises.

    Args:
        writer: that writes.
    """

    def __init__(self, writer: TitleWriter) -> None:
        super().__init__()
        self.writer = writer
        self.config = writer.encoder.trunk.lm.config

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, seen: Tensor, latent: Tensor, past: Tensor
    ) -> dict[str, Tensor]:
        """Read (B, N, D) latent vectors and (B, T) tokens behind (A, B, H, C, h) keys and values.

        Each of the S = N + T places sees what (B, S, C + S) says.

        Returns:
            states (B, S, d), present (A, B, H, C + S, h).
        """
        parts = past.unbind(0)
        pairs = tuple(zip(parts[::2], parts[1::2], strict=True))
        embeddings = self.writer.embed(latent, input_ids)
        states, present = self.writer.encoder.trunk.extend(embeddings, position_ids, seen, pairs)
        return {"states": states, "present": _stack(present)}


class StepConfig(DeclaredConfig):
    """The graph of one step.

    Args:
        config: of the backbone.
        embedding_size: D.
    """

    def __init__(self, config: Any, embedding_size: int) -> None:
        self._embedding_size = embedding_size
        inputs = {
            "input_ids": {0: "batch", 1: "tokens"},
            "position_ids": {0: "batch", 1: "new"},
            "seen": {0: "batch", 1: "new", 2: "places"},
            "latent": {0: "batch", 1: "latent"},
            "past": {1: "batch", 3: "cached"},
        }
        super().__init__(config, inputs, {"states": {0: "batch", 1: "new"}, "present": {1: "batch", 3: "places"}})

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return a step of a few places that see all before them."""
        lm = self._config
        width = getattr(lm, "head_dim", None) or lm.hidden_size // lm.num_attention_heads
        heads = getattr(lm, "num_key_value_heads", None) or lm.num_attention_heads
        places, n_tokens = torch.arange(_CACHED + _NEW), _NEW - _LATENT
        return {
            "input_ids": torch.arange(_BATCH * n_tokens).view(_BATCH, n_tokens) % lm.vocab_size,
            "position_ids": places[_CACHED:].expand(_BATCH, -1).clone(),
            "seen": (places <= places[_CACHED:, None]).expand(_BATCH, -1, -1).clone(),
            "latent": torch.randn(_BATCH, _LATENT, self._embedding_size),
            "past": torch.randn(2 * lm.num_hidden_layers, _BATCH, heads, _CACHED, width),
        }


def _stack(past: Past) -> Tensor:
    """(A, B, H, P, h) of keys and values by layer."""
    return torch.stack([part for layer in past for part in layer])
