"""The head that writes titles: a mixture of factors over the items, and a language model that writes what they expect.

Shapes: B users, G thoughts a user, k expected items, D width of item vectors, d width of the reading backbone.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from flr_model.artifacts import RUN, reading
from flr_model.config import TrainConfig
from flr_model.data.catalog import Catalog
from flr_model.errors import ArtifactError
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.catalog_head import CatalogHead
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.head import RankingParts, Targets
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.rewards import perplexity_reward
from flr_model.nn.title_reader import TorchWriter
from flr_model.nn.title_writer import TitleBatch, TitleWriter
from flr_model.ranking.pair_events import PairEvents
from flr_model.titles.latent import EXPECTED, SHARPNESS
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.tokens import TitleTokenizer
from flr_model.titles.tree import TitleTree

TITLE_TREE, WRITER = "title_tree.npz", "writer"
"""Of a run: the file with the prefix tree, and the folder of the language model that writes."""


class Expected(NamedTuple):
    """What the factors expect of B users: (B, k) items, (B, k) weights, rows sum to 1, and (B, D) mean vectors."""

    items: Tensor
    weights: Tensor
    vectors: Tensor


class TitleHead(CatalogHead):
    """Scores items as a `CatalogHead` and writes the next item's title (docs/method.md, "Title decoder").

    The factors learn to score items first, as without a writer; then the writer learns to write what they expect.

    Args:
        decoder: from a thought to K queries.
        evidence: weights of the pair counts, for K factors.
        writer: the language model that writes.
        end_token: of a title.
    """

    rewards = ("perplexity", *CatalogHead.rewards)
    policies = ("thought",)

    writer: TitleWriter
    tree: TitleTree
    """Of the catalogue's titles; set by `attach` or `read_files`."""

    def __init__(self, decoder: CatalogDecoder, evidence: EvidenceHead, writer: TitleWriter, *, end_token: int) -> None:
        super().__init__(decoder, evidence)
        self.writer = writer
        self.end_token = end_token

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return join_groups(super().parameter_groups(), self.writer.parameter_groups())

    def attach(self, catalog: Catalog, tokenizer: TitleTokenizer, events: PairEvents, train: TrainConfig) -> None:
        """Take what training needs (see `Head.attach`); the tree of an opened run stays, unless there are new items."""
        super().attach(catalog, tokenizer, events, train)
        if not hasattr(self, "tree") or len(self.tree.items) != len(catalog):
            self.tree = TitleTree.build(tokenizer.encode(catalog.texts.tolist()), events.degree, self.end_token)

    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Prepare the writer for a catalogue (see `Head.fit`)."""
        self.writer.fit(vectors, embeddings)

    def read_files(self, run: Path, n_items: int) -> None:
        """Read the tree of a run (see `Head.read_files`)."""
        with reading(run / TITLE_TREE, RUN.again):
            self.tree = TitleTree.read(run / TITLE_TREE)
        if len(self.tree.items) != n_items:
            raise ArtifactError(f"{run} has {n_items} items, but title tree of {len(self.tree.items)}", hint=RUN.again)

    def write_files(self, run: Path) -> None:
        """Write the tree and the language model into a run."""
        self.tree.write(run / TITLE_TREE)
        self.writer.encoder.trunk.lm.save_pretrained(run / WRITER)

    def titles_of(self, items: Tensor) -> TitleBatch:
        """Return the titles of items (n,), on their device."""
        title = self.tree.title_of[items.cpu().numpy()]
        titles = TitleBatch.of(self.tree.choices(title, forced=self.writer.whole_vocabulary))
        return TitleBatch(*(part.to(items.device) for part in titles))

    @torch.no_grad()
    def expect(self, items: ItemVectors, reading: Reading, targets: Targets) -> Expected:
        """Return what the factors expect, as `flr_model.titles.latent` does for ranking."""
        best = self.log_probabilities(items, reading, targets).topk(min(EXPECTED, len(items)))
        weights = (SHARPNESS * best.values).softmax(-1)
        return Expected(best.indices, weights, torch.einsum("bk,bkd->bd", weights, items()[best.indices]))

    def reward(
        self,
        name: str,
        model: FactorizedModel,
        items: ItemVectors,
        reading: Reading,
        thoughts: Tensor,
        targets: Targets,
    ) -> Tensor:
        """Return the (B, G) rewards of thoughts (B, G, d), among them minus the perplexity of the true title."""
        if name != "perplexity":
            return super().reward(name, model, items, reading, thoughts, targets)
        readings = [model.reconsider(reading, thought) for thought in thoughts.unbind(1)]
        vectors = torch.stack([self.expect(items, other, targets).vectors for other in readings], dim=1)
        titles = self.titles_of(targets.item)
        return perplexity_reward(*self.writer.likelihood(self.writer.read(reading.batch), vectors, titles))

    def recommender(self, parts: RankingParts) -> TitleRecommender:
        """Return what writes titles with the present state; it shares the network."""
        writer = TorchWriter(parts.model, self.decoder, self.writer, parts.item_encoder, parts.tokenizer)
        return TitleRecommender(writer, parts.catalog, parts.vectors, parts.evidence, self.tree, parts.config)
