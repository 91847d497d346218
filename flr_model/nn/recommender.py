"""The trainable recommender: model, head and item vectors, over the rows of a catalogue.

Shapes: B batch, M items, L history positions, D width of item vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flr_model.config import ModelConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.nn.build import Network
from flr_model.nn.head import RankingParts, Targets
from flr_model.nn.history_encoders import HistoryBatch, HistoryInputs, TextTokens
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import Reading
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.recommender import Recommender
from flr_model.titles.tokens import TitleTokenizer


class Batch(NamedTuple):
    """B rows as tensors. numbers: (B,) of the rows among all that are trained on, where they have any."""

    inputs: HistoryInputs
    targets: Targets
    numbers: Tensor | None = None


class TrainableRecommender(nn.Module):
    """What learns, whole: it encodes rows, reads them, and becomes a `Recommender`.

    Args:
        config: shape of the model.
        catalog: M items.
        network: the model and its head, the training rows' events attached.
        unit_vectors: (M, D) whitened item vectors before the learned scale.
        tokenizer: of titles.
    """

    def __init__(
        self, config: ModelConfig, catalog: Catalog, network: Network, unit_vectors: Tensor, tokenizer: TitleTokenizer
    ) -> None:
        super().__init__()
        self.config = config
        self.catalog = catalog
        self.tokenizer = tokenizer
        self.model, self.head = network
        degree = self.head.evidence.events.degree
        self.items = ItemVectors(unit_vectors, degree)
        self._text = self.model.encoder.text_of(catalog.texts.tolist(), tokenizer)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.items.scale.device

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return join_groups(*(part.parameter_groups() for part in (self.items, self.model, self.head)))

    def encode(self, rows: HistoryRows, *, training: bool) -> Batch:
        """Turn rows into a batch; ``training`` takes the own users' events out of the evidence and adds the titles."""
        histories = PaddedHistories.of(rows, self.config.max_history, self.head.evidence.events.lag_bounds)
        text = None
        if self._text is not None:
            text = TextTokens(*map(torch.from_numpy, self._text.encode(histories.items)))
        items, lags = map(torch.from_numpy, histories)
        inputs = HistoryInputs(items, lags, text)
        return Batch(inputs, self.head.encode(rows, training=training))

    def history_batch(self, inputs: HistoryInputs) -> HistoryBatch:
        """Look up the vectors of a batch's histories."""
        mask = (inputs.items != PAD).long()
        return HistoryBatch(self.items.of_histories(inputs.items), mask, inputs.lag, inputs.text)

    def read(self, inputs: HistoryInputs) -> Reading:
        """Run the model over a batch of histories."""
        return self.model.read(self.history_batch(inputs))

    def recommender(self) -> Recommender:
        """Return the present state for ranking; it shares the network and keeps a copy of vectors and evidence."""
        return self.head.recommender(self._ranking_parts())

    def factors_recommender(self) -> Recommender:
        """Return the same, but for a writer of titles: the factors alone rank."""
        return self.head.factors_recommender(self._ranking_parts())

    def _ranking_parts(self) -> RankingParts:
        return RankingParts(
            model=self.model,
            item_encoder=None,
            tokenizer=self.tokenizer,
            config=self.config,
            catalog=self.catalog,
            vectors=self.items.frozen(),
            evidence=self.head.evidence.bake(),
        )
