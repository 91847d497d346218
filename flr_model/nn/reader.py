"""The torch network behind a `Recommender`.

Shapes: B histories, L items of a history, M items, D width of item vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from flr_model.config import ModelConfig
from flr_model.data.histories import PAD
from flr_model.nn.item_encoder import TOKENS_PER_BATCH, ItemEncoder
from flr_model.nn.model import FactorizedModel, HistoryBatch
from flr_model.ranking.recommender import UserStates
from flr_model.titles.tokens import TextHistories, TitleTokenizer

Floats = npt.NDArray[np.float32]


class TorchReader:
    """Read histories with torch (see `flr_model.ranking.recommender.Reader`).

    Args:
        model: the network.
        item_encoder: for titles that are not in the catalogue; None where no such title comes.
        tokenizer: of titles.
        config: shape of the model.
    """

    def __init__(
        self, model: FactorizedModel, item_encoder: ItemEncoder | None, tokenizer: TitleTokenizer, config: ModelConfig
    ) -> None:
        self.model = model
        self.item_encoder = item_encoder
        self.tokenizer = tokenizer
        self.config = config
        self._text: tuple[int, TextHistories] | None = None

    @torch.no_grad()
    def read(self, histories: npt.NDArray[np.int64], vectors: Floats, titles: Sequence[str]) -> UserStates:
        """Read B histories (B, L), padded on the left with PAD."""
        with self.still():
            reading = self.model.read(self.batch(histories, vectors, titles))
            queries = self.model.queries(reading)
        thought = reading.thought
        outputs = (queries, thought.gates, reading.attention, thought.factors)
        return UserStates(*[tensor.float().cpu().numpy() for tensor in outputs])

    @contextmanager
    def still(self) -> Iterator[None]:
        """Keep dropout and statistics from running in the block."""
        was_training = self.model.training
        self.model.eval()
        yield
        self.model.train(was_training)

    def batch(self, histories: npt.NDArray[np.int64], vectors: Floats, titles: Sequence[str]) -> HistoryBatch:
        """Turn B histories (B, L) into tensors."""
        gathered = np.where((histories != PAD)[..., None], vectors[np.maximum(histories, 0)], 0).astype(np.float32)
        parts = [gathered, (histories != PAD).astype(np.int64), *self._tokens(histories, titles)]
        return HistoryBatch(*[torch.from_numpy(part).to(self.model.token_length.device) for part in parts])

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles.

        Raises:
            ValueError: if this reader was made without an item encoder.
        """
        if self.item_encoder is None:
            raise ValueError("this reader has no item encoder")
        out = np.zeros((len(titles), len(self.item_encoder.scale)), np.float32)
        device = self.item_encoder.scale.device
        with torch.no_grad():
            for index, input_ids, mask in self.tokenizer.batches(titles, TOKENS_PER_BATCH):
                parts = [torch.from_numpy(part).to(device) for part in (input_ids, mask)]
                out[index] = self.item_encoder(*parts).cpu().numpy()
        return out

    def _tokens(self, histories: npt.NDArray[np.int64], titles: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """The three token arrays of the `text` encoding, none for `items`; titles are tokenized once a catalogue."""
        if self.config.encoding != "text":
            return []
        if self._text is None or self._text[0] != len(titles):
            tokens = self.tokenizer.encode(titles)
            self._text = len(titles), TextHistories(tokens, self.tokenizer.separator, self.config.max_tokens)
        text = self._text[1].encode(histories)
        return [text.input_ids, text.attention_mask, text.token_slot]
