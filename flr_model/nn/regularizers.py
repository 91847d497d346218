"""What keeps the factors apart (docs/method.md, "Losses").

Shapes: B batch, K factors, d width, L history positions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def orthogonality(factors: Tensor) -> Tensor:
    """Mean squared cosine over pairs of different factors; 0 when orthogonal, 1 when parallel.

    Args:
        factors: (B, K, d).

    Returns:
        () in [0, 1]; 0 with one factor.
    """
    return _off_diagonal_mean(_cosines(factors).square())


def attention_diversity(attention: Tensor) -> Tensor:
    """Mean cosine over pairs of different factors' attentions; 0 when they share no position, 1 when equal.

    Args:
        attention: (B, K, L), not negative.

    Returns:
        () in [0, 1]; 0 with one factor.
    """
    return _off_diagonal_mean(_cosines(attention))


def sparsity(gates: Tensor) -> Tensor:
    """Entropy of each user's gates, less twice the entropy of the batch's mean gates, in units of log K.

    The first term asks for few factors per user, the second for every factor to be somebody's, so none dies: weighed
    alike, all users on one factor would be as good as all factors shared evenly.

    Args:
        gates: (B, K), rows sum to 1.

    Returns:
        () in [-2, 1]; -2 where every user has one factor and all factors have users alike, -1 for even gates, 0 where
        all users share one factor, and with K = 1.
    """
    n_factors = gates.shape[1]
    if n_factors == 1:
        return gates.new_zeros(())
    return (_entropy(gates).mean() - 2 * _entropy(gates.mean(0))) / torch.log(gates.new_tensor(float(n_factors)))


def _entropy(distribution: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(distribution.clamp(min=1e-30)).sum(-1)  # the gradient at 0 is infinite
    return entropy


def _cosines(vectors: Tensor) -> Tensor:
    """(B, K, K) cosines between the rows of (B, K, n)."""
    unit = F.normalize(vectors, dim=-1)
    return unit @ unit.transpose(1, 2)


def _off_diagonal_mean(matrix: Tensor) -> Tensor:
    n_factors = matrix.shape[1]
    if n_factors == 1:
        return matrix.new_zeros(())
    off = matrix.sum((1, 2)) - matrix.diagonal(dim1=1, dim2=2).sum(-1)
    return off.mean() / (n_factors * (n_factors - 1))
