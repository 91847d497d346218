"""What becomes of a thought: the base of the two heads.

`flr_model.nn.catalog_head.CatalogHead` scores the items of a catalogue; `flr_model.nn.title_head.TitleHead` does so
too, and has a language model that writes titles besides. Only builders ask which one it is.

Shapes: B users, G thoughts a user, M items, L history items, d width of the backbone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from flr_model.arrays import Floats
from flr_model.config import ModelConfig, TrainConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.nn.catalog_decoder import NextItemHead
from flr_model.nn.evidence_head import EvidenceBatch, EvidenceHead
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.parameter_groups import Groups
from flr_model.nn.sampled_softmax import Softmax
from flr_model.nn.title_writer import TitleWriter
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.pair_events import PairEvents
from flr_model.ranking.recommender import Recommender
from flr_model.titles.tokens import TitleTokenizer


class Targets(NamedTuple):
    """What a head needs of B rows beside their histories.

    item: (B,) positions of the true next items. evidence: of the rows.
    """

    item: Tensor
    evidence: EvidenceBatch


@dataclass(frozen=True)
class RankingParts:
    """The present state of everything that ranks.

    Args:
        model: from histories to thoughts.
        item_encoder: for titles that are not in the catalogue; None where no such title comes.
        tokenizer: of titles.
        config: shape of the model.
        catalog: M items.
        vectors: (M, D) item vectors.
        evidence: baked.
    """

    model: FactorizedModel
    item_encoder: ItemEncoder | None
    tokenizer: TitleTokenizer
    config: ModelConfig
    catalog: Catalog
    vectors: Floats
    evidence: Evidence


class Head(nn.Module, ABC):
    """Turns thoughts into recommendations, and into what training needs."""

    rewards: ClassVar[tuple[str, ...]]
    """What alignment can reward a thought for, the default first."""

    policies: ClassVar[tuple[str, ...]]
    """What alignment can move, the default first: the thought, or the gates of the factors."""

    writer: TitleWriter | None
    """The language model that writes titles, if there is one."""

    evidence: EvidenceHead
    """Weights of the pair counts."""

    softmax: Softmax
    """Among which items a target competes; set by `attach`."""

    def attach(self, catalog: Catalog, tokenizer: TitleTokenizer, events: PairEvents, train: TrainConfig) -> None:
        """Take what training needs of a catalogue and of its training rows.

        Args:
            catalog: M items.
            tokenizer: of their titles.
            events: pairs of the training rows.
            train: settings of the loss.
        """
        self.evidence.attach(events)
        self.softmax = Softmax(train.full_softmax_items, train.negatives)

    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Prepare for a catalogue, given (M, D) item vectors and (M, d) mean input embeddings of its titles."""

    def encode(self, rows: HistoryRows, *, training: bool) -> Targets:
        """Return what the loss needs of rows; ``training`` takes the own users' events out of the evidence."""
        return Targets(torch.from_numpy(rows.target), self.evidence.encode(rows, leave_out_own=training))

    @abstractmethod
    def set_next_item_head(self, learned: NextItemHead, weight: float) -> None:
        """Add what the trunk learned on sequences to the scores of items."""

    def read_files(self, run: Path, n_items: int) -> None:
        """Take what `write_files` wrote into a run of ``n_items`` items.

        Raises:
            ArtifactError: if that cannot be read, or is of other items.
        """

    def write_files(self, run: Path) -> None:
        """Write what a run holds beside the weights."""

    @abstractmethod
    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""

    @abstractmethod
    def loss_terms(
        self, model: FactorizedModel, items: ItemVectors, reading: Reading, targets: Targets
    ) -> dict[str, Tensor]:
        """Return the terms of supervised fine-tuning that say how likely the targets are, by name, () each."""

    @abstractmethod
    def reward(
        self,
        name: str,
        model: FactorizedModel,
        items: ItemVectors,
        reading: Reading,
        thoughts: Tensor,
        targets: Targets,
    ) -> Tensor:
        """Return the (B, G) rewards of thoughts (B, G, d) in place of the reading's own.

        Args:
            name: one of `rewards`.
            model: that read.
            items: vectors of the catalogue.
            reading: of B users.
            thoughts: (B, G, d).
            targets: of the rows.
        """

    @abstractmethod
    def factor_rewards(self, name: str, items: ItemVectors, reading: Reading, targets: Targets) -> Tensor:
        """Return the (B, K) rewards that each factor would have alone."""

    @abstractmethod
    def factors_recommender(self, parts: RankingParts) -> Recommender:
        """Return what ranks by the factors alone, with the present state; it shares the network."""

    @abstractmethod
    def recommender(self, parts: RankingParts) -> Recommender:
        """Return what ranks with the present state; it shares the network."""
