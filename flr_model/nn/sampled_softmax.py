"""The softmax over the items of a catalogue, estimated from a sample of a large one.

Shapes: B batch, M items, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class SampledItems(NamedTuple):
    """Items that a sampled softmax ranks.

    items: (N,) distinct positions. negative: (N,) whether sampled, not only somebody's target.
    correction: added to a negative's logit, the logarithm of how many items it stands for.
    """

    items: Tensor
    negative: Tensor
    correction: float


def sample_items(target: Tensor, n_items: int, n_negatives: int, generator: torch.Generator | None) -> SampledItems:
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
    return SampledItems(items, negative, float(torch.log(torch.tensor(n_items / len(drawn)))))


def sampling_offsets(target: Tensor, candidates: SampledItems) -> Tensor:
    """Return (B, N) what sampling adds to the logits of candidates.

    A negative stands for M / n items, so the logarithm of that is added; the own target stands for itself; the targets
    of other rows count only where they were drawn.
    """
    others = torch.where(candidates.negative, candidates.correction, -torch.inf)
    return torch.where(candidates.items == target[:, None], 0.0, others)


def sampled_cross_entropy(scores: Tensor, target: Tensor, candidates: SampledItems) -> Tensor:
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


def item_cross_entropy(scores: Tensor, target: Tensor, candidates: SampledItems | None) -> Tensor:
    """Return the () mean cross-entropy of the targets (B,) under the scores of candidates (B, N), or of all items."""
    if candidates is None:
        return F.cross_entropy(scores, target)
    return sampled_cross_entropy(scores, target, candidates)


@dataclass(frozen=True)
class Softmax:
    """Among which items a target competes while training.

    Args:
        full_items: the largest catalogue whose items all compete.
        negatives: how many are sampled of a larger one.
    """

    full_items: int
    negatives: int

    def sample(self, target: Tensor, n_items: int) -> SampledItems | None:
        """Return the competitors of a batch's targets (B,); None stands for all M items."""
        return None if n_items <= self.full_items else sample_items(target, n_items, self.negatives, None)
