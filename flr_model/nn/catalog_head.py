"""The head that scores the items of a catalogue: each factor is a recommender, the prediction their mixture.

Shapes: B users, G thoughts a user, K factors, N candidates, M items, D width of item vectors, d width of the backbone.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from flr_model.nn.catalog_decoder import CatalogDecoder, NextItemHead
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.head import Head, RankingParts, Targets
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.reader import TorchReader
from flr_model.nn.rewards import logprob_reward, ndcg_reward
from flr_model.nn.sampled_softmax import SampledItems, sampling_offsets
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.recommender import Recommender


class FactorPrediction(NamedTuple):
    """What K factors say of B users' next items.

    logits: (B, K, N) of the candidates. log_gates: (B, K). target: (B,) the true items' columns.
    """

    logits: Tensor
    log_gates: Tensor
    target: Tensor

    def log_likelihoods(self) -> Tensor:
        """Return (B, K) the logarithm of each factor's probability of the target."""
        own = self.logits.gather(-1, self.target[:, None, None].expand(-1, self.logits.shape[1], 1)).squeeze(-1)
        return own - self.logits.logsumexp(-1)

    def log_probabilities(self) -> Tensor:
        """Return (B, N) the logarithm of the mixture."""
        return (self.logits.log_softmax(-1) + self.log_gates[..., None]).logsumexp(1)


class CatalogHead(Head):
    """Scores items by K factors, each with its own query and its own counts (docs/method.md, "Prediction").

    P(i) = sum_k g_k softmax_i(query_k . e_i + counts_k(i) + seen(i))

    Args:
        decoder: from a thought to K queries.
        evidence: weights of the pair counts, for K factors.
    """

    rewards: ClassVar[tuple[str, ...]] = ("logprob", "ndcg")
    policies: ClassVar[tuple[str, ...]] = ("thought", "gates")

    def __init__(self, decoder: CatalogDecoder, evidence: EvidenceHead) -> None:
        super().__init__()
        self.decoder = decoder
        self.evidence = evidence
        self.writer = None

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return join_groups(self.decoder.parameter_groups(), self.evidence.parameter_groups())

    def set_next_item_head(self, learned: NextItemHead, weight: float) -> None:
        """Add what the trunk learned on sequences to the scores of items."""
        self.decoder.set_next_item_head(learned, weight)

    def predict(self, items: ItemVectors, reading: Reading, targets: Targets) -> FactorPrediction:
        """Return what the factors say of all items, or of a sample of a large catalogue, as training does."""
        sample = self.softmax.sample(targets.item, len(items))
        log_gates = reading.thought.gate_logits.log_softmax(-1)
        if sample is None:
            return FactorPrediction(self.logits(items, reading, targets, None), log_gates, targets.item)
        logits = self.logits(items, reading, targets, sample)
        own = (sample.items == targets.item[:, None]).long().argmax(1)
        return FactorPrediction(logits + sampling_offsets(targets.item, sample)[:, None], log_gates, own)

    def logits(self, items: ItemVectors, reading: Reading, targets: Targets, sample: SampledItems | None) -> Tensor:
        """Return the (B, K, N) logits of a sample's items, or of all."""
        queries: Tensor = self.decoder(reading)
        n_users, n_factors, width = queries.shape
        vectors = items(None if sample is None else sample.items)
        logits = (queries.reshape(-1, width) @ vectors.T).view(n_users, n_factors, -1)
        counts: Tensor = self.evidence(targets.evidence, reading.thought.log_weights)  # (U, K)
        added = [(targets.evidence.seen, self.evidence.seen.expand(targets.evidence.seen.shape[1], n_factors))]
        if sample is None and len(counts) == n_users * len(items):  # all places
            logits = logits + counts.view(n_users, -1, n_factors).transpose(1, 2)
        else:
            added.append((targets.evidence.place, counts))
        factor = torch.arange(n_factors, device=logits.device)
        for (row, item), value in added:
            column, kept = _columns(item, sample, len(items))
            places = row[kept, None], factor, column[:, None]
            logits = logits.index_put(places, value[kept], accumulate=True)
        scored: Tensor = logits
        return scored

    @torch.no_grad()
    def log_probabilities(self, items: ItemVectors, reading: Reading, targets: Targets) -> Tensor:
        """Return the (B, M) logarithms of the mixture over the whole catalogue; seen items but the target have -inf."""
        logits = self.logits(items, reading, targets, None)
        scores = FactorPrediction(logits, reading.thought.gate_logits.log_softmax(-1), targets.item).log_probabilities()
        return _without_seen(scores[:, None], targets)[:, 0]

    def loss_terms(
        self, model: FactorizedModel, items: ItemVectors, reading: Reading, targets: Targets
    ) -> dict[str, Tensor]:
        """Return the negative log-likelihood of the next item under the mixture."""
        predicted = self.predict(items, reading, targets)
        return {"cross_entropy": -(predicted.log_gates + predicted.log_likelihoods()).logsumexp(-1).mean()}

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
        found = []
        for thought in thoughts.unbind(1):
            predicted = self.predict(items, model.reconsider(reading, thought), targets)
            found.append(_reward(name, predicted.log_probabilities()[:, None], predicted.target, targets))
        return torch.cat(found, dim=1)

    def factor_rewards(self, name: str, items: ItemVectors, reading: Reading, targets: Targets) -> Tensor:
        """Return the (B, K) rewards that each factor would have alone."""
        predicted = self.predict(items, reading, targets)
        return _reward(name, predicted.logits, predicted.target, targets)

    def recommender(self, parts: RankingParts) -> Recommender:
        """Return what ranks with the present state; it shares the network."""
        return self.factors_recommender(parts)

    def factors_recommender(self, parts: RankingParts) -> CatalogRecommender:
        """Return what ranks by the factors alone, with the present state; it shares the network."""
        reader = TorchReader(parts.model, self.decoder, parts.item_encoder, parts.tokenizer)
        max_history = parts.config.max_history
        return CatalogRecommender(reader, parts.catalog, parts.vectors, parts.evidence, max_history=max_history)


def _columns(item: Tensor, sample: SampledItems | None, n_items: int) -> tuple[Tensor, Tensor]:
    """Return the columns of those items (n,) that are candidates, and (n,) which these are."""
    if sample is None:
        return item, torch.ones_like(item, dtype=torch.bool)
    column = torch.full((n_items,), -1, device=item.device)
    column[sample.items] = torch.arange(len(sample.items), device=item.device)
    found = column[item]
    return found[found >= 0], found >= 0


def _reward(name: str, scores: Tensor, target: Tensor, targets: Targets) -> Tensor:
    """(B, G) rewards of (B, G, N) scores; in a ranking of the whole catalogue seen items do not compete."""
    if name == "logprob":
        return logprob_reward(scores, target)
    if target is targets.item:  # a sample of a large catalogue hardly meets what the users have seen
        scores = _without_seen(scores, targets)
    return ndcg_reward(scores, target)


def _without_seen(scores: Tensor, targets: Targets) -> Tensor:
    """(B, G, M) scores of all items, -inf for those that the users have seen, but for the targets."""
    row, item = targets.evidence.seen
    rival = targets.item[row] != item
    group = torch.arange(scores.shape[1], device=scores.device)
    return scores.index_put((row[rival, None], group, item[rival, None]), scores.new_tensor(-torch.inf))
