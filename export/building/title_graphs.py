"""What is exported of the `title` decoder: the prompt's graph and the graph of one step, and their declarations.

Keys and values of all layers go in and out as one tensor, keys and values of the first layer first.

Shapes: B users, L history columns, P places of the prompt, S new and C cached places, d width of the backbone,
A twice the number of layers, H heads of keys and values, h their width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from export.building.graphs import Axes, DeclaredConfig, ItemsReaderConfig, ReaderModule, TextReaderConfig
from flr_model.nn.backbone import Past, Trunk
from flr_model.nn.model import Reading

_BATCH, _CACHED, _NEW = 3, 5, 4

PROMPT_OUTPUTS: Axes = {
    "gates": {0: "batch"},
    "attention": {0: "batch", 2: "history"},
    "factors": {0: "batch"},
    "state": {0: "batch"},
    "past_mask": {0: "batch", 1: "places"},
    "past": {1: "batch", 3: "places"},
}


class PromptModule(ReaderModule):
    """Histories to everything that writing starts from: what `flr_model.titles.search.TitleReader.prompt` promises."""

    def outputs(self, reading: Reading) -> dict[str, Tensor]:
        """Return gates (B, K), attention (B, K, L), factors (B, K, d), state (B, d), past_mask (B, P) and past.

        ``past`` is (A, B, H, P, h).
        """
        state, mask, past = self.model.end_prompt(reading)
        parts = (reading.thought.gates, reading.attention, reading.thought.factors, state, mask, _stack(past))
        return dict(zip(PROMPT_OUTPUTS, parts, strict=True))


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


class ItemsPromptConfig(ItemsReaderConfig):
    """The prompt's graph for the `items` encoding."""

    declared_outputs: ClassVar[Axes] = PROMPT_OUTPUTS


class TextPromptConfig(TextReaderConfig):
    """The prompt's graph for the `text` encoding."""

    declared_outputs: ClassVar[Axes] = PROMPT_OUTPUTS


class StepConfig(DeclaredConfig):
    """The graph of one step.

    Args:
        config: of the backbone.
    """

    declared_inputs: ClassVar[Axes] = {
        "input_ids": {0: "batch", 1: "new"},
        "position_ids": {0: "batch", 1: "new"},
        "seen": {0: "batch", 1: "new", 2: "places"},
        "past": {1: "batch", 3: "cached"},
    }
    declared_outputs: ClassVar[Axes] = {"states": {0: "batch", 1: "new"}, "present": {1: "batch", 3: "places"}}

    def __init__(self, config: Any) -> None:
        super().__init__(config, task="feature-extraction")

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
