"""Advantages and the surrogates of latent GRPO, as pure functions.

Shapes: B users, G latent samples per user (the first is unperturbed), K factors, d width of the thought.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6


def batch_advantage(rewards: Tensor, kind: Tensor) -> Tensor:
    """Reward minus the mean of the unperturbed rewards of users of the same kind, over their root mean square.

    With one kind it is LatentR3's (section 4); with kinds by the target's popularity, its popularity-grouped form.

    Args:
        rewards: (B, G), column 0 unperturbed.
        kind: (B,) small numbers from 0.

    Returns:
        (B, G) of root mean square 1 within every kind, or zeros where all its rewards are equal.
    """
    same = F.one_hot(kind).to(rewards.dtype)  # (B, kinds)
    n_users = same.sum(0).clamp(min=1)
    centred = rewards - (same @ (same.T @ rewards[:, 0] / n_users))[:, None]
    spread = (same.T @ centred.square().mean(1) / n_users).sqrt()
    return centred / (same @ spread + EPSILON)[:, None]


def group_advantage(rewards: Tensor) -> Tensor:
    """Reward minus the mean of the user's own group, over its standard deviation (GRPO).

    Args:
        rewards: (B, G).

    Returns:
        (B, G), each row of mean 0; zeros in rows whose rewards are all equal.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True).sqrt() + EPSILON)


def gated_advantage(rewards: Tensor, gates: Tensor) -> Tensor:
    """Reward of each factor minus what the gates expect of the user, over the standard deviation under the gates.

    Args:
        rewards: (B, K) of each factor alone.
        gates: (B, K) the probability of each, rows sum to 1.

    Returns:
        (B, K), each row of mean 0 and variance 1 under the gates; zeros in rows whose rewards are all equal.
    """
    centred = rewards - (gates * rewards).sum(1, keepdim=True)
    return centred / ((gates * centred.square()).sum(1, keepdim=True).sqrt() + EPSILON)


def categorical_kl(log_gates: Tensor, reference: Tensor) -> Tensor:
    """Return the () KL divergence of gates from reference gates, both (B, K) logarithms, mean over users."""
    return (log_gates.exp() * (log_gates - reference)).sum(1).mean()


def latent_log_ratio(sample: Tensor, mean: Tensor, old_mean: Tensor, sigma: float) -> Tensor:
    """Log-ratio of two isotropic Gaussian policies at a latent sample, per dimension.

    Args:
        sample: (B, G, d) drawn around ``old_mean``.
        mean: (B, 1, d) of the new policy.
        old_mean: (B, 1, d) of the old one.
        sigma: their common standard deviation.

    Returns:
        (B, G) mean over the d dimensions (a sum would leave the clip range after the smallest step).
    """
    old, new = (sample - old_mean).square(), (sample - mean).square()
    return (old - new).mean(-1) / (2 * sigma**2)


def clipped_objective(log_ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return the () PPO surrogate to maximise: min(ratio A, clip(ratio, 1 - low, 1 + high) A), mean over samples."""
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratio * advantage, clipped * advantage).mean()


def gaussian_kl(mean: Tensor, reference: Tensor, sigma: float) -> Tensor:
    """Return the () KL divergence between isotropic Gaussians of equal deviation, mean over users and dimensions."""
    return ((mean - reference).square() / (2 * sigma**2)).mean()
