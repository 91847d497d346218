"""The loss of supervised fine-tuning, as functions and as the module that a trainer runs.

Shapes: B batch, M items, N candidates, K factors, L history positions, d width of the backbone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from flr_model.config import TrainConfig
from flr_model.nn import regularizers
from flr_model.nn.model import Reading
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.nn.title_decoder import TitleBatch
from flr_model.training.learner import Learner


class Candidates(NamedTuple):
    """Items that a sampled softmax ranks.

    items: (N,) distinct positions. negative: (N,) whether sampled, not only somebody's target.
    correction: added to a negative's logit, the logarithm of how many items it stands for.
    """

    items: Tensor
    negative: Tensor
    correction: float


def sample_candidates(target: Tensor, n_items: int, n_negatives: int, generator: torch.Generator | None) -> Candidates:
    """Draw negatives uniformly without replacement and add the batch's targets.

    Args:
        target: (B,) positions.
        n_items: M.
        n_negatives: how many to draw; at most M.
        generator: of the draw; None takes torch's own.
    """
    n_negatives = min(n_negatives, n_items)
    if n_negatives * 4 < n_items:  # a permutation of a large catalogue costs more than throwing repeats away
        drawn = torch.randint(n_items, (2 * n_negatives,), generator=generator).unique()  # type: ignore[no-untyped-call]
        drawn = drawn[torch.randperm(len(drawn), generator=generator)[:n_negatives]].to(target.device)
    else:
        drawn = torch.randperm(n_items, generator=generator)[:n_negatives].to(target.device)
    items = torch.cat([drawn, target]).unique()  # type: ignore[no-untyped-call]
    negative = torch.isin(items, drawn)
    return Candidates(items, negative, float(torch.log(torch.tensor(n_items / len(drawn)))))


def sampling_offsets(target: Tensor, candidates: Candidates) -> Tensor:
    """Return (B, N) what sampling adds to the logits of candidates.

    A negative stands for M / n items, so the logarithm of that is added; the own target stands for itself; the targets
    of other rows count only where they were drawn.
    """
    others = torch.where(candidates.negative, candidates.correction, -torch.inf)
    return torch.where(candidates.items == target[:, None], 0.0, others)


def sampled_cross_entropy(scores: Tensor, target: Tensor, candidates: Candidates) -> Tensor:
    """Cross-entropy whose denominator is estimated from sampled negatives.

    With every item drawn it is the full cross-entropy.

    Args:
        scores: (B, N) of the candidates.
        target: (B,) positions in the catalogue.
        candidates: what the columns are.

    Returns:
        () mean over the batch.
    """
    own = (candidates.items == target[:, None]).long().argmax(1)
    return F.cross_entropy(scores + sampling_offsets(target, candidates), own)


def candidates_for(target: Tensor, n_items: int, config: TrainConfig) -> Candidates | None:
    """Return the items that a batch's softmax ranks; None stands for all of them, if the catalogue is small."""
    if n_items <= config.full_softmax_items:
        return None
    return sample_candidates(target, n_items, config.negatives, None)


def item_cross_entropy(scores: Tensor, target: Tensor, candidates: Candidates | None) -> Tensor:
    """Return the () mean cross-entropy of the targets (B,) under the scores of candidates (B, N), or of all items."""
    if candidates is None:
        return F.cross_entropy(scores, target)
    return sampled_cross_entropy(scores, target, candidates)


class Objective(Learner):
    """What supervised fine-tuning minimises: how the target fits, plus the regularisers (docs/method.md, "Losses").

    Args:
        recommender: what learns.
        config: weights of the terms.
    """

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """Return the loss and its detached parts of a batch of rows."""
        config, reading = self.settings, self.recommender.read(batch)
        fit = self.fit(reading, batch)
        parts = {
            **fit,
            "orthogonality": regularizers.orthogonality(reading.thought.factors),
            "diversity": regularizers.attention_diversity(reading.attention),
            "sparsity": regularizers.sparsity(reading.thought.gates),
        }
        loss = (
            torch.stack(list(fit.values())).sum()
            + config.orthogonality * parts["orthogonality"]
            + config.diversity * parts["diversity"]
            + config.sparsity * parts["sparsity"]
        )
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    @abstractmethod
    def fit(self, reading: Reading, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that say how likely the targets are, by name."""


class SftObjective(Objective):
    """Cross-entropy of the next item among the catalogue's."""

    def fit(self, reading: Reading, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, sampled for a large catalogue."""
        recommender, target = self.recommender, batch["target"]
        candidates = candidates_for(target, len(recommender.catalog), self.settings)
        chosen = None if candidates is None else candidates.items
        queries = recommender.model.queries(reading)
        scores = queries.sum(1) @ recommender.item_vectors(chosen).T + recommender.evidence_scores(batch, chosen)
        return {"cross_entropy": item_cross_entropy(scores, target, candidates)}


class TitleObjective(Objective):
    """Cross-entropy of the next item's title, and of the item by the evidence alone, which guides the search.

    The two share no parameter. Only the title's tokens count, not the prompt's.
    """

    def fit(self, reading: Reading, batch: Batch) -> dict[str, Tensor]:
        """Return both cross-entropies, each a mean over the rows."""
        recommender, target = self.recommender, batch["target"]
        thoughts = reading.thought.thought[:, None]
        likelihood, _ = recommender.model.title_likelihood(
            reading, thoughts, title_batch(batch), whole_vocabulary=recommender.whole_vocabulary
        )
        candidates = candidates_for(target, len(recommender.catalog), self.settings)
        scores = recommender.evidence_scores(batch, None if candidates is None else candidates.items)
        return {"cross_entropy": -likelihood.mean(), "evidence": item_cross_entropy(scores, target, candidates)}


def objective_for(recommender: TrainableRecommender, config: TrainConfig) -> Objective:
    """Return the objective of a recommender's decoder."""
    kind = SftObjective if recommender.tree is None else TitleObjective
    return kind(recommender, config)


def title_batch(batch: Batch) -> TitleBatch:
    """Return the titles of a batch of rows."""
    return TitleBatch(batch["title_tokens"], batch["title_choice"], batch["title_option"])
