"""What is exported of the `title` decoder: the prompt's graph and the graph of one step, and their declarations.

Keys and values of all layers go in and out as one tensor, keys and values of the first layer first.

Shapes: B users, L history columns, P places of the prompt, S new and C cached places, d width of the backbone,
A twice the number of layers, H heads of keys and values, h their width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flr_export.building.graphs import READER_OUTPUTS, Axes, DeclaredConfig, ReaderModule
from flr_model.nn.backbone import Past, Trunk
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.title_decoder import TitleDecoder

_BATCH, _CACHED, _NEW = 3, 5, 4

PROMPT_OUTPUTS: Axes = {
    **READER_OUTPUTS,
    "state": {0: "batch"},
    "past_mask": {0: "batch", 1: "places"},
    "past": {1: "batch", 3: "places"},
}


class PromptModule(ReaderModule):
    """Histories to everything that writing starts from: what `flr_model.titles.search.TitleReader.prompt` promises.

    Args:
        model: from histories to thoughts.
        decoder: from thoughts to queries.
        title_decoder: from thoughts to titles.
    """

    def __init__(self, model: FactorizedModel, decoder: CatalogDecoder, title_decoder: TitleDecoder) -> None:
        super().__init__(model, decoder)
        self.title_decoder = title_decoder

    def outputs(self, reading: Reading) -> dict[str, Tensor]:
        """Return what a reader does, state (B, d), past_mask (B, P) and past (A, B, H, P, h)."""
        state, mask, past = self.title_decoder.end_prompt(self.model, reading)
        return {**super().outputs(reading), "state": state, "past_mask": mask, "past": _stack(past)}


class StepModule(nn.Module):
    """New tokens behind cached places: what `flr_model.titles.search.TitleReader.extend` promises.

    Args:
        trunk: the backbone.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = trunk.lm.config

    def forward(self, input_ids: Tensor, position_ids: Tensor, seen: Tensor, past: Tensor) -> dict[str, Tensor]:
        """Read (B, S) tokens, each seeing what (B, S, C + S) says, behind (A, B, H, C, h) keys and values.

        Returns:
            states (B, S, d), present (A, B, H, C + S, h).
        """
        parts = past.unbind(0)
        pairs = tuple(zip(parts[::2], parts[1::2], strict=True))
        states, present = self.trunk.extend(self.trunk.embed(input_ids), position_ids, seen, pairs)
        return {"states": states, "present": _stack(present)}


class StepConfig(DeclaredConfig):
    """The graph of one step.

    Args:
        config: of the backbone.
    """

    def __init__(self, config: Any) -> None:
        inputs = {
            "input_ids": {0: "batch", 1: "new"},
            "position_ids": {0: "batch", 1: "new"},
            "seen": {0: "batch", 1: "new", 2: "places"},
            "past": {1: "batch", 3: "cached"},
        }
        super().__init__(config, inputs, {"states": {0: "batch", 1: "new"}, "present": {1: "batch", 3: "places"}})

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return a step of a few tokens that see all before them."""
        lm = self._config
        width = getattr(lm, "head_dim", None) or lm.hidden_size // lm.num_attention_heads
        heads = getattr(lm, "num_key_value_heads", None) or lm.num_attention_heads
        places = torch.arange(_CACHED + _NEW)
        return {
            "input_ids": torch.arange(_BATCH * _NEW).view(_BATCH, _NEW) % lm.vocab_size,
            "position_ids": places[_CACHED:].expand(_BATCH, -1).clone(),
            "seen": (places <= places[_CACHED:, None]).expand(_BATCH, -1, -1).clone(),
            "past": torch.randn(2 * lm.num_hidden_layers, _BATCH, heads, _CACHED, width),
        }


def _stack(past: Past) -> Tensor:
    """(A, B, H, P, h) of keys and values by layer."""
    return torch.stack([part for layer in past for part in layer])
