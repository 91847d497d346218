"""The torch network behind a recommender.

Shapes: B histories, L items of a history, M items, D width of item vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from flr_model.arrays import Floats
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.history_encoders import HistoryBatch, TextTokens
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.reasoner import Thought
from flr_model.ranking.item_table import ItemTable
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.recommender import UserStates
from flr_model.titles.tokens import TitleTokenizer


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Switch dropout and running statistics off in the block."""
    were_training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, was_training in zip(modules, were_training, strict=True):
            module.train(was_training)


class TorchReader:
    """Read histories with torch (see `flr_model.ranking.recommender.Reader`).

    Args:
        model: from histories to thoughts.
        decoder: from thoughts to queries.
        item_encoder: for titles that are not in the catalogue; None where no such title comes.
        tokenizer: of titles.
    """

    def __init__(
        self,
        model: FactorizedModel,
        decoder: CatalogDecoder,
        item_encoder: ItemEncoder | None,
        tokenizer: TitleTokenizer,
    ) -> None:
        self.model = model
        self.decoder = decoder
        self.item_encoder = item_encoder
        self.tokenizer = tokenizer
        self._table: tuple[Floats, int, ItemTable] | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.token_norm.device

    def table(self, vectors: Floats, titles: Sequence[str]) -> ItemTable:
        """Return what the network reads of a catalogue: (M, D) vectors and M titles, tokenized once a catalogue."""
        if self._table is None or self._table[0] is not vectors or self._table[1] != len(titles):
            text = self.model.encoder.text_of(titles, self.tokenizer)
            table = ItemTable(vectors, None if text is None else text.encode)
            self._table = vectors, len(titles), table
        return self._table[2]

    def batch(self, histories: PaddedHistories, items: ItemTable) -> HistoryBatch:
        """Turn B histories into tensors."""
        tensors = (torch.from_numpy(array).to(self.device) for array in items.inputs(histories).values())
        vectors, mask, lag, *text = tensors
        return HistoryBatch(vectors, mask, lag, TextTokens(*text) if text else None)

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles.

        Raises:
            ValueError: if this network was made without an item encoder.
        """
        if self.item_encoder is None:
            raise ValueError("this network has no item encoder")
        return self.item_encoder.encode_titles(titles)

    @torch.no_grad()
    def read(self, histories: PaddedHistories, vectors: Floats, titles: Sequence[str]) -> UserStates:
        """Read B histories."""
        with eval_mode(self.model, self.decoder):
            return self.states(self.model.read(self.batch(histories, self.table(vectors, titles))))

    def states(self, reading: Reading) -> UserStates:
        """Return what a reading of B histories says of their users."""
        return UserStates(*map(to_numpy, (self.decoder(reading), *shown(reading.thought))))


def shown(thought: Thought) -> tuple[torch.Tensor, ...]:
    """Return what is shown of a thought: gates, attention, weights and factors (see `UserStates`)."""
    return thought.gates, thought.attention, thought.log_weights.exp(), thought.factors


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return a tensor of floats as an array in fp32."""
    array: npt.NDArray[Any] = tensor.float().cpu().numpy()
    return array
