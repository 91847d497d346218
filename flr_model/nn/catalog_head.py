"""The head that scores the items of a catalogue: queries in item space, and evidence.

Shapes: B users, G thoughts a user, K factors, N candidates, M items, D width of item vectors, d width of the backbone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flr_model.nn.catalog_decoder import CatalogDecoder, NextItemHead
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.head import Head, RankingParts, Targets
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.reader import TorchReader
from flr_model.nn.reasoner import Thought
from flr_model.nn.rewards import logprob_reward, ndcg_reward
from flr_model.nn.sampled_softmax import item_cross_entropy, sampling_offsets
from flr_model.ranking.catalog import CatalogRecommender

REWARDS = {"logprob": logprob_reward, "ndcg": ndcg_reward}


class CandidateLogits(NamedTuple):
    """What no thought changes about the choice among items.

    items: (N,) positions of the candidates; None stands for the catalogue. target: (B,) the true items' columns.
    logits: (B, 1, N) the evidence; -inf for what is masked: all that the user has seen, but the target.
    """

    items: Tensor | None
    target: Tensor
    logits: Tensor


class CatalogHead(Head):
    """Scores items by the factors' queries and by the evidence (docs/method.md, "Prediction").

    Args:
        decoder: from a thought to K queries.
        evidence: weights of the pair counts.
    """

    rewards = tuple(REWARDS)
    scores_items = True

    def __init__(self, decoder: CatalogDecoder, evidence: EvidenceHead) -> None:
        super().__init__(evidence)
        self.decoder = decoder

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return join_groups(self.decoder.parameter_groups(), self.evidence.parameter_groups())

    def set_next_item_head(self, learned: NextItemHead, weight: float) -> None:
        """Add what the trunk learned on sequences to the scores of items."""
        self.decoder.set_next_item_head(learned, weight)

    def scores(self, items: ItemVectors, reading: Reading, targets: Targets, candidates: Tensor | None) -> Tensor:
        """Return the (B, N) scores of candidates (N,), or of all items."""
        users = self.decoder.queries(reading).sum(1)
        evidence: Tensor = self.evidence(targets.evidence, candidates)
        return users @ items(candidates).T + evidence  # type: ignore[no-any-return]

    def loss_terms(
        self, model: FactorizedModel, items: ItemVectors, reading: Reading, targets: Targets
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of the next item among the catalogue's, sampled for a large one."""
        sample = self.softmax.sample(targets.item, len(items))
        scores = self.scores(items, reading, targets, None if sample is None else sample.items)
        return {"cross_entropy": item_cross_entropy(scores, targets.item, sample)}

    def reward(
        self,
        name: str,
        model: FactorizedModel,
        items: ItemVectors,
        reading: Reading,
        thoughts: Tensor,
        targets: Targets,
    ) -> Tensor:
        """Return the (B, G) rewards of thoughts (B, G, d): of the target's probability or of its rank."""
        shared = self.candidate_logits(targets, len(items))
        logits = self.user_vectors(model, reading, thoughts) @ items(shared.items).T + shared.logits  # (B, G, N)
        return REWARDS[name](logits, shared.target)

    def user_vectors(self, model: FactorizedModel, reading: Reading, thoughts: Tensor) -> Tensor:
        """Return the (B, G, D) users' vectors of G thoughts (B, G, d) a user; all else of the reading is shared."""
        n_users, group = thoughts.shape[:2]

        def repeat(tensor: Tensor) -> Tensor:
            return tensor.repeat_interleave(group, dim=0)

        flat, factors, attention = thoughts.flatten(0, 1), repeat(reading.thought.factors), repeat(reading.attention)
        thought = Thought(flat, factors, model.reasoner.weigh(flat, factors), attention)
        queries = self.decoder(thought, attention, repeat(reading.vectors), repeat(reading.last))
        return queries.sum(1).view(n_users, group, -1)  # type: ignore[no-any-return]

    def candidate_logits(self, targets: Targets, n_items: int) -> CandidateLogits:
        """Return what no thought changes of the rows' choice among M items."""
        sample = self.softmax.sample(targets.item, n_items)
        if sample is not None:  # a sample of a large catalogue hardly meets what the users have seen
            evidence = self.evidence(targets.evidence, sample.items)
            column = (sample.items == targets.item[:, None]).long().argmax(1)
            logits = evidence + sampling_offsets(targets.item, sample)
            return CandidateLogits(sample.items, column, logits[:, None])
        evidence = self.evidence(targets.evidence)
        own = targets.item[:, None]
        kept = evidence.gather(1, own)
        evidence[tuple(targets.evidence.seen)] = -torch.inf
        return CandidateLogits(None, targets.item, evidence.scatter(1, own, kept)[:, None])

    def recommender(self, parts: RankingParts) -> CatalogRecommender:
        """Return what ranks the items with the present state; it shares the network."""
        reader = TorchReader(parts.model, self.decoder, parts.item_encoder, parts.tokenizer)
        max_history = parts.config.max_history
        return CatalogRecommender(reader, parts.catalog, parts.vectors, parts.evidence, max_history=max_history)
