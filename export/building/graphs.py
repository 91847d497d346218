"""What is exported: two modules with named outputs, and Optimum's declarations of their inputs, outputs and axes.

Shapes: B users, L history columns, S tokens, n titles, K factors, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from optimum.exporters.onnx import OnnxConfig
from optimum.utils import NormalizedConfig
from torch import Tensor, nn

from flr_model.data.histories import PAD
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.model import FactorizedModel, HistoryBatch, Reading

Axes = Mapping[str, dict[int, str]]

_BATCH, _HISTORY, _TOKENS, _REAL = 3, 5, 7, 4
"""Sizes to trace with, and how many places of the first row are no padding; any above 1 give the same graph."""


class ReaderModule(nn.Module):
    """Histories to user states: what `flr_model.ranking.recommender.Reader.read` promises, as tensors.

    Args:
        model: the network.
    """

    def __init__(self, model: FactorizedModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.encoder.trunk.lm.config  # Optimum looks for it

    def forward(
        self,
        item_vectors: Tensor,
        history_mask: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_slot: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Read (B, L, D) vectors with a (B, L) mask; for `text` also (B, S) tokens, mask and history columns.

        Returns:
            queries (B, K, D), gates (B, K), attention (B, K, L), factors (B, K, d).
        """
        reading = self.model.read(HistoryBatch(item_vectors, history_mask, input_ids, attention_mask, token_slot))
        return self.outputs(reading)

    def outputs(self, reading: Reading) -> dict[str, Tensor]:
        """Return the graph's outputs by name."""
        return {
            "queries": self.model.queries(reading),
            "gates": reading.thought.gates,
            "attention": reading.attention,
            "factors": reading.thought.factors,
        }


class ItemEncoderModule(nn.Module):
    """Titles to item vectors.

    Args:
        encoder: the item encoder.
    """

    def __init__(self, encoder: ItemEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.lm.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the (n, D) vectors of titles (n, S)."""
        return {"item_vectors": self.encoder(input_ids, attention_mask)}


class DeclaredConfig(OnnxConfig):  # type: ignore[misc]
    """A declaration that makes its own dummy inputs."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig
    declared_inputs: ClassVar[Axes]
    declared_outputs: ClassVar[Axes]

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """The dynamic axes of each input."""
        return dict(self.declared_inputs)

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """The dynamic axes of each output."""
        return dict(self.declared_outputs)

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Any]:
        """Make inputs to trace with; no axis has length 1, which a tracer would take for a constant."""
        tensors = self.dummy_tensors()
        return tensors if framework == "pt" else {name: tensor.numpy() for name, tensor in tensors.items()}

    @abstractmethod
    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return one tensor per input."""


class ItemsReaderConfig(DeclaredConfig):
    """The reader of the `items` encoding.

    Args:
        config: of the backbone.
        embedding_size: D.
    """

    declared_inputs: ClassVar[Axes] = {
        "item_vectors": {0: "batch", 1: "history"},
        "history_mask": {0: "batch", 1: "history"},
    }
    declared_outputs: ClassVar[Axes] = {
        "queries": {0: "batch"},
        "gates": {0: "batch"},
        "attention": {0: "batch", 2: "history"},
        "factors": {0: "batch"},
    }

    def __init__(self, config: Any, embedding_size: int) -> None:
        super().__init__(config, task="feature-extraction")
        self.embedding_size = embedding_size

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return vectors and mask, the first row padded on the left."""
        mask = torch.ones(_BATCH, _HISTORY, dtype=torch.int64)
        mask[0, : _HISTORY - _REAL] = 0
        vectors = torch.randn(_BATCH, _HISTORY, self.embedding_size) * mask[..., None]
        return {"item_vectors": vectors, "history_mask": mask}


class TextReaderConfig(ItemsReaderConfig):
    """The reader of the `text` encoding: the items' vectors and the titles' tokens."""

    declared_inputs: ClassVar[Axes] = {
        **ItemsReaderConfig.declared_inputs,
        "input_ids": {0: "batch", 1: "tokens"},
        "attention_mask": {0: "batch", 1: "tokens"},
        "token_slot": {0: "batch", 1: "tokens"},
    }

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return also tokens, the first row padded on the left."""
        mask = torch.ones(_BATCH, _TOKENS, dtype=torch.int64)
        mask[0, : _TOKENS - _REAL] = 0
        slot = torch.arange(_TOKENS).clamp(max=_HISTORY - 1).expand(_BATCH, -1)
        tokens = {
            "input_ids": _token_ids(self) * mask,
            "attention_mask": mask,
            "token_slot": slot.where(mask > 0, PAD),
        }
        return super().dummy_tensors() | tokens


class ItemEncoderConfig(DeclaredConfig):
    """The item encoder.

    Args:
        config: of the language model that makes the item vectors.
    """

    declared_inputs: ClassVar[Axes] = {
        "input_ids": {0: "titles", 1: "tokens"},
        "attention_mask": {0: "titles", 1: "tokens"},
    }
    declared_outputs: ClassVar[Axes] = {"item_vectors": {0: "titles"}}

    def __init__(self, config: Any) -> None:
        super().__init__(config, task="feature-extraction")

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return tokens, the first title padded on the right."""
        mask = torch.ones(_BATCH, _TOKENS, dtype=torch.int64)
        mask[0, _REAL:] = 0
        return {"input_ids": _token_ids(self) * mask, "attention_mask": mask}


def _token_ids(declaration: OnnxConfig) -> Tensor:
    """(B, S) tokens of the vocabulary."""
    vocabulary: int = declaration._config.vocab_size
    return torch.arange(_BATCH * _TOKENS).view(_BATCH, _TOKENS) % vocabulary
