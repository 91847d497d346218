"""The trainable recommender: model, item vectors and evidence, over the rows of a catalogue.

Shapes: B batch, M items, L history positions, K factors, D width of item vectors, N candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.config import ModelConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ConfigError
from flr_model.nn.evidence_head import EvidenceBatch, EvidenceHead
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.model import FactorizedModel, HistoryBatch, Reading
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.reader import TorchReader
from flr_model.nn.title_decoder import TitleBatch
from flr_model.nn.title_reader import TorchWriter
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.recommender import Recommender
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.tokens import TextHistories, TitleTokenizer
from flr_model.titles.tree import TitleTree

RESIDUAL_PRIOR = 20.0
"""Interactions at which an item's learned residual counts half."""

RESIDUAL_LIMIT = 200_000
"""Largest catalogue whose items have residuals: they and their optimiser's state are four times the item vectors."""

Batch = dict[str, Tensor]
"""histories (B, L), target (B,), recent, own, own_target, seen (see `EvidenceBatch`); for `text` input_ids, token_mask,
token_slot (B, S); for `title` while training title_tokens, title_choice, title_option (see `TitleBatch`): plain
tensors, so that any data loader can move them."""


class TrainableRecommender(nn.Module):
    """What learns, whole: it encodes rows, scores catalogues, and becomes a `Recommender`.

    Args:
        config: shape of the model.
        catalog: M items.
        model: the network.
        unit_vectors: (M, D) whitened item vectors before the learned scale.
        evidence: the counted pairs of the training rows with their weights.
        tokenizer: of titles.
    """

    unit_vectors: Tensor
    trust: Tensor

    def __init__(
        self,
        config: ModelConfig,
        catalog: Catalog,
        model: FactorizedModel,
        unit_vectors: Tensor,
        evidence: EvidenceHead,
        tokenizer: TitleTokenizer,
    ) -> None:
        super().__init__()
        self.config = config
        self.catalog = catalog
        self.model = model
        self.evidence = evidence
        self.tokenizer = tokenizer
        padded = torch.cat([unit_vectors, torch.zeros(1, unit_vectors.shape[1])])  # the last row stands for padding
        self.register_buffer("unit_vectors", padded, persistent=False)
        self.item_scale = nn.Parameter(torch.ones(unit_vectors.shape[1]))
        writes = config.decoder == "title"
        self.item_scale.requires_grad_(not writes)  # it would learn through scores of items, which `title` has not
        small = len(catalog) <= RESIDUAL_LIMIT and not writes
        self.item_residual = nn.Parameter(torch.zeros_like(padded)) if small else None
        degree = F.pad(torch.from_numpy(evidence.events.degree).float(), (0, 1))
        self.register_buffer("trust", (degree / (degree + RESIDUAL_PRIOR))[:, None], persistent=False)
        self.text = text_histories(config, tokenizer, catalog.titles.tolist())
        self.tree: TitleTree | None = None
        if writes:
            end = end_token(model.encoder.trunk.lm.config)
            self.tree = TitleTree.build(tokenizer.encode(catalog.titles.tolist()), evidence.events.degree, end)
        self.whole_vocabulary = False
        """Whether a title's tokens compete with all tokens, so that those without an alternative count too."""

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        residuals = [] if self.item_residual is None else [self.item_residual]
        own: Groups = {"item_maps": [self.item_scale], "item_residuals": residuals}
        return join_groups(self.model.parameter_groups(), self.evidence.parameter_groups(), own)

    def encode(self, rows: HistoryRows, *, training: bool) -> Batch:
        """Turn rows into a batch; ``training`` takes the own users' events out of the evidence and adds the titles."""
        length = self.config.max_history
        if self.tree is not None:  # nothing keeps states of several batches, so each may be as narrow as it can
            length = min(length, max(int(rows.lengths.max(initial=0)), 1))
        histories = rows.padded(length)
        evidence = self.evidence.encode(rows, leave_out_own=training)
        batch = {
            "histories": torch.from_numpy(histories),
            "target": torch.from_numpy(rows.target),
            "recent": evidence.recent,
            "own": evidence.own,
            "own_target": evidence.target,
            "seen": evidence.seen,
        }
        if self.text is not None:
            text = self.text.encode(histories)
            batch |= {
                "input_ids": torch.from_numpy(text.input_ids),
                "token_mask": torch.from_numpy(text.attention_mask),
                "token_slot": torch.from_numpy(text.token_slot),
            }
        if self.tree is not None and training:
            choices = self.tree.choices(self.tree.title_of[rows.target], forced=self.whole_vocabulary)
            batch |= {f"title_{name}": part for name, part in TitleBatch.of(choices)._asdict().items()}
        return batch

    def item_vectors(self, index: Tensor | None = None) -> Tensor:
        """Return the (..., D) vectors of items, without an index those of the whole catalogue (M, D).

        The title's vector is scaled, and moved by a residual as far as an item has interactions to learn it from.
        """
        chosen: Any = slice(len(self.catalog)) if index is None else index
        vectors = self.unit_vectors[chosen] * self.item_scale
        return vectors if self.item_residual is None else vectors + self.trust[chosen] * self.item_residual[chosen]

    def read(self, batch: Batch) -> Reading:
        """Run the network over a batch."""
        return self.model.read(self.history_batch(batch))

    def history_vectors(self, histories: Tensor) -> Tensor:
        """Return the (B, L, D) vectors of histories (B, L), zero at padding."""
        return self.item_vectors(histories.where(histories != PAD, len(self.unit_vectors) - 1))

    def history_batch(self, batch: Batch) -> HistoryBatch:
        """Look up the vectors of a batch's histories."""
        histories = batch["histories"]
        vectors = self.history_vectors(histories)
        mask = (histories != PAD).long()
        if self.text is None:
            return HistoryBatch(vectors, mask)
        return HistoryBatch(vectors, mask, batch["input_ids"], batch["token_mask"], batch["token_slot"])

    def evidence_scores(self, batch: Batch, candidates: Tensor | None = None) -> Tensor:
        """Return the (B, N) evidence of candidates, or of all items."""
        parts = EvidenceBatch(batch["recent"], batch["own"], batch["own_target"], batch["seen"])
        return self.evidence(parts, candidates)  # type: ignore[no-any-return]

    def recommender(self) -> Recommender:
        """Return the present state for ranking; it shares the network and keeps a copy of vectors and evidence."""
        vectors = self.item_vectors().detach().float().cpu().numpy()
        return ranking_with(
            self.model, None, self.tokenizer, self.config, self.catalog, vectors, self.evidence.bake(), self.tree
        )


def ranking_with(
    model: FactorizedModel,
    item_encoder: ItemEncoder | None,
    tokenizer: TitleTokenizer,
    config: ModelConfig,
    catalog: Catalog,
    vectors: npt.NDArray[np.float32],
    evidence: Evidence,
    tree: TitleTree | None,
) -> Recommender:
    """Put torch behind a recommender; with a tree, one that writes titles."""
    if tree is None:
        reader = TorchReader(model, item_encoder, tokenizer, config)
        return CatalogRecommender(reader, catalog, vectors, evidence, max_history=config.max_history)
    writer = TorchWriter(model, item_encoder, tokenizer, config)
    return TitleRecommender(writer, catalog, vectors, evidence, tree, config)


def end_token(lm_config: Any) -> int:
    """Return the token that ends a text of a language model; the first where there are several.

    Raises:
        ConfigError: if the model's configuration names none.
    """
    end = lm_config.eos_token_id
    end = end[0] if isinstance(end, (list, tuple)) else end
    if end is None:
        raise ConfigError("--decoder title needs a backbone whose config.json names an eos_token_id")
    return int(end)


def text_histories(config: ModelConfig, tokenizer: TitleTokenizer, titles: Sequence[str]) -> TextHistories | None:
    """Return what turns histories into tokens, None for the `items` encoding."""
    if config.encoding != "text":
        return None
    return TextHistories(tokenizer.encode(titles), tokenizer.separator, config.max_tokens)
