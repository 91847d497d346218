"""How the backbone reads a history: one position per item, or the titles as text.

A `HistoryEncoder` owns all that differs between the two. Both return states over positions, the item each position
belongs to, and the way to go on with a latent token.
Shapes: B batch, L items of a history, S positions read, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from flr_model.errors import ConfigError
from flr_model.nn.backbone import Past, Trunk
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.titles.tokens import TextHistories, TitleTokenizer


class TextTokens(NamedTuple):
    """Histories as text, padded on the left.

    input_ids, mask: (B, S) tokens, 1 where real. slot: (B, S) the history column of each token, PAD at padding.
    """

    input_ids: Tensor
    mask: Tensor
    slot: Tensor


class HistoryInputs(NamedTuple):
    """Histories before their vectors are looked up.

    items: (B, L) positions in the catalogue, padded on the left with PAD. lag: (B, L) bucket of each item's time before
    the newest. text: only for the `text` encoding.
    """

    items: Tensor
    lag: Tensor
    text: TextTokens | None = None


class HistoryBatch(NamedTuple):
    """A batch of histories as the model reads it, padded on the left.

    vectors: (B, L, D) item vectors, zero at padding. mask: (B, L) 1 where an item is. lag: (B, L) bucket of each item's
    time before the newest. text: only for the `text` encoding.
    """

    vectors: Tensor
    mask: Tensor
    lag: Tensor
    text: TextTokens | None = None


class EmbeddedHistory(NamedTuple):
    """What the backbone reads of a history.

    embeddings: (B, S, d). mask: (B, S) 1 where real. slot: (B, S) column of the item, 0 <= slot < L.
    """

    embeddings: Tensor
    mask: Tensor
    slot: Tensor


class EncodedHistory(NamedTuple):
    """What the backbone made of a history.

    states: (B, S, d). mask: (B, S) 1 where real. slot: (B, S) column of the item, 0 <= slot < L.
    past: cached keys and values of all positions, None if none were asked for.
    """

    states: Tensor
    mask: Tensor
    slot: Tensor
    past: Past | None


class HistoryEncoder(nn.Module, ABC):
    """Reads histories with the backbone.

    Args:
        trunk: the backbone.
    """

    item_positions: ClassVar[bool]
    """Whether a position is an item: the backbone can learn on whole sequences, and states of rows can be kept."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return self.trunk.parameter_groups()

    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Prepare for a catalogue, given (M, D) item vectors and (M, d) mean input embeddings of its titles."""

    def text_of(self, titles: Sequence[str], tokenizer: TitleTokenizer) -> TextHistories | None:
        """Return what turns histories of a catalogue's items into tokens; None where no text is read."""
        return None

    @abstractmethod
    def embed_items(self, vectors: Tensor) -> Tensor:
        """Return the (..., d) input embeddings of items (..., D).

        Raises:
            ConfigError: if the encoding gives items no position of their own.
        """

    @abstractmethod
    def embed(self, batch: HistoryBatch) -> EmbeddedHistory:
        """Return the input embeddings of a batch."""

    @abstractmethod
    def states_per_item(self, encoded: EncodedHistory, mask: Tensor) -> Tensor:
        """Return the (B, L, d) state of each item for a (B, L) mask of items."""

    @abstractmethod
    def positions(self, inputs: HistoryInputs) -> Tensor:
        """Return (B, S) what stands at each position that is read: an item, or a token."""

    @abstractmethod
    def describe(self, inputs: HistoryInputs, titles: Sequence[str]) -> list[str]:
        """Write each of B histories for a person, as it is read."""

    def forward(self, batch: HistoryBatch, *, keep: bool) -> EncodedHistory:
        """Read a batch; with ``keep`` also keys and values for a later call."""
        history = self.embed(batch)
        states, past = self.trunk.read_by_length(history.embeddings, history.mask, keep=keep)
        return EncodedHistory(states, history.mask, history.slot, past)


def ridge(vectors: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (d, D) matrix and the (d,) offset of the ridge regression of embeddings (M, d) on vectors (M, D)."""
    inputs, outputs = vectors.double(), embeddings.double()
    mean = outputs.mean(0)
    gram = inputs.T @ inputs + 0.1 * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return torch.linalg.solve(gram, inputs.T @ (outputs - mean)).T.float(), mean.float()


class ItemsEncoder(HistoryEncoder):
    """One position per item: the item's vector, mapped to an input embedding.

    Args:
        trunk: the backbone.
        embedding_size: D.
    """

    item_positions = True

    def __init__(self, trunk: Trunk, embedding_size: int) -> None:
        super().__init__(trunk)
        self.projection = nn.Linear(embedding_size, trunk.width)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter; the projection's offset learns as its matrix does."""
        return join_groups(super().parameter_groups(), {"projection": list(self.projection.parameters())})

    @torch.no_grad()
    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Start with ridge regression of the title's mean token embedding, where the backbone can read it.

        Args:
            vectors: (M, D) item vectors.
            embeddings: (M, d) mean input embeddings of the items' titles.
        """
        weight, offset = ridge(vectors, embeddings)
        self.projection.weight.copy_(weight)
        self.projection.bias.copy_(offset)

    def embed_items(self, vectors: Tensor) -> Tensor:
        """Return the (..., d) input embeddings of items (..., D)."""
        return self.projection(vectors)  # type: ignore[no-any-return]

    def embed(self, batch: HistoryBatch) -> EmbeddedHistory:
        """Return the mapped vectors; no gradient flows into the vectors from here."""
        slot = torch.arange(batch.mask.shape[1], device=batch.mask.device).expand_as(batch.mask)
        return EmbeddedHistory(self.embed_items(batch.vectors.detach()), batch.mask, slot)

    def states_per_item(self, encoded: EncodedHistory, mask: Tensor) -> Tensor:
        """Return the states as they are."""
        return encoded.states

    def positions(self, inputs: HistoryInputs) -> Tensor:
        """Return the (B, L) items."""
        return inputs.items

    def describe(self, inputs: HistoryInputs, titles: Sequence[str]) -> list[str]:
        """Write the titles of the items."""
        return [" | ".join(titles[item] for item in row if item >= 0) for row in inputs.items.tolist()]


class TextEncoder(HistoryEncoder):
    """The titles as text, oldest first.

    Args:
        trunk: the backbone.
        max_tokens: of a history.
    """

    item_positions = False

    def __init__(self, trunk: Trunk, max_tokens: int) -> None:
        super().__init__(trunk)
        self.max_tokens = max_tokens

    def text_of(self, titles: Sequence[str], tokenizer: TitleTokenizer) -> TextHistories:
        """Return what turns histories of a catalogue's items into tokens."""
        return TextHistories(tokenizer.encode(titles), tokenizer.separator, self.max_tokens)

    def embed_items(self, vectors: Tensor) -> Tensor:
        """Refuse: an item has no position of its own."""
        raise ConfigError("--tuning sequences needs --encoding items")

    def embed(self, batch: HistoryBatch) -> EmbeddedHistory:
        """Return the embeddings of the tokens."""
        text = _text(batch)
        return EmbeddedHistory(self.trunk.embed(text.input_ids), text.mask, text.slot.clamp(min=0))

    def states_per_item(self, encoded: EncodedHistory, mask: Tensor) -> Tensor:
        """Return the mean state of each item's tokens; zero where none of them is read."""
        columns = torch.arange(mask.shape[1], device=mask.device)
        belongs = (encoded.slot[..., None] == columns).to(encoded.states.dtype) * encoded.mask[..., None]  # (B, S, L)
        totals: Tensor = belongs.transpose(1, 2) @ encoded.states
        return totals / belongs.sum(1).clamp(min=1)[..., None]

    def positions(self, inputs: HistoryInputs) -> Tensor:
        """Return the (B, S) tokens."""
        return _text(inputs).input_ids

    def describe(self, inputs: HistoryInputs, titles: Sequence[str]) -> list[str]:
        """Write the numbers of the tokens."""
        return [" ".join(map(str, row)) for row in _text(inputs).input_ids.tolist()]


def _text(batch: HistoryBatch | HistoryInputs) -> TextTokens:
    assert batch.text is not None, "the text encoding reads tokens"
    return batch.text
