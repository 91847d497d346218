"""What alignment adapts while it runs: how far its samples lie from the thought, and how dear it is to leave SFT.

Both look at rows that the policy has not learned from, as the rows of a first pass are until their step.

Shapes: B users, G latent samples per user (the first is unperturbed).
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor


class Controller:
    """A positive number that is fixed, or multiplied by a little more or less than 1 at every step.

    Args:
        asked: the fixed number; None adapts it.
    """

    start: ClassVar[float]
    """The number before the first step, where it adapts."""

    bounds: ClassVar[tuple[float, float]]

    def __init__(self, asked: float | None) -> None:
        self.adapts = asked is None
        self.value = self.start if asked is None else asked

    def _multiply(self, exponent: float) -> None:
        low, high = self.bounds
        self.value = min(max(self.value * math.exp(exponent), low), high)


class Exploration(Controller):
    """The standard deviation of the samples, by the one-fifth success rule of evolution strategies (Rechenberg, 1973).

    Where more than a fifth of the samples are better than the thought itself, they may lie further from it.
    """

    start, bounds = 0.5, (0.05, 5.0)
    SUCCESS = 1 / 5

    def learn(self, rewards: Tensor) -> None:
        """Look at the (B, G) rewards of a batch."""
        if self.adapts:
            better = (rewards[:, 1:] > rewards[:, :1]).float().mean().item()
            self._multiply(better - self.SUCCESS)


class Fidelity(Controller):
    """The weight of the KL divergence from the SFT policy: it falls while rows not learned from gain, else it rises."""

    start, bounds = 0.1, (0.001, 100.0)
    MOST = 2.0
    RATE = 0.5

    def learn(self, gain: Tensor) -> None:
        """Look at the (B,) rewards of the present policy minus those of the SFT policy.

        The step is the t-statistic of the mean gain, at most ``MOST``, times ``RATE``.
        """
        if self.adapts and len(gain) > 1:
            error = gain.std().item() / math.sqrt(len(gain))
            t = gain.mean().item() / error if error > 0 else 0.0
            self._multiply(-self.RATE * min(max(t, -self.MOST), self.MOST))
