"""The head that writes a title: a likelihood under the language model, and a mixture of factors that guides the search.

Shapes: B users, G thoughts a user, k expected items, D width of item vectors, d width of the backbone.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flr_model.artifacts import RUN, reading
from flr_model.config import TrainConfig
from flr_model.data.catalog import Catalog
from flr_model.errors import ArtifactError
from flr_model.nn.catalog_head import CatalogHead
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.head import Head, RankingParts, Targets
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.rewards import perplexity_reward
from flr_model.nn.title_decoder import TitleBatch, TitleDecoder
from flr_model.nn.title_reader import TorchWriter
from flr_model.ranking.pair_events import PairEvents
from flr_model.titles.latent import EXPECTED, SHARPNESS
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.tokens import TitleTokenizer
from flr_model.titles.tree import TitleTree

TITLE_TREE = "title_tree.npz"
"""The file of a run that holds the prefix tree."""


class Expected(NamedTuple):
    """What the factors expect of B users: (B, k) items, (B, k) weights, rows sum to 1, and (B, D) mean vectors."""

    items: Tensor
    weights: Tensor
    vectors: Tensor


class TitleHead(Head):
    """Writes the next item's title, guided by the factors' prediction (docs/method.md, "Title decoder").

    Args:
        decoder: from what the guide expects to the likelihood of a title.
        guide: from a thought to a mixture over the items.
        end_token: of a title.
        whole_vocabulary: a title's tokens compete with all tokens, so that those without an alternative count too.
    """

    rewards = ("perplexity",)
    policies = ("thought",)
    scores_items = False

    tree: TitleTree
    """Of the catalogue's titles; set by `attach` or `read_files`."""

    def __init__(self, decoder: TitleDecoder, guide: CatalogHead, *, end_token: int, whole_vocabulary: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.guide = guide
        self.end_token = end_token
        self.whole_vocabulary = whole_vocabulary

    @property
    def evidence(self) -> EvidenceHead:  # type: ignore[override]
        """Weights of the guide's pair counts."""
        return self.guide.evidence

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return join_groups(self.decoder.parameter_groups(), self.guide.parameter_groups())

    def attach(self, catalog: Catalog, tokenizer: TitleTokenizer, events: PairEvents, train: TrainConfig) -> None:
        """Take what training needs (see `Head.attach`); the tree of an opened run stays, unless there are new items."""
        self.guide.attach(catalog, tokenizer, events, train)
        self.softmax = self.guide.softmax
        if not hasattr(self, "tree") or len(self.tree.items) != len(catalog):
            self.tree = TitleTree.build(tokenizer.encode(catalog.texts.tolist()), events.degree, self.end_token)

    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Prepare the decoder for a catalogue (see `Head.fit`)."""
        self.decoder.fit(vectors, embeddings)

    def read_files(self, run: Path, n_items: int) -> None:
        """Read the tree of a run (see `Head.read_files`)."""
        with reading(run / TITLE_TREE, RUN.again):
            self.tree = TitleTree.read(run / TITLE_TREE)
        if len(self.tree.items) != n_items:
            raise ArtifactError(f"{run} has {n_items} items, but title tree of {len(self.tree.items)}", hint=RUN.again)

    def write_files(self, run: Path) -> None:
        """Write the tree into a run."""
        self.tree.write(run / TITLE_TREE)

    def writers(self) -> list[nn.Parameter]:
        """Return what learns to write titles beside the backbone."""
        return list(self.decoder.parameters())

    def titles_of(self, items: Tensor) -> TitleBatch:
        """Return the titles of items (n,), on their device."""
        title = self.tree.title_of[items.cpu().numpy()]
        titles = TitleBatch.of(self.tree.choices(title, forced=self.whole_vocabulary))
        return TitleBatch(*(part.to(items.device) for part in titles))

    def title_loss(self, model: FactorizedModel, vectors: Tensor, titles: TitleBatch) -> Tensor:
        """Return the mean cross-entropy of titles, each written after a vector (n, D) and no history."""
        latent = self.decoder.latent_token(model, vectors)
        prompt, whole = model.encoder.empty_prompt(len(vectors)), self.whole_vocabulary
        likelihood, _ = self.decoder.likelihood(model, prompt, latent[:, None], titles, whole_vocabulary=whole)
        return -likelihood.mean()

    @torch.no_grad()
    def expect(self, items: ItemVectors, reading: Reading, targets: Targets) -> Expected:
        """Return what the factors expect, as `flr_model.titles.latent` does for ranking."""
        best = self.guide.log_probabilities(items, reading, targets).topk(min(EXPECTED, len(items)))
        weights = (SHARPNESS * best.values).softmax(-1)
        return Expected(best.indices, weights, torch.einsum("bk,bkd->bd", weights, items()[best.indices]))

    def loss_terms(
        self, model: FactorizedModel, items: ItemVectors, reading: Reading, targets: Targets
    ) -> dict[str, Tensor]:
        """Return the cross-entropies of the next item by the guide, and of a title that the guide expects.

        The language model learns from the guide: the title is that of an expected item, drawn by its weight. The next
        items themselves are too few to learn to write from (docs/lab.md). Only the title's tokens count, not the
        prompt's, and no gradient of them reaches the guide.
        """
        expected = self.expect(items, reading, targets)
        drawn = expected.items.gather(1, expected.weights.multinomial(1))[:, 0]
        latent = self.decoder.latent_token(model, expected.vectors)
        likelihood, _ = self._likelihood(model, reading, latent[:, None], self.titles_of(drawn))
        guide = self.guide.loss_terms(model, items, model.apart(reading), targets)
        return {"cross_entropy": -likelihood.mean(), "guide": guide["cross_entropy"]}

    def reward(
        self,
        name: str,
        model: FactorizedModel,
        items: ItemVectors,
        reading: Reading,
        thoughts: Tensor,
        targets: Targets,
    ) -> Tensor:
        """Return (B, G) minus the perplexity of the true title after thoughts (B, G, d)."""
        readings = [model.reconsider(reading, thought) for thought in thoughts.unbind(1)]
        vectors = torch.stack([self.expect(items, reading, targets).vectors for reading in readings], dim=1)
        latent = self.decoder.latent_token(model, vectors)
        return perplexity_reward(*self._likelihood(model, reading, latent, self.titles_of(targets.item)))

    def recommender(self, parts: RankingParts) -> TitleRecommender:
        """Return what writes titles with the present state; it shares the network."""
        writer = TorchWriter(parts.model, self.guide.decoder, self.decoder, parts.item_encoder, parts.tokenizer)
        return TitleRecommender(writer, parts.catalog, parts.vectors, parts.evidence, self.tree, parts.config)

    def _likelihood(
        self, model: FactorizedModel, reading: Reading, latent: Tensor, titles: TitleBatch
    ) -> tuple[Tensor, Tensor]:
        assert reading.past is not None, "a model with a prompt keeps keys and values"
        prompt, whole = (reading.past, reading.past_mask), self.whole_vocabulary
        return self.decoder.likelihood(model, prompt, latent, titles, whole_vocabulary=whole)
