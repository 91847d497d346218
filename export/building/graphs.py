"""What is exported: modules with named outputs, and Optimum's declarations of their inputs, outputs and axes.

Shapes: B users, L history columns, S tokens, n titles, K factors, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from optimum.exporters.onnx import OnnxConfig
from optimum.utils import NormalizedConfig
from torch import Tensor, nn

from flr_model.data.histories import PAD
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.history_encoders import HistoryBatch, TextTokens
from flr_model.nn.item_encoder import VectorPart
from flr_model.nn.model import FactorizedModel
from flr_model.nn.reader import shown

Axes = Mapping[str, dict[int, str]]

_BATCH, _HISTORY, _TOKENS, _REAL = 3, 5, 7, 4
"""Sizes to trace with, and how many places of the first row are no padding; any above 1 give the same graph."""


class ReaderModule(nn.Module):
    """Histories to user states: what `flr_model.ranking.recommender.Reader.read` promises, as named tensors.

    Args:
        model: from histories to thoughts.
        decoder: from thoughts to queries.
    """

    def __init__(self, model: FactorizedModel, decoder: CatalogDecoder) -> None:
        super().__init__()
        self.model = model
        self.decoder = decoder
        self.config = model.encoder.trunk.lm.config  # Optimum looks for it

    def forward(
        self,
        item_vectors: Tensor,
        history_mask: Tensor,
        history_lag: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_slot: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Read (B, L, D) vectors with (B, L) mask and lags; for `text` also (B, S) tokens, mask and history columns.

        Returns:
            queries (B, K, D), gates (B, K), attention and weights (B, K, L), factors (B, K, d).
        """
        text = None
        if input_ids is not None and attention_mask is not None and token_slot is not None:
            text = TextTokens(input_ids, attention_mask, token_slot)
        reading = self.model.read(HistoryBatch(item_vectors, history_mask, history_lag, text))
        return dict(zip(READER_OUTPUTS, (self.decoder(reading), *shown(reading.thought)), strict=True))


class ItemEncoderModule(nn.Module):
    """Titles to the columns of item vectors that come of one reader.

    Args:
        part: of the item encoder.
    """

    def __init__(self, part: VectorPart) -> None:
        super().__init__()
        self.part = part
        self.config = part.reader.lm.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the columns of the vectors of titles (n, S)."""
        return {"item_vectors": self.part(input_ids, attention_mask)}


class DeclaredConfig(OnnxConfig):  # type: ignore[misc]
    """A declaration that makes its own dummy inputs.

    Args:
        config: of the language model.
        inputs: the dynamic axes of each input.
        outputs: of each output.
    """

    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    def __init__(self, config: Any, inputs: Axes, outputs: Axes) -> None:
        self._axes = inputs, outputs
        super().__init__(config, task="feature-extraction")

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """The dynamic axes of each input."""
        return dict(self._axes[0])

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """The dynamic axes of each output."""
        return dict(self._axes[1])

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Any]:
        """Make inputs to trace with; no axis has length 1, which a tracer would take for a constant."""
        tensors = self.dummy_tensors()
        return tensors if framework == "pt" else {name: tensor.numpy() for name, tensor in tensors.items()}

    @abstractmethod
    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return one tensor per input."""


class ReaderInputs(ABC):
    """The inputs of the graph that reads histories.

    Args:
        embedding_size: D.
    """

    axes: ClassVar[Axes]

    def __init__(self, embedding_size: int) -> None:
        self.embedding_size = embedding_size

    @abstractmethod
    def dummies(self, vocabulary: int) -> dict[str, Tensor]:
        """Return one tensor per input, the first row padded on the left."""


class ItemsInputs(ReaderInputs):
    """Those of the `items` encoding: the vectors of the items."""

    axes: ClassVar[Axes] = {
        "item_vectors": {0: "batch", 1: "history"},
        "history_mask": {0: "batch", 1: "history"},
        "history_lag": {0: "batch", 1: "history"},
    }

    def dummies(self, vocabulary: int) -> dict[str, Tensor]:
        """Return vectors, mask and lags."""
        mask = torch.ones(_BATCH, _HISTORY, dtype=torch.int64)
        mask[0, : _HISTORY - _REAL] = 0
        vectors = torch.randn(_BATCH, _HISTORY, self.embedding_size) * mask[..., None]
        return {"item_vectors": vectors, "history_mask": mask, "history_lag": torch.zeros_like(mask)}


class TextInputs(ItemsInputs):
    """Those of the `text` encoding: also the tokens of the titles."""

    axes: ClassVar[Axes] = {
        **ItemsInputs.axes,
        "input_ids": {0: "batch", 1: "tokens"},
        "attention_mask": {0: "batch", 1: "tokens"},
        "token_slot": {0: "batch", 1: "tokens"},
    }

    def dummies(self, vocabulary: int) -> dict[str, Tensor]:
        """Return also tokens."""
        mask = torch.ones(_BATCH, _TOKENS, dtype=torch.int64)
        mask[0, : _TOKENS - _REAL] = 0
        slot = torch.arange(_TOKENS).clamp(max=_HISTORY - 1).expand(_BATCH, -1)
        tokens = {
            "input_ids": _token_ids(vocabulary) * mask,
            "attention_mask": mask,
            "token_slot": slot.where(mask > 0, PAD),
        }
        return super().dummies(vocabulary) | tokens


READER_OUTPUTS: Axes = {
    "queries": {0: "batch"},
    "gates": {0: "batch"},
    "attention": {0: "batch", 2: "history"},
    "weights": {0: "batch", 2: "history"},
    "factors": {0: "batch"},
}


class ReaderConfig(DeclaredConfig):
    """The graph that reads histories.

    Args:
        config: of the backbone.
        inputs: those of the encoding.
    """

    def __init__(self, config: Any, inputs: ReaderInputs) -> None:
        super().__init__(config, inputs.axes, READER_OUTPUTS)
        self._reader_inputs = inputs

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return one tensor per input."""
        return self._reader_inputs.dummies(self._config.vocab_size)


class ItemEncoderConfig(DeclaredConfig):
    """The item encoder.

    Args:
        config: of the language model that makes the item vectors.
    """

    def __init__(self, config: Any) -> None:
        titles = {0: "titles", 1: "tokens"}
        super().__init__(config, {"input_ids": titles, "attention_mask": titles}, {"item_vectors": {0: "titles"}})

    def dummy_tensors(self) -> dict[str, Tensor]:
        """Return tokens, the first title padded on the right."""
        mask = torch.ones(_BATCH, _TOKENS, dtype=torch.int64)
        mask[0, _REAL:] = 0
        return {"input_ids": _token_ids(self._config.vocab_size) * mask, "attention_mask": mask}


def _token_ids(vocabulary: int) -> Tensor:
    """(B, S) tokens of the vocabulary."""
    return torch.arange(_BATCH * _TOKENS).view(_BATCH, _TOKENS) % vocabulary
